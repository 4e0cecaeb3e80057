package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestAPurgePacksFirst: documents that are to be packed at the end of a group are purged by an operation of the
// same group. The block would keep them, and nothing would know of it.
func TestAPurgePacksFirst(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	number, err := db.ensureNumber(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	entries := make([]audit.Entry, 1000)
	for i := range entries {
		at := time.UnixMilli(int64(1_800_000_000_000 + i))
		entries[i] = audit.Entry{ID: audit.NewEntryID(at, [10]byte{}), Tenant: "acme", UserID: "ann", Timestamp: at, ReceivedAt: at, Message: "a message of the tenant"}
	}
	indexed, _ := newIndexRows(number, entries)
	batchTerms(pointersTo(indexed))
	packs := false
	err = db.write(t.Context(), func(b *batch) error {
		for i := range entries {
			row := newEntryRow(number, i, &entries[i])
			if _, err := b.insertEntryAt(&row, 0); err != nil {
				return err
			}
			indexed[i].key = row.key
			if err := b.insertIndexRows(number, []*indexRow{&indexed[i]}); err != nil {
				return err
			}
		}
		packs = len(b.packs) > 0
		_, err := b.purgeEntries(number, len(entries))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !packs {
		t.Fatal("there was nothing to pack")
	}
	for _, table := range []string{"entries", "recent_docs", "doc_blocks"} {
		var n int64
		err := db.snapshot(t.Context(), func(c *conn) error {
			return c.eachUnprepared(t.Context(), `SELECT count(*) FROM `+table, nil, []any{&n}, func() (bool, error) { return true, nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		if n != 0 {
			t.Errorf("%s has %d rows after the purge, want 0", table, n)
		}
	}
}
