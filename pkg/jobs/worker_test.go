package jobs_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

// kindExample is a kind of job that can be canceled and that an admin may start.
const kindExample jobs.Kind = "example"

// runnerFunc is a Runner.
type runnerFunc func(ctx context.Context, s *jobs.Slice) (jobs.Result, error)

func (f runnerFunc) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) { return f(ctx, s) }

// fixture is a service and a worker over the embedded engine.
type fixture struct {
	*jobs.Service
	worker *jobs.Worker
	queue  *queue
	now    time.Time

	recorded []audit.Entry
	noRecord error
}

var acme = audit.Tenant{ID: "acme"}

// Record implements jobs.Recorder.
func (f *fixture) Record(_ context.Context, _ audit.Tenant, entry audit.Entry) error {
	f.recorded = append(f.recorded, entry)
	return f.noRecord
}

// Tenant implements jobs.TenantReader.
func (f *fixture) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) { return acme, nil }

func newFixture(t *testing.T, run runnerFunc) *fixture {
	t.Helper()
	f := &fixture{queue: &queue{}, now: epoch}
	clock := func() time.Time { return f.now }
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.WithClock(clock))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f.Service = &jobs.Service{
		Store: db.Jobs(), Queues: jobs.Queues{Jobs: f.queue, Archive: f.queue}, Recorder: f, Now: clock,
		Definitions: append(jobs.Definitions(), jobs.Definition{Kind: kindExample, Permission: access.LogsExport, Cancelable: true}),
	}
	f.worker = &jobs.Worker{
		Store: db.Jobs(), Queues: jobs.Queues{Jobs: f.queue, Archive: f.queue}, Runners: map[jobs.Kind]jobs.Runner{kindExample: run}, Now: clock,
		Recorder: f, Tenants: f, Random: jobtest.Random, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return f
}

