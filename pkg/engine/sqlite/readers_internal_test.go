package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// held are reads that last until they are ended.
type held struct {
	t     *testing.T
	began chan audit.TenantID // a read of the tenant
	end   chan struct{}       // each value ends one
}

func newHeld(t *testing.T) *held {
	return &held{t: t, began: make(chan audit.TenantID, 100), end: make(chan struct{})}
}

// read starts reads of a tenant. The test's end ends them.
func (h *held) read(r *readers, tenant audit.TenantID, n int) {
	h.t.Helper()
	ctx := h.t.Context()
	for range n {
		go func() {
			_ = r.snapshot(ctx, tenant, func(c *conn) error {
				if _, err := c.int64(ctx, `SELECT count(*) FROM sqlite_schema`); err != nil && ctx.Err() == nil {
					h.t.Error(err)
				}
				h.began <- tenant
				select {
				case <-h.end:
				case <-ctx.Done():
				}
				return nil
			})
		}()
	}
}

// wantBegin wants that one read of each tenant begins, in any order.
func (h *held) wantBegin(want ...audit.TenantID) {
	h.t.Helper()
	left := map[audit.TenantID]int{}
	for _, tenant := range want {
		left[tenant]++
	}
	for range want {
		select {
		case tenant := <-h.began:
			left[tenant]--
		case <-time.After(5 * time.Second):
			h.t.Fatalf("reads did not begin within 5s: %v are left", left)
		}
	}
	for tenant, n := range left {
		if n != 0 {
			h.t.Errorf("%d more reads of %s should have begun", n, tenant)
		}
	}
}

func (h *held) wantNone() {
	h.t.Helper()
	select {
	case tenant := <-h.began:
		h.t.Errorf("a read of %s began, want none", tenant)
	case <-time.After(50 * time.Millisecond):
	}
}

// TestLongReadsHoldUpNobody: while tenants have all connections for long reads, entries are stored, and records are
// read.
func TestLongReadsHoldUpNobody(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	if err := db.Tenants().Create(t.Context(), audit.Tenant{ID: "acme"}); err != nil {
		t.Fatal(err)
	}
	h := newHeld(t)
	for i := range longReaders {
		h.read(db.long, audit.TenantID(fmt.Sprint("long-", i)), 1)
	}
	for i := range statsReaders {
		h.read(db.stats, audit.TenantID(fmt.Sprint("stats-", i)), 1)
	}
	h.read(db.short, "flood", 10)
	h.wantBegin("long-0", "long-1", "long-2", "stats-0", "stats-1", "stats-2", "stats-3", "flood", "flood")
	began, ctx := time.Now(), t.Context()
	at := time.UnixMilli(1_800_000_000_000)
	entry := audit.Entry{ID: audit.NewEntryID(at, [10]byte{}), Tenant: "acme", UserID: "ann", Timestamp: at, ReceivedAt: at}
	queue := db.Queue("q", time.Minute, 0)
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"commit", func() error {
			return db.Committer().Commit(ctx, []ingest.Load{{Tenant: "acme", Entries: []audit.Entry{entry}}})[0].Err
		}},
		{"idle streams", func() error { _, err := db.Streams().Idle(ctx, []audit.TenantID{"acme"}); return err }},
		{"tenant", func() error { _, err := db.Tenants().Tenant(ctx, "acme"); return err }},
		{"entry", func() error { _, err := db.Entries().Entry(ctx, "acme", entry.ID); return err }},
		{"arrival log", func() error { _, err := db.Arrivals().Read(ctx, "acme", 0, 10); return err }},
		{"send", func() error { return queue.Send(ctx, "acme", []string{"body"}) }},
		{"depth", func() error { _, _, _, err := queue.Depth(ctx); return err }},
		{"ping", func() error { return db.Ping(ctx) }},
	} {
		done := make(chan error, 1)
		go func() { done <- step.run() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s waits for long reads", step.name)
		}
	}
	t.Logf("everything took %s", time.Since(began))
}

// TestReadersAreShared: a tenant with many reads leaves some connections to others, and who uses the fewest is next.
func TestReadersAreShared(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	h := newHeld(t)
	h.read(db.long, "big", 10)
	h.wantBegin("big", "big")
	h.wantNone()
	h.read(db.long, "other", 1)
	h.wantBegin("other")
	h.read(db.long, "small", 1) // all are in use
	h.wantNone()
	h.end <- struct{}{}
	h.wantBegin("small")
}

