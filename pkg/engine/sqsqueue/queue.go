// Package sqsqueue is the queue port over Amazon SQS, and the receiving side for
// whoever consumes without Lambda.
package sqsqueue

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

const (
	// MaxBytes is the most that SQS takes in one message, and in all messages of
	// one batch together, since August 2025. Before that it was 256 KiB, which
	// other implementations of SQS may still hold to: see Options.
	MaxBytes = 1 << 20
	// MaxBatch is the most messages of one call, to send, to receive or to delete.
	MaxBatch = 10
	// MaxDelay is the longest that SQS keeps a message back.
	MaxDelay = 15 * time.Minute
)

const callTries = 7 // of one call as a whole, by the SDK: within 1.6 s on average

// NewClient returns a client of SQS for any number of queues. A call that fails
// as a whole for a reason that may pass is repeated a few times.
func NewClient(cfg aws.Config) *sqs.Client {
	return sqs.NewFromConfig(awsconfig.WithClient(cfg), func(o *sqs.Options) {
		o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) { s.MaxAttempts, s.Backoff = callTries, awsconfig.Backoff() })
	})
}

// DeadLetterSuffix follows a queue's name in the name of its dead-letter queue.
const DeadLetterSuffix = "-dlq"

// Options are what differs between installations. The zero Options are right for SQS.
type Options struct {
	// MaxBytes is what the service takes in one message and in one batch; 0 is the constant MaxBytes.
	MaxBytes int
	// Backoff is how long to wait before messages of a batch that SQS failed to
	// take are sent for the try-th time, try being 2 and up; nil is from 0 to 50 ms,
	// doubling with each try up to 2 s.
	Backoff func(try int) time.Duration
}

// Queue is one queue of SQS and, under its name with "-dlq", its dead-letter
// queue. It implements ingest.Queue and stream.Queue. Its methods may be called concurrently.
type Queue struct {
	client      *sqs.Client
	name        string
	maxBytes    int
	backoff     func(try int) time.Duration
	self        address
	deadLetters address
}

// New returns the queue of this name. Nothing is called until its first method is.
func New(client *sqs.Client, name string, o Options) *Queue {
	if o.MaxBytes == 0 {
		o.MaxBytes = MaxBytes
	}
	if o.Backoff == nil {
		o.Backoff = func(try int) time.Duration { return awsconfig.RetryPolicy().Delay(try - 1) }
	}
	return &Queue{
		client: client, name: name, maxBytes: o.MaxBytes, backoff: o.Backoff,
		self: address{name: name}, deadLetters: address{name: name + DeadLetterSuffix},
	}
}

// address is a queue's URL, which never changes: it is asked for once.
type address struct {
	name string
	url  atomic.Pointer[string]
}

func (a *address) get(ctx context.Context, client *sqs.Client) (*string, error) {
	if url := a.url.Load(); url != nil {
		return url, nil
	}
	found, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &a.name})
	if err != nil {
		return nil, fmt.Errorf("find queue %s: %w", a.name, err)
	}
	a.url.Store(found.QueueUrl)
	return found.QueueUrl, nil
}

// attributes returns attributes of the queue at a.
func (q *Queue) attributes(ctx context.Context, a *address, names ...types.QueueAttributeName) (map[string]string, error) {
	url, err := a.get(ctx, q.client)
	if err != nil {
		return nil, err
	}
	got, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: names})
	if err != nil {
		return nil, fmt.Errorf("ask about queue %s: %w", a.name, err)
	}
	return got.Attributes, nil
}

// arn returns the ARN of the queue at a.
func (q *Queue) arn(ctx context.Context, a *address) (string, error) {
	got, err := q.attributes(ctx, a, types.QueueAttributeNameQueueArn)
	if err != nil {
		return "", err
	}
	return got[string(types.QueueAttributeNameQueueArn)], nil
}

// Name returns the queue's name in SQS.
func (q *Queue) Name() string { return q.name }

// Ping returns nil if SQS answers for the queue.
func (q *Queue) Ping(ctx context.Context) error {
	_, err := q.arn(ctx, &q.self)
	return err
}

// Depth counts the messages that can be received now, those that cannot yet,
// because they were received and not deleted or their delay is not over, and the
// dead letters. SQS makes the counts approximate while messages come and go.
func (q *Queue) Depth(ctx context.Context) (visible, inFlight, dead int64, err error) {
	const (
		waiting = types.QueueAttributeNameApproximateNumberOfMessages
		hidden  = types.QueueAttributeNameApproximateNumberOfMessagesNotVisible
		delayed = types.QueueAttributeNameApproximateNumberOfMessagesDelayed
	)
	own, err := q.attributes(ctx, &q.self, waiting, hidden, delayed)
	if err != nil {
		return 0, 0, 0, err
	}
	letters, err := q.attributes(ctx, &q.deadLetters, waiting, hidden)
	if err != nil {
		return 0, 0, 0, err
	}
	counts := [5]int64{}
	for i, text := range []string{own[string(waiting)], own[string(hidden)], own[string(delayed)], letters[string(waiting)], letters[string(hidden)]} {
		if counts[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return 0, 0, 0, fmt.Errorf("count the messages of queue %s: %w", q.name, err)
		}
	}
	return counts[0], counts[1] + counts[2], counts[3] + counts[4], nil
}
