package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	engine "modernc.org/sqlite"
	engineerr "modernc.org/sqlite/lib"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// minFree is the free space, in bytes, below which the disk counts as full. The
	// write-ahead log usually takes less.
	minFree = 64 << 20
	// fullMemory is how long Ping reports a write that failed for lack of space. A quota
	// can make writes fail although the disk has space.
	fullMemory = 30 * time.Second
)

// writeError is unavailable for the result of a write. It notes when the disk is full.
func (db *DB) writeError(err error) error {
	var fault *engine.Error
	if errors.As(err, &fault) && fault.Code()&0xff == engineerr.SQLITE_FULL {
		db.fullAt.Store(db.now().UnixNano())
		err = fmt.Errorf("%w: %w", audit.ErrStorageFull, err)
	}
	return unavailable(err)
}

// checkSpace returns an audit.ErrStorageFull if the disk is full or nearly so.
func (db *DB) checkSpace() error {
	if at := db.fullAt.Load(); at != 0 && db.now().Sub(time.Unix(0, at)) < fullMemory {
		return &audit.UnavailableError{Err: fmt.Errorf("%w: a write failed at %s", audit.ErrStorageFull, time.Unix(0, at).UTC().Format(time.RFC3339))}
	}
	free, err := freeBytes(filepath.Dir(db.writer.path))
	if err != nil {
		return fmt.Errorf("find the free space: %w", err)
	}
	if free < minFree {
		return &audit.UnavailableError{Err: fmt.Errorf("%w: %d bytes are free", audit.ErrStorageFull, free)}
	}
	return nil
}
