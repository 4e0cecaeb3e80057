// Package sqlite is the embedded engine: the system of record, the search
// index, the queues and the administrative stores in one SQLite file. One process
// uses the file at a time, or several that all open it with WithSharedFile.
//
// One goroutine does all writes and commits them in groups, so that concurrent
// writers share one fsync. A write returns nil only after its commit. Each read
// uses one of a few connections and sees one snapshot. Short reads have others than long ones.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	engine "modernc.org/sqlite"
	engineerr "modernc.org/sqlite/lib"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	writerCacheKiB = 64 << 10
	readerCacheKiB = 12 << 10
	shortCacheKiB  = 4 << 10
	pageBytes      = 8 << 10
	busyTimeout    = 5 * time.Second // while another tool has the lock of the file
	// sharedBusyTimeout is longer: processes that share a file write all the time,
	// and SQLite does not queue their writes.
	sharedBusyTimeout = 10 * time.Second
	checkpointPages   = 2000 // 16 MiB of log, after which SQLite writes it back to the file
)

// DB is an open file. Its methods and those of its adapters are safe for concurrent use.
type DB struct {
	lock      *fileLock
	writer    *writer
	read      *sql.DB
	readShort *sql.DB // of short
	short     *readers
	long      *readers
	stats     *readers
	now       func() time.Time
	timing    func() time.Time // for the forecasts of counts
	shared    bool             // other processes may write to the file too
	watcher   *watcher         // of their writes; nil if the file is not shared

	fullAt atomic.Pointer[time.Time] // of the last write for which the disk had no space; nil: none

	numbersMu sync.RWMutex
	numbers   map[audit.TenantID]int64

	signalsMu sync.Mutex
	signals   map[string]*signal
	backlogs  map[string]*backlog

	merges      mergeLimits
	mergers     [mergerKinds]*merger
	stopMergers context.CancelFunc
	laps        laps

	closeOnce sync.Once
	closeErr  error
}

// ErrInUse says that another DB has the file open and the two do not share it.
var ErrInUse = errors.New("the file is in use by another process, or opened twice by this one")

// Option changes how a file is opened.
type Option func(*DB)

// WithClock sets the clock of the queues. The default is time.Now.
func WithClock(now func() time.Time) Option { return func(db *DB) { db.now = now } }

// WithSharedFile lets several DBs, of this or other processes, open the file at the
// same time. All of them need this option. A write waits up to ten seconds for
// writes of others, then it returns an *audit.UnavailableError. A Receive notices
// within 25 ms what another process sent.
func WithSharedFile() Option { return func(db *DB) { db.shared = true } }

// Open opens the file at path. It creates the file or migrates it to the current
// schema. It returns ErrInUse if another DB, of this or another process, has the
// file open and does not share it. It returns an error if the file is not Ocelot's
// or has the schema of a newer release.
func Open(ctx context.Context, path string, opts ...Option) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := &DB{now: time.Now, timing: time.Now, merges: defaultMerges, laps: newLaps(), numbers: map[audit.TenantID]int64{}, signals: map[string]*signal{}, backlogs: map[string]*backlog{}}
	for _, opt := range opts {
		opt(db)
	}
	if err := db.open(ctx, path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

// createPrivate creates the file unless it exists. Only its owner may read it: SQLite gives
// its log the same permissions.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

func (db *DB) open(ctx context.Context, path string) (err error) {
	busy := busyTimeout
	if db.shared {
		busy = sharedBusyTimeout
	}
	if db.lock, err = lockFile(ctx, path+".lock", db.shared); err != nil {
		return err
	}
	if err := createPrivate(path); err != nil {
		return err
	}
	if err := db.openReaders(path, busy); err != nil {
		return err
	}
	if db.writer, err = openWriter(ctx, path, db.shared, busy, db.merges, db.long, db.stats); err != nil {
		return err
	}
	if db.shared {
		db.watcher = newWatcher(db)
	}
	if err := db.loadNumbers(ctx); err != nil {
		return err
	}
	db.startMergers()
	return nil
}

// openReaders prepares the readers. They connect at their first use.
func (db *DB) openReaders(path string, busy time.Duration) (err error) {
	if db.read, err = openReadPool(path, busy, readerCacheKiB); err != nil {
		return err
	}
	if db.readShort, err = openReadPool(path, busy, shortCacheKiB); err != nil {
		return err
	}
	db.short, db.long, db.stats = newReaders(db.readShort, shortReaders), newReaders(db.read, longReaders), newReaders(db.read, statsReaders)
	db.stats.wait = statsWait
	return nil
}

func openReadPool(path string, busy time.Duration, cacheKiB int) (*sql.DB, error) {
	return openPool(path, url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		fmt.Sprintf("cache_size(-%d)", cacheKiB),
		"query_only(1)",
	}})
}

