package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// ReconcileTask compares the days that ReconcilePlan shares out. It notes in the register
// when a day is due again: some time after entries were added to it, once more after as long,
// and then ever more rarely. So an index that lost entries later is repaired too.
type ReconcileTask struct {
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
	// recheckAfter is when a day that has had its checks is compared again. The time doubles
	// with each comparison without a difference, up to maxRecheck. So the days of seven years
	// cost less than those of the last months.
	recheckAfter = 30 * oneDay
	maxRecheck   = 360 * oneDay
	// maxConcurrentDays are compared at the same time, so that a day with many entries does
	// not delay all others.
	maxConcurrentDays = 4
)

// Do compares the days of one task, which are a JSON list of DueDay. It logs the failure of a
// day and continues with the others: that day is due again later. It returns an error if all
// days failed, or if the time was too short, so that the task is repeated.
func (s *ReconcileTask) Do(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error {
	var days []DueDay
	if err := json.Unmarshal(input, &days); err != nil {
		return fmt.Errorf("reconcile %s: %w: the days are not their JSON form", tenant, audit.ErrUnreadable)
	}
	var working errgroup.Group
	working.SetLimit(maxConcurrentDays)
	failures := make([]error, len(days))
	for i, d := range days {
		working.Go(func() error {
			if failures[i] = panics.Recovered(ctx, func() error { return s.day(ctx, tenant, d) }); failures[i] != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "reconciling failed", "tenant", string(tenant), "day", d.Day.Format(time.DateOnly), "error", failures[i])
			}
			return nil
		})
	}
	_ = working.Wait() // the errors are in failures
	failed := 0
	for _, err := range failures {
		if err != nil {
			failed++
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("reconcile: %d of %d days of %s were compared before the time ran out: %w", len(days)-failed, len(days), tenant, ctx.Err())
	case failed > 0 && failed == len(days):
		return fmt.Errorf("reconcile %d days of %s: %w", failed, tenant, failures[0])
	}
	return nil
}

// day reconciles one day and notes when it is due again.
func (s *ReconcileTask) day(ctx context.Context, id audit.TenantID, d DueDay) error {
	due, err := s.Activity.DueAt(ctx, id, d.Day)
	if err != nil || !due.Equal(d.Due) {
		return err // without an error: an old task
	}
	at, day := s.Reconciler.Now(), ActiveDay{Tenant: id, Day: d.Day, Touches: d.Touches, Checks: d.Checks}
	tenant, err := s.Tenants.Tenant(ctx, id)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return err
	}
	if deleted || day.Day.Add(oneDay).Before(tenant.Settings.VisibleFrom(at)) {
		due = time.Time{} // the tenant is gone
		if !deleted {     // nobody reads the day any more, unless the settings change
			due = at.Add(maxRecheck)
		}
		return s.Activity.Check(ctx, day, due)
	}
	found, err := s.Reconciler.Reconcile(ctx, id, day.Day)
	if err != nil {
		return err
	}
	publishErr := s.Publish(found)
	day.Checks++
	if found.Pending > 0 || found.Repaired > 0 {
		day.Checks = 0
	}
	return errors.Join(publishErr, s.Activity.Check(ctx, day, s.Reconciler.Now().Add(s.nextCheck(day.Checks))))
}

// nextCheck returns the time until a day is due that had this many comparisons without a
// difference.
func (s *ReconcileTask) nextCheck(checks int) time.Duration {
	if checks < enoughChecks {
		return s.Reconciler.Grace
	}
	return recheckWait(checks)
}

// ChecksAfter returns how often a day is compared after its last entry, if it stays visible for
// so long.
func ChecksAfter(visible time.Duration) int {
	checks := enoughChecks
	for at := recheckWait(checks); at <= visible; at += recheckWait(checks) {
		checks++
	}
	return checks
}

// recheckWait returns the time until a day is compared again that had enough comparisons.
func recheckWait(checks int) time.Duration {
	wait := recheckAfter
	for ; checks > enoughChecks && wait < maxRecheck; checks-- {
		wait *= 2
	}
	return min(wait, maxRecheck)
}
