package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// TouchTTL is how long a process relies on its last registration of a day. It is well
	// below the time between two checks of a day; see ActiveDays.Grace.
	TouchTTL = 10 * time.Minute
	// maxTouched bounds the days that a process remembers: two for each of 50,000 tenants, in about 15 MB. Fewer than
	// the tenants that send in turn would be as good as none.
	maxTouched = 100_000
)

// ActiveDays registers the days of entries before they are stored, each once in a while. So no
// entry is stored on a day that the register does not have, whatever is lost later.
type ActiveDays struct {
	Register Activity
	// Grace is how long the later steps may take: a day is due for a check that much later.
	Grace time.Duration
	Now   func() time.Time

	once    sync.Once
	touched *ttlcache.Cache[tenantReceipt, struct{}]
}

// tenantReceipt is a receipt of a tenant.
type tenantReceipt struct {
	tenant  audit.TenantID
	receipt activity.Receipt
}

// Touch registers the days of the entries that this process has not registered lately.
func (a *ActiveDays) Touch(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
	a.once.Do(func() { a.touched = ttlcache.New[tenantReceipt, struct{}](maxTouched) })
	now := a.Now()
	var receipts []activity.Receipt
	seen := make(map[activity.Receipt]struct{}, 1) // so that the cache is asked once for each
	for i := range entries {
		r := activity.ReceiptOf(&entries[i])
		if _, again := seen[r]; again {
			continue
		}
		seen[r] = struct{}{}
		if known, found := a.touched.Get(tenantReceipt{tenant, r}); !found || !known.Fresh(now, TouchTTL) {
			receipts = append(receipts, r)
		}
	}
	if len(receipts) == 0 {
		return nil
	}
	if err := a.Register.Touch(ctx, tenant, receipts, now.Add(a.Grace)); err != nil {
		return fmt.Errorf("register the days of entries: %w", err)
	}
	for _, r := range receipts {
		a.touched.Put(tenantReceipt{tenant, r}, ttlcache.Entry[struct{}]{ReadAt: now})
	}
	return nil
}
