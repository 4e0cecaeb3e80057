// Package lambdaedge adapts Ocelot's handlers to AWS Lambda's events. It converts API
// Gateway proxy events to net/http and passes on the events of a WebSocket API, SQS
// messages and schedules. It answers authorizer events with IAM policies. It logs to
// slog.Default, which a main sets before it starts.
package lambdaedge

import (
	"context"
	"net/http"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/ocelot-audit/ocelot/pkg/access"
)

// StartHTTP serves API Gateway's events with h until the runtime ends the process.
func StartHTTP(h http.Handler) { lambda.Start(HTTP(h)) }

// StartQueue serves SQS batches with handle until the runtime ends the process.
func StartQueue(handle BatchHandler, source Source) {
	lambda.Start(Queue(handle, source))
}

// StartSchedule serves a schedule's events with run until the runtime ends the process.
func StartSchedule(run func(ctx context.Context) error) { lambda.Start(Schedule(run)) }

// StartConnect serves a WebSocket API's $connect events with h until the runtime ends the process.
func StartConnect(h http.Handler) { lambda.Start(Connect(h)) }

// StartMessage serves the message and $disconnect events of a WebSocket API with handle
// until the runtime ends the process.
func StartMessage(handle func(ctx context.Context, connection string, body []byte) error) {
	lambda.Start(Message(handle))
}

// StartAuthorizer serves API Gateway's authorizer events until the runtime ends the process.
func StartAuthorizer(authenticate func(ctx context.Context, authorization string) (access.Principal, error)) {
	lambda.Start(Authorizer(authenticate))
}
