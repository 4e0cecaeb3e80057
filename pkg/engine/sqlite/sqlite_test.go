package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

func TestOpenTwiceFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	first := openAt(t, path)
	if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, sqlite.ErrInUse) {
		t.Fatalf("opening an open file: error = %v, want %v", err, sqlite.ErrInUse)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, path).Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// execSQL runs SQL on a closed file.
func execSQL(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesUnknownFiles(t *testing.T) {
	dir := t.TempDir()
	newer, unrelated, text := filepath.Join(dir, "newer.db"), filepath.Join(dir, "unrelated.db"), filepath.Join(dir, "text.db")
	if err := openAt(t, newer).Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, newer, `PRAGMA user_version = 999`)
	execSQL(t, unrelated, `CREATE TABLE entries (x)`)
	if err := os.WriteFile(text, []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		newer: "newer release", unrelated: "not one of Ocelot", text: "not a database", filepath.Join(dir, "absent", "x.db"): "unable to open",
	} {
		db, err := sqlite.Open(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, %v, want an error that says %q", filepath.Base(path), db, err, want)
		}
	}
}

func TestPathMayHaveAnyCharacter(t *testing.T) {
	name := `a b?mode=memory&x=%41#ü.db`
	if runtime.GOOS == "windows" {
		name = strings.ReplaceAll(name, "?", "") // it is in no name there
	}
	path := filepath.Join(t.TempDir(), name)
	db := openAt(t, path)
	if _, err := db.Entries().Append(t.Context(), "acme", newCorpus().entries("acme", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

func TestPathMayBeRelative(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	if err := os.Mkdir("a folder", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, filepath.Join("a folder", "ocelot.db")).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "a folder", "ocelot.db")); err != nil {
		t.Error(err)
	}
}

func TestReopenedFileHasAllData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	entries := newCorpus().entries("acme", 10)
	db := openAt(t, path)
	storeIndexed(t, db, "acme", entries)
	if err := db.Queue("q", time.Minute, 1).Send(t.Context(), "acme", []string{"body"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path)
	page, err := db.Index().Find(t.Context(), "acme", audit.Filter{}, audit.PageRequest{Limit: 50})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) != 10 {
		t.Fatalf("found %d entries, want 10", len(page.Entries))
	}
	messages, err := db.Queue("q", time.Minute, 1).Receive(t.Context(), 5, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) != 1 {
		t.Fatalf("received %d messages, want 1", len(messages))
	}
	if messages[0].Body != "body" {
		t.Fatalf("received the body %q, want %q", messages[0].Body, "body")
	}
}

func TestCallsAfterCloseAreUnavailable(t *testing.T) {
	db := open(t)
	waiting := make(chan error)
	go func() {
		_, err := db.Queue("q", time.Minute, 1).Receive(context.WithoutCancel(t.Context()), 1, time.Minute)
		waiting <- err
	}()
	entries := newCorpus().entries("acme", 1)
	if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, appendErr := db.Entries().Append(t.Context(), "acme", entries)
	_, findErr := db.Index().Find(t.Context(), "acme", audit.Filter{}, audit.PageRequest{Limit: 1})
	for name, err := range map[string]error{
		"Append": appendErr, "Find": findErr, "Ping": db.Ping(t.Context()), "waiting Receive": <-waiting,
	} {
		var unavailable *audit.UnavailableError
		if !errors.As(err, &unavailable) {
			t.Errorf("%s after Close: %v, want an *audit.UnavailableError", name, err)
		}
	}
}

