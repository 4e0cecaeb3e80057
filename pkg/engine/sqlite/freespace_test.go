package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
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
	eraseSpace(t, db)
	eraseSpace(t, db) // nothing is left to erase
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

// beginLap does the first steps of erasing what is left of acme, whose records are removed.
func beginLap(t *testing.T, db *sqlite.DB) (removal int64) {
	t.Helper()
	purgeStore(t, "entries", db.Entries(), "acme", 300)
	purgeStore(t, "index", db.Index(), "acme", 300)
	removal = pending(t, db)
	for range 3 { // the first waits until the removals are over
		if eraseStep(t, db, removal) {
			t.Fatal("the lap has ended, want that it has begun")
		}
	}
	return removal
}

// TestErasingEndsWhileOthersRemove: another tenant's entries are indexed and removed all the time. What was removed
// before is erased all the same, and the rest stays pending.
func TestErasingEndsWhileOthersRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	fillMixed(t, db, 2000)
	removal := beginLap(t, db)
	stop, failed := make(chan struct{}), make(chan error, 1)
	corpus := newCorpus()
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			entries := corpus.entries("other", 5)
			_, err := db.Entries().Append(context.Background(), "other", entries)
			if err == nil {
				_, err = search.PutEntries(context.Background(), db.Index(), "other", entries)
			}
			if err == nil {
				err = db.Index().Remove(context.Background(), "other", audit.IDsOf(entries[:3]))
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	for deadline := time.Now().Add(time.Minute); !eraseStep(t, db, removal); {
		if time.Now().After(deadline) {
			t.Error("what was removed before is not erased within a minute")
			break
		}
	}
	later := pending(t, db)
	close(stop)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if later <= removal {
		t.Errorf("pending up to removal %d, want one after %d", later, removal)
	}
	wantErased(t, path)
	eraseSpace(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
}

// TestErasingBeginsAgainAfterARestart: nobody knows where the lap was. The number of the removal stays.
func TestErasingBeginsAgainAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	fillMixed(t, db, 1000)
	removal := beginLap(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path)
	if got := pending(t, db); got != removal {
		t.Errorf("pending up to removal %d, want %d", got, removal)
	}
	for !eraseStep(t, db, removal) {
		continue
	}
	wantErased(t, path)
	if got := pending(t, db); got != 0 {
		t.Errorf("pending up to removal %d, want nothing", got)
	}
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
	eraseSpace(t, db)
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
	for i := range 3 {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := db.Snapshot(context.Background(), audit.TenantID(fmt.Sprint(i)), each); err != nil {
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
