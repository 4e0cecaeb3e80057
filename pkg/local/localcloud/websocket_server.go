package localcloud

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// socketServer answers the handshakes of the WebSocket API.
type socketServer struct {
	gateway   *socketGateway
	gate      *httpapi.Gate             // for the answers that API Gateway makes itself
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

// isUpgrade reports whether a request asks for a WebSocket.
func isUpgrade(r *http.Request) bool {
	return slices.ContainsFunc(r.Header.Values("Upgrade"), func(v string) bool { return strings.EqualFold(v, "websocket") })
}

// ServeHTTP connects the client if the function of $connect admits it. It
// returns when the connection has ended.
func (srv *socketServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(srv.functions) == 0 {
		httpapi.NotFound(srv.gate).ServeHTTP(w, r)
		return
	}
	if !srv.gateway.beginHandshake() {
		srv.refuse(w, r, &audit.UnavailableError{RetryAfter: time.Second, Err: errors.New("the gateway is closing")})
		return
	}
	defer srv.gateway.running.Done()
	s, event, err := srv.handshake(r)
	if err != nil {
		srv.refuse(w, r, err)
		return
	}
	admitted, err := s.connect(w, event)
	switch {
	case err != nil:
		srv.refuse(w, r, invocationError(err))
	case admitted:
		s.serve(w, r)
	}
}

func (srv *socketServer) refuse(w http.ResponseWriter, r *http.Request, err error) {
	httpapi.Refuse(srv.gate, manifest.Route{Method: http.MethodGet, Path: manifest.StreamPath}, err).ServeHTTP(w, r)
}

// handshake returns the connection that the request asks for, and its $connect event.
func (srv *socketServer) handshake(r *http.Request) (*socket, socketRequest, error) {
	if !validHandshake(r) {
		return nil, socketRequest{}, httpapi.Malformed("The request is not a handshake of WebSocket's version 13.")
	}
	event, err := lambdaedge.EventFromRequest(r, manifest.BasePath+manifest.StreamPath, nil)
	if err != nil { // a handshake has no body, so only the query can be wrong
		return nil, socketRequest{}, httpapi.Malformed("The query string is not percent-encoded form data.")
	}
	s := newSocket(srv, event.RequestContext)
	return s, s.connectEvent(event), nil
}

// validHandshake reports whether websocket.Accept will accept the request. That
// has to be known before the function of $connect admits the client.
func validHandshake(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	return err == nil && len(key) == 16 && r.Header.Get("Sec-Websocket-Version") == "13" && r.ProtoAtLeast(1, 1) &&
		strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Connection"), ",")), "upgrade")
}

// connect invokes the function of $connect. If that refuses the client, connect
// writes its response and returns false.
func (s *socket) connect(w http.ResponseWriter, event socketRequest) (admitted bool, err error) {
	if s.functions[manifest.SocketConnect] == nil {
		return true, nil
	}
	response, err := s.invoke(event)
	if err != nil {
		return false, err
	}
	if response.StatusCode/100 == 2 {
		return true, nil
	}
	return false, lambdaedge.WriteResponse(w, response)
}

// connectEvent is the $connect event of a handshake: it carries the request's
// headers and query, without the headers of this hop.
func (s *socket) connectEvent(handshake events.APIGatewayProxyRequest) socketRequest {
	connect := s.event(manifest.SocketConnect, lambdaedge.SocketEventConnect)
	for _, hop := range []string{"Connection", "Upgrade"} {
		delete(handshake.Headers, hop)
		delete(handshake.MultiValueHeaders, hop)
	}
	connect.Headers, connect.MultiValueHeaders = handshake.Headers, handshake.MultiValueHeaders
	connect.QueryStringParameters, connect.MultiValueQueryStringParameters = handshake.QueryStringParameters, handshake.MultiValueQueryStringParameters
	return connect
}
