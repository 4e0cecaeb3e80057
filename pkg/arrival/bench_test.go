package arrival_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
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
			conformance.BenchmarkOrder(b, db.Arrivals(), perMessage)
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
