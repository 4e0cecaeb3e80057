package retention

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Again has all days of a tenant looked at whose retention, searchable days or archive has changed. Entries that are kept
// for longer now are unmarked, and the index gets back those that have left it.
type Again struct {
	Register activity.Register
	Plan     *activity.Plan // for activity.Retain
	Now      func() time.Time
}

// first is when the days are due for retention: before those of all other tenants, of which more can be due than one run
// of Plan shares out.
var first = time.UnixMilli(0)

// Do makes the days due, and shares out those of Plan. It is a jobs.Task. Retention comes last, right before Plan: a
// check that goes on between the two would put its days off.
func (a *Again) Do(ctx context.Context, tenant audit.TenantID, _ json.RawMessage) error {
	for _, work := range []activity.Work{activity.Index, activity.Archive} {
		if err := a.Register.TouchAll(ctx, work, tenant, a.Now()); err != nil {
			return err
		}
	}
	if err := a.Register.TouchAll(ctx, activity.Retain, tenant, first); err != nil {
		return err
	}
	return a.Plan.Run(ctx)
}
