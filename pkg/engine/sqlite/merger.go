package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

const (
	// mergeLease is how long a process may merge a shared file without writing. Others wait that long if it
	// is killed.
	mergeLease = 30 * time.Second
	// mergeRetry is how often a process that shares its file looks whether there is something to merge.
	mergeRetry = 5 * time.Second
)

// prolongAfter is after how much reading a merge of a shared file prolongs its lease, if it has not written
// meanwhile.
const prolongAfter = mergeLease / 6

// stepRetries are the delays between attempts of a step, if other processes write to a shared file all the time.
var stepRetries = backoff.Policy{First: 50 * time.Millisecond, Max: time.Second, Jitter: backoff.EqualJitter}

const maxStepTries = 5

// mergeErrors are the delays after merges that failed.
var mergeErrors = backoff.Policy{First: time.Second, Max: time.Minute, Jitter: backoff.EqualJitter}

// merger merges some of a file's segments, one merge after the other, on a goroutine of its own.
type merger struct {
	db     *DB
	kind   mergerKind
	limits mergeLimits
	conn   conn
	owner  string        // of the lease
	wake   chan struct{} // a merge may be due
	ended  chan struct{}
	avoid  avoided
	heldAt time.Time // the last step

	mu       sync.Mutex
	requests []chan error // to merge the segments that have removed documents
}

// mergerKind says which segments a merger merges. Files have the number.
type mergerKind int64

const (
	mergesLevel0 mergerKind = iota
	mergesOthers
	mergerKinds
)

func (db *DB) startMergers() {
	ctx, stop := context.WithCancel(context.Background())
	db.stopMergers = stop
	for kind := range mergerKinds {
		m := &merger{db: db, kind: kind, limits: db.merges, conn: conn{pool: db.read}, owner: rand.Text(), wake: make(chan struct{}, 1), ended: make(chan struct{}), avoid: avoided{}}
		if kind == mergesLevel0 {
			m.wake = db.writer.level0Full
		}
		db.mergers[kind] = m
	}
	for _, m := range db.mergers {
		m.wakeUp() // an earlier process may have left something
		go m.loop(ctx)
	}
}

func (m *merger) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default: // it is woken already
	}
}

// erase requests that what is removed is erased from the segments. The channel gets the result.
func (m *merger) erase() <-chan error {
	done := make(chan error, 1)
	m.mu.Lock()
	m.requests = append(m.requests, done)
	m.mu.Unlock()
	m.wakeUp()
	return done
}

func (m *merger) takeRequests() []chan error {
	m.mu.Lock()
	defer m.mu.Unlock()
	requests := m.requests
	m.requests = nil
	return requests
}

func (m *merger) isRequested() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.requests) > 0
}

// errNotMerger says that another process merges the segments of a shared file.
var errNotMerger = errors.New("another process merges the full-text index")

