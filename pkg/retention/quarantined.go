package retention

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// removeQuarantined removes the entries of the day from the quarantine whose end is Grace ago. Nothing
// marks them, so a retention that is lengthened within that time keeps them.
func (r *dayRun) removeQuarantined(ctx context.Context) error {
	if r.RemoveQuarantined == nil || r.Now().Before(r.firstEnd(r.tenant.Settings.Retentions())) {
		return nil
	}
	begun := false
	removed, err := r.RemoveQuarantined(ctx, r.tenant.ID, &r.at.AfterItem, func(ctx context.Context) (func(*audit.Entry) bool, error) {
		if r.stopped = begun && r.timeUp(); r.stopped {
			return nil, nil
		}
		begun = true
		if deleting, err := r.refresh(ctx); err != nil || deleting {
			return nil, err
		}
		shared, err := r.Clock.Now(ctx, r.Now)
		return func(e *audit.Entry) bool { return r.leavesQuarantine(e, shared) }, err
	})
	r.found.Removed += int64(removed)
	return err
}

// leavesQuarantine reports whether an entry in the quarantine is of the day and to be removed. shared is the time of
// the last look, by the clock that all workers share.
func (r *dayRun) leavesQuarantine(e *audit.Entry, shared time.Time) bool {
	now := r.Now()
	if r.isOld() { // the worker slept
		r.wakeAt(now) // the item is passed, so the day is checked again
		return false
	}
	inDay := !e.Timestamp.Before(r.day) && e.Timestamp.Before(r.day.Add(oneDay))
	if !inDay || !r.tenant.Settings.IsExpired(e, now) {
		return false
	}
	if r.held(e) || !r.tenant.Settings.IsExpired(e, shared.Add(-Grace)) {
		r.wakeAt(now.Add(Grace))
		return false
	}
	return true
}
