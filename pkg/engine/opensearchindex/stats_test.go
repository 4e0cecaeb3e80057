package opensearchindex_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// skewedEntries returns entries of many months with values of different
// frequencies, and their regions.
func skewedEntries(n int) (entries []audit.Entry, regions []string) {
	random := rand.New(rand.NewPCG(1, 2))
	entries, regions = make([]audit.Entry, n), make([]string, n)
	for i := range entries {
		e := newEntry(acme, i)
		e.Timestamp = begin.AddDate(0, random.IntN(8), random.IntN(28)).Add(time.Duration(random.IntN(3)) * time.Millisecond)
		e.ID = audit.DeriveEntryID(acme, e.Timestamp, fmt.Sprint(i))
		e.UserID = fmt.Sprintf("u%d", min(random.IntN(12), random.IntN(12)))
		e.ResourceID = fmt.Sprint(random.IntN(3))
		if random.IntN(5) == 0 {
			e.ResourceID = ""
		}
		if regions[i] = []string{"", "eu", "us", "ap", "sa", "af"}[min(random.IntN(6), random.IntN(6))]; random.IntN(4) > 0 {
			e.Metadata = audit.Object(`{"a":"z","region":"` + regions[i] + `","zone":"y"}`)
		} else {
			regions[i] = ""
		}
		entries[i] = e
	}
	return entries, regions
}

func TestPagesOverManyMonths(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	entries, _ := skewedEntries(500)
	put(t, x, acme, entries...)
	slices.SortFunc(entries, func(a, b audit.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for _, order := range []audit.Order{audit.OldestFirst, audit.NewestFirst} {
		for _, backwards := range []bool{false, true} {
			request := audit.PageRequest{Order: order, Limit: 37, Backwards: backwards}
			var found []audit.EntryID
			for more := true; more; {
				page, err := x.Find(t.Context(), acme, audit.Filter{}, request)
				if err != nil {
					t.Fatal(err)
				}
				var part []audit.EntryID
				for _, e := range page.Entries {
					part = append(part, e.ID)
				}
				if request.From = page.Last; backwards {
					request.From = page.First
					found = append(part, found...)
				} else {
					found = append(found, part...)
				}
				more = page.More
			}
			if order == audit.NewestFirst {
				slices.Reverse(found)
			}
			if !slices.EqualFunc(found, entries, func(id audit.EntryID, e audit.Entry) bool { return id == e.ID }) {
				t.Errorf("order %v, backwards %v: the %d entries found differ from the %d sorted by time and id, want the same", order, backwards, len(found), len(entries))
			}
		}
	}
}

// TestGroupsAreExactBeyondTheLimits: groups are exact or refused if shards do not
// return all of their values.
func TestGroupsAreExactBeyondTheLimits(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	entries, regions := skewedEntries(600)
	put(t, x, acme, entries...)
	value := map[audit.Field]func(i int) string{
		audit.FieldUserID:     func(i int) string { return entries[i].UserID },
		audit.FieldResourceID: func(i int) string { return entries[i].ResourceID },
		"metadata.region":     func(i int) string { return regions[i] },
		"metadata.none":       func(int) string { return "" },
	}
	fields := []audit.Field{audit.FieldUserID, audit.FieldResourceID, "metadata.region", "metadata.none"}
	var refusals int
	for _, small := range []bool{false, true} {
		if small {
			x.UseSmallGroupLimits()
		}
		for _, first := range fields {
			for _, by := range [][]audit.Field{{first}, {first, fields[0]}, {first, fields[1]}, {first, fields[2]}} {
				for _, top := range []int{1, 2, 5, 1000} {
					counts := map[string]int64{}
					for i := range entries {
						values := make([]string, len(by))
						for j, field := range by {
							values[j] = value[field](i)
						}
						counts[strings.Join(values, "\n")]++
					}
					want := ranking(counts, top)
					stats, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{GroupBy: by, Top: top})
					var invalid *audit.ValidationError
					if small && len(by) == 2 && errors.As(err, &invalid) && invalid.Fields[0].Pointer == "?group_by" {
						refusals++
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if diff := gocmp.Diff(want, stats.Groups, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("small limits %t: top %d by %v differs (-want +got):\n%s", small, top, by, diff)
					}
				}
			}
		}
	}
	if refusals == 0 {
		t.Error("got no refusal of groups, want some: the test did not reach the limits")
	}
}

// TestFrequentValuesAmongMany: the most frequent values are found among more values than
// shards return and lists may have, if they are certain.
func TestFrequentValuesAmongMany(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	entries := newEntries(acme, 400)
	for i := range entries { // 4 months, 300 values, two of them frequent
		e := &entries[i]
		e.Timestamp = begin.AddDate(0, i%4, 0).Add(time.Duration(i) * time.Millisecond)
		e.ID = audit.DeriveEntryID(acme, e.Timestamp, fmt.Sprint(i))
		e.ResourceID, e.UserID = fmt.Sprint(i), fmt.Sprint(i)
		if i < 100 {
			e.ResourceID = fmt.Sprint("frequent", min(i%4/3, 1))
		}
		e.Metadata = audit.Object(`{"id":"` + e.ResourceID + `"}`)
	}
	put(t, x, acme, entries...)
	x.UseSmallGroupLimits()
	x.UseShortLists(100)
	for _, field := range []audit.Field{audit.FieldResourceID, "metadata.id"} {
		got, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{field}, Top: 1})
		if err != nil {
			t.Fatalf("by %s: %v", field, err)
		}
		if diff := gocmp.Diff([]audit.Group{{Values: []string{"frequent0"}, Count: 75}}, got.Groups); diff != "" {
			t.Errorf("by %s differs (-want +got):\n%s", field, diff)
		}
	}
	for _, by := range [][]audit.Field{{audit.FieldUserID}, {"metadata.id"}, {audit.FieldUserID, audit.FieldResourceID}} {
		_, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{GroupBy: by, Top: 3})
		var invalid *audit.ValidationError
		if !errors.As(err, &invalid) {
			t.Errorf("by %v: got error %v, want a %T", by, err, invalid)
			continue
		}
		if got := invalid.Fields[0].Code; got != "too_many_groups" {
			t.Errorf("by %v: got code %q, want too_many_groups", by, got)
		}
	}
}

