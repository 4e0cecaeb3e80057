//go:build !embedded

package queues_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
)

func TestDeadLetterQueuesHaveTheManifestsNames(t *testing.T) {
	sqs := queues.New(config.Engines{QueuePrefix: "test"})
	for _, q := range manifest.Queues() {
		want := sqs.Named(q.Name.DeadLetters())
		if got := sqs.Named(q.Name) + sqsqueue.DeadLetterSuffix; got != want {
			t.Errorf("the engine names the dead-letter queue %s, want %s", got, want)
		}
	}
}
