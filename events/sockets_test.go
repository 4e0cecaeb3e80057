package events_test

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// sockets keeps the types of what is sent to clients.
type sockets struct {
	mu   sync.Mutex
	sent []string
}

func (s *sockets) Send(_ context.Context, _ string, text []byte) error {
	var frame struct{ Type string }
	err := json.Unmarshal(text, &frame)
	s.keep(frame.Type)
	return err
}

func (s *sockets) Cut(context.Context, string) error {
	s.keep("cut")
	return nil
}

func (s *sockets) keep(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, what)
}

// socketEvent is what API Gateway sends of a connection.
func socketEvent(kind, key, connection string) events.APIGatewayWebsocketProxyRequest {
	return events.APIGatewayWebsocketProxyRequest{RequestContext: events.APIGatewayWebsocketProxyRequestContext{
		RouteKey: key, EventType: kind, ExtendedRequestID: "JaWwFHgGoAMFhzg=", RequestTime: sampleTime.Format("02/Jan/2006:15:04:05 -0700"),
		RequestTimeEpoch: sampleTime.UnixMilli(), ConnectedAt: sampleTime.UnixMilli(), MessageDirection: "IN", Stage: "live", RequestID: "JaWwFHgGoAMFhzg=",
		DomainName: apiID + ".execute-api." + region + ".amazonaws.com", ConnectionID: connection, APIID: apiID,
		Identity: events.APIGatewayRequestIdentity{SourceIP: "203.0.113.7", UserAgent: "tail/1.0"},
	}}
}

// connectEvent is a client's request to connect.
func connectEvent(headers map[string]string) events.APIGatewayWebsocketProxyRequest {
	event := socketEvent(lambdaedge.SocketEventConnect, manifest.SocketConnect, "LcYyGgJzKCOEHBC=")
	event.Headers, event.MultiValueHeaders = map[string]string{}, map[string][]string{}
	for name, value := range map[string]string{
		"Host": event.RequestContext.DomainName, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
		"User-Agent": "tail/1.0", "X-Tenant-ID": string(acme),
	} {
		event.Headers[name] = value
	}
	for name, value := range headers {
		event.Headers[name] = value
	}
	for name, value := range event.Headers {
		event.MultiValueHeaders[name] = []string{value}
	}
	return event
}

// messageEvent is a client's message.
func messageEvent(key, connection, body string) events.APIGatewayWebsocketProxyRequest {
	event := socketEvent(lambdaedge.SocketEventMessage, key, connection)
	event.Body, event.RequestContext.MessageID = body, "JaWwGdHwoAMCFZA="
	return event
}

// disconnectEvent is the end of a connection.
func disconnectEvent(connection string) events.APIGatewayWebsocketProxyRequest {
	event := socketEvent(lambdaedge.SocketEventDisconnect, manifest.SocketDisconnect, connection)
	event.RequestContext.DisconnectStatusCode, event.RequestContext.DisconnectReason = 1000, new("bye")
	return event
}

// socketSamples are the samples of the WebSocket API's functions.
func socketSamples() []sample {
	const ok = 200
	sent := func(types ...string) want { return want{Status: ok, Sent: types} }
	return []sample{
		{"connect-stream", "connected", connectEvent(map[string]string{"Authorization": "ApiKey " + keySecret}), want{Status: ok}},
		{"connect-stream", "no-credential", connectEvent(nil), want{Status: 401}},
		{"disconnect-stream", "ended", disconnectEvent(subscribed), want{Status: ok}},
		{"disconnect-stream", "no-connection", disconnectEvent(""), want{Status: 400}},
		{"ping-stream", "pong", messageEvent("ping", subscribed, `{"action":"ping"}`), sent("pong")},
		{"ping-stream", "connection-is-over", messageEvent("ping", "over", `{"action":"ping"}`), sent("error", "cut")},
		{"refuse-message", "unknown-action", messageEvent(manifest.SocketDefault, connected, `{"action":"dance"}`), sent("error")},
		{"refuse-message", "not-json", messageEvent(manifest.SocketDefault, connected, "hello"), sent("error")},
		{"subscribe-stream", "subscribed", messageEvent("subscribe", connected, `{"action":"subscribe","filter":{"severity":["WARNING","ERROR"],"q":"paid"}}`), sent()}, // stream-logs answers
		{"subscribe-stream", "unknown-filter", messageEvent("subscribe", connected, `{"action":"subscribe","filter":{"color":"red"}}`), sent("error")},
		{"unsubscribe-stream", "unsubscribed", messageEvent("unsubscribe", subscribed, `{"action":"unsubscribe"}`), sent()},
		{"unsubscribe-stream", "connection-is-over", messageEvent("unsubscribe", "over", `{"action":"unsubscribe"}`), sent("error", "cut")},
	}
}
