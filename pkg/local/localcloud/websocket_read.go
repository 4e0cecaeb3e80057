package localcloud

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// read passes the client's messages on until the connection ends.
func (s *socket) read(messages chan<- string, network *frameMeter) {
	defer close(messages)
	for number := int64(1); ; number++ {
		text, ending := s.readMessage(network, number)
		if ending != nil {
			s.end(ending.code, ending.reason, ending.by)
			return
		}
		s.markActive()
		select {
		case messages <- text:
		case <-s.ended:
			return
		}
	}
}

// readMessage reads the client's message with the number, counted from 1. If the
// connection cannot go on, ending says why.
func (s *socket) readMessage(network *frameMeter, number int64) (text string, ending *socketEnding) {
	kind, message, err := s.conn.Read(context.Background())
	var closed websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return "", &socketEnding{code: closed.Code, reason: closed.Reason, by: byClient}
	case errors.Is(err, websocket.ErrMessageTooBig), err == nil && network.tooLong.Load() == number:
		return "", &socketEnding{code: websocket.StatusMessageTooBig, by: byGateway}
	case err != nil:
		return "", &socketEnding{code: websocket.StatusAbnormalClosure, by: byClient}
	case kind != websocket.MessageText:
		return "", &socketEnding{code: websocket.StatusUnsupportedData, by: byGateway}
	case !utf8.Valid(message):
		return "", &socketEnding{code: websocket.StatusInvalidFramePayloadData, by: byGateway}
	}
	return string(message), nil
}

// handle invokes the function that the message's route names.
func (s *socket) handle(text string) {
	key := s.routeKey(text)
	event := s.event(key, lambdaedge.SocketEventMessage)
	event.Body, event.RequestContext.MessageID = text, newSocketID()
	if s.functions[key] == nil {
		s.sendError("Forbidden", event.RequestContext.RequestID)
		return
	}
	if _, err := s.invoke(event); err != nil {
		s.gateway.log.Error("message failed", "route", key, "connection", s.id, "request_id", event.RequestContext.RequestID, "error", err)
		s.sendError("Internal server error", event.RequestContext.RequestID)
	}
}

// routeKey evaluates API Gateway's route selection expression,
// $request.body.action. A client cannot select the predefined routes ($connect …).
func (s *socket) routeKey(text string) string {
	var body map[string]json.RawMessage
	var action string
	if json.Unmarshal([]byte(text), &body) != nil || json.Unmarshal(body["action"], &action) != nil ||
		strings.HasPrefix(action, "$") || s.functions[action] == nil {
		return manifest.SocketDefault
	}
	return action
}

// sendError sends the message that API Gateway itself sends for a failure.
func (s *socket) sendError(message, requestID string) {
	text, err := json.Marshal(struct {
		Message      string `json:"message"`
		ConnectionID string `json:"connectionId"`
		RequestID    string `json:"requestId"`
	}{message, s.id, requestID})
	if err != nil { // strings always marshal
		panic(err)
	}
	_ = s.send(text) // best effort: the client may be gone or slow
}
