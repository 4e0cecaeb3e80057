package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Jobs tests an adapter of jobs.Store.
func Jobs(t *testing.T, open func(t *testing.T) jobs.Store) {
	t.Run("CreateReadUpdate", func(t *testing.T) { jobsRoundTrip(t, open(t)) })
	t.Run("UpdateIsConditional", func(t *testing.T) { jobsUpdateIsConditional(t, open(t)) })
	t.Run("ConcurrentClaims", func(t *testing.T) { jobsConcurrentClaims(t, open(t)) })
	t.Run("TenantsAreApart", func(t *testing.T) { jobsKeepTenantsApart(t, open(t)) })
	t.Run("Pages", func(t *testing.T) { jobsPages(t, open(t)) })
	t.Run("Filters", func(t *testing.T) { jobsFilters(t, open(t)) })
	t.Run("ListsLackCheckpoints", func(t *testing.T) { jobsListsLackCheckpoints(t, open(t)) })
	t.Run("Postponing", func(t *testing.T) { jobsPostpone(t, open(t)) })
	t.Run("Overdue", func(t *testing.T) { jobsOverdue(t, open(t)) })
}

func newJob(tenant audit.TenantID) jobs.Job {
	created := time.Now().UTC().Truncate(time.Millisecond) // stores remove what finished long ago
	return jobs.Job{
		ID: randomHex(8), Kind: jobs.KindPurgeTenant, Tenant: tenant, State: jobs.StateQueued, CreatedBy: "op",
		CreatedAt: created, ResumeAt: created.Add(time.Minute),
	}
}

func jobsRoundTrip(t *testing.T, s jobs.Store) {
	job := newJob(newTenant(t))
	_, err := s.Job(t.Context(), job.Tenant, job.ID)
	wantError(t, err, audit.ErrNotFound)
	wantError(t, s.UpdateJob(t.Context(), job, 0), audit.ErrNotFound)
	noError(t, s.CreateJob(t.Context(), job))
	wantError(t, s.CreateJob(t.Context(), job), audit.ErrConflict)
	same(t, must[jobs.Job](t)(s.Job(t.Context(), job.Tenant, job.ID)), job)
	job.Scope = &access.Scope{Owner: "ann", Resources: []access.Resource{{Type: "order"}, {Type: "user", ID: "42"}}}
	job.State, job.Progress, job.Count, job.Error, job.Failures = jobs.StateFailed, 0.25, 1<<40, `it's "broken"`, 7
	job.StartedAt, job.FinishedAt, job.ResumeAt = job.CreatedAt.Add(time.Second), job.CreatedAt.Add(time.Hour), job.CreatedAt.Add(48*time.Hour)
	job.CleanAt = job.CreatedAt.Add(24 * time.Hour)
	job.Checkpoint, job.Generation, job.Committed, job.Archive, job.Resent = json.RawMessage(`{"pass":1,"name":"ü \"x\""}`), 3, true, true, 2
	job.Certificate, job.ArchiveCount = randomID(), new(int64)
	job.Failing = &jobs.Failure{Reason: `it's "broken"`, EntryID: audit.NewEntryID(job.CreatedAt, [10]byte{9, 7})}
	job.ReportID = audit.NewEntryID(job.CreatedAt, [10]byte{9, 8})
	noError(t, s.UpdateJob(t.Context(), job, 0))
	same(t, must[jobs.Job](t)(s.Job(t.Context(), job.Tenant, job.ID)), job)
	job.Scope, job.Failing, job.ReportID, job.CleanAt, job.ResumeAt = &access.Scope{}, nil, audit.EntryID{}, time.Time{}, time.Time{}
	noError(t, s.UpdateJob(t.Context(), job, 3))
	same(t, must[jobs.Job](t)(s.Job(t.Context(), job.Tenant, job.ID)), job)
}

func jobsUpdateIsConditional(t *testing.T, s jobs.Store) {
	job := newJob(newTenant(t))
	noError(t, s.CreateJob(t.Context(), job))
	claimed := job
	claimed.Generation = 1
	noError(t, s.UpdateJob(t.Context(), claimed, 0))
	stale := job
	stale.Count = 99
	wantError(t, s.UpdateJob(t.Context(), stale, 0), audit.ErrPrecondition)
	wantError(t, s.UpdateJob(t.Context(), stale, 2), audit.ErrPrecondition)
	same(t, must[jobs.Job](t)(s.Job(t.Context(), job.Tenant, job.ID)), claimed)
	claimed.Count = 5
	noError(t, s.UpdateJob(t.Context(), claimed, 1)) // the same generation
	noError(t, s.UpdateJob(t.Context(), claimed, 1)) // and the same content
	same(t, must[jobs.Job](t)(s.Job(t.Context(), job.Tenant, job.ID)), claimed)
}

