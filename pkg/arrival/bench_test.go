package arrival_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// BenchmarkOrder measures the places that one orderer gives in one tenant's log on the embedded
// engine, in batches of 100 messages.
func BenchmarkOrder(b *testing.B) {
	for _, perMessage := range []int{1, 100} {
		b.Run(fmt.Sprintf("entries=%d", perMessage), func(b *testing.B) {
			db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "ocelot.db"))
			if err != nil {
				b.Fatal(err)
			}
			tenants := directory{"acme": {ID: "acme", Status: audit.TenantActive, Settings: audit.DefaultSettings()}}
			o := &arrival.Orderer{Log: db.Arrivals(), Tenants: tenants, Now: time.Now}
			const messages = 100
			places, handled := 0, 0
			for b.Loop() {
				handled += messages
				b.StopTimer()
				var arrivals []envelope.Arrival
				for range messages {
					a := envelope.Arrival{Message: messageID(places)}
					for range perMessage {
						places++
						a.IDs = append(a.IDs, audit.DeriveEntryID("acme", start, fmt.Sprint(places)))
					}
					arrivals = append(arrivals, a)
				}
				bodies, err := envelope.PackArrivals("acme", arrivals)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				for _, err := range o.Order(b.Context(), bodies) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(handled)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(places)/b.Elapsed().Seconds(), "places/s")
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
