package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

// TestPlacesTakeLittleSpace: with messages of 100 entries, at most 40 bytes an entry, indexes
// included.
func TestPlacesTakeLittleSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	size := func(segments int64) int64 {
		t.Helper()
		db, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		const messages, perMessage = 40, 100
		for n := range segments {
			s := arrival.Segment{First: n*messages*perMessage + 1, WrittenAt: time.Now()}
			for m := range messages {
				s.Messages = append(s.Messages, audit.MessageID(audit.DeriveEntryID("acme", time.Now(), fmt.Sprint(n, m))))
				for i := range perMessage {
					s.IDs = append(s.IDs, audit.DeriveEntryID("acme", time.Now(), fmt.Sprint(n, m, i)))
				}
			}
			if err := db.Arrivals().Append(t.Context(), "acme", s); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	empty := size(0)
	const segments = 30
	got := float64(size(segments)-empty) / (segments * 40 * 100)
	if got > 40 {
		t.Errorf("a place takes %.1f bytes, want at most 40", got)
	}
	t.Logf("a place takes %.1f bytes", got)
}