// jobsConcurrentClaims: of several workers with the same message, one gets the job.
func jobsConcurrentClaims(t *testing.T, s jobs.Store) {
	job := newJob(newTenant(t))
	noError(t, s.CreateJob(t.Context(), job))
	const workers = 8
	errs := make(chan error, workers)
	for i := range workers {
		go func() {
			claimed := job
			claimed.Generation, claimed.Count = 1, int64(i)
			errs <- s.UpdateJob(t.Context(), claimed, 0)
		}()
	}
	won := 0
	for range workers {
		if err := <-errs; err == nil {
			won++
		} else {
			wantError(t, err, audit.ErrPrecondition)
		}
	}
	if won != 1 {
		t.Errorf("%d workers claimed the job, want 1", won)
	}
}

func jobsPostpone(t *testing.T, s jobs.Store) {
	job := newJob(newTenant(t))
	job.Checkpoint = json.RawMessage(`{"n":1}`)
	at := job.ResumeAt.Add(time.Hour)
	wantError(t, s.PostponeJob(t.Context(), job, at), audit.ErrNotFound)
	noError(t, s.CreateJob(t.Context(), job))
	listed := listJobs(t, s, job.Tenant, jobs.Filter{}, 10)[0] // without its checkpoint
	noError(t, s.PostponeJob(t.Context(), listed, at))
	wantError(t, s.PostponeJob(t.Context(), listed, at.Add(time.Hour)), audit.ErrPrecondition)
	job.ResumeAt, job.Resent = at, 1
	same(t, must[jobs.Job](t)(s.Job(t.Context(), job.Tenant, job.ID)), job)
	for moment, want := range map[time.Time]bool{at.Add(-time.Millisecond): false, at: true} {
		list := must[[]jobs.Job](t)(s.OverdueJobs(t.Context(), moment, at.AddDate(1, 0, 0), 1000))
		if got := slices.ContainsFunc(list, func(j jobs.Job) bool { return j.ID == job.ID }); got != want {
			t.Errorf("overdue at %v: got %t, want %t", moment, got, want)
		}
	}
	listed = job
	job.Generation = 1
	noError(t, s.UpdateJob(t.Context(), job, 0))
	wantError(t, s.PostponeJob(t.Context(), listed, at.Add(time.Hour)), audit.ErrPrecondition)
	job.State, job.FinishedAt, job.CleanAt = jobs.StateSucceeded, job.CreatedAt.Add(time.Hour), job.CreatedAt.Add(2*time.Hour)
	job.ResumeAt = job.CleanAt
	noError(t, s.UpdateJob(t.Context(), job, 1))
	noError(t, s.PostponeJob(t.Context(), job, at))
	job.ResumeAt, job.Resent = at, 2
	same(t, must[jobs.Job](t)(s.Job(t.Context(), job.Tenant, job.ID)), job)
	job.ResumeAt, job.CleanAt = time.Time{}, time.Time{}
	noError(t, s.UpdateJob(t.Context(), job, 1))
	wantError(t, s.PostponeJob(t.Context(), job, at), audit.ErrPrecondition) // there is nothing to resume
}

func jobsKeepTenantsApart(t *testing.T, s jobs.Store) {
	mine := newJob(newTenant(t))
	noError(t, s.CreateJob(t.Context(), mine))
	theirs := mine
	theirs.Tenant, theirs.Count = mine.Tenant+"-2", 7
	_, err := s.Job(t.Context(), theirs.Tenant, mine.ID)
	wantError(t, err, audit.ErrNotFound)
	wantError(t, s.UpdateJob(t.Context(), theirs, 0), audit.ErrNotFound)
	noError(t, s.CreateJob(t.Context(), theirs)) // ids are unique within a tenant
	same(t, must[jobs.Job](t)(s.Job(t.Context(), mine.Tenant, mine.ID)), mine)
	if got := listJobs(t, s, mine.Tenant, jobs.Filter{}, 10); len(got) != 1 {
		t.Errorf("the tenant's list has %d jobs, want 1", len(got))
	}
}

// listJobs reads a whole list in pages of a size.
func listJobs(t *testing.T, s jobs.Store, tenant audit.TenantID, filter jobs.Filter, size int) []jobs.Job {
	t.Helper()
	var all []jobs.Job
	var after *jobs.Position
	for {
		page, more, err := s.Jobs(t.Context(), tenant, filter, after, size)
		noError(t, err)
		if len(page) > size {
			t.Fatalf("a page has %d jobs, want at most %d", len(page), size)
		}
		all = append(all, page...)
		if !more {
			return all
		}
		if len(page) == 0 {
			t.Fatal("an empty page says that more follow, want none")
		}
		last := page[len(page)-1]
		after = &jobs.Position{CreatedAt: last.CreatedAt, ID: last.ID}
	}
}

func jobsPages(t *testing.T, s jobs.Store) {
	tenant := newTenant(t)
	var want []jobs.Job
	for i := range 9 {
		job := newJob(tenant)
		job.ID, job.CreatedAt = fmt.Sprintf("%02d", i), job.CreatedAt.Add(time.Duration(i/3)*time.Millisecond) // three at a time
		noError(t, s.CreateJob(t.Context(), job))
		want = append([]jobs.Job{job}, want...)
	}
	for size := 1; size <= 10; size++ {
		same(t, listJobs(t, s, tenant, jobs.Filter{}, size), want)
	}
	same(t, listJobs(t, s, tenant+"-2", jobs.Filter{}, 10), nil)
}