// TestAReadThatNeverBegins: its error says whether the client has gone or others read.
func TestAReadThatNeverBegins(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	db.long.pause(time.Hour)
	read := func(ctx context.Context) error {
		_, err := db.Index().Find(ctx, "acme", audit.Filter{}, audit.PageRequest{Limit: 1})
		return err
	}
	if _, err := db.ensureNumber(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	timed, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := read(timed); !audit.IsUnavailable(err) {
		t.Errorf("after the deadline: got error %v, want an unavailable one", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := read(gone); !errors.Is(err, context.Canceled) || audit.IsUnavailable(err) {
		t.Errorf("of a client that has gone: got error %v, want %v", err, context.Canceled)
	}
	db.stats.wait = 10 * time.Millisecond
	db.stats.pause(time.Hour)
	_, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{})
	if !audit.IsUnavailable(err) {
		t.Errorf("of statistics that wait for too long: got error %v, want an unavailable one", err)
	}
	if n := len(db.long.waiting); n > 0 {
		t.Errorf("%d reads wait, want none", n)
	}
	db.long.resume()
	if err := read(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOverdueErasureHoldsReads: long reads that follow each other prevent that the log is erased, so they wait once
// it is overdue. Who asked for it learns of it, though others read again.
func TestOverdueErasureHoldsReads(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	h := newHeld(t)
	h.read(db.long, "acme", 1)
	h.wantBegin("acme")
	if err := db.write(t.Context(), (*batch).scrubSoon); err != nil {
		t.Fatal(err)
	}
	const round = 1
	if err := db.eraseLog(t.Context(), round); !audit.IsUnavailable(err) {
		t.Errorf("during a read: got error %v, want an unavailable one", err)
	}
	err := db.write(t.Context(), func(b *batch) error {
		l := &b.writer.log // as after eraseOverdue
		l.tries, l.eraseSince = 1, time.Now().Add(-eraseOverdue)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !isPaused(db.long) || !isPaused(db.stats); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("long reads do not wait within 10s")
		}
	}
	h.read(db.long, "other", 1)
	h.wantNone()
	h.end <- struct{}{}
	h.wantBegin("other") // the log is erased
	if err := db.eraseLog(t.Context(), round); err != nil {
		t.Errorf("after the log was erased: got error %v, want none", err)
	}
	if err := db.write(t.Context(), (*batch).scrubSoon); err != nil {
		t.Fatal(err)
	}
	if err := db.eraseLog(t.Context(), round+1); !audit.IsUnavailable(err) {
		t.Errorf("in the next round, during another read: got error %v, want an unavailable one", err)
	}
}

func isPaused(r *readers) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paused
}

// TestCountsInParts: entries are counted in several snapshots.
func TestCountsInParts(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	ids := indexSome(t, db, 1, 25)
	if err := db.Index().Remove(t.Context(), "acme", ids[3:5]); err != nil {
		t.Fatal(err)
	}
	for _, atOnce := range []int64{1, 5, 7, 100} {
		for query, want := range map[string]int64{countStored: 25, countIndexed: 23} {
			got, err := db.countIDs(t.Context(), query, "acme", audit.Time{}, atOnce)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%d at once: counted %d entries, want %d, by %s", atOnce, got, want, query)
			}
		}
	}
}

// TestAPanicInARead: later reads have a connection, and the log can be truncated.
func TestAPanicInARead(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	count := func(c *conn) error {
		_, err := c.int64(t.Context(), `SELECT count(*) FROM sqlite_schema`)
		return err
	}
	for range shortReaders {
		err := panics.Recovered(t.Context(), func() error {
			return db.snapshot(t.Context(), func(c *conn) error {
				if err := count(c); err != nil {
					return err
				}
				panic("while it reads")
			})
		})
		if err == nil {
			t.Error("a read that panics: got no error, want that of the panic")
		}
	}
	for range 2 * shortReaders {
		if err := db.snapshot(t.Context(), count); err != nil {
			t.Errorf("read after a panic: %v", err)
		}
	}
	if erased, err := db.writer.eraseLogNow(t.Context(), 1); err != nil || !erased {
		t.Errorf("erase the log after a panic: got %v, %v, want true", erased, err)
	}
}
