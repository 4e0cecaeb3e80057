package sqlite

import (
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

func openMerged(t *testing.T, path string, opts ...Option) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// indexSome indexes entries of acme, each times in one transaction.
func indexSome(t *testing.T, db *DB, transactions, each int) (ids []audit.EntryID) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range transactions {
		entries := make([]audit.Entry, each)
		for i := range entries {
			var random [10]byte
			binary.BigEndian.PutUint32(random[6:], uint32(len(ids)))
			entries[i] = audit.Entry{ID: audit.NewEntryID(at, random), Tenant: "acme", UserID: "ann", Timestamp: at, ReceivedAt: at}
			ids = append(ids, entries[i].ID)
			at = at.Add(time.Millisecond)
		}
		if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
			t.Fatal(err)
		}
		if _, err := search.PutEntries(t.Context(), db.Index(), "acme", entries); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// newRun returns a merge of all segments, of which an unfinished one has begun.
func newRun(t *testing.T, db *DB) *mergeRun {
	t.Helper()
	m := &merger{db: db, kind: mergesLevel0, conn: conn{pool: db.read}, owner: "first"}
	t.Cleanup(func() { _ = m.conn.close() })
	inputs, err := m.conn.segmentsIn(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	run := &mergeRun{merger: m, ctx: t.Context(), inputs: inputs, level: 1, carried: make([][]uint64, len(inputs))}
	err = m.step(t.Context(), func(b *batch, _ int) (err error) {
		run.output.Number, err = b.insertSegment(segmentUnfinished, m.kind, &run.output)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func wantTotal(t *testing.T, db *DB, want int64) {
	t.Helper()
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{Where: audit.Has{Field: audit.FieldUserID}}, audit.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Total != want {
		t.Errorf("counted %d entries, want %d", stats.Total, want)
	}
}

// TestRemovalsDuringAMerge: they are so many that they are carried over in several operations.
func TestRemovalsDuringAMerge(t *testing.T) {
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
	ids := indexSome(t, db, 10, 700)
	if err := db.Index().Remove(t.Context(), "acme", ids[:500]); err != nil {
		t.Fatal(err)
	}
	run := newRun(t, db)
	snapshot, err := run.conn.snapshotOf(t.Context(), nil, run.inputs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range run.inputs {
		run.carried[i] = snapshot.Segments[i].Removed
	}
	number := run.output.Number
	info, err := snapshot.Merge(t.Context(), run.add)
	if err == nil {
		err = run.store(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	info.Number, info.Level = number, 1
	run.output = info
	if err := db.Index().Remove(t.Context(), "acme", ids[300:5500]); err != nil {
		t.Fatal(err)
	}
	again := ids[1000:1010] // which are indexed again
	entries, err := db.Entries().EntriesByID(t.Context(), "acme", again)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := search.PutEntries(t.Context(), db.Index(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for ; !run.complete; steps++ {
		wantTotal(t, db, 1510)
		if err := run.finish(snapshot); err != nil {
			t.Fatal(err)
		}
	}
	if want := 3; steps != want {
		t.Errorf("the merge ended after %d operations, want %d", steps, want)
	}
	wantTotal(t, db, 1510)
	if err := db.CheckTerms(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAReadOutlastsAMerge: the segments of its snapshot are removed meanwhile.
func TestAReadOutlastsAMerge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openMerged(t, path)
	const n = 100
	indexSome(t, db, 10, n/10)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openMerged(t, path) // no page is in memory
	err := db.snapshot(t.Context(), func(c *conn) error {
		m := matcher{cache: db.writer.segments, conn: c, within: everything}
		if _, err := m.segments(t.Context()); err != nil {
			return err
		}
		if err := db.MergeAll(t.Context()); err != nil {
			return err
		}
		byLevel, others, err := db.Segments(t.Context())
		if err != nil || byLevel[0] > 0 || others > 0 {
			t.Errorf("segments by level: %v, %d others (%v), want that all are merged", byLevel, others, err)
		}
		compiled := compiler{tokens: newTokenizer(1)}
		got, err := m.count(t.Context(), piece{everything, compiled.all()})
		if got != n {
			t.Errorf("counted %d entries, want %d", got, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantTotal(t, db, n)
}

// TestALostLeaseEndsAMerge: a process stands still during a merge for so long that another one takes over.
func TestALostLeaseEndsAMerge(t *testing.T) {
	ctx := t.Context()
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"), WithSharedFile())
	indexSome(t, db, 3, 1)
	run := newRun(t, db)
	snapshot, err := run.conn.snapshotOf(ctx, nil, run.inputs)
	if err != nil {
		t.Fatal(err)
	}
	change := func(query string, args ...any) {
		t.Helper()
		err := db.write(ctx, func(b *batch) error {
			_, err := b.exec(query, args...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	change(`UPDATE segment_mergers SET owner = 'second'`) // which has not ended
	if err := run.finish(snapshot); !errors.Is(err, errNotMerger) {
		t.Errorf("with the lease of another: error %v, want %v", err, errNotMerger)
	}
	change(`DELETE FROM segments WHERE number = ?`, run.output.Number) // as unfinished, and it has ended
	change(`DELETE FROM segment_mergers`)
	run.unstored = []mergedPage{{1, []byte("page")}}
	for name, do := range map[string]func() error{
		"finish": func() error { return run.finish(snapshot) }, "store": func() error { return run.store(0) },
	} {
		if err := do(); !errors.Is(err, errReplaced) {
			t.Errorf("%s a segment that another has removed: error %v, want %v", name, err, errReplaced)
		}
	}
	if left, err := run.conn.segmentsIn(ctx, everything); err != nil || len(left) != 3 {
		t.Errorf("%d segments are in use (%v), want the 3", len(left), err)
	}
	if pages, err := run.conn.int64(ctx, `SELECT count(*) FROM segment_pages`); err != nil || pages != 3 {
		t.Errorf("there are %d pages (%v), want those of the 3 segments", pages, err)
	}
}

// TestAStaleMergeAndItsRemoval: another process has taken over, and both go on in turns.
func TestAStaleMergeAndItsRemoval(t *testing.T) {
	for name, removedFirst := range map[string]bool{"the merge ends first": false, "the removal begins first": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			db := openMerged(t, filepath.Join(t.TempDir(), "o.db"))
			ids := indexSome(t, db, 20, 500)
			run := newRun(t, db)
			snapshot, err := run.conn.snapshotOf(ctx, nil, run.inputs)
			if err != nil {
				t.Fatal(err)
			}
			number := run.output.Number
			info, err := snapshot.Merge(ctx, run.add)
			if err == nil {
				err = run.store(0)
			}
			if err != nil {
				t.Fatal(err)
			}
			info.Number, info.Level = number, 1
			run.output = info
			removeSome := func() {
				t.Helper()
				err := run.step(ctx, func(b *batch, _ int) error {
					_, err := b.removeUnused(run.kind, number, 1)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			var want error
			if removedFirst {
				removeSome()
				want = errReplaced
			}
			if err := run.finish(snapshot); !errors.Is(err, want) {
				t.Errorf("finish the merge: error %v, want %v", err, want)
			}
			if !removedFirst {
				removeSome()
			}
			wantTotal(t, db, int64(len(ids)))
			if err := db.CheckTerms(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestADamagedSegmentIsErasedLast: what is removed is erased from the others, and the erasure fails after that.
func TestADamagedSegmentIsErasedLast(t *testing.T) {
	for name, damage := range map[string]string{
		"its page":                  `UPDATE segment_pages SET data = CAST(substr(data, 1, 300) || x'ffffffff' || substr(data, 305) AS BLOB) WHERE id = ?`,
		"its removed documents":     `UPDATE removed_terms SET docs = zeroblob(80) WHERE id = ?`,
		"its page, and it is large": `UPDATE segment_pages SET data = CAST(substr(data, 1, 300) || x'ffffffff' || substr(data, 305) AS BLOB) WHERE id = ?; UPDATE segments SET level = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "o.db")
			db := openMerged(t, path)
			ids := indexSome(t, db, 5, 20)
			var removed []audit.EntryID
			for i := 0; i < len(ids); i += 7 {
				removed = append(removed, ids[i])
			}
			if err := db.Index().Remove(t.Context(), "acme", removed); err != nil {
				t.Fatal(err)
			}
			segments, err := db.mergers[0].conn.segmentsIn(t.Context(), everything)
			if err != nil || len(segments) != 5 {
				t.Fatalf("there are %d segments (%v), want 5", len(segments), err)
			}
			damaged := segments[2].Number
			err = db.write(t.Context(), func(b *batch) error {
				_, err := b.link.ExecContext(t.Context(), damage, pageID(damaged, 0))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openMerged(t, path)
			for err = nil; err == nil; {
				var done bool
				if done, err = db.FreeSpace().Erase(t.Context(), math.MaxInt64); done {
					t.Fatal("the erasure has ended, want an error because of the damaged segment")
				}
			}
			if !errors.Is(err, postings.ErrDamaged) {
				t.Fatalf("the erasure failed with %v, want %v", err, postings.ErrDamaged)
			}
			err = db.snapshot(t.Context(), func(c *conn) error {
				segments, err = c.segmentsIn(t.Context(), everything)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range segments {
				if s.removed > 0 && s.Number != damaged {
					t.Errorf("segment %d still has %d removed documents, want none", s.Number, s.removed)
				}
			}
		})
	}
}

// TestLevel0IsCountedAtOpening: an earlier process may have left many segments.
func TestLevel0IsCountedAtOpening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openMerged(t, path)
	const n = 9
	indexSome(t, db, n, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openMerged(t, path)
	err := db.write(t.Context(), func(b *batch) error {
		if got := b.writer.level0.segments; got != n {
			t.Errorf("the writer knows of %d segments, want %d", got, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLevel0IsBoundedInBytes: documents can be large.
func TestLevel0IsBoundedInBytes(t *testing.T) {
	limits := defaultMerges
	rows := make([]segmentRow, 40)
	for i := range rows {
		rows[i].Docs, rows[i].Bytes = 1, 1<<20
	}
	if got := len((&merger{limits: limits}).someOfLevel0(rows)); got != 32 {
		t.Errorf("the merger takes %d segments of 1 MiB at once, want 32", got)
	}
	if got := len(limits.newest(rows)); got != 32 {
		t.Errorf("the writer takes %d segments of 1 MiB at once, want 32", got)
	}
	if limits.due(totalOf(rows[:31])) || !limits.due(totalOf(rows[:32])) {
		t.Error("a merge is due before or after 32 MiB")
	}
}

// TestAMergeThatReadsForLongKeepsItsLease: it writes nothing while it reads removed documents.
func TestAMergeThatReadsForLongKeepsItsLease(t *testing.T) {
	ctx := t.Context()
	db := openMerged(t, filepath.Join(t.TempDir(), "o.db"), WithSharedFile())
	indexSome(t, db, 3, 1)
	run := newRun(t, db)
	pages := heldPages{segmentPages{&run.conn}, run}
	for _, step := range []struct {
		since time.Duration
		want  bool
	}{{0, false}, {mergeLease / 2, true}} {
		err := db.write(ctx, func(b *batch) error {
			_, err := b.exec(`UPDATE segment_mergers SET expires = 1`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		run.heldAt = time.Now().Add(-step.since)
		if _, err := pages.Page(ctx, run.inputs[0].Number, 0); err != nil {
			t.Fatal(err)
		}
		expires, err := run.conn.int64(ctx, `SELECT expires FROM segment_mergers WHERE kind = ?`, run.kind)
		if err != nil || (expires > 1) != step.want {
			t.Errorf("%v after the last step: the lease expires at %d (%v), want that it was prolonged: %t", step.since, expires, err, step.want)
		}
	}
}
