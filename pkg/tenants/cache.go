package tenants

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// maxCached bounds a Cache's memory: about 4 MB of usual records.
	maxCached = 4096
	// maxStale is how old a record may be that stands in for an unavailable store.
	maxStale = 15 * time.Minute
	// enduringWait is how long the store is waited for where a record can stand in.
	enduringWait = time.Second
)

// Cache is a Store that remembers the records that Tenant returned, for a while
// and up to a bound. Changes that go through it count at once; those of other
// processes when the record's time is over. An absent tenant is not remembered, so that a new one can be used at
// once. The records it returns are shared: they must not be changed in place.
type Cache struct {
	Store
	ttl time.Duration
	now func() time.Time

	mu      sync.RWMutex
	records map[audit.TenantID]cachedTenant
	changes uint64 // counts Forget, so that no read from before a change is kept after it
}

type cachedTenant struct {
	tenant audit.Tenant
	readAt time.Time
	failed time.Time // when the store was asked in vain last; zero: not since readAt
}

// NewCache returns a cache over store whose records are at most ttl old.
func NewCache(store Store, ttl time.Duration, now func() time.Time) *Cache {
	return &Cache{Store: store, ttl: ttl, now: now, records: map[audit.TenantID]cachedTenant{}}
}

// Tenant implements Store.
func (c *Cache) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	now := c.now()
	c.mu.RLock()
	record, ok := c.records[id]
	c.mu.RUnlock()
	if ok && c.recent(record, now) {
		return record.tenant, nil
	}
	return c.load(ctx, id, now)
}

// load reads the record from the store and remembers it.
func (c *Cache) load(ctx context.Context, id audit.TenantID, now time.Time) (audit.Tenant, error) {
	c.mu.RLock()
	changes := c.changes
	c.mu.RUnlock()
	tenant, err := c.Store.Tenant(ctx, id)
	if err != nil {
		return audit.Tenant{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes == changes {
		c.makeRoom(id, now)
		c.records[id] = cachedTenant{tenant: tenant, readAt: now}
	}
	return tenant, nil
}

func (c *Cache) recent(record cachedTenant, now time.Time) bool {
	age := now.Sub(record.readAt)
	return age >= 0 && age < c.ttl
}

// makeRoom keeps the cache within its bound: old records go first, then any.
func (c *Cache) makeRoom(id audit.TenantID, now time.Time) {
	if _, present := c.records[id]; present || len(c.records) < maxCached {
		return
	}
	for other, record := range c.records {
		if !c.recent(record, now) {
			delete(c.records, other)
		}
	}
	for other := range c.records {
		if len(c.records) < maxCached {
			return
		}
		delete(c.records, other)
	}
}

// Fresh returns the same store for those who must see what other processes
// changed just now, such as Service and Worker: it reads past the cache, and
// leaves what it reads and changes to it.
func (c *Cache) Fresh() Store { return fresh{c} }

type fresh struct{ *Cache }

// Tenant implements Store.
func (f fresh) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	return f.load(ctx, id, f.now())
}

// StaleIfError returns the same cache for those who rather go by a record of up to 15
// minutes than not at all while the store is unavailable: an entry can be
// accepted without it, for it waits in a queue.
func (c *Cache) StaleIfError() Store { return staleIfError{c} }

type staleIfError struct{ *Cache }

// Tenant implements Store.
func (e staleIfError) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	now := e.now()
	e.mu.RLock()
	record, known := e.records[id]
	e.mu.RUnlock()
	age := now.Sub(record.readAt)
	if !known || age < 0 || age >= maxStale {
		return e.Cache.Tenant(ctx, id)
	}
	if since := now.Sub(record.failed); since >= 0 && since < e.ttl {
		return record.tenant, nil
	}
	patient, cancel := context.WithTimeout(ctx, enduringWait)
	defer cancel()
	tenant, err := e.Cache.Tenant(patient, id)
	var unavailable *audit.UnavailableError
	if ctx.Err() == nil && (errors.As(err, &unavailable) || errors.Is(err, context.DeadlineExceeded)) {
		e.vain(id, record.readAt, now)
		return record.tenant, nil
	}
	return tenant, err
}

// vain remembers that the store was asked in vain for the record that was read then.
func (c *Cache) vain(id audit.TenantID, readAt, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if record, ok := c.records[id]; ok && record.readAt.Equal(readAt) {
		record.failed = now
		c.records[id] = record
	}
}

// Forget has the next Tenant read the record anew.
func (c *Cache) Forget(id audit.TenantID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	delete(c.records, id)
}

// Create implements Store.
func (c *Cache) Create(ctx context.Context, tenant audit.Tenant) error {
	defer c.Forget(tenant.ID) // whatever came of it: after an error the record may have changed
	return c.Store.Create(ctx, tenant)
}

// Update implements Store.
func (c *Cache) Update(ctx context.Context, tenant audit.Tenant) error {
	defer c.Forget(tenant.ID)
	return c.Store.Update(ctx, tenant)
}

// Tombstone implements Store.
func (c *Cache) Tombstone(ctx context.Context, id audit.TenantID) error {
	defer c.Forget(id)
	return c.Store.Tombstone(ctx, id)
}
