package retention

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// removeQuarantined removes the entries of the day from the quarantine whose end is Grace ago. Nothing
// marks them, so a retention that is lengthened within that time keeps them.
func (r *dayRun) removeQuarantined(ctx context.Context) error {
	now := r.Now()
	if r.RemoveQuarantined == nil || now.Before(r.firstEnd()) {
		return nil
	}
	removed, err := r.RemoveQuarantined(ctx, r.tenant.ID, func(e *audit.Entry) bool {
		inDay := !e.Timestamp.Before(r.day) && e.Timestamp.Before(r.day.Add(oneDay))
		if !inDay || !r.tenant.Settings.IsExpired(e, now) {
			return false
		}
		if r.held(e) || !r.tenant.Settings.IsExpired(e, now.Add(-Grace)) {
			r.wakeAt(now.Add(Grace))
			return false
		}
		return true
	})
	r.found.Removed += int64(removed)
	return err
}
