package quota

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// The names of the quotas.
const (
	TenantPolicy     = "tenant"
	CredentialPolicy = "credential"
)

const (
	// maxAccounts is for how many tenants a process knows the state of the quota: about 5 MB.
	maxAccounts = 32_768
	// maxCredentials is for how many credentials it does. One that is forgotten begins with a full
	// quota. The tenant's quota bounds what a tenant with more credentials can send.
	maxCredentials = 32_768
	// maxRetryAfter is the most that Retry-After says.
	maxRetryAfter = time.Minute
	// logPeriod is the shortest time between two log lines about failed leases.
	logPeriod = time.Minute
)

// State is what is left of one quota after a request.
type State struct {
	Policy string
	Limit  Limit
	Left   int64         // entries
	Reset  time.Duration // within which a client should send no more than Left
}

// ExceededError refuses a request.
type ExceededError struct {
	Policy     string
	RetryAfter time.Duration
}

func (e *ExceededError) Error() string { return "the quota of the " + e.Policy + " is used up" }

// Limiter applies the quotas. A request is accepted or refused as a whole. It is accepted while
// the quota is not used up, and may overdraw it. The next ones wait until the quota has recovered,
// so that the average holds and no request is too large for ever. It is safe for concurrent use.
type Limiter struct {
	limits  Limits
	leases  Leases
	now     func() time.Time
	log     *slog.Logger
	backlog Backlog // nil: there is no bound

	seed        maphash.Seed
	accounts    *ttlcache.Cache[audit.TenantID, *account]
	credentials *ttlcache.Cache[credential, *credentialBucket]
	loggedAt    atomic.Int64 // Unix nanoseconds
}

// credential is a credential in a tenant by the hash of its name, which can be long.
type credential struct {
	tenant audit.TenantID
	hash   uint64
}

type credentialBucket struct {
	mu sync.Mutex
	bucket
}

// NewLimiter returns a Limiter. It uses leases only if a tenant has a limit.
func NewLimiter(limits Limits, leases Leases, now func() time.Time, log *slog.Logger) *Limiter {
	return &Limiter{
		limits: limits, leases: leases, now: now, log: log, seed: maphash.MakeSeed(),
		accounts:    ttlcache.New[audit.TenantID, *account](maxAccounts),
		credentials: ttlcache.New[credential, *credentialBucket](maxCredentials),
	}
}

// Backlog is what waits to be stored, of all tenants together.
type Backlog interface {
	// Check returns an error if the backlog is full. Every request calls it, also one that a
	// quota refuses, so that the backlog is counted again while it is large.
	Check(ctx context.Context) error
	// Fill returns how full the backlog is, from 0 to 1.
	Fill() float64
}

// WithBacklog makes the Limiter bound what waits to be stored, and returns it. Up to a fill of a
// half, quotas are not changed. Beyond that each tenant has a part of its own, which falls to
// nothing at 1. So a tenant that sends much is refused before the backlog is full, and one that
// sends little is not.
func (l *Limiter) WithBacklog(backlog Backlog) *Limiter {
	l.backlog = backlog
	return l
}

// limit returns the quota of a tenant at the present backlog.
func (l *Limiter) limit(tenant *audit.Tenant) Limit {
	limit := l.limits.of(tenant)
	if l.backlog == nil || limit.Rate == 0 {
		return limit
	}
	return limit.part(2 * (1 - l.backlog.Fill()))
}

// Take takes n entries from the quotas of the tenant and of the credential. It returns the
// state of the quotas that have a limit, also with an *ExceededError. It waits for the store for
// a quarter of a second at most, and only while the tenant is near its limit. It returns the
// backlog's error, and no state, if that is full.
func (l *Limiter) Take(ctx context.Context, tenant *audit.Tenant, name string, n int) ([]State, error) {
	if l.backlog != nil {
		if err := l.backlog.Check(ctx); err != nil {
			return nil, fmt.Errorf("accept %d entries of %s: %w", n, tenant.ID, err)
		}
	}
	var states []State
	taken, state := l.takeCredential(tenant.ID, name, int64(n))
	if state.Limit.Rate > 0 {
		states = append(states, state)
	}
	if !taken {
		return states, exceeded(state)
	}
	limit := l.limit(tenant)
	if limit.Rate == 0 {
		return states, nil
	}
	taken, state = l.takeTenant(ctx, tenant.ID, limit, int64(n))
	states = append([]State{state}, states...)
	if !taken {
		l.giveCredential(tenant.ID, name, int64(n))
		return states, exceeded(state)
	}
	return states, nil
}

