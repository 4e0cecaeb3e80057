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

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// retention is SQS's longest, as in the deployed stacks: a message keeps its age
// when it becomes a dead letter.
const retention = 14 * 24 * time.Hour

// EnsureQueues creates the queues, each with its dead-letter queue, under their
// Name, or changes those that exist to be as described. It is for the
// local runner and for tests: deployed queues are their stack's.
func EnsureQueues(ctx context.Context, client *sqs.Client, prefix string, queues []manifest.Queue) error {
	for _, queue := range queues {
		if err := ensure(ctx, client, Name(prefix, queue.Name), queue); err != nil {
			return err
		}
	}
	return nil
}

func ensure(ctx context.Context, client *sqs.Client, name string, queue manifest.Queue) error {
	kept := map[string]string{string(types.QueueAttributeNameMessageRetentionPeriod): seconds(retention)}
	if err := create(ctx, client, deadName(name), kept); err != nil {
		return err
	}
	dead, err := deadARN(ctx, client, name)
	if err != nil {
		return err
	}
	policy, err := json.Marshal(map[string]any{"deadLetterTargetArn": dead, "maxReceiveCount": queue.MaxReceives})
	if err != nil {
		return fmt.Errorf("create queue %s: %w", name, err)
	}
	return create(ctx, client, name, map[string]string{
		string(types.QueueAttributeNameMessageRetentionPeriod): seconds(retention),
		string(types.QueueAttributeNameVisibilityTimeout):      seconds(queue.VisibilityTimeout),
		string(types.QueueAttributeNameRedrivePolicy):          string(policy),
	})
}

// create creates a queue or gives the one that exists these attributes.
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

func deadARN(ctx context.Context, client *sqs.Client, name string) (string, error) {
	q := New(client, name, Options{})
	return q.arn(ctx, &q.dead)
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
