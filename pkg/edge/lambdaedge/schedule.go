package lambdaedge

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// scheduledEvent is the detail-type of what EventBridge Scheduler and
// EventBridge's scheduled rules send.
const scheduledEvent = "Scheduled Event"

// errNoSchedule fails an invocation that something else than a schedule made.
var errNoSchedule = errors.New("the event is not of a schedule")

// Schedule returns the Lambda function that runs once for each event of
// EventBridge Scheduler. The context of run ends a little before the function's
// deadline, so that it can tell how far it came. An error is logged and fails the
// invocation, as does a panic.
func Schedule(run func(ctx context.Context) error) func(context.Context, events.EventBridgeEvent) error {
	return func(ctx context.Context, event events.EventBridgeEvent) error {
		if event.DetailType != scheduledEvent {
			return errNoSchedule
		}
		if deadline, has := ctx.Deadline(); has {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(startReserve, time.Until(deadline)/10)))
			defer cancel()
		}
		err := guarded(ctx, func() error { return run(ctx) })
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) { // which only happens on a laptop, at its end
			slog.ErrorContext(ctx, "scheduled run failed", "event_id", event.ID, "error", err)
		}
		return err
	}
}
