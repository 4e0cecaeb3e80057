package search_test

import (
	"context"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// slowCounts has entries of a tenant evenly from a time to another. Counting them takes time.
type slowCounts struct {
	from, to  time.Time
	perHour   float64
	perSecond float64 // how many are counted; 0: all at once
	now       *time.Time
	counts    int
}

func (s *slowCounts) Count(_ context.Context, _ audit.TenantID, from, to time.Time) (int64, error) {
	s.counts++
	if from.Before(s.from) {
		from = s.from
	}
	if to.After(s.to) {
		to = s.to
	}
	n := max(0, to.Sub(from).Hours()*s.perHour)
	if s.perSecond > 0 {
		*s.now = s.now.Add(time.Duration(n / s.perSecond * float64(time.Second)))
	}
	return int64(n), nil
}

func (s *slowCounts) IDs(_ context.Context, _ audit.TenantID, from, _ time.Time, _ audit.EntryID, _ int) ([]audit.EntryID, error) {
	if from.Before(s.from) {
		from = s.from
	}
	return []audit.EntryID{audit.NewEntryID(from, [10]byte{1})}, nil
}

// TestALagOfVeryManyEntriesIsFoundInSteps: a worker that does not save for three minutes is taken for
// dead. A tenant with 600 million entries takes longer to count than that.
func TestALagOfVeryManyEntriesIsFoundInSteps(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	from := now.AddDate(-2, 0, 0)
	store := &slowCounts{from: from, to: now, perHour: 600e6 / now.Sub(from).Hours(), perSecond: 1e6, now: &now}
	to := store.to
	index := &slowCounts{from: from, to: to, perHour: store.perHour}
	lag := &search.Lag{Store: store, Index: index, Now: func() time.Time { return now }}
	at, calls := time.Time{}, 0
	for at.Before(to) {
		if calls++; calls > 60 {
			t.Fatalf("the index was seen to have everything up to %s after %d calls, want up to %s", at, calls, to)
		}
		began := now
		seen, err := lag.Behind(t.Context(), &audit.Tenant{ID: "acme"}, to, at, to)
		if err != nil {
			t.Fatal(err)
		}
		if took := now.Sub(began); took > time.Minute {
			t.Errorf("a call took %s, want at most a minute", took)
		}
		if !seen.After(at) {
			t.Fatalf("a call got from %s to %s, want further", at, seen)
		}
		at = seen
	}
	if most := 1000; store.counts > most {
		t.Errorf("counted %d times, want at most %d", store.counts, most)
	}
}

// TestAQuietTenantsLagIsFoundAtOnce: seven years take one call with few counts.
func TestAQuietTenantsLagIsFoundAtOnce(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	store := &slowCounts{from: now.AddDate(-7, 0, 0), to: now, perHour: 1, now: &now}
	lag := &search.Lag{Store: store, Index: store, Now: func() time.Time { return now }}
	seen, err := lag.Behind(t.Context(), &audit.Tenant{ID: "acme"}, now, time.Time{}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !seen.Equal(now) {
		t.Errorf("the index was seen to have everything up to %s, want up to %s", seen, now)
	}
	if most := 2 * 100; store.counts > most { // of the store and of the index
		t.Errorf("counted %d times, want at most %d", store.counts, most)
	}
}
