package retention

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// removeQuarantined removes the entries of the day from the quarantine whose end is Grace ago. Nothing
// marks them, so a retention that is lengthened within that time keeps them.
func (r *dayRun) removeQuarantined(ctx context.Context) error {
	if r.RemoveQuarantined == nil || r.Now().Before(r.firstEnd(r.tenant.Settings.Retentions())) {
		return nil
	}
	removed, err := r.RemoveQuarantined(ctx, r.tenant.ID, func(ctx context.Context) (func(*audit.Entry) bool, error) {
		if r.stopped = r.Now().After(r.deadline); r.stopped {
			return nil, nil
		}
		if deleting, err := r.refresh(ctx); err != nil || deleting {
			return nil, err
		}
		return r.leavesQuarantine, nil
	})
	r.found.Removed += int64(removed)
	return err
}

// leavesQuarantine reports whether an entry in the quarantine is of the day and to be removed.
func (r *dayRun) leavesQuarantine(e *audit.Entry) bool {
	now, inDay := r.Now(), !e.Timestamp.Before(r.day) && e.Timestamp.Before(r.day.Add(oneDay))
	if !inDay || !r.tenant.Settings.IsExpired(e, now) {
		return false
	}
	if r.held(e) || !r.tenant.Settings.IsExpired(e, now.Add(-Grace)) {
		r.wakeAt(now.Add(Grace))
		return false
	}
	return true
}
