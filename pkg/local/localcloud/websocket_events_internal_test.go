package localcloud

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestSocketEventsHaveAPIGatewaysForm(t *testing.T) {
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
	first, last := s.events[0], s.events[len(s.events)-1]
	s.wantEvent(0, first, manifest.SocketConnect, lambdaedge.SocketEventConnect, "")
	for i, body := range bodies {
		key := manifest.SocketDefault
		if i == 0 {
			key = "subscribe"
		}
		s.wantEvent(i+1, s.events[i+1], key, lambdaedge.SocketEventMessage, body)
	}
	s.wantEvent(len(s.events)-1, last, manifest.SocketDisconnect, lambdaedge.SocketEventDisconnect, "")
	wantConnectRequest(t, first)
	wantDisconnect(t, last)
	requests := map[string]bool{}
	for i, e := range s.events {
		s.wantOrigin(i, e.RequestContext, first.RequestContext.ConnectionID)
		wantTimes(t, i, e.RequestContext, began)
		if id := e.RequestContext.RequestID; requests[id] {
			t.Errorf("event %d: got request ID %q twice, want one for each event", i, id)
		}
		requests[e.RequestContext.RequestID] = true
	}
}

func (s *socketTest) wantEvent(i int, e socketRequest, key, kind, body string) {
	s.t.Helper()
	r := e.RequestContext
	if r.RouteKey != key {
		s.t.Errorf("event %d: got route key %q, want %q", i, r.RouteKey, key)
	}
	if r.EventType != kind {
		s.t.Errorf("event %d: got event type %q, want %q", i, r.EventType, kind)
	}
	if e.Body != body {
		s.t.Errorf("event %d: got body %q, want %q", i, e.Body, body)
	}
	if e.IsBase64Encoded {
		s.t.Errorf("event %d: the body is in Base64, want plain text", i)
	}
	if (r.MessageID != nil) != (kind == lambdaedge.SocketEventMessage) {
		s.t.Errorf("event %d: got message ID %v, want one only for a message", i, r.MessageID)
	}
}

// wantOrigin checks the gateway, the caller and the connection of an event.
func (s *socketTest) wantOrigin(i int, r events.APIGatewayWebsocketProxyRequestContext, connection string) {
	s.t.Helper()
	if r.MessageDirection != "IN" {
		s.t.Errorf("event %d: got message direction %q, want %q", i, r.MessageDirection, "IN")
	}
	if r.Stage == "" {
		s.t.Errorf("event %d: got no stage, want one", i)
	}
	if r.APIID == "" {
		s.t.Errorf("event %d: got no API ID, want one", i)
	}
	if r.ExtendedRequestID == "" {
		s.t.Errorf("event %d: got no extended request ID, want one", i)
	}
	if want := strings.TrimPrefix(s.server.URL, "http://"); r.DomainName != want {
		s.t.Errorf("event %d: got domain name %q, want %q", i, r.DomainName, want)
	}
	if r.Identity.SourceIP != "127.0.0.1" {
		s.t.Errorf("event %d: got source IP %q, want %q", i, r.Identity.SourceIP, "127.0.0.1")
	}
	if r.Identity.UserAgent != "tail/1.0" {
		s.t.Errorf("event %d: got user agent %q, want %q", i, r.Identity.UserAgent, "tail/1.0")
	}
	if r.ConnectionID != connection {
		s.t.Errorf("event %d: got connection ID %q, want %q", i, r.ConnectionID, connection)
	}
	if !connectionID.MatchString(r.ConnectionID) {
		s.t.Errorf("event %d: got connection ID %q, want one that matches %s", i, r.ConnectionID, connectionID)
	}
}

// connectionID matches API Gateway's connection ids.
var connectionID = regexp.MustCompile(`^[\w-]{15}=$`)

func wantTimes(t *testing.T, i int, r events.APIGatewayWebsocketProxyRequestContext, began time.Time) {
	t.Helper()
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", r.RequestTime)
	if err != nil {
		t.Fatal(err)
	}
	if at.Unix() != r.RequestTimeEpoch/1000 {
		t.Errorf("event %d: got request time %q, want second %d", i, r.RequestTime, r.RequestTimeEpoch/1000)
	}
	if r.RequestTimeEpoch < r.ConnectedAt {
		t.Errorf("event %d: got request time %d, want at least that of the connection, %d", i, r.RequestTimeEpoch, r.ConnectedAt)
	}
	if r.ConnectedAt < began.UnixMilli() {
		t.Errorf("event %d: got connection time %d, want at least %d", i, r.ConnectedAt, began.UnixMilli())
	}
}

func wantConnectRequest(t *testing.T, e socketRequest) {
	t.Helper()
	if got, want := e.MultiValueQueryStringParameters["ticket"], []string{"a&b", "c d"}; !slices.Equal(got, want) {
		t.Errorf("$connect: got tickets %q, want %q", got, want)
	}
	for name, want := range map[string]string{"X-Tenant-Id": "acme", "Authorization": "Bearer e30", "Upgrade": ""} {
		if got := e.Headers[name]; got != want {
			t.Errorf("$connect: got %s %q, want %q", name, got, want)
		}
	}
	if e.Headers["Host"] == "" {
		t.Error("$connect: got no Host, want one")
	}
	if got := e.MultiValueHeaders["Connection"]; got != nil {
		t.Errorf("$connect: got Connection %q, want none", got)
	}
}

