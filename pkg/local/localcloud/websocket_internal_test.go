package localcloud

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/engine/wsgateway"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

// API Gateway's limits are too wide for a test from outside.

const socketPatience = 30 * time.Second

// socketTest is a gateway with functions that note their events.
type socketTest struct {
	t       *testing.T
	gateway *socketGateway
	server  *httptest.Server

	mu     sync.Mutex
	events []socketRequest
	// answer is what the functions do besides.
	answer func(socketRequest) (events.APIGatewayProxyResponse, error)
}

func newSocketTest(t *testing.T, change func(*socketLimits), routes ...string) *socketTest {
	t.Helper()
	limits := defaultSocketLimits()
	if change != nil {
		change(&limits)
	}
	log := slog.New(slog.DiscardHandler)
	s := &socketTest{t: t, gateway: newSocketGateway(limits, log)}
	srv := &socketServer{
		gateway: s.gateway, functions: map[string]socketFunction{},
		gate: &httpapi.Gate{Log: log, Now: time.Now, NewRequestID: uuid.NewString},
	}
	for _, key := range routes {
		srv.functions[key] = func(_ context.Context, e socketRequest) (events.APIGatewayProxyResponse, error) {
			return s.take(key, e)
		}
	}
	s.server = httptest.NewServer(srv)
	t.Cleanup(func() {
		s.gateway.stop()
		s.server.Close()
	})
	return s
}

var allRoutes = []string{manifest.SocketConnect, manifest.SocketDisconnect, manifest.SocketDefault, "subscribe"}

func (s *socketTest) take(key string, e socketRequest) (events.APIGatewayProxyResponse, error) {
	if e.RequestContext.RouteKey != key {
		s.t.Errorf("the function of %s got an event of %s", key, e.RequestContext.RouteKey)
	}
	s.mu.Lock()
	s.events = append(s.events, e)
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		return answer(e)
	}
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}

func (s *socketTest) answers(answer func(socketRequest) (events.APIGatewayProxyResponse, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// seen returns the events of a type.
func (s *socketTest) seen(kind string) []socketRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []socketRequest
	for _, e := range s.events {
		if e.RequestContext.EventType == kind {
			found = append(found, e)
		}
	}
	return found
}

// await waits for the n-th event of a type.
func (s *socketTest) await(kind string, n int) socketRequest {
	s.t.Helper()
	for patience := time.Now().Add(socketPatience); ; time.Sleep(time.Millisecond) {
		if seen := s.seen(kind); len(seen) >= n {
			return seen[n-1]
		}
		if time.Now().After(patience) {
			s.t.Fatalf("no %s event came", kind)
		}
	}
}

func (s *socketTest) url() string { return "ws" + strings.TrimPrefix(s.server.URL, "http") }

// socketClient is a client of the gateway.
type socketClient struct {
	t    *testing.T
	conn *websocket.Conn
	id   string
}

func (s *socketTest) connect() *socketClient {
	s.t.Helper()
	mark := uuid.NewString()
	conn, _, err := websocket.Dial(s.t.Context(), s.url()+"?mark="+mark, nil) //nolint:bodyclose // Dial closes it
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	s.t.Cleanup(func() { _ = conn.CloseNow() }) // it may be closed already
	for _, e := range s.seen(lambdaedge.SocketEventConnect) {
		if e.QueryStringParameters["mark"] == mark {
			return &socketClient{t: s.t, conn: conn, id: e.RequestContext.ConnectionID}
		}
	}
	s.t.Fatal("the client is connected without a $connect event")
	return nil
}

func (c *socketClient) ID() string { return c.id }

func (c *socketClient) Read(ctx context.Context) ([]byte, error) {
	_, text, err := c.conn.Read(ctx)
	return text, err
}

func (c *socketClient) Leave() error { return c.conn.Close(websocket.StatusNormalClosure, "") }

func (c *socketClient) write(text string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// writeInFrames sends the parts as the frames of one message.
func (c *socketClient) writeInFrames(parts ...string) {
	c.t.Helper()
	w, err := c.conn.Writer(c.t.Context(), websocket.MessageText)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, part := range parts {
		if _, err := io.WriteString(w, part); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *socketClient) wantText(want string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), socketPatience)
	defer cancel()
	if got, err := c.Read(ctx); err != nil {
		c.t.Fatal(err)
	} else if string(got) != want {
		c.t.Fatalf("got %.100q, want %.100q", got, want)
	}
}

// wantClosed fails the test unless the connection is closed with the status.
func (c *socketClient) wantClosed(want websocket.StatusCode) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), socketPatience)
	defer cancel()
	text, err := c.Read(ctx)
	if got := websocket.CloseStatus(err); got != want {
		c.t.Fatalf("got %.100q, %v, want the status %v", text, err, want)
	}
}

