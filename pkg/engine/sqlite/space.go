package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	engine "modernc.org/sqlite"
	engineerr "modernc.org/sqlite/lib"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// minFree is the space, in bytes, below which the disk counts as full. What remains is for
	// the entries that were accepted before, and for removals, which need space in the
	// write-ahead log. Free pages of the file count as half of it at most, because the log is
	// on the disk.
	minFree = 64 << 20
	// fullMemory is how long Ping reports a write that failed for lack of space. A quota
	// can make writes fail although the disk has space.
	fullMemory = 30 * time.Second
)

// writeError is unavailable for the result of a write. It notes when the disk is full.
func (db *DB) writeError(err error) error {
	if isFull(err) {
		now := db.now()
		db.fullAt.Store(&now)
	}
	return asFull(err)
}

func isFull(err error) bool {
	var fault *engine.Error
	return errors.As(err, &fault) && fault.Code()&0xff == engineerr.SQLITE_FULL
}

// asFull is unavailable for an error that can be that of a full disk.
func asFull(err error) error {
	if isFull(err) {
		err = fmt.Errorf("%w: %w", audit.ErrStorageFull, err)
	}
	return unavailable(err)
}

// CheckSpace returns an audit.ErrStorageFull, which is an *audit.UnavailableError, if the disk
// is full or nearly so.
func (db *DB) CheckSpace(ctx context.Context) error {
	if at := db.fullAt.Load(); at != nil && db.now().Sub(*at) < fullMemory {
		return &audit.UnavailableError{Err: fmt.Errorf("%w: a write failed at %s", audit.ErrStorageFull, at.UTC().Format(time.RFC3339))}
	}
	free, err := freeBytes(filepath.Dir(db.writer.path))
	if err != nil {
		return fmt.Errorf("find the free space: %w", err)
	}
	if free >= minFree {
		return nil
	}
	reusable, err := db.reusableBytes(ctx)
	if err != nil {
		return err
	}
	if free+min(reusable, minFree/2) < minFree {
		return &audit.UnavailableError{Err: fmt.Errorf("%w: %d bytes are free", audit.ErrStorageFull, free)}
	}
	return nil
}

// reusableBytes returns the size of the free pages of the file.
func (db *DB) reusableBytes(ctx context.Context) (uint64, error) {
	var size int64
	err := db.snapshot(ctx, func(c *conn) (err error) {
		size, err = c.int64(ctx, `SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size`)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count the free pages: %w", err)
	}
	return uint64(size), nil
}
