package localcloud

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// socketFunction is a function of the WebSocket API as Lambda calls it.
type socketFunction func(context.Context, events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error)

// socketLimits bound a connection.
type socketLimits struct {
	idle time.Duration // without a message in either direction
	life time.Duration
	// write is how long a client may take nothing, and what is left may take once
	// the connection is to be closed.
	write time.Duration
	// frames and bytes are what waits for the client at most.
	frames, bytes int
}

// defaultSocketLimits are API Gateway's where that has any.
func defaultSocketLimits() socketLimits {
	return socketLimits{idle: stream.MaxIdle, life: stream.MaxConnection, write: 10 * time.Second, frames: 256, bytes: 2 << 20}
}

const (
	// integrationTime is how long API Gateway waits for a function.
	integrationTime = 29 * time.Second
	// backlog is how many of a client's messages wait while one is handled; then
	// nothing more is read from it.
	backlog = 8
	// What API Gateway says where it ends a connection.
	closedNormally = "Connection Closed Normally"
	goingAway      = "Going away"
)

// socketGateway keeps the connections of the WebSocket API, as API Gateway does
// in production: it is what functions send by.
type socketGateway struct {
	limits socketLimits
	log    *slog.Logger
	// calls is the context of what functions do for connections.
	calls context.Context
	abort context.CancelFunc

	mu      sync.Mutex
	open    map[string]*socket // by connection id
	closing bool
	running sync.WaitGroup // handshakes and connections; nothing is added while closing
}

func newSocketGateway(limits socketLimits, log *slog.Logger) *socketGateway {
	g := &socketGateway{limits: limits, log: log, open: map[string]*socket{}}
	g.calls, g.abort = context.WithCancel(context.Background())
	return g
}

// Send implements stream.Sender. It never waits for the client: where too much
// waits for that already the error is stream.ErrBusy.
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

func (g *socketGateway) deliver(connection string, text []byte) error {
	s, known := g.socket(connection)
	if !known {
		return stream.ErrGone
	}
	return s.send(bytes.ToValidUTF8(text, []byte("\uFFFD"))) // a copy; API Gateway replaces likewise
}

// Cut implements stream.Sender. What was taken before is sent first.
func (g *socketGateway) Cut(ctx context.Context, connection string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cut connection %s: %w", connection, err)
	}
	if s, known := g.socket(connection); known {
		s.finish(websocket.StatusNormalClosure, closedNormally, byGateway)
	}
	return nil
}

func (g *socketGateway) socket(connection string) (*socket, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, known := g.open[connection]
	return s, known
}

// add makes the connection known; false where the gateway is closing.
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

// enter begins a handshake, which running.Done ends together with its
// connection; false where the gateway is closing.
func (g *socketGateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closing {
		g.running.Add(1)
	}
	return !g.closing
}

// close refuses new connections, closes those that there are and returns once
// their functions have been told, or ctx has ended.
func (g *socketGateway) close(ctx context.Context) {
	ended := g.closeAll()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// stop is close without patience for clients. What functions still do must end
// by itself.
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
		s.finish(websocket.StatusGoingAway, goingAway, byGateway)
	}
	done := make(chan struct{})
	go func() {
		g.running.Wait()
		close(done)
	}()
	return done
}

// socketServer answers handshakes for the gateway.
type socketServer struct {
	gateway   *socketGateway
	gate      *httpapi.Gate             // for the answers that API Gateway makes up
	functions map[string]socketFunction // by route key
}

// socketFunctions are the manifest's functions of the WebSocket API, by route key.
func socketFunctions(all functions) map[string]socketFunction {
	found := map[string]socketFunction{}
	for _, f := range manifest.Functions() {
		if s := f.Trigger.Socket; s != nil {
			found[s.Key] = all.ofSocket(f)
		}
	}
	return found
}

// ServeHTTP lets a client connect, if the function of $connect does, and returns
// when the connection has ended.
func (srv *socketServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(srv.functions) == 0 {
		httpapi.NotFound(srv.gate).ServeHTTP(w, r)
		return
	}
	if !srv.gateway.enter() {
		srv.refuse(w, r, &audit.UnavailableError{RetryAfter: time.Second, Err: errors.New("the gateway is closing")})
		return
	}
	defer srv.gateway.running.Done()
	s, event, err := srv.handshake(r)
	if err != nil {
		srv.refuse(w, r, err)
		return
	}
	admitted, err := s.admit(w, event)
	switch {
	case err != nil:
		srv.refuse(w, r, explained(err))
	case admitted:
		s.serve(w, r)
	}
}

