package localcloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// consumer stands in for Lambda's poller. It receives batches from one queue, invokes the
// function with real SQS events, and deletes the messages that did not fail.
type consumer struct {
	trigger  manifest.QueueTrigger
	timeout  time.Duration
	queue    queue
	source   string // the queue's name, as in its ARN
	function queueFunction
	log      *slog.Logger
	// batchSize is the most messages of a batch.
	batchSize int
	// receiving is locked by the poller that receives.
	receiving sync.Mutex
	// slots has room for an element for each batch that is handled; nil: run handles one at a time.
	slots chan struct{}
}

const (
	// pollWait is how long one receive waits for messages, as with SQS's long polling.
	pollWait = 10 * time.Second
	// errorPause is the pause after an error of the engine.
	errorPause = time.Second
)

// run receives until ctx ends. It handles together what is visible then. Lambda would also wait for
// the trigger's window. On a laptop, entries should be found soon. run finishes the batches that
// it has started.
func (c *consumer) run(ctx context.Context) {
	var handling sync.WaitGroup
	defer handling.Wait()
	var done []string // receipts of messages that are to be deleted
	for ctx.Err() == nil {
		messages, err := c.receive(ctx, done)
		if err != nil {
			if ctx.Err() == nil {
				c.log.Error("receive failed", "queue", string(c.trigger.Queue), "error", err)
				pause(ctx, errorPause)
			}
			continue // deleting a message again does nothing
		}
		done = nil
		switch {
		case len(messages) == 0:
		case c.slots == nil:
			done = c.finish(ctx, messages)
		default:
			c.slots <- struct{}{}
			handling.Go(func() {
				defer func() { <-c.slots }()
				c.delete(ctx, c.finish(ctx, messages))
			})
		}
	}
	c.delete(ctx, done)
}

// receive deletes what is done and receives the next batch. One poller of a queue receives at a
// time. Otherwise each would get a few of the messages that could be handled together.
func (c *consumer) receive(ctx context.Context, done []string) ([]sqlite.Message, error) {
	if !c.receiving.TryLock() {
		c.delete(ctx, done) // the other poller may wait for long
		done = nil
		c.receiving.Lock()
	}
	defer c.receiving.Unlock()
	return c.queue.DeleteAndReceive(ctx, done, c.batchSize, pollWait)
}

// delete deletes messages at once, also after ctx has ended.
func (c *consumer) delete(ctx context.Context, done []string) {
	if len(done) == 0 {
		return
	}
	if err := c.queue.Delete(context.WithoutCancel(ctx), done); err != nil {
		c.log.Error("delete failed", "queue", string(c.trigger.Queue), "error", err)
	}
}

// finish handles a batch, also after ctx has ended. It returns the receipts of the messages that
// are done.
func (c *consumer) finish(ctx context.Context, messages []sqlite.Message) (done []string) {
	done, err := c.handle(context.WithoutCancel(ctx), messages)
	if err != nil {
		c.log.Error("batch failed", "queue", string(c.trigger.Queue), "error", err)
		pause(ctx, errorPause)
	}
	return done
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// handle invokes the function with one batch. It returns the receipts of the messages that did
// not fail. The function itself delays a failed message. If the invocation fails, handle delays
// all messages by the same rule. On AWS they would return after the visibility timeout.
func (c *consumer) handle(ctx context.Context, messages []sqlite.Message) (done []string, err error) {
	failed, err := c.invoke(ctx, messages)
	for _, m := range messages {
		switch {
		case err == nil && !failed[m.ID]:
			done = append(done, m.Receipt)
		case err != nil:
			if releaseErr := c.queue.ChangeVisibility(ctx, m.Receipt, lambdaedge.RetryAfter(m.ReceiveCount)); releaseErr != nil {
				err = errors.Join(err, fmt.Errorf("release message %s: %w", m.ID, releaseErr))
			}
		}
	}
	return done, err
}

// invoke returns the ids of the messages that the function reports as failed. If it reports an
// unknown id, all messages fail, as in Lambda.
func (c *consumer) invoke(ctx context.Context, messages []sqlite.Message) (failed map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	response, err := c.function(ctx, eventOf(c.source, messages))
	if err != nil {
		return nil, fmt.Errorf("invoke the function of queue %s: %w", c.trigger.Queue, err)
	}
	failed = make(map[string]bool, len(response.BatchItemFailures))
	for _, f := range response.BatchItemFailures {
		if !slices.ContainsFunc(messages, func(m sqlite.Message) bool { return m.ID == f.ItemIdentifier }) {
			return nil, fmt.Errorf("the function of queue %s reports a message that it was not given", c.trigger.Queue)
		}
		failed[f.ItemIdentifier] = true
	}
	return failed, nil
}

// eventOf returns the event that Lambda would make of a batch.
func eventOf(queue string, messages []sqlite.Message) events.SQSEvent {
	event := events.SQSEvent{Records: make([]events.SQSMessage, len(messages))}
	for i, m := range messages {
		event.Records[i] = events.SQSMessage{
			MessageId: m.ID, ReceiptHandle: m.Receipt, Body: m.Body, EventSource: "aws:sqs", AWSRegion: "local",
			EventSourceARN: "arn:aws:sqs:local:000000000000:" + queue,
			Attributes: map[string]string{
				"ApproximateReceiveCount": strconv.Itoa(m.ReceiveCount), "SentTimestamp": strconv.FormatInt(m.SentAt.UnixMilli(), 10),
			},
		}
		if m.Tenant != "" {
			event.Records[i].Attributes[lambdaedge.MessageGroupID] = string(m.Tenant)
		}
	}
	return event
}