// exceeded returns the error of a quota that is used up.
func exceeded(s State) error { return &ExceededError{Policy: s.Policy, RetryAfter: s.Reset} }

func (l *Limiter) takeCredential(tenant audit.TenantID, name string, n int64) (taken bool, s State) {
	limit := l.limits.Credential
	if limit.Rate == 0 {
		return true, s
	}
	b := l.credential(tenant, name)
	b.mu.Lock()
	defer b.mu.Unlock()
	now := l.now()
	taken = b.take(now, limit, n)
	left := b.left(now, limit)
	return taken, stateOf(CredentialPolicy, limit, taken, int64(max(0, left)), limit.refill(left), b.wait(now, limit))
}

func (l *Limiter) giveCredential(tenant audit.TenantID, name string, n int64) {
	if l.limits.Credential.Rate == 0 {
		return
	}
	b := l.credential(tenant, name)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.give(n)
}

// stateOf returns the state of a quota. window is the time for which left is meant, and wait is how
// long it takes until an entry is left.
func stateOf(policy string, limit Limit, taken bool, left int64, window, wait time.Duration) State {
	s := State{Policy: policy, Limit: limit, Left: left, Reset: window}
	if !taken {
		s.Left, s.Reset = 0, wait
	}
	s.Reset = min(max(s.Reset, time.Second), maxRetryAfter)
	return s
}

func (l *Limiter) credential(tenant audit.TenantID, name string) *credentialBucket {
	return valueOf(l.credentials, credential{tenant, maphash.String(l.seed, name)})
}

// valueOf returns the value of a key in a cache. It adds a new one if there is none.
func valueOf[K comparable, V any](cache *ttlcache.Cache[K, *V], key K) (value *V) {
	cache.Update(key, func(e ttlcache.Entry[*V], found bool) (ttlcache.Entry[*V], bool) {
		if !found {
			e.Value = new(V)
		}
		value = e.Value
		return e, !found
	})
	return value
}

func (l *Limiter) takeTenant(ctx context.Context, tenant audit.TenantID, limit Limit, n int64) (taken bool, s State) {
	a := valueOf(l.accounts, tenant)
	d, lease := a.take(l.now(), limit, n, false)
	if lease {
		go l.lease(context.WithoutCancel(ctx), tenant, limit, a)
	}
	if d == waits {
		a.await(ctx)
		d, lease = a.take(l.now(), limit, n, true)
		if lease {
			go l.lease(context.WithoutCancel(ctx), tenant, limit, a)
		}
	}
	left, window, wait := a.remaining(l.now(), limit)
	return d == accepted, stateOf(TenantPolicy, limit, d == accepted, left, window, wait)
}

// await waits for the lease that is under way, for leaseWait at most.
func (a *account) await(ctx context.Context) {
	pending := a.underWay()
	if pending == nil {
		return
	}
	timer := time.NewTimer(leaseWait)
	defer timer.Stop()
	select {
	case <-pending:
	case <-ctx.Done():
	case <-timer.C:
		a.late(pending)
	}
}

// lease gets a lease from the store.
func (l *Limiter) lease(ctx context.Context, tenant audit.TenantID, limit Limit, a *account) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	charged, want := a.order(limit)
	var lease Lease
	err := panics.Recovered(ctx, func() (err error) {
		lease, err = l.leases.Lease(ctx, tenant, limit, charged, want)
		return err
	})
	a.settle(limit, charged, lease, err)
	if err != nil {
		l.report(ctx, fmt.Errorf("lease a part of the quota of %s: %w", tenant, err))
	}
}

// report logs a failure, at most one in logPeriod: an outage fails the leases of every tenant.
func (l *Limiter) report(ctx context.Context, err error) {
	now, last := l.now().UnixNano(), l.loggedAt.Load()
	if since := now - last; since >= 0 && since < int64(logPeriod) || !l.loggedAt.CompareAndSwap(last, now) {
		return
	}
	l.log.WarnContext(ctx, "quotas are counted by this process alone", "error", err)
}
