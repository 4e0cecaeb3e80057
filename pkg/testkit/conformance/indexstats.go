package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// indexCountsByTimeZone: buckets of a day and of an hour are those that the clock of a zone shows.
func indexCountsByTimeZone(t *testing.T, x IndexUnderTest) {
	for name, change := range map[string]string{
		"Europe/Berlin": "2026-10-25T01:00:00Z", "America/New_York": "2026-03-08T07:00:00Z", "Asia/Kolkata": "2026-03-08T18:30:00Z",
		"Australia/Lord_Howe": "2026-04-04T15:00:00Z", "Pacific/Apia": "2011-12-30T10:00:00Z", // its 30 December did not come
	} {
		zone := must[*time.Location](t)(time.LoadLocation(name))
		g := newGenerator(newTenant(t), 37)
		first := must[time.Time](t)(time.Parse(time.RFC3339, change)).Add(-48 * time.Hour)
		entries := make([]audit.Entry, 1200) // enough for roll-ups
		for i := range entries {
			entries[i] = g.plain(first.Add(time.Duration(i) * 5 * time.Minute)).Entry
			entries[i].Action, entries[i].Message = []string{"CREATE", "DELETE"}[i%2], []string{"paid", "open"}[i%2]
		}
		x.Put(t, g.tenant, entries)
		hour := "2006-01-02T15 Z07:00"
		if name == "Australia/Lord_Howe" {
			hour = "2006-01-02T15" // an hour with 90 minutes has two offsets
		}
		for _, f := range []audit.Filter{
			{}, {Where: audit.Text{Words: []string{"paid"}}}, {Where: audit.Equals{Field: audit.FieldAction, Values: []string{"CREATE"}}},
			{Where: audit.Equals{Field: audit.FieldUserID, Values: []string{"ann"}}},
		} {
			wantByClock(t, x, entries, f, audit.StatsRequest{Interval: 24 * time.Hour, Zone: zone}, clockForm(time.DateOnly))
			wantByClock(t, x, entries, f, audit.StatsRequest{Interval: 7 * 24 * time.Hour, Zone: zone}, isoWeek)
			wantByClock(t, x, entries, f, audit.StatsRequest{Interval: time.Hour, Zone: zone}, clockForm(hour))
		}
	}
}

// clockForm returns what a clock shows in a form.
func clockForm(form string) func(time.Time) string {
	return func(at time.Time) string { return at.Format(form) }
}

// isoWeek returns the week of ISO 8601, which begins on a Monday.
func isoWeek(at time.Time) string {
	year, week := at.ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, week)
}

// wantByClock counts the entries by what the clock or the calendar of the zone shows.
func wantByClock(t *testing.T, x IndexUnderTest, entries []audit.Entry, f audit.Filter, request audit.StatsRequest, shows func(time.Time) string) {
	t.Helper()
	var want []audit.Bucket
	for i := range entries {
		at, n := entries[i].Timestamp.In(request.Zone), len(want)
		switch r := (record{Entry: entries[i]}); {
		case n == 0 || shows(want[n-1].Start) != shows(at):
			if r.chosen(f) {
				want = append(want, audit.Bucket{Start: at, Count: 1})
			}
		case r.chosen(f):
			want[n-1].Count++
		}
	}
	stats := must[audit.Stats](t)(x.Index.Stats(t.Context(), entries[0].Tenant, f, request))
	got := slices.DeleteFunc(stats.Histogram, func(b audit.Bucket) bool { return b.Count == 0 })
	same := func(a, b audit.Bucket) bool {
		return shows(a.Start) == shows(b.Start) && a.Count == b.Count
	}
	if !slices.EqualFunc(got, want, same) {
		t.Fatalf("%s by %v, filter %+v:\n got %v\nwant %v", request.Zone, request.Interval, f, got, want)
	}
	for i := 1; i < len(stats.Histogram); i++ {
		if before, start := stats.Histogram[i-1].Start, stats.Histogram[i].Start; start.Sub(before) > request.Interval+time.Hour {
			t.Errorf("%s by %v: got %v after %v, want no gap", request.Zone, request.Interval, start, before)
		}
	}
}

// arrays returns metadata with an array of n different numbers at each of the paths.
func arrays(t *testing.T, sizes map[string]int) audit.Object {
	t.Helper()
	metadata := map[string][]int{}
	for path, n := range sizes {
		for i := range n {
			metadata[path] = append(metadata[path], i)
		}
	}
	return must[[]byte](t)(json.Marshal(metadata))
}

// indexRefusesManyPairs: two arrays of one entry are counted in pairs up to a bound.
func indexRefusesManyPairs(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 35)
	e := g.plain(epoch).Entry
	e.Metadata = arrays(t, map[string]int{"a": 10_000, "b": 10_000, "c": 100, "d": 100})
	e.Changed = make([]string, 10_000)
	for i := range e.Changed {
		e.Changed[i] = fmt.Sprintf("path.%05d", i)
	}
	x.Put(t, g.tenant, []audit.Entry{e, g.plain(epoch.Add(time.Second)).Entry})
	stats := func(by ...audit.Field) (audit.Stats, error) {
		return x.Index.Stats(t.Context(), g.tenant, audit.Filter{}, audit.StatsRequest{GroupBy: by, Top: 3})
	}
	for _, by := range [][]audit.Field{{"metadata.a", "metadata.b"}, {audit.FieldChanged, "metadata.b"}, {"metadata.a", audit.FieldChanged}} {
		_, err := stats(by...)
		wantInvalid(t, err, "?group_by")
	}
	for _, by := range [][]audit.Field{
		{"metadata.c", "metadata.d"}, {"metadata.a"}, {audit.FieldChanged}, {"metadata.c", audit.FieldUserID},
	} {
		got := must[audit.Stats](t)(stats(by...))
		if got.Total != 2 {
			t.Errorf("by %v: got a total of %d, want 2", by, got.Total)
		}
		if len(got.Groups) != 3 {
			t.Errorf("by %v: got %d groups, want 3", by, len(got.Groups))
		}
		for _, group := range got.Groups {
			if group.Count != 1 {
				t.Errorf("by %v: got count %d of %q, want 1", by, group.Count, group.Values)
			}
		}
	}
}

// indexShortensValues: values that are too long for an answer stay apart.
func indexShortensValues(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 36)
	long := strings.Repeat("é", 20_000)
	values := []string{long + "a", long + "b", long + "b", strings.Repeat("x", audit.MaxGroupValue), "short"}
	entries := make([]audit.Entry, len(values))
	for i, value := range values {
		entries[i] = g.plain(epoch.Add(time.Duration(i) * time.Second)).Entry
		entries[i].Metadata = must[[]byte](t)(json.Marshal(map[string]string{"v": value}))
		entries[i].Changed = []string{value}
	}
	x.Put(t, g.tenant, entries)
	short := func(value string) string { return audit.Shorten(value, audit.MaxGroupValue) }
	want := []audit.Group{
		{Values: []string{short(values[1])}, Count: 2}, {Values: []string{short(values[0])}, Count: 1},
		{Values: []string{values[3]}, Count: 1}, {Values: []string{"short"}, Count: 1},
	}
	audit.SortGroups(want)
	for _, field := range []audit.Field{"metadata.v", audit.FieldChanged} {
		got := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{field}, Top: 10}))
		same := func(a, b audit.Group) bool { return a.Count == b.Count && slices.Equal(a.Values, b.Values) }
		if !slices.EqualFunc(got.Groups, want, same) {
			t.Errorf("by %s:\n got %+v\nwant %+v", field, got.Groups, want)
		}
	}
}
