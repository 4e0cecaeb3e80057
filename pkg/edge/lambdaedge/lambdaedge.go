// Package lambdaedge adapts Ocelot's handlers to AWS Lambda's events. It converts API
// Gateway proxy events to net/http and passes on the events of a WebSocket API, SQS
// messages, schedules and rotations of secrets. It answers authorizer events with IAM policies. It logs to
// slog.Default, which a main sets before it starts.
package lambdaedge

import (
	"context"
	"net/http"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/ocelot-audit/ocelot/pkg/rotation"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// traced returns the function with the trace of its invocation in its context.
func traced[E, A any](function func(context.Context, E) (A, error)) func(context.Context, E) (A, error) {
	return func(ctx context.Context, event E) (A, error) { return function(withTrace(ctx), event) }
}

// invocationTrace is the key under which aws-lambda-go has the invocation's trace in the context,
// in the form of trace.Header.
const invocationTrace = "x-amzn-trace-id"

func withTrace(ctx context.Context) context.Context {
	header, _ := ctx.Value(invocationTrace).(string)
	if t, ok := trace.ParseHeader(header); ok {
		return trace.With(ctx, t)
	}
	return ctx
}

// StartHTTP serves API Gateway's events with h until the runtime ends the process.
func StartHTTP(h http.Handler) { lambda.Start(traced(HTTP(h))) }

// StartQueue serves SQS batches with handle until the runtime ends the process.
func StartQueue(handle BatchHandler, source Source) {
	lambda.Start(traced(Queue(handle, source)))
}

// StartSchedule serves a schedule's events with run until the runtime ends the process.
func StartSchedule(run func(ctx context.Context) error) {
	lambda.Start(Schedule(func(ctx context.Context) error { return run(withTrace(ctx)) }))
}

// StartConnect serves a WebSocket API's $connect events with h until the runtime ends the process.
func StartConnect(h http.Handler) { lambda.Start(traced(Connect(h))) }

// StartMessage serves the message and $disconnect events of a WebSocket API with handle
// until the runtime ends the process.
func StartMessage(handle func(ctx context.Context, connection string, body []byte) error) {
	lambda.Start(traced(Message(handle)))
}

// StartAuthorizer serves API Gateway's authorizer events until the runtime ends the process.
func StartAuthorizer(c Callers) { lambda.Start(traced(Authorizer(c))) }

// StartRotation serves Secrets Manager's events with rotate until the runtime ends the process.
func StartRotation(rotate RotateFunc) {
	lambda.Start(Rotation(func(ctx context.Context, r rotation.Request) error { return rotate(withTrace(ctx), r) }))
}
