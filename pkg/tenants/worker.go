package tenants

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// purgeMessage is the body of a message on the purge queue.
type purgeMessage struct {
	Version int            `json:"v"`
	Tenant  audit.TenantID `json:"tenant"`
	Job     string         `json:"job"`
}

const purgeVersion = 1

// NamedPurger is a store with the name that errors call it by.
type NamedPurger struct {
	Name   string
	Purger Purger
}

// Worker removes deleted tenants from every store.
type Worker struct {
	Tenants Store // Cache.Fresh, where the process has a Cache
	Jobs    JobStore
	// Stores are purged in this order. The first is the system of record: what
	// is removed from it is what the job counts.
	Stores []NamedPurger
	// DrainPeriod is for how long after the deletion a consumer may still write what
	// it took up before: the purge does not end earlier. Zero where no
	// consumer holds an older record of the tenant than the store.
	DrainPeriod time.Duration
	Now         func() time.Time
}

const (
	purgeChunk   = 1000 // records removed at once
	saveInterval = time.Second
	saveTimeout  = 5 * time.Second // of the last save of a purge that was stopped
)

// held is what a job says that a legal hold stopped.
const held = "the tenant was put under legal hold"

// Handle does the job of one message of the purge queue. It purges every store
// until a whole pass finds nothing, so that what consumers wrote meanwhile goes
// too, then buries the tenant. It may be stopped and repeated at any point. A
// legal hold that was set since the deletion stops it and fails the job, which
// deleting the tenant again starts anew. After an error the message must be
// delivered again.
func (w *Worker) Handle(ctx context.Context, body string) error {
	var m purgeMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return fmt.Errorf("purge: %w: not its JSON form", audit.ErrUnreadable)
	}
	if m.Version != purgeVersion {
		return fmt.Errorf("purge: message version %d, known is %d", m.Version, purgeVersion)
	}
	job, err := w.Jobs.Job(ctx, m.Tenant, m.Job)
	if err != nil {
		return fmt.Errorf("purge tenant %s: %w", m.Tenant, err)
	}
	if job.State == audit.JobSucceeded {
		return nil
	}
	run := &purgeRun{Worker: w, job: job}
	if err := run.all(ctx); err != nil {
		return errors.Join(fmt.Errorf("purge tenant %s: %w", m.Tenant, err), run.stopped(ctx))
	}
	return nil
}

// purgeRun is one attempt at a job.
type purgeRun struct {
	*Worker
	job     audit.Job
	savedAt time.Time
}

// errHeld says that a legal hold stopped the run, errBuried that the tenant is gone.
var (
	errHeld   = errors.New(held)
	errBuried = errors.New("the tenant is buried")
)

func (r *purgeRun) all(ctx context.Context) error {
	err := r.purge(ctx)
	switch {
	case errors.Is(err, errHeld):
		r.job.State, r.job.Error = audit.JobFailed, held
		return r.save(ctx)
	case errors.Is(err, errBuried): // by a run before, or beside, this one
		if done, err := r.Jobs.Job(ctx, r.job.Tenant, r.job.ID); err != nil || done.State == audit.JobSucceeded {
			return err
		}
	case err != nil:
		return err
	}
	r.job.State, r.job.Error, r.job.Progress = audit.JobSucceeded, "", 1
	return r.save(ctx)
}

// purge empties the stores and buries the tenant.
func (r *purgeRun) purge(ctx context.Context) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	r.job.State, r.job.Error = audit.JobRunning, ""
	if err := r.save(ctx); err != nil {
		return err
	}
	const passes = 2 // at least, the last of which finds nothing
	for pass, removed := 0, 1; removed > 0 || pass < passes; pass++ {
		if pass == passes-1 {
			if err := r.drain(ctx); err != nil {
				return err
			}
		}
		removed = 0
		for i, store := range r.Stores {
			n, err := r.empty(ctx, store, i == 0)
			if err != nil {
				return err
			}
			removed += n
			r.progress(pass*len(r.Stores)+i+1, passes*len(r.Stores)+1)
		}
	}
	return r.Tenants.Tombstone(ctx, r.job.Tenant)
}

// check reports whether the tenant may still be purged.
func (r *purgeRun) check(ctx context.Context) error {
	tenant, err := r.Tenants.Tenant(ctx, r.job.Tenant)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return errBuried
	case err != nil:
		return err
	case tenant.Status != audit.TenantDeleting:
		return fmt.Errorf("the tenant is %s, not deleting", tenant.Status)
	case tenant.Settings.LegalHold:
		return errHeld
	}
	return nil
}

// empty removes everything that the tenant has in one store.
func (r *purgeRun) empty(ctx context.Context, store NamedPurger, counts bool) (removed int, err error) {
	for {
		if err := r.check(ctx); err != nil {
			return removed, err
		}
		n, err := store.Purger.Purge(ctx, r.job.Tenant, purgeChunk)
		if err != nil {
			return removed, fmt.Errorf("store %s: %w", store.Name, err)
		}
		if n == 0 {
			return removed, nil
		}
		removed += n
		if counts {
			r.job.Count += int64(n)
		}
		if err := r.saveSometimes(ctx); err != nil {
			return removed, err
		}
	}
}

// progress tells how far the run has come, never back.
func (r *purgeRun) progress(done, of int) {
	r.job.Progress = max(r.job.Progress, min(float64(done), float64(of-1))/float64(of))
}

// drain waits until no consumer writes for the tenant any more.
func (r *purgeRun) drain(ctx context.Context) error {
	wait := r.job.CreatedAt.Add(r.DrainPeriod).Sub(r.Now())
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *purgeRun) saveSometimes(ctx context.Context) error {
	if r.Now().Sub(r.savedAt) < saveInterval {
		return nil
	}
	return r.save(ctx)
}

func (r *purgeRun) save(ctx context.Context) error {
	r.savedAt = r.Now()
	r.job.UpdatedAt = r.savedAt.UTC().Truncate(time.Millisecond)
	return r.Jobs.UpdateJob(ctx, r.job)
}

// stopped saves what the run did before an error ended it, also where its time was over.
func (r *purgeRun) stopped(ctx context.Context) error {
	if r.savedAt.IsZero() {
		return nil // it did nothing
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	return r.save(ctx)
}
