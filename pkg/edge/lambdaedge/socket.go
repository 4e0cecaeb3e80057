package lambdaedge

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// The types of a WebSocket API's events.
const (
	SocketEventConnect    = "CONNECT"
	SocketEventMessage    = "MESSAGE"
	SocketEventDisconnect = "DISCONNECT"
)

// Connect returns the Lambda function that answers the $connect events of a
// WebSocket API with h: a status of 2xx makes the connection, another one refuses
// it.
//
// The handler sees a GET of manifest.StreamPath with the handshake's headers and
// query, everything else as HTTP has it, and the connection's id by
// stream.ConnectionFrom. No authorizer stands before it: nobody has verified who
// asks. Its answer is a text, whatever encodings the client accepts.
//
// What is no such event is answered with a 400, a panic with a 500; the
// function's own error is always nil.
func Connect(h http.Handler) func(context.Context, events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	return func(ctx context.Context, event events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
		ctx, cancel := beforeDeadline(ctx, answerReserve)
		defer cancel()
		request, err := handshakeFrom(ctx, event)
		if err != nil {
			slog.WarnContext(ctx, "the event is no $connect event", "request_id", event.RequestContext.RequestID, "error", err)
			return single(problemResponse(proxyEventOf(event), http.StatusBadRequest, "invalid_event", "The function was invoked with something else than a $connect event: "+err.Error()+".")), nil
		}
		w := newAnswer()
		if !serve(w, h, request) {
			return single(problemResponse(proxyEventOf(event), http.StatusInternalServerError, "internal", "The service is not able to answer this request.")), nil
		}
		return single(w.response(request.Method)), nil
	}
}

// handshakeFrom is the request of the event's client.
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
	request.Header.Del("Accept-Encoding") // a WebSocket API carries no bytes
	return request, nil
}

var errNoConnection = errors.New("connectionId is missing")

// proxyEventOf is the handshake as the event of a REST API.
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

// single is the response with its headers as a WebSocket API takes them.
func single(response events.APIGatewayProxyResponse) events.APIGatewayProxyResponse {
	response.Headers, response.MultiValueHeaders = lastOf(response.MultiValueHeaders), nil
	return response
}

// Message returns the Lambda function that hands the messages of a WebSocket
// API's clients to handle, and the ends of connections, $disconnect, with an
// empty body. Its context ends a little before the function's deadline.
//
// The function answers with status 200. Where handle fails or panics, that is
// logged by the connection's id and the route, never with the body, and answered
// with a 500, of which API Gateway tells the client nothing. An event that is of
// no connection, or whose body is not what it says, is answered with a 400.
func Message(handle func(ctx context.Context, connection string, body []byte) error) func(context.Context, events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
	return func(ctx context.Context, event events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
		ctx, cancel := beforeDeadline(ctx, answerReserve)
		defer cancel()
		log := slog.With("request_id", event.RequestContext.RequestID, "route", event.RequestContext.RouteKey, "connection", event.RequestContext.ConnectionID)
		body, err := messageOf(event)
		if err != nil {
			log.WarnContext(ctx, "the event is no message of a WebSocket API", "error", err)
			return events.APIGatewayProxyResponse{StatusCode: http.StatusBadRequest}, nil
		}
		if err := guarded(ctx, func() error { return handle(ctx, event.RequestContext.ConnectionID, body) }); err != nil {
			log.ErrorContext(ctx, "message failed", "error", err)
			return events.APIGatewayProxyResponse{StatusCode: http.StatusInternalServerError}, nil
		}
		return events.APIGatewayProxyResponse{StatusCode: http.StatusOK}, nil
	}
}

// messageOf is the event's message. Its error repeats nothing of it.
func messageOf(event events.APIGatewayWebsocketProxyRequest) ([]byte, error) {
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