func ranking(counts map[string]int64, top int) []audit.Group {
	var groups []audit.Group
	for values, n := range counts {
		groups = append(groups, audit.Group{Values: strings.Split(values, "\n"), Count: n})
	}
	slices.SortFunc(groups, func(a, b audit.Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), slices.Compare(a.Values, b.Values))
	})
	return groups[:min(top, len(groups))]
}

func TestDistinctUsers(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	entries := newEntries(acme, 12_000)
	for i := range entries {
		entries[i].UserID = fmt.Sprintf("user-%d", i)
	}
	distinct := func() int64 {
		stats, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{Distinct: true})
		if err != nil {
			t.Fatal(err)
		}
		return stats.DistinctUsers
	}
	put(t, x, acme, entries[:10_000]...)
	if n := distinct(); n != 10_000 {
		t.Errorf("counted %d distinct users, want exactly 10,000", n)
	}
	put(t, x, acme, entries[10_000:]...)
	if n := distinct(); n < 11_800 || n > 12_200 {
		t.Errorf("counted %d distinct users, want 11,800 to 12,200", n)
	}
}

// TestGroupsLeaveBucketsForOtherCounts: all counts of one search together must stay
// within OpenSearch's limit of buckets.
func TestGroupsLeaveBucketsForOtherCounts(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	const users, resources, values = 10_000, 60, 1000
	entries := newEntries(acme, users+resources)
	var list []string
	for i := range values {
		list = append(list, fmt.Sprintf("%q", fmt.Sprint("v", i)))
	}
	for i := range entries {
		e := &entries[i]
		e.Timestamp = begin.Add(time.Duration(i%users) * time.Second)
		e.ID = audit.DeriveEntryID(acme, e.Timestamp, fmt.Sprint(i))
		e.UserID, e.ResourceID = fmt.Sprintf("user-%d", i%users), fmt.Sprintf("r%02d", i%resources)
		if i >= users {
			e.Metadata = audit.Object(`{"a":[` + strings.Join(list, ",") + `]}`)
		}
	}
	for part := range slices.Chunk(entries, 2000) {
		put(t, x, acme, part...)
	}
	for _, interval := range []time.Duration{0, time.Second} {
		stats, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{
			GroupBy: []audit.Field{"metadata.a", audit.FieldResourceID}, Top: 58, Distinct: true, Interval: interval,
		})
		if err != nil {
			t.Fatal(err)
		}
		if stats.Total != users+resources {
			t.Errorf("interval %v: total is %d, want %d", interval, stats.Total, users+resources)
		}
		if stats.DistinctUsers != users {
			t.Errorf("interval %v: counted %d distinct users, want %d", interval, stats.DistinctUsers, users)
		}
		if interval > 0 && len(stats.Histogram) != users {
			t.Errorf("the histogram has %d buckets, want %d", len(stats.Histogram), users)
		}
		counts := map[string]int64{}
		for i := range users {
			counts["\n"+entries[i].ResourceID]++
		}
		if diff := gocmp.Diff(ranking(counts, 58), stats.Groups); diff != "" {
			t.Errorf("interval %v: groups differ (-want +got):\n%s", interval, diff)
		}
	}
}

// TestPhrasesWithAPrefix: a phrase that ends with a prefix finds all entries or is refused.
func TestPhrasesWithAPrefix(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	entries := newEntries(acme, 3000)
	for i := range entries {
		entries[i].Message = fmt.Sprintf("order n%04d", i)
	}
	put(t, x, acme, entries...)
	for prefix, want := range map[string]int64{"n00": 100, "n0": 1000, "n": 3000} {
		filter := audit.Filter{Where: audit.Text{Words: []string{"order", prefix}, Prefix: true}}
		stats, err := x.Stats(t.Context(), acme, filter, audit.StatsRequest{})
		var invalid *audit.ValidationError
		switch {
		case want > 1024 && errors.As(err, &invalid) && invalid.Fields[0].Pointer == "?q":
		case err != nil:
			t.Errorf("order-%s*: %v", prefix, err)
		case stats.Total != want:
			t.Errorf("order-%s* finds %d entries, want %d", prefix, stats.Total, want)
		}
	}
	alone := audit.Filter{Where: audit.Text{Words: []string{"n"}, Prefix: true}}
	stats, err := x.Stats(t.Context(), acme, alone, audit.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Total != 3000 {
		t.Errorf("n* finds %d entries, want 3000", stats.Total)
	}
}

func TestIDs(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	entries := newEntries(acme, 250)
	put(t, x, acme, entries...)
	var want []audit.EntryID
	for _, e := range entries[10:200] {
		want = append(want, e.ID)
	}
	var got []audit.EntryID
	var after audit.EntryID
	for {
		ids, err := x.IDs(t.Context(), acme, entries[10].Timestamp, entries[200].Timestamp, after, 60)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			break
		}
		got, after = append(got, ids...), ids[len(ids)-1]
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %d ids, want the %d of the range in rising order", len(got), len(want))
	}
	ids, err := x.IDs(t.Context(), "unknown", begin, begin.Add(time.Hour), audit.EntryID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) > 0 {
		t.Errorf("an unknown tenant has %d ids, want none", len(ids))
	}
}