func wantDisconnect(t *testing.T, e socketRequest) {
	t.Helper()
	if got := e.RequestContext.DisconnectStatusCode; got != 4001 {
		t.Errorf("$disconnect: got status code %d, want 4001", got)
	}
	if got := *e.RequestContext.DisconnectReason; got != "enough" {
		t.Errorf("$disconnect: got reason %q, want %q", got, "enough")
	}
	if got := e.Headers["Authorization"]; got != "" {
		t.Errorf("$disconnect: got Authorization %q, want none", got)
	}
}

func TestSocketRefusesHandshakes(t *testing.T) {
	refuse := func(socketRequest) (events.APIGatewayProxyResponse, error) {
		return events.APIGatewayProxyResponse{StatusCode: 403, Headers: map[string]string{"Content-Type": "application/problem+json"}, Body: `{"status":403}`}, nil
	}
	for _, c := range []struct {
		name    string
		routes  []string
		respond func(socketRequest) (events.APIGatewayProxyResponse, error)
		header  http.Header // added to a valid handshake
		query   string
		status  int
		body    string
	}{
		{"the function refuses", allRoutes, refuse, nil, "", 403, `{"status":403}`},
		{"the function fails", allRoutes, func(socketRequest) (events.APIGatewayProxyResponse, error) {
			return events.APIGatewayProxyResponse{}, errors.New("secret")
		}, nil, "", 500, "urn:ocelot:problem:internal"},
		{"a response without a status", allRoutes, func(socketRequest) (events.APIGatewayProxyResponse, error) {
			return events.APIGatewayProxyResponse{}, nil
		}, nil, "", 500, "urn:ocelot:problem:internal"},
		{"no functions", nil, nil, nil, "", 404, "urn:ocelot:problem:not_found"},
		{"invalid version", allRoutes, nil, http.Header{"Sec-Websocket-Version": {"8"}}, "", 400, "urn:ocelot:problem:malformed_request"},
		{"invalid key", allRoutes, nil, http.Header{"Sec-Websocket-Key": {"x"}}, "", 400, "urn:ocelot:problem:malformed_request"},
		{"invalid query", allRoutes, nil, nil, "?a=%zz", 400, "urn:ocelot:problem:malformed_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSocketTest(t, nil, c.routes...)
			s.respondWith(c.respond)
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
			if n := len(s.received(lambdaedge.SocketEventDisconnect)); n > 0 {
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
	s.respondWith(func(e socketRequest) (events.APIGatewayProxyResponse, error) {
		mu.Lock()
		running++
		if running > 1 {
			t.Errorf("%d messages of one connection are handled at once, want 1", running)
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
	reading := c.conn.CloseRead(t.Context()) // reads the pongs
	ping, cancel := context.WithTimeout(reading, socketTimeout)
	defer cancel()
	if err := c.conn.Ping(ping); err != nil {
		t.Errorf("a ping while a message is handled: got error %v, want none", err)
	}
	if n := len(s.received(lambdaedge.SocketEventMessage)); n != 1 {
		t.Errorf("%d messages have been passed on while the first is handled, want 1", n)
	}
	close(release)
	for i, want := range []string{"first", "second", "third"} {
		if got := s.await(lambdaedge.SocketEventMessage, i+1).Body; got != want {
			t.Errorf("message %d: got %q, want %q", i, got, want)
		}
	}
}

func TestSocketHandlesMessagesSentBeforeTheClose(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	c := s.connect()
	for range 5 {
		c.write("text")
	}
	if err := c.Leave(); err != nil {
		t.Error(err)
	}
	s.await(lambdaedge.SocketEventDisconnect, 1)
	if n := len(s.received(lambdaedge.SocketEventMessage)); n != 5 {
		t.Errorf("got %d messages, want 5", n)
	}
}

func TestSocketReportsFailures(t *testing.T) {
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
		s.respondWith(func(socketRequest) (events.APIGatewayProxyResponse, error) { return test.response, test.err })
		c.write(test.text)
		text, err := c.Read(t.Context())
		var failure struct{ Message, ConnectionID, RequestID string }
		if err = errors.Join(err, json.Unmarshal(text, &failure)); err != nil {
			t.Error(err)
		} else if failure.Message != test.want {
			t.Errorf("got message %q, want %q", failure.Message, test.want)
		} else if failure.ConnectionID != c.id {
			t.Errorf("got connection ID %q, want %q", failure.ConnectionID, c.id)
		} else if failure.RequestID == "" {
			t.Error("got an empty request ID, want a value")
		}
	}
	// The client does not see a function's own response.
	s.respondWith(func(socketRequest) (events.APIGatewayProxyResponse, error) {
		return events.APIGatewayProxyResponse{StatusCode: 500, Body: "secret"}, nil
	})
	c.write(`{"action":"subscribe"}`)
	c.write(`{"action":"other"}`)
	if text, err := c.Read(t.Context()); err != nil {
		t.Error(err)
	} else if !strings.Contains(string(text), "Forbidden") {
		t.Errorf("got %s, want %q", text, "Forbidden")
	}
}
