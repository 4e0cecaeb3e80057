package search_test

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// countingStore counts the entries that are asked for one by one.
type countingStore struct {
	*entrySet
	asked int
}

func (s *countingStore) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	s.asked += len(ids)
	return s.entrySet.EntriesByID(ctx, tenant, ids)
}

// steps does the check of the day with no more time than each step needs to come further. It returns what was
// published at the end, and the number of steps.
func steps(t *testing.T, r *search.Reconciler) (published search.Reconciliation, outcome activity.Outcome, n int) {
	t.Helper()
	task := search.ReconcileTask{Reconciler: r, Publish: func(got search.Reconciliation) error {
		published = got
		return nil
	}}
	step := theDay
	step.Until = now.Add(-time.Second)
	for n = 1; n < 10_000; n++ {
		outcome, err := task.Check(t.Context(), &audit.Tenant{ID: acme}, step)
		if err != nil {
			t.Fatal(err)
		}
		if !outcome.Stopped {
			return published, outcome, n
		}
		if published.Tenant != "" {
			t.Fatal("a step before the last one has published")
		}
		text, err := json.Marshal(outcome.Progress) // as a task has it
		if err != nil {
			t.Fatal(err)
		}
		step.Progress = activity.Progress{}
		if err := json.Unmarshal(text, &step.Progress); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the steps come to no end")
	return published, outcome, n
}

// spread are n entries over the hours of the day, with several in the first and last milliseconds of hours.
func spread(random *rand.Rand, first, n int) []audit.Entry {
	entries := make([]audit.Entry, n)
	for i := range entries {
		at := day.Add(time.Duration(random.IntN(24)) * time.Hour)
		switch random.IntN(3) {
		case 0:
			at = at.Add(time.Duration(random.IntN(int(time.Hour/time.Millisecond))) * time.Millisecond)
		case 1:
			at = at.Add(time.Hour - time.Millisecond)
		}
		entries[i] = storedEntry(first+i, at, day)
	}
	return entries
}

// TestReconcileGoesOnInSteps: steps that stop as early as they can find, send and remove what one does that has time.
func TestReconcileGoesOnInSteps(t *testing.T) {
	for name, c := range map[string]struct {
		both, missing, extra, page int
		kept                       bool
	}{
		"a small day":                    {both: 300, missing: 40, extra: 30, page: 7},
		"a small day of the store":       {missing: 5, extra: 900, page: 10},
		"a large day":                    {both: 11_000, missing: 400, extra: 100, page: 2000},
		"a large day without difference": {both: 11_000, page: 2000},
		"nothing":                        {page: 7},
		"too many only in the index":     {both: 2000, missing: 100, extra: 1100, page: 100, kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			all := spread(random, 0, c.both+c.missing+c.extra)
			both, missing, extra := all[:c.both], all[c.both:c.both+c.missing], all[c.both+c.missing:]
			store, index := newEntrySet(slices.Concat(both, missing)...), newEntrySet(slices.Concat(both, extra)...)
			store.page, index.page = c.page, c.page
			q := &queue{}
			got, outcome, n := steps(t, newReconciler(store, index, q))
			want := search.Reconciliation{
				Tenant: acme, Day: day, Stored: int64(c.both + c.missing), Indexed: int64(c.both), Repaired: int64(c.missing), Extra: int64(c.extra),
			}
			if c.missing > 0 {
				want.Lag = now.Sub(day)
			}
			left := len(both)
			if c.kept {
				want.Extra, want.Kept, left = 0, want.Extra, len(both)+len(extra)
			}
			if got != want {
				t.Errorf("after %d steps got %+v\nwant %+v", n, got, want)
			}
			if len(index.entries) != left {
				t.Errorf("the index has %d entries, want %d", len(index.entries), left)
			}
			sent := q.sent(t)
			slices.SortFunc(sent, func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
			wantSent := slices.SortedFunc(maps.Keys(newEntrySet(missing...).entries), func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
			if !slices.Equal(sent, wantSent) {
				t.Errorf("%d entries were sent to the index, want %d, each once", len(sent), len(wantSent))
			}
			if c.missing > 0 && outcome.Checks != 0 {
				t.Errorf("%d checks without a difference are noted, want 0", outcome.Checks)
			}
			if c.missing+c.extra > 0 && n < 3 {
				t.Errorf("got %d steps, want more", n)
			}
		})
	}
}

// TestReconcileAsksForNoMoreThanItCanRemove: an index has a million entries that the store has lost.
func TestReconcileAsksForNoMoreThanItCanRemove(t *testing.T) {
	t.Parallel()
	const extra = 25_000
	index := newEntrySet(spread(rand.New(rand.NewPCG(1, 2)), 0, extra)...)
	index.page = search.MaxIDs
	store := &countingStore{entrySet: newEntrySet()}
	r := newReconciler(store.entrySet, index, &queue{})
	r.Reader = store
	got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay)
	if err != nil {
		t.Fatal(err)
	}
	if got.Kept != extra {
		t.Errorf("kept %d entries, want %d", got.Kept, extra)
	}
	if most := search.MaxIDs + 100; store.asked > most {
		t.Errorf("the store was asked for %d entries, want at most %d", store.asked, most)
	}
	if len(index.entries) != extra {
		t.Errorf("the index has %d entries, want %d", len(index.entries), extra)
	}
}
