package lambdaedge

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// scheduledEvent is the detail-type of the events of EventBridge Scheduler and of
// EventBridge's scheduled rules.
const scheduledEvent = "Scheduled Event"

// errNotScheduled means that something other than a schedule invoked the function.
var errNotScheduled = errors.New("the event is not from a schedule")

// Schedule returns the Lambda function that runs once for each event of
// EventBridge Scheduler. The context of run ends a little before the function's
// deadline, so that run can report its progress. The function logs and returns an error
// of run. A panic becomes an error.
func Schedule(run func(ctx context.Context) error) func(context.Context, events.EventBridgeEvent) error {
	return func(ctx context.Context, event events.EventBridgeEvent) error {
		if event.DetailType != scheduledEvent {
			return errNotScheduled
		}
		if deadline, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(startReserve, time.Until(deadline)/10)))
			defer cancel()
		}
		err := panics.Recovered(ctx, func() error { return run(ctx) })
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) { // canceled only if the local runner stops
			slog.ErrorContext(ctx, "scheduled run failed", "event_id", event.ID, "error", err)
		}
		return err
	}
}
