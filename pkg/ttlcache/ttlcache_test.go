package ttlcache_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func put(c *ttlcache.Cache[int, int], key int) {
	c.Update(key, func(ttlcache.Entry[int], bool) (ttlcache.Entry[int], bool) {
		return ttlcache.Entry[int]{Value: key, ReadAt: epoch}, true
	})
}

func TestFresh(t *testing.T) {
	entry := ttlcache.Entry[int]{ReadAt: epoch}
	const ttl = 5 * time.Second
	for _, tt := range []struct {
		age  time.Duration
		want bool
	}{{-1, false}, {0, true}, {ttl - 1, true}, {ttl, false}} {
		if got := entry.Fresh(epoch.Add(tt.age), ttl); got != tt.want {
			t.Errorf("fresh at age %s: %v, want %v", tt.age, got, tt.want)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	const size, keys = 1000, 50_000
	c := ttlcache.New[int, int](size)
	for key := range keys {
		put(c, key)
		if _, found := c.Get(0); !found {
			t.Fatalf("key 0, the most recently used, is missing after key %d, want it kept", key)
		}
	}
	present := 0
	for key := range keys {
		entry, found := c.Get(key)
		if !found {
			continue
		}
		present++
		if entry.Value != key {
			t.Errorf("key %d has value %d, want %d", key, entry.Value, key)
		}
		if key != 0 && key <= keys-size {
			t.Errorf("key %d is present, want only key 0 and the last %d", key, size-1)
		}
	}
	if present != size {
		t.Errorf("the cache has %d entries, want %d", present, size)
	}
}

func TestUpdate(t *testing.T) {
	c := ttlcache.New[int, int](10)
	c.Update(1, func(_ ttlcache.Entry[int], found bool) (ttlcache.Entry[int], bool) {
		if found {
			t.Error("an empty cache has an entry, want none")
		}
		return ttlcache.Entry[int]{}, false
	})
	if _, found := c.Get(1); found {
		t.Error("Update stored an entry although change returned false, want none")
	}
	put(c, 1)
	c.Update(1, func(entry ttlcache.Entry[int], found bool) (ttlcache.Entry[int], bool) {
		if !found {
			t.Error("found is false, want true")
		}
		if entry.Value != 1 {
			t.Errorf("got value %d, want 1", entry.Value)
		}
		entry.Value = 2
		return entry, true
	})
	if entry, _ := c.Get(1); entry.Value != 2 {
		t.Errorf("value %d, want 2", entry.Value)
	}
	c.Remove(1)
	if _, found := c.Get(1); found {
		t.Error("the entry is present after Remove, want it gone")
	}
}

func TestConcurrentUse(t *testing.T) {
	const workers, updates = 8, 1000
	c := ttlcache.New[int, int](1)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range updates {
				c.Update(1, func(entry ttlcache.Entry[int], _ bool) (ttlcache.Entry[int], bool) {
					entry.Value++
					return entry, true
				})
			}
		})
	}
	group.Wait()
	if entry, _ := c.Get(1); entry.Value != workers*updates {
		t.Errorf("%d updates are visible, want %d", entry.Value, workers*updates)
	}
}
