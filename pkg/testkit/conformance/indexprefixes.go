package conformance

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// longRole begins values that agree in more than the 64 bytes that an index may keep of each.
const longRole = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/"

// longValues returns values that agree in at least their first 64 bytes, and some that nearly do. The 64th
// byte may be within a character.
func longValues() []string {
	var values []string
	for _, beginning := range []string{
		longRole, strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("a b ", 32),
		strings.Repeat("y", 63) + "é", strings.Repeat("y", 62) + "日本", strings.Repeat("y", 61) + "🐆",
	} {
		values = append(values, beginning)
		for _, end := range []string{"ann", "ann.smith", "bob", "é", "日本", " ", "🐆"} {
			values = append(values, beginning+end, beginning+strings.Repeat("-", 64)+end, beginning+strings.Repeat("=", 900)+end)
		}
	}
	return values
}

// prefixLengths are those of prefixes of them: around 64 and 128 bytes, and the longest.
var prefixLengths = []int{1, 61, 62, 63, 64, 65, 66, 67, 127, 128, 129, audit.MaxPrefix - 1, audit.MaxPrefix}

// indexFindsLongPrefixes: a prefix selects by the whole value, however much of it the index keeps.
func indexFindsLongPrefixes(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 44)
	values := longValues()
	fields := []audit.Field{audit.FieldUserID, audit.FieldResourceID, audit.FieldChanged, "metadata.role", "metadata.a.list"}
	var records []record
	for i, value := range values {
		r := g.plain(epoch.Add(time.Duration(i/2) * time.Second)) // two in each
		r.ResourceID, r.UserID = audit.Cut(value, audit.MaxResourceID), audit.Cut(pick(g, values...), audit.MaxUserID)
		r.Changed = []string{pick(g, values...), pick(g, values...)}
		list := []string{pick(g, values...), pick(g, values...), "short"}
		r.leaves["role"], r.leaves["a.list"] = []string{value}, list
		r.Metadata = must[[]byte](t)(json.Marshal(map[string]any{"role": value, "a": map[string]any{"list": list}}))
		records = append(records, r)
	}
	x.put(t, g.tenant, records)
	for round := range 8 * len(prefixLengths) {
		prefix := audit.Cut(pick(g, values...), prefixLengths[round%len(prefixLengths)])
		f := audit.Filter{Where: audit.Prefix{Field: pick(g, fields...), Value: prefix}}
		switch g.IntN(8) {
		case 0:
			f.Where = audit.Not{Expr: f.Where}
		case 1:
			f.Where = audit.Or{f.Where, audit.Equals{Field: audit.FieldAction, Values: []string{"CREATE"}}}
		case 2:
			f.Where = audit.And{f.Where, audit.Not{Expr: audit.Prefix{Field: pick(g, fields...), Value: longRole + "ann"}}}
		case 3:
			f.From, f.To = epoch.Add(time.Duration(g.IntN(40))*time.Second), epoch.Add(time.Duration(40+g.IntN(40))*time.Second)
		}
		request := audit.PageRequest{Order: pick(g, audit.NewestFirst, audit.OldestFirst), Limit: pick(g, 7, 50, 1000)}
		wantChosen(t, records, f, request.Order, x.walk(t, g.tenant, f, request, g.IntN(2) == 0))
		if round%4 > 0 {
			continue
		}
		count := audit.StatsRequest{GroupBy: []audit.Field{audit.FieldAction}, Top: 10, Interval: time.Minute}
		if got, want := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, f, count)), countAll(records, f, count); !sameStats(got, want) {
			t.Fatalf("stats of %+v: got %+v, want %+v", f, got, want)
		}
	}
	indexForgetsLongValues(t, x, values)
}

// indexForgetsLongValues removes the first of two entries with the same value.
func indexForgetsLongValues(t *testing.T, x IndexUnderTest, values []string) {
	t.Helper()
	g := newGenerator(newTenant(t), 45)
	var removed, left []record
	for i, value := range values {
		for j := range 2 {
			r := g.plain(epoch.Add(time.Duration(j*len(values)+i) * time.Second))
			r.ResourceID = audit.Cut(value, audit.MaxResourceID)
			if j == 0 {
				removed = append(removed, r)
			} else {
				left = append(left, r)
			}
		}
	}
	x.put(t, g.tenant, append(slices.Clone(removed), left...))
	noError(t, x.Index.Remove(t.Context(), g.tenant, audit.IDsOf(entriesOf(removed))))
	eventually(t, "forgetting what was removed", func() bool {
		return len(x.walk(t, g.tenant, audit.Filter{}, audit.PageRequest{Limit: 1000}, false)) == len(left)
	})
	for _, prefix := range []string{longRole + "ann", strings.Repeat("y", 63) + "é", strings.Repeat("a b ", 32) + "é", longRole + "carol"} {
		f := audit.Filter{Where: audit.Prefix{Field: audit.FieldResourceID, Value: prefix}}
		wantChosen(t, left, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
	}
}
