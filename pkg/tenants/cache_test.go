package tenants_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

func TestCache(t *testing.T) {
	f := newFixture(t)
	cache := tenants.NewCache(f.store, 5*time.Second, func() time.Time { return f.now })
	read := func() audit.Tenant {
		t.Helper()
		tenant, err := cache.Tenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		return tenant
	}
	if _, err := cache.Tenant(t.Context(), "acme"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
	other := *f.Service // another process
	f.acme(t)
	if got := read().Name; got != "Acme" {
		t.Errorf("a tenant just created: got name %q, want %q", got, "Acme")
	}
	f.store.reads = 0
	for range 100 {
		read()
	}
	if f.store.reads != 0 {
		t.Errorf("read a record that is there %d times, want 0", f.store.reads)
	}
	if _, err := other.Update(t.Context(), admin, "acme", tenants.Change{Name: "by another", Settings: audit.DefaultSettings()}, 0); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(5*time.Second - 1)
	if got := read().Name; got != "Acme" {
		t.Errorf("within its time: got name %q, want %q", got, "Acme")
	}
	f.now = f.now.Add(1)
	if got := read().Name; got != "by another" {
		t.Errorf("after its time: got name %q, want %q", got, "by another")
	}

	f.Tenants = cache.Fresh()
	if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "own", Settings: audit.DefaultSettings()}, 0); err != nil {
		t.Error(err)
	} else if got := read().Name; got != "own" {
		t.Errorf("its own change: got name %q, want %q", got, "own")
	}
	if _, err := other.Update(t.Context(), admin, "acme", tenants.Change{Name: "by another", Settings: audit.DefaultSettings()}, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := cache.Fresh().Tenant(t.Context(), "acme"); err != nil {
		t.Error(err)
	} else if got.Name != "by another" {
		t.Errorf("fresh: got name %q, want %q", got.Name, "by another")
	}
	if got := read().Name; got != "by another" {
		t.Errorf("after a fresh read: got name %q, want %q", got, "by another")
	}
	if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "own", Settings: audit.DefaultSettings()}, read().Version); err != nil {
		t.Error(err)
	}
	read()
	if err := cache.Tombstone(t.Context(), "acme", read().Version); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Tenant(t.Context(), "acme"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("tombstoned: got error %v, want %v", err, audit.ErrNotFound)
	}
	if err := cache.Create(t.Context(), audit.Tenant{ID: "acme"}); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("created again: got error %v, want %v", err, audit.ErrConflict)
	}
}

// slowStore answers a read only when told to, with what it read before.
type slowStore struct {
	tenants.Store
	reading, answer chan struct{}
}

func (s slowStore) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	tenant, err := s.Store.Tenant(ctx, id)
	s.reading <- struct{}{}
	<-s.answer
	return tenant, err
}

func TestCacheKeepsNoReadFromBeforeAChange(t *testing.T) {
	f := newFixture(t)
	tenant := f.acme(t)
	slow := slowStore{Store: f.db.Tenants(), reading: make(chan struct{}, 1), answer: make(chan struct{}, 10)}
	cache := tenants.NewCache(slow, time.Hour, time.Now)
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := cache.Tenant(t.Context(), "acme"); err != nil {
			t.Error(err)
		}
	})
	<-slow.reading
	tenant.Name, tenant.Version = "changed", 2
	if err := cache.Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	slow.answer <- struct{}{}
	group.Wait()
	slow.answer <- struct{}{}
	if got, err := cache.Tenant(t.Context(), "acme"); err != nil {
		t.Error(err)
	} else if got.Name != "changed" {
		t.Errorf("got the record of %q, want that of %q", got.Name, "changed")
	}
}

// manyTenants is a store that has every tenant.
type manyTenants struct {
	tenants.Store
	reads *int
}

func (m manyTenants) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	*m.reads++
	return audit.Tenant{ID: id}, nil
}

func TestCacheIsBounded(t *testing.T) {
	var reads int
	const n = 6000
	cache := tenants.NewCache(manyTenants{reads: &reads}, time.Hour, time.Now)
	for range 2 {
		for i := range n {
			id := audit.TenantID(fmt.Sprint("t", i))
			if got, err := cache.Tenant(t.Context(), id); err != nil {
				t.Fatal(err)
			} else if got.ID != id {
				t.Fatalf("got the record of %s, want that of %s", got.ID, id)
			}
		}
	}
	if least := 2*n - tenants.MaxCached; reads < least {
		t.Errorf("read %d times, want at least %d: the cache holds at most %d", reads, least, tenants.MaxCached)
	}
}

// stopped is a store that cannot be reached: it says so, or says nothing.
type stopped struct {
	tenants.Store
	err   error
	asked int
}

func (s *stopped) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	s.asked++
	switch {
	case s.err != nil:
		return audit.Tenant{}, s.err
	case s.Store != nil:
		return s.Store.Tenant(ctx, id)
	}
	<-ctx.Done()
	return audit.Tenant{}, ctx.Err()
}

func TestCacheIsStaleIfError(t *testing.T) {
	unavailable := &audit.UnavailableError{Err: errors.New("down")}
	for name, err := range map[string]error{"refusing": unavailable, "silent": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.acme(t)
			store := &stopped{Store: f.store}
			cache := tenants.NewCache(store, 5*time.Second, func() time.Time { return f.now })
			if _, err := cache.StaleIfError().Tenant(t.Context(), "acme"); err != nil {
				t.Fatal(err)
			}
			store.Store, store.err, store.asked = nil, err, 0
			f.now = f.now.Add(10 * time.Second)
			for range 20 { // one of them asks, the others need not
				if tenant, err := cache.StaleIfError().Tenant(t.Context(), "acme"); err != nil {
					t.Fatal(err)
				} else if tenant.Name != "Acme" {
					t.Fatalf("got name %q, want %q", tenant.Name, "Acme")
				}
			}
			if store.asked != 1 {
				t.Errorf("%d calls, want 1", store.asked)
			}
			if err != nil {
				if _, err := cache.Tenant(t.Context(), "acme"); !errors.Is(err, unavailable) {
					t.Errorf("who must know it well: got error %v, want %v", err, unavailable)
				}
				if _, err := cache.StaleIfError().Tenant(t.Context(), "other"); !errors.Is(err, unavailable) {
					t.Errorf("a record that was never read: got error %v, want %v", err, unavailable)
				}
				f.now = f.now.Add(tenants.MaxStale)
				if _, err := cache.StaleIfError().Tenant(t.Context(), "acme"); !errors.Is(err, unavailable) {
					t.Errorf("after its time: got error %v, want %v", err, unavailable)
				}
				f.now = f.now.Add(-tenants.MaxStale)
			}
			store.Store, store.err = f.store, nil
			if _, err := f.Update(t.Context(), admin, "acme", tenants.Change{Name: "New", Settings: audit.DefaultSettings()}, 0); err != nil {
				t.Fatal(err)
			}
			f.now = f.now.Add(tenants.RetryPause)
			if tenant, err := cache.StaleIfError().Tenant(t.Context(), "acme"); err != nil {
				t.Error(err)
			} else if tenant.Name != "New" {
				t.Errorf("when the store is back: got name %q, want %q", tenant.Name, "New")
			}
			store.Store, store.err = nil, audit.ErrNotFound
			f.now = f.now.Add(tenants.RetryPause)
			if _, err := cache.StaleIfError().Tenant(t.Context(), "acme"); !errors.Is(err, audit.ErrNotFound) {
				t.Errorf("a tenant that is gone: got error %v, want %v", err, audit.ErrNotFound)
			}
		})
	}
}

// TestAStoreThatFailsIsAskedForOneTenant: the others have their old records at once, also while that one is
// asked for again. When the store is back, all are read again at once.
func TestAStoreThatFailsIsAskedForOneTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		store := &slow{tenant: audit.Tenant{Name: "old"}}
		cache := tenants.NewCache(store, 5*time.Second, time.Now)
		// read reads all tenants at once, and returns how many waited and how many have the new record.
		read := func() (waited, isNew int) {
			var mu sync.Mutex
			var readers sync.WaitGroup
			for i := range n {
				readers.Go(func() {
					begun := time.Now()
					tenant, err := cache.StaleIfError().Tenant(t.Context(), audit.TenantID(fmt.Sprintf("tenant-%d", i)))
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if time.Since(begun) > 0 {
						waited++
					}
					if tenant.Name == "new" {
						isNew++
					}
				})
			}
			readers.Wait()
			return waited, isNew
		}
		read()
		time.Sleep(10 * time.Second)
		store.after, store.tenant.Name = time.Hour, "new"
		if _, err := cache.StaleIfError().Tenant(t.Context(), "tenant-0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tenants.RetryPause - time.Second)
		if waited, _ := read(); waited != 0 {
			t.Errorf("within the pause: %d readers waited, want 0", waited)
		}
		time.Sleep(time.Second)
		if waited, _ := read(); waited != 1 {
			t.Errorf("after the pause: %d readers waited, want 1", waited)
		}
		store.after = 0
		time.Sleep(tenants.RetryPause)
		if _, err := cache.StaleIfError().Tenant(t.Context(), "tenant-0"); err != nil {
			t.Fatal(err)
		}
		if _, isNew := read(); isNew != n {
			t.Errorf("when the store is back: %d have the new record, want %d", isNew, n)
		}
	})
}

// slow is a store of one tenant that answers after a time.
type slow struct {
	tenants.Store
	tenant audit.Tenant
	after  time.Duration
}

func (s *slow) Tenant(ctx context.Context, _ audit.TenantID) (audit.Tenant, error) {
	select {
	case <-time.After(s.after):
		return s.tenant, nil
	case <-ctx.Done():
		return audit.Tenant{}, ctx.Err()
	}
}

// A store that is merely slow hides no change. One that does not answer in time does, and no record is used
// that is older than 15 minutes once it has been waited for.
func TestASlowStoreHidesNoChange(t *testing.T) {
	for name, c := range map[string]struct {
		after, age time.Duration
		want       string // the name; "": an error
	}{
		"slow":            {tenants.StaleTimeout - time.Second, time.Minute, "New"},
		"too slow":        {tenants.StaleTimeout + time.Second, time.Minute, "Acme"},
		"too slow, older": {tenants.StaleTimeout + time.Second, tenants.MaxStale - time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &slow{tenant: audit.Tenant{ID: "acme", Name: "Acme"}}
				cache := tenants.NewCache(store, 5*time.Second, time.Now)
				if _, err := cache.StaleIfError().Tenant(t.Context(), "acme"); err != nil {
					t.Fatal(err)
				}
				store.tenant.Name = "New"
				time.Sleep(c.age)
				store.after = c.after
				tenant, err := cache.StaleIfError().Tenant(t.Context(), "acme")
				if got := err == nil; got != (c.want != "") {
					t.Fatalf("got error %v, want one: %t", err, c.want == "")
				}
				if tenant.Name != c.want {
					t.Errorf("got the name %q, want %q", tenant.Name, c.want)
				}
			})
		})
	}
}

// TestWithMaxAge: a consumer uses a record longer than others of the same cache, and sees a
// change of its own process at once.
func TestWithMaxAge(t *testing.T) {
	f := newFixture(t)
	f.acme(t)
	cache := tenants.NewCache(f.store, 5*time.Second, func() time.Time { return f.now })
	consumer := cache.WithMaxAge(time.Minute)
	name := func(store tenants.Store) string {
		t.Helper()
		tenant, err := store.Tenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		return tenant.Name
	}
	rename := func(by tenants.Store, to string) {
		t.Helper()
		tenant, err := f.store.Tenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		tenant.Name, tenant.Version = to, tenant.Version+1
		if err := by.Update(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
	}
	name(consumer)
	rename(f.store, "by another process")
	f.now = f.now.Add(time.Minute - 1)
	if got, want := name(consumer), "Acme"; got != want {
		t.Errorf("within a minute: got name %q, want %q", got, want)
	}
	f.now = f.now.Add(1)
	if got, want := name(consumer), "by another process"; got != want {
		t.Errorf("after a minute: got name %q, want %q", got, want)
	}
	rename(cache, "by this process")
	if got, want := name(consumer), "by this process"; got != want {
		t.Errorf("after a change of its own: got name %q, want %q", got, want)
	}
}