// admit asks the function of $connect. What it says to a client that it refuses is written.
func (s *socket) admit(w http.ResponseWriter, event events.APIGatewayWebsocketProxyRequest) (admitted bool, err error) {
	if s.functions[manifest.SocketConnect] == nil {
		return true, nil
	}
	response, err := s.call(event)
	if err != nil || response.StatusCode/100 == 2 {
		return err == nil, err
	}
	return false, lambdaedge.WriteResponse(w, response)
}

func (srv *socketServer) refuse(w http.ResponseWriter, r *http.Request, err error) {
	httpapi.Refuse(srv.gate, manifest.Route{Method: http.MethodGet, Path: manifest.StreamPath}, err).ServeHTTP(w, r)
}

// upgrades reports whether a client wants to speak WebSocket.
func upgrades(r *http.Request) bool {
	return slices.ContainsFunc(r.Header.Values("Upgrade"), func(v string) bool { return strings.EqualFold(v, "websocket") })
}

// handshake is the connection that the request asks for, and its $connect event.
func (srv *socketServer) handshake(r *http.Request) (*socket, events.APIGatewayWebsocketProxyRequest, error) {
	if !sound(r) {
		return nil, events.APIGatewayWebsocketProxyRequest{}, httpapi.Malformed("The request is no handshake of WebSocket's version 13.")
	}
	event, err := lambdaedge.EventFromRequest(r, manifest.BasePath+manifest.StreamPath, nil)
	if err != nil { // it has no body
		return nil, events.APIGatewayWebsocketProxyRequest{}, httpapi.Malformed("The query string is not percent-encoded form data.")
	}
	s := newSocket(srv, event.RequestContext)
	connect := s.event(manifest.SocketConnect, lambdaedge.SocketEventConnect)
	for _, hop := range []string{"Connection", "Upgrade"} { // of this hop alone
		delete(event.Headers, hop)
		delete(event.MultiValueHeaders, hop)
	}
	connect.Headers, connect.MultiValueHeaders = event.Headers, event.MultiValueHeaders
	connect.QueryStringParameters, connect.MultiValueQueryStringParameters = event.QueryStringParameters, event.MultiValueQueryStringParameters
	return s, connect, nil
}

// sound reports whether the handshake will be accepted once the function of
// $connect has let the client in.
func sound(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	return err == nil && len(key) == 16 && r.Header.Get("Sec-Websocket-Version") == "13" && r.ProtoAtLeast(1, 1) &&
		strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Connection"), ",")), "upgrade")
}

// socket is one connection.
type socket struct {
	*socketServer
	id          string
	connectedAt time.Time
	handshaken  events.APIGatewayProxyRequestContext
	conn        *websocket.Conn
	wake        chan struct{} // has room for one: there is a frame, or the end
	ended       chan struct{} // closed with the end

	mu     sync.Mutex
	frames [][]byte // for the client, in their order
	size   int      // of the frames together
	active time.Time
	end    *socketEnd // nil: the connection is open
}

// socketEnd is how a connection ended.
type socketEnd struct {
	code   websocket.StatusCode
	reason string
	by     endedBy
	at     time.Time
}

type endedBy bool

const (
	byGateway endedBy = true // which tells the client
	byClient  endedBy = false
)

func newSocket(srv *socketServer, handshaken events.APIGatewayProxyRequestContext) *socket {
	return &socket{
		socketServer: srv, id: newSocketID(), connectedAt: time.Now(), handshaken: handshaken,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// newSocketID is an id of the form that API Gateway's have, "=" at the end included.
func newSocketID() string {
	id := make([]byte, 11)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	return base64.URLEncoding.EncodeToString(id)
}

// send has the text sent to the client, in order.
func (s *socket) send(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.end != nil:
		return stream.ErrGone
	case len(s.frames) == s.gateway.limits.frames || s.size+len(text) > s.gateway.limits.bytes:
		return stream.ErrBusy
	}
	s.frames, s.size = append(s.frames, text), s.size+len(text)
	s.nudge()
	return nil
}

// nudge has the writer look what there is to do.
func (s *socket) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// finish ends the connection. The first end counts.
func (s *socket) finish(code websocket.StatusCode, reason string, by endedBy) {
	s.gateway.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		return
	}
	s.end = &socketEnd{code: code, reason: reason, by: by, at: time.Now()}
	close(s.ended)
	s.nudge()
}

