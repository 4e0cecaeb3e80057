package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

// failing is the reason of the failures in these tests.
const failing = "part-1.parquet of 2026-02 is damaged"

// newFailing returns a world with the job "j", which fails in its second slice.
func newFailing(t *testing.T) *jobtest.World {
	t.Helper()
	w := jobtest.New(t)
	w.Worker.Runners[jobs.KindExport] = runnerFunc(func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		if s.Job.Checkpoint == nil {
			return jobs.Result{}, s.Save(ctx, 1)
		}
		return jobs.Result{}, fmt.Errorf("export: %w", &jobs.FailedError{Reason: failing})
	})
	if _, err := w.Service.Start(t.Context(), jobs.Job{ID: "j", Kind: jobs.KindExport, Tenant: "acme", CreatedBy: "ann"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func wantFailed(t *testing.T, w *jobtest.World) {
	t.Helper()
	job := w.Job("j")
	if job.State != jobs.StateFailed || job.Error != failing || job.Failing != nil {
		t.Errorf("the job is %s with the error %q and the failure %v, want %s, %q and none", job.State, job.Error, job.Failing, jobs.StateFailed, failing)
	}
	if got, want := w.Actions(), []string{"job.fail j"}; !slices.Equal(got, want) {
		t.Errorf("recorded: got %q, want %q", got, want)
	}
}

func TestAFailureIsRecorded(t *testing.T) {
	w := newFailing(t)
	w.Work()
	wantFailed(t, w)
	e := w.Recorded[0]
	if e.UserID != "ann" || e.ResourceType != "job" || e.Severity != audit.SeverityError {
		t.Errorf("the entry is by %q about a %q with severity %s, want ann, job and ERROR", e.UserID, e.ResourceType, e.Severity)
	}
	if got, want := string(e.Metadata), `{"kind":"export","error":"`+failing+`"}`; got != want {
		t.Errorf("the metadata is %s, want %s", got, want)
	}
	if want := w.Job("j").FinishedAt; !e.Timestamp.Equal(want) || !e.ID.Time().Equal(want) {
		t.Errorf("the timestamp is %v and the id's %v, want %v", e.Timestamp, e.ID.Time(), want)
	}
}

// TestAFailureHasTheSharedTime: the clock of its worker is a day ahead.
func TestAFailureHasTheSharedTime(t *testing.T) {
	w := newFailing(t)
	shared := w.Time
	w.Worker.Clock = func(context.Context) (time.Time, error) { return shared, nil }
	w.Worker.Now = func() time.Time { return w.Clock().Add(24 * time.Hour) }
	w.Work()
	wantFailed(t, w)
	if e := w.Recorded[0]; !e.Timestamp.Equal(shared) || !e.ID.Time().Equal(shared) {
		t.Errorf("the timestamp is %v and the id's %v, want %v", e.Timestamp, e.ID.Time(), shared)
	}
}

// TestAFailureIsRecordedOnce: its worker is killed before and after each of its calls.
func TestAFailureIsRecordedOnce(t *testing.T) {
	for _, after := range []bool{false, true} {
		for kill := 1; ; kill++ {
			w := newFailing(t)
			w.KillAt, w.After = kill, after
			w.Work()
			wantFailed(t, w)
			if w.Calls < kill {
				break
			}
		}
	}
}

// TestACancellationAndAFailure: somebody cancels the job before and after each call of the worker that finds that
// it fails. The log has what became of it.
func TestACancellationAndAFailure(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			w := newFailing(t)
			var canceled error
			w.InterruptAt, w.After = at, after
			w.Interrupt = func() { _, canceled = w.Service.Cancel(t.Context(), admin, acme, "j") }
			w.Work()
			if w.Calls < at {
				break
			}
			state, want := jobs.StateCanceled, []string{"job.cancel j"}
			if canceled != nil {
				if !errors.Is(canceled, audit.ErrConflict) {
					t.Errorf("cancel at call %d: got %v, want nil or a conflict", at, canceled)
				}
				state, want = jobs.StateFailed, []string{"job.fail j"}
			}
			if got := w.Job("j").State; got != state {
				t.Errorf("canceled at call %d with %v: the job is %s, want %s", at, canceled, got, state)
			}
			if got := w.Actions(); !slices.Equal(got, want) {
				t.Errorf("canceled at call %d with %v: recorded %q, want %q", at, canceled, got, want)
			}
		}
	}
}

// unavailable is a recorder that fails while it is down.
type unavailable struct {
	audit.Recorder
	down bool
}

func (u *unavailable) Record(ctx context.Context, tenant audit.Tenant, entry audit.Entry) error {
	if u.down {
		return errDown
	}
	return u.Recorder.Record(ctx, tenant, entry)
}

func TestAFailureThatCannotBeRecordedWaits(t *testing.T) {
	w := newFailing(t)
	recorder := &unavailable{w.Worker.Recorder, true}
	w.Worker.Recorder = recorder
	w.Deliver(3)
	if job := w.Job("j"); job.State != jobs.StateRunning || job.Error != "" {
		t.Errorf("the job is %s with the error %q, want %s with none: its end is not recorded", job.State, job.Error, jobs.StateRunning)
	}
	if _, err := w.Service.Cancel(t.Context(), admin, acme, "j"); !errors.Is(err, jobs.ErrCommitted) {
		t.Errorf("cancel: got %v, want %v", err, jobs.ErrCommitted)
	}
	recorder.down = false
	w.Work()
	wantFailed(t, w)
}

// The log of a deleted tenant goes with it.
func TestAFailureOfADeletedTenantIsNotRecorded(t *testing.T) {
	w := newFailing(t)
	w.Owner.Status = audit.TenantDeleting
	w.Work()
	if got := w.Job("j").State; got != jobs.StateFailed {
		t.Errorf("the job is %s, want %s", got, jobs.StateFailed)
	}
	if got := w.Actions(); len(got) > 0 {
		t.Errorf("recorded %q, want nothing", got)
	}
}

// TestAFailedJobThatIsStartedAgain is recorded again when it fails again.
func TestAFailedJobThatIsStartedAgain(t *testing.T) {
	w := newFailing(t)
	w.Work()
	if _, err := w.Service.Start(t.Context(), jobs.Job{ID: "j", Kind: jobs.KindExport, Tenant: "acme", CreatedBy: "ann"}); err != nil {
		t.Fatal(err)
	}
	w.Work()
	if got, want := w.Actions(), []string{"job.fail j", "job.fail j"}; !slices.Equal(got, want) {
		t.Errorf("recorded: got %q, want %q", got, want)
	}
}
