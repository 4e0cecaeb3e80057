package opensearchindex_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// inPool places every tenant in one pool.
func inPool(context.Context, audit.TenantID) ([]audit.Placement, error) {
	return []audit.Placement{{Family: "p07"}}, nil
}

// fourShards lets a pool spread a tenant's documents.
func fourShards(c *opensearchindex.Config) { c.Shards = 4 }

func TestConformanceInAPool(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	conformance.Index(t, func(t *testing.T) conformance.IndexUnderTest {
		x := open(t, url, prefix, fourShards).WithPlacements(inPool)
		x.UseSmallWindows()
		return conformance.IndexUnderTest{Index: x}
	})
}

// TestAPoolNeverAnswersForAnotherTenant: two tenants of a pool have entries with the same
// ids and words. Whatever one asks for, it gets its own alone.
func TestAPoolNeverAnswersForAnotherTenant(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh, fourShards).WithPlacements(inPool)
	const other = audit.TenantID("acme-2")
	entriesOf := func(tenant audit.TenantID) []audit.Entry {
		entries := newEntries(acme, 50) // the same ids
		for i := range entries {
			entries[i].Tenant, entries[i].UserID, entries[i].Message = tenant, string(tenant), "shared words"
		}
		return entries
	}
	put(t, x, acme, entriesOf(acme)...)
	put(t, x, other, entriesOf(other)[:20]...)
	word := audit.Text{Words: []string{"shared"}}
	never := audit.Equals{Field: audit.FieldUserID, Values: []string{string(acme)}}
	for name, where := range map[string]audit.Expr{
		"everything": nil, "a word": word, "not": audit.Not{Expr: never}, "or": audit.Or{never, audit.Not{Expr: never}},
		"the other's field": audit.Or{never, word}, "its tenant as a user": audit.Equals{Field: audit.FieldUserID, Values: []string{string(other)}},
	} {
		page, err := x.Find(t.Context(), other, audit.Filter{Where: where}, audit.PageRequest{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(page.Entries); got != 20 {
			t.Errorf("%s: found %d entries, want 20", name, got)
		}
		for _, e := range page.Entries {
			if e.UserID != string(other) {
				t.Errorf("%s: found an entry of %s, want only those of %s", name, e.UserID, other)
			}
		}
		stats, err := x.Stats(t.Context(), other, audit.Filter{Where: where}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldUserID}, Top: 10, Distinct: true})
		if err != nil {
			t.Fatal(err)
		}
		if stats.Total != 20 {
			t.Errorf("%s: counted %d entries, want 20", name, stats.Total)
		}
		if got := len(stats.Groups); got != 1 {
			t.Errorf("%s: counted %d users, want 1", name, got)
		}
	}
	ids, err := x.IDs(t.Context(), other, time.Time{}, time.Time{}, audit.EntryID{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != 20 {
		t.Errorf("listed %d ids, want 20", len(ids))
	}
	for n, want := range map[int]bool{0: true, 19: true, 20: false, 49: false} {
		got, err := x.Contains(t.Context(), other, newEntry(acme, n).ID)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("contains entry %d: %t, want %t", n, got, want)
		}
	}
	if n := purge(t, x, other); n != 20 {
		t.Errorf("Purge removed %d entries, want 20", n)
	}
	if n := total(t, x, acme); n != 50 {
		t.Errorf("after the purge of the other tenant %d entries are left, want 50", n)
	}
	if names := indexesOf(t, url, prefix+"-*"); !slices.Equal(names, []string{prefix + "-p07-2026.01"}) {
		t.Errorf("the indexes are %v, want one of the pool", names)
	}
}

