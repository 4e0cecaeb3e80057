package localcloud

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// connectionsAPI is the gateway's @connections API, by which functions in
// processes of their own send to clients. It has a server of its own on loopback,
// and whoever does not know its address learns nothing of it: the first segment of
// its path is random. Requests have to be signed, but by nobody in particular.
type connectionsAPI struct {
	gateway *socketGateway
	stage   string // the random segment
	url     string
	server  *http.Server
}

// serveConnections serves the API until close.
func serveConnections(g *socketGateway) (*connectionsAPI, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for what functions send: %w", err)
	}
	a := &connectionsAPI{gateway: g, stage: rand.Text()}
	a.url = "http://" + listener.Addr().String() + "/" + a.stage
	a.server = &http.Server{
		Handler: a, ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
	}
	go func() { _ = a.server.Serve(listener) }() // it ends with close
	return a, nil
}

func (a *connectionsAPI) close() { _ = a.server.Close() } // nobody is left who would send

// ServeHTTP answers as API Gateway does, see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html.
func (a *connectionsAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	connection, known := a.connection(r)
	authorization := r.Header.Get("Authorization")
	if !known || !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 ") || !strings.Contains(authorization, "/execute-api/aws4_request,") {
		failConnection(w, http.StatusForbidden, "ForbiddenException", "Forbidden")
		return
	}
	switch r.Method {
	case http.MethodPost:
		a.post(w, r, connection)
	case http.MethodDelete:
		a.remove(w, connection)
	case http.MethodGet:
		a.describe(w, connection)
	default:
		failConnection(w, http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token")
	}
}

// connection is the id that the path /{stage}/@connections/{id} names.
func (a *connectionsAPI) connection(r *http.Request) (id string, known bool) {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, segment := range segments {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			return "", false
		}
		segments[i] = decoded
	}
	if len(segments) != 4 || segments[1] != a.stage || segments[2] != "@connections" {
		return "", false
	}
	return segments[3], true
}

func (a *connectionsAPI) post(w http.ResponseWriter, r *http.Request, connection string) {
	text, err := io.ReadAll(io.LimitReader(r.Body, stream.MaxMessageSize+1))
	if err != nil {
		return // the function has died
	}
	if len(text) > stream.MaxMessageSize {
		failConnection(w, http.StatusRequestEntityTooLarge, "PayloadTooLargeException", "Message too long")
		return
	}
	switch err := a.gateway.deliver(connection, text); {
	case errors.Is(err, stream.ErrGone):
		gone(w)
	case err != nil:
		failConnection(w, http.StatusTooManyRequests, "LimitExceededException", "Too Many Requests")
	}
}

func (a *connectionsAPI) remove(w http.ResponseWriter, connection string) {
	s, known := a.gateway.socket(connection)
	if !known {
		gone(w)
		return
	}
	s.finish(websocket.StatusNormalClosure, closedNormally, byGateway)
	w.WriteHeader(http.StatusNoContent)
}

func (a *connectionsAPI) describe(w http.ResponseWriter, connection string) {
	s, known := a.gateway.socket(connection)
	if !known {
		gone(w)
		return
	}
	type identity struct {
		SourceIP  string `json:"sourceIp"`
		UserAgent string `json:"userAgent"`
	}
	answerConnection(w, http.StatusOK, struct {
		ConnectedAt  time.Time `json:"connectedAt"`
		Identity     identity  `json:"identity"`
		LastActiveAt time.Time `json:"lastActiveAt"`
	}{s.connectedAt.UTC().Truncate(time.Second), identity{s.handshaken.Identity.SourceIP, s.handshaken.Identity.UserAgent}, s.lastActive().UTC().Truncate(time.Second)})
}

func gone(w http.ResponseWriter) { failConnection(w, http.StatusGone, "GoneException", "Gone") }

func failConnection(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	answerConnection(w, status, map[string]string{"message": message})
}

func answerConnection(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a function that does not read it is not helped by an error
}
