// Package ttlcache keeps a bounded number of values in memory, each with the
// time at which it was read. It has no clock and no goroutine: the caller
// decides at each use whether a value is still fresh.
package ttlcache

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Entry is a value and the time at which it was read.
type Entry[V any] struct {
	Value  V
	ReadAt time.Time
}

// Fresh reports whether the entry is younger than ttl. An entry of the future
// is not: the clock was set back. It goes by the wall clock, because the monotonic clock of a
// frozen Lambda may stand still.
func (e Entry[V]) Fresh(now time.Time, ttl time.Duration) bool {
	age := now.Round(0).Sub(e.ReadAt.Round(0))
	return age >= 0 && age < ttl
}

// Cache is a cache of up to a number of entries. If it is full, a new entry
// replaces the least recently used one. Every operation takes constant time.
// It is safe for concurrent use.
type Cache[K comparable, V any] struct {
	mu      sync.Mutex
	entries *simplelru.LRU[K, Entry[V]]
}

// New returns an empty cache of up to size entries. It panics if size is not positive.
func New[K comparable, V any](size int) *Cache[K, V] {
	entries, err := simplelru.NewLRU[K, Entry[V]](size, nil)
	if err != nil {
		panic("ttlcache: " + err.Error())
	}
	return &Cache[K, V]{entries: entries}
}

// Get returns the entry of the key, however old it is, and whether there is one.
func (c *Cache[K, V]) Get(key K) (Entry[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Get(key)
}

// Put stores an entry in place of the one that the key has.
func (c *Cache[K, V]) Put(key K, entry Entry[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Add(key, entry)
}

// Update calls change with the entry of the key and whether there is one. It
// stores the returned entry if change returns true. No other operation happens
// in between, so change must be quick and must not use the cache.
func (c *Cache[K, V]) Update(key K, change func(entry Entry[V], found bool) (Entry[V], bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry, store := change(c.entries.Get(key)); store {
		c.entries.Add(key, entry)
	}
}

// RemoveStale removes the entries that are not Fresh. Unlike the other operations it looks at each.
func (c *Cache[K, V]) RemoveStale(now time.Time, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range c.entries.Keys() {
		if entry, _ := c.entries.Peek(key); !entry.Fresh(now, ttl) {
			c.entries.Remove(key)
		}
	}
}

// Len returns the number of entries.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Len()
}

// Remove removes the entry of the key, if there is one.
func (c *Cache[K, V]) Remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(key)
}
