package audit_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestIDSequenceKeepsTheOrderOfARequest(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 123_000_000, time.UTC)
	starts := map[string][4]byte{
		"lowest": {}, "highest": {0xff, 0xff, 0xff, 0xff}, "last start": {0x00, 0x3f, 0xfc, 0x17}, "start after it": {0x00, 0x3f, 0xfc, 0x18},
		"carries over every part": {0x00, 0x0f, 0xfd, 0xf0},
	}
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			ids := audit.NewIDSequence(start)
			var last audit.EntryID
			for i := range audit.MaxBulkEntries {
				random := [10]byte(bytes.Repeat([]byte{byte(255 - i)}, 10)) // falls, where the order must rise
				id := ids.NewEntryID(at, random)
				if bytes.Compare(last[:], id[:]) >= 0 {
					t.Fatalf("id %d: got %s after %s, want a greater one", i, id, last)
				}
				if parsed, err := audit.ParseEntryID(id.String()); err != nil || parsed != id {
					t.Fatalf("id %d: got %s and error %v when parsed, want %s", i, parsed, err, id)
				}
				if !id.Time().Equal(at) {
					t.Fatalf("id %d: got time %v, want %v", i, id.Time(), at)
				}
				if got, want := id[9]&0x0f, random[3]&0x0f; got != want {
					t.Fatalf("id %d: got low bits %x of byte 9, want the random ones %x", i, got, want)
				}
				if got := id[10:]; !bytes.Equal(got, random[4:]) {
					t.Fatalf("id %d: got last bytes %x, want the random ones %x", i, got, random[4:])
				}
				last = id
			}
		})
	}
}

func TestIDSequenceStartsAtRandom(t *testing.T) {
	at := time.UnixMilli(1)
	one, other := audit.NewIDSequence([4]byte{1}), audit.NewIDSequence([4]byte{2})
	if a, b := one.NewEntryID(at, [10]byte{}), other.NewEntryID(at, [10]byte{}); a == b {
		t.Errorf("got %s from two starts, want different ids", a)
	}
}
