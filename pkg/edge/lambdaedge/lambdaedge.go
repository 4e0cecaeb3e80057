// Package lambdaedge stands between AWS Lambda's events and Ocelot's handlers:
// API Gateway proxy events and net/http, the events of a WebSocket API, SQS
// batches and functions of one message, schedules, authorizer requests and IAM
// policies. It logs to slog.Default, which a main sets before it starts.
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

// StartMessage serves the messages and ends of a WebSocket API's connections with handle until the runtime ends the process.
func StartMessage(handle func(ctx context.Context, connection string, body []byte) error) {
	lambda.Start(Message(handle))
}

// StartAuthorizer serves API Gateway's authorizer requests until the runtime ends the process.
func StartAuthorizer(authenticate func(ctx context.Context, authorization string) (access.Principal, error)) {
	lambda.Start(Authorizer(authenticate))
}
