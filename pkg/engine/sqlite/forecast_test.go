package sqlite_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

// TestSlowCountsAreForeseen: a count that will take too long is refused after a small part of it.
// The clock goes on by a step each time that it is read.
func TestSlowCountsAreForeseen(t *testing.T) {
	const n, atOnce = 12_000, 1000
	var step, reads atomic.Int64
	at := time.Now()
	db := open(t, sqlite.WithTiming(func() time.Time { return at.Add(time.Duration(step.Load() * reads.Add(1))) }))
	entries := newCorpus().entries("acme", n)
	for i := range entries {
		entries[i].Message = "paid"
	}
	for len(entries) > 0 {
		storeIndexed(t, db, "acme", entries[:atOnce])
		entries = entries[atOnce:]
	}
	word := audit.Filter{Where: audit.Text{Words: []string{"paid"}}}
	for _, c := range []struct {
		name   string
		filter audit.Filter
		by     audit.Field
		step   time.Duration
		most   int64 // readings of the clock
	}{
		{"documents", audit.Filter{}, "metadata.a", 100 * time.Millisecond, 20},
		{"columns", audit.Filter{}, audit.FieldResourceID, 2 * time.Second, 8},
		{"words", word, audit.FieldUserID, 9 * time.Second, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := audit.StatsRequest{GroupBy: []audit.Field{c.by}, Top: 10}
			step.Store(0)
			if _, err := db.Index().Stats(t.Context(), "acme", c.filter, request); err != nil {
				t.Fatalf("got error %v of a fast count, want none", err)
			}
			step.Store(int64(c.step))
			reads.Store(0)
			_, err := db.Index().Stats(t.Context(), "acme", c.filter, request)
			var invalid *audit.ValidationError
			if !errors.As(err, &invalid) {
				t.Fatalf("got error %v, want an *audit.ValidationError", err)
			}
			if code := invalid.Fields[0].Code; code != "too_many_entries" {
				t.Errorf("got code %q, want too_many_entries", code)
			}
			if got := reads.Load(); got > c.most {
				t.Errorf("refused after %d readings of the clock, want at most %d", got, c.most)
			}
		})
	}
}