// touch notes that the client or the service said something.
func (s *socket) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = time.Now()
}

func (s *socket) lastActive() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// serve completes the handshake and returns when the connection has ended and
// its functions have been told.
func (s *socket) serve(w http.ResponseWriter, r *http.Request) {
	defer s.disconnect()
	s.touch()
	if !s.gateway.add(s) { // before the client can know
		s.finish(websocket.StatusGoingAway, goingAway, byGateway)
	}
	taken := &connTaker{ResponseWriter: w}
	conn, err := websocket.Accept(taken, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // of the origin: a connection proves who it is by what a foreign page does not have
		OnPingReceived:     func(context.Context, []byte) bool { s.touch(); return true },
	})
	if err != nil {
		s.finish(websocket.StatusAbnormalClosure, "", byClient)
		return
	}
	conn.SetReadLimit(stream.MaxMessageSize)
	s.conn = conn
	defer context.AfterFunc(s.gateway.calls, func() { _ = taken.conn.Close() })() // then nobody waits for the client
	messages := make(chan string, backlog)
	var both sync.WaitGroup
	both.Go(func() { s.read(messages, taken.conn) })
	both.Go(func() { s.write(taken.conn) })
	for text := range messages {
		s.handle(text)
	}
	both.Wait()
}

// connTaker keeps the network connection that is taken from the server. Only its
// deadlines bound everything that the closing of a WebSocket does.
type connTaker struct {
	http.ResponseWriter
	conn *frameMeter
}

// Hijack implements http.Hijacker.
func (t *connTaker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.conn = &frameMeter{Conn: conn}
	early, _ := buffered.Peek(buffered.Reader.Buffered()) // never fails for what is there
	t.conn.measure(early)
	return t.conn, buffered, nil
}

// read takes the client's messages until the connection ends.
func (s *socket) read(messages chan<- string, frames *frameMeter) {
	defer close(messages)
	for number := int64(1); ; number++ {
		kind, text, err := s.conn.Read(context.Background())
		var closed websocket.CloseError
		switch {
		case errors.As(err, &closed):
			s.finish(closed.Code, closed.Reason, byClient)
			return
		case errors.Is(err, websocket.ErrMessageTooBig), err == nil && frames.tooLong.Load() == number:
			s.finish(websocket.StatusMessageTooBig, "", byGateway)
			return
		case err != nil:
			s.finish(websocket.StatusAbnormalClosure, "", byClient)
			return
		case kind != websocket.MessageText:
			s.finish(websocket.StatusUnsupportedData, "", byGateway)
			return
		case !utf8.Valid(text):
			s.finish(websocket.StatusInvalidFramePayloadData, "", byGateway)
			return
		}
		s.touch()
		select {
		case messages <- string(text):
		case <-s.ended:
			return
		}
	}
}

// write sends what there is for the client until the connection ends, and closes it.
func (s *socket) write(network net.Conn) {
	for {
		frame, deadline, more := s.next()
		if !more {
			break
		}
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		err := s.conn.Write(ctx, websocket.MessageText, frame)
		cancel()
		if err != nil { // the client takes nothing, or is gone
			s.finish(websocket.StatusAbnormalClosure, "", byClient)
			break
		}
		s.touch()
	}
	if s.end.by == byClient {
		_ = s.conn.CloseNow() // it may be closed already
		return
	}
	_ = network.SetDeadline(time.Now().Add(s.gateway.limits.write)) // an error says that it is closed
	_ = s.conn.Close(s.end.code, s.end.reason)                      // a client that does not answer is closed as well
}

