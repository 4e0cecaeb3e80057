package tenants

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// maxCached bounds a Cache's memory: about 4 MB of usual records.
	maxCached = 4096
	// maxStale is the highest age of a record that replaces an unavailable store.
	maxStale = 15 * time.Minute
	// staleTimeout bounds a read of the store for which a stale record can stand in. A store that is
	// merely slow answers within it, so that no change of settings is missed then.
	staleTimeout = 5 * time.Second
	// retryPause is how long stale records are returned at once after a read failed or took too long: those of
	// all tenants, because they have one store. After it one caller reads, and the others wait for it no longer
	// than staleTimeout. With staleTimeout, twice, it is shorter than the time until a change is in force, so
	// that one such read delays no change of settings.
	retryPause = 20 * time.Second
)

// Cache is a Store that caches the records that Tenant returns, up to a number
// and an age. A change through the cache is visible at once, a change by another
// process when the record expires. An absent tenant is not cached, so that a new
// one can be used at once. The returned records are shared: do not change them.
type Cache struct {
	Store
	ttl     time.Duration
	now     func() time.Time
	records *ttlcache.Cache[audit.TenantID, cachedTenant]
	changes atomic.Uint64 // counts Forget, so that load stores no record read before a change
	// failedAt is when the store last failed, in nanoseconds of Unix time; 0: it has answered since. It is
	// later while a caller tries again; see mayRead.
	failedAt atomic.Int64
}

type cachedTenant struct {
	tenant   audit.Tenant
	failedAt time.Time // last failure to read it again; zero: none since it was read
}

// NewCache returns a cache over store. It returns records for less than ttl after they were read.
func NewCache(store Store, ttl time.Duration, now func() time.Time) *Cache {
	return &Cache{Store: store, ttl: ttl, now: now, records: ttlcache.New[audit.TenantID, cachedTenant](maxCached)}
}

// Tenant implements Store.
func (c *Cache) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	return c.WithMaxAge(c.ttl).Tenant(ctx, id)
}

// load reads the record from the store and caches it, unless a record changed meanwhile.
func (c *Cache) load(ctx context.Context, id audit.TenantID, now time.Time) (audit.Tenant, error) {
	changes := c.changes.Load()
	tenant, err := c.Store.Tenant(ctx, id)
	if err != nil {
		return audit.Tenant{}, err
	}
	c.records.Update(id, func(record, bool) (record, bool) {
		return record{Value: cachedTenant{tenant: tenant}, ReadAt: now}, c.changes.Load() == changes
	})
	return tenant, nil
}

type record = ttlcache.Entry[cachedTenant]

// WithMaxAge returns a Store whose Tenant returns records up to another age than the cache's.
// It serves consumers, whose decisions tolerate an older record.
func (c *Cache) WithMaxAge(age time.Duration) Aged { return Aged{c, age} }

// Aged is a Cache with a maximum age of its own. The records are those of the cache.
type Aged struct {
	*Cache
	age time.Duration
}

// StaleIfError is that of the Cache for records of this age.
func (s Aged) StaleIfError() Store { return staleIfError{s} }

// Tenant implements Store.
func (s Aged) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	now := s.now()
	if record, found := s.records.Get(id); found && record.Fresh(now, s.age) {
		return record.Value.tenant, nil
	}
	return s.load(ctx, id, now)
}

// Fresh returns a Store that reads past the cache. It is for callers that must see
// recent changes by other processes, such as Service and the worker that purges. What
// it reads and changes updates the cache.
func (c *Cache) Fresh() Store { return fresh{c} }

type fresh struct{ *Cache }

// Tenant implements Store.
func (f fresh) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	return f.load(ctx, id, f.now())
}

// StaleIfError returns a Store whose Tenant returns a record up to 15 minutes old while the store is
// unavailable, or does not answer within five seconds, for this tenant or another. It serves the acceptance
// of entries, which can wait in a queue until the store is back.
func (c *Cache) StaleIfError() Store { return c.WithMaxAge(c.ttl).StaleIfError() }

type staleIfError struct{ Aged }

// Tenant implements Store.
func (s staleIfError) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	now := s.now()
	stale, found := s.records.Get(id)
	if !found || !stale.Fresh(now, maxStale) {
		return s.Aged.Tenant(ctx, id)
	}
	if stale.Fresh(now, s.age) {
		return stale.Value.tenant, nil
	}
	if since := now.Sub(stale.Value.failedAt); since >= 0 && since < retryPause || !s.mayRead(now) {
		return stale.Value.tenant, nil
	}
	bounded, cancel := context.WithTimeout(ctx, staleTimeout)
	defer cancel()
	tenant, err := s.load(bounded, id, now)
	if ctx.Err() != nil {
		return tenant, err
	}
	if !audit.IsUnavailable(err) && !errors.Is(err, context.DeadlineExceeded) {
		s.failedAt.Store(0)
		return tenant, err
	}
	failedAt := s.now()
	s.markFailed(id, stale.ReadAt, failedAt)
	if stale.Fresh(failedAt, maxStale) {
		return stale.Value.tenant, nil
	}
	return tenant, err
}

// mayRead reports whether to read the store although there is a stale record: it has not failed, or the pause
// after that is over. Then one caller reads, and the others not before staleTimeout.
func (c *Cache) mayRead(now time.Time) bool {
	failedAt := c.failedAt.Load()
	if failedAt == 0 {
		return true
	}
	if since := now.UnixNano() - failedAt; since >= 0 && since < int64(retryPause) {
		return false
	}
	return c.failedAt.CompareAndSwap(failedAt, now.Add(staleTimeout-retryPause).UnixNano())
}

// markFailed notes that the store failed to return again the record read at readAt.
func (c *Cache) markFailed(id audit.TenantID, readAt, now time.Time) {
	c.failedAt.Store(now.UnixNano())
	c.records.Update(id, func(r record, found bool) (record, bool) {
		r.Value.failedAt = now
		return r, found && r.ReadAt.Equal(readAt)
	})
}

// Forget removes the record from the cache, so that the next Tenant reads the store.
func (c *Cache) Forget(id audit.TenantID) {
	c.changes.Add(1) // before Remove: a load that runs now either sees it or is removed
	c.records.Remove(id)
}

// Create implements Store.
func (c *Cache) Create(ctx context.Context, tenant audit.Tenant) error {
	defer c.Forget(tenant.ID) // after an error too: the record may have changed
	return c.Store.Create(ctx, tenant)
}

// Update implements Store.
func (c *Cache) Update(ctx context.Context, tenant audit.Tenant) error {
	defer c.Forget(tenant.ID)
	return c.Store.Update(ctx, tenant)
}

// Tombstone implements Store.
func (c *Cache) Tombstone(ctx context.Context, id audit.TenantID, version int64) error {
	defer c.Forget(id)
	return c.Store.Tombstone(ctx, id, version)
}