// TestFailingWriteFailsAlone checks that writes succeed if another write of their
// transaction fails.
func TestFailingWriteFailsAlone(t *testing.T) {
	db := open(t)
	q := db.Queue("q", time.Minute, 5)
	var failed, sent atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 50 {
				if err := q.Delete(t.Context(), []string{"1.1", "malformed"}); err != nil {
					failed.Add(1)
				}
			}
		})
		callers.Go(func() {
			g := newCorpus()
			for range 50 {
				err := q.Send(t.Context(), "acme", []string{"body"})
				if err != nil {
					t.Error(err)
				}
				sent.Add(1)
				entries := g.entries("acme", 2) // the same for all senders
				if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
					t.Error(err)
				}
				if _, err := search.PutEntries(t.Context(), db.Index(), "acme", entries); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	visible, _, _, err := q.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if visible != sent.Load() {
		t.Errorf("the queue has %d messages, want %d", visible, sent.Load())
	}
	if failed.Load() != 400 {
		t.Errorf("%d deletions failed, want 400", failed.Load())
	}
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{Where: audit.Not{Expr: audit.Text{Words: []string{"absent"}}}}, audit.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Total != 100 {
		t.Errorf("%d entries are indexed, want 100", stats.Total)
	}
}

func TestUnstorableEntriesAreRejectedAlone(t *testing.T) {
	db := open(t)
	entries := newCorpus().entries("acme", 3)
	late := time.Date(2110, 1, 1, 0, 0, 0, 0, time.UTC)
	entries[0].Timestamp, entries[0].ID = late, audit.NewEntryID(late, [10]byte{})
	entries[2].Timestamp = entries[2].Timestamp.Add(time.Millisecond)
	appended, err := db.Entries().Append(t.Context(), "acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	want := []audit.Rejection{{Index: 0, Code: audit.CodeUnstorable}, {Index: 2, Code: audit.CodeUnstorable}}
	if diff := cmp.Diff(want, appended.Rejections, cmpopts.IgnoreFields(audit.Rejection{}, "Reason")); diff != "" {
		t.Fatalf("rejections differ (-want +got):\n%s", diff)
	}
	if _, err := db.Entries().Entry(t.Context(), "acme", entries[1].ID); err != nil {
		t.Fatal(err)
	}
	entries[1].Tenant = "globex"
	if _, err := db.Entries().Append(t.Context(), "acme", entries[1:2]); err == nil {
		t.Fatal("an entry of another tenant: got no error, want one")
	}
}

// TestAllTimesAreInOrder checks the order of timestamps on both sides of the key's
// sign bit.
func TestAllTimesAreInOrder(t *testing.T) {
	db := open(t)
	var entries []audit.Entry
	for _, millis := range []int64{0, 1, 1<<41 - 1, 1 << 41, 1<<42 - 1} {
		e := newCorpus().entry("acme")
		e.Timestamp = time.UnixMilli(millis).UTC()
		e.ID = audit.NewEntryID(e.Timestamp, [10]byte(e.Digest.Sum[:]))
		entries = append(entries, e)
	}
	appended, err := db.Entries().Append(t.Context(), "acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	if len(appended.Rejections) > 0 {
		t.Fatalf("Append rejected %+v, want none", appended.Rejections)
	}
	if _, err := search.PutEntries(t.Context(), db.Index(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		for name, where := range map[string]audit.Expr{"all": nil, "matching": audit.Equals{Field: "metadata.service", Values: []string{"billing"}}} {
			f := audit.Filter{Where: where}
			if i > 0 {
				f.From = entries[i].Timestamp
			}
			page, err := db.Index().Find(t.Context(), "acme", f, audit.PageRequest{Order: audit.OldestFirst, Limit: 50})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Entries) != len(entries)-i {
				t.Fatalf("%s from %v: found %d entries, want %d", name, f.From, len(page.Entries), len(entries)-i)
			}
			for j, e := range page.Entries {
				if want := entries[i+j]; e.ID != want.ID {
					t.Fatalf("%s from %v: entry %d has the time %v, want %v", name, f.From, j, e.Timestamp, want.Timestamp)
				}
			}
		}
	}
}

// TestFullMillisecondRejects fills all slots of a millisecond.
func TestFullMillisecondRejects(t *testing.T) {
	if testing.Short() {
		t.Skip("fills four million rows; run without -short")
	}
	path := filepath.Join(t.TempDir(), "ocelot.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	e := newCorpus().entries("acme", 2)
	at := time.UnixMilli(1 << 41).UTC() // its keys begin at zero
	execSQL(t, path, `INSERT INTO tenant_numbers VALUES (1, 'globex'); INSERT INTO entries (key, tenant, id, digest, message, block, place)
		WITH RECURSIVE slot (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM slot WHERE n < (1 << 22) - 1)
		SELECT n, 1, n, '', 0, 1, 0 FROM slot WHERE n <> 1234567`)
	db := openAt(t, path)
	for i := range e {
		e[i].Timestamp, e[i].ID = at, audit.NewEntryID(at, [10]byte{9: byte(i)})
	}
	appended, err := db.Entries().Append(t.Context(), "acme", e)
	if err != nil {
		t.Fatal(err)
	}
	if len(appended.Rejections) != 1 {
		t.Fatalf("rejections = %+v, want 1", appended.Rejections)
	}
	rejection := appended.Rejections[0]
	if rejection.Index != 1 {
		t.Errorf("entry %d is rejected, want 1", rejection.Index)
	}
	if !strings.Contains(rejection.Reason, "4194304") {
		t.Errorf("the reason is %q, want the number of slots, 4194304", rejection.Reason)
	}
}

// readOverlapping reads the file in short transactions until the test ends. The next one
// always begins before the last one ends. A transaction lasts for readTime: unlike that of
// a query, its length does not depend on the load of the machine.
func readOverlapping(t *testing.T, path string) {
	t.Helper()
	const readTime = 200 * time.Millisecond
	pool, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *sql.Tx {
		tx, err := pool.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Error(err)
			return nil
		}
		if err := tx.QueryRow(`SELECT count(*) FROM messages WHERE number = 0`).Scan(new(int)); err != nil {
			t.Error(err)
		}
		return tx
	}
	ended := make(chan struct{})
	var reading sync.WaitGroup
	current := begin()
	reading.Go(func() {
		for current != nil {
			select {
			case <-ended:
				_ = current.Rollback()
				return
			case <-time.After(readTime):
			}
			next := begin()
			if err := current.Rollback(); err != nil {
				t.Error(err)
			}
			current = next
		}
	})
	t.Cleanup(func() {
		close(ended)
		reading.Wait()
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestLogStaysBounded: readers that always overlap keep SQLite from restarting the
// write-ahead log, so the writer truncates it.
func TestLogStaysBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a gigabyte; run without -short")
	}
	t.Run("handing over", func(t *testing.T) {
		checkLogBound(t, func(t *testing.T, _ *sqlite.DB, path string) { readOverlapping(t, path) })
	})
	t.Run("at random", func(t *testing.T) {
		checkLogBound(t, func(t *testing.T, db *sqlite.DB, _ string) { readFreely(t, db, 200*time.Millisecond) })
	})
}

// checkLogBound wants that the log stays bounded while the readers read.
func checkLogBound(t *testing.T, startReaders func(t *testing.T, db *sqlite.DB, path string)) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	logSize := func() int64 {
		t.Helper()
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	// The writer erases the log after the file is opened. It must not do so later.
	for deadline := time.Now().Add(30 * time.Second); logSize() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log has %d bytes 30s after the file was opened, want 0", logSize())
		}
	}
	startReaders(t, db, path)
	var largest int64
	bodies := []string{strings.Repeat("x", 4<<20)}
	for range 128 {
		if err := db.Queue("q", time.Minute, 0).Send(t.Context(), "acme", bodies); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, logSize())
	}
	t.Logf("the log reached %d MB", largest>>20)
	if largest < sqlite.MaxLogBytes {
		t.Errorf("the log reached %d bytes, want at least %d: the readers did not overlap", largest, sqlite.MaxLogBytes)
	}
	if largest >= sqlite.UrgentLogBytes { // the check before finds the log too large, and waits for the readers
		t.Errorf("the log reached %d bytes, want less than %d", largest, sqlite.UrgentLogBytes)
	}
}

