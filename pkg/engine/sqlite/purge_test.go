package sqlite_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// marker stands in every record of the tenant that is purged.
const marker = "zqxmarker"

// markedEntries are entries with the marker in their words, fields, metadata and states.
// Some have several pages.
func markedEntries(tenant audit.TenantID, n int, mark string) []audit.Entry {
	entries := make([]audit.Entry, n)
	for i := range entries {
		at := time.Date(2026, 1, 2, 3, 4, 5, i*int(time.Millisecond), time.UTC)
		entries[i] = audit.Entry{
			ID: audit.NewEntryID(at, [10]byte{9: byte(i)}), Tenant: tenant, UserID: mark + "user", Action: "CREATE", ResourceType: "order",
			Timestamp: at, ReceivedAt: at, Message: fmt.Sprintf("%sword%d of a message", mark, i),
			Metadata: audit.Object(`{"note":"` + strings.Repeat(mark+" ", 1+i%7*2000) + `"}`),
		}
	}
	return entries
}

func fillMarked(t *testing.T, db *sqlite.DB, tenant audit.TenantID, mark string) {
	t.Helper()
	for part := range 20 {
		entries := markedEntries(tenant, 50, fmt.Sprintf("%s%d", mark, part))
		for i := range entries {
			entries[i].ID[15] = byte(part)
		}
		storeIndexed(t, db, tenant, entries)
		item := quarantine.Item{ID: fmt.Sprint(part), Step: audit.StepIndex, Code: "test", Reason: mark + " reason", QuarantinedAt: entries[1].ReceivedAt, Entry: entries[1]}
		if err := db.Quarantine().Put(t.Context(), tenant, []quarantine.Item{item}); err != nil {
			t.Fatal(err)
		}
	}
}

func purgeAll(t *testing.T, db *sqlite.DB, tenant audit.TenantID) {
	t.Helper()
	for name, store := range map[string]jobs.Purger{
		"entries": db.Entries(), "index": db.Index(), "quarantine": db.Quarantine(), "keys": db.Keys(),
		"arrival": db.Arrivals(), "stream": db.Streams(), "connections": db.Connections(),
	} {
		purgeStore(t, name, store, tenant, 300)
	}
	eraseSpace(t, db)
}

// purgeStore purges one store. One call removes most records at most.
func purgeStore(t *testing.T, name string, store jobs.Purger, tenant audit.TenantID, most int) {
	t.Helper()
	for n := 1; n > 0; {
		var err error
		if n, err = store.Purge(t.Context(), tenant, most); err != nil {
			t.Fatalf("purge %s: %v", name, err)
		}
		if n > most {
			t.Errorf("one purge of %s removed %d records, want at most %d", name, n, most)
		}
	}
}

// eraseSpace erases what is left of everything that was removed.
func eraseSpace(t *testing.T, db *sqlite.DB) {
	t.Helper()
	removal := pending(t, db)
	for !eraseStep(t, db, removal) {
		continue
	}
	if removal = pending(t, db); removal != 0 {
		t.Errorf("something is left to erase up to removal %d, want nothing", removal)
	}
}

