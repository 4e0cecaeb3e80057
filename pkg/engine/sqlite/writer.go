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

// The writer truncates the write-ahead log itself if readers keep SQLite from
// doing so and the log reaches maxLogBytes. It checks the size every
// logCheckEvery groups. From urgentLogBytes on it checks after each group, so
// that writers wait instead of letting the log grow.
const (
	maxLogBytes    = 256 << 20
	urgentLogBytes = 320 << 20
	logCheckEvery  = 8
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
	erasures   chan chan bool  // requests to erase the log at once; they get whether it was
	closing    chan struct{}
	closed     chan struct{}
	groups     int
	logUrgent  bool // the log had urgentLogBytes at the last check
	pace       pace
	othersAt   atomic.Int64 // Unix milliseconds of the last group that was not of the background
	removedAt  atomic.Int64 // Unix milliseconds of the last removal
	checkpoint *checkpointer

	eraseLogAt   time.Time // when to erase removed records from the log; zero: it has none
	eraseLogLast time.Time // when to erase them although more are removed
	eraseCopied  bool      // whether the log was copied for this
	eraseTries   int       // attempts that failed since it was last erased

	shared      bool  // other processes write to the file too
	lastMessage int64 // the highest number of a message that this process knows of

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

func openWriter(ctx context.Context, path string, shared bool, busy time.Duration, merges mergeLimits) (*writer, error) {
	// The driver sets the journal mode after the pragmas. From then on the page
	// size is fixed.
	pragmas := []string{fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()), fmt.Sprintf("page_size(%d)", pageBytes)}
	if info, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		// After the page size, which it fixes; see shrink.go. On a file that exists it is a write.
		pragmas = append(pragmas, "auto_vacuum(incremental)")
	}
	pool, err := openPool(path, url.Values{"_journal_mode": {"wal"}, "_txlock": {"immediate"}, "_pragma": append(pragmas,
		"synchronous(full)",
		"secure_delete(1)", // overwrites what is removed with zeros
		fmt.Sprintf("cache_size(-%d)", writerCacheKiB),
		fmt.Sprintf("wal_autocheckpoint(%d)", 2*checkpointPages), // the log can only begin again while nobody writes
		fmt.Sprintf("journal_size_limit(%d)", 2*checkpointPages*pageBytes),
	)})
	if err != nil {
		return nil, err
	}
	w := &writer{
		path: path, busy: busy, pool: pool, conn: conn{pool: pool}, shared: shared, folds: defaultFolds, foldings: map[int64]*folding{}, recentDocs: map[int64]int{},
		segments: newSegmentCache(), merges: merges, level0: level0{avoid: avoided{}}, level0Full: make(chan struct{}, 1),
		operations: make(chan *operation), large: make(chan *operation), background: make(chan *operation), pace: newPace(), erasures: make(chan chan bool), closing: make(chan struct{}), closed: make(chan struct{}),
	}
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
	if !w.eraseLogAt.IsZero() {
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
		case erased := <-w.erasures:
			erased <- w.truncateLog(eraseLogNowWait)
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
	next := w.eraseLogAt
	if w.pace.resumeAt.After(now) && (next.IsZero() || w.pace.resumeAt.Before(next)) {
		next = w.pace.resumeAt
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}

const (
	// eraseLogDelay lets the removals that follow each other be erased together. While they go on, the
	// log is erased each maxEraseDelay: writers wait for it, and then for the file to be synchronized.
	eraseLogDelay = 500 * time.Millisecond
	maxEraseDelay = 20 * time.Second
	// eraseCopyTime is how long the checkpointer gets for copying the log before.
	eraseCopyTime = 200 * time.Millisecond
	// eraseLogWait bounds the wait of the first attempt for readers. Writers wait as
	// long. The wait doubles with each attempt, up to the writer's busy time.
	eraseLogWait = 50 * time.Millisecond
	// eraseLogNowWait bounds the wait of eraseLogNow for readers. Writers wait as long.
	eraseLogNowWait = 500 * time.Millisecond
	// checkpointWait is how long one checkpoint waits for readers. See truncateLog.
	checkpointWait = 100 * time.Millisecond
	// truncatePause is the time between two attempts.
	truncatePause = 5 * time.Millisecond
)

// eraseLogSoon makes the writer erase the log. The log has copies of the pages from which
// records were removed.
func (w *writer) eraseLogSoon() {
	now := time.Now()
	if w.eraseLogAt.IsZero() {
		w.eraseLogLast, w.eraseCopied = now.Add(maxEraseDelay), false
	}
	if w.eraseLogAt = now.Add(eraseLogDelay); w.eraseLogAt.After(w.eraseLogLast) {
		w.eraseLogAt = w.eraseLogLast
	}
}

// eraseLogNow erases the log. It reports false if readers prevent it.
func (w *writer) eraseLogNow(ctx context.Context) (erased bool, err error) {
	answer := make(chan bool, 1)
	select {
	case w.erasures <- answer:
	case <-ctx.Done():
		return false, ctx.Err()
	case <-w.closing:
		return false, errClosed
	}
	return <-answer, nil
}

// eraseLogIfDue erases the log if its time has come. The checkpointer copies most of it before, so that
// writers wait little. A reader can prevent it, which is tried again then.
func (w *writer) eraseLogIfDue() {
	now := time.Now()
	switch {
	case w.eraseLogAt.IsZero() || now.Before(w.eraseLogAt):
	case w.checkpoint.running.Load():
		w.eraseLogAt = now.Add(truncatePause)
	case !w.eraseCopied:
		w.checkpoint.ask()
		w.eraseCopied, w.eraseLogAt = true, now.Add(eraseCopyTime)
		w.eraseLogLast = w.eraseLogAt
	case w.truncateLog(backoff.Policy{First: eraseLogWait, Max: w.busy}.Delay(w.eraseTries + 1)):
	default:
		w.eraseTries++
		w.eraseLogAt = now.Add(eraseLogDelay)
		w.eraseLogLast, w.eraseCopied = w.eraseLogAt, false
	}
}

// limitLog truncates the log if it has reached maxLogBytes. On failure the next check
// tries again.
func (w *writer) limitLog() {
	info, err := os.Stat(w.path + "-wal")
	w.logUrgent = err == nil && info.Size() >= urgentLogBytes
	if err == nil && info.Size() >= maxLogBytes {
		w.truncateLog(w.busy)
	}
}

// truncateLog copies the log into the file and truncates it. It reports whether it has
// done so. It waits for current readers, for the given time at most.
//
// It makes several short attempts. A checkpoint waits for the lock of each old reader, and a
// new reader can take the same lock over, for which the checkpoint waits in vain. The next
// attempt sees that the new reader needs only the end of the log. No write comes between two
// attempts, so once the log is copied, new readers no longer need it.
func (w *writer) truncateLog(wait time.Duration) (truncated bool) {
	if err := w.setBusyTimeout(min(wait, checkpointWait)); err != nil {
		return false
	}
	for end := time.Now().Add(wait); ; {
		busy := int64(1)
		err := w.conn.row(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`, nil, []any{&busy, new(int64), new(int64)})
		truncated = err == nil && busy == 0
		if truncated || err != nil || !time.Now().Before(end) {
			break
		}
		time.Sleep(truncatePause) // while the checkpointer works, an attempt ends at once
	}
	if resetErr := w.setBusyTimeout(w.busy); resetErr != nil {
		_ = w.conn.close() // the next statement connects with the usual timeout
	}
	if truncated {
		w.eraseLogAt, w.eraseTries = time.Time{}, 0 // nothing is left to erase
	}
	return truncated
}

func (w *writer) setBusyTimeout(d time.Duration) error {
	if err := w.conn.connect(); err != nil {
		return err
	}
	_, err := w.conn.link.ExecContext(context.Background(), fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds()))
	return err
}
