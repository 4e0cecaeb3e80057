package sqlite

import (
	"bytes"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFailedCheckpointsAreReported: the log grows without bounds, though writes succeed.
func TestFailedCheckpointsAreReported(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	path := filepath.Join(t.TempDir(), "o.db")
	db := openMerged(t, path)
	closed, err := openPool(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	broken := newCheckpointer(closed)
	t.Cleanup(func() {
		if err := broken.close(); err != nil {
			t.Error(err)
		}
	})
	onWriter := func(f func(w *writer)) {
		t.Helper()
		onWriterOf(t, db, f)
	}
	eventually := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within 10s", what)
			}
		}
	}
	eventually("the log is erased after the file is opened", func() (erased bool) {
		onWriter(func(w *writer) { erased = w.log.eraseAt.IsZero() })
		return erased
	})
	works := db.writer.checkpoint
	restore := func() { onWriter(func(w *writer) { w.checkpoint = works }) }
	defer restore()
	for range 3 {
		onWriter(func(w *writer) {
			w.checkpoint = broken
			w.checkpoint.ask()
		})
		eventually("a checkpoint fails", func() bool { return broken.failure() != nil && len(broken.wanted) == 0 })
	}
	if err := db.Ping(t.Context()); err == nil {
		t.Error("a ping while checkpoints fail: got no error, want one")
	}
	restore()
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	broken.note(nil)
	if err := broken.failure(); err != nil {
		t.Errorf("after a checkpoint that succeeds: got error %v, want none", err)
	}
	if got := strings.Count(log.String(), "write-ahead log"); got != 1 {
		t.Errorf("the log has %d lines about it, want 1:\n%s", got, log.String())
	}
}

// TestPingsRepeatACheckpointThatFailed: nothing else does while nobody writes. What failed earlier is no reason to refuse
// entries.
func TestPingsRepeatACheckpointThatFailed(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	small, err := openPool(filepath.Join(t.TempDir(), "small.db"), url.Values{"_pragma": {"max_page_count(1)"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = small.Close() })
	_, full := small.ExecContext(t.Context(), `CREATE TABLE a (b)`)
	if !isFull(full) {
		t.Fatalf("got error %v of a file that may not grow, want one of a full disk", full)
	}
	db.writer.checkpoint.note(full)
	_ = db.Ping(t.Context()) // tells of it, unless the checkpoint that it asks for has ended already
	if err := db.CheckSpace(t.Context()); err != nil {
		t.Errorf("after a ping that tells of an earlier failure: got error %v, want entries to be taken", err)
	}
	for deadline := time.Now().Add(10 * time.Second); db.Ping(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("pings fail for 10s after a checkpoint failed, want another checkpoint: %v", db.Ping(t.Context()))
		}
	}
}

// onWriterOf runs f on the writer's goroutine, within a group.
func onWriterOf(t *testing.T, db *DB, f func(w *writer)) {
	t.Helper()
	err := db.write(t.Context(), func(b *batch) error {
		f(b.writer)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// writeLog writes so many pages to the log in one group, and a few more.
func writeLog(t *testing.T, db *DB, pages int) {
	t.Helper()
	err := db.write(t.Context(), func(b *batch) error {
		_, err := b.insertDocs(make([]byte, pages*pageBytes))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheLogIsCopiedAfterEnoughPages: groups may be of any size, and become larger all at once.
func TestTheLogIsCopiedAfterEnoughPages(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	writeLog(t, db, 1) // with it what opening the file wrote is counted
	const pages = 100
	var before, after int
	onWriterOf(t, db, func(w *writer) { before = w.checkpoint.pages })
	writeLog(t, db, pages)
	onWriterOf(t, db, func(w *writer) { after = w.checkpoint.pages })
	if got := after - before; got < pages || got > pages+20 {
		t.Errorf("a group of %d pages counts as %d", pages, got)
	}
	c := &checkpointer{wanted: make(chan struct{}, 1)}
	for range 10_000 {
		c.committed(0)
	}
	c.committed(checkpointPages - 1)
	if len(c.wanted) > 0 {
		t.Errorf("the log is copied after %d pages, want %d", checkpointPages-1, checkpointPages)
	}
	c.committed(1)
	if len(c.wanted) == 0 {
		t.Errorf("the log is not copied after %d pages", checkpointPages)
	}
}

// TestTheLogBeginsAgainWhileGroupsFollow: the writer copies what came while the checkpointer copied the log.
func TestTheLogBeginsAgainWhileGroupsFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openMerged(t, path)
	pool, err := openPool(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	frames := func() (n int64) {
		t.Helper()
		if err := pool.QueryRowContext(t.Context(), `PRAGMA wal_checkpoint(NOOP)`).Scan(new(int64), &n, new(int64)); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const pages = 500
	writeLog(t, db, pages)
	if got := frames(); got < pages {
		t.Fatalf("the log has %d pages, want at least %d", got, pages)
	}
	onWriterOf(t, db, func(w *writer) {
		w.checkpoint.pages = 0
		w.checkpoint.copied.Store(true)
	})
	writeLog(t, db, 1)
	if got := frames(); got >= pages {
		t.Errorf("after the next group the log has %d pages, want it begun again", got)
	}
}
