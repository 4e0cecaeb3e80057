package sqlite_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestALongPrefixReadsFewEntries: it reads one entry for each value that agrees in 64 bytes, once, and only
// within from and to.
func TestALongPrefixReadsFewEntries(t *testing.T) {
	t.Parallel()
	db, beginning := open(t), strings.Repeat("x", 100)
	entries := newCorpus().entries("acme", 300)
	for i := range entries {
		entries[i].SessionID = fmt.Sprint(beginning, i%100)
		entries[i].ResourceID = fmt.Sprint(beginning, i)
	}
	storeIndexed(t, db, "acme", entries)
	index := db.Index()
	index.LimitScans(1, 0)
	index.LimitLongValues(100)
	where := func(field audit.Field, end string) audit.Expr {
		return audit.Prefix{Field: field, Value: beginning + end}
	}
	for _, test := range []struct {
		name   string
		filter audit.Filter
		want   int // -1: refused
	}{
		{"100 values", audit.Filter{Where: where(audit.FieldSessionID, "1")}, 33},
		{"300 values", audit.Filter{Where: where(audit.FieldResourceID, "1")}, -1},
		{"100 values of 300", audit.Filter{Where: where(audit.FieldResourceID, "1"), From: entries[100].Timestamp, To: entries[200].Timestamp}, 100},
		{"the others", audit.Filter{Where: where(audit.FieldResourceID, "2"), From: entries[200].Timestamp}, 100},
		{"all of them later", audit.Filter{Where: where(audit.FieldResourceID, "1")}, 111},
	} {
		page, err := index.Find(t.Context(), "acme", test.filter, audit.PageRequest{Limit: 1000})
		stats, statsErr := index.Stats(t.Context(), "acme", test.filter, audit.StatsRequest{})
		if test.want < 0 {
			var invalid *audit.ValidationError
			if !errors.As(err, &invalid) || !errors.As(statsErr, &invalid) {
				t.Errorf("%s: got %v and %v, want a refusal", test.name, err, statsErr)
			}
			continue
		}
		if err != nil || len(page.Entries) != test.want {
			t.Errorf("%s: found %d entries (%v), want %d", test.name, len(page.Entries), err, test.want)
		}
		if statsErr != nil || stats.Total != int64(test.want) {
			t.Errorf("%s: counted %d entries (%v), want %d", test.name, stats.Total, statsErr, test.want)
		}
	}
}

// TestALongPrefixDecidesOnceInAllSegments: the values are too many for the cache, and several segments have each of
// them. Their tokens are decided about once for each prefix.
func TestALongPrefixDecidesOnceInAllSegments(t *testing.T) {
	t.Parallel()
	const values, segments = 100, 4
	db, beginning := open(t), strings.Repeat("x", 100)
	db.LimitValueCache(4 << 10)
	corpus := newCorpus()
	for range segments {
		entries := corpus.entries("acme", values)
		for i := range entries {
			entries[i].SessionID = fmt.Sprint(beginning, i)
		}
		storeIndexed(t, db, "acme", entries)
	}
	index := db.Index()
	index.LimitScans(1, 0)
	prefix := func(end string) audit.Expr {
		return audit.Prefix{Field: audit.FieldSessionID, Value: beginning + end}
	}
	for name, test := range map[string]struct {
		where       audit.Expr
		reads, want int
	}{
		"one prefix":   {prefix("1"), values, 11 * segments},
		"two prefixes": {audit.Or{prefix("1"), prefix("2")}, 2 * values, 22 * segments},
	} {
		index.LimitLongValues(test.reads)
		filter := audit.Filter{Where: test.where}
		page, err := index.Find(t.Context(), "acme", filter, audit.PageRequest{Limit: 1000})
		if err != nil || len(page.Entries) != test.want {
			t.Errorf("%s: found %d entries (%v), want %d", name, len(page.Entries), err, test.want)
		}
		stats, err := index.Stats(t.Context(), "acme", filter, audit.StatsRequest{})
		if err != nil || stats.Total != int64(test.want) {
			t.Errorf("%s: counted %d entries (%v), want %d", name, stats.Total, err, test.want)
		}
	}
}