func (f *fixture) start(t *testing.T, id string) jobs.Job {
	t.Helper()
	job, err := f.Start(t.Context(), jobs.Job{ID: id, Kind: kindExample, Tenant: "acme", CreatedBy: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// handle has the worker handle the nth message.
func (f *fixture) handle(t *testing.T, n int) {
	t.Helper()
	if err := f.worker.Handle(t.Context(), f.queue.bodies[n]); err != nil {
		t.Errorf("handle message %d: %v", n, err)
	}
}

func (f *fixture) stored(t *testing.T, id string) jobs.Job {
	t.Helper()
	job, err := f.Store.Job(t.Context(), "acme", id)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func (f *fixture) wantState(t *testing.T, id string, want jobs.State) {
	t.Helper()
	if got := f.stored(t, id).State; got != want {
		t.Errorf("the job is %s, want %s", got, want)
	}
}

// steps is a runner that counts its slices in the checkpoint, and ends after three.
func steps(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	var done int
	if err := s.Read(&done); err != nil {
		return jobs.Result{}, err
	}
	done++
	s.Job.Count = int64(done)
	return jobs.Result{Done: done == 3}, s.Save(ctx, done)
}

// A job reads the archive in its second slice. What it leaves is removed by the other workers.
func TestAJobGoesToTheWorkersOfTheArchiveAndBack(t *testing.T) {
	f := newFixture(t, runnerFunc(func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		var done int
		if err := s.Read(&done); err != nil {
			return jobs.Result{}, err
		}
		done++
		s.Job.Archive = done == 1
		return jobs.Result{Done: done == 3}, s.Save(ctx, done)
	}))
	archive := &queue{}
	f.worker.Archive, f.Archive = archive, archive
	f.start(t, "a")
	f.handle(t, 0)
	if len(archive.bodies) != 1 || len(f.queue.bodies) != 1 {
		t.Fatalf("after the first slice there are %d messages for the workers of the archive and %d for the others, want 1 and 1", len(archive.bodies), len(f.queue.bodies))
	}
	f.now = f.now.Add(time.Hour)
	if _, err := f.Plan(t.Context()); err != nil { // as if the message was lost
		t.Fatal(err)
	}
	if len(archive.bodies) != 2 {
		t.Fatalf("the archive's workers have %d messages after a lost one, want 2", len(archive.bodies))
	}
	for _, body := range archive.bodies {
		if err := f.worker.Handle(t.Context(), body); err != nil {
			t.Error(err)
		}
	}
	if len(archive.bodies) != 2 || len(f.queue.bodies) != 2 {
		t.Fatalf("after the second slice there are %d messages for the workers of the archive and %d for the others, want 2 and 2", len(archive.bodies), len(f.queue.bodies))
	}
	f.handle(t, 1)
	f.wantState(t, "a", jobs.StateSucceeded)
	if _, err := f.Start(t.Context(), jobs.Job{ID: "r", Kind: jobs.KindRestore, Tenant: "acme", CreatedBy: "ann"}); err != nil {
		t.Fatal(err)
	}
	if len(archive.bodies) != 3 {
		t.Errorf("a restore sent %d messages to the workers of the archive, want 1", len(archive.bodies)-2)
	}
}

func TestAJobContinuesInSlices(t *testing.T) {
	f := newFixture(t, steps)
	f.start(t, "j")
	for n := range 3 {
		f.handle(t, n)
		if got, want := f.stored(t, "j").Count, int64(n+1); got != want {
			t.Errorf("after slice %d the count is %d, want %d", n+1, got, want)
		}
	}
	f.wantState(t, "j", jobs.StateSucceeded)
	if got := len(f.queue.bodies); got != 3 {
		t.Errorf("%d messages were sent, want 3", got)
	}
}

func TestAMessageThatComesAgainHasNoEffect(t *testing.T) {
	f := newFixture(t, steps)
	f.start(t, "j")
	f.handle(t, 0)
	f.handle(t, 0)
	if got := f.stored(t, "j").Count; got != 1 {
		t.Errorf("the count is %d, want 1", got)
	}
	if got := len(f.queue.bodies); got != 2 {
		t.Errorf("%d messages were sent, want 2", got)
	}
}

func TestAFailureThatPassesIsRepeated(t *testing.T) {
	fail := true
	f := newFixture(t, func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		if fail {
			return jobs.Result{}, errDown
		}
		return jobs.Result{Done: true}, nil
	})
	f.start(t, "j")
	for n := range 10 {
		f.handle(t, n)
	}
	f.wantState(t, "j", jobs.StateRunning)
	first, last := f.queue.delays[1], f.queue.delays[10]
	if first < time.Second || first > 2*time.Second {
		t.Errorf("the first delay is %v, want from 1s to 2s", first)
	}
	if last < 150*time.Second || last > 5*time.Minute {
		t.Errorf("the tenth delay is %v, want from 2m30s to 5m", last)
	}
	if got := f.stored(t, "j").Error; got != "" {
		t.Errorf("the job shows the error %q, want none: it is not over", got)
	}
	fail = false
	f.handle(t, 10)
	f.wantState(t, "j", jobs.StateSucceeded)
}

// TestAJobThatFailsManyTimesIsTold: its slices fail, or their worker is killed and another one takes the job.
func TestAJobThatFailsManyTimesIsTold(t *testing.T) {
	for _, killed := range []bool{false, true} {
		ok := false
		f := newFixture(t, func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
			switch {
			case ok:
				return jobs.Result{Wait: time.Second}, nil
			case killed:
				return jobs.Result{}, audit.ErrPrecondition // it saves nothing more
			}
			return jobs.Result{}, errDown
		})
		var told []int
		f.worker.Failing = func(_ context.Context, job *jobs.Job) { told = append(told, job.Failures) }
		slice := func() {
			t.Helper()
			if killed {
				f.now = f.now.Add(time.Hour)
				if _, err := f.Plan(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			f.handle(t, len(f.queue.bodies)-1)
		}
		f.start(t, "j")
		for range 10 {
			slice()
		}
		if len(told) > 0 {
			t.Errorf("killed %t: told after %v failures, want nothing in ten slices", killed, told)
		}
		slice()
		ok = true
		slice()
		slice()
		if want := []int{11, 12}; !slices.Equal(told, want) {
			t.Errorf("killed %t: told in slices %v, want %v: the later one follows one that ended well", killed, told, want)
		}
	}
}

func TestAPanicIsRepeated(t *testing.T) {
	f := newFixture(t, func(context.Context, *jobs.Slice) (jobs.Result, error) { panic("content") })
	f.start(t, "j")
	f.handle(t, 0)
	f.wantState(t, "j", jobs.StateRunning)
	if got := len(f.queue.bodies); got != 2 {
		t.Errorf("%d messages were sent, want 2", got)
	}
}

func TestAFailureThatDoesNotPassEndsTheJob(t *testing.T) {
	f := newFixture(t, func(context.Context, *jobs.Slice) (jobs.Result, error) {
		return jobs.Result{}, errors.Join(errDown, &jobs.FailedError{Reason: "the range is empty"})
	})
	f.start(t, "j")
	f.handle(t, 0)
	f.wantState(t, "j", jobs.StateFailed)
	if got, want := f.stored(t, "j").Error, "the range is empty"; got != want {
		t.Errorf("the job's error is %q, want %q", got, want)
	}
}

func TestUnknownJobsAndKinds(t *testing.T) {
	f := newFixture(t, steps)
	unknown := `{"v":1,"tenant":"acme","job":"x","generation":0}`
	if err := f.worker.Handle(t.Context(), unknown); err != nil {
		t.Errorf("a message of a job that no longer exists: %v, want nil", err)
	}
	f.start(t, "j")
	if err := f.worker.Handle(t.Context(), `{"v":1,"tenant":"globex","job":"j","generation":0}`); err != nil {
		t.Errorf("a message of another tenant: %v, want nil", err)
	}
	f.wantState(t, "j", jobs.StateQueued)
	delete(f.worker.Runners, kindExample)
	if err := f.worker.Handle(t.Context(), f.queue.bodies[0]); err == nil {
		t.Error("a job of a later release: no error, want one, so that the message waits")
	}
	f.wantState(t, "j", jobs.StateQueued)
}

func TestACanceledJobStopsAtItsNextSave(t *testing.T) {
	var f *fixture
	saved := 0
	f = newFixture(t, func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		if _, err := f.Cancel(ctx, admin, acme, "j"); err != nil {
			t.Error(err)
		}
		if err := s.Save(ctx, 1); err != nil {
			return jobs.Result{}, err
		}
		saved++
		return jobs.Result{}, nil
	})
	f.start(t, "j")
	f.handle(t, 0)
	f.wantState(t, "j", jobs.StateCanceled)
	if saved != 0 {
		t.Errorf("the worker saved %d times after the job was canceled, want 0", saved)
	}
	if got := len(f.queue.bodies); got != 1 {
		t.Errorf("%d messages were sent, want 1", got)
	}
	if got := f.stored(t, "j").FinishedAt; got.IsZero() {
		t.Error("the job has no finished_at, want one")
	}
}

// TestPlanResumesWhatStandsStill: a job whose first message was lost, and one whose worker
// was killed after it took the job.
func TestPlanResumesWhatStandsStill(t *testing.T) {
	f := newFixture(t, steps)
	f.queue.err = errDown
	if _, err := f.Start(t.Context(), jobs.Job{ID: "lost", Kind: kindExample, Tenant: "acme"}); !errors.Is(err, errDown) {
		t.Fatalf("start: %v, want the queue's error", err)
	}
	f.queue.err = nil
	f.start(t, "killed")
	killed := f.stored(t, "killed")
	killed.Generation, killed.State = 1, jobs.StateRunning
	if err := f.Store.UpdateJob(t.Context(), killed, 0); err != nil {
		t.Fatal(err)
	}
	f.queue.bodies = nil
	plan := func(after time.Duration, want int) {
		t.Helper()
		f.now = f.now.Add(after)
		sent, err := f.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if sent != want {
			t.Errorf("%d jobs were resumed, want %d", sent, want)
		}
	}
	plan(2*time.Minute, 0)
	plan(2*time.Minute, 2)
	plan(time.Minute, 0) // their messages wait in the queue
	for n := 0; n < len(f.queue.bodies); n++ {
		f.handle(t, n)
	}
	f.wantState(t, "lost", jobs.StateSucceeded)
	f.wantState(t, "killed", jobs.StateSucceeded)
	plan(24*time.Hour, 0)
}

// TestPlanLeavesWaitingJobs: a job that waits for its time does not stand still.
func TestPlanLeavesWaitingJobs(t *testing.T) {
	f := newFixture(t, func(context.Context, *jobs.Slice) (jobs.Result, error) {
		return jobs.Result{Wait: 10 * time.Minute}, nil
	})
	f.start(t, "j")
	f.handle(t, 0)
	for minute := range 13 {
		f.now = f.now.Add(time.Minute)
		sent, err := f.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := minute / 12; sent != want {
			t.Errorf("minute %d: %d jobs were resumed, want %d", minute+1, sent, want)
		}
	}
}

func TestPlanHandlesManyJobs(t *testing.T) {
	f := newFixture(t, steps)
	for n := range 250 {
		err := f.Store.CreateJob(t.Context(), jobs.Job{
			ID: string(rune('a'+n%26)) + string(rune('a'+n/26)), Kind: kindExample, Tenant: "acme", State: jobs.StateQueued, ResumeAt: f.now,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sent, err := f.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sent != 250 {
		t.Errorf("%d jobs were resumed, want 250", sent)
	}
}

var (
	admin    = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": access.RoleAdmin.Permissions()}}
	auditor  = access.Principal{Subject: "aud", Grants: map[audit.TenantID][]access.Permission{"acme": access.RoleAuditor.Permissions()}}
	exporter = access.Principal{Subject: "exp", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsExport}}}
	reader   = access.Principal{Subject: "rea", Grants: map[audit.TenantID][]access.Permission{"acme": {access.JobsRead}}}
	nobody   = access.Principal{Subject: "nob", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsWrite}}}
)

func TestWhoSeesAJob(t *testing.T) {
	f := newFixture(t, steps)
	f.start(t, "export")
	if _, err := f.Start(t.Context(), jobs.Job{ID: "purge", Kind: jobs.KindPurgeTenant, Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		by   access.Principal
		want int
	}{"admin": {admin, 2}, "auditor": {auditor, 2}, "operator": {operator, 2}, "exporter": {exporter, 1}, "reader": {reader, 2}, "nobody": {nobody, 0}} {
		list, more, err := f.List(t.Context(), c.by, "acme", jobs.Filter{}, nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		if more {
			t.Errorf("%s: more jobs follow, want none", name)
		}
		if len(list) != c.want {
			t.Errorf("%s sees %d jobs, want %d", name, len(list), c.want)
		}
		_, err = f.Job(t.Context(), c.by, "acme", "purge")
		if seen, want := err == nil, c.want == 2; seen != want {
			t.Errorf("%s reads the purge: got error %v, want it seen: %t", name, err, want)
		}
	}
}

func TestWhoCancelsAJob(t *testing.T) {
	f := newFixture(t, steps)
	f.start(t, "j")
	if _, err := f.Start(t.Context(), jobs.Job{ID: "purge", Kind: jobs.KindPurgeTenant, Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		by   access.Principal
		id   string
		want error
	}{
		"one who only reads":   {reader, "j", audit.ErrForbidden},
		"one who sees nothing": {nobody, "j", audit.ErrNotFound},
		"an unknown job":       {admin, "x", audit.ErrNotFound},
		"a deletion, operator": {operator, "purge", jobs.ErrNotCancelable},
		"a deletion, admin":    {admin, "purge", audit.ErrForbidden},
		"one who may start it": {exporter, "j", nil},
	} {
		if _, err := f.Cancel(t.Context(), c.by, acme, c.id); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := f.Cancel(t.Context(), admin, acme, "j"); err != nil {
		t.Errorf("cancel again: %v", err)
	}
	f.wantState(t, "j", jobs.StateCanceled)
	f.start(t, "done")
	for n := range f.queue.bodies {
		_ = f.worker.Handle(t.Context(), f.queue.bodies[n]) // the purge has no runner here
	}
	for n := 3; n < len(f.queue.bodies); n++ {
		f.handle(t, n)
	}
	f.wantState(t, "done", jobs.StateSucceeded)
	if _, err := f.Cancel(t.Context(), admin, acme, "done"); !errors.Is(err, jobs.ErrFinished) {
		t.Errorf("cancel a finished job: %v, want ErrFinished", err)
	}
}

// TestARestrictedCallerAndJobs: a caller sees and cancels no job that it may not start, or that reads
// entries outside its resources.
func TestARestrictedCallerAndJobs(t *testing.T) {
	f := newFixture(t, steps)
	orders, users := []access.Resource{{Type: "order"}}, []access.Resource{{Type: "user"}}
	all := map[string]jobs.Job{
		"erasure":         {Kind: jobs.KindErasure},
		"hold":            {Kind: jobs.KindLegalHold},
		"archive":         {Kind: jobs.KindArchive},
		"purge":           {Kind: jobs.KindPurgeTenant},
		"export":          {Kind: jobs.KindExport, Scope: &access.Scope{}},
		"export-orders":   {Kind: jobs.KindExport, Scope: &access.Scope{Resources: orders}},
		"cleanup":         {Kind: jobs.KindCleanup, Scope: &access.Scope{}},
		"cleanup-users":   {Kind: jobs.KindCleanup, Scope: &access.Scope{Resources: users}},
		"cleanup-order-7": {Kind: jobs.KindCleanup, Scope: &access.Scope{Resources: []access.Resource{{Type: "order", ID: "7"}}}},
	}
	for id, job := range all {
		job.ID, job.Tenant = id, "acme"
		if _, err := f.Start(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	own := []string{"export-orders", "cleanup-order-7"}
	for name, restricted := range map[string]access.Principal{"admin": admin, "auditor": auditor} {
		restricted.Resources = orders
		list, _, err := f.List(t.Context(), restricted, "acme", jobs.Filter{}, nil, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range list {
			if !slices.Contains(own, job.ID) {
				t.Errorf("%s: the list has %s, want %v alone", name, job.ID, own)
			}
		}
		if len(list) != len(own) {
			t.Errorf("%s: listed %d jobs, want %d", name, len(list), len(own))
		}
	}
	restricted := admin
	restricted.Resources = orders
	for id := range all {
		var want error
		if !slices.Contains(own, id) {
			want = audit.ErrNotFound
		}
		if _, err := f.Job(t.Context(), restricted, "acme", id); !errors.Is(err, want) {
			t.Errorf("read %s: got error %v, want %v", id, err, want)
		}
		if _, err := f.Cancel(t.Context(), restricted, acme, id); !errors.Is(err, want) {
			t.Errorf("cancel %s: got error %v, want %v", id, err, want)
		}
		state := jobs.StateQueued
		if want == nil {
			state = jobs.StateCanceled
		}
		f.wantState(t, id, state)
	}
}

func TestQueuedJobsAreLimited(t *testing.T) {
	f := newFixture(t, steps)
	for n := range jobs.MaxQueued {
		f.start(t, string(rune('a'+n)))
	}
	start := func(id string, kind jobs.Kind) error {
		_, err := f.Start(t.Context(), jobs.Job{ID: id, Kind: kind, Tenant: "acme"})
		return err
	}
	if err := start("more", kindExample); !errors.Is(err, jobs.ErrTooManyQueued) {
		t.Errorf("one more: %v, want ErrTooManyQueued", err)
	}
	if err := start("purge", jobs.KindPurgeTenant); err != nil {
		t.Errorf("the deletion of the tenant: %v", err)
	}
	f.handle(t, 0) // it runs now
	if err := start("more", kindExample); err != nil {
		t.Errorf("one more once another runs: %v", err)
	}
}

func TestACanceledJobIsRecordedFirst(t *testing.T) {
	f := newFixture(t, steps)
	f.start(t, "j")
	f.noRecord = errDown
	if _, err := f.Cancel(t.Context(), admin, acme, "j"); !audit.IsUnavailable(err) {
		t.Errorf("a cancellation that cannot be recorded: got %v, want an *audit.UnavailableError", err)
	}
	f.wantState(t, "j", jobs.StateQueued)
	f.noRecord, f.recorded = nil, nil
	if _, err := f.Cancel(t.Context(), admin, acme, "j"); err != nil {
		t.Fatal(err)
	}
	want := []audit.Entry{{UserID: admin.Subject, Action: "job.cancel", ResourceType: "job", ResourceID: "j", Metadata: audit.Object(`{"kind":"example"}`)}}
	if !reflect.DeepEqual(f.recorded, want) {
		t.Errorf("recorded: got %+v, want %+v", f.recorded, want)
	}
}

// reporting tells of what its jobs did.
type reporting struct{ jobs.Runner }

func (reporting) Report(_ *jobs.Job, state jobs.State) (audit.Entry, error) {
	return audit.Entry{Action: "example.finish", ResourceType: "job", Metadata: audit.Object(`{"state":"` + string(state) + `"}`)}, nil
}

// TestACanceledJobIsReportedWithItsMessage: the message comes again because the entry could not be recorded.
func TestACanceledJobIsReportedWithItsMessage(t *testing.T) {
	f := newFixture(t, steps)
	f.Definitions[len(f.Definitions)-1].Cleaned = true
	f.worker.Runners[kindExample] = reporting{runnerFunc(steps)}
	f.start(t, "j")
	if _, err := f.Cancel(t.Context(), admin, acme, "j"); err != nil {
		t.Fatal(err)
	}
	f.noRecord, f.recorded = errDown, nil
	last := f.queue.bodies[len(f.queue.bodies)-1]
	if err := f.worker.Handle(t.Context(), last); !errors.Is(err, errDown) {
		t.Errorf("got error %v, want %v", err, errDown)
	}
	f.noRecord, f.recorded = nil, nil
	for range 2 {
		if err := f.worker.Handle(t.Context(), last); err != nil {
			t.Error(err)
		}
	}
	if len(f.recorded) != 1 || f.recorded[0].Action != "example.finish" {
		t.Errorf("recorded %+v, want what the job did, once", f.recorded)
	}
}

// settling can still write after its jobs were canceled.
type settling struct{ reporting }

func (settling) SettleTime() time.Duration { return time.Minute }

// TestACanceledJobSettles: later jobs wait while its worker can still write. The clock of who canceled it decides nothing.
func TestACanceledJobSettles(t *testing.T) {
	f := newFixture(t, steps)
	f.Definitions[len(f.Definitions)-1].Cleaned = true
	f.worker.Runners[kindExample] = settling{reporting{runnerFunc(steps)}}
	f.start(t, "j")
	f.Now = func() time.Time { return f.now.AddDate(0, 0, -1) }
	if _, err := f.Cancel(t.Context(), admin, acme, "j"); err != nil {
		t.Fatal(err)
	}
	later := jobs.Job{ID: "later", Tenant: "acme", CreatedAt: f.now.Add(time.Second)}
	wantWaits := func(when string, want bool) {
		t.Helper()
		waits, err := jobs.EarlierUnfinished(t.Context(), f.Store, &later, kindExample)
		if err != nil || waits != want {
			t.Errorf("%s: a later job waits: %t, %v, want %t", when, waits, err, want)
		}
	}
	handleLast := func() { f.handle(t, len(f.queue.bodies)-1) }
	handleLast()
	wantWaits("at once", true)
	if got := f.queue.delays[len(f.queue.delays)-1]; got != time.Minute {
		t.Errorf("the message comes again after %v, want a minute", got)
	}
	f.now = f.now.Add(time.Minute - time.Millisecond)
	handleLast()
	wantWaits("before the minute is over", true)
	f.now = f.now.Add(time.Millisecond)
	handleLast()
	wantWaits("after a minute", false)
}

// A Cancel that has read the job before the commit must not win after it.
func TestACommittedJobCannotBeCanceled(t *testing.T) {
	var f *fixture
	f = newFixture(t, func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		read := f.stored(t, "j")
		if err := s.Commit(ctx, 1); err != nil {
			t.Errorf("commit: got %v, want no error", err)
		}
		if err := f.Store.UpdateJob(ctx, read, read.Generation); !errors.Is(err, audit.ErrPrecondition) {
			t.Errorf("an update of who read the job before: got %v, want %v", err, audit.ErrPrecondition)
		}
		if _, err := f.Cancel(ctx, admin, acme, "j"); !errors.Is(err, jobs.ErrCommitted) {
			t.Errorf("cancel: got %v, want %v", err, jobs.ErrCommitted)
		}
		return jobs.Result{Done: true}, s.Save(ctx, 2)
	})
	f.start(t, "j")
	f.handle(t, 0)
	f.wantState(t, "j", jobs.StateSucceeded)
}

func TestACanceledJobIsNotCommitted(t *testing.T) {
	var f *fixture
	f = newFixture(t, func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		if _, err := f.Cancel(ctx, admin, acme, "j"); err != nil {
			t.Errorf("cancel: got %v, want no error", err)
		}
		err := s.Commit(ctx, 1)
		if !errors.Is(err, audit.ErrPrecondition) {
			t.Errorf("commit: got %v, want %v", err, audit.ErrPrecondition)
		}
		return jobs.Result{}, err
	})
	f.start(t, "j")
	f.handle(t, 0)
	f.wantState(t, "j", jobs.StateCanceled)
}

// leaving is a runner whose jobs leave something for seven days.
type leaving struct {
	cleaned int
	err     error // of their removal
}

func (*leaving) Run(context.Context, *jobs.Slice) (jobs.Result, error) {
	return jobs.Result{Done: true, KeepFor: 7 * 24 * time.Hour}, nil
}

func (l *leaving) Clean(context.Context, *jobs.Job) error {
	l.cleaned++
	return l.err
}

// TestWhatCannotBeRemovedIsTriedAgain: Plan sends the message, and operators hear of it.
func TestWhatCannotBeRemovedIsTriedAgain(t *testing.T) {
	f := newFixture(t, steps)
	f.Definitions[len(f.Definitions)-1].Cleaned = true
	l := &leaving{err: errDown}
	f.worker.Runners[kindExample] = l
	told := 0
	f.worker.Failing = func(context.Context, *jobs.Job) { told++ }
	f.start(t, "j")
	if _, err := f.Cancel(t.Context(), admin, acme, "j"); err != nil {
		t.Fatal(err)
	}
	f.handle(t, len(f.queue.bodies)-1)
	const tries = 12
	for l.cleaned < tries {
		f.now = f.now.Add(5 * time.Minute)
		if sent, err := f.Plan(t.Context()); err != nil || sent != 1 {
			t.Fatalf("after %d tries Plan sent %d messages, %v, want 1", l.cleaned, sent, err)
		}
		f.handle(t, len(f.queue.bodies)-1)
	}
	if want := tries - 10; told != want {
		t.Errorf("operators were told %d times, want %d", told, want)
	}
	l.err = nil
	f.handle(t, len(f.queue.bodies)-1)
	if job := f.stored(t, "j"); !job.CleanAt.IsZero() || job.Failures != 0 {
		t.Errorf("the job is to be cleaned at %v after %d failures, want it cleaned", job.CleanAt, job.Failures)
	}
}

// TestWhatAJobLeavesIsKeptByTheSharedClock: that of the workers is a day ahead.
func TestWhatAJobLeavesIsKeptByTheSharedClock(t *testing.T) {
	const oneDay = 24 * time.Hour
	l, f := &leaving{}, newFixture(t, nil)
	f.worker.Runners[kindExample] = l
	shared := epoch
	f.worker.Clock = func(context.Context) (time.Time, error) { return shared, nil }
	f.start(t, "j")
	for _, test := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {7*oneDay - time.Minute, 0}, {7 * oneDay, 1}, {8 * oneDay, 1}} {
		shared = epoch.Add(test.after)
		f.now = shared.Add(oneDay)
		if _, err := f.Plan(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.handle(t, len(f.queue.bodies)-1)
		if l.cleaned != test.want {
			t.Errorf("after %s what it left was removed %d times, want %d", test.after, l.cleaned, test.want)
		}
	}
	if got := f.stored(t, "j").CleanAt; !got.IsZero() {
		t.Errorf("it is to be cleaned at %s, want never again", got)
	}
}

// TestASaveMakesStaleWhatWasReadBefore: a worker that takes a job over, or a cancellation, that has read the job before a
// save would put its older checkpoint in the place of the newer one. The step after the save would be unknown.
func TestASaveMakesStaleWhatWasReadBefore(t *testing.T) {
	var f *fixture
	f = newFixture(t, func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		read, err := f.Store.Job(ctx, "acme", "j")
		if err != nil {
			return jobs.Result{}, err
		}
		if err := s.Save(ctx, 7); err != nil {
			return jobs.Result{}, err
		}
		claimed := read
		claimed.Generation++
		if err := f.Store.UpdateJob(ctx, claimed, read.Generation); !errors.Is(err, audit.ErrPrecondition) {
			t.Errorf("claim what was read before a save: got error %v, want %v", err, audit.ErrPrecondition)
		}
		return jobs.Result{Done: true}, nil
	})
	f.start(t, "j")
	f.handle(t, 0)
	job, err := f.Store.Job(t.Context(), "acme", "j")
	if err != nil || job.State != jobs.StateSucceeded || string(job.Checkpoint) != "7" {
		t.Errorf("the job is %s with checkpoint %s, %v, want it to succeed with 7", job.State, job.Checkpoint, err)
	}
}
