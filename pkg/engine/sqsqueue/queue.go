// Package sqsqueue implements the queue ports over Amazon SQS. It also receives,
// for consumers that run without Lambda.
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
	// MaxBytes is SQS's limit for one message, and for all messages of one batch
	// together, since August 2025. It was 256 KiB before, which other
	// implementations of SQS may still have; see Options.
	MaxBytes = 1 << 20
	// MaxBatch is the most messages that one call can send, receive or delete.
	MaxBatch = 10
)

const maxAttempts = 7 // of one call, by the SDK: within 1.6 s on average

// NewClient returns a client of SQS for any number of queues. It retries calls
// that fail transiently as a whole.
func NewClient(cfg aws.Config) *sqs.Client {
	return sqs.NewFromConfig(awsconfig.WithClient(cfg), func(o *sqs.Options) {
		o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) { s.MaxAttempts, s.Backoff = maxAttempts, awsconfig.Backoff() })
	})
}

// DeadLetterSuffix follows a queue's name in the name of its dead-letter queue.
const DeadLetterSuffix = "-dlq"

// Options are for implementations of SQS other than Amazon's, and for tests. The
// zero Options are right for Amazon SQS.
type Options struct {
	// MaxBytes is the service's limit for one message and for one batch. 0 means the constant MaxBytes.
	MaxBytes int
	// Backoff returns the delay before the given attempt, from 2 on, to send the
	// messages of a batch that SQS failed to accept. nil means awsconfig.RetryPolicy.
	Backoff func(attempt int) time.Duration
}

// Queue is one queue of SQS and, under its name with "-dlq", its dead-letter
// queue. It implements ingest.Queue and stream.Queue. Its methods may be called concurrently.
type Queue struct {
	client      *sqs.Client
	name        string
	maxBytes    int
	backoff     func(attempt int) time.Duration
	self        address
	deadLetters address
}

// New returns the queue with this name. It makes no call.
func New(client *sqs.Client, name string, o Options) *Queue {
	if o.MaxBytes == 0 {
		o.MaxBytes = MaxBytes
	}
	if o.Backoff == nil {
		o.Backoff = func(attempt int) time.Duration { return awsconfig.RetryPolicy().Delay(attempt - 1) }
	}
	return &Queue{
		client: client, name: name, maxBytes: o.MaxBytes, backoff: o.Backoff,
		self: address{name: name}, deadLetters: address{name: name + DeadLetterSuffix},
	}
}

// address is the URL of a queue. It never changes, so that it is looked up once.
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
		return nil, fmt.Errorf("read the attributes of queue %s: %w", a.name, err)
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

// Waiting returns about how many messages can be received now.
func (q *Queue) Waiting(ctx context.Context) (int64, error) {
	const shown = types.QueueAttributeNameApproximateNumberOfMessages
	got, err := q.attributes(ctx, &q.self, shown)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(got[string(shown)], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("count the messages of queue %s: %w", q.name, err)
	}
	return n, nil
}

// Depth counts the messages. Visible messages can be received now. Messages in
// flight were received and not deleted, or their delay is not over. The counts are
// approximate while messages are sent and received.
func (q *Queue) Depth(ctx context.Context) (visible, inFlight, deadLetters int64, err error) {
	const (
		shown   = types.QueueAttributeNameApproximateNumberOfMessages
		hidden  = types.QueueAttributeNameApproximateNumberOfMessagesNotVisible
		delayed = types.QueueAttributeNameApproximateNumberOfMessagesDelayed
	)
	own, err := q.attributes(ctx, &q.self, shown, hidden, delayed)
	if err != nil {
		return 0, 0, 0, err
	}
	letters, err := q.attributes(ctx, &q.deadLetters, shown, hidden)
	if err != nil {
		return 0, 0, 0, err
	}
	counts := [5]int64{}
	for i, text := range []string{own[string(shown)], own[string(hidden)], own[string(delayed)], letters[string(shown)], letters[string(hidden)]} {
		if counts[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return 0, 0, 0, fmt.Errorf("count the messages of queue %s: %w", q.name, err)
		}
	}
	return counts[0], counts[1] + counts[2], counts[3] + counts[4], nil
}
