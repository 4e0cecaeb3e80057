package sqlite_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
)

// BenchmarkMergedTerms reads the newest 50 entries of filters for which the full-text index merges
// many lists. Each filter is named by the part of the entries that it matches.
func BenchmarkMergedTerms(b *testing.B) {
	const size = 300_000
	db := openAt(b, filepath.Join(b.TempDir(), "ocelot.db"))
	next := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for n := 0; n < size; {
		entries := make([]audit.Entry, 1000)
		for i := range entries {
			next, n = next.Add(time.Second), n+1
			entries[i] = audit.Entry{
				ID: audit.DeriveEntryID("acme", next, "1"), Tenant: "acme", Timestamp: next, ReceivedAt: next, Action: "VIEW",
				UserID: fmt.Sprintf("user-%d", n%997), SessionID: fmt.Sprintf("session-%d", n/20), ResourceType: "order",
				IPAddress: netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}),
				Metadata:  audit.Object(fmt.Sprintf(`{"latency_ms":%d,"trace":"%d"}`, n*7919%500, n)), Message: "order was viewed",
			}
		}
		storeIndexed(b, db, "acme", entries)
	}
	number := func(from string) audit.Expr {
		return audit.Number{Field: audit.MetadataField("latency_ms"), From: decimal.KeyOf(from)}
	}
	for name, where := range map[string]audit.Expr{
		"number, 80 %":       number("101"),
		"number, 10 %":       number("450"),
		"number, 1 %":        number("495"),
		"has, all":           audit.Has{Field: audit.FieldSessionID},
		"has metadata, all":  audit.Has{Field: audit.MetadataField("trace")},
		"network, all":       audit.Network{Prefix: netip.MustParsePrefix("10.0.0.0/16")},
		"network, 1 of 256":  audit.Network{Prefix: netip.MustParsePrefix("10.0.77.0/24")},
		"prefix, all":        audit.Prefix{Field: audit.FieldUserID, Value: "user-"},
		"word prefix, all":   audit.Text{Words: []string{"ord"}, Prefix: true},
		"not a word, none":   audit.Not{Expr: audit.Text{Words: []string{"order"}}},
		"received at, 1 day": audit.Received{From: next.Add(-24 * time.Hour)},
	} {
		b.Run(name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				page, err := db.Index().Find(b.Context(), "acme", audit.Filter{Where: where}, audit.PageRequest{Limit: 50})
				if err != nil {
					b.Fatal(err)
				}
				found = len(page.Entries)
			}
			b.ReportMetric(float64(found), "entries")
		})
	}
}
