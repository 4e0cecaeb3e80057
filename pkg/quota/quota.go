// Package quota limits how many entries a second a tenant and a credential may send. The
// processes of the service share the quota of a tenant: each leases a part of it from a store.
// The quota of a credential is counted by each process on its own.
package quota

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Limit is a quota: a token bucket with one token for each entry.
type Limit struct {
	Rate  int64 // entries a second; 0: no limit
	Burst int64 // entries at once after a pause, at least 1
}

// Limits are the quotas of a deployment.
type Limits struct {
	// Standard and Priority are the quotas of a tenant by its tier.
	Standard, Priority Limit
	// Credential is the quota of an API key, or of the subject of a token, within a tenant.
	Credential Limit
}

// of returns the quota of the tenant's tier.
func (l Limits) of(tenant *audit.Tenant) Limit {
	if tenant.Settings.Tier == audit.TierPriority {
		return l.Priority
	}
	return l.Standard
}

// Leases shares the quotas of tenants among processes. It has one account for each tenant. It
// goes by one clock for all processes, that of the store, so that their own may differ.
type Leases interface {
	// Lease charges the account with entries that were accepted, even if that overdraws it. Then
	// it leases up to want more, as many as are left. It is not idempotent: after an error the
	// account may be charged.
	Lease(ctx context.Context, tenant audit.TenantID, limit Limit, accepted, want int64) (Lease, error)
}

// Lease is a part of a tenant's quota that only one process uses. A process that ends without
// using it loses nothing but that: the account fills up again with time.
type Lease struct {
	Granted int64 // entries
	Left    int64 // entries in the account after it; below 0 if the account is overdrawn
}

// Account is the arithmetic of one account, for adapters of Leases. Full is the time at which
// the account is full again, in microseconds of the store's clock. An account that does not
// exist was full at 0.
type Account struct{ Full int64 }

// part returns a part of the quota, at least one entry a second. A part over 1 is the whole quota.
func (l Limit) part(of float64) Limit {
	if of >= 1 {
		return l
	}
	return Limit{Rate: max(1, int64(of*float64(l.Rate))), Burst: max(1, int64(of*float64(l.Burst)))}
}

// Window is the time in which a full quota is refilled.
func (l Limit) Window() time.Duration { return l.time(float64(l.Burst)) }

// Charge is the time by which a number of entries delays Full, in microseconds.
func (l Limit) Charge(entries int64) int64 { return entries * second / l.Rate }

const second = int64(time.Second / time.Microsecond)

// Left returns how many entries are left at a time, at most the burst.
func (a Account) Left(l Limit, now int64) int64 {
	if a.Full <= now {
		return l.Burst
	}
	return l.Burst - ceilDiv((a.Full-now)*l.Rate, second)
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// Lease is Leases.Lease at a time. It returns the account as it is afterwards.
func (a Account) Lease(l Limit, now, accepted, want int64) (Account, Lease) {
	a.Full = max(a.Full, now) + l.Charge(accepted)
	granted := max(0, min(want, a.Left(l, now)))
	a.Full += l.Charge(granted)
	return a, Lease{Granted: granted, Left: a.Left(l, now)}
}