// next waits for a frame; there is none any more once the connection has ended,
// which happens here when its time is over.
func (s *socket) next() (frame []byte, deadline time.Time, more bool) {
	for {
		s.expire()
		frame, deadline, ended := s.take()
		if frame != nil || ended {
			return frame, deadline, frame != nil
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take returns the next frame and until when it has to be sent. Where there is
// none the deadline is when to look whether the connection has lived too long.
func (s *socket) take() (frame []byte, deadline time.Time, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended = s.end != nil
	if len(s.frames) == 0 {
		return nil, s.expiry(), ended
	}
	frame = s.frames[0]
	s.frames[0] = nil
	s.frames, s.size = s.frames[1:], s.size-len(frame)
	if ended {
		return frame, s.end.at.Add(s.gateway.limits.write), ended
	}
	return frame, time.Now().Add(s.gateway.limits.write), ended
}

// expiry is when the connection is closed if nothing happens.
func (s *socket) expiry() time.Time {
	idle, old := s.active.Add(s.gateway.limits.idle), s.connectedAt.Add(s.gateway.limits.life)
	if old.Before(idle) {
		return old
	}
	return idle
}

// expire ends the connection if its time is over.
func (s *socket) expire() {
	s.mu.Lock()
	over := !time.Now().Before(s.expiry())
	s.mu.Unlock()
	if over {
		s.finish(websocket.StatusGoingAway, goingAway, byGateway)
	}
}

// handle has the message's function handle it.
func (s *socket) handle(text string) {
	key := s.routeKey(text)
	event := s.event(key, lambdaedge.SocketEventMessage)
	event.Body, event.RequestContext.MessageID = text, newSocketID()
	if s.functions[key] == nil {
		s.tell("Forbidden", event.RequestContext.RequestID)
		return
	}
	if _, err := s.call(event); err != nil {
		s.gateway.log.Error("message failed", "route", key, "connection", s.id, "request_id", event.RequestContext.RequestID, "error", err)
		s.tell("Internal server error", event.RequestContext.RequestID)
	}
}

// routeKey is what $request.body.action chooses. The keys of API Gateway's own
// routes are none that a client can choose.
func (s *socket) routeKey(text string) string {
	var body map[string]json.RawMessage
	var action string
	if json.Unmarshal([]byte(text), &body) != nil || json.Unmarshal(body["action"], &action) != nil ||
		strings.HasPrefix(action, "$") || s.functions[action] == nil {
		return manifest.SocketDefault
	}
	return action
}

// tell sends what API Gateway says by itself.
func (s *socket) tell(message, requestID string) {
	text, err := json.Marshal(struct {
		Message      string `json:"message"`
		ConnectionID string `json:"connectionId"`
		RequestID    string `json:"requestId"`
	}{message, s.id, requestID})
	if err != nil { // texts always marshal
		panic(err)
	}
	_ = s.send(text) // a client that does not take it is no concern
}

// call invokes the function of the event's route.
func (s *socket) call(event events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	ctx, cancel := context.WithTimeout(s.gateway.calls, integrationTime)
	defer cancel()
	response, err := s.functions[event.RequestContext.RouteKey](ctx, event)
	if err == nil && response.StatusCode == 0 {
		err = errors.New("the function's answer has no status")
	}
	return response, err
}

// event is an event of the connection, with everything that API Gateway tells of it.
func (s *socket) event(key, kind string) events.APIGatewayWebsocketProxyRequest {
	now, id := time.Now().UTC(), newSocketID()
	return events.APIGatewayWebsocketProxyRequest{RequestContext: events.APIGatewayWebsocketProxyRequestContext{
		RouteKey: key, EventType: kind, MessageDirection: "IN",
		RequestID: id, ExtendedRequestID: id, RequestTime: now.Format(requestTimeFormat), RequestTimeEpoch: now.UnixMilli(),
		ConnectionID: s.id, ConnectedAt: s.connectedAt.UnixMilli(),
		Identity: s.handshaken.Identity, DomainName: s.handshaken.DomainName, Stage: s.handshaken.Stage, APIID: apiID,
	}}
}

// disconnect tells the function of $disconnect. It may have happened long before.
func (s *socket) disconnect() {
	if s.functions[manifest.SocketDisconnect] == nil {
		return
	}
	event := s.event(manifest.SocketDisconnect, lambdaedge.SocketEventDisconnect)
	event.RequestContext.DisconnectStatusCode, event.RequestContext.DisconnectReason = int64(s.end.code), &s.end.reason
	event.MultiValueHeaders = map[string][]string{"Host": {s.handshaken.DomainName}, "x-api-key": {""}, "X-Forwarded-For": {""}, "x-restapi": {""}}
	event.Headers = map[string]string{"Host": s.handshaken.DomainName, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
	if _, err := s.call(event); err != nil && s.gateway.calls.Err() == nil {
		s.gateway.log.Error("disconnect failed", "connection", s.id, "error", err)
	}
}
