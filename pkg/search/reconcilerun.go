package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TenantLister lists tenants, ordered by id; see tenants.Store.
type TenantLister interface {
	List(ctx context.Context, only []audit.TenantID, after audit.TenantID, limit int) (tenants []audit.Tenant, more bool, err error)
}

// ReconcileRun reconciles every tenant that is not being deleted. One run compares
// today, yesterday and one older day of each tenant, in UTC. The clock chooses the older
// day. With n older days, counted from the oldest entry that reads can return, each is
// compared at least once in 2n runs.
type ReconcileRun struct {
	Reconciler *Reconciler
	Tenants    TenantLister
	// Every is the time from one run to the next.
	Every time.Duration
	// Publish gets each result. It is called concurrently.
	Publish func(Reconciliation) error
	Log     *slog.Logger
}

const (
	oneDay = 24 * time.Hour
	// maxConcurrentTenants are compared at the same time, so that a tenant with
	// many entries does not delay all others.
	maxConcurrentTenants = 4
	tenantsPerPage       = 1000
)

// Run does one run. It logs the failure of a tenant and continues with the
// others. The error says how many tenants failed, or how many were not finished
// when ctx ended. Each run begins with another tenant, so that no tenant is
// always the last.
func (s *ReconcileRun) Run(ctx context.Context) error {
	tenants, err := s.tenants(ctx)
	if err != nil {
		return fmt.Errorf("list the tenants to reconcile: %w", err)
	}
	now := s.Reconciler.Now().UTC()
	r := reconcileRun{ReconcileRun: s, number: now.UnixNano() / int64(s.Every), today: now.Truncate(oneDay)}
	unfinished := r.all(ctx, tenants)
	switch {
	case unfinished == 0:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("reconcile: %d of %d tenants were not finished: %w", unfinished, len(tenants), ctx.Err())
	}
	return fmt.Errorf("reconcile: %d of %d tenants failed", unfinished, len(tenants))
}

// tenants returns the tenants that are not being deleted.
func (s *ReconcileRun) tenants(ctx context.Context) ([]audit.Tenant, error) {
	var kept []audit.Tenant
	var after audit.TenantID
	for {
		page, more, err := s.Tenants.List(ctx, nil, after, tenantsPerPage)
		if err != nil {
			return nil, err
		}
		for _, t := range page {
			after = t.ID
			if t.Status != audit.TenantDeleting {
				kept = append(kept, t)
			}
		}
		if !more {
			return kept, nil
		}
	}
}

// reconcileRun is one run.
type reconcileRun struct {
	*ReconcileRun
	number int64
	today  time.Time // its beginning
}

// all reconciles the tenants and returns how many could not be finished.
func (r *reconcileRun) all(ctx context.Context, tenants []audit.Tenant) (unfinished int) {
	var mu sync.Mutex
	var working sync.WaitGroup
	next := make(chan audit.Tenant)
	for range min(maxConcurrentTenants, len(tenants)) {
		working.Go(func() {
			for t := range next {
				if err := r.tenant(ctx, &t); err != nil {
					r.report(ctx, t.ID, err)
					mu.Lock()
					unfinished++
					mu.Unlock()
				}
			}
		})
	}
	for i := range tenants {
		next <- tenants[(i+int(r.number%int64(len(tenants))))%len(tenants)]
	}
	close(next)
	working.Wait()
	return unfinished
}

// report logs the failure of a tenant. Run reports the end of ctx, once for all tenants.
func (r *reconcileRun) report(ctx context.Context, tenant audit.TenantID, err error) {
	if ctx.Err() == nil {
		r.Log.ErrorContext(ctx, "reconciling failed", "tenant", string(tenant), "error", err)
	}
}

// tenant reconciles the days of one tenant. After a failed day it continues with the next.
func (r *reconcileRun) tenant(ctx context.Context, t *audit.Tenant) error {
	days := []time.Time{r.today, r.today.Add(-oneDay)}
	older, err := r.olderDay(ctx, t)
	if err != nil {
		err = fmt.Errorf("find the older days: %w", err)
	} else if !older.IsZero() {
		days = append(days, older)
	}
	errs := []error{err}
	for _, day := range days {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		found, err := r.Reconciler.Reconcile(ctx, t.ID, day)
		if err == nil {
			err = r.Publish(found)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// olderDay returns the older day that this run compares. It returns the zero time
// if the tenant has no entry that old.
func (r *reconcileRun) olderDay(ctx context.Context, t *audit.Tenant) (time.Time, error) {
	yesterday := r.today.Add(-oneDay)
	oldest, err := r.Reconciler.Store.IDs(ctx, t.ID, t.Settings.VisibleFrom(r.today), yesterday, audit.EntryID{}, 1)
	if err != nil || len(oldest) == 0 {
		return time.Time{}, err
	}
	days := int(yesterday.Sub(oldest[0].Time().Truncate(oneDay)) / oneDay)
	return yesterday.AddDate(0, 0, -1-turn(r.number, days)), nil
}

// turn returns which of n days a run compares; 0 is the latest. The length of the cycle
// is a power of two below 2n, so that it stays the same while n grows by one each day.
// The cycle goes into the past, as the days do, so that no day is skipped at midnight.
func turn(run int64, n int) int {
	cycle := 1 << bits.Len(uint(n-1))
	t := int(run & int64(cycle-1))
	if t >= n {
		t -= cycle / 2
	}
	return t
}
