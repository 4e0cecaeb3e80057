package localcloud

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// socketGateway has the open connections of the WebSocket API, as API Gateway
// does in production. Functions send to clients through it.
type socketGateway struct {
	limits socketLimits
	log    *slog.Logger
	// invocations is the context of every function that runs for a connection.
	invocations context.Context
	abort       context.CancelFunc

	mu      sync.Mutex
	open    map[string]*socket // by connection id
	closing bool
	running sync.WaitGroup // handshakes and connections; nothing is added while closing
}

func newSocketGateway(limits socketLimits, log *slog.Logger) *socketGateway {
	g := &socketGateway{limits: limits, log: log, open: map[string]*socket{}}
	g.invocations, g.abort = context.WithCancel(context.Background())
	return g
}

// Send implements stream.Sender. It never waits for the client: if too much
// waits for that client already, the error is stream.ErrBusy.
func (g *socketGateway) Send(ctx context.Context, connection string, text []byte) error {
	if len(text) > stream.MaxFrameBytes {
		return fmt.Errorf("send to connection %s: %d bytes, at most %d: %w", connection, len(text), stream.MaxFrameBytes, audit.ErrTooLarge)
	}
	err := ctx.Err()
	if err == nil {
		err = g.deliver(connection, text)
	}
	if err != nil {
		return fmt.Errorf("send to connection %s: %w", connection, err)
	}
	return nil
}

// deliver queues a copy of the text for the client. As API Gateway does, it
// replaces what is not UTF-8.
func (g *socketGateway) deliver(connection string, text []byte) error {
	s, known := g.socket(connection)
	if !known {
		return stream.ErrGone
	}
	return s.send(bytes.ToValidUTF8(text, []byte("\uFFFD")))
}

// Cut implements stream.Sender. The client gets what was accepted for it first.
func (g *socketGateway) Cut(ctx context.Context, connection string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cut connection %s: %w", connection, err)
	}
	if s, known := g.socket(connection); known {
		s.end(websocket.StatusNormalClosure, closedNormally, byGateway)
	}
	return nil
}

func (g *socketGateway) socket(connection string) (*socket, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, known := g.open[connection]
	return s, known
}

// add registers the connection. It returns false while the gateway is closing.
func (g *socketGateway) add(s *socket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closing {
		g.open[s.id] = s
	}
	return !g.closing
}

func (g *socketGateway) remove(s *socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, s.id)
}

// beginHandshake counts a handshake in running; the caller calls running.Done
// when the connection has ended. It returns false while the gateway is closing.
func (g *socketGateway) beginHandshake() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closing {
		g.running.Add(1)
	}
	return !g.closing
}

// close refuses new connections and closes the open ones. It returns when every
// $disconnect function has returned, or ctx has ended.
func (g *socketGateway) close(ctx context.Context) {
	ended := g.closeAll()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// stop is close without waiting for clients. It cancels the functions that run
// and returns when they have ended.
func (g *socketGateway) stop() {
	ended := g.closeAll()
	g.abort()
	<-ended
}

func (g *socketGateway) closeAll() (ended <-chan struct{}) {
	g.mu.Lock()
	g.closing = true
	all := slices.Collect(maps.Values(g.open))
	g.mu.Unlock()
	for _, s := range all {
		s.end(websocket.StatusGoingAway, goingAway, byGateway)
	}
	done := make(chan struct{})
	go func() {
		g.running.Wait()
		close(done)
	}()
	return done
}
