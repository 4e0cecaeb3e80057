package lambdaedge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
)

// MaxResponseBytes is the largest answer that a Lambda may return, as the JSON
// of its event: 6 MB, of which a little is left for status and headers.
const MaxResponseBytes = 6<<20 - 64<<10

// answerReserve is how long before the function's deadline a handler's context
// ends, so that the handler itself can still answer.
const answerReserve = 250 * time.Millisecond

const requestIDHeader = "X-Request-Id"

// HTTP returns the Lambda function that answers REST API (payload version 1)
// proxy events with h.
//
// The handler sees the path of the manifest, built from the event's resource and
// path parameters, whatever stage or base path stands before it; path parameters
// by PathValue; the gateway's source address as RemoteAddr; the gateway's request
// id as X-Request-Id where the client sent none; and, where an authorizer ran,
// its principal by access.PrincipalFrom. Nothing a client sends can become a principal.
//
// What is no such event is answered with a 400, a panic with a 500, an answer
// over MaxResponseBytes with a 500; the function's own error is always nil.
func HTTP(h http.Handler) func(context.Context, events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	return func(ctx context.Context, event events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
		ctx, cancel := beforeDeadline(ctx, answerReserve)
		defer cancel()
		principal, known, err := principalOf(event)
		if err != nil {
			slog.ErrorContext(ctx, "the authorizer's principal cannot be read", "request_id", requestID(event), "error", err)
			return problemResponse(event, http.StatusInternalServerError, "internal", "The service is not able to answer this request."), nil
		}
		if known {
			ctx = access.WithPrincipal(ctx, principal)
		}
		request, err := requestFrom(ctx, event)
		if err != nil {
			slog.WarnContext(ctx, "the event is no REST API proxy event", "request_id", requestID(event), "error", err)
			return problemResponse(event, http.StatusBadRequest, "invalid_event", "The function was invoked with something else than a REST API proxy event: "+err.Error()+"."), nil
		}
		w := newAnswer()
		if !serve(w, h, request) {
			return problemResponse(event, http.StatusInternalServerError, "internal", "The service is not able to answer this request."), nil
		}
		response := w.response(request.Method)
		if size := responseSize(response); size > MaxResponseBytes {
			slog.ErrorContext(ctx, "the answer is too large for Lambda",
				"request_id", requestID(event), "resource", event.Resource, "status", response.StatusCode, "bytes", size)
			return problemResponse(event, http.StatusInternalServerError, "answer_too_large",
				"The answer is larger than the 6 MB that the gateway carries; ask for fewer entries at a time."), nil
		}
		return response, nil
	}
}

// serve runs the handler; it reports false where the handler panicked.
func serve(w http.ResponseWriter, h http.Handler, r *http.Request) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			// The value may hold what a client sent, so only its type is logged.
			slog.ErrorContext(r.Context(), "the handler panicked",
				"request_id", r.Header.Get(requestIDHeader), "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		}
	}()
	h.ServeHTTP(w, r)
	return true
}

// beforeDeadline returns a context that ends the given time before ctx does,
// where ctx ends at all and not within that time.
func beforeDeadline(ctx context.Context, reserve time.Duration) (context.Context, context.CancelFunc) {
	deadline, has := ctx.Deadline()
	if !has || time.Until(deadline) <= 2*reserve {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-reserve))
}

// principalKey is where the authorizer's context carries the principal, as JSON text.
const principalKey = "principal"

// principalOf reads the principal that Authorizer put into the request's context.
func principalOf(event events.APIGatewayProxyRequest) (p access.Principal, known bool, err error) {
	value, has := event.RequestContext.Authorizer[principalKey]
	if !has {
		return access.Principal{}, false, nil
	}
	text, isText := value.(string)
	if !isText {
		return access.Principal{}, false, fmt.Errorf("it is a %T, not a text", value)
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return access.Principal{}, false, fmt.Errorf("it is no principal's JSON: %w", err)
	}
	if p.Subject == "" {
		return access.Principal{}, false, fmt.Errorf("it has no subject")
	}
	return p, true, nil
}

// requestID is the client's request id where it sent one, else the gateway's.
func requestID(event events.APIGatewayProxyRequest) string {
	if id := headersOf(event.Headers, event.MultiValueHeaders).Get(requestIDHeader); id != "" {
		return id
	}
	return event.RequestContext.RequestID
}

// problem is the RFC 9457 document of what goes wrong before or after the handler.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id,omitempty"`
}

func problemResponse(event events.APIGatewayProxyRequest, status int, code, detail string) events.APIGatewayProxyResponse {
	body, err := json.Marshal(problem{
		Type: "urn:ocelot:problem:" + code, Title: http.StatusText(status), Status: status, Detail: detail, RequestID: requestID(event),
	})
	if err != nil { // texts and a number always marshal
		panic(err)
	}
	header := map[string][]string{
		"Content-Type":           {"application/problem+json"},
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if id := requestID(event); id != "" {
		header[requestIDHeader] = []string{id}
	}
	return events.APIGatewayProxyResponse{StatusCode: status, MultiValueHeaders: header, Body: string(body)}
}
