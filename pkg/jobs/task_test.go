package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

func TestTask(t *testing.T) {
	f := newFixture(t, steps)
	if err := jobs.SendTask(t.Context(), f.queue, "acme", "example", []int{1, 2}); err != nil {
		t.Fatal(err)
	}
	if got, want := f.queue.bodies[0], `{"v":1,"tenant":"acme","task":"example","input":[1,2]}`; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
	if err := f.worker.Handle(t.Context(), f.queue.bodies[0]); err == nil || errors.Is(err, audit.ErrUnreadable) {
		t.Errorf("an unknown task: %v, want an error after which the message waits for its release", err)
	}
	var got string
	fails := errDown
	f.worker.Tasks = map[jobs.TaskName]jobs.Task{"example": func(_ context.Context, tenant audit.TenantID, input json.RawMessage) error {
		got = string(tenant) + string(input)
		return fails
	}}
	if err := f.worker.Handle(t.Context(), f.queue.bodies[0]); !errors.Is(err, errDown) {
		t.Errorf("a task that fails: %v, want its error, so that it is repeated", err)
	}
	fails = nil
	if err := f.worker.Handle(t.Context(), f.queue.bodies[0]); err != nil {
		t.Errorf("a task: %v, want nil", err)
	}
	if want := "acme[1,2]"; got != want {
		t.Errorf("the task got %s, want %s", got, want)
	}
}
