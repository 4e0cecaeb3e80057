//go:build !embedded

package queues

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func open(_ context.Context, o *fromenv.Opening) error {
	Use(&o.Stores, o.Settings.Engines)
	return nil
}

// Use puts SQS under the queues.
func Use(stores *wiring.Stores, engines config.Engines) {
	queues := New(engines)
	stores.Queue = func(name manifest.QueueName) wiring.Queue { return queues.Queue(name) }
	stores.CheckSpace = nil                                            // SQS has room for any number of messages
	stores.LocalMessages, stores.MessageTime = nil, sqsqueue.Retention // SQS removes messages by itself
	waiting := []*sqsqueue.Queue{queues.Queue(manifest.QueueIngest), queues.Queue(manifest.QueueIngestPriority)}
	stores.Backlog = func(ctx context.Context, _ int64) (total int64, err error) {
		for _, queue := range waiting {
			n, err := queue.Waiting(ctx)
			if err != nil {
				return 0, err
			}
			total += n
		}
		return total, nil
	}
	stores.DeadLetters = func(name manifest.QueueName) ingest.Queue { return queues.Queue(name.DeadLetters()) }
	stores.Source = wiring.SourceOf(queues.Named, queues.Queue, stores.DeadLetters)
	stores.Dependencies = append(stores.Dependencies,
		httpapi.Dependency{Name: "queue", Essential: true, Check: queues.Queue(manifest.QueueIngest).Ping})
}

// SQS has the manifest's queues in one account under one prefix.
type SQS struct {
	client *sqs.Client
	prefix string
}

// New returns the queues of the account and the prefix that the settings name.
func New(engines config.Engines) SQS {
	return SQS{client: sqsqueue.NewClient(awsconfig.New(engines.AWS)), prefix: engines.QueuePrefix}
}

// Queue returns one queue.
func (q SQS) Queue(name manifest.QueueName) *sqsqueue.Queue {
	return sqsqueue.New(q.client, q.Named(name), sqsqueue.Options{})
}

// Named returns the name of a queue in SQS.
func (q SQS) Named(name manifest.QueueName) string { return q.prefix + "-" + string(name) }

// Ensure creates the queues that are missing, with their dead-letter queues. It is
// for the local runner: in production the deployment creates them.
func (q SQS) Ensure(ctx context.Context) error {
	queues := manifest.Queues()
	configs := make([]sqsqueue.Config, len(queues))
	for i, queue := range queues {
		configs[i] = sqsqueue.Config{Name: q.Named(queue.Name), VisibilityTimeout: queue.VisibilityTimeout, MaxReceives: queue.MaxReceives}
	}
	return sqsqueue.EnsureQueues(ctx, q.client, configs)
}
