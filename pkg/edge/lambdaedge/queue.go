package lambdaedge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

const (
	// maxConcurrent is how many messages EachMessage handles at the same time.
	maxConcurrent = 10
	// startReserve is the time before the deadline in which EachMessage starts no
	// message. A short function reserves a quarter of its time.
	startReserve = 5 * time.Second
	// reportReserve is the time before the deadline at which unfinished messages are
	// reported as failed. A short function reserves a tenth of its time.
	reportReserve = time.Second
	// delayTimeout bounds the calls that delay the failed messages of a batch, and those
	// that send its unreadable messages to the dead-letter queue.
	delayTimeout = 2 * time.Second
)

// Source changes messages of the queues that trigger a function. Lambda itself deletes
// the messages that did not fail. A queue is named as in its ARN.
type Source struct {
	// ChangeVisibility delays the next delivery of a message, counted from now. receipt
	// identifies the current delivery.
	ChangeVisibility func(ctx context.Context, queue, receipt string, after time.Duration) error
	// DeadLetter sends a message of a tenant to the queue's dead-letter queue.
	DeadLetter func(ctx context.Context, queue string, tenant audit.TenantID, body string) error
}

// BatchHandler handles the messages of a batch. It returns one error, or nil, for each.
type BatchHandler func(ctx context.Context, bodies []string) []error

// RetryAfter returns the delay before the next delivery of a message that failed when it
// was received for the n-th time. It is two seconds and doubles up to two minutes.
func RetryAfter(n int) time.Duration {
	return backoff.Policy{First: 2 * time.Second, Max: 2 * time.Minute}.Delay(n)
}

// errNotStarted means that too little time was left to start the message.
var errNotStarted = errors.New("not started: the function's deadline is near")

// errUnfinished means that the time ran out while the message was handled.
var errUnfinished = errors.New("not finished: the function's deadline is near")

// Queue returns the Lambda function that hands the messages of an SQS batch to handle. It
// reports a message with an error in batchItemFailures, so that only this message is
// delivered again, after RetryAfter. A message with audit.ErrUnreadable goes to the
// dead-letter queue at once, because it would fail at each delivery.
//
// Near the deadline, messages that are not finished are reported as failed, so handle
// must be idempotent. They, and messages whose delay could not be set, return after the
// queue's visibility timeout. If handle panics, each message is handed to it alone.
// Failures are logged with the message id, the receive count, the tenant and the traces, never
// with the body.
//
// An event with a record that has no message id is not from SQS and fails as a whole.
func Queue(handle BatchHandler, source Source) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		bodies := make([]string, len(event.Records))
		for i, message := range event.Records {
			if message.MessageId == "" {
				return events.SQSEventResponse{}, fmt.Errorf("record %d of the event has no message id: the event is not from SQS", i)
			}
			bodies[i] = message.Body
		}
		response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
		var delayed []events.SQSMessage
		outcomes := runBatch(ctx, bodies, handle)
		deadLettered := deadLetterUnreadable(ctx, event.Records, outcomes, source)
		for i, err := range outcomes {
			if err == nil || deadLettered[i] {
				continue
			}
			message := event.Records[i]
			slog.ErrorContext(ctx, "message failed", "queue", queueName(message.EventSourceARN), "message_id", message.MessageId,
				"receive_count", message.Attributes["ApproximateReceiveCount"], "tenant", string(tenantOf(&message)), trace.IDs(envelope.Traces(message.Body)), "error", err)
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: message.MessageId})
			if !errors.Is(err, errUnfinished) {
				delayed = append(delayed, message)
			}
		}
		delay(ctx, delayed, source)
		return response, nil
	}
}

// deadLetterUnreadable sends the messages with audit.ErrUnreadable to the dead-letter queue
// and reports which ones it could send. The time for it is bounded.
func deadLetterUnreadable(ctx context.Context, messages []events.SQSMessage, outcomes []error, source Source) []bool {
	ctx, cancel := finalCalls(ctx)
	defer cancel()
	sent := make([]bool, len(messages))
	var running sync.WaitGroup
	for i, err := range outcomes {
		if errors.Is(err, audit.ErrUnreadable) {
			running.Go(func() { sent[i] = deadLetter(ctx, messages[i], source, err) })
		}
	}
	running.Wait()
	return sent
}

// finalCalls returns a context for the calls after a batch. It ends before the function's deadline.
func finalCalls(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(delayTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-reportReserve/4).Before(end) {
		end = deadline.Add(-reportReserve / 4)
	}
	return context.WithDeadline(ctx, end)
}

// deadLetter reports whether it could send the message to the dead-letter queue.
func deadLetter(ctx context.Context, message events.SQSMessage, source Source, reason error) bool {
	err := source.DeadLetter(ctx, queueName(message.EventSourceARN), tenantOf(&message), message.Body)
	slog.ErrorContext(ctx, "message cannot be read and goes to the dead-letter queue", "queue", queueName(message.EventSourceARN),
		"message_id", message.MessageId, "tenant", string(tenantOf(&message)), trace.IDs(envelope.Traces(message.Body)), "error", errors.Join(reason, err))
	return err == nil
}