func TestConformanceOfTheLocalGateway(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	api, err := serveManagementAPI(s.gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.close)
	remote := remoteSender(t, api.url)
	for name, sender := range map[string]stream.Sender{"in process": s.gateway, "by the connections API": remote} {
		t.Run(name, func(t *testing.T) {
			conformance.Sender(t, func(*testing.T) conformance.SenderUnderTest {
				return conformance.SenderUnderTest{Sender: sender, Connect: func(t *testing.T) conformance.SenderClient {
					t.Helper()
					return s.connect()
				}}
			})
		})
	}
	c := s.connect()
	if err := remote.Send(t.Context(), c.id+"/", []byte("for nobody")); !errors.Is(err, stream.ErrGone) {
		t.Errorf("an id with a slash: %v", err)
	}
}

func remoteSender(t *testing.T, url string) *wsgateway.Gateway {
	t.Helper()
	sender, err := wsgateway.New(url, aws.Config{Region: "local", Credentials: credentials.NewStaticCredentialsProvider("local", "local", "")})
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

func TestSocketEventsAreGenuine(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	began := time.Now().Truncate(time.Millisecond)
	conn, _, err := websocket.Dial(t.Context(), s.url()+"/any?ticket=a%26b&ticket=c+d", &websocket.DialOptions{ //nolint:bodyclose // Dial closes it
		HTTPHeader: http.Header{"Authorization": {"Bearer e30"}, "X-Tenant-Id": {"acme"}, "User-Agent": {"tail/1.0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &socketClient{t: t, conn: conn}
	bodies := []string{
		`{"action":"subscribe","filter":{"q":"größe"}}`, `{"action":"unknown"}`, `no JSON`, `["subscribe"]`, `{"action":5}`, `{}`, `null`, ``,
		`{"Action":"subscribe"}`, `{"action":"$disconnect"}`, `{"action":"$connect"}`, `{"action":"subscribe "}`,
	}
	for _, body := range bodies {
		c.write(body)
	}
	s.await(lambdaedge.SocketEventMessage, len(bodies))
	if err := conn.Close(4001, "enough"); err != nil {
		t.Error(err)
	}
	s.await(lambdaedge.SocketEventDisconnect, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := map[string]bool{}
	for i, e := range s.events {
		r := e.RequestContext
		key, kind, body := manifest.SocketDefault, lambdaedge.SocketEventMessage, ""
		switch i {
		case 0:
			key, kind = manifest.SocketConnect, lambdaedge.SocketEventConnect
		case 1:
			key = "subscribe"
		case len(s.events) - 1:
			key, kind = manifest.SocketDisconnect, lambdaedge.SocketEventDisconnect
		}
		if kind == lambdaedge.SocketEventMessage {
			body = bodies[i-1]
		}
		if r.RouteKey != key {
			t.Errorf("event %d: got route key %q, want %q", i, r.RouteKey, key)
		}
		if r.EventType != kind {
			t.Errorf("event %d: got event type %q, want %q", i, r.EventType, kind)
		}
		if e.Body != body {
			t.Errorf("event %d: got body %q, want %q", i, e.Body, body)
		}
		if e.IsBase64Encoded {
			t.Errorf("event %d: base64 encoded is true, want false", i)
		}
		at, err := time.Parse("02/Jan/2006:15:04:05 -0700", r.RequestTime)
		if err != nil {
			t.Fatal(err)
		}
		if at.Unix() != r.RequestTimeEpoch/1000 {
			t.Errorf("event %d: got request time %d, want %d", i, at.Unix(), r.RequestTimeEpoch/1000)
		}
		if r.RequestTimeEpoch < r.ConnectedAt {
			t.Errorf("event %d: got request time epoch %d, want at least %d", i, r.RequestTimeEpoch, r.ConnectedAt)
		}
		if r.ConnectedAt < began.UnixMilli() {
			t.Errorf("event %d: got connected at %d, want at least %d", i, r.ConnectedAt, began.UnixMilli())
		}
		if r.MessageDirection != "IN" {
			t.Errorf("event %d: got message direction %q, want %q", i, r.MessageDirection, "IN")
		}
		if r.Stage == "" {
			t.Errorf("event %d: got an empty stage, want a value", i)
		}
		if r.APIID == "" {
			t.Errorf("event %d: got an empty API ID, want a value", i)
		}
		if r.DomainName != strings.TrimPrefix(s.server.URL, "http://") {
			t.Errorf("event %d: got domain name %q, want %q", i, r.DomainName, strings.TrimPrefix(s.server.URL, "http://"))
		}
		if r.Identity.SourceIP != "127.0.0.1" {
			t.Errorf("event %d: got source IP %q, want %q", i, r.Identity.SourceIP, "127.0.0.1")
		}
		if r.Identity.UserAgent != "tail/1.0" {
			t.Errorf("event %d: got user agent %q, want %q", i, r.Identity.UserAgent, "tail/1.0")
		}
		if r.ConnectionID != s.events[0].RequestContext.ConnectionID {
			t.Errorf("event %d: got connection ID %q, want %q", i, r.ConnectionID, s.events[0].RequestContext.ConnectionID)
		}
		if !regexp.MustCompile(`^[\w-]{15}=$`).MatchString(r.ConnectionID) {
			t.Errorf("event %d: got connection ID %q, want 15 characters of base64 and =", i, r.ConnectionID)
		}
		if r.ExtendedRequestID == "" {
			t.Errorf("event %d: got an empty extended request ID, want a value", i)
		}
		if ids[r.RequestID] {
			t.Errorf("event %d: got request ID %q twice, want one for each event", i, r.RequestID)
		}
		if (r.MessageID != nil) != (kind == "MESSAGE") {
			t.Errorf("event %d: got message ID %v, want one only for a message", i, r.MessageID)
		}
		ids[r.RequestID] = true
	}
	connect, end := s.events[0], s.events[len(s.events)-1]
	if !slices.Equal(connect.MultiValueQueryStringParameters["ticket"], []string{"a&b", "c d"}) {
		t.Errorf("$connect: got ticket %q, want %q", connect.MultiValueQueryStringParameters["ticket"], []string{"a&b", "c d"})
	}
	if connect.Headers["X-Tenant-Id"] != "acme" {
		t.Errorf("$connect: got X-Tenant-Id %q, want %q", connect.Headers["X-Tenant-Id"], "acme")
	}
	if connect.Headers["Authorization"] != "Bearer e30" {
		t.Errorf("$connect: got Authorization %q, want %q", connect.Headers["Authorization"], "Bearer e30")
	}
	if connect.Headers["Host"] == "" {
		t.Error("$connect: got an empty Host, want a value")
	}
	if connect.Headers["Upgrade"] != "" {
		t.Errorf("$connect: got Upgrade %q, want none", connect.Headers["Upgrade"])
	}
	if connect.MultiValueHeaders["Connection"] != nil {
		t.Errorf("$connect: got Connection %q, want none", connect.MultiValueHeaders["Connection"])
	}
	if end.RequestContext.DisconnectStatusCode != 4001 {
		t.Errorf("$disconnect: got disconnect status code %d, want 4001", end.RequestContext.DisconnectStatusCode)
	}
	if *end.RequestContext.DisconnectReason != "enough" {
		t.Errorf("$disconnect: got disconnect reason %q, want %q", *end.RequestContext.DisconnectReason, "enough")
	}
	if end.Headers["Authorization"] != "" {
		t.Errorf("$disconnect: got Authorization %q, want none", end.Headers["Authorization"])
	}
}

func TestSocketRefusals(t *testing.T) {
	refused := func(e socketRequest) (events.APIGatewayProxyResponse, error) {
		return events.APIGatewayProxyResponse{StatusCode: 403, Headers: map[string]string{"Content-Type": "application/problem+json"}, Body: `{"status":403}`}, nil
	}
	for _, c := range []struct {
		name   string
		routes []string
		answer func(socketRequest) (events.APIGatewayProxyResponse, error)
		header http.Header // besides those of a sound handshake
		query  string
		status int
		body   string
	}{
		{"by the function", allRoutes, refused, nil, "", 403, `{"status":403}`},
		{"the function fails", allRoutes, func(socketRequest) (events.APIGatewayProxyResponse, error) {
			return events.APIGatewayProxyResponse{}, errors.New("secret")
		}, nil, "", 500, "urn:ocelot:problem:internal"},
		{"no answer's form", allRoutes, func(socketRequest) (events.APIGatewayProxyResponse, error) {
			return events.APIGatewayProxyResponse{}, nil
		}, nil, "", 500, "urn:ocelot:problem:internal"},
		{"no functions", nil, nil, nil, "", 404, "urn:ocelot:problem:not_found"},
		{"odd version", allRoutes, nil, http.Header{"Sec-Websocket-Version": {"8"}}, "", 400, "urn:ocelot:problem:malformed_request"},
		{"odd key", allRoutes, nil, http.Header{"Sec-Websocket-Key": {"x"}}, "", 400, "urn:ocelot:problem:malformed_request"},
		{"odd query", allRoutes, nil, nil, "?a=%zz", 400, "urn:ocelot:problem:malformed_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSocketTest(t, nil, c.routes...)
			s.answers(c.answer)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/"+c.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = http.Header{
				"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {base64.StdEncoding.EncodeToString(make([]byte, 16))},
			}
			for name, values := range c.header {
				request.Header[name] = values
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status {
				t.Errorf("got status code %d, want %d", response.StatusCode, c.status)
			}
			if !strings.Contains(string(body), c.body) {
				t.Errorf("got body %q, want it to contain %q", string(body), c.body)
			}
			if strings.Contains(string(body), "secret") {
				t.Errorf("got body %q, want it without %q", string(body), "secret")
			}
			if response.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("got Content-Type %q, want %q", response.Header.Get("Content-Type"), "application/problem+json")
			}
			s.gateway.stop()
			if n := len(s.seen(lambdaedge.SocketEventDisconnect)); n > 0 {
				t.Errorf("got %d $disconnect events, want none", n)
			} else if len(s.gateway.open) > 0 {
				t.Errorf("got %d open connections, want none", len(s.gateway.open))
			}
		})
	}
}

func TestSocketHandlesMessagesInOrder(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	release := make(chan struct{})
	var mu sync.Mutex
	running := 0
	s.answers(func(e socketRequest) (events.APIGatewayProxyResponse, error) {
		mu.Lock()
		running++
		if running > 1 {
			t.Error("two messages of one connection are handled at once")
		}
		mu.Unlock()
		if e.Body == "first" {
			<-release
		}
		mu.Lock()
		running--
		mu.Unlock()
		return events.APIGatewayProxyResponse{StatusCode: 200}, nil
	})
	c := s.connect()
	for _, text := range []string{"first", "second", "third"} {
		c.write(text)
	}
	s.await(lambdaedge.SocketEventMessage, 1)
	reading := c.conn.CloseRead(t.Context()) // has pongs taken
	ping, cancel := context.WithTimeout(reading, socketPatience)
	defer cancel()
	if err := c.conn.Ping(ping); err != nil {
		t.Errorf("a ping while a message is handled: %v", err)
	}
	if n := len(s.seen(lambdaedge.SocketEventMessage)); n != 1 {
		t.Errorf("%d messages are handled before the first is", n)
	}
	close(release)
	for i, want := range []string{"first", "second", "third"} {
		if got := s.await(lambdaedge.SocketEventMessage, i+1).Body; got != want {
			t.Errorf("message %d is %q, want %q", i, got, want)
		}
	}
}

func TestSocketHandlesWhatCameBeforeTheEnd(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	c := s.connect()
	for range 5 {
		c.write("text")
	}
	if err := c.Leave(); err != nil {
		t.Error(err)
	}
	s.await(lambdaedge.SocketEventDisconnect, 1)
	if n := len(s.seen(lambdaedge.SocketEventMessage)); n != 5 {
		t.Errorf("%d messages, want 5", n)
	}
}

func TestSocketTellsFailures(t *testing.T) {
	s := newSocketTest(t, nil, manifest.SocketConnect, "subscribe")
	c := s.connect()
	for _, test := range []struct {
		text, want string
		response   events.APIGatewayProxyResponse
		err        error
	}{
		{`{"action":"subscribe"}`, "Internal server error", events.APIGatewayProxyResponse{}, errors.New("secret")},
		{`{"action":"subscribe"}`, "Internal server error", events.APIGatewayProxyResponse{}, nil},
		{`{"action":"other"}`, "Forbidden", events.APIGatewayProxyResponse{}, nil}, // without a $default
	} {
		s.answers(func(socketRequest) (events.APIGatewayProxyResponse, error) { return test.response, test.err })
		c.write(test.text)
		text, err := c.Read(t.Context())
		var told struct{ Message, ConnectionID, RequestID string }
		if err = errors.Join(err, json.Unmarshal(text, &told)); err != nil {
			t.Error(err)
		} else if told.Message != test.want {
			t.Errorf("got message %q, want %q", told.Message, test.want)
		} else if told.ConnectionID != c.id {
			t.Errorf("got connection ID %q, want %q", told.ConnectionID, c.id)
		} else if told.RequestID == "" {
			t.Error("got an empty request ID, want a value")
		}
	}
	// What a function answers by itself does not reach the client.
	s.answers(func(socketRequest) (events.APIGatewayProxyResponse, error) {
		return events.APIGatewayProxyResponse{StatusCode: 500, Body: "secret"}, nil
	})
	c.write(`{"action":"subscribe"}`)
	c.write(`{"action":"other"}`)
	if text, err := c.Read(t.Context()); err != nil {
		t.Error(err)
	} else if !strings.Contains(string(text), "Forbidden") {
		t.Errorf("got %s", text)
	}
}

func TestSocketCloses(t *testing.T) {
	large := strings.Repeat("x", stream.MaxFrameBytes)
	most := []string{large, large, large, large} // of one message
	for _, c := range []struct {
		name   string
		limits func(*socketLimits)
		act    func(*socketTest, *socketClient)
		want   websocket.StatusCode
	}{
		{"too large", nil, func(s *socketTest, c *socketClient) {
			c.writeInFrames(most...)
			if got := s.await(lambdaedge.SocketEventMessage, 1).Body; got != strings.Join(most, "") {
				c.t.Errorf("a message of %d bytes arrived", len(got))
			}
			c.writeInFrames(append(most, "x")...)
		}, 1009},
		{"a frame that is too large", nil, func(s *socketTest, c *socketClient) {
			c.write(large)
			c.write(large + "x")
			if got := s.await(lambdaedge.SocketEventMessage, 1).Body; got != large {
				c.t.Errorf("a message of %d bytes arrived", len(got))
			}
		}, 1009},
		{"a second frame that is too large", nil, func(_ *socketTest, c *socketClient) { c.writeInFrames("x", large+"x", "x") }, 1009},
		{"binary", nil, func(_ *socketTest, c *socketClient) {
			if err := c.conn.Write(c.t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
				c.t.Error(err)
			}
		}, 1003},
		{"no UTF-8", nil, func(_ *socketTest, c *socketClient) { c.write("\xff") }, 1007},
		{"idle", func(l *socketLimits) { l.idle = idleForTests }, func(s *socketTest, c *socketClient) {
			send := func() {
				if err := s.gateway.Send(c.t.Context(), c.id, []byte("text")); err != nil {
					c.t.Error(err)
				}
				c.wantText("text")
			}
			for _, lives := range []func(){func() { c.write("text") }, send, send} { // what is said and what is sent counts
				time.Sleep(idleForTests * 3 / 5)
				lives()
			}
		}, 1001},
		{"old", func(l *socketLimits) { l.life = 300 * time.Millisecond }, func(s *socketTest, c *socketClient) {
			for s.gateway.Send(c.t.Context(), c.id, []byte("text")) == nil {
				c.wantText("text")
			}
		}, 1001},
		{"cut", nil, func(s *socketTest, c *socketClient) {
			for range 50 {
				if err := s.gateway.Send(c.t.Context(), c.id, []byte(large)); err != nil {
					c.t.Error(err)
				}
			}
			if err := s.gateway.Cut(c.t.Context(), c.id); err != nil {
				c.t.Error(err)
			}
			for range 50 { // what was taken before comes
				c.wantText(large)
			}
		}, 1000},
		{"the service stops", nil, func(s *socketTest, _ *socketClient) { go s.gateway.close(context.Background()) }, 1001},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they wait most of their time
			s := newSocketTest(t, c.limits, allRoutes...)
			client := s.connect()
			c.act(s, client)
			client.wantClosed(c.want)
			end := s.await(lambdaedge.SocketEventDisconnect, 1).RequestContext
			if end.DisconnectStatusCode != int64(c.want) {
				t.Errorf("the end: got disconnect status code %d, want %d", end.DisconnectStatusCode, int64(c.want))
			}
			if end.ConnectionID != client.id {
				t.Errorf("the end: got connection ID %q, want %q", end.ConnectionID, client.id)
			}
			if err := s.gateway.Send(t.Context(), client.id, []byte("late")); !errors.Is(err, stream.ErrGone) {
				t.Errorf("afterwards: %v", err)
			}
			for _, e := range s.seen(lambdaedge.SocketEventMessage) {
				if e.Body != "text" && len(e.Body)%stream.MaxFrameBytes != 0 {
					t.Errorf("a message of %d bytes was handed on", len(e.Body))
				}
			}
		})
	}
}

// idleForTests is so long that a test which says something in time does so on a
// machine that pauses for a second, too.
const idleForTests = 3 * time.Second

// The gateway is as strict as API Gateway; what the client says passes it.
func TestLongSubscriptionsPassTheGateway(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	s.answers(func(e socketRequest) (response events.APIGatewayProxyResponse, err error) {
		if e.RequestContext.RouteKey == "subscribe" {
			err = s.gateway.Send(t.Context(), e.RequestContext.ConnectionID, []byte(`{"type":"subscribed","cursor":"c"}`))
		}
		response.StatusCode = 200
		return response, err
	})
	c, err := client.New(client.Config{URL: s.server.URL, Token: "e30", Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	for i, size := range []int{1, stream.MaxFrameBytes / 2, stream.MaxFrameBytes, stream.MaxMessageSize - 100} {
		value := strings.Repeat("ü", size/2)
		enough := errors.New("enough")
		err := c.Stream(t.Context(), client.Subscription{Filter: url.Values{"q": {value}}}, func(e client.Event) error {
			if e.Err != nil {
				t.Errorf("%d bytes: %v", size, e.Err)
			}
			return enough
		})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
		if want := `{"action":"subscribe","filter":{"q":["` + value + `"]}}`; s.await(lambdaedge.SocketEventMessage, i+1).Body != want {
			t.Errorf("%d bytes arrived as something else", size)
		}
	}
}

func TestFramesAreMeasured(t *testing.T) {
	frame := func(first byte, size int) []byte {
		header := []byte{first, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 0}
		switch {
		case size <= 125:
			header = []byte{first, 0x80 | byte(size)}
		case size <= math.MaxUint16:
			header = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(size))
		default:
			binary.BigEndian.PutUint64(header[2:], uint64(size))
		}
		return append(header, bytes.Repeat([]byte{0xff}, 4+size)...) // the key, and what looks like headers
	}
	const final, more, text, bin, ping = 0x80, 0, 1, 2, 9
	for _, tt := range []struct {
		name   string
		frames [][]byte
		want   int64
	}{
		{"none", nil, 0},
		{"most", [][]byte{frame(final|text, stream.MaxFrameBytes), frame(final|text, 0), frame(final|bin, 125)}, 0},
		{"the first", [][]byte{frame(final|text, stream.MaxFrameBytes+1), frame(final|text, 1)}, 1},
		{"the third", [][]byte{frame(final|text, 126), frame(final|text, 0), frame(final|bin, 1<<16)}, 3},
		{"a part of the second", [][]byte{
			frame(final|text, 125), frame(text, 7), frame(final|ping, 125), frame(more, stream.MaxFrameBytes), frame(more, stream.MaxFrameBytes+1), frame(final|more, 0),
			frame(final|text, 1<<17),
		}, 2},
	} {
		all := bytes.Join(tt.frames, nil)
		for _, size := range []int{1, 3, 4096, len(all) + 1} {
			var m frameMeter
			for part := range slices.Chunk(all, size) {
				m.measure(part)
			}
			if got := m.tooLong.Load(); got != tt.want {
				t.Errorf("%s, read %d bytes at a time: message %d, want %d", tt.name, size, got, tt.want)
			}
		}
	}
}

func TestSocketPingsKeepAConnection(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newSocketTest(t, func(l *socketLimits) { l.idle = idleForTests }, allRoutes...)
	c := s.connect()
	reading := c.conn.CloseRead(t.Context())
	for range 3 {
		time.Sleep(idleForTests * 3 / 5)
		if err := c.conn.Ping(reading); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSocketOfALostClient(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	c := s.connect()
	if err := c.conn.CloseNow(); err != nil {
		t.Error(err)
	}
	if end := s.await(lambdaedge.SocketEventDisconnect, 1).RequestContext; end.DisconnectStatusCode != 1006 {
		t.Errorf("the end is told as %+v", end)
	}
}

// fill sends to a client that takes nothing until the gateway takes no more.
// That is not told by the clock, which goes on while everything else stands still.
func (s *socketTest) fill(c *socketClient) {
	s.t.Helper()
	frame := bytes.Repeat([]byte("x"), stream.MaxFrameBytes)
	// busy counts the refusals in a row, after each of which the writer has time.
	busy := 0
	for range 100_000 { // the network takes some MB
		err := s.gateway.Send(s.t.Context(), c.id, frame)
		switch {
		case err == nil:
			busy = 0
		case !errors.Is(err, stream.ErrBusy):
			s.t.Fatal(err)
		case busy == 50:
			return
		default:
			busy++
			time.Sleep(time.Millisecond)
		}
	}
	s.t.Fatal("the gateway takes without end")
}

func TestSlowSocketDelaysNobodyAndIsCut(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newSocketTest(t, func(l *socketLimits) { l.write, l.frames = 6*time.Second, 8 }, allRoutes...)
	api, err := serveManagementAPI(s.gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.close)
	slow, other := s.connect(), s.connect()
	s.fill(slow)
	began := time.Now()
	for range 100 {
		if err := s.gateway.Send(t.Context(), other.id, []byte("text")); err != nil {
			t.Fatal(err)
		}
		other.wantText("text")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the other client waited %v", took)
	}
	response := http.StatusOK
	for range 1000 { // the network may have taken a little more since
		if response = signedCall(t, http.MethodPost, api.url+"/@connections/"+slow.id, "text"); response != http.StatusOK {
			break
		}
	}
	if response != http.StatusTooManyRequests {
		t.Errorf("the connections API answered with %d, want 429", response)
	}
	if end := s.await(lambdaedge.SocketEventDisconnect, 1).RequestContext; end.ConnectionID != slow.id {
		t.Errorf("the end: got connection ID %q, want %q", end.ConnectionID, slow.id)
	} else if end.DisconnectStatusCode != 1006 {
		t.Errorf("the end: got disconnect status code %d, want 1006", end.DisconnectStatusCode)
	}
	if err := s.gateway.Send(t.Context(), slow.id, []byte("late")); !errors.Is(err, stream.ErrGone) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestSocketBytesAreBounded(t *testing.T) {
	s := newSocketTest(t, func(l *socketLimits) { l.bytes, l.frames = 128<<10, 1_000_000 }, allRoutes...)
	c := s.connect()
	open, _ := s.gateway.socket(c.id)
	s.fill(c)
	for until := time.Now().Add(socketPatience); ; {
		err := s.gateway.Send(t.Context(), c.id, make([]byte, stream.MaxFrameBytes))
		open.mu.Lock()
		size, n := open.size, len(open.frames)
		open.mu.Unlock()
		switch {
		case size != n*stream.MaxFrameBytes || size > 128<<10 || err != nil && !errors.Is(err, stream.ErrBusy):
			t.Fatalf("%d bytes in %d frames wait, %v", size, n, err)
		case err != nil && n == 4: // as many as there is room for
			return
		case time.Now().After(until):
			t.Fatalf("%d frames wait, want 4", n)
		}
	}
}

func TestSocketGatewayClosesOnceFunctionsHaveBeenTold(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	s.answers(func(e socketRequest) (events.APIGatewayProxyResponse, error) {
		if e.RequestContext.EventType == lambdaedge.SocketEventDisconnect {
			time.Sleep(100 * time.Millisecond)
		}
		return events.APIGatewayProxyResponse{StatusCode: 200}, nil
	})
	for range 5 {
		go func(c *socketClient) { _, _ = c.Read(context.Background()) }(s.connect()) // it answers what closes it
	}
	ctx, cancel := context.WithTimeout(t.Context(), socketPatience)
	defer cancel()
	s.gateway.close(ctx)
	if n := len(s.seen(lambdaedge.SocketEventDisconnect)); n != 5 {
		t.Errorf("closed after %d $disconnect events, want 5", n)
	} else if ctx.Err() != nil {
		t.Errorf("got context error %v, want none", ctx.Err())
	}
	_, response, err := websocket.Dial(t.Context(), s.url(), nil) //nolint:bodyclose // Dial closes it
	if err == nil {
		t.Error("a handshake afterwards: got no error, want one")
	} else if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a handshake afterwards: got status code %d, want %d", response.StatusCode, http.StatusServiceUnavailable)
	}
}

// TestSocketGatewayWaitsForNoClient: a hostile client cannot hold up the end.
func TestSocketGatewayWaitsForNoClient(t *testing.T) {
	const large = "\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00mask" // the head of a text of 1 GiB
	for name, hold := range map[string]func(*socketTest, string, net.Conn){
		"never reads":           func(s *socketTest, id string, _ net.Conn) { s.fill(&socketClient{id: id}) },
		"half a head":           func(s *socketTest, _ string, c net.Conn) { say(s.t, c, large[:5]) },
		"half a message":        func(s *socketTest, _ string, c net.Conn) { say(s.t, c, large+"x") },
		"half of one too large": func(s *socketTest, _ string, c net.Conn) { say(s.t, c, large+strings.Repeat("x", 256<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait most of their time
			s := newSocketTest(t, func(l *socketLimits) { l.write, l.frames = 2*time.Second, 8 }, allRoutes...)
			network, err := net.Dial("tcp", strings.TrimPrefix(s.server.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = network.Close() }()
			say(t, network, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
			answer := make([]byte, 12)
			if _, err := io.ReadFull(network, answer); err != nil {
				t.Fatal(err)
			} else if string(answer) != "HTTP/1.1 101" {
				t.Fatalf("got %s", answer)
			}
			hold(s, s.await(lambdaedge.SocketEventConnect, 1).RequestContext.ConnectionID, network)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), socketPatience)
			defer cancel()
			s.gateway.close(ctx)
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("closing took %v", took)
			}
			if n := len(s.seen(lambdaedge.SocketEventDisconnect)); n != 1 {
				t.Errorf("%d ends", n)
			}
		})
	}
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
}

// TestSocketGatewayStopsAtOnce: a stop that is overdue waits for no client either.
func TestSocketGatewayStopsAtOnce(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	s.fill(s.connect())
	began := time.Now()
	s.gateway.stop()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func TestConnectionsAPIAnswersAsAPIGateway(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	api, err := serveManagementAPI(s.gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.close)
	c := s.connect()
	server := strings.TrimSuffix(api.url, "/"+api.stage)
	escaped := strings.ReplaceAll(c.id, "=", "%3D")
	for _, test := range []struct {
		method, url, body string
		status            int
	}{
		{"POST", api.url + "/@connections/" + c.id, "plain", 200},
		{"POST", api.url + "/%40connections/" + escaped, "escaped", 200},
		{"POST", api.url + "/@connections/" + escaped, strings.Repeat("x", stream.MaxMessageSize), 200},
		{"POST", api.url + "/@connections/" + escaped, strings.Repeat("x", stream.MaxMessageSize+1), 413},
		{"POST", api.url + "/@connections/" + escaped, "\xff", 200},
		{"POST", api.url + "/@connections/unknown", "text", 410},
		{"GET", api.url + "/@connections/unknown", "", 410},
		{"DELETE", api.url + "/@connections/unknown", "", 410},
		{"PUT", api.url + "/@connections/" + escaped, "", 403},
		{"POST", api.url + "/@connections/" + escaped + "/x", "text", 403},
		{"POST", api.url + "/connections/" + escaped, "text", 403},
		{"POST", server + "/other/@connections/" + escaped, "text", 403},
		{"POST", server + "/@connections/" + escaped, "text", 403},
		{"GET", server + "/", "", 403},
		{"GET", api.url + "/@connections/" + escaped, "", 200},
		{"DELETE", api.url + "/@connections/" + escaped, "", 204},
		{"DELETE", api.url + "/@connections/" + escaped, "", 410},
	} {
		if got := signedCall(t, test.method, test.url, test.body); got != test.status {
			t.Errorf("%s %s: %d, want %d", test.method, test.url, got, test.status)
		}
	}
	for _, want := range []string{"plain", "escaped", strings.Repeat("x", stream.MaxMessageSize), "\uFFFD"} {
		c.wantText(want)
	}
	c.wantClosed(1000)
	response, err := http.Post(api.url+"/@connections/unknown", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	} else if response.StatusCode != http.StatusForbidden {
		t.Errorf("unsigned: %d", response.StatusCode)
	}
}

func TestConnectionsAPIDescribes(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	api := &managementAPI{gateway: s.gateway}
	c := s.connect()
	recorder := httptest.NewRecorder()
	api.describe(recorder, c.id)
	var told struct {
		ConnectedAt, LastActiveAt time.Time
		Identity                  struct{ SourceIP, UserAgent string }
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &told); err != nil {
		t.Fatal(err)
	}
	if time.Since(told.ConnectedAt) > socketPatience {
		t.Errorf("connected %v ago, want at most %v", time.Since(told.ConnectedAt), socketPatience)
	}
	if told.LastActiveAt.Before(told.ConnectedAt) {
		t.Errorf("got last active at %v, want none before %v", told.LastActiveAt, told.ConnectedAt)
	}
	if told.Identity.SourceIP != "127.0.0.1" {
		t.Errorf("got source IP %q, want %q", told.Identity.SourceIP, "127.0.0.1")
	}
	if told.Identity.UserAgent == "" {
		t.Error("got an empty user agent, want a value")
	}
}

// signedCall returns the status of a call that has a signature's form.
func signedCall(t *testing.T, method, url, body string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=local/20260301/local/execute-api/aws4_request, SignedHeaders=host, Signature=00")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}
