// Package sqlite is the embedded engine: the system of record, the search
// index, the queues and the administrative stores in one SQLite file, used by
// one process at a time, or by several that all say WithSharedFile.
//
// All writes go through one goroutine that commits them in groups, so that
// concurrent writers share one fsync. A write returns nil only after its commit.
// Reads come from a small pool of connections and see one snapshot each.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	engine "modernc.org/sqlite"
	engineerr "modernc.org/sqlite/lib"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	readerCount    = 4
	writerCacheKiB = 64 << 10
	readerCacheKiB = 12 << 10
	pageBytes      = 8 << 10
	busyTimeout    = 5 * time.Second // for a foreign tool that holds the file's lock for a moment
	// sharedBusyTimeout is longer: the processes that share a file write all the
	// time, and SQLite does not queue them.
	sharedBusyTimeout = 10 * time.Second
	checkpointPages   = 4000 // 32 MiB of log before SQLite writes it back to the file
)

// DB is an open file. Its methods and those of its adapters are safe for concurrent use.
type DB struct {
	lock    *fileLock
	writer  *writer
	read    *sql.DB
	readers chan *conn // holds every reader that is not in use
	now     func() time.Time
	shared  bool     // other processes may write to the file, too
	foreign *watcher // of their writes; nil where not shared

	numbersMu sync.RWMutex
	numbers   map[audit.TenantID]int64

	signalsMu sync.Mutex
	signals   map[string]*signal

	closeOnce sync.Once
	closeErr  error
}

// ErrInUse is what Open fails with where another DB has the file open and the
// two do not share it.
var ErrInUse = errors.New("the file is in use by another process, or opened twice by this one")

// Option changes how a file is opened.
type Option func(*DB)

// WithClock has the queues read the time from now instead of time.Now.
func WithClock(now func() time.Time) Option { return func(db *DB) { db.now = now } }

// WithSharedFile lets other DBs, of this process and of others, have the file
// open at the same time, all of them with this option. A write waits for those of
// others, for ten seconds at most; then it fails with an *audit.UnavailableError.
// A Receive learns within 25 ms of what another process sent.
func WithSharedFile() Option { return func(db *DB) { db.shared = true } }

// Open opens the file at path, which it creates or brings to the current
// schema. It fails when another DB, of this process or another one, has the
// file open and does not share it, and when the file is not Ocelot's or is of a
// newer release.
func Open(ctx context.Context, path string, opts ...Option) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := &DB{now: time.Now, numbers: map[audit.TenantID]int64{}, signals: map[string]*signal{}}
	for _, opt := range opts {
		opt(db)
	}
	if err := db.open(ctx, path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, path string) (err error) {
	busy := busyTimeout
	if db.shared {
		busy = sharedBusyTimeout
	}
	if db.lock, err = lockFile(ctx, path+".lock", db.shared); err != nil {
		return err
	}
	if db.writer, err = openWriter(ctx, path, db.shared, busy); err != nil {
		return err
	}
	db.read, err = openPool(path, url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()),
		fmt.Sprintf("cache_size(-%d)", readerCacheKiB),
		"query_only(1)",
	}})
	if err != nil {
		return err
	}
	db.readers = make(chan *conn, readerCount)
	for range readerCount {
		db.readers <- &conn{pool: db.read}
	}
	if db.shared {
		db.foreign = newWatcher(db)
	}
	return db.loadNumbers(ctx)
}

// Close waits for the writes under way and closes the file. Writes that begin
// later fail. Closing again does nothing and returns what the first Close did.
func (db *DB) Close() error {
	db.closeOnce.Do(func() { db.closeErr = db.shut() })
	return db.closeErr
}

func (db *DB) shut() error {
	var errs []error
	if db.foreign != nil {
		errs = append(errs, db.foreign.end())
	}
	if db.readers != nil {
		for range readerCount {
			errs = append(errs, (<-db.readers).close())
		}
		close(db.readers)
	}
	if db.read != nil {
		errs = append(errs, db.read.Close())
	}
	if db.writer != nil {
		errs = append(errs, db.writer.close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.release())
	}
	return errors.Join(errs...)
}

// Ping reports whether the file can be read and written.
func (db *DB) Ping(ctx context.Context) error {
	err := db.snapshot(ctx, func(c *conn) error {
		_, err := c.int64(ctx, `SELECT count(*) FROM (SELECT 1 FROM tenant_numbers LIMIT 1)`)
		return err
	})
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if err := db.write(ctx, func(*batch) error { return nil }); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// errClosed answers whatever is asked of a DB after Close.
var errClosed = &audit.UnavailableError{Err: errors.New("the file is closed")}

// snapshot runs f with a reader that sees one state of the file throughout.
func (db *DB) snapshot(ctx context.Context, f func(c *conn) error) error {
	var c *conn
	select {
	case <-ctx.Done():
		return ctx.Err()
	case c = <-db.readers:
		if c == nil {
			return errClosed
		}
	}
	defer func() { db.readers <- c }()
	if err := c.exec1(`BEGIN`); err != nil {
		return unavailable(errors.Join(err, c.close()))
	}
	err := f(c)
	// The transaction has written nothing. Where it cannot be ended the
	// connection is given up; the next reader opens another.
	if endErr := c.exec1(`ROLLBACK`); endErr != nil {
		err = errors.Join(err, c.close())
	}
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // whatever the interrupted statement said
	}
	return unavailable(err)
}

// openPool opens the file with parameters that every connection gets.
func openPool(path string, params url.Values) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: params.Encode()}
	return sql.Open("sqlite", dsn.String())
}

// unavailable marks the errors after which a retry makes sense.
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

// fileLock says that this DB alone serves the file, or with others that share
// it. It is a lock on an empty SQLite file, which works the same on every system,
// within a process and between processes, and ends with the process.
type fileLock struct {
	pool *sql.DB
	held *sql.Conn
}

// lockPatience is how long a shared lock waits for somebody who only tries to
// have the file for himself.
const lockPatience = 500 * time.Millisecond

func lockFile(ctx context.Context, path string, shared bool) (*fileLock, error) {
	begin, params := `BEGIN EXCLUSIVE`, url.Values{}
	if shared {
		begin = `BEGIN; SELECT count(*) FROM sqlite_schema` // what was read stays locked until the transaction's end
		params.Set("_pragma", fmt.Sprintf("busy_timeout(%d)", lockPatience.Milliseconds()))
	}
	pool, err := openPool(path, params)
	if err != nil {
		return nil, err
	}
	held, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), pool.Close())
	}
	if _, err := held.ExecContext(ctx, begin); err != nil {
		if isBusy(err) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock: %w", err), held.Close(), pool.Close())
	}
	return &fileLock{pool: pool, held: held}, nil
}

func isBusy(err error) bool {
	var fault *engine.Error
	return errors.As(err, &fault) && fault.Code()&0xff == engineerr.SQLITE_BUSY
}

func (l *fileLock) release() error { return errors.Join(l.held.Close(), l.pool.Close()) }
