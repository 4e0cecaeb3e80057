package search_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// slowIndex counts until its caller goes or done is closed. The counts of some tenants take a
// time.
type slowIndex struct {
	search.Index
	running chan audit.TenantID
	done    chan struct{}
	takes   map[audit.TenantID]time.Duration
}

func (x *slowIndex) Stats(ctx context.Context, tenant audit.TenantID, _ audit.Filter, _ audit.StatsRequest) (audit.Stats, error) {
	x.running <- tenant
	defer func() { <-x.running }()
	done := x.done
	if takes, known := x.takes[tenant]; known {
		counted := make(chan struct{})
		time.AfterFunc(takes, func() { close(counted) })
		done = counted
	}
	select {
	case <-ctx.Done():
		return audit.Stats{}, ctx.Err()
	case <-done:
		return audit.Stats{Total: 1}, nil
	}
}

func slowService() (*search.Service, *slowIndex) {
	x := &slowIndex{running: make(chan audit.TenantID, 100), done: make(chan struct{})}
	return &search.Service{Index: x, Now: time.Now}, x
}

func countFor(ctx context.Context, s *search.Service, tenant audit.TenantID) error {
	_, err := s.Stats(ctx, audit.Tenant{ID: tenant}, access.Scope{}, nil)
	return err
}

// TestStatsTakeTurns: few statistics run at once, one for each tenant, and who does not
// get a turn in time is told to come again.
func TestStatsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := slowService()
		results := make(chan error, 20)
		count := func(tenant audit.TenantID, n int) {
			for range n {
				go func() { results <- countFor(t.Context(), s, tenant) }()
			}
			synctest.Wait()
		}
		count("hostile", 10)
		if n := len(x.running); n != 1 {
			t.Errorf("one tenant: got %d statistics at once, want 1", n)
		}
		count("b", 1)
		count("c", 1)
		if n := len(x.running); n != 2 {
			t.Errorf("three tenants: got %d statistics at once, want 2", n)
		}
		time.Sleep(search.QuickTime)
		count("d", 1)
		count("e", 1)
		if n := len(x.running); n != 4 {
			t.Errorf("five tenants: got %d statistics at once, want 4 when two of them are long", n)
		}
		time.Sleep(search.StatsWait + time.Second)
		const refused = 9 // of the hostile tenant
		if got := len(results); got != refused {
			t.Errorf("got %d refusals, want %d of 14", got, refused)
		}
		for range len(results) {
			var unavailable *audit.UnavailableError
			if err := <-results; !errors.As(err, &unavailable) {
				t.Errorf("got error %v, want an *audit.UnavailableError", err)
			}
		}
		close(x.done)
		for range 14 - refused {
			if err := <-results; err != nil {
				t.Errorf("got error %v of statistics that had their turn, want none", err)
			}
		}
		if err := countFor(t.Context(), s, "hostile"); err != nil {
			t.Errorf("got error %v once others are done, want none", err)
		}
	})
}

// TestLongStatsHoldUpNobody: four tenants send long statistics all the time. A fifth one sends
// short ones, and waits for none of them.
func TestLongStatsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := slowService()
		x.takes = map[audit.TenantID]time.Duration{"short": 100 * time.Millisecond}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, tenant := range []audit.TenantID{"a", "b", "c", "d"} {
			for range 5 {
				go func() {
					for ctx.Err() == nil {
						_ = countFor(ctx, s, tenant)
					}
				}()
			}
		}
		time.Sleep(search.QuickTime)
		for range 100 {
			began := time.Now()
			if err := countFor(t.Context(), s, "short"); err != nil {
				t.Fatalf("got error %v, want none", err)
			}
			if took := time.Since(began); took > search.QuickTime+time.Second {
				t.Fatalf("short statistics took %s, want at most %s", took, search.QuickTime+time.Second)
			}
			if n := len(x.running); n > 4 {
				t.Fatalf("got %d statistics at once, want at most 4", n)
			}
			time.Sleep(300 * time.Millisecond)
		}
	})
}

// TestTenantsTakeTurnsAtStats: two tenants have long queues of statistics. A third one is next.
func TestTenantsTakeTurnsAtStats(t *testing.T) {
	const takes = 1500 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		s, x := slowService()
		x.takes = map[audit.TenantID]time.Duration{"a": takes, "b": takes, "c": takes}
		results := make(chan error, 10)
		for range 5 {
			for _, tenant := range []audit.TenantID{"a", "b"} {
				go func() { results <- countFor(t.Context(), s, tenant) }()
			}
		}
		synctest.Wait()
		began := time.Now()
		if err := countFor(t.Context(), s, "c"); err != nil {
			t.Fatalf("got error %v, want none", err)
		}
		if took := time.Since(began); took > 2*takes {
			t.Errorf("the third tenant waited and counted for %s, want at most %s", took, 2*takes)
		}
		for range cap(results) {
			if err := <-results; err != nil && !audit.IsUnavailable(err) {
				t.Errorf("got error %v, want none or that the service is busy", err)
			}
		}
	})
}

// TestEvictedStatsBeginAgain: a count that has to leave the quick lane is counted once the long
// lane has room.
func TestEvictedStatsBeginAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := slowService()
		x.takes = map[audit.TenantID]time.Duration{"a": 7 * time.Second, "b": 7 * time.Second, "c": 8 * time.Second, "d": 8 * time.Second, "e": time.Second}
		results := make(chan error, 4)
		for _, tenant := range []audit.TenantID{"a", "b", "c", "d"} {
			go func() { results <- countFor(t.Context(), s, tenant) }()
			synctest.Wait()
		}
		time.Sleep(2*search.QuickTime + time.Millisecond) // a and b are in the long lane, c and d late
		if err := countFor(t.Context(), s, "e"); err != nil {
			t.Errorf("got error %v of short statistics, want none", err)
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Errorf("got error %v of long statistics, want none", err)
			}
		}
	})
}

// TestStatsOfALeavingClient: who goes away gives its turn to the next.
func TestStatsOfALeavingClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := slowService()
		leaving, leave := context.WithCancel(t.Context())
		results := make(chan error, 3)
		for range 2 { // one counts, one waits
			go func() { results <- countFor(leaving, s, "acme") }()
		}
		synctest.Wait()
		go func() { results <- countFor(t.Context(), s, "acme") }()
		leave()
		synctest.Wait()
		for range 2 {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v, want context.Canceled", err)
			}
		}
		close(x.done)
		if err := <-results; err != nil {
			t.Errorf("got error %v of the next, want none", err)
		}
	})
}

// TestSlowStatsAreRefused: statistics that take too long are the request's fault.
func TestSlowStatsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowService()
		start := time.Now()
		wantFault(t, "stats", countFor(t.Context(), s, "acme"), "?from")
		if took := time.Since(start); took != audit.MaxStatsTime {
			t.Errorf("got an answer after %v, want it after %v", took, audit.MaxStatsTime)
		}
	})
}
