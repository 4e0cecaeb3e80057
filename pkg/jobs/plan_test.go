package jobs_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// planAfter lets time pass and wants that one run of Plan resumes so many jobs.
func (f *fixture) planAfter(t *testing.T, d time.Duration, want int) {
	t.Helper()
	f.now = f.now.Add(d)
	sent, err := f.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sent != want {
		t.Errorf("%s later %d jobs were resumed, want %d", d, sent, want)
	}
}

// TestPlanTrustsNoWorkersClock: the clock of a worker was 30 days ahead, and its message was
// lost.
func TestPlanTrustsNoWorkersClock(t *testing.T) {
	f := newFixture(t, func(context.Context, *jobs.Slice) (jobs.Result, error) { return jobs.Result{Done: true}, nil })
	job := f.start(t, "j")
	job.State, job.Generation, job.ResumeAt = jobs.StateRunning, 1, f.now.AddDate(0, 0, 30) // as that worker saved it
	if err := f.Store.UpdateJob(t.Context(), job, 0); err != nil {
		t.Fatal(err)
	}
	f.planAfter(t, 2*time.Minute, 1)
	f.handle(t, 1)
	f.wantState(t, "j", jobs.StateSucceeded)
}

// TestPlanKeepsTheCheckpoint: the store lists jobs without it.
func TestPlanKeepsTheCheckpoint(t *testing.T) {
	f := newFixture(t, steps)
	f.start(t, "j")
	f.handle(t, 0)
	before, err := f.Store.Job(t.Context(), "acme", "j")
	if err != nil {
		t.Fatal(err)
	}
	if before.Checkpoint == nil {
		t.Fatal("the job has no checkpoint after a slice, want one")
	}
	f.planAfter(t, time.Hour, 1)
	after, err := f.Store.Job(t.Context(), "acme", "j")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(after.Checkpoint), string(before.Checkpoint); got != want {
		t.Errorf("got the checkpoint %s after Plan, want %s", got, want)
	}
}

// TestPlanSendsEverMoreRarely: a job waits in the queue for a day.
func TestPlanSendsEverMoreRarely(t *testing.T) {
	f := newFixture(t, steps)
	f.start(t, "j")
	for range 12 * 60 {
		f.now = f.now.Add(2 * time.Minute)
		if _, err := f.Plan(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got, most := len(f.queue.bodies), 55; got > most {
		t.Errorf("%d messages were sent in a day, want at most %d", got, most)
	}
	if got, least := len(f.queue.bodies), 45; got < least {
		t.Errorf("%d messages were sent in a day, want at least %d", got, least)
	}
	f.handle(t, 0)
	f.wantState(t, "j", jobs.StateRunning)
}

// busyStore has a worker save a job after it was listed as overdue.
type busyStore struct {
	jobs.Store
	save func()
}

func (s *busyStore) OverdueJobs(ctx context.Context, at, latest time.Time, limit int) ([]jobs.Job, error) {
	list, err := s.Store.OverdueJobs(ctx, at, latest, limit)
	s.save()
	return list, err
}

// TestPlanLosesNoSaveOfAWorker: a worker saves its job for the first time in minutes, just when Plan takes it for
// abandoned. The job goes on from what was saved, or has ended.
func TestPlanLosesNoSaveOfAWorker(t *testing.T) {
	for _, state := range []jobs.State{jobs.StateRunning, jobs.StateSucceeded} {
		f := newFixture(t, steps)
		f.start(t, "j")
		f.handle(t, 0)
		want, err := f.Store.Job(t.Context(), "acme", "j")
		if err != nil {
			t.Fatal(err)
		}
		sent := len(f.queue.bodies)
		f.now = f.now.Add(time.Hour)
		want.State, want.Checkpoint, want.ResumeAt = state, []byte(`{"saved":true}`), f.now.Add(time.Minute)
		if state.Finished() {
			want.FinishedAt, want.ResumeAt = f.now, time.Time{}
		}
		store := f.Store
		f.Store = &busyStore{store, func() {
			if err := store.UpdateJob(t.Context(), want, want.Generation); err != nil {
				t.Error(err)
			}
		}}
		if _, err := f.Plan(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := store.Job(t.Context(), "acme", "j")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the job (-saved +got):\n%s", state, diff)
		}
		if n := len(f.queue.bodies) - sent; n > 0 {
			t.Errorf("%s: Plan sent %d messages, want none", state, n)
		}
	}
}

// countingStore counts the lists.
type countingStore struct {
	jobs.Store
	lists int
}

func (s *countingStore) Jobs(ctx context.Context, tenant audit.TenantID, filter jobs.Filter, after *jobs.Position, limit int) ([]jobs.Job, bool, error) {
	s.lists++
	return s.Store.Jobs(ctx, tenant, filter, after, limit)
}

// TestAShortPageIsFoundInFewReads: a caller who may see none of 300 jobs asks for one.
func TestAShortPageIsFoundInFewReads(t *testing.T) {
	f := newFixture(t, steps)
	for i := range 300 {
		job := jobs.Job{ID: fmt.Sprint(i), Kind: kindExample, Tenant: "acme", State: jobs.StateSucceeded, CreatedAt: epoch, FinishedAt: epoch, Scope: &access.Scope{}}
		if err := f.Store.CreateJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	restricted := admin
	restricted.Resources = []access.Resource{{Type: "order"}}
	store := &countingStore{Store: f.Store}
	f.Store = store
	list, more, err := f.List(t.Context(), restricted, "acme", jobs.Filter{}, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	if more || len(list) > 0 {
		t.Errorf("listed %d jobs, and more: %t, want none", len(list), more)
	}
	if most := 4; store.lists > most {
		t.Errorf("read %d pages, want at most %d", store.lists, most)
	}
}

// TestWhoMayStartAJobMaySeeJobs: each permission that starts a kind of job admits to GET /jobs.
func TestWhoMayStartAJobMaySeeJobs(t *testing.T) {
	for _, d := range jobs.Definitions() {
		by := access.Principal{Subject: "s", Grants: map[audit.TenantID][]access.Permission{access.AnyTenant: {d.Permission}}}
		if _, err := by.Authorize("acme", access.JobsRead); err != nil {
			t.Errorf("who may start %s: %v, want that its jobs can be listed", d.Kind, err)
		}
	}
}
