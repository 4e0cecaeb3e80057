package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// BenchmarkCount counts by fields that no roll-up has. ns/entry is for one entry that is counted.
func BenchmarkCount(b *testing.B) {
	const size = 300_000
	db := openAt(b, filepath.Join(b.TempDir(), "ocelot.db"))
	random := rand.New(rand.NewPCG(5, 5))
	next := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for range size / 1000 {
		entries := make([]audit.Entry, 1000)
		for i := range entries {
			next = next.Add(time.Second)
			entries[i] = audit.Entry{
				ID: audit.DeriveEntryID("acme", next, "1"), Tenant: "acme", Timestamp: next, ReceivedAt: next, Action: "VIEW",
				SessionID: fmt.Sprintf("session-%d", random.Uint64()),
				UserID:    fmt.Sprintf("user-%d", random.IntN(1000)), ResourceType: "order", ResourceID: fmt.Sprintf("resource-%d", random.IntN(20_000)),
			}
		}
		storeIndexed(b, db, "acme", entries)
	}
	for name, request := range map[string]audit.StatsRequest{
		"user":            {GroupBy: []audit.Field{audit.FieldUserID}, Top: 10},
		"resource":        {GroupBy: []audit.Field{audit.FieldResourceID}, Top: 10},
		"user and action": {GroupBy: []audit.Field{audit.FieldUserID, audit.FieldAction}, Top: 10},
		"session":         {GroupBy: []audit.Field{audit.FieldSessionID}, Top: 10}, // more than fit into memory by value
		"user, resource":  {GroupBy: []audit.Field{audit.FieldUserID, audit.FieldResourceID}, Top: 10},
		"half hours":      {Interval: time.Hour / 2},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := db.Index().Stats(b.Context(), "acme", audit.Filter{}, request); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/entry")
		})
	}
}

// BenchmarkCountUnderRules counts by hour what retention rules show of 41 days with many different
// cells. ns/hour is for one hour.
func BenchmarkCountUnderRules(b *testing.B) {
	const hours, anHour = 1000, 240
	db := openAt(b, filepath.Join(b.TempDir(), "ocelot.db"))
	random := rand.New(rand.NewPCG(5, 5))
	next := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for range hours {
		entries := make([]audit.Entry, anHour)
		for i := range entries {
			next = next.Add(time.Hour / anHour)
			entries[i] = audit.Entry{
				ID: audit.DeriveEntryID("acme", next, "1"), Tenant: "acme", Timestamp: next, ReceivedAt: next,
				Action: fmt.Sprintf("action.%d", random.IntN(10)), Severity: audit.Severity(min(random.ExpFloat64(), 3)),
				UserID: "user", ResourceType: fmt.Sprintf("type-%d", random.IntN(10)), SubmittedBy: "key:bench",
			}
		}
		storeIndexed(b, db, "acme", entries)
	}
	critical := audit.SeverityCritical
	settings := audit.Settings{RetentionDays: 7, RetentionRules: []audit.RetentionRule{{Severity: &critical}}}
	visible := settings.Visible(audit.Filter{}, next.Add(time.Minute))
	for b.Loop() {
		if _, err := db.Index().Stats(b.Context(), "acme", visible, audit.StatsRequest{Interval: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/hours, "ns/hour")
}
