package retention_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// TestAChangeComesBeforeABacklog: what is kept for longer now must be unmarked before it is removed, also while more days
// of others wait than one run shares out.
func TestAChangeComesBeforeABacklog(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	const days, others = 5, 30
	now := day.AddDate(0, 0, 20)
	touch := func(tenant audit.TenantID, due time.Time) {
		t.Helper()
		var receipts []activity.Receipt
		for n := range days {
			receipts = append(receipts, activity.Receipt{Received: day, Day: day.AddDate(0, 0, -n)})
		}
		if err := db.Activity().Touch(t.Context(), tenant, receipts, due); err != nil {
			t.Fatal(err)
		}
	}
	for n := range others {
		touch(audit.TenantID(fmt.Sprintf("other-%d", n)), now.AddDate(0, 0, -1))
	}
	touch(acme, now.AddDate(0, 0, 1))
	shared := map[audit.TenantID]int{}
	clock := func() time.Time { return now }
	again := &retention.Again{Register: db.Activity(), Now: clock, Plan: &activity.Plan{
		Work: activity.Retain, Register: db.Activity(), MaxShared: 2 * days, Now: clock, Log: slog.New(slog.DiscardHandler),
		Share: func(_ context.Context, tenant audit.TenantID, list []activity.DueDay) error {
			shared[tenant] += len(list)
			return nil
		},
	}}
	if err := again.Do(t.Context(), acme, nil); err != nil {
		t.Fatal(err)
	}
	if got := shared[acme]; got != days {
		t.Errorf("shared out %d days of the tenant and %v in all, want %d", got, shared, days)
	}
}
