package conformance

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Matcher asks whether entries by themselves are chosen as an index would choose them.
func Matcher(t *testing.T, matches func(e audit.Entry, f audit.Filter) bool) {
	g := newGenerator("t", 41)
	records := corpusOf(g, 300)
	chosen := 0
	for range 2000 {
		f := g.filter()
		for i := range records {
			want := records[i].chosen(f)
			if got := matches(records[i].Entry, f); got != want {
				t.Fatalf("filter %+v of entry %+v: %t, want %t", f, records[i].Entry, got, want)
			}
			if want {
				chosen++
			}
		}
	}
	if chosen == 0 {
		t.Fatal("no filter chose an entry, want at least one")
	}
}
