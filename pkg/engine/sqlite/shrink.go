package sqlite

import (
	"context"
	"fmt"
)

// The pages of what was removed are free: new records take them first. FreeSpace gives those beyond a
// reserve back to the disk. SQLite moves pages from the end of the file to free ones (incremental
// vacuum). To find what refers to a page, the file has pages that map each page to it (pointer maps). A
// file from before that has none: its free pages are only used again.

const (
	// shrinkReserve is the part of its pages that a file keeps free, and leastReserve the pages that it
	// keeps free at least, for what comes next.
	shrinkReserve = 32
	leastReserve  = 128 // 1 MiB
)

// shrink does a step of giving free pages back, and returns their number. It does none before
// everything is erased: a page that moves takes what its free part has with it.
func (db *DB) shrink(ctx context.Context) (pages int, err error) {
	surplus := 0
	err = db.snapshot(ctx, func(c *conn) error {
		surplus, err = c.surplus(ctx)
		return err
	})
	if err != nil || surplus == 0 {
		return 0, err
	}
	err = db.backgroundStep(ctx, workShrink, func(b *batch, parts int) error {
		pages, err = b.shrink(parts)
		return err
	})
	return pages, err
}

func (b *batch) shrink(most int) (pages int, err error) {
	ctx := context.Background()
	pending, err := b.int64(ctx, `SELECT count(*) FROM pending_scrub WHERE page != 0`)
	if err != nil || pending > 0 {
		return 0, err
	}
	surplus, err := b.surplus(ctx)
	if err != nil || surplus == 0 {
		return 0, err
	}
	before, err := b.int64(ctx, `PRAGMA page_count`)
	if err != nil {
		return 0, err
	}
	if err := b.flush(); err != nil {
		return 0, err
	}
	// The statement gives back a page for each row that is read.
	query := fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(most, surplus))
	if err := b.eachUnprepared(ctx, query, nil, nil, func() (bool, error) { return true, nil }); err != nil {
		return 0, err
	}
	b.writer.eraseLogSoon() // a checkpoint makes the file smaller
	after, err := b.int64(ctx, `PRAGMA page_count`)
	return int(before - after), err
}

// surplus returns the number of free pages that the file can give back.
func (c *conn) surplus(ctx context.Context) (int, error) {
	if mapped, err := c.hasPointerMaps(ctx); err != nil || !mapped {
		return 0, err
	}
	pages, err := c.int64(ctx, `PRAGMA page_count`)
	if err != nil {
		return 0, err
	}
	free, err := c.int64(ctx, `PRAGMA freelist_count`)
	return int(max(free-max(pages/shrinkReserve, leastReserve), 0)), err
}

// isPointerMap reports whether a page of a file with pointer maps is one. The first is page 2; each has
// five bytes for each page after it. See https://www.sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages.
// (None lies at the byte 2^30, which SQLite leaves out, for pages of this size.)
func isPointerMap(number int64, pageSize int) bool {
	return number >= 2 && (number-2)%int64(pageSize/5+1) == 0
}

// hasPointerMaps reports whether the file has pointer maps.
func (c *conn) hasPointerMaps(ctx context.Context) (bool, error) {
	mode, err := c.int64(ctx, `PRAGMA auto_vacuum`)
	return mode != 0, err
}
