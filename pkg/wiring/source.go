package wiring

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// received is the receiving side of a queue.
type received interface {
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
}

// SourceOf returns the Source of the manifest's queues. named returns a queue's name in
// the engine, by which a message names its queue. A message of an unknown queue is an error.
func SourceOf[Q received](named func(manifest.QueueName) string, queue func(manifest.QueueName) Q, deadLetters func(manifest.QueueName) ingest.Queue) lambdaedge.Source {
	names := make(map[string]manifest.QueueName)
	for _, q := range manifest.Queues() {
		names[named(q.Name)] = q.Name
	}
	find := func(text string) (manifest.QueueName, error) {
		if name, ok := names[text]; ok {
			return name, nil
		}
		return "", fmt.Errorf("%q is not a queue of this deployment", text)
	}
	return lambdaedge.Source{
		ChangeVisibility: func(ctx context.Context, text, receipt string, after time.Duration) error {
			name, err := find(text)
			if err != nil {
				return err
			}
			return queue(name).ChangeVisibility(ctx, receipt, after)
		},
		DeadLetter: func(ctx context.Context, text string, tenant audit.TenantID, body string) error {
			name, err := find(text)
			if err != nil {
				return err
			}
			return deadLetters(name).Send(ctx, tenant, []string{body})
		},
	}
}
