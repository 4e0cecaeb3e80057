package rights_test

import (
	"slices"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rights"
)

func TestAWorkerPollsItsQueuesAndMayFeedItself(t *testing.T) {
	const own, other manifest.QueueName = "own", "other"
	worker := manifest.Function{
		Name: "work", Trigger: manifest.Trigger{Queues: []manifest.QueueTrigger{{Queue: own}}},
		Grants: []manifest.Grant{{Resource: manifest.QueueResource(other), Write: true}},
	}
	polling := rights.Polling(worker)
	if len(polling) != 1 {
		t.Fatalf("got %d rights to poll, want 1", len(polling))
	}
	if got, want := polling[0].Targets, []rights.Target{{Kind: rights.Queue, Name: "own"}}; !slices.Equal(got, want) {
		t.Errorf("polls %v, want %v", got, want)
	}
	if rights.FeedsItself(worker) {
		t.Error("FeedsItself of a function that sends to another queue: got true, want false")
	}
	worker.Grants = append(worker.Grants, manifest.Grant{Resource: manifest.QueueResource(own), Write: true})
	if !rights.FeedsItself(worker) {
		t.Error("FeedsItself of a function that sends to its own queue: got false, want true")
	}
}
