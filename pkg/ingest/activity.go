package ingest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// TouchTTL is how long a process relies on its last registration of a day. It is well
	// below the time between two checks of a day; see search.Reconciler.Grace.
	TouchTTL = 10 * time.Minute
	// maxTouched bounds the days that a process remembers.
	maxTouched = 16_384
)

// ActiveDays registers the days of entries before they are stored, each once in a while.
type ActiveDays struct {
	Register Activity
	// Grace is how long indexing may take: a day is due for a check that much later.
	Grace time.Duration
	Now   func() time.Time

	once    sync.Once
	touched *ttlcache.Cache[activeDay, struct{}]
}

// activeDay is a day of a tenant.
type activeDay struct {
	tenant audit.TenantID
	day    time.Time
}

// touch registers the days of the entries that this process has not registered lately.
func (a *ActiveDays) touch(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
	a.once.Do(func() { a.touched = ttlcache.New[activeDay, struct{}](maxTouched) })
	now := a.Now()
	var seen, days []time.Time // seen so that the cache is asked once for each day
	for i := range entries {
		day := entries[i].Timestamp.UTC().Truncate(24 * time.Hour)
		if slices.Contains(seen, day) {
			continue
		}
		seen = append(seen, day)
		if known, found := a.touched.Get(activeDay{tenant, day}); !found || !known.Fresh(now, TouchTTL) {
			days = append(days, day)
		}
	}
	if len(days) == 0 {
		return nil
	}
	if err := a.Register.Touch(ctx, tenant, days, now.Add(a.Grace)); err != nil {
		return fmt.Errorf("register the days of entries: %w", err)
	}
	for _, day := range days {
		a.touched.Put(activeDay{tenant, day}, ttlcache.Entry[struct{}]{ReadAt: now})
	}
	return nil
}
