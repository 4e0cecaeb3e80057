package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Bounds of one group commit. They keep an answer from waiting for a group
// that grows as fast as it is worked off.
const (
	maxGroup     = 256
	maxGroupTime = 20 * time.Millisecond
)

// The log is reset by force when readers have kept SQLite from doing so for
// this long. It is looked at every logCheckEvery groups, and after each one once
// it is far too long: then writers wait rather than let it grow.
const (
	maxLogBytes   = 256 << 20
	farTooLong    = 320 << 20
	logCheckEvery = 8
)

// writer is the one goroutine that writes. Nothing that happens to a caller
// reaches into it: a context only decides whether an operation is begun.
type writer struct {
	path       string
	pool       *sql.DB
	conn       conn
	operations chan *operation
	closing    chan struct{}
	closed     chan struct{}
	groups     int
	tooLong    bool // the log, at the last look

	shared      bool  // others write to the file, too
	lastMessage int64 // the highest number a message ever had, as far as this process knows
}

// operation is one write. run may be called twice, the second time after a rollback.
type operation struct {
	run   func(b *batch) error
	begun atomic.Bool // true once the writer has it or its caller gave it up
	done  chan error
}

// batch is what an operation writes with.
type batch struct {
	*conn
	writer *writer
	terms  []termsRow
}

// termsRow is a row of the full-text table that is written at the group's end.
type termsRow struct {
	key  int64
	body string
}

// refusal is an answer other than success of an operation that wrote nothing.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

// refuse has the operation's caller get err. It is for operations that wrote nothing.
func refuse(err error) error { return &refusal{err} }

func openWriter(ctx context.Context, path string, shared bool, busy time.Duration) (*writer, error) {
	// The driver sets the journal mode after the pragmas: once it is set, the
	// size of pages is too.
	pool, err := openPool(path, url.Values{"_journal_mode": {"wal"}, "_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		fmt.Sprintf("page_size(%d)", pageBytes),
		"synchronous(full)",
		fmt.Sprintf("cache_size(-%d)", writerCacheKiB),
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
		fmt.Sprintf("journal_size_limit(%d)", 2*checkpointPages*pageBytes),
	}})
	if err != nil {
		return nil, err
	}
	w := &writer{
		path: path, pool: pool, conn: conn{pool: pool}, shared: shared,
		operations: make(chan *operation), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	if err := w.prepare(ctx); err != nil {
		return nil, errors.Join(err, w.conn.close(), pool.Close())
	}
	go w.loop()
	return w, nil
}

func (w *writer) prepare(ctx context.Context) error {
	if err := w.conn.migrate(ctx); err != nil {
		return err
	}
	return w.renumber(ctx)
}

// renumber makes the next message's number one that no message ever had, also
// in an earlier process: it is at least the microsecond, and messages are sent
// more slowly than one in each.
func (w *writer) renumber(ctx context.Context) error {
	highest, err := w.conn.int64(ctx, `SELECT coalesce(max(number), 0) FROM messages`)
	if err != nil {
		return err
	}
	w.lastMessage = max(w.lastMessage, highest, time.Now().UnixMicro())
	return nil
}

// catchUp is for an operation that is about to number messages: others that
// share the file may have done so since.
func (w *writer) catchUp() error {
	if !w.shared {
		return nil
	}
	return w.renumber(context.Background())
}

// close stops the writer once the group under way is done.
func (w *writer) close() error {
	close(w.closing)
	<-w.closed
	return errors.Join(w.conn.close(), w.pool.Close())
}

// write has the writer run an operation and returns its outcome once it is
// durable. A context that ends before the writer began it gives it up; after
// that the outcome is waited for.
func (db *DB) write(ctx context.Context, run func(b *batch) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op := &operation{run: run, done: make(chan error, 1)}
	select {
	case db.writer.operations <- op:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.writer.closing:
		return errClosed
	}
	select {
	case err := <-op.done:
		return unavailable(err)
	case <-ctx.Done():
	}
	if op.begun.CompareAndSwap(false, true) {
		return ctx.Err()
	}
	return unavailable(<-op.done)
}

func (w *writer) loop() {
	defer close(w.closed)
	for {
		select {
		case <-w.closing:
			return
		case op := <-w.operations:
			w.group(op)
		}
	}
}

