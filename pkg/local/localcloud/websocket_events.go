package localcloud

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// socketRequest is an event of the WebSocket API.
type socketRequest = events.APIGatewayWebsocketProxyRequest

// socketFunction is a function of the WebSocket API as Lambda calls it.
type socketFunction func(context.Context, socketRequest) (events.APIGatewayProxyResponse, error)

// newSocketID returns an id of API Gateway's form, with "=" at the end.
func newSocketID() string {
	id := make([]byte, 11)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	return base64.URLEncoding.EncodeToString(id)
}

// invoke runs the function of the event's route.
func (s *socket) invoke(event socketRequest) (events.APIGatewayProxyResponse, error) {
	ctx, cancel := context.WithTimeout(s.gateway.invocations, integrationTimeout)
	defer cancel()
	response, err := s.functions[event.RequestContext.RouteKey](ctx, event)
	if err == nil && response.StatusCode == 0 {
		err = errors.New("the function's answer has no status")
	}
	return response, err
}

// event returns an event of the connection with the members that API Gateway sets in each.
func (s *socket) event(key, kind string) socketRequest {
	now, id := time.Now().UTC(), newSocketID()
	return socketRequest{RequestContext: events.APIGatewayWebsocketProxyRequestContext{
		RouteKey: key, EventType: kind, MessageDirection: "IN",
		RequestID: id, ExtendedRequestID: id, RequestTime: now.Format(requestTimeFormat), RequestTimeEpoch: now.UnixMilli(),
		ConnectionID: s.id, ConnectedAt: s.connectedAt.UnixMilli(),
		Identity: s.handshaken.Identity, DomainName: s.handshaken.DomainName, Stage: s.handshaken.Stage, APIID: apiID,
	}}
}

// disconnect invokes the function of $disconnect. The connection may have ended
// long before: the messages that came first are handled first.
func (s *socket) disconnect() {
	if s.functions[manifest.SocketDisconnect] == nil {
		return
	}
	event := s.event(manifest.SocketDisconnect, lambdaedge.SocketEventDisconnect)
	event.RequestContext.DisconnectStatusCode, event.RequestContext.DisconnectReason = int64(s.ending.code), &s.ending.reason
	event.MultiValueHeaders = map[string][]string{"Host": {s.handshaken.DomainName}, "x-api-key": {""}, "X-Forwarded-For": {""}, "x-restapi": {""}}
	event.Headers = map[string]string{"Host": s.handshaken.DomainName, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
	if _, err := s.invoke(event); err != nil && s.gateway.invocations.Err() == nil {
		s.gateway.log.Error("disconnect failed", "connection", s.id, "error", err)
	}
}