// TestAPromotionAcrossTheEndOfAMonth: a tenant leaves its pool on the third of February.
// Entries are dated before, at and after the change and received before and after it. They
// are indexed twice, in any order, and each has one document.
func TestAPromotionAcrossTheEndOfAMonth(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	change := time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC)
	placements := func(context.Context, audit.TenantID) ([]audit.Placement, error) {
		return []audit.Placement{{Since: begin, Family: "p00"}, {Since: change, Family: audit.FamilyOwn}}, nil
	}
	x := open(t, url, prefix, waitForRefresh, fourShards, func(c *opensearchindex.Config) {
		c.Now = func() time.Time { return change.AddDate(0, 1, 0) }
	}).WithPlacements(placements)
	var entries []audit.Entry
	for i, at := range []time.Time{
		change.AddDate(0, 0, -20), change.AddDate(0, 0, -3), change.Add(-time.Millisecond), change, change.Add(time.Millisecond), change.AddDate(0, 0, 5),
	} {
		for j, lag := range []time.Duration{-20 * time.Hour, 0, time.Millisecond, 48 * time.Hour, 30 * 24 * time.Hour} {
			e := newEntry(acme, 0)
			e.Timestamp, e.ReceivedAt = at, at.Add(lag)
			e.ID = audit.DeriveEntryID(acme, at, fmt.Sprint(i, j))
			entries = append(entries, e)
		}
	}
	put(t, x, acme, entries...)
	again := slices.Clone(entries)
	slices.Reverse(again)
	for _, e := range again {
		put(t, x, acme, e)
	}
	documents := 0
	for _, index := range indexesOf(t, url, prefix+"-*") {
		var counted struct{ Count int }
		engineRequest(t, http.MethodGet, url+"/"+index+"/_count", nil, &counted)
		documents += counted.Count
	}
	if documents != len(entries) {
		t.Errorf("the indexes have %d documents, want %d", documents, len(entries))
	}
	want := []string{prefix + "-p00-2026.01", prefix + "-p00-2026.02", prefix + "-t-acme.2026.01", prefix + "-t-acme.2026.02"}
	if names := indexesOf(t, url, prefix+"-*"); !slices.Equal(names, want) {
		t.Errorf("the indexes are %v, want %v", names, want)
	}
	slices.SortFunc(entries, func(a, b audit.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for size := 1; size <= len(entries); size += 6 {
		checkPages(t, x, entries, size)
	}
	for _, e := range entries {
		for _, r := range []struct{ from, to time.Time }{{e.Timestamp, e.Timestamp.Add(time.Millisecond)}, {e.Timestamp, time.Time{}}, {time.Time{}, e.Timestamp.Add(time.Millisecond)}} {
			wanted := int64(0)
			for _, other := range entries {
				if (r.from.IsZero() || !other.Timestamp.Before(r.from)) && (r.to.IsZero() || other.Timestamp.Before(r.to)) {
					wanted++
				}
			}
			stats, err := x.Stats(t.Context(), acme, audit.Filter{From: r.from, To: r.to}, audit.StatsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if stats.Total != wanted {
				t.Errorf("from %v to %v: counted %d entries, want %d", r.from, r.to, stats.Total, wanted)
			}
		}
		found, err := x.Contains(t.Context(), acme, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			t.Errorf("the entry of %v received at %v is not found by its id, want it found", e.Timestamp, e.ReceivedAt)
		}
	}
	if n := purge(t, x, acme); n != len(entries) {
		t.Errorf("Purge removed %d entries, want %d", n, len(entries))
	}
}

// checkPages reads all pages of a size and compares them with the entries in rising order.
func checkPages(t *testing.T, x search.Index, want []audit.Entry, size int) {
	t.Helper()
	var got []audit.EntryID
	request := audit.PageRequest{Order: audit.OldestFirst, Limit: size}
	for {
		page, err := x.Find(t.Context(), acme, audit.Filter{}, request)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Entries {
			got = append(got, page.Entries[i].ID)
		}
		if !page.More {
			break
		}
		request.From = page.Last
	}
	if len(got) != len(want) {
		t.Fatalf("in pages of %d there are %d entries, want %d", size, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i].ID {
			t.Fatalf("in pages of %d entry %d is %s, want %s", size, i, got[i], want[i].ID)
		}
	}
}

// TestSizesOfFamilies: the sizes of a month, and the preparation of another.
func TestSizesOfFamilies(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	own := open(t, url, prefix, waitForRefresh)
	pooled := own.WithPlacements(inPool)
	put(t, own, "large", newEntries("large", 30)...)
	put(t, pooled, "small-1", newEntries("small-1", 5)...)
	put(t, pooled, "small-2", newEntries("small-2", 7)...)
	ownSizes, pools, err := own.Sizes(t.Context(), begin)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[audit.TenantID]int64{"large": 30}; !maps.Equal(ownSizes, want) {
		t.Errorf("the own families have %v, want %v", ownSizes, want)
	}
	if want := map[string]int64{"p07": 12}; !maps.Equal(pools, want) {
		t.Errorf("the pools have %v, want %v", pools, want)
	}
	for smallest, want := range map[int64][]audit.TenantID{1: {"small-2", "small-1"}, 6: {"small-2"}, 8: nil} {
		got, err := own.LargestInPools(t.Context(), begin, smallest, 10)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the tenants with %d entries are %v, want %v", smallest, got, want)
		}
	}
	next := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for range 2 { // preparing again is no error
		if err := own.Prepare(t.Context(), "p07", "", next, 3); err != nil {
			t.Fatal(err)
		}
		if err := own.Prepare(t.Context(), audit.FamilyOwn, "large", next, 2); err != nil {
			t.Fatal(err)
		}
	}
	for index, want := range map[string]string{"-p07-2026.02": "3", "-t-large.2026.02": "2"} {
		if got := stateOf(t, url, prefix+index).Settings.Index.Shards; got != want {
			t.Errorf("index %s has %s shards, want %s", index, got, want)
		}
	}
	february := newEntry("small-1", 0)
	february.Timestamp = next
	february.ID = audit.DeriveEntryID("small-1", next, "february")
	put(t, pooled, "small-1", february)
	if n := total(t, pooled, "small-1"); n != 6 {
		t.Errorf("small-1 has %d entries, want 6", n)
	}
	if sizes, _, err := own.Sizes(t.Context(), begin.AddDate(-1, 0, 0)); err != nil {
		t.Fatal(err)
	} else if len(sizes) != 0 {
		t.Errorf("a month without indexes has the sizes %v, want none", sizes)
	}
	for _, family := range []string{"", "*", "p1", "x"} {
		if err := own.Prepare(t.Context(), family, "large", next, 1); err == nil {
			t.Errorf("prepare family %q: no error, want one", family)
		}
	}
}
