package sqsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Retention is SQS's maximum, as in the deployed stacks. A message keeps its age
// when SQS moves it to the dead-letter queue.
const Retention = 14 * 24 * time.Hour

// Config describes a queue that EnsureQueues creates.
type Config struct {
	Name              string // its name in SQS; its dead-letter queue has the suffix DeadLetterSuffix
	VisibilityTimeout time.Duration
	MaxReceives       int // then SQS moves the message to the dead-letter queue
}

// EnsureQueues creates the queues, each with its dead-letter queue. It changes
// queues that exist to match their Config. It is for the local runner and for
// tests: a deployment creates its own queues.
func EnsureQueues(ctx context.Context, client *sqs.Client, queues []Config) error {
	for _, queue := range queues {
		if err := ensure(ctx, client, queue); err != nil {
			return err
		}
	}
	return nil
}

func ensure(ctx context.Context, client *sqs.Client, queue Config) error {
	q := New(client, queue.Name, Options{})
	attributes := map[string]string{string(types.QueueAttributeNameMessageRetentionPeriod): seconds(Retention)}
	if err := create(ctx, client, q.deadLetters.name, attributes); err != nil {
		return err
	}
	target, err := q.arn(ctx, &q.deadLetters)
	if err != nil {
		return err
	}
	policy, err := json.Marshal(map[string]any{"deadLetterTargetArn": target, "maxReceiveCount": queue.MaxReceives})
	if err != nil {
		return fmt.Errorf("create queue %s: %w", queue.Name, err)
	}
	return create(ctx, client, queue.Name, map[string]string{
		string(types.QueueAttributeNameMessageRetentionPeriod): seconds(Retention),
		string(types.QueueAttributeNameVisibilityTimeout):      seconds(queue.VisibilityTimeout),
		string(types.QueueAttributeNameRedrivePolicy):          string(policy),
	})
}

// create creates a queue, or sets the attributes of the queue that exists.
func create(ctx context.Context, client *sqs.Client, name string, attributes map[string]string) error {
	_, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	var exists *types.QueueNameExists
	if errors.As(err, &exists) {
		err = change(ctx, client, name, attributes)
	}
	if err != nil {
		return fmt.Errorf("create queue %s: %w", name, err)
	}
	return nil
}

func change(ctx context.Context, client *sqs.Client, name string, attributes map[string]string) error {
	a := address{name: name}
	url, err := a.get(ctx, client)
	if err != nil {
		return err
	}
	_, err = client.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: url, Attributes: attributes})
	return err
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
