package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

func TestOpenTwiceFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	first := openAt(t, path)
	if db, err := sqlite.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("opening an open file: %v, %v", db, err)
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

func TestOpenRefusesWhatItDoesNotKnow(t *testing.T) {
	dir := t.TempDir()
	newer, foreign, text := filepath.Join(dir, "newer.db"), filepath.Join(dir, "foreign.db"), filepath.Join(dir, "text.db")
	if err := openAt(t, newer).Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, newer, `PRAGMA user_version = 999`)
	execSQL(t, foreign, `CREATE TABLE entries (x)`)
	if err := os.WriteFile(text, []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		newer: "newer release", foreign: "not one of Ocelot", text: "not a database", filepath.Join(dir, "absent", "x.db"): "unable to open",
	} {
		db, err := sqlite.Open(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, %v, want an error that says %q", filepath.Base(path), db, err, want)
		}
	}
}

func TestPathsMayHaveAnyCharacter(t *testing.T) {
	path := filepath.Join(t.TempDir(), `a b?mode=memory&x=%41#ü.db`)
	db := openAt(t, path)
	if _, err := db.Entries().Append(t.Context(), "acme", newCorpus().entries("acme", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

func TestReopenedFileHasEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	entries := newCorpus().entries("acme", 10)
	db := openAt(t, path)
	if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Index().Put(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	if err := db.Queue("q", time.Minute, 1).Send(t.Context(), []string{"body"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path)
	page, err := db.Index().Find(t.Context(), "acme", audit.Filter{}, audit.PageRequest{Limit: 50})
	if err != nil || len(page.Entries) != 10 {
		t.Fatalf("%d entries, %v, want 10", len(page.Entries), err)
	}
	messages, err := db.Queue("q", time.Minute, 1).Receive(t.Context(), 5, 0)
	if err != nil || len(messages) != 1 || messages[0].Body != "body" {
		t.Fatalf("messages %+v, %v, want the one sent", messages, err)
	}
}

func TestAfterCloseEverythingIsUnavailable(t *testing.T) {
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
		"Append": appendErr, "Find": findErr, "Ping": db.Ping(t.Context()), "a Receive that waited": <-waiting,
	} {
		var unavailable *audit.UnavailableError
		if !errors.As(err, &unavailable) {
			t.Errorf("%s after Close: %v, want an *audit.UnavailableError", name, err)
		}
	}
}

// TestAFailingWriteFailsAlone: writes that share a transaction with a failing one succeed.
func TestAFailingWriteFailsAlone(t *testing.T) {
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
				err := q.Send(t.Context(), []string{"body"})
				if err != nil {
					t.Error(err)
				}
				sent.Add(1)
				entries := g.entries("acme", 2) // the same for all senders
				if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
					t.Error(err)
				}
				if _, err := db.Index().Put(t.Context(), "acme", entries); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	visible, _, _, err := q.Depth(t.Context())
	if err != nil || visible != sent.Load() || failed.Load() != 400 {
		t.Fatalf("%d of %d messages are there (%v), %d of 400 deletions failed", visible, sent.Load(), err, failed.Load())
	}
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{Where: audit.Not{Expr: audit.Text{Words: []string{"absent"}}}}, audit.StatsRequest{})
	if err != nil || stats.Total != 100 {
		t.Fatalf("%d entries are indexed (%v), want 100", stats.Total, err)
	}
}

func TestUnstorableEntriesAreRejectedAlone(t *testing.T) {
	db := open(t)
	entries := newCorpus().entries("acme", 3)
	late := time.Date(2110, 1, 1, 0, 0, 0, 0, time.UTC)
	entries[0].Timestamp, entries[0].ID = late, audit.NewEntryID(late, [10]byte{})
	entries[2].Timestamp = entries[2].Timestamp.Add(time.Millisecond)
	appended, err := db.Entries().Append(t.Context(), "acme", entries)
	rejections := appended.Rejections
	if err != nil || len(rejections) != 2 || rejections[0].Index != 0 || rejections[1].Index != 2 || rejections[0].Code != audit.CodeUnstorable {
		t.Fatalf("rejections %+v, %v, want those of 0 and 2", rejections, err)
	}
	if _, err := db.Entries().Entry(t.Context(), "acme", entries[1].ID); err != nil {
		t.Fatal(err)
	}
	entries[1].Tenant = "globex"
	if _, err := db.Entries().Append(t.Context(), "acme", entries[1:2]); err == nil {
		t.Fatal("an entry of another tenant was appended")
	}
}

// TestTheLastTimesAreInOrder: the whole range of timestamps keeps its order,
// the halves before and after the sign bit of the key included.
func TestTheLastTimesAreInOrder(t *testing.T) {
	db := open(t)
	var entries []audit.Entry
	for _, millis := range []int64{0, 1, 1<<41 - 1, 1 << 41, 1<<42 - 1} {
		e := newCorpus().entry("acme")
		e.Timestamp = time.UnixMilli(millis).UTC()
		e.ID = audit.NewEntryID(e.Timestamp, [10]byte(e.Digest[:]))
		entries = append(entries, e)
	}
	if appended, err := db.Entries().Append(t.Context(), "acme", entries); err != nil || len(appended.Rejections) > 0 {
		t.Fatal(appended.Rejections, err)
	}
	if _, err := db.Index().Put(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		for name, where := range map[string]audit.Expr{"all": nil, "matching": audit.Equals{Field: "metadata.service", Values: []string{"billing"}}} {
			f := audit.Filter{Where: where}
			if i > 0 {
				f.From = entries[i].Timestamp
			}
			page, err := db.Index().Find(t.Context(), "acme", f, audit.PageRequest{Order: audit.OldestFirst, Limit: 50})
			if err != nil || len(page.Entries) != len(entries)-i {
				t.Fatalf("%s from %v: %d entries, %v", name, f.From, len(page.Entries), err)
			}
			for j, e := range page.Entries {
				if e.ID != entries[i+j].ID {
					t.Fatalf("%s from %v: entry %d is of %v", name, f.From, j, e.Timestamp)
				}
			}
		}
	}
}

// TestAFullMillisecondRejects fills one millisecond up to its last slot.
func TestAFullMillisecondRejects(t *testing.T) {
	if testing.Short() {
		t.Skip("fills four million rows; run without -short")
	}
	path := filepath.Join(t.TempDir(), "ocelot.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	e := newCorpus().entries("acme", 2)
	at := time.UnixMilli(1 << 41).UTC() // its keys begin at zero
	execSQL(t, path, `INSERT INTO tenant_numbers VALUES (1, 'globex'); INSERT INTO entries (key, tenant, id, digest, doc)
		WITH RECURSIVE slot (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM slot WHERE n < (1 << 22) - 1)
		SELECT n, 1, n, '', '' FROM slot WHERE n <> 1234567`)
	db := openAt(t, path)
	for i := range e {
		e[i].Timestamp, e[i].ID = at, audit.NewEntryID(at, [10]byte{9: byte(i)})
	}
	appended, err := db.Entries().Append(t.Context(), "acme", e)
	rejections := appended.Rejections
	if err != nil || len(rejections) != 1 || rejections[0].Index != 1 || !strings.Contains(rejections[0].Reason, "4194304") {
		t.Fatalf("rejections %+v, %v, want the second for want of a slot", rejections, err)
	}
}

// TestTheLogStaysBounded: readers that overlap without a pause keep SQLite from
// beginning the log anew; the writer does it by force.
func TestTheLogStaysBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes half a gigabyte; run without -short")
	}
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	c := newCorpus()
	for range 20 {
		entries := c.entries("acme", 1000)
		if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Index().Put(t.Context(), "acme", entries); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			request := audit.StatsRequest{GroupBy: []audit.Field{"metadata.region"}, Top: 1}
			for ctx.Err() == nil {
				if _, err := db.Index().Stats(ctx, "acme", audit.Filter{}, request); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	var largest int64
	bodies := []string{strings.Repeat("x", 4<<20)}
	for range 128 {
		if err := db.Queue("q", time.Minute, 0).Send(t.Context(), bodies); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path + "-wal"); err == nil {
			largest = max(largest, info.Size())
		}
	}
	stop()
	readers.Wait()
	t.Logf("the log was at most %d MB long", largest>>20)
	if largest > 350<<20 {
		t.Fatalf("the log grew to %d MB", largest>>20)
	}
}

func TestTheClockDecidesVisibility(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	db := open(t, sqlite.WithClock(func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}))
	q := db.Queue("q", time.Hour, 5)
	if err := q.Send(t.Context(), []string{"body"}); err != nil {
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
		t.Fatalf("received %v messages at once, a moment and an hour later, want [1 0 1]", counts)
	}
}
