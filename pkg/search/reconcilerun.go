package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// ReconcileRun reconciles the days of the register that are due, those that wait longest
// first. A day is due some time after entries were added to it, and once more after the
// same time. Then it is due after recheckAfter, so that an index that lost entries later
// is repaired too.
type ReconcileRun struct {
	Reconciler *Reconciler
	Activity   Activity
	Tenants    Tenants
	// Publish gets each result. It is called concurrently.
	Publish func(Reconciliation) error
	Log     *slog.Logger
}

const (
	oneDay = 24 * time.Hour
	// enoughChecks is how many comparisons without a difference a day needs after its last
	// entry. They are the grace apart. A process that stores entries touches their day more
	// often than that, so the second comparison sees all of them.
	enoughChecks = 2
	// recheckAfter is when a day that has had its checks is compared again.
	recheckAfter = 30 * oneDay
	// claimTime is how long a day that is being compared is not due for another run. It is
	// longer than a run. A day that fails is due after it.
	claimTime = 15 * time.Minute
	// maxConcurrentDays are compared at the same time, so that a day with many entries does
	// not delay all others.
	maxConcurrentDays = 4
	daysPerPage       = 500
)

// Run does one run. It logs the failure of a day and continues with the others. The error
// says how many days failed, or that the time was too short for all of them.
func (s *ReconcileRun) Run(ctx context.Context) error {
	r := reconcileRun{ReconcileRun: s, at: s.Reconciler.Now()}
	var working sync.WaitGroup
	days := make(chan ActiveDay)
	for range maxConcurrentDays {
		working.Go(func() {
			for day := range days {
				err := r.day(ctx, day)
				r.count(err)
				if err != nil {
					r.report(ctx, day, err)
				}
			}
		})
	}
	err := r.claim(ctx, days)
	close(days)
	working.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("reconcile: %d days were compared before the time ran out: %w", r.done, ctx.Err())
	case err != nil:
		return fmt.Errorf("reconcile: %w", err)
	case r.failed > 0:
		return fmt.Errorf("reconcile: %d of %d days failed", r.failed, r.done+r.failed)
	}
	return nil
}

// reconcileRun is one run.
type reconcileRun struct {
	*ReconcileRun
	at time.Time // its beginning

	mu           sync.Mutex
	done, failed int
}

// claim sends the days that are due to the workers. Each is claimed first, so that no later
// page and no other run has it.
func (r *reconcileRun) claim(ctx context.Context, days chan<- ActiveDay) error {
	for {
		page, err := r.Activity.DueDays(ctx, r.at, daysPerPage)
		if err != nil || len(page) == 0 {
			return err
		}
		claimed := 0
		for _, day := range page {
			if err := r.Activity.Check(ctx, day, r.Reconciler.Now().Add(claimTime)); err != nil {
				r.report(ctx, day, err)
				continue
			}
			claimed++
			select {
			case days <- day:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if claimed == 0 {
			return fmt.Errorf("none of %d days could be claimed", len(page))
		}
	}
}

func (r *reconcileRun) count(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.done++
	} else {
		r.failed++
	}
}

// report logs the failure of a day. Run reports the end of ctx, once for all days.
func (r *reconcileRun) report(ctx context.Context, day ActiveDay, err error) {
	if ctx.Err() == nil {
		r.Log.ErrorContext(ctx, "reconciling failed", "tenant", string(day.Tenant), "day", day.Day.Format(time.DateOnly), "error", err)
	}
}

// day reconciles one day and notes when it is due again.
func (r *reconcileRun) day(ctx context.Context, day ActiveDay) error {
	tenant, err := r.Tenants.Tenant(ctx, day.Tenant)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return err
	}
	if deleted || day.Day.Add(oneDay).Before(tenant.Settings.VisibleFrom(r.at)) {
		return r.Activity.Check(ctx, day, time.Time{}) // nobody reads it any more
	}
	found, err := r.Reconciler.Reconcile(ctx, day.Tenant, day.Day)
	if err != nil {
		return err
	}
	publishErr := r.Publish(found)
	day.Checks++
	if found.Pending > 0 || found.Repaired > 0 {
		day.Checks = 0
	}
	wait := r.Reconciler.Grace
	if day.Checks >= enoughChecks {
		wait = recheckAfter
	}
	due := r.Reconciler.Now().Add(wait)
	if next := r.at.Add(time.Millisecond); due.Before(next) {
		due = next // not in this run: the register has whole milliseconds
	}
	return errors.Join(publishErr, r.Activity.Check(ctx, day, due))
}