func pending(t *testing.T, db *sqlite.DB) (removal int64) {
	t.Helper()
	removal, err := db.FreeSpace().Pending(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return removal
}

func eraseStep(t *testing.T, db *sqlite.DB, removal int64) (done bool) {
	t.Helper()
	done, err := db.FreeSpace().Erase(t.Context(), removal)
	if err != nil {
		t.Fatalf("erase the free space: %v", err)
	}
	return done
}

// countInFiles returns how often the text stands in the file and its log, or in what a
// compressed block there begins with.
func countInFiles(t *testing.T, path, text string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	paths, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(paths) // the log before the file: a checkpoint moves content from the log to the file
	for _, p := range paths {
		content, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(content, []byte(text)) + countInFrames(t, content, text); n > 0 {
			counts[filepath.Base(p)] = n
		}
	}
	return counts
}

// countInFrames returns how often the text stands in zstd frames within the content. Frames that
// are cut or overwritten count as far as they can be read.
func countInFrames(t *testing.T, content []byte, text string) (n int) {
	t.Helper()
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	magic := []byte{0x28, 0xb5, 0x2f, 0xfd}
	for i := bytes.Index(content, magic); i >= 0; {
		content = content[i:]
		if err := reader.Reset(bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		unpacked, _ := io.ReadAll(io.LimitReader(reader, 1<<20)) // what follows the frame is none
		n += bytes.Count(unpacked, []byte(text))
		content = content[len(magic):]
		i = bytes.Index(content, magic)
	}
	return n
}

// wantErased wants that the marker soon stands nowhere in the files.
func wantErased(t *testing.T, path string) {
	t.Helper()
	var found map[string]int
	for range 100 { // the writer erases the log a moment later
		if found = countInFiles(t, path, marker); len(found) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%q stands in the files after the purge, so often: %v, want none", marker, found)
}

func TestWhatIsPurgedCannotBeReadFromTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	fillMarked(t, db, "acme", marker)
	fillMarked(t, db, "other", "kept")
	if found := countInFiles(t, path, marker); len(found) == 0 {
		t.Fatal("the marker is not in the files before the purge, want it there")
	}
	purgeAll(t, db, "acme")
	wantErased(t, path)
	page, err := db.Index().Find(t.Context(), "other", audit.Filter{Where: audit.Text{Words: []string{"kept7word9"}}}, audit.PageRequest{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(page.Entries); got != 1 {
		t.Errorf("found %d entries of the other tenant by a word, want 1", got)
	}
}

// TestWhatLeavesTheQuarantineCannotBeReadFromTheFile: items are deleted, or get another entry.
func TestWhatLeavesTheQuarantineCannotBeReadFromTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db := openAt(t, path)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var items []quarantine.Item
	for i := range 400 { // of several on a page
		e := audit.Entry{ID: audit.NewEntryID(at, [10]byte{byte(i), byte(i >> 8)}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Message: strings.Repeat(marker, 1+i%40)}
		items = append(items, quarantine.Item{ID: fmt.Sprintf("%03d", i*7%400), Step: audit.StepIndex, QuarantinedAt: at, Entry: e})
	}
	if err := db.Quarantine().Put(t.Context(), "acme", items); err != nil {
		t.Fatal(err)
	}
	eraseSpace(t, db)
	for i, item := range items {
		var err error
		if i%4 > 0 {
			err = db.Quarantine().Delete(t.Context(), "acme", item.ID)
		} else {
			other := item.Entry
			other.Message = strings.Repeat("m", i)
			err = db.Quarantine().Replace(t.Context(), "acme", item, other)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	eraseSpace(t, db)
	wantErased(t, path)
}

// TestAPurgeEndsWhileOthersWrite: another tenant's entries are indexed all the time. The
// merge ends, and nothing of the other is lost.
func TestAPurgeEndsWhileOthersWrite(t *testing.T) {
	if testing.Short() {
		t.Skip("60,000 entries take several seconds; run without -short")
	}
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	corpus := newCorpus()
	const before = 60_000 // enough for a merge of many steps
	for n := 0; n < before; n += 1000 {
		entries := corpus.entries("other", 1000)
		storeIndexed(t, db, "other", entries)
	}
	fillMarked(t, db, "acme", marker)
	stop, written := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		defer func() { written <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			entries := corpus.entries("other", 10)
			time.Sleep(10 * time.Millisecond)
			if _, err := db.Entries().Append(t.Context(), "other", entries); err != nil {
				t.Error(err)
				return
			}
			if _, err := search.PutEntries(t.Context(), db.Index(), "other", entries); err != nil {
				t.Error(err)
				return
			}
			n += len(entries)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for n := 1; n > 0; {
		var err error
		if n, err = db.Index().Purge(ctx, "acme", 300); err != nil {
			t.Fatalf("purge while another tenant writes: %v", err)
		}
	}
	if _, err := jobs.Scrub(ctx, db.FreeSpace(), new(int64), func() bool { return false }); err != nil {
		t.Fatalf("erase the free space while another tenant writes: %v", err)
	}
	close(stop)
	want := int64(before + <-written)
	got, err := db.Index().Count(t.Context(), "other", time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("the index has %d entries of the other tenant, want %d", got, want)
	}
}
