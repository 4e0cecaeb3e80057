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

// slowIndex counts until its caller goes or done is closed.
type slowIndex struct {
	search.Index
	running chan audit.TenantID
	done    chan struct{}
}

func (x *slowIndex) Stats(ctx context.Context, tenant audit.TenantID, _ audit.Filter, _ audit.StatsRequest) (audit.Stats, error) {
	x.running <- tenant
	defer func() { <-x.running }()
	select {
	case <-ctx.Done():
		return audit.Stats{}, ctx.Err()
	case <-x.done:
		return audit.Stats{Total: 1}, nil
	}
}

func slowService() (*search.Service, *slowIndex) {
	x := &slowIndex{running: make(chan audit.TenantID, 100), done: make(chan struct{})}
	return &search.Service{Index: x, Now: time.Now}, x
}

func countFor(ctx context.Context, s *search.Service, tenant audit.TenantID) error {
	_, _, err := s.Stats(ctx, audit.Tenant{ID: tenant}, access.Scope{}, nil)
	return err
}

// TestStatsTakeTurns: few statistics run at once, one for each tenant, and who does not
// get a turn in time is told to come again.
func TestStatsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, x := slowService()
		results := make(chan error, 20)
		for range 10 {
			go func() { results <- countFor(t.Context(), s, "hostile") }()
		}
		synctest.Wait()
		if n := len(x.running); n != 1 {
			t.Errorf("one tenant: got %d statistics at once, want 1", n)
		}
		for _, tenant := range []audit.TenantID{"b", "c"} {
			go func() { results <- countFor(t.Context(), s, tenant) }()
			synctest.Wait()
		}
		if n := len(x.running); n != 2 {
			t.Errorf("three tenants: got %d statistics at once, want 2", n)
		}
		time.Sleep(search.StatsWait + time.Second)
		refused := len(results)
		for range refused {
			var unavailable *audit.UnavailableError
			if err := <-results; !errors.As(err, &unavailable) {
				t.Errorf("got error %v, want an *audit.UnavailableError", err)
			}
		}
		if refused != 10 {
			t.Errorf("got %d refusals, want 10 of 12", refused)
		}
		close(x.done)
		for range 12 - refused {
			if err := <-results; err != nil {
				t.Errorf("got error %v of statistics that had their turn, want none", err)
			}
		}
		if err := countFor(t.Context(), s, "hostile"); err != nil {
			t.Errorf("got error %v once others are done, want none", err)
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
		if took := time.Since(start); took != search.StatsTimeout {
			t.Errorf("got an answer after %v, want it after %v", took, search.StatsTimeout)
		}
	})
}
