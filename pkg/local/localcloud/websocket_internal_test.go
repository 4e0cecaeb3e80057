package localcloud

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// socketTimeout is how long a test waits for what must come.
const socketTimeout = 30 * time.Second

// socketTest is a gateway with functions that record their events. It runs inside the package,
// because API Gateway's limits are too wide for a test from outside.
type socketTest struct {
	t       *testing.T
	gateway *socketGateway
	server  *httptest.Server
	log     lockedBuffer

	mu     sync.Mutex
	events []socketRequest
	// respond gives the functions' responses. If it is nil, they answer 200.
	respond func(socketRequest) (events.APIGatewayProxyResponse, error)
}

// lockedBuffer is a text that goroutines write and read.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newSocketTest(t *testing.T, change func(*socketLimits), routes ...string) *socketTest {
	t.Helper()
	limits := defaultSocketLimits()
	if change != nil {
		change(&limits)
	}
	s := &socketTest{t: t}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	s.gateway = newSocketGateway(limits, log)
	srv := &socketServer{
		gateway: s.gateway, functions: map[string]socketFunction{},
		gate: &httpapi.Gate{Log: log, Now: time.Now, NewRequestID: uuid.NewString},
	}
	for _, key := range routes {
		srv.functions[key] = func(_ context.Context, e socketRequest) (events.APIGatewayProxyResponse, error) {
			return s.record(key, e)
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

func (s *socketTest) record(key string, e socketRequest) (events.APIGatewayProxyResponse, error) {
	if e.RequestContext.RouteKey != key {
		s.t.Errorf("got an event with route key %q, want %q", e.RequestContext.RouteKey, key)
	}
	s.mu.Lock()
	s.events = append(s.events, e)
	respond := s.respond
	s.mu.Unlock()
	if respond != nil {
		return respond(e)
	}
	return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
}

func (s *socketTest) respondWith(respond func(socketRequest) (events.APIGatewayProxyResponse, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond = respond
}

// received returns the events of a type so far.
func (s *socketTest) received(kind string) []socketRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []socketRequest
	for _, e := range s.events {
		if e.RequestContext.EventType == kind {
			events = append(events, e)
		}
	}
	return events
}

// await waits for the n-th event of a type.
func (s *socketTest) await(kind string, n int) socketRequest {
	s.t.Helper()
	for deadline := time.Now().Add(socketTimeout); ; time.Sleep(time.Millisecond) {
		received := s.received(kind)
		if len(received) >= n {
			return received[n-1]
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("got %d %s events, want %d", len(received), kind, n)
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
	marker := uuid.NewString()
	conn, _, err := websocket.Dial(s.t.Context(), s.url()+"?marker="+marker, nil) //nolint:bodyclose // Dial closes it
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	s.t.Cleanup(func() { _ = conn.CloseNow() }) // it may be closed already
	for _, e := range s.received(lambdaedge.SocketEventConnect) {
		if e.QueryStringParameters["marker"] == marker {
			return &socketClient{t: s.t, conn: conn, id: e.RequestContext.ConnectionID}
		}
	}
	s.t.Fatal("got no $connect event of the connection, want one")
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
	ctx, cancel := context.WithTimeout(c.t.Context(), socketTimeout)
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
	ctx, cancel := context.WithTimeout(c.t.Context(), socketTimeout)
	defer cancel()
	text, err := c.Read(ctx)
	if got := websocket.CloseStatus(err); got != want {
		c.t.Fatalf("got text %.100q and error %v, want status %v", text, err, want)
	}
}