func (m *merger) loop(ctx context.Context) {
	defer close(m.ended)
	failures, failedUntil := 0, time.Time{}
	for {
		var later <-chan time.Time
		switch {
		case failures > 0:
			later = time.After(time.Until(failedUntil))
		case m.db.shared: // others add segments too
			later = time.After(mergeRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
			if time.Now().Before(failedUntil) && !m.isRequested() {
				continue
			}
		case <-later:
		}
		err := m.work(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil || errors.Is(err, errNotMerger):
			failures, failedUntil = 0, time.Time{}
		default:
			slog.WarnContext(ctx, "the full-text index could not be merged, which is tried again", "error", err)
			failures++
			failedUntil = time.Now().Add(mergeErrors.Delay(failures))
		}
	}
}

// work answers the requests, and does the merges that are due.
func (m *merger) work(ctx context.Context) error {
	if requests := m.takeRequests(); len(requests) > 0 {
		err := panics.Recovered(ctx, func() error { return m.session(ctx, true) })
		for _, done := range requests {
			done <- err
		}
		if err != nil {
			return err
		}
	}
	return panics.Recovered(ctx, func() error { return m.session(ctx, false) })
}

// close waits until the merger has ended. Its context must have ended.
func (m *merger) close() error {
	<-m.ended
	return m.conn.close()
}

// session does the merges that are due or, with erase, those of segments that have removed documents. These are only
// the segments that there are at its beginning: later ones have nothing that was removed before. It ends early if it
// is requested to do other ones.
func (m *merger) session(ctx context.Context, erase bool) error {
	choose, left := m.due, uint64(minFree)
	if err := m.removeRest(ctx); err != nil {
		return err
	}
	if erase {
		last, err := m.conn.int64(ctx, `SELECT coalesce(max(number), 0) FROM segments`)
		if err != nil {
			return err
		}
		choose = func(rows []segmentRow) ([]segmentRow, int) {
			return m.erasable(slices.DeleteFunc(rows, func(row segmentRow) bool { return row.Number > last }))
		}
		left = minFree / 2 // which removals may use
	}
	for {
		var inputs []segmentRow
		var level int
		var snapshot *postings.Snapshot
		err := m.db.snapshot(ctx, func(c *conn) error {
			rows, err := c.segmentsIn(ctx, everything)
			if err != nil {
				return err
			}
			inputs, level = choose(slices.DeleteFunc(rows, func(row segmentRow) bool { return (row.Level == 0) != (m.kind == mergesLevel0) }))
			snapshot, err = c.snapshotOf(ctx, m.db.writer.segments, inputs)
			return err
		})
		switch {
		case err == nil:
		case m.avoid.add(ctx, &m.conn, inputs, err):
			continue
		default:
			return err
		}
		if len(inputs) == 0 {
			m.wakeNext()
			return m.release(ctx)
		}
		if err := m.db.roomForMerge(ctx, inputs, left); err != nil {
			return err
		}
		if err := m.merge(ctx, inputs, snapshot, level); err != nil && !m.avoid.add(ctx, &m.conn, inputs, err) {
			return err
		}
		if err := m.removeRest(ctx); err != nil {
			return err
		}
		m.wakeNext()
		if m.isRequested() {
			return nil // the next session begins at once
		}
	}
}

// wakeNext wakes the merger of the segments that this one makes.
func (m *merger) wakeNext() {
	if m.kind == mergesLevel0 {
		m.db.mergers[mergesOthers].wakeUp()
	}
}

// due returns segments to merge, of those that the merger may merge, and the level of the result.
func (m *merger) due(rows []segmentRow) (inputs []segmentRow, level int) {
	rows = m.avoid.without(rows)
	for i := range rows {
		if rows[i].removed == rows[i].Docs {
			return rows[i : i+1], rows[i].Level
		}
	}
	if m.kind == mergesLevel0 {
		if m.limits.due(totalOf(rows)) {
			return m.someOfLevel0(rows), 1
		}
		return nil, 0
	}
	byLevel := map[int][]segmentRow{}
	for _, row := range rows {
		if row.Docs >= m.limits.large {
			continue
		}
		of := append(byLevel[row.Level], row)
		if byLevel[row.Level] = of; len(of) == m.limits.atOnce {
			return of, row.Level + 1
		}
	}
	return nil, 0
}

// erasable is like due for segments that have removed documents. Damaged ones come last: nobody may believe
// that they were erased.
func (m *merger) erasable(rows []segmentRow) (inputs []segmentRow, level int) {
	rows = slices.DeleteFunc(rows, func(row segmentRow) bool { return row.removed == 0 })
	if whole := m.avoid.without(slices.Clone(rows)); len(whole) > 0 {
		rows = whole
	}
	switch {
	case len(rows) == 0:
		return nil, 0
	case m.kind == mergesLevel0:
		return m.someOfLevel0(rows), 1
	}
	return rows[:1], rows[0].Level
}

// someOfLevel0 returns the first segments, as many as are merged at once.
func (m *merger) someOfLevel0(rows []segmentRow) []segmentRow {
	var t total
	for i := range rows {
		if t.add(rows[i].Docs, rows[i].Bytes); m.limits.enough(t) {
			return rows[:i+1]
		}
	}
	return rows
}

// roomForMerge returns an error if a merge would leave less than some space on the disk. Pages of the result are in
// the log first, and the segments stay until it is complete.
func (db *DB) roomForMerge(ctx context.Context, inputs []segmentRow, left uint64) error {
	var needed uint64
	for i := range inputs {
		needed += uint64(float64(inputs[i].Bytes) * float64(inputs[i].Docs-inputs[i].removed) / float64(inputs[i].Docs))
	}
	if needed == 0 {
		return nil
	}
	free, err := freeBytes(filepath.Dir(db.writer.path))
	if err != nil {
		return fmt.Errorf("find the free space: %w", err)
	}
	reusable, err := db.reusableBytes(ctx)
	if err != nil {
		return err
	}
	if log := min(needed, checkpointPages*pageBytes); free < left+log+max(needed, reusable)-reusable {
		return &audit.UnavailableError{Err: fmt.Errorf("%w: a merge of %d bytes needs more than the %d that are free", audit.ErrStorageFull, needed, free)}
	}
	return nil
}

// step does one operation of a merge, unless another process merges meanwhile.
func (m *merger) step(ctx context.Context, do func(b *batch, parts int) error) error {
	err := stepRetries.Retry(ctx, maxStepTries, isBusy, func() error {
		return m.db.backgroundStep(ctx, workMerge, func(b *batch, parts int) error {
			if err := m.hold(b); err != nil {
				return err
			}
			return do(b, parts)
		})
	})
	m.heldAt = time.Now()
	return err
}

// hold takes the lease of a shared file, or prolongs it.
func (m *merger) hold(b *batch) error {
	if !m.db.shared {
		return nil
	}
	now := time.Now()
	held, err := b.exec(`INSERT INTO segment_mergers (kind, owner, expires) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET owner = excluded.owner, expires = excluded.expires WHERE owner = excluded.owner OR expires <= ?`,
		m.kind, m.owner, now.Add(mergeLease).UnixMilli(), now.UnixMilli())
	if err == nil && held == 0 {
		return unchanged(errNotMerger)
	}
	return err
}

// release gives the lease back.
func (m *merger) release(ctx context.Context) error {
	if !m.db.shared {
		return nil
	}
	held, err := m.conn.int64(ctx, `SELECT count(*) FROM segment_mergers WHERE kind = ? AND owner = ?`, m.kind, m.owner)
	if err != nil || held == 0 {
		return err
	}
	return m.db.backgroundStep(ctx, workMerge, func(b *batch, _ int) error {
		_, err := b.exec(`DELETE FROM segment_mergers WHERE kind = ? AND owner = ?`, m.kind, m.owner)
		return err
	})
}

// removeRest removes retired segments, and the unfinished ones of merges that were given up.
func (m *merger) removeRest(ctx context.Context) error {
	var rest []int64
	var number int64
	err := m.conn.each(ctx, `SELECT number FROM segments WHERE state = 2 OR state = 0 AND merger = ?`, []any{m.kind}, []any{&number}, func() (bool, error) {
		rest = append(rest, number)
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, number := range rest {
		for more := true; more; {
			err := m.step(ctx, func(b *batch, parts int) error {
				removed, err := b.removeUnused(m.kind, number, parts)
				more = removed == parts
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// removeUnused is removePages for a segment that is retired, or that a kind of merger left unfinished. It
// does nothing if the segment is in use meanwhile, because a merge that seemed given up has ended. From the
// first page on, no merge can complete the segment.
func (b *batch) removeUnused(kind mergerKind, segment int64, most int) (int, error) {
	unused, err := b.exec(`UPDATE segments SET state = 2 WHERE number = ? AND (state = 2 OR state = 0 AND merger = ?)`, segment, kind)
	if err != nil || unused == 0 {
		return 0, err
	}
	return b.removePages(segment, most)
}

// eraseWait bounds how long a step of eraseTerms waits for a merger.
const eraseWait = time.Second

// eraseTerms has the mergers erase what was removed from the full-text index before the lap began, one after the
// other: what the first one writes, the second one merges. It waits for one of them for a moment.
func (db *DB) eraseTerms(ctx context.Context, l *lap) error {
	m := db.mergers[l.merger]
	if l.asked == nil {
		l.asked = m.erase()
	}
	select {
	case err := <-l.asked:
		l.asked = nil
		if errors.Is(err, errNotMerger) { // that process has nothing to do soon
			return backoff.Sleep(ctx, eraseWait)
		}
		l.failed = errors.Join(l.failed, err) // the others erase what they can
		l.merger++
	case <-m.ended:
		return errClosed
	case <-time.After(eraseWait):
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.merger < mergerKinds || l.failed == nil {
		return nil
	}
	err := l.failed
	l.merger, l.failed = 0, nil
	return err
}
