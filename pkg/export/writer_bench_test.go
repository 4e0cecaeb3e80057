package export_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// BenchmarkWriter writes entries of about a KB.
func BenchmarkWriter(b *testing.B) {
	entries := make([]audit.Entry, 100)
	for i := range entries {
		entries[i] = entry(func(e *audit.Entry) {
			e.ID, e.Timestamp = audit.NewEntryID(at, [10]byte{byte(i)}), at.Add(time.Duration(i)*time.Millisecond)
			e.UserID, e.ResourceID, e.Severity = fmt.Sprintf("user-%d", i), fmt.Sprintf("order-%d", i*7), audit.SeverityInfo
			e.IPAddress, e.UserAgent, e.SessionID = netip.MustParseAddr("203.0.113.7"), "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101", "0123456789abcdef"
			e.Message = "The order was changed, as the customer had asked \"at once\" on the telephone"
			e.Before = audit.Object(`{"status":"open","amount":{"value":"12.50","currency":"EUR"},"items":[{"sku":"a-1","count":2}]}`)
			e.After = audit.Object(`{"status":"paid","amount":{"value":"13.50","currency":"EUR"},"items":[{"sku":"a-1","count":3}]}`)
			e.Metadata = audit.Object(`{"region":"eu-west-1","version":"2026.11.3","tags":["web","retry"],"duration_ms":183}`)
		})
	}
	for _, format := range []string{"ndjson", "csv", "parquet"} {
		b.Run(format, func(b *testing.B) {
			w := writer(b, "format="+format)
			var frame []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				err := w.Add(&entries[i%len(entries)])
				if err == nil && w.Size() >= 1<<20 {
					frame, err = w.Flush(frame[:0])
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
