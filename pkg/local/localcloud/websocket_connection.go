package localcloud

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// socket is one connection of a client.
type socket struct {
	*socketServer
	id          string
	connectedAt time.Time
	handshaken  events.APIGatewayProxyRequestContext
	conn        *websocket.Conn
	wake        chan struct{} // signals the writer that a frame or the end is due; one signal fits
	ended       chan struct{} // closed when ending is set

	mu     sync.Mutex
	frames [][]byte // for the client, in order
	size   int      // of the frames together, in bytes
	active time.Time
	ending *socketEnding // nil while the connection is open
}

// socketEnding is how a connection ended.
type socketEnding struct {
	code   websocket.StatusCode
	reason string
	by     endedBy
	at     time.Time
}

type endedBy bool

const (
	byGateway endedBy = true // the gateway sends the client a close frame
	byClient  endedBy = false
)

func newSocket(srv *socketServer, handshaken events.APIGatewayProxyRequestContext) *socket {
	return &socket{
		socketServer: srv, id: newSocketID(), connectedAt: time.Now(), handshaken: handshaken,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// end ends the connection. The first call decides how; later ones do nothing.
func (s *socket) end(code websocket.StatusCode, reason string, by endedBy) {
	s.gateway.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != nil {
		return
	}
	s.ending = &socketEnding{code: code, reason: reason, by: by, at: time.Now()}
	close(s.ended)
	s.wakeWriter()
}

// markActive restarts the idle time: a message went in one of the directions.
func (s *socket) markActive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = time.Now()
}

func (s *socket) lastActive() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// serve completes the handshake, and returns when the connection has ended and
// the function of $disconnect has returned.
func (s *socket) serve(w http.ResponseWriter, r *http.Request) {
	defer s.disconnect()
	s.markActive()
	if !s.gateway.add(s) { // before the client knows that it is connected
		s.end(websocket.StatusGoingAway, goingAway, byGateway)
	}
	network, err := s.accept(w, r)
	if err != nil {
		s.end(websocket.StatusAbnormalClosure, "", byClient)
		return
	}
	// When the gateway stops, nothing waits for the client any more.
	defer context.AfterFunc(s.gateway.invocations, func() { _ = network.Close() })()
	messages := make(chan string, messageBacklog)
	var both sync.WaitGroup
	both.Go(func() { s.read(messages, network) })
	both.Go(func() { s.write(network) })
	for text := range messages {
		s.handle(text)
	}
	both.Wait()
}

// accept completes the handshake and returns the network connection below the WebSocket.
func (s *socket) accept(w http.ResponseWriter, r *http.Request) (*frameMeter, error) {
	h := &hijacker{ResponseWriter: w}
	conn, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		// The origin proves nothing here: a client needs a token or a ticket, which a foreign page does not have.
		InsecureSkipVerify: true,
		OnPingReceived:     func(context.Context, []byte) bool { s.markActive(); return true },
	})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(stream.MaxMessageSize)
	s.conn = conn
	return h.network, nil
}

// hijacker remembers the network connection that websocket.Accept hijacks. Only
// its deadlines bound everything that closing a WebSocket does.
type hijacker struct {
	http.ResponseWriter
	network *frameMeter
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.network = &frameMeter{Conn: conn}
	early, _ := buffered.Peek(buffered.Reader.Buffered()) // what is buffered can be read without an error
	h.network.measure(early)
	return h.network, buffered, nil
}
