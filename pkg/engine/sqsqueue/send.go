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
)

const (
	itemTries  = 6 // of a message that SQS failed to take while it took its neighbors
	concurrent = 4 // batches of one Send under way at once; a bulk of 16 MiB makes 20 or so
)

// ErrBody says that SQS can never take a body: it is empty, or has characters
// that are not of XML 1.0.
var ErrBody = errors.New("not a body that SQS takes")

// SendError says that SQS took only some messages of a batch.
type SendError struct {
	Queue string
	// Failed are the messages that are not in the queue.
	Failed []SendFailure
}

// SendFailure is one message that SQS did not take.
type SendFailure struct {
	Index int    // in the bodies that were to be sent
	Code  string // SQS's word for the reason; "" where it said nothing of the message
	// Refused says that the message will not be taken however often it is sent;
	// otherwise SQS failed to take it until the tries were used up.
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

// Send implements ingest.Queue. Messages that SQS fails to take are sent again,
// they alone; what it still does not take, or refuses, is a *SendError. Bodies
// over the limit (audit.ErrTooLarge) and those that SQS cannot take (ErrBody)
// are refused before anything is sent. A message may be in the queue twice where
// an answer of SQS was lost.
func (q *Queue) Send(ctx context.Context, bodies []string) error { return q.send(ctx, bodies, 0) }

// SendAfter implements stream.Queue: it sends as Send does, and SQS hands the
// message on once the delay is over, to the second, at once where it is 0 or less.
// A delay over MaxDelay is an error, and nothing is sent.
func (q *Queue) SendAfter(ctx context.Context, delay time.Duration, body string) error {
	if delay > MaxDelay {
		return fmt.Errorf("send to %s after %s: SQS keeps a message back for %s at most", q.name, delay, MaxDelay)
	}
	delay = max(0, delay)
	return q.send(ctx, []string{body}, int32((delay+time.Second-1)/time.Second)) // rather too long than too short
}

// send sends the bodies with a delay of so many seconds.
func (q *Queue) send(ctx context.Context, bodies []string, delay int32) error {
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
	group.SetLimit(concurrent)
	for _, batch := range batches(bodies, q.maxBytes) {
		group.Go(func() error { return q.sendBatch(ctx, url, batch, delay) })
	}
	return group.Wait()
}

// check refuses what SQS would, so that a batch is never lost to one message.
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

// allowed reports whether SQS takes the character, by the documentation of SendMessage.
func allowed(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000
}

// message is a body with its place among the bodies that were to be sent.
type message struct {
	index int
	body  string
}

// batches groups the bodies in their order, as many to a batch as SQS takes.
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

// sendBatch sends until every message is in the queue, one is refused, or the tries are used up.
func (q *Queue) sendBatch(ctx context.Context, url *string, pending []message, delay int32) error {
	for try := 1; ; try++ {
		failed, err := q.sendOnce(ctx, url, pending, delay)
		if err != nil {
			return fmt.Errorf("send %d messages to %s: %w", len(pending), q.name, err)
		}
		if len(failed) == 0 {
			return nil
		}
		refused := slices.ContainsFunc(failed, func(f SendFailure) bool { return f.Refused })
		if refused || try == itemTries {
			return &SendError{Queue: q.name, Failed: failed}
		}
		pending = only(pending, failed)
		if err := backoff.Sleep(ctx, q.backoff(try+1)); err != nil {
			return fmt.Errorf("send %d messages to %s: %w", len(pending), q.name, err)
		}
	}
}

// sendOnce returns the messages that SQS does not say to have taken.
func (q *Queue) sendOnce(ctx context.Context, url *string, batch []message, delay int32) ([]SendFailure, error) {
	entries := make([]types.SendMessageBatchRequestEntry, len(batch))
	for i := range batch {
		entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &batch[i].body, DelaySeconds: delay}
	}
	answer, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: url, Entries: entries})
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool, len(batch))
	for _, item := range answer.Successful {
		taken[aws.ToString(item.Id)] = true
	}
	reasons := make(map[string]types.BatchResultErrorEntry, len(answer.Failed))
	for _, item := range answer.Failed {
		reasons[aws.ToString(item.Id)] = item
	}
	var failed []SendFailure
	for i := range batch {
		id := strconv.Itoa(i)
		if taken[id] {
			continue
		}
		reason := reasons[id] // zero where SQS says nothing of the message
		failed = append(failed, SendFailure{Index: batch[i].index, Code: aws.ToString(reason.Code), Refused: reason.SenderFault})
	}
	return failed, nil
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
