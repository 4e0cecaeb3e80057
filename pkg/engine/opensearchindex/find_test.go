package opensearchindex_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// TestPagesAcrossWindows: entries are some seconds, or some days, to some months old. Pages that are
// looked for in a window first have each of them once and in order, in both directions.
func TestPagesAcrossWindows(t *testing.T) {
	url := enginetest.OpenSearch(t)
	now := time.Date(2026, 6, 2, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		newest float64 // the logarithm of its age in seconds
		pooled bool
		small  bool
	}{
		{name: "own indexes"},
		{name: "own indexes, small windows", small: true},
		{name: "own indexes, small windows, old entries", newest: 12.5, small: true},
		{name: "a pool", pooled: true},
		{name: "a pool, small windows", pooled: true, small: true},
		{name: "a pool, small windows, old entries", newest: 12.5, pooled: true, small: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := open(t, url, newPrefix(t, url), waitForRefresh, func(config *opensearchindex.Config) { config.Now = func() time.Time { return now } })
			if c.pooled {
				x = x.WithPlacements(inPool)
			}
			if c.small {
				x.UseSmallWindows()
			}
			checkWindowPages(t, x, now, c.newest)
		})
	}
}

// checkWindowPages reads entries of random ages in pages.
func checkWindowPages(t *testing.T, x *opensearchindex.Index, now time.Time, newest float64) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	entries := newEntries(acme, 200)
	for i := range entries {
		age := time.Duration(math.Exp(newest+random.Float64()*(16-newest)) * float64(time.Second)) // up to 102 days
		at := now.Add(time.Minute - age).Truncate(time.Millisecond)
		entries[i].Timestamp, entries[i].ReceivedAt = at, at
		entries[i].ID = audit.DeriveEntryID(acme, at, entries[i].ID.String())
		entries[i].Message = []string{"even", "odd"}[i%2]
	}
	put(t, x, acme, entries...)
	for _, filter := range []audit.Filter{
		{}, {Where: audit.Text{Words: []string{"odd"}}}, {Where: audit.Text{Words: []string{"never"}}}, {From: now.Add(-3 * time.Hour)}, {To: now.Add(-2 * time.Minute)},
		{From: now.Add(-90 * 24 * time.Hour), To: now.Add(-24 * time.Hour)},
	} {
		var want []audit.EntryID
		for _, e := range entries {
			if search.NewCandidate(e).Matches(filter) {
				want = append(want, e.ID)
			}
		}
		slices.SortFunc(want, func(a, b audit.EntryID) int { return strings.Compare(b.String(), a.String()) })
		var got []audit.EntryID
		request := audit.PageRequest{Limit: 7}
		for more := true; more; {
			page, err := x.Find(t.Context(), acme, filter, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				got = append(got, e.ID)
			}
			if before := request.From; before != nil {
				back, err := x.Find(t.Context(), acme, filter, audit.PageRequest{Limit: 7, From: page.First, Backwards: true})
				if err != nil {
					t.Fatal(err)
				}
				if back.Last == nil || *back.Last != *before {
					t.Fatalf("%+v: got %v as the last entry of the page before, want %v", filter, back.Last, before)
				}
			}
			request.From, more = page.Last, page.More
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %d entries, want %d in the same order", filter, len(got), len(want))
		}
	}
}
