package sqlite

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// BenchmarkTokenize builds the full-text body of an entry, as every entry has one when it is
// indexed.
func BenchmarkTokenize(b *testing.B) {
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	entry := audit.Entry{
		UserID: "ann.lee@example.com", SessionID: "0123456789abcdef0123", RequestID: "01a222ea-6f18-758c-81d0-6b0001b7b66e", Action: "order.ship",
		ResourceType: "order", ResourceID: "order-12345", IPAddress: netip.MustParseAddr("203.0.113.9"), SubmittedBy: "key:abcdef", Timestamp: at, ReceivedAt: at,
		Message: "Order 4711 was paid by card and confirmed by mail to the customer", Changed: []string{"status", "total"},
		Metadata: audit.Object(`{"region":"eu-central-1","latency_ms":123,"trace":"0123456789abcdef","http":{"status":200,"path":"/orders/4711"}}`),
	}
	t := newTokenizer(17)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.tokenize(&entry); err != nil {
			b.Fatal(err)
		}
	}
}