// Close waits for current writes and closes the file. Later calls of the DB fail.
// Each further Close returns the result of the first.
func (db *DB) Close() error {
	db.closeOnce.Do(func() { db.closeErr = db.closeAll() })
	return db.closeErr
}

func (db *DB) closeAll() error {
	var errs []error
	if db.watcher != nil {
		errs = append(errs, db.watcher.end())
	}
	if db.stopMergers != nil {
		db.stopMergers()
		for _, m := range db.mergers {
			errs = append(errs, m.close())
		}
	}
	for _, r := range []*readers{db.short, db.long, db.stats} {
		if r != nil {
			errs = append(errs, r.close())
		}
	}
	for _, pool := range []*sql.DB{db.readShort, db.read} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if db.writer != nil {
		errs = append(errs, db.writer.close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.release())
	}
	return errors.Join(errs...)
}

// Ping returns an error if the file cannot be read or written, or if the write-ahead log cannot be copied into it. The error is an
// audit.ErrStorageFull if the disk is full or nearly so.
func (db *DB) Ping(ctx context.Context) error {
	err := db.snapshot(ctx, func(c *conn) error {
		_, err := c.int64(ctx, `SELECT count(*) FROM (SELECT 1 FROM tenant_numbers LIMIT 1)`)
		return err
	})
	if err == nil {
		err = db.tryWrite(ctx)
	}
	if err == nil {
		err = db.CheckSpace(ctx)
	}
	if err == nil {
		err = asFull(db.writer.checkpoint.failure()) // not of a write now
	}
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// tryWrite asks the writer for a transaction. After a commit that failed, it is one that writes a page: a transaction
// without changes would succeed on a disk that cannot be written. After a checkpoint that failed, another one begins.
func (db *DB) tryWrite(ctx context.Context) error {
	failed := db.writer.commitFailed.Load()
	err := db.write(ctx, func(b *batch) error {
		if b.writer.checkpoint.failure() != nil {
			b.writer.checkpoint.ask() // else the next one waits for pages that are written
		}
		if !failed {
			return nil
		}
		_, err := b.exec(writePage)
		return err
	})
	if err == nil && failed {
		db.writer.commitFailed.Store(false)
	}
	return err
}

// writePage writes the first page, with what it has.
var writePage = fmt.Sprintf(`PRAGMA application_id = %d`, applicationID)

// errClosed is the error of every call after Close.
var errClosed = &audit.UnavailableError{Err: errors.New("the file is closed")}

// snapshot runs f with a reader that sees one snapshot of the file. It is for short reads that no tenant can ask
// for in great number. For others there are the kinds of readers.
func (db *DB) snapshot(ctx context.Context, f func(c *conn) error) error {
	return db.short.snapshot(ctx, "", f)
}

// openPool opens the file with parameters for every connection.
func openPool(path string, params url.Values) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // SQLite takes C: for the name of a host
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: params.Encode()}
	return sql.Open("sqlite", dsn.String())
}

// unavailable makes an error that a retry may fix an *audit.UnavailableError.
func unavailable(err error) error {
	var fault *engine.Error
	if !errors.As(err, &fault) {
		return err
	}
	switch fault.Code() & 0xff {
	case engineerr.SQLITE_BUSY, engineerr.SQLITE_LOCKED, engineerr.SQLITE_FULL, engineerr.SQLITE_NOMEM:
		return &audit.UnavailableError{Err: err}
	}
	return err
}

// fileLock ensures that a DB has the file for itself, or that all its DBs share it.
// It is a lock on an empty SQLite file. Such a lock works the same on every system,
// within a process and between processes, and ends with its process.
type fileLock struct {
	pool *sql.DB
	conn *sql.Conn
}

// lockTimeout is how long a shared lock waits for an exclusive one. Another DB may have
// that briefly, while it fails to open the file for itself.
const lockTimeout = 500 * time.Millisecond

func lockFile(ctx context.Context, path string, shared bool) (*fileLock, error) {
	begin, params := `BEGIN EXCLUSIVE`, url.Values{}
	if shared {
		begin = `BEGIN; SELECT count(*) FROM sqlite_schema` // a read lock lasts until the transaction ends
		params.Set("_pragma", fmt.Sprintf("busy_timeout(%d)", lockTimeout.Milliseconds()))
	}
	pool, err := openPool(path, params)
	if err != nil {
		return nil, err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), pool.Close())
	}
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		if isBusy(err) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock: %w", err), conn.Close(), pool.Close())
	}
	return &fileLock{pool: pool, conn: conn}, nil
}

func isBusy(err error) bool {
	var fault *engine.Error
	return errors.As(err, &fault) && fault.Code()&0xff == engineerr.SQLITE_BUSY
}

func (l *fileLock) release() error { return errors.Join(l.conn.Close(), l.pool.Close()) }
