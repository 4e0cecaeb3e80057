package arrival

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Pruner removes the segments of a tenant's log that were written longer ago than the tenant's
// longest retention and eight days. Nothing is pruned if some entries are kept for
// ever. It is safe for concurrent use.
type Pruner struct {
	Log Log
	Now func() time.Time
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
	// MaxPruneInterval is the longest time until a log is checked again. Settings can change
	// meanwhile.
	MaxPruneInterval = 30 * 24 * time.Hour
)

// Check prunes the log of a tenant. It is the Check of an activity.Task for activity.Prune.
func (p *Pruner) Check(ctx context.Context, tenant *audit.Tenant, _ activity.Day) (activity.Outcome, error) {
	now := p.Now()
	longest := tenant.Settings.LongestRetention()
	if longest == 0 {
		return activity.Outcome{Due: now.Add(MaxPruneInterval)}, nil
	}
	kept := time.Duration(longest)*oneDay + keptAfterRetention
	for range pruneRounds {
		n, err := p.Log.Prune(ctx, tenant.ID, now.Add(-kept), maxPruned)
		if err != nil {
			return activity.Outcome{}, fmt.Errorf("prune the arrival log of %s: %w", tenant.ID, err)
		}
		if n < maxPruned {
			return p.next(ctx, tenant.ID, kept)
		}
	}
	return activity.Outcome{Due: now}, nil // more may remain
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
