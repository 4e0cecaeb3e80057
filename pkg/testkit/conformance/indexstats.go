package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

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
