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
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const (
	// MaxPayload is Lambda's limit for an event and for a response, in bytes.
	MaxPayload = 6 << 20
	// MaxResponseBytes is the maximum size of a function's response as JSON. The rest of
	// the payload is room for the names of fields.
	MaxResponseBytes = MaxPayload - 64<<10
)

// responseReserve is how long before the function's deadline a handler's context ends.
// The handler can then still respond.
const responseReserve = 250 * time.Millisecond

// HTTP returns the Lambda function that answers REST API (payload version 1)
// proxy events with h.
//
// The handler's request has:
//
//   - the path of the manifest, without stage or base path, built from the event's
//     resource and path parameters, which PathValue returns,
//   - the gateway's source address as RemoteAddr,
//   - the gateway's request id as X-Request-Id if the client sent none,
//   - the authorizer's principal, if an authorizer ran; access.PrincipalFrom returns it.
//     A client cannot set it.
//
// The response is 400 for any other event, 500 for a panic, and 500 for a response over
// MaxResponseBytes. The function's own error is always nil.
func HTTP(h http.Handler) func(context.Context, events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
	return func(ctx context.Context, event events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
		ctx, cancel := beforeDeadline(ctx, responseReserve)
		defer cancel()
		principal, known, err := parsePrincipal(event)
		if err != nil {
			slog.ErrorContext(ctx, "the authorizer's principal cannot be read", "request_id", requestID(event), "error", err)
			return problemResponse(event, http.StatusInternalServerError, "internal", "The service is not able to answer this request."), nil
		}
		if known {
			ctx = access.WithPrincipal(ctx, principal)
		}
		request, err := requestFrom(ctx, event)
		if err != nil {
			slog.WarnContext(ctx, "the event is not a REST API proxy event", "request_id", requestID(event), "error", err)
			return problemResponse(event, http.StatusBadRequest, "invalid_event", "The function was invoked with something else than a REST API proxy event: "+err.Error()+"."), nil
		}
		w := newRecorder()
		if !serve(w, h, request) {
			return problemResponse(event, http.StatusInternalServerError, "internal", "The service is not able to answer this request."), nil
		}
		response := w.response(request.Method)
		if size := responseSize(response); size > MaxResponseBytes {
			slog.ErrorContext(ctx, "the response is too large for Lambda",
				"request_id", requestID(event), "resource", event.Resource, "status", response.StatusCode, "bytes", size)
			return problemResponse(event, http.StatusInternalServerError, "answer_too_large",
				"The response exceeds the limit of 6 MB. Request fewer entries at a time."), nil
		}
		return response, nil
	}
}

// serve runs the handler. It returns false if the handler panicked.
func serve(w http.ResponseWriter, h http.Handler, r *http.Request) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			// The value may contain what a client sent, so only its type is logged.
			slog.ErrorContext(r.Context(), "the handler panicked",
				"request_id", r.Header.Get(manifest.RequestIDHeader), "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		}
	}()
	h.ServeHTTP(w, r)
	return true
}

// beforeDeadline returns a context that ends the given time before the deadline of
// ctx. It ends with ctx if ctx has no deadline or less than twice that time left.
func beforeDeadline(ctx context.Context, reserve time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || time.Until(deadline) <= 2*reserve {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-reserve))
}

// requestID returns the client's request id, or the gateway's if the client sent none.
func requestID(event events.APIGatewayProxyRequest) string {
	if id := headersOf(event.Headers, event.MultiValueHeaders).Get(manifest.RequestIDHeader); id != "" {
		return id
	}
	return event.RequestContext.RequestID
}

// problem is the RFC 9457 document of an error outside the handler.
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
	if err != nil { // cannot happen: strings and a number always marshal
		panic(err)
	}
	header := map[string][]string{
		"Content-Type":           {"application/problem+json"},
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if id := requestID(event); id != "" {
		header[manifest.RequestIDHeader] = []string{id}
	}
	if headersOf(event.Headers, event.MultiValueHeaders).Get("X-Forwarded-Proto") == "https" {
		header["Strict-Transport-Security"] = []string{httpapi.HTTPSOnly}
	}
	return events.APIGatewayProxyResponse{StatusCode: status, MultiValueHeaders: header, Body: string(body)}
}