// TestALongReadDoesNotStopWriters: while a read lasts, the log cannot be truncated, and nobody waits for that.
func TestALongReadDoesNotStopWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	reading.Go(func() {
		if _, err := db.Snapshot(ctx, "acme", time.Hour); err != nil {
			t.Error(err)
		}
	})
	var slowest time.Duration
	bodies := []string{strings.Repeat("x", 4<<20)}
	for range sqlite.UrgentLogBytes>>22 + 4 {
		began := time.Now()
		if err := db.Queue("q", time.Minute, 0).Send(t.Context(), "acme", bodies); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() < sqlite.UrgentLogBytes {
		t.Errorf("the log has %d bytes, want at least %d: the read did not hold it", info.Size(), sqlite.UrgentLogBytes)
	}
	if most := 2 * time.Second; slowest > most {
		t.Errorf("a write took %s, want %s at most", slowest, most)
	}
	t.Logf("the slowest write took %s", slowest)
}

func TestClockDecidesVisibility(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	db := open(t, sqlite.WithClock(func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}))
	q := db.Queue("q", time.Hour, 5)
	if err := q.Send(t.Context(), "acme", []string{"body"}); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		messages, err := q.Receive(t.Context(), 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(messages)
	}
	counts := []int{count(), count()}
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	counts = append(counts, count())
	if fmt.Sprint(counts) != "[1 0 1]" {
		t.Fatalf("received %v messages now, again now and an hour later, want [1 0 1]", counts)
	}
}
