package localcloud

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/sqlite"
)

// queueFunction is a queue's function as Lambda calls it.
type queueFunction func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

// consumer plays the part of Lambda's poller: it receives batches from one
// queue, invokes the function with genuine SQS events and deletes what did not fail.
type consumer struct {
	trigger  manifest.QueueTrigger
	timeout  time.Duration
	queue    *sqlite.Queue
	function queueFunction
	log      *slog.Logger
}

const (
	// pollWait is how long one receive waits for messages, as SQS's long polling does.
	pollWait = 10 * time.Second
	// errorPause keeps a failing engine from being asked in a tight loop.
	errorPause = time.Second
	// longestRetry bounds how long a failed message waits before it comes again.
	longestRetry = time.Minute
)

// run receives until ctx ends. A batch that has begun is finished.
func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		messages, err := c.queue.Receive(ctx, c.trigger.BatchSize, pollWait)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.log.Error("receive failed", "queue", string(c.trigger.Queue), "error", err)
			pause(ctx, errorPause)
		case len(messages) > 0:
			if err := c.handle(context.WithoutCancel(ctx), messages); err != nil {
				c.log.Error("batch failed", "queue", string(c.trigger.Queue), "error", err)
				pause(ctx, errorPause)
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// handle invokes the function with one batch. A failed message comes again after
// a pause that grows with its receive count.
func (c *consumer) handle(ctx context.Context, messages []sqlite.Message) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	response, err := c.function(ctx, eventOf(c.trigger.Queue, messages))
	if err != nil {
		return fmt.Errorf("invoke the function of queue %s: %w", c.trigger.Queue, err)
	}
	failed := make(map[string]bool, len(response.BatchItemFailures))
	for _, f := range response.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	done := make([]string, 0, len(messages))
	for _, m := range messages {
		if !failed[m.ID] {
			done = append(done, m.Receipt)
			continue
		}
		wait := min(time.Second<<min(m.ReceiveCount, 10), longestRetry)
		if err := c.queue.ChangeVisibility(ctx, m.Receipt, wait); err != nil {
			return fmt.Errorf("release message %s: %w", m.ID, err)
		}
	}
	if len(done) == 0 {
		return nil
	}
	return c.queue.Delete(ctx, done)
}

// eventOf is the event that Lambda makes of a batch.
func eventOf(queue manifest.QueueName, messages []sqlite.Message) events.SQSEvent {
	event := events.SQSEvent{Records: make([]events.SQSMessage, len(messages))}
	for i, m := range messages {
		event.Records[i] = events.SQSMessage{
			MessageId: m.ID, ReceiptHandle: m.Receipt, Body: m.Body, EventSource: "aws:sqs", AWSRegion: "local",
			EventSourceARN: "arn:aws:sqs:local:000000000000:" + string(queue),
			Attributes: map[string]string{
				"ApproximateReceiveCount": strconv.Itoa(m.ReceiveCount), "SentTimestamp": strconv.FormatInt(m.SentAt.UnixMilli(), 10),
			},
		}
	}
	return event
}
