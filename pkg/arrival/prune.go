package arrival

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Pruner removes the segments of a tenant's log that were written longer ago than the tenant's
// longest retention and eight days. Nothing is pruned if some entries are kept for
// ever, or while a legal hold can cover an entry of such a segment: it would be without a place once the
// retention is lengthened. It is safe for concurrent use.
type Pruner struct {
	Log     Log
	Tenants activity.Tenants // tenants.Cache.Fresh if the process has a cache
	// Held reports whether a legal hold of the tenant can cover an entry with a timestamp up to a time. It reads
	// no older state than that of the call.
	Held func(ctx context.Context, tenant audit.TenantID, upTo time.Time) (bool, error)
	// Clock decides which segments are pruned.
	Clock jobs.Clock
	Now   func() time.Time
}

const (
	// keptAfterRetention is how long a segment is kept after the longest retention of its
	// tenant. An accepted entry can be a day in the future and is stored for up to seven days
	// after its end.
	keptAfterRetention = 8 * 24 * time.Hour
	// maxPruned is the most segments that are pruned at once, and pruneRounds how often one check prunes.
	maxPruned        = 100
	pruneRounds      = 100
	minPruneInterval = 24 * time.Hour
	// heldInterval is the time until a log is checked again that a legal hold keeps.
	heldInterval = 7 * 24 * time.Hour
	// MaxPruneInterval is the longest time until a log is checked again. Settings can change
	// meanwhile.
	MaxPruneInterval = 30 * 24 * time.Hour
)

// Check prunes the log of a tenant. It is the Check of an activity.Task for activity.Prune. It reads the settings and
// the holds again before each time that it prunes, and prunes nothing if it slept since then.
func (p *Pruner) Check(ctx context.Context, of *audit.Tenant, _ activity.Day) (activity.Outcome, error) {
	for range pruneRounds {
		looked := p.Now()
		look := activity.NewLook(looked)
		tenant, err := p.Tenants.Tenant(ctx, of.ID)
		if deleted, err := audit.IsDeleted(tenant, err); err != nil || deleted {
			return activity.Outcome{Due: looked}, err
		}
		longest := tenant.Settings.LongestRetention()
		if longest == 0 {
			return activity.Outcome{Due: looked.Add(MaxPruneInterval)}, nil
		}
		now, err := p.Clock.Now(ctx, p.Now)
		if err != nil {
			return activity.Outcome{}, err
		}
		kept := time.Duration(longest)*oneDay + keptAfterRetention
		before := now.Add(-kept)
		held, err := p.Held(ctx, of.ID, before.Add(audit.MaxLead))
		if err != nil {
			return activity.Outcome{}, fmt.Errorf("legal holds of %s: %w", of.ID, err)
		}
		if held {
			return activity.Outcome{Due: looked.Add(heldInterval)}, nil
		}
		if look.IsOld(p.Now()) {
			continue
		}
		n, err := p.Log.Prune(ctx, of.ID, before, maxPruned)
		if err != nil {
			return activity.Outcome{}, fmt.Errorf("prune the arrival log of %s: %w", of.ID, err)
		}
		if n < maxPruned {
			return p.next(ctx, of.ID, kept)
		}
	}
	return activity.Outcome{Due: p.Now()}, nil // more may remain
}

// next returns when the oldest segment is to be pruned, which is kept for some time.
func (p *Pruner) next(ctx context.Context, tenant audit.TenantID, kept time.Duration) (activity.Outcome, error) {
	oldest, err := p.Log.Read(ctx, tenant, 0, 1)
	if err != nil {
		return activity.Outcome{}, fmt.Errorf("oldest segment of the arrival log of %s: %w", tenant, err)
	}
	now, wait := p.Now(), MaxPruneInterval
	if len(oldest) > 0 && oldest[0].WrittenAt.Add(kept).After(now) { // else it is the last segment, which stays
		wait = min(max(oldest[0].WrittenAt.Add(kept).Sub(now), minPruneInterval), MaxPruneInterval)
	}
	return activity.Outcome{Due: now.Add(wait)}, nil
}