// group runs the operation and those that arrive meanwhile in one transaction.
// Failures are rare: only when one happens are the operations run again, each
// under a savepoint of its own, so that it fails alone. Savepoints for all
// would have the full-text index write a segment for each.
func (w *writer) group(first *operation) {
	ops, failed, err := w.together(first)
	if failed && len(ops) > 1 {
		w.apart(ops)
	} else {
		for _, op := range ops {
			op.done <- err
		}
	}
	w.groups++
	if w.groups%logCheckEvery == 0 || w.tooLong {
		w.limitLog()
	}
}

// together returns the operations that it took and, where failed, the error
// of the last of them; else the error that all of them share.
func (w *writer) together(first *operation) (ops []*operation, failed bool, err error) {
	b := &batch{conn: &w.conn, writer: w}
	begun := time.Now()
	err = w.begin()
	var refused []*refusal
	for op := first; op != nil; op = w.next(len(ops), begun) {
		if !op.begun.CompareAndSwap(false, true) {
			continue
		}
		ops = append(ops, op)
		if err != nil {
			return ops, false, err
		}
		var r *refusal
		switch opErr := op.run(b); {
		case errors.As(opErr, &r):
		case opErr != nil:
			w.rollback()
			return ops, true, opErr
		}
		refused = append(refused, r)
	}
	if err == nil {
		if err = b.flush(); err != nil {
			w.rollback()
			return ops, true, err
		}
		err = w.commit()
	}
	if err != nil {
		return ops, false, err
	}
	for i, op := range ops {
		if refused[i] != nil {
			op.done <- refused[i].err
		} else {
			op.done <- nil
		}
	}
	return nil, false, nil
}

// next takes another operation into the group, nil where none is waiting or the group is full.
func (w *writer) next(taken int, begun time.Time) *operation {
	if taken >= maxGroup || time.Since(begun) > maxGroupTime {
		return nil
	}
	runtime.Gosched() // whoever got an answer may already have the next operation
	select {
	case op := <-w.operations:
		return op
	default:
		return nil
	}
}

// apart runs each operation under a savepoint and answers all of them.
func (w *writer) apart(ops []*operation) {
	outcomes := make([]error, len(ops))
	err := w.begin()
	for i := 0; err == nil && i < len(ops); i++ {
		outcomes[i], err = w.alone(ops[i])
	}
	if err == nil {
		err = w.commit()
	} else {
		w.rollback()
	}
	for i, op := range ops {
		if err != nil {
			op.done <- err
			continue
		}
		op.done <- outcomes[i]
	}
}

// alone returns the operation's outcome, and an error where the transaction as a whole is lost.
func (w *writer) alone(op *operation) (outcome, err error) {
	if err := w.conn.exec1(`SAVEPOINT operation`); err != nil {
		return nil, err
	}
	b := &batch{conn: &w.conn, writer: w}
	outcome = op.run(b)
	if outcome == nil {
		outcome = b.flush()
	}
	if outcome != nil {
		if err := w.conn.exec1(`ROLLBACK TO operation`); err != nil {
			return nil, err
		}
	}
	var r *refusal
	if errors.As(outcome, &r) {
		outcome = r.err
	}
	return outcome, w.conn.exec1(`RELEASE operation`)
}

// flush writes the full-text rows in the order of their keys: whenever a key
// is lower than the one before, FTS5 begins a new segment.
func (b *batch) flush() error {
	slices.SortFunc(b.terms, func(x, y termsRow) int { return cmp.Compare(x.key, y.key) })
	for _, row := range b.terms {
		if _, err := b.exec(`INSERT INTO terms (rowid, body) VALUES (?, ?)`, row.key, row.body); err != nil {
			return err
		}
	}
	b.terms = b.terms[:0]
	return nil
}

func (w *writer) begin() error { return w.conn.exec1(`BEGIN IMMEDIATE`) }

func (w *writer) commit() error {
	err := w.conn.exec1(`COMMIT`)
	if err != nil {
		w.rollback()
	}
	return err
}

// rollback ends the transaction in any case: where SQLite has no longer one or
// cannot end it, the connection is given up and with it the transaction.
func (w *writer) rollback() {
	if err := w.conn.exec1(`ROLLBACK`); err != nil {
		_ = w.conn.close() // what failed before is what the callers get
	}
}

// limitLog resets the log when it has grown too long. That waits for the
// readers under way, for busyTimeout at most; the next check tries again.
func (w *writer) limitLog() {
	info, err := os.Stat(w.path + "-wal")
	w.tooLong = err == nil && info.Size() >= farTooLong
	if err != nil || info.Size() < maxLogBytes {
		return
	}
	var busy, frames, done int64
	_ = w.conn.row(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`, nil, []any{&busy, &frames, &done})
}