func jobsFilters(t *testing.T, s jobs.Store) {
	tenant := newTenant(t)
	byState := map[jobs.State]jobs.Job{}
	for _, state := range jobs.States() {
		job := newJob(tenant)
		job.State = state
		if state.Finished() {
			job.FinishedAt, job.ResumeAt = job.CreatedAt, time.Time{}
		}
		if state == jobs.StateFailed {
			job.Kind = "other"
		}
		noError(t, s.CreateJob(t.Context(), job))
		byState[state] = job
	}
	for name, c := range map[string]struct {
		filter jobs.Filter
		want   []jobs.State
	}{
		"a state":          {jobs.Filter{States: []jobs.State{jobs.StateQueued}}, []jobs.State{jobs.StateQueued}},
		"a kind":           {jobs.Filter{Kinds: []jobs.Kind{"other"}}, []jobs.State{jobs.StateFailed}},
		"an unknown kind":  {jobs.Filter{Kinds: []jobs.Kind{"unknown"}}, nil},
		"a kind and state": {jobs.Filter{Kinds: []jobs.Kind{"other"}, States: []jobs.State{jobs.StateQueued}}, nil},
		"everything":       {jobs.Filter{Kinds: []jobs.Kind{"other", jobs.KindPurgeTenant}, States: jobs.States()}, jobs.States()},
	} {
		got := listJobs(t, s, tenant, c.filter, 2)
		if len(got) != len(c.want) {
			t.Errorf("%s selects %d jobs, want %d", name, len(got), len(c.want))
		}
		for _, job := range got {
			same(t, job, byState[job.State])
		}
	}
}

// jobsListsLackCheckpoints: a hundred large ones would not fit into a process.
func jobsListsLackCheckpoints(t *testing.T, s jobs.Store) {
	listed := newJob(newTenant(t))
	stored := listed
	stored.Checkpoint = json.RawMessage(`{"at":"` + strings.Repeat("x", 1<<20) + `"}`)
	noError(t, s.CreateJob(t.Context(), stored))
	same(t, must[jobs.Job](t)(s.Job(t.Context(), stored.Tenant, stored.ID)), stored)
	same(t, listJobs(t, s, stored.Tenant, jobs.Filter{}, 10), []jobs.Job{listed})
	for _, overdue := range must[[]jobs.Job](t)(s.OverdueJobs(t.Context(), listed.ResumeAt, listed.ResumeAt.AddDate(1, 0, 0), 1000)) {
		if overdue.Checkpoint != nil {
			t.Errorf("overdue job %s of %s has a checkpoint of %d bytes, want none", overdue.ID, overdue.Tenant, len(overdue.Checkpoint))
		}
	}
}

func jobsOverdue(t *testing.T, s jobs.Store) {
	tenant := newTenant(t)
	create := func(state jobs.State, resumeAt time.Time) jobs.Job {
		job := newJob(tenant)
		job.State, job.ResumeAt = state, resumeAt.Truncate(time.Millisecond)
		if state.Finished() {
			job.FinishedAt = job.CreatedAt
		}
		noError(t, s.CreateJob(t.Context(), job))
		return job
	}
	// Other jobs of the store are later: this suite is the only one with a time this early.
	begin := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	second := create(jobs.StateRunning, begin.Add(time.Second))
	first := create(jobs.StateQueued, begin)
	for _, state := range []jobs.State{jobs.StateSucceeded, jobs.StateFailed, jobs.StateCanceled} {
		create(state, time.Time{})
	}
	create(jobs.StateRunning, begin.Add(time.Second+time.Millisecond))
	never := begin.AddDate(200, 0, 0) // no job is later
	ahead := create(jobs.StateRunning, never)
	left := create(jobs.StateSucceeded, begin) // something that is to be removed
	create(jobs.StateSucceeded, time.Now().Add(time.Hour))
	same(t, must[[]jobs.Job](t)(s.OverdueJobs(t.Context(), begin.Add(time.Second), never, 10)), []jobs.Job{first, second, left})
	same(t, must[[]jobs.Job](t)(s.OverdueJobs(t.Context(), begin.Add(time.Second), never, 1)), []jobs.Job{first})
	same(t, must[[]jobs.Job](t)(s.OverdueJobs(t.Context(), begin.Add(-time.Millisecond), never, 10)), nil)
	same(t, must[[]jobs.Job](t)(s.OverdueJobs(t.Context(), begin, never.Add(-time.Millisecond), 10)), []jobs.Job{first, ahead, left})
	for _, job := range []jobs.Job{first, second, ahead, left} { // the next run on the same store finds none of them
		done := job
		done.State, done.FinishedAt, done.ResumeAt = jobs.StateSucceeded, done.CreatedAt, time.Time{}
		noError(t, s.UpdateJob(t.Context(), done, 0))
	}
}