// tenantOf returns the tenant of a message, which is its message group. It is empty for a
// message without one.
func tenantOf(m *events.SQSMessage) audit.TenantID {
	return audit.TenantID(m.Attributes[MessageGroupID])
}

// MessageGroupID is the attribute of an SQS message that names its tenant. On standard queues
// SQS uses it for fairness.
const MessageGroupID = "MessageGroupId"

// delay delays the next delivery of the messages. Best effort: otherwise they return
// after the queue's visibility timeout.
func delay(ctx context.Context, messages []events.SQSMessage, source Source) {
	ctx, cancel := finalCalls(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	for _, m := range messages {
		running.Go(func() {
			receives, err := strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
			if err == nil {
				err = source.ChangeVisibility(ctx, queueName(m.EventSourceARN), m.ReceiptHandle, RetryAfter(receives))
			}
			if err != nil {
				slog.WarnContext(ctx, "message not delayed", "queue", queueName(m.EventSourceARN), "message_id", m.MessageId, "error", err)
			}
		})
	}
}

// runBatch returns handle's outcomes, or errUnfinished for every message at the deadline.
func runBatch(ctx context.Context, bodies []string, handle BatchHandler) []error {
	deadline, cancel := reserve(ctx, func(left time.Duration) time.Duration { return min(reportReserve, left/10) / 2 })
	defer cancel()
	finished := make(chan []error, 1) // a handler that outlives the batch does not block
	go func() { finished <- callBatch(ctx, bodies, handle) }()
	select {
	case outcomes := <-finished:
		return outcomes
	case <-deadline:
		outcomes := make([]error, len(bodies))
		for i := range outcomes {
			outcomes[i] = errUnfinished
		}
		return outcomes
	}
}

// callBatch hands the messages to handle together. If handle panics, it hands over each
// message alone, so that only the message at fault fails.
func callBatch(ctx context.Context, bodies []string, handle BatchHandler) []error {
	var outcomes []error
	err := panics.Recovered(ctx, func() error {
		outcomes = handle(ctx, bodies)
		return nil
	})
	switch {
	case err == nil && len(outcomes) == len(bodies):
		return outcomes
	case err == nil:
		err = fmt.Errorf("the handler returned %d outcomes for %d messages", len(outcomes), len(bodies))
	}
	outcomes = make([]error, len(bodies))
	for i := range bodies {
		if outcomes[i] = err; len(bodies) > 1 {
			outcomes[i] = callBatch(ctx, bodies[i:i+1], handle)[0]
		}
	}
	return outcomes
}

// Together returns a handler of batches whose context ends before the function's deadline.
// A call that waits for an engine then fails early enough for handle to return the outcome
// of every message. Finished messages stay finished, and the others are delayed.
func Together(handle BatchHandler) BatchHandler {
	return func(ctx context.Context, bodies []string) []error {
		if deadline, has := ctx.Deadline(); has {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(startReserve, time.Until(deadline)/4)))
			defer cancel()
		}
		return handle(ctx, bodies)
	}
}

// EachMessage returns the handler of batches that hands each message to handle, up to ten
// at the same time. Near the deadline it starts no message and reports those that are
// not finished. If handle panics, only its message fails.
func EachMessage(handle func(ctx context.Context, body string) error) BatchHandler {
	return func(ctx context.Context, bodies []string) []error {
		startDeadline, cancelStart := reserve(ctx, func(left time.Duration) time.Duration { return min(startReserve, left/4) })
		defer cancelStart()
		waitDeadline, cancelWait := reserve(ctx, func(left time.Duration) time.Duration { return min(reportReserve, left/10) })
		defer cancelWait()
		outcomes := make([]error, len(bodies))
		for i := range outcomes {
			outcomes[i] = errNotStarted
		}
		type result struct {
			index int
			err   error
		}
		results := make(chan result, len(bodies)) // a message that outlives the batch does not block
		next, running := 0, 0
		for next < len(bodies) || running > 0 {
			for next < len(bodies) && running < maxConcurrent && !isClosed(startDeadline) {
				index, body := next, bodies[next]
				outcomes[index] = errUnfinished
				go func() {
					results <- result{index, panics.Recovered(ctx, func() error { return handle(ctx, body) })}
				}()
				next++
				running++
			}
			if running == 0 {
				return outcomes // no time is left to start the others
			}
			select {
			case r := <-results:
				outcomes[r.index] = r.err
				running--
			case <-waitDeadline:
				return outcomes
			}
		}
		return outcomes
	}
}

// reserve returns a channel that closes before ctx's deadline. by returns how long
// before, given the time that is left now. Without a deadline the channel never closes.
func reserve(ctx context.Context, by func(left time.Duration) time.Duration) (closed <-chan struct{}, cancel func()) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, func() {}
	}
	earlier, cancel := context.WithDeadline(ctx, deadline.Add(-by(time.Until(deadline))))
	return earlier.Done(), cancel
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// queueName returns the last part of a queue's ARN.
func queueName(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }
