package cloud_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cloud"
)

func TestDeadLetterQueuesHaveTheManifestsNames(t *testing.T) {
	queues := cloud.NewQueues(config.Engines{QueuePrefix: "test"})
	for _, q := range manifest.Queues() {
		want := queues.Named(q.Name.DeadLetters())
		if got := queues.Named(q.Name) + sqsqueue.DeadLetterSuffix; got != want {
			t.Errorf("the engine names the dead-letter queue %s, want %s", got, want)
		}
	}
}
