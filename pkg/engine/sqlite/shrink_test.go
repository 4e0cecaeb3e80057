package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// shrunk are the entries of these tests. Their file has several pages that map pages.
const shrunk = 20_000

// fillShrunk stores entries of a tenant that is kept, and entries of one that goes.
func fillShrunk(t *testing.T, db *sqlite.DB, corpus *corpus) (going []audit.EntryID) {
	t.Helper()
	for range shrunk / 1000 {
		storeIndexed(t, db, "kept", corpus.entries("kept", 50))
		entries := corpus.entries("acme", 1000)
		storeIndexed(t, db, "acme", entries)
		for i := range entries {
			going = append(going, entries[i].ID)
		}
	}
	return going
}

// usedBytes merges what can be merged, gives back what that leaves free, and closes the file. It returns the size of the
// pages that are in use.
func usedBytes(t *testing.T, db *sqlite.DB, path string) int64 {
	t.Helper()
	if err := db.MergeAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	eraseSpace(t, db)
	closeDB(t, db)
	return (selectInt(t, path, `PRAGMA page_count`) - selectInt(t, path, `PRAGMA freelist_count`)) * selectInt(t, path, `PRAGMA page_size`)
}

// removeAll removes the entries as retention does.
func removeAll(t *testing.T, db *sqlite.DB, ids []audit.EntryID) {
	t.Helper()
	removed := 0
	for len(ids) > 0 {
		part := ids[:min(len(ids), retention.MaxEntries)]
		if err := db.Entries().Mark(t.Context(), "acme", part, 0); err != nil {
			t.Fatal(err)
		}
		if err := db.Index().Remove(t.Context(), "acme", part); err != nil {
			t.Fatal(err)
		}
		n, err := db.Entries().RemoveDue(t.Context(), "acme", part)
		if err != nil {
			t.Fatal(err)
		}
		removed, ids = removed+n, ids[len(part):]
	}
	t.Logf("removed %d entries", removed)
}

func fileBytes(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func closeDB(t *testing.T, db *sqlite.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantCount wants that the index and the store have so many entries of a tenant.
func wantCount(t *testing.T, db *sqlite.DB, tenant audit.TenantID, want int64) {
	t.Helper()
	for name, counter := range map[string]interface {
		Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error)
	}{"store": db.Entries(), "index": db.Index()} {
		got, err := counter.Count(t.Context(), tenant, time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("the %s has %d entries of %s, want %d", name, got, tenant, want)
		}
	}
}

// TestSpaceIsGivenBack: the file is smaller after a removal, whole, and as large as before once as
// many entries have come again.
func TestSpaceIsGivenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db, corpus := openAt(t, path), newCorpus()
	going := fillShrunk(t, db, corpus)
	used := usedBytes(t, db, path)
	full := fileBytes(t, path)

	db = openAt(t, path)
	removeAll(t, db, going)
	wantCount(t, db, "acme", 0)
	eraseSpace(t, db)
	wantCount(t, db, "kept", shrunk/20)
	closeDB(t, db)
	emptied := fileBytes(t, path)
	if emptied > full/4 {
		t.Errorf("the file has %d bytes after the removal, want at most a quarter of %d", emptied, full)
	}
	checkFile(t, path)

	db = openAt(t, path)
	fillShrunk(t, db, corpus)
	wantCount(t, db, "acme", shrunk)
	if got := usedBytes(t, db, path); got > used*11/10 {
		t.Errorf("%d bytes are used after as many new entries, want about %d", got, used)
	}
	const reserve = 1 << 20 // bytes that a file of this size keeps free
	again := fileBytes(t, path)
	if again > used*11/10+reserve {
		t.Errorf("the file has %d bytes after as many new entries, want about %d", again, full)
	}
	checkFile(t, path)
	t.Logf("%d bytes, %d after the removal, %d after as many new entries", full, emptied, again)
}

// TestNewFilesHaveTheirLayout: the driver runs pragmas in an order of its own, and one that comes too late
// changes nothing.
func TestNewFilesHaveTheirLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	closeDB(t, openAt(t, path))
	for pragma, want := range map[string]int64{"page_size": 8192, "auto_vacuum": 2, "application_id": 0x4f434c54} {
		if got := selectInt(t, path, "PRAGMA "+pragma); got != want {
			t.Errorf("%s of a new file is %d, want %d", pragma, got, want)
		}
	}
	var mode string
	db, err := sql.Open("sqlite", path)
	if err == nil {
		err = errors.Join(db.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode), db.Close())
	}
	if err != nil || mode != "wal" {
		t.Errorf("the journal mode of a new file is %q (%v), want wal", mode, err)
	}
}

// TestFilesOfOlderReleasesAreScrubbed: such a file has no pointer maps. It keeps its size, and what was
// removed is erased.
func TestFilesOfOlderReleasesAreScrubbed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	going := fillShrunk(t, db, newCorpus())
	closeDB(t, db)
	execSQL(t, path, `PRAGMA auto_vacuum = 0; VACUUM`)
	full := fileBytes(t, path)
	db = openAt(t, path)
	wantCount(t, db, "acme", shrunk)
	removeAll(t, db, going)
	eraseSpace(t, db)
	wantCount(t, db, "kept", shrunk/20)
	closeDB(t, db)
	if got := selectInt(t, path, `PRAGMA auto_vacuum`); got != 0 {
		t.Errorf("auto_vacuum of the older file is %d, want 0", got)
	}
	if got := fileBytes(t, path); got < full {
		t.Errorf("the file has %d bytes after the removal, want at least %d", got, full)
	}
	checkFile(t, path)
}

// TestRemovalsLeaveFewBlocks: blocks that a removal has divided are joined again.
func TestRemovalsLeaveFewBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	going := fillShrunk(t, db, newCorpus())
	var scattered []audit.EntryID
	for i := 0; i < len(going); i += 7 {
		scattered = append(scattered, going[i])
	}
	removeAll(t, db, scattered)
	left := int64(len(going) - len(scattered))
	wantCount(t, db, "acme", left)
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldUserID}, Top: 1, Distinct: true})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Total != left {
		t.Errorf("counted %d entries, want %d", stats.Total, left)
	}
	closeDB(t, db)
	got := selectInt(t, path, `SELECT count(*) FROM facet_blocks WHERE tenant = (SELECT number FROM tenant_numbers WHERE id = 'acme')`)
	if want := left/1000 + 2; got > want {
		t.Errorf("%d entries are in %d blocks, want at most %d", left, got, want)
	}
}

// selectInt returns the number that a query of the closed file selects.
func selectInt(t *testing.T, path, query string) (n int64) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.QueryRow(query).Scan(&n), db.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}
