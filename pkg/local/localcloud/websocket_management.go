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

// managementAPI is the gateway's @connections API. Functions in other processes send to
// clients through it. It has its own server on loopback. The first segment of its path
// is random, so that only those who get its URL reach it. A request needs the form of a
// signature; the API does not verify the signature.
type managementAPI struct {
	gateway *socketGateway
	stage   string // the random segment
	url     string
	server  *http.Server
}

// serveManagementAPI serves the API until close.
func serveManagementAPI(g *socketGateway) (*managementAPI, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the @connections API: %w", err)
	}
	a := &managementAPI{gateway: g, stage: rand.Text()}
	a.url = "http://" + listener.Addr().String() + "/" + a.stage
	a.server = &http.Server{
		Handler: a, ReadHeaderTimeout: time.Minute, ReadTimeout: time.Minute, ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
	}
	go func() { _ = a.server.Serve(listener) }() // close ends it
	return a, nil
}

// close ends the API. The functions that used it have ended.
func (a *managementAPI) close() { _ = a.server.Close() }

// ServeHTTP answers as API Gateway does, see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html.
func (a *managementAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	connection, known := a.connection(r)
	authorization := r.Header.Get("Authorization")
	if !known || !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 ") || !strings.Contains(authorization, "/execute-api/aws4_request,") {
		writeManagementError(w, http.StatusForbidden, "ForbiddenException", "Forbidden")
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
		writeManagementError(w, http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token")
	}
}

// connection returns the id in the path /{stage}/@connections/{id}.
func (a *managementAPI) connection(r *http.Request) (id string, known bool) {
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

func (a *managementAPI) post(w http.ResponseWriter, r *http.Request, connection string) {
	text, err := io.ReadAll(io.LimitReader(r.Body, stream.MaxMessageSize+1))
	if err != nil {
		return // the function has died
	}
	if len(text) > stream.MaxMessageSize {
		writeManagementError(w, http.StatusRequestEntityTooLarge, "PayloadTooLargeException", "Message too long")
		return
	}
	switch err := a.gateway.deliver(connection, text); {
	case errors.Is(err, stream.ErrGone):
		writeGone(w)
	case err != nil:
		writeManagementError(w, http.StatusTooManyRequests, "LimitExceededException", "Too Many Requests")
	}
}

func (a *managementAPI) remove(w http.ResponseWriter, connection string) {
	s, known := a.gateway.socket(connection)
	if !known {
		writeGone(w)
		return
	}
	s.end(websocket.StatusNormalClosure, closedNormally, byGateway)
	w.WriteHeader(http.StatusNoContent)
}

func (a *managementAPI) describe(w http.ResponseWriter, connection string) {
	s, known := a.gateway.socket(connection)
	if !known {
		writeGone(w)
		return
	}
	type identity struct {
		SourceIP  string `json:"sourceIp"`
		UserAgent string `json:"userAgent"`
	}
	writeManagementResponse(w, http.StatusOK, struct {
		ConnectedAt  time.Time `json:"connectedAt"`
		Identity     identity  `json:"identity"`
		LastActiveAt time.Time `json:"lastActiveAt"`
	}{s.connectedAt.UTC().Truncate(time.Second), identity{s.handshaken.Identity.SourceIP, s.handshaken.Identity.UserAgent}, s.lastActive().UTC().Truncate(time.Second)})
}

func writeGone(w http.ResponseWriter) {
	writeManagementError(w, http.StatusGone, "GoneException", "Gone")
}

func writeManagementError(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	writeManagementResponse(w, status, map[string]string{"message": message})
}

func writeManagementResponse(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only if the function is gone
}
