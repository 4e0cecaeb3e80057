package sqsqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

const (
	maxItemAttempts      = 6 // for a message that SQS failed to accept while it accepted others of the batch
	maxConcurrentBatches = 4 // of one Send; a bulk of 16 MiB makes about 20 batches
)

// ErrBody reports a body that SQS never accepts: it is empty, or has characters
// that XML 1.0 does not allow.
var ErrBody = errors.New("not a body that SQS accepts")

// SendError reports that SQS accepted only some messages of a batch.
type SendError struct {
	Queue string
	// Failed are the messages that are not in the queue.
	Failed []SendFailure
}

// SendFailure is one message that SQS did not accept.
type SendFailure struct {
	Index int    // in the bodies that Send got
	Code  string // SQS's code for the reason; "" if the answer does not mention the message
	// Refused is set if SQS will never accept the message. Otherwise SQS failed to
	// accept it in every attempt.
	Refused bool
}

func (e *SendError) Error() string {
	first := e.Failed[0]
	outcome := "failed"
	if first.Refused {
		outcome = "was refused"
	}
	reason := cmp.Or(first.Code, "not mentioned in the answer")
	return fmt.Sprintf("send to %s: %d messages are not in the queue, message %d %s: %s", e.Queue, len(e.Failed), first.Index, outcome, reason)
}

// Send implements ingest.Queue. It retries only the messages that SQS fails to
// accept. It returns a *SendError if SQS refuses messages or the attempts are used
// up. Before it sends anything, it returns audit.ErrTooLarge for a body over the
// limit, and ErrBody for a body that SQS never accepts. A message may be in the
// queue twice if an answer of SQS is lost.
func (q *Queue) Send(ctx context.Context, tenant audit.TenantID, bodies []string) error {
	return q.send(ctx, tenant, bodies, 0)
}

// SendAfter implements stream.Queue. It sends as Send does, and the message becomes
// visible after the delay, rounded up to a second. A delay of 0 or less is none. A
// delay over jobs.MaxDelay is an error, and nothing is sent.
func (q *Queue) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	if delay > jobs.MaxDelay {
		return fmt.Errorf("send to %s after %s: SQS delays a message for %s at most", q.name, delay, jobs.MaxDelay)
	}
	delay = max(0, delay)
	return q.send(ctx, tenant, []string{body}, int32((delay+time.Second-1)/time.Second)) // rounded up: too long is better than too short
}

// send sends the bodies with a delay in seconds. The tenant is their message group: on a
// standard queue SQS delivers the messages of a group with a large backlog after others (see
// "Amazon SQS fair queues" in its developer guide). It does not order them.
func (q *Queue) send(ctx context.Context, tenant audit.TenantID, bodies []string, delay int32) error {
	for i, body := range bodies {
		if err := q.check(body); err != nil {
			return fmt.Errorf("send to %s: body %d: %w", q.name, i, err)
		}
	}
	if len(bodies) == 0 {
		return nil
	}
	url, err := q.self.get(ctx, q.client)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrentBatches)
	for _, batch := range batches(bodies, q.maxBytes) {
		group.Go(func() error { return q.sendBatch(ctx, url, tenant, batch, delay) })
	}
	return group.Wait()
}

// check refuses the bodies that SQS refuses, so that one message cannot fail its whole batch.
func (q *Queue) check(body string) error {
	if len(body) > q.maxBytes {
		return fmt.Errorf("%d bytes, at most %d: %w", len(body), q.maxBytes, audit.ErrTooLarge)
	}
	if body == "" {
		return fmt.Errorf("empty: %w", ErrBody)
	}
	for i, r := range body {
		if !allowed(r) {
			return fmt.Errorf("character %U at byte %d: %w", r, i, ErrBody)
		}
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(body[i:]); size == 1 {
				return fmt.Errorf("no UTF-8 at byte %d: %w", i, ErrBody)
			}
		}
	}
	return nil
}

