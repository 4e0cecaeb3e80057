package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// PurgeWorker removes deleted tenants from every store.
type PurgeWorker struct {
	Tenants Tenants // tenants.Cache.Fresh if the process has a cache
	Jobs    Store
	// Stores are purged in this order. The first is the system of record: the
	// job counts the records removed from it.
	Stores []NamedPurger
	// DrainPeriod is how long after the deletion a consumer may still write for
	// the tenant. The purge does not end earlier. It is zero if no consumer
	// caches the tenant's record.
	DrainPeriod time.Duration
	Now         func() time.Time
}

const (
	purgeChunk   = 1000 // records removed by one call of a store
	saveInterval = time.Second
	saveTimeout  = 5 * time.Second // for the last save of a run that was stopped
)

// Handle does the job of one message of the purge queue. It purges every store
// until a whole pass finds nothing, so that records written during the purge
// are removed too. Then it tombstones the tenant. It may be stopped and
// repeated at any point.
//
// If the tenant was put under legal hold since the deletion, the job fails and
// Handle returns nil. Deleting the tenant again restarts the job. After an error
// the message must be delivered again.
func (w *PurgeWorker) Handle(ctx context.Context, body string) error {
	m, err := ParsePurgeMessage(body)
	if err != nil {
		return err
	}
	job, err := w.Jobs.Job(ctx, m.Tenant, m.Job)
	if err != nil {
		return fmt.Errorf("purge tenant %s: %w", m.Tenant, err)
	}
	if job.State == audit.JobSucceeded {
		return nil
	}
	run := &purgeRun{PurgeWorker: w, job: job}
	if err := run.all(ctx); err != nil {
		return errors.Join(fmt.Errorf("purge tenant %s: %w", m.Tenant, err), run.saveStopped(ctx))
	}
	return nil
}

// purgeRun is one attempt at a job.
type purgeRun struct {
	*PurgeWorker
	job     audit.Job
	savedAt time.Time
}

var (
	errLegalHold  = errors.New("the tenant was put under legal hold")
	errTombstoned = errors.New("the tenant is tombstoned")
)

// all purges the tenant and records how the job ended.
func (r *purgeRun) all(ctx context.Context) error {
	err := r.purge(ctx)
	switch {
	case errors.Is(err, errLegalHold):
		r.job.State, r.job.Error = audit.JobFailed, errLegalHold.Error()
		return r.save(ctx)
	case errors.Is(err, errTombstoned): // by an earlier or a concurrent run
		if done, err := r.Jobs.Job(ctx, r.job.Tenant, r.job.ID); err != nil || done.State == audit.JobSucceeded {
			return err
		}
	case err != nil:
		return err
	}
	r.job.State, r.job.Error, r.job.Progress = audit.JobSucceeded, "", 1
	return r.save(ctx)
}

// minPasses is how often every store is purged at least. The last pass finds nothing.
const minPasses = 2

// purge empties the stores and tombstones the tenant.
func (r *purgeRun) purge(ctx context.Context) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	r.job.State, r.job.Error = audit.JobRunning, ""
	if err := r.save(ctx); err != nil {
		return err
	}
	for pass, removed := 0, 1; removed > 0 || pass < minPasses; pass++ {
		if pass == minPasses-1 {
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
			r.advance(pass*len(r.Stores)+i+1, minPasses*len(r.Stores)+1)
		}
	}
	return r.Tenants.Tombstone(ctx, r.job.Tenant)
}

// check returns an error if the tenant must not be purged now.
func (r *purgeRun) check(ctx context.Context) error {
	tenant, err := r.Tenants.Tenant(ctx, r.job.Tenant)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return errTombstoned
	case err != nil:
		return err
	case tenant.Status != audit.TenantDeleting:
		return fmt.Errorf("the tenant is %s, not deleting", tenant.Status)
	case tenant.Settings.LegalHold:
		return errLegalHold
	}
	return nil
}

// empty removes every record of the tenant from one store. The job counts them if counted.
func (r *purgeRun) empty(ctx context.Context, store NamedPurger, counted bool) (removed int, err error) {
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
		if counted {
			r.job.Count += int64(n)
		}
		if err := r.saveIfDue(ctx); err != nil {
			return removed, err
		}
	}
}

// advance raises the job's progress to done of total steps. It stays below 1
// while passes are added, and never goes back.
func (r *purgeRun) advance(done, total int) {
	r.job.Progress = max(r.job.Progress, min(float64(done), float64(total-1))/float64(total))
}

// drain waits until DrainPeriod has passed since the deletion.
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

// saveIfDue saves the job if the last save is saveInterval ago.
func (r *purgeRun) saveIfDue(ctx context.Context) error {
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

// saveStopped saves the progress of a run that an error ended, even if ctx is done.
func (r *purgeRun) saveStopped(ctx context.Context) error {
	if r.savedAt.IsZero() {
		return nil // the run changed nothing
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	return r.save(ctx)
}
