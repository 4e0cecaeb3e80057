package localcloud

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
)

func TestSocketGatewayClosesAfterDisconnectFunctions(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	s.respondWith(func(e socketRequest) (events.APIGatewayProxyResponse, error) {
		if e.RequestContext.EventType == lambdaedge.SocketEventDisconnect {
			time.Sleep(100 * time.Millisecond)
		}
		return events.APIGatewayProxyResponse{StatusCode: 200}, nil
	})
	for range 5 {
		go func(c *socketClient) { _, _ = c.Read(context.Background()) }(s.connect()) // reading answers the close frame
	}
	ctx, cancel := context.WithTimeout(t.Context(), socketTimeout)
	defer cancel()
	s.gateway.close(ctx)
	if n := len(s.received(lambdaedge.SocketEventDisconnect)); n != 5 {
		t.Errorf("closed after %d $disconnect events, want 5", n)
	} else if ctx.Err() != nil {
		t.Errorf("closing took longer than %v, want less", socketTimeout)
	}
	_, response, err := websocket.Dial(t.Context(), s.url(), nil) //nolint:bodyclose // Dial closes it
	if err == nil {
		t.Error("a handshake afterwards: got no error, want one")
	} else if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a handshake afterwards: got status code %d, want %d", response.StatusCode, http.StatusServiceUnavailable)
	}
}

// A hostile client cannot delay the shutdown.
func TestSocketGatewayWaitsForNoClient(t *testing.T) {
	const large = "\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00mask" // the header of a text frame of 1 GiB
	for name, block := range map[string]func(*socketTest, string, net.Conn){
		"never reads":           func(s *socketTest, id string, _ net.Conn) { s.fill(&socketClient{id: id}) },
		"half a header":         func(s *socketTest, _ string, c net.Conn) { writeRaw(s.t, c, large[:5]) },
		"half a message":        func(s *socketTest, _ string, c net.Conn) { writeRaw(s.t, c, large+"x") },
		"half of one too large": func(s *socketTest, _ string, c net.Conn) { writeRaw(s.t, c, large+strings.Repeat("x", 256<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of its time
			s := newSocketTest(t, func(l *socketLimits) { l.closing, l.frames = 2*time.Second, 8 }, allRoutes...)
			network, err := net.Dial("tcp", strings.TrimPrefix(s.server.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = network.Close() }()
			writeRaw(t, network, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
			answer := make([]byte, 12)
			if _, err := io.ReadFull(network, answer); err != nil {
				t.Fatal(err)
			} else if string(answer) != "HTTP/1.1 101" {
				t.Fatalf("got %q, want %q", answer, "HTTP/1.1 101")
			}
			block(s, s.await(lambdaedge.SocketEventConnect, 1).RequestContext.ConnectionID, network)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), socketTimeout)
			defer cancel()
			s.gateway.close(ctx)
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("closing took %v, want at most 8s", took)
			}
			if n := len(s.received(lambdaedge.SocketEventDisconnect)); n != 1 {
				t.Errorf("got %d $disconnect events, want 1", n)
			}
		})
	}
}

func writeRaw(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
}

// A forced stop does not wait for clients either.
func TestSocketGatewayStopsImmediately(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	s.fill(s.connect())
	began := time.Now()
	s.gateway.stop()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %v, want at most 3s", took)
	}
}
