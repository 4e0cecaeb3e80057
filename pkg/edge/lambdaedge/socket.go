package lambdaedge

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// The types of a WebSocket API's events.
const (
	SocketEventConnect    = "CONNECT"
	SocketEventMessage    = "MESSAGE"
	SocketEventDisconnect = "DISCONNECT"
)

// Connect returns the Lambda function that answers the $connect events of a
// WebSocket API with h. A 2xx status accepts the connection, any other rejects it.
//
// The handler's request is a GET of manifest.StreamPath with the handshake's headers and
// query. The rest is as for HTTP. stream.ConnectionFrom returns the connection's id. No
// authorizer runs before the handler, which must authenticate the client itself. The
// request has no Accept-Encoding, because a WebSocket API cannot return bytes.
//
// The response is 400 for any other event and 500 for a panic. The function's own error
// is always nil.
func Connect(h http.Handler) func(context.Context, events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	return func(ctx context.Context, event events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
		ctx, cancel := beforeDeadline(ctx, responseReserve)
		defer cancel()
		request, err := handshakeFrom(ctx, event)
		if err != nil {
			slog.WarnContext(ctx, "the event is not a $connect event", "request_id", event.RequestContext.RequestID, "error", err)
			return singleValued(problemResponse(proxyEventOf(event), http.StatusBadRequest, "invalid_event", "The function was invoked with something else than a $connect event: "+err.Error()+".")), nil
		}
		w := newRecorder()
		if !serve(w, h, request) {
			return singleValued(problemResponse(proxyEventOf(event), http.StatusInternalServerError, "internal", "The service is not able to answer this request.")), nil
		}
		return singleValued(w.response(request.Method)), nil
	}
}

// handshakeFrom returns the handshake's HTTP request.
func handshakeFrom(ctx context.Context, event events.APIGatewayWebsocketProxyRequest) (*http.Request, error) {
	switch {
	case event.RequestContext.EventType != SocketEventConnect:
		return nil, errors.New("eventType is not " + SocketEventConnect)
	case event.RequestContext.ConnectionID == "":
		return nil, errNoConnection
	}
	request, err := requestFrom(stream.WithConnection(ctx, event.RequestContext.ConnectionID), proxyEventOf(event))
	if err != nil {
		return nil, err
	}
	request.Header.Del("Accept-Encoding") // a WebSocket API cannot return bytes
	return request, nil
}

var errNoConnection = errors.New("connectionId is missing")

// proxyEventOf returns the handshake as the event of a REST API.
func proxyEventOf(event events.APIGatewayWebsocketProxyRequest) events.APIGatewayProxyRequest {
	return events.APIGatewayProxyRequest{
		Resource: manifest.BasePath + manifest.StreamPath, HTTPMethod: http.MethodGet,
		Headers: event.Headers, MultiValueHeaders: event.MultiValueHeaders,
		QueryStringParameters: event.QueryStringParameters, MultiValueQueryStringParameters: event.MultiValueQueryStringParameters,
		RequestContext: events.APIGatewayProxyRequestContext{
			RequestID: event.RequestContext.RequestID, DomainName: event.RequestContext.DomainName, Identity: event.RequestContext.Identity,
		},
	}
}

// singleValued returns the response with single-value headers, which a WebSocket API needs.
func singleValued(response events.APIGatewayProxyResponse) events.APIGatewayProxyResponse {
	response.Headers, response.MultiValueHeaders = lastValues(response.MultiValueHeaders), nil
	return response
}

// Message returns the Lambda function that passes the messages of a WebSocket API's
// clients to handle. It also passes the $disconnect events, which have an empty body.
// The context of handle ends a little before the function's deadline.
//
// The response has status 200. If handle fails or panics, the status is 500, which API
// Gateway does not report to the client. The failure is logged with the connection's id
// and the route, never with the body. The status is 400 if the event has no connection
// or a malformed body.
func Message(handle func(ctx context.Context, connection string, body []byte) error) func(context.Context, events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	return func(ctx context.Context, event events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
		ctx, cancel := beforeDeadline(ctx, responseReserve)
		defer cancel()
		log := slog.With("request_id", event.RequestContext.RequestID, "route", event.RequestContext.RouteKey, "connection", event.RequestContext.ConnectionID)
		body, err := messageBody(event)
		if err != nil {
			log.WarnContext(ctx, "the event is not a message of a WebSocket API", "error", err)
			return events.APIGatewayProxyResponse{StatusCode: http.StatusBadRequest}, nil
		}
		if err := panics.Recovered(ctx, func() error { return handle(ctx, event.RequestContext.ConnectionID, body) }); err != nil {
			log.ErrorContext(ctx, "message failed", "error", err)
			return events.APIGatewayProxyResponse{StatusCode: http.StatusInternalServerError}, nil
		}
		return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
	}
}

// messageBody returns the event's decoded body. Its error repeats none of the content.
func messageBody(event events.APIGatewayWebsocketProxyRequest) ([]byte, error) {
	switch event.RequestContext.EventType {
	case SocketEventMessage, SocketEventDisconnect:
	default:
		return nil, errors.New("eventType is neither " + SocketEventMessage + " nor " + SocketEventDisconnect)
	}
	if event.RequestContext.ConnectionID == "" {
		return nil, errNoConnection
	}
	if !event.IsBase64Encoded {
		return []byte(event.Body), nil
	}
	body, err := base64.StdEncoding.DecodeString(event.Body)
	if err != nil {
		return nil, errors.New("body is not base64 although isBase64Encoded says so")
	}
	return body, nil
}
