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
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// months makes entries that lie in many indexes and whose values are skewed.
func months(n int) (entries []audit.Entry, regions []string) {
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
	entries, _ := months(500)
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
				t.Errorf("order %v, backwards %v: %d entries, not in the order of time and id", order, backwards, len(found))
			}
		}
	}
}

// Groups are right also where the shards do not name all of their values; where
// that cannot be had, they are refused.
func TestGroupsAreExactBeyondTheLimits(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	entries, regions := months(600)
	put(t, x, acme, entries...)
	value := map[audit.Field]func(i int) string{
		audit.FieldUserID:     func(i int) string { return entries[i].UserID },
		audit.FieldResourceID: func(i int) string { return entries[i].ResourceID },
		"metadata.region":     func(i int) string { return regions[i] },
		"metadata.none":       func(int) string { return "" },
	}
	fields := []audit.Field{audit.FieldUserID, audit.FieldResourceID, "metadata.region", "metadata.none"}
	var refusals int
	for _, few := range []bool{false, true} {
		if few {
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
					if few && len(by) == 2 && errors.As(err, &invalid) && invalid.Fields[0].Pointer == "?group_by" {
						refusals++
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if diff := gocmp.Diff(want, stats.Groups, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("few %v: %d groups of %v: %s", few, top, by, diff)
					}
				}
			}
		}
	}
	if refusals == 0 {
		t.Error("nothing was refused: the limits were not met")
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
		t.Errorf("%d distinct users, want 10,000 exactly", n)
	}
	put(t, x, acme, entries[10_000:]...)
	if n := distinct(); n < 11_800 || n > 12_200 {
		t.Errorf("%d distinct users, want 12,000 within a percent or two", n)
	}
}

// Everything that is counted in one search has to fit into OpenSearch's limit
// of buckets together.
func TestGroupsLeaveRoomForWhatIsCountedBeside(t *testing.T) {
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
		if err != nil || stats.Total != users+resources || stats.DistinctUsers != users {
			t.Fatalf("interval %v: %d entries, %d users, %v", interval, stats.Total, stats.DistinctUsers, err)
		}
		if interval > 0 && len(stats.Histogram) != users {
			t.Errorf("%d buckets, want %d", len(stats.Histogram), users)
		}
		counts := map[string]int64{}
		for i := range users {
			counts["\n"+entries[i].ResourceID]++
		}
		if diff := gocmp.Diff(ranking(counts, 58), stats.Groups); diff != "" {
			t.Errorf("interval %v: %s", interval, diff)
		}
	}
}

// What has expired leaves the system of record by itself, but not the index.
func TestExpiredEntriesAreNotFound(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh, func(c *opensearchindex.Config) {
		c.Now = func() time.Time { return begin.Add(time.Hour) }
	})
	entries := newEntries(acme, 4)
	for i, expires := range []time.Time{{}, begin.Add(time.Hour - time.Minute), begin.Add(time.Hour), begin.Add(time.Hour + time.Minute)} {
		entries[i].ExpiresAt, entries[i].ResourceID = expires, fmt.Sprint(i)
	}
	put(t, x, acme, entries...)
	request := audit.StatsRequest{GroupBy: []audit.Field{audit.FieldResourceID}, Top: 10, Interval: time.Hour}
	not := audit.Not{Expr: audit.Equals{Field: audit.FieldUserID, Values: []string{"nobody"}}}
	for _, where := range []audit.Expr{nil, not} {
		var found []string
		for _, e := range find(t, x, where) {
			found = append(found, e.ResourceID)
		}
		if !slices.Equal(found, []string{"0", "2", "3"}) {
			t.Errorf("the entries %v are found, want all but 1", found)
		}
		stats, err := x.Stats(t.Context(), acme, audit.Filter{Where: where}, request)
		if err != nil || stats.Total != 3 || len(stats.Groups) != 3 || stats.Histogram[0].Count != 3 {
			t.Errorf("counted %+v, %v, want 3", stats, err)
		}
	}
	// The reconciler compares what is there.
	if ids, err := x.IDs(t.Context(), acme, begin, begin.Add(time.Hour), audit.EntryID{}, 10); err != nil || len(ids) != 4 {
		t.Errorf("%d ids, %v, want 4", len(ids), err)
	}
}

// A prefix within a phrase finds everything, or is refused: never a part.
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
		case err != nil || stats.Total != want:
			t.Errorf("order-%s* finds %d entries, want %d: %v", prefix, stats.Total, want, err)
		}
	}
	alone := audit.Filter{Where: audit.Text{Words: []string{"n"}, Prefix: true}}
	if stats, err := x.Stats(t.Context(), acme, alone, audit.StatsRequest{}); err != nil || stats.Total != 3000 {
		t.Errorf("n* finds %d entries, want 3000: %v", stats.Total, err)
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
		t.Errorf("%d ids, want %d in rising order", len(got), len(want))
	}
	if ids, err := x.IDs(t.Context(), "unknown", begin, begin.Add(time.Hour), audit.EntryID{}, 10); err != nil || len(ids) > 0 {
		t.Errorf("an unknown tenant has %d ids: %v", len(ids), err)
	}
}
