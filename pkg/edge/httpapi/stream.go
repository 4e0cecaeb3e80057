package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// ticketParam is the query parameter of a browser's ticket: a browser cannot set
// headers when it connects.
const ticketParam = "ticket"

// streamNeedsWebSocket is the answer to a request to the stream's path that is no handshake.
const streamNeedsWebSocket = "This is the address of the live stream, which needs a WebSocket client. Connect with ocelot tail, or see " + manifest.BasePath + "/docs."

// connectRoute is the route by which the gate checks $connect.
var connectRoute = manifest.Route{
	Method: http.MethodGet, Path: manifest.StreamPath, Permission: access.LogsStream, TenantFrom: manifest.TenantFromHeader,
	Query: []string{ticketParam},
}

// ConnectStream answers whether a client may connect for the live stream: with
// the headers of any request, or with a ticket in the query string. A status other
// than 200 refuses the connection, whose id is stream.ConnectionFrom of the
// request's context.
func ConnectStream(gate *Gate, s *stream.Service) http.Handler {
	admitted := &endpoint{
		gate: gate, route: connectRoute,
		handle: func(req *request) (*response, error) {
			id, known := stream.ConnectionFrom(req.Context())
			if !known {
				return nil, errors.New("the request has no connection id")
			}
			if err := s.Connect(req.Context(), id, req.principal, req.tenant.ID); err != nil {
				return nil, err
			}
			return &response{status: http.StatusOK}, nil
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		redeemed, err := redeemTicket(s, r)
		if err != nil {
			err = explain(err, audit.ErrUnauthenticated, ProblemUnauthenticated, "The ticket is not valid, or is older than a minute.")
			gate.noteRefusal(&request{Request: r}, connectRoute, err)
			Refuse(gate, connectRoute, err).ServeHTTP(w, r)
			return
		}
		admitted.ServeHTTP(w, redeemed)
	})
}

// redeemTicket replaces the request's credential and tenant by those of its ticket.
// It returns the request unchanged if it does not have exactly one ticket.
func redeemTicket(s *stream.Service, r *http.Request) (*http.Request, error) {
	tickets := r.URL.Query()[ticketParam]
	if len(tickets) != 1 {
		return r, nil // the gate refuses more than one
	}
	principal, tenant, err := s.Redeem(tickets[0])
	if err != nil {
		return nil, err
	}
	request := r.Clone(access.WithPrincipal(r.Context(), principal))
	request.Header[tenantHeaderName] = []string{string(tenant)}
	return request, nil
}

// StreamURL is the public address of the WebSocket API, such as wss://host/stage.
// If it is "", clients connect to manifest.StreamPath on the host of their request.
type StreamURL string

// CreateStreamTicket answers POST /logs/stream/tickets with a ticket and the
// address to connect to with it.
func CreateStreamTicket(gate *Gate, s *stream.Service, base StreamURL) http.Handler {
	return gate.endpoint("create-stream-ticket", func(req *request) (*response, error) {
		text, until, err := s.Ticket(req.principal, req.tenant.ID)
		if err != nil {
			return nil, err
		}
		address := string(base)
		if address == "" {
			address = (&url.URL{Scheme: "ws", Host: req.Host, Path: manifest.BasePath + manifest.StreamPath}).String()
		}
		w := writer{b: make([]byte, 0, 512)}
		w.open('{')
		w.text("ticket", text)
		w.time("expires_at", until)
		w.text("url", address+"?"+url.Values{ticketParam: {text}}.Encode())
		w.close('}')
		return jsonResponse(http.StatusCreated, &w), nil
	})
}

// A Message handles what a client sent over a connection, or the connection's end.
// Its error reports a failure of the service, which the client has received as well.
type Message func(ctx context.Context, connection string, body []byte) error

// DisconnectStream handles the end of a connection.
func DisconnectStream(gate *Gate, s *stream.Service) Message { return message(gate, s, s.Disconnect) }

// SubscribeStream handles subscribe.
func SubscribeStream(gate *Gate, s *stream.Service) Message { return message(gate, s, s.Subscribe) }

// UnsubscribeStream handles unsubscribe.
func UnsubscribeStream(gate *Gate, s *stream.Service) Message {
	return message(gate, s, s.Unsubscribe)
}

// PingStream handles ping.
func PingStream(gate *Gate, s *stream.Service) Message { return message(gate, s, s.Ping) }

// RefuseMessage handles a message that the protocol does not define.
func RefuseMessage(gate *Gate, s *stream.Service) Message { return message(gate, s, s.Refuse) }

// StreamProblem returns what makes the problem document that tells a client why its
// connection ends.
func StreamProblem(newRequestID func() string) func(reason error) []byte {
	return func(reason error) []byte { return streamProblem(reason).document(newRequestID()) }
}

func streamProblem(err error) *problem {
	if isNotFound(err) { // the connection's record has gone, or its time is over
		return ProblemUnauthenticated.problem("The connection has expired. Connect again.")
	}
	return problemOf(err, access.LogsStream)
}

// message sends the client an error's problem document as an error frame. It also closes a
// connection that the client must not use any longer.
func message(gate *Gate, s *stream.Service, handle Message) Message {
	return func(ctx context.Context, connection string, body []byte) error {
		err := handle(ctx, connection, body)
		if err == nil {
			return nil
		}
		p, ends := streamProblem(err), isNotFound(err) || stream.EndsConnection(err)
		id := gate.NewRequestID()
		gate.Log.LogAttrs(ctx, slog.LevelInfo, "message refused", slog.String("code", p.kind.Code), slog.String("request_id", id))
		answer := s.Fail
		if ends {
			answer = s.End
		}
		return errors.Join(p.serverError(err), answer(ctx, connection, p.document(id)))
	}
}

// serverError returns the error if the service caused it, and nil if the client did.
func (p *problem) serverError(err error) error {
	if p.kind.Status < http.StatusInternalServerError {
		return nil
	}
	return err
}

// document is the problem document's text.
func (p *problem) document(requestID string) []byte {
	var w writer
	p.append(&w, requestID)
	return w.b
}
