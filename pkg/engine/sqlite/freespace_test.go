package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// fillMixed stores entries of two tenants whose timestamps lie between each other, in a
// random order: so pages are split, and their rows move.
func fillMixed(t *testing.T, db *sqlite.DB, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		tenant, mark := audit.TenantID("acme"), marker
		if random.IntN(3) > 0 {
			tenant, mark = "other", "kept"
		}
		at := time.Date(2026, 1, 2, 0, 0, 0, random.IntN(1000)*int(time.Millisecond), time.UTC).Add(time.Duration(random.IntN(86_400)) * time.Second)
		var bits [10]byte
		binary.BigEndian.PutUint64(bits[:], random.Uint64())
		entry := audit.Entry{
			ID: audit.NewEntryID(at, bits), Tenant: tenant, UserID: mark + "user", Action: "CREATE", ResourceType: "order", Timestamp: at, ReceivedAt: at,
			Message: mark + " word", Metadata: audit.Object(`{"note":"` + strings.Repeat(mark+" ", 1+random.IntN(90)) + `"}`),
		}
		storeIndexed(t, db, tenant, []audit.Entry{entry})
	}
}

// checkFile has SQLite check the whole file, and checks the full-text index.
func checkFile(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := errors.Join(db.QueryRow(`PRAGMA integrity_check`).Scan(&got), db.Close()); err != nil {
		t.Fatal(err)
	}
	if got != "ok" {
		t.Errorf("the check of the file says %q, want ok", got)
	}
	checked, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(checked.CheckTerms(t.Context()), checked.Close()); err != nil {
		t.Error(err)
	}
}

func TestPurgeLeavesNoCopyOnSharedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	fillMixed(t, db, 3000)
	before, err := db.Index().Count(t.Context(), "other", time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for name, store := range map[string]interface {
		Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error)
	}{"entries": db.Entries(), "index": db.Index()} {
		purgeStore(t, name, store, "acme", 300)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if found := countInFiles(t, path, marker); len(found) == 0 {
		t.Fatal("the deleted entries left no copy, want one for the test to prove something")
	}
	db = openAt(t, path) // the erasure is still owed
	purgeStore(t, "free space", db.FreeSpace(), "acme", 1<<30)
	purgeStore(t, "free space", db.FreeSpace(), "acme", 0) // nothing is left to erase
	wantErased(t, path)
	after, err := db.Index().Count(t.Context(), "other", time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("the other tenant has %d entries, want %d", after, before)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
}

// TestScrubWhileOthersWrite: entries are stored, removed and scrubbed at the same time. The
// file stays whole and nothing of the other tenant is lost.
func TestScrubWhileOthersWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	fillMixed(t, db, 1000)
	want, err := db.Index().Count(t.Context(), "other", time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	corpus := newCorpus()
	for range 2 {
		entries := corpus.entries("other", 1500)
		want += int64(len(entries))
		writing.Go(func() {
			for i := range entries {
				if _, err := db.Entries().Append(context.Background(), "other", entries[i:i+1]); err != nil {
					t.Error(err)
				}
				if _, err := search.PutEntries(context.Background(), db.Index(), "other", entries[i:i+1]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	purgeStore(t, "entries", db.Entries(), "acme", 10)
	purgeStore(t, "index", db.Index(), "acme", 10)
	purgeStore(t, "free space", db.FreeSpace(), "acme", 1<<30)
	writing.Wait()
	got, err := db.Index().Count(t.Context(), "other", time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the other tenant has %d entries, want %d", got, want)
	}
	wantErased(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
}

// TestTheLogIsErasedWhileReadsOverlap: some read is under way at any time.
func TestTheLogIsErasedWhileReadsOverlap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	fillMarked(t, db, "acme", marker)
	readFreely(t, db, 120*time.Millisecond)
	purgeAll(t, db, "acme")
	wantErased(t, path)
}

// readFreely has three readers hold a snapshot each, again and again, until the test ends. So
// one is under way at any time, mostly.
func readFreely(t *testing.T, db *sqlite.DB, each time.Duration) {
	t.Helper()
	stop := make(chan struct{})
	var reading sync.WaitGroup
	for range 3 {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := db.Snapshot(context.Background(), each); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		reading.Wait()
	})
}
