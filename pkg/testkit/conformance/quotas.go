package conformance

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// QuotaStore has the accounts of quotas.
type QuotaStore interface {
	quota.Leases
	jobs.CountedPurger
}

// Quotas tests an adapter of quota.Leases and jobs.CountedPurger. open opens one store for two
// processes. The clock of the second is a day ahead of the first.
func Quotas(t *testing.T, open func(t *testing.T, now func() time.Time) (first, second QuotaStore)) {
	for name, test := range map[string]func(t *testing.T, first, second QuotaStore){
		"ProcessesShareTheBurst":           quotasShare,
		"AcceptedEntriesOverdraw":          quotasOverdraw,
		"AnAccountFillsUpWithTime":         quotasRecover,
		"TenantsHaveTheirOwn":              quotasAreApart,
		"PurgeForgetsOneTenant":            quotasPurge,
		"CancelledCallsReturnTheirContext": quotasCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			first, second := open(t, func() time.Time { return time.Now().Add(24 * time.Hour) })
			test(t, first, second)
		})
	}
}

// slow is a limit whose account does not change noticeably during a test, except by leases.
var slow = quota.Limit{Rate: 1, Burst: 100_000}

func lease(t *testing.T, s QuotaStore, tenant audit.TenantID, limit quota.Limit, accepted, want int64) quota.Lease {
	t.Helper()
	l, err := s.Lease(t.Context(), tenant, limit, accepted, want)
	noError(t, err)
	return l
}

// refill is more than a slow account gets during a test.
const refill = 600

func quotasShare(t *testing.T, first, second QuotaStore) {
	tenant := newTenant(t)
	var total int64
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, s := range []QuotaStore{first, second, first, second} {
		wait.Go(func() {
			for range 50 {
				l, err := s.Lease(t.Context(), tenant, slow, 10, 990)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				total += 10 + l.Granted
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	// What is accepted is charged in any case; leases end at the burst. Four leases of the first
	// moment may count as one.
	if most := slow.Burst + 200*10 + 3*1000 + refill; total > most {
		t.Errorf("two processes got %d entries, want at most %d", total, most)
	}
	if total < slow.Burst {
		t.Errorf("two processes got %d entries, want at least %d", total, slow.Burst)
	}
}

func quotasOverdraw(t *testing.T, first, second QuotaStore) {
	tenant := newTenant(t)
	l := lease(t, first, tenant, slow, slow.Burst+5000, 100)
	if l.Granted != 0 {
		t.Errorf("an overdrawn account granted %d entries, want 0", l.Granted)
	}
	l = lease(t, second, tenant, slow, 0, 100)
	if l.Granted != 0 {
		t.Errorf("the other process got %d entries, want 0", l.Granted)
	}
	if l.Left < -5000 || l.Left > -5000+refill {
		t.Errorf("the other process sees %d entries left, want about -5000", l.Left)
	}
}

// quotasRecover is what happens to the lease of a process that died: it comes back with time.
func quotasRecover(t *testing.T, first, second QuotaStore) {
	tenant := newTenant(t)
	limit := quota.Limit{Rate: 100_000, Burst: 10_000}
	lease(t, first, tenant, limit, 0, limit.Burst)
	eventually(t, "the account fills up again", func() bool { return lease(t, second, tenant, limit, 0, 0).Left == limit.Burst })
}

func quotasAreApart(t *testing.T, first, second QuotaStore) {
	lease(t, first, newTenant(t), slow, 2*slow.Burst, 0)
	if l := lease(t, second, newTenant(t), slow, 0, 10); l.Granted != 10 {
		t.Errorf("another tenant got %d entries, want 10", l.Granted)
	}
}

func quotasPurge(t *testing.T, first, second QuotaStore) {
	gone, kept := newTenant(t), newTenant(t)
	lease(t, first, gone, slow, 2*slow.Burst, 0)
	lease(t, first, kept, slow, 2*slow.Burst, 0)
	for _, want := range []int{1, 0} {
		n, err := second.Purge(t.Context(), gone, 10)
		noError(t, err)
		if n != want {
			t.Errorf("purged %d accounts, want %d", n, want)
		}
	}
	if l := lease(t, first, gone, slow, 0, 10); l.Granted != 10 {
		t.Errorf("a purged account granted %d entries, want 10", l.Granted)
	}
	if l := lease(t, first, kept, slow, 0, 10); l.Granted != 0 {
		t.Errorf("the account of another tenant granted %d entries, want 0", l.Granted)
	}
}

func quotasCancelled(t *testing.T, first, _ QuotaStore) {
	_, err := first.Lease(cancelled(t), newTenant(t), slow, 0, 1)
	wantError(t, err, context.Canceled)
}