// allowed reports whether SQS accepts the character; see the documentation of SendMessage.
func allowed(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000
}

// message is a body with its index among the bodies that Send got.
type message struct {
	index int
	body  string
}

// batches groups the bodies in order, as many in a batch as SQS allows.
func batches(bodies []string, maxBytes int) [][]message {
	var all [][]message
	var batch []message
	size := 0
	for i, body := range bodies {
		if len(batch) == MaxBatch || len(batch) > 0 && size+len(body) > maxBytes {
			all, batch, size = append(all, batch), nil, 0
		}
		batch = append(batch, message{index: i, body: body})
		size += len(body)
	}
	if len(batch) > 0 {
		all = append(all, batch)
	}
	return all
}

// sendBatch sends until every message is in the queue, one is refused, or the attempts are used up.
func (q *Queue) sendBatch(ctx context.Context, url *string, tenant audit.TenantID, pending []message, delay int32) error {
	for attempt := 1; ; attempt++ {
		failed, err := q.sendOnce(ctx, url, tenant, pending, delay)
		if err != nil {
			return fmt.Errorf("send %d messages to %s: %w", len(pending), q.name, err)
		}
		if len(failed) == 0 {
			return nil
		}
		refused := slices.ContainsFunc(failed, func(f SendFailure) bool { return f.Refused })
		if refused || attempt == maxItemAttempts {
			return &SendError{Queue: q.name, Failed: failed}
		}
		pending = only(pending, failed)
		if err := backoff.Sleep(ctx, q.backoff(attempt+1)); err != nil {
			return fmt.Errorf("send %d messages to %s: %w", len(pending), q.name, err)
		}
	}
}

// sendOnce sends a batch once. It returns the messages that SQS does not confirm.
func (q *Queue) sendOnce(ctx context.Context, url *string, tenant audit.TenantID, batch []message, delay int32) ([]SendFailure, error) {
	entries := make([]types.SendMessageBatchRequestEntry, len(batch))
	var group *string
	if tenant != "" {
		group = aws.String(string(tenant))
	}
	attributes := traceAttribute(ctx)
	for i := range batch {
		entries[i] = types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), MessageBody: &batch[i].body, DelaySeconds: delay, MessageGroupId: group, MessageSystemAttributes: attributes,
		}
	}
	answer, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: url, Entries: entries})
	if err != nil {
		return nil, err
	}
	accepted := make(map[string]bool, len(batch))
	for _, item := range answer.Successful {
		accepted[aws.ToString(item.Id)] = true
	}
	reasons := make(map[string]types.BatchResultErrorEntry, len(answer.Failed))
	for _, item := range answer.Failed {
		reasons[aws.ToString(item.Id)] = item
	}
	var failed []SendFailure
	for i := range batch {
		id := strconv.Itoa(i)
		if accepted[id] {
			continue
		}
		reason := reasons[id] // zero if the answer does not mention the message
		failed = append(failed, SendFailure{Index: batch[i].index, Code: aws.ToString(reason.Code), Refused: reason.SenderFault})
	}
	return failed, nil
}

// traceAttribute returns the attribute by which X-Ray links the consumer's trace to that of the
// context. SQS does not count it for a message's size. Without a trace it is nil.
func traceAttribute(ctx context.Context) map[string]types.MessageSystemAttributeValue {
	t, has := trace.From(ctx)
	if !has {
		return nil
	}
	return map[string]types.MessageSystemAttributeValue{
		string(types.MessageSystemAttributeNameForSendsAWSTraceHeader): {DataType: aws.String("String"), StringValue: aws.String(t.Header())},
	}
}

// only returns the messages that failed.
func only(batch []message, failed []SendFailure) []message {
	var rest []message
	for _, m := range batch {
		if slices.ContainsFunc(failed, func(f SendFailure) bool { return f.Index == m.index }) {
			rest = append(rest, m)
		}
	}
	return rest
}
