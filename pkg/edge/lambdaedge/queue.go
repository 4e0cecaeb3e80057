package lambdaedge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

const (
	// maxConcurrent is how many messages of a batch run at once.
	maxConcurrent = 10
	// startReserve is the time before the deadline in which no further message
	// is begun; of a short function it is a quarter of its time.
	startReserve = 5 * time.Second
	// reportReserve is the time before the deadline at which what is still
	// running is reported as failed; of a short function it is a tenth of its time.
	reportReserve = time.Second
	// postponeTime bounds the calls that postpone a batch's failed messages.
	postponeTime = 2 * time.Second
)

// Source is what a function does to the messages of the queues that trigger it,
// besides what Lambda does for it. A queue is named as in its ARN.
type Source struct {
	// ChangeVisibility has a message come again after a while, counted from now; receipt names the delivery.
	ChangeVisibility func(ctx context.Context, queue, receipt string, after time.Duration) error
	// DeadLetter sends a message to the queue's dead letters.
	DeadLetter func(ctx context.Context, queue, body string) error
}

// RetryAfter is how long a message waits that failed when it was received for
// the n-th time: two seconds, and twice as long each time up to two minutes.
func RetryAfter(n int) time.Duration {
	return backoff.Policy{First: 2 * time.Second, Max: 2 * time.Minute}.Delay(n)
}

// errNotStarted says that the function's time was too short for the message.
var errNotStarted = errors.New("not begun: the function's deadline is near")

// errUnfinished says that the function's time ran out while the message was handled.
var errUnfinished = errors.New("not finished: the function's deadline is near")

// Queue returns the Lambda function that hands each message of an SQS batch to
// handle, up to ten at once. A message whose handle fails or panics is reported
// alone in batchItemFailures, so that only it comes again, after RetryAfter; with
// audit.ErrUnreadable it would fail for ever and is buried. Near
// the deadline no further message is begun and what still runs is reported as
// failed: handle has to be repeatable. What still ran, and what could not be
// postponed, comes again after the queue's visibility timeout. Failures are
// logged by message id and receive count, never with the body.
//
// An event without message ids is not of SQS and fails as a whole.
func Queue(handle func(ctx context.Context, body string) error, source Source) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		for i, message := range event.Records {
			if message.MessageId == "" {
				return events.SQSEventResponse{}, fmt.Errorf("record %d of the event has no message id: it is no SQS event", i)
			}
		}
		response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
		var later []events.SQSMessage
		for i, err := range runBatch(ctx, event.Records, handle) {
			if err == nil {
				continue
			}
			message := event.Records[i]
			if errors.Is(err, audit.ErrUnreadable) && bury(ctx, message, source, err) {
				continue
			}
			slog.ErrorContext(ctx, "message failed", "queue", queueName(message.EventSourceARN), "message_id", message.MessageId,
				"receive_count", message.Attributes["ApproximateReceiveCount"], "error", err)
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: message.MessageId})
			if !errors.Is(err, errUnfinished) {
				later = append(later, message)
			}
		}
		postponeAll(ctx, later, source.ChangeVisibility)
		return response, nil
	}
}

// bury reports whether the message is among the dead letters.
func bury(ctx context.Context, message events.SQSMessage, source Source, reason error) bool {
	err := source.DeadLetter(ctx, queueName(message.EventSourceARN), message.Body)
	slog.ErrorContext(ctx, "message cannot be read and goes to the dead letters", "queue", queueName(message.EventSourceARN),
		"message_id", message.MessageId, "error", errors.Join(reason, err))
	return err == nil
}

// postponeAll postpones the messages at once. That is no condition of anything:
// without it they come again as well, though not as the outage may want it.
func postponeAll(ctx context.Context, messages []events.SQSMessage, postpone func(context.Context, string, string, time.Duration) error) {
	ends := time.Now().Add(postponeTime)
	if deadline, has := ctx.Deadline(); has && deadline.Add(-reportReserve/2).Before(ends) {
		ends = deadline.Add(-reportReserve / 2)
	}
	ctx, cancel := context.WithDeadline(ctx, ends)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	for _, m := range messages {
		running.Go(func() {
			received, err := strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
			if err == nil {
				err = postpone(ctx, queueName(m.EventSourceARN), m.ReceiptHandle, RetryAfter(received))
			}
			if err != nil {
				slog.WarnContext(ctx, "message not postponed", "queue", queueName(m.EventSourceARN), "message_id", m.MessageId, "error", err)
			}
		})
	}
}

// runBatch returns one error, or nil, for each message.
func runBatch(ctx context.Context, messages []events.SQSMessage, handle func(context.Context, string) error) []error {
	stopStarting, stopWaiting, release := batchTimers(ctx)
	defer release()
	outcomes := make([]error, len(messages))
	for i := range outcomes {
		outcomes[i] = errNotStarted
	}
	type result struct {
		index int
		err   error
	}
	results := make(chan result, len(messages)) // never blocks a message that outlives the batch
	next, running := 0, 0
	for next < len(messages) || running > 0 {
		for next < len(messages) && running < maxConcurrent && !passed(stopStarting) {
			index, body := next, messages[next].Body
			outcomes[index] = errUnfinished
			go func() {
				results <- result{index, guarded(ctx, func() error { return handle(ctx, body) })}
			}()
			next++
			running++
		}
		if running == 0 {
			return outcomes // the rest is too late
		}
		select {
		case r := <-results:
			outcomes[r.index] = r.err
			running--
		case <-stopWaiting:
			return outcomes
		}
	}
	return outcomes
}

// batchTimers returns channels that close when no message may be begun any
// more, and when the outcome must be reported. Without a deadline they never close.
func batchTimers(ctx context.Context) (stopStarting, stopWaiting <-chan struct{}, release func()) {
	deadline, has := ctx.Deadline()
	if !has {
		return nil, nil, func() {}
	}
	left := time.Until(deadline)
	starting, cancelStarting := context.WithDeadline(ctx, deadline.Add(-min(startReserve, left/4)))
	waiting, cancelWaiting := context.WithDeadline(ctx, deadline.Add(-min(reportReserve, left/10)))
	return starting.Done(), waiting.Done(), func() { cancelStarting(); cancelWaiting() }
}

func passed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// guarded is call with a panic as an error.
func guarded(ctx context.Context, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			// The value may hold entry content, so only its type is told.
			slog.ErrorContext(ctx, "the function panicked", "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic of type %T", v)
		}
	}()
	return call()
}

// queueName is the last part of a queue's ARN.
func queueName(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }
