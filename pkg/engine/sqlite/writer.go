package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// writer is the only goroutine that writes. The context of a caller decides only
// whether its operation starts. It never interrupts a running one.
type writer struct {
	path       string
	busy       time.Duration // the usual wait for other processes
	pool       *sql.DB
	conn       conn
	operations chan *operation
	large      chan *operation // operations with many rows; see DB.writeRows
	background chan *operation // operations that nobody waits for; see background.go
	erasures   chan eraseRequest
	closing    chan struct{}
	closed     chan struct{}
	pace       pace
	othersAt   atomic.Int64 // Unix milliseconds of the last group that was not of the background
	removedAt  atomic.Int64 // Unix milliseconds of the last removal
	// commitFailed is set by a commit that failed. See DB.tryWrite.
	commitFailed atomic.Bool
	checkpoint   *checkpointer

	log       logLimits
	longReads []*readers // which can keep the log from being truncated

	shared      bool  // other processes write to the file too
	lastMessage int64 // the highest number of a message that this process knows of

	inFlight inFlight
	undo     []func() // changes of inFlight by the current transaction
	recall   recall
	folds    foldLimits
	foldings map[int64]*folding // by tenant

	blocks     blockSizer
	recentDocs map[int64]int // their size in bytes by tenant, about

	segments   *segmentCache
	fresh      []freshSegment // of the current transaction
	level0     level0
	merges     mergeLimits
	level0Full chan struct{} // wakes the merger of level 0
}

// operation is one write. run may be called a second time after a rollback.
type operation struct {
	run     func(b *batch) error
	claimed atomic.Bool // by the writer, which runs it, or by its caller, which cancels it
	done    chan error

	background bool // nobody waits for it
	work       work // if background is set
}

// batch gives an operation access to the file.
type batch struct {
	*conn
	writer *writer
	terms  []postings.Placed // of entries whose tokens are not written yet
	folds  []int64           // tenants with enough recent facets to move
	packs  []int64           // tenants with enough recent documents to pack
}

// unchangedError is the error of an operation that wrote nothing. It needs no rollback.
type unchangedError struct{ err error }

func (e *unchangedError) Error() string { return e.err.Error() }

// unchanged returns an error that passes err to the caller of an operation. The
// operation must not have written anything.
func unchanged(err error) error { return &unchangedError{err} }

// missed says why a conditional write changed no row: audit.ErrPrecondition if the query counts a
// row, whose state was another, and audit.ErrNotFound if it counts none.
func (b *batch) missed(query string, args ...any) error {
	found, err := b.int64(context.Background(), query, args...)
	switch {
	case err != nil:
		return err
	case found == 0:
		return unchanged(audit.ErrNotFound)
	}
	return unchanged(audit.ErrPrecondition)
}

func openWriter(ctx context.Context, path string, shared bool, busy time.Duration, merges mergeLimits, longReads ...*readers) (*writer, error) {
	// The driver sets the journal mode after the pragmas. From then on the page size is fixed.
	// So it is from auto_vacuum on. The driver sorts the pragmas, so one has both, in their order.
	pragmas := []string{fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds())}
	if info, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		// See shrink.go. On a file that exists it is a write.
		pragmas = append(pragmas, fmt.Sprintf("page_size(%d); PRAGMA auto_vacuum(incremental)", pageBytes))
	}
	pool, err := openPool(path, url.Values{"_journal_mode": {"wal"}, "_txlock": {"immediate"}, "_pragma": append(pragmas,
		"synchronous(full)",
		"temp_store(memory)", // the pages before an INSERT of many rows, up to its end
		"secure_delete(1)",   // overwrites what is removed with zeros
		fmt.Sprintf("cache_size(-%d)", writerCacheKiB),
		fmt.Sprintf("wal_autocheckpoint(%d)", 2*checkpointPages), // the log can only begin again while nobody writes
		fmt.Sprintf("journal_size_limit(%d)", 2*checkpointPages*pageBytes),
	)})
	if err != nil {
		return nil, err
	}
	w := &writer{
		path: path, busy: busy, pool: pool, conn: conn{pool: pool}, shared: shared, longReads: longReads, folds: defaultFolds, foldings: map[int64]*folding{}, recentDocs: map[int64]int{},
		segments: newSegmentCache(), merges: merges, level0: level0{avoid: avoided{}}, level0Full: make(chan struct{}, 1),
		operations: make(chan *operation), large: make(chan *operation), background: make(chan *operation), pace: newPace(), erasures: make(chan eraseRequest), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	w.inFlight.queues = map[string]*deliveries{}
	w.forget()
	if err := w.prepare(ctx); err != nil {
		return nil, errors.Join(err, w.conn.close(), pool.Close())
	}
	w.checkpoint = newCheckpointer(pool)
	go w.loop()
	return w, nil
}

// connectRetries are the delays between attempts to connect. The first connection switches a
// new file to the write-ahead log. SQLite does not wait if several processes do so at once.
var connectRetries = backoff.Policy{First: 5 * time.Millisecond, Max: 100 * time.Millisecond, Jitter: backoff.FullJitter}

const maxConnects = 50

func (w *writer) prepare(ctx context.Context) error {
	if err := connectRetries.Retry(ctx, maxConnects, isBusy, w.conn.connect); err != nil {
		return err
	}
	if err := w.conn.migrate(ctx); err != nil {
		return err
	}
	if err := w.migrateRows(ctx, "pack documents", (*batch).packOlderDocs); err != nil {
		return err
	}
	if err := w.migrateRows(ctx, "pack facets", (*batch).packOlderFacets); err != nil {
		return err
	}
	if err := w.migrateRows(ctx, "rebuild the full-text index", (*batch).rebuildTerms); err != nil {
		return err
	}
	if err := (&batch{conn: &w.conn, writer: w}).countLevel0(); err != nil {
		return err
	}
	w.eraseLogSoon() // an earlier process may have been killed before it did
	return w.raiseLastMessage(ctx)
}

// raiseLastMessage ensures that no message, not even of an earlier process, had the
// next number. The number is at least the current Unix time in microseconds, and
// messages are sent more slowly than one a microsecond.
func (w *writer) raiseLastMessage(ctx context.Context) error {
	highest, err := w.conn.int64(ctx, `SELECT coalesce(max(number), 0) FROM messages`)
	if err != nil {
		return err
	}
	w.lastMessage = max(w.lastMessage, highest, time.Now().UnixMicro())
	return nil
}

// syncLastMessage must be called before an operation numbers messages. Other
// processes may have numbered messages in a shared file.
func (w *writer) syncLastMessage() error {
	if !w.shared {
		return nil
	}
	return w.raiseLastMessage(context.Background())
}

// close stops the writer after the current group.
func (w *writer) close() error {
	close(w.closing)
	<-w.closed
	if !w.log.eraseAt.IsZero() {
		w.truncateLog(w.busy) // the last to close the file erases it anyway
	}
	return errors.Join(w.checkpoint.close(), w.conn.close(), w.pool.Close())
}

// write runs an operation on the writer and returns its result once it is
// durable. If ctx ends before the writer claims the operation, it never runs.
// Otherwise write waits for the result.
func (db *DB) write(ctx context.Context, run func(b *batch) error) error {
	return db.writeTo(ctx, db.writer.operations, &operation{run: run})
}

const (
	// maxRows is the number of rows that writeRows writes in one operation: about 10 ms of work.
	maxRows = 200
	// fewRows is the number of rows from which on an operation is a large one.
	fewRows = 20
)

// writeRows writes rows with one operation for each maxRows of them. The writer prefers other
// operations to those with many rows, so that a tenant's bulks delay the entries of others
// little. After an error some of the rows may be written.
func (db *DB) writeRows(ctx context.Context, rows int, run func(b *batch, from, to int) error) error {
	return db.writeSteps(ctx, rows, maxRows, db.operationsFor(rows), run)
}

// writeSteps writes n parts with one operation for each step of them.
func (db *DB) writeSteps(ctx context.Context, n, step int, operations chan<- *operation, run func(b *batch, from, to int) error) error {
	for from := 0; from < n; from += step {
		to := min(n, from+step)
		if err := db.writeTo(ctx, operations, &operation{run: func(b *batch) error { return run(b, from, to) }}); err != nil {
			return err
		}
	}
	return nil
}

// operationsFor returns the channel for operations with that many rows.
func (db *DB) operationsFor(rows int) chan<- *operation {
	if rows > fewRows {
		return db.writer.large
	}
	return db.writer.operations
}

// writeTo sends an operation to the writer and returns its result; see write.
func (db *DB) writeTo(ctx context.Context, operations chan<- *operation, op *operation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op.done = make(chan error, 1)
	select {
	case operations <- op:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.writer.closing:
		return errClosed
	}
	select {
	case err := <-op.done:
		return db.writeError(err)
	case <-ctx.Done():
	}
	if op.claimed.CompareAndSwap(false, true) {
		return ctx.Err()
	}
	return db.writeError(<-op.done)
}

func (w *writer) loop() {
	defer close(w.closed)
	for {
		now := time.Now() // the same for both: else a pause that ends between them would never end
		select {
		case <-w.closing:
			return
		case op := <-w.operations:
			w.commitGroup(op)
		case op := <-w.large: // a group begins with either, so that neither waits for ever
			w.commitGroup(op)
		case op := <-w.backgroundIfDue(now):
			w.commitGroup(op)
		case request := <-w.erasures:
			request.erased <- w.eraseLogFor(request.round)
		case <-w.timer(now):
		}
		w.eraseLogIfDue()
	}
}

// backgroundIfDue returns the operations of the background, nil during a pause.
func (w *writer) backgroundIfDue(now time.Time) <-chan *operation {
	if now.Before(w.pace.resumeAt) {
		return nil
	}
	return w.background
}

// timer returns a channel that fires when it is time to erase the log, or when a pause of the background
// ends.
func (w *writer) timer(now time.Time) <-chan time.Time {
	next := w.log.eraseAt
	if w.pace.resumeAt.After(now) && (next.IsZero() || w.pace.resumeAt.Before(next)) {
		next = w.pace.resumeAt
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}
