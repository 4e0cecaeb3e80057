package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TenantPurge is the Runner of KindPurgeTenant. It removes the tenant from every store, in
// passes. The second begins when no consumer can write for the tenant any more. A pass that
// finds nothing is the last, and the tenant is tombstoned.
type TenantPurge struct {
	Tenants Tenants // tenants.Cache.Fresh if the process has a cache
	// Stores are purged in this order. The job counts the records of the first one, the
	// system of record.
	Stores []NamedPurger
	// DrainPeriod is how long after the deletion a consumer may still write for the tenant.
	DrainPeriod time.Duration
	// Held reports whether a legal hold stands in the tenant. It reads no older state than that of
	// the call.
	Held func(ctx context.Context, tenant audit.TenantID) (bool, error)
	Now  func() time.Time
	Log  *slog.Logger
}

const (
	// purgeStep is how many records one call of a store removes.
	purgeStep = 5000
	// minPasses is how often every store is purged at least. A pass that removes something
	// after the drain period is followed by another.
	minPasses = 2
	// countTimeout bounds counting the records before the first is removed.
	countTimeout = 30 * time.Second
)

// purgeCheckpoint says how far a purge is.
type purgeCheckpoint struct {
	Begun bool `json:"begun"` // whether Found was counted
	Pass  int  `json:"pass"`
	Store int  `json:"store"` // its position in Stores
	Dirty bool `json:"dirty"` // whether the pass has removed something
	// Found counts the records of the first store at the beginning, zero if that would have
	// taken too long. Removed counts the records that were removed from it. A worker that is
	// killed does not save its last step, so Removed can be too low. Found lacks what
	// arrived later.
	Found   int64 `json:"found"`
	Removed int64 `json:"removed"`
}

func (c *purgeCheckpoint) count() int64 { return max(c.Found, c.Removed) }

// The reasons of purges that fail.
const (
	reasonNotGone = "the tenant is not being deleted"
	reasonHeld    = "a legal hold stands: release it, and delete the tenant again"
)

// Run implements Runner.
func (p *TenantPurge) Run(ctx context.Context, s *Slice) (Result, error) {
	run := &purgeRun{TenantPurge: p, Slice: s}
	if err := s.Read(&run.at); err != nil {
		return Result{}, err
	}
	result, err := run.all(ctx)
	if err != nil {
		return result, fmt.Errorf("purge tenant %s: %w", s.Job.Tenant, err)
	}
	return result, nil
}

// purgeRun is one slice of a purge.
type purgeRun struct {
	*TenantPurge
	*Slice
	at purgeCheckpoint
}

func (r *purgeRun) all(ctx context.Context) (Result, error) {
	if _, err := r.check(ctx); errors.Is(err, audit.ErrNotFound) {
		return Result{Done: true}, nil // an earlier worker was killed after the tombstone
	} else if err != nil {
		return Result{}, err
	}
	if !r.at.Begun {
		if held, err := r.Held(ctx, r.Job.Tenant); err != nil {
			return Result{}, err
		} else if held {
			return Result{}, &FailedError{Reason: reasonHeld}
		}
		r.at.Begun, r.at.Found = true, r.countRecords(ctx)
		if err := r.save(ctx); err != nil {
			return Result{}, err
		}
	}
	for again := true; again; {
		if wait := r.drainTime(); r.at.Pass > 0 && wait > 0 {
			return Result{Wait: wait}, r.save(ctx)
		}
		for ; r.at.Store < len(r.Stores); r.at.Store++ {
			if empty, err := r.empty(ctx); err != nil || !empty {
				return Result{}, err
			}
		}
		r.at.Pass++
		again = r.at.Pass < minPasses || r.at.Dirty
		r.at.Store, r.at.Dirty = 0, false
	}
	if err := r.save(ctx); err != nil { // another worker, if there is one, finds nothing to do
		return Result{}, err
	}
	return r.tombstone(ctx)
}

// tombstone removes the tenant's record, unless the record has changed since the last check:
// then the next slice checks it again.
func (r *purgeRun) tombstone(ctx context.Context) (Result, error) {
	tenant, err := r.check(ctx)
	if err != nil {
		return Result{}, err
	}
	err = r.Tenants.Tombstone(ctx, tenant.ID, tenant.Version)
	if errors.Is(err, audit.ErrPrecondition) {
		return Result{}, nil
	}
	return Result{Done: true}, err
}

// countRecords counts the records of the first store. It returns 0 if the store cannot count
// them in time, because the count is for people and the removal is owed.
func (r *purgeRun) countRecords(ctx context.Context) int64 {
	counter, ok := r.Stores[0].Purger.(Counter)
	if !ok {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	n, err := counter.Count(ctx, r.Job.Tenant, time.Time{}, time.Time{})
	if err != nil {
		r.Log.WarnContext(ctx, "the records of a deleted tenant could not be counted", "tenant", r.Job.Tenant, "error", err)
		return 0
	}
	return n
}

// drainTime returns how long a consumer may still write for the tenant.
func (r *purgeRun) drainTime() time.Duration {
	return r.Job.CreatedAt.Add(r.DrainPeriod).Sub(r.Now())
}

// check returns the tenant's record. It returns audit.ErrNotFound if the tenant is
// tombstoned, and a *FailedError if it must not be purged.
func (r *purgeRun) check(ctx context.Context) (audit.Tenant, error) {
	tenant, err := r.Tenants.Tenant(ctx, r.Job.Tenant)
	if err == nil && tenant.Status != audit.TenantDeleting {
		err = &FailedError{Reason: reasonNotGone}
	}
	return tenant, err
}

// empty removes the tenant's records from one store. It reports false if the slice ended
// before that.
func (r *purgeRun) empty(ctx context.Context) (bool, error) {
	store := r.Stores[r.at.Store]
	for {
		n, err := store.Purger.Purge(ctx, r.Job.Tenant, purgeStep)
		if err != nil {
			return false, fmt.Errorf("store %s: %w", store.Name, err)
		}
		if r.at.Store == 0 {
			r.at.Removed += int64(n)
		}
		if n == 0 {
			return true, r.save(ctx)
		}
		r.at.Dirty = true
		r.advance()
		if err := r.SaveIfDue(ctx, r.at); err != nil {
			return false, err
		}
		if r.TimeUp() {
			return false, nil
		}
		if _, err := r.check(ctx); err != nil { // another status stops it at once
			return false, errors.Join(err, r.save(ctx))
		}
	}
}

// advance updates what the job shows.
func (r *purgeRun) advance() {
	steps := float64(minPasses * len(r.Stores))
	done := float64(r.at.Pass*len(r.Stores) + r.at.Store)
	if r.at.Pass == 0 && r.at.Store == 0 && r.at.Found > 0 {
		done += min(1, float64(r.at.Removed)/float64(r.at.Found))
	}
	r.Job.Progress = max(r.Job.Progress, min(done, steps)/(steps+1))
	r.Job.Count = r.at.Removed
	if r.at.Pass > 0 || r.at.Store > 0 {
		r.Job.Count = r.at.count()
	}
}

func (r *purgeRun) save(ctx context.Context) error {
	r.advance()
	return r.Save(ctx, r.at)
}
