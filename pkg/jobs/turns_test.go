package jobs_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// endless is a runner whose jobs never end. Each of its steps takes a second.
func endless(f **fixture) runnerFunc {
	return func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		for !s.TimeUp() {
			(*f).now = (*f).now.Add(time.Second)
		}
		return jobs.Result{}, s.Save(ctx, 0)
	}
}

// TestSlicesAreShort: while long jobs have all workers, the others wait for the end of a slice.
func TestSlicesAreShort(t *testing.T) {
	var f *fixture
	f = newFixture(t, endless(&f))
	began := f.start(t, "j").CreatedAt
	f.handle(t, 0)
	if took, want := f.stored(t, "j").ResumeAt.Sub(began)-3*time.Minute, 30*time.Second; took != want {
		t.Errorf("a slice took %s, want %s", took, want)
	}
	job := f.stored(t, "j")
	job.Archive = true
	if err := f.Store.UpdateJob(t.Context(), job, job.Generation); err != nil {
		t.Fatal(err)
	}
	began = f.now
	f.handle(t, 1)
	if took, want := f.now.Sub(began), 4*time.Minute; took != want {
		t.Errorf("a slice at the archive took %s, want %s", took, want)
	}
}

// TestLongJobsOfOneTenantHoldUpNoOthers has two workers, as ocelot dev has, and many endless jobs of a
// tenant. A short job of another begins after a few slices.
func TestLongJobsOfOneTenantHoldUpNoOthers(t *testing.T) {
	const slice = 20 * time.Millisecond
	began := make(chan struct{})
	f := newFixture(t, func(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
		if s.Job.Tenant == "globex" {
			close(began)
			return jobs.Result{Done: true}, nil
		}
		for !s.TimeUp() {
			time.Sleep(time.Millisecond)
		}
		return jobs.Result{}, s.Save(ctx, 0)
	})
	db, err := sqlite.Open(t.Context(), t.TempDir()+"/queue.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	queue := db.Queue("jobs", time.Minute, 10)
	f.worker.Queues, f.Queues = jobs.Queues{Jobs: queue, Archive: queue}, jobs.Queues{Jobs: queue, Archive: queue}
	f.worker.SliceTime, f.worker.Now, f.Now = slice, time.Now, time.Now
	for i := range jobs.MaxQueued {
		f.start(t, fmt.Sprintf("j%d", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	for range 2 {
		workers.Go(func() {
			for ctx.Err() == nil {
				messages, err := queue.Receive(ctx, 1, time.Second)
				for _, m := range messages {
					err = f.worker.Handle(context.WithoutCancel(ctx), m.Body)
					if err == nil {
						err = queue.Delete(context.WithoutCancel(ctx), []string{m.Receipt})
					}
				}
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	time.Sleep(5 * slice) // both workers are busy
	asked := time.Now()
	if _, err := f.Start(t.Context(), jobs.Job{ID: "other", Kind: kindExample, Tenant: audit.TenantID("globex"), CreatedBy: "eve"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-began:
		if took, most := time.Since(asked), 50*slice; took > most {
			t.Errorf("the other tenant's job began after %s, want at most %s", took, most)
		}
	case <-time.After(time.Minute):
		t.Error("the other tenant's job did not begin within a minute")
	}
}
