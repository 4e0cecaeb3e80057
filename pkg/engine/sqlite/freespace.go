package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// FreeSpace erases what is left of removed records in the file, and then gives the space back to the
// disk. It implements jobs.Purger and works for all tenants: a purge of it comes after those of the
// stores.
//
// The full-text index only marks entries as removed, until a merge rewrites their segments.
// And when SQLite moves a row to another page, the old page keeps a copy in its free
// part. Deleting the row does not reach that copy.
type FreeSpace struct{ db *DB }

// FreeSpace returns the free space of this file.
func (db *DB) FreeSpace() *FreeSpace { return &FreeSpace{db} }

const (
	// scrubPages is how many pages one step reads.
	scrubPages = 1000
	// settledAfter is how long after a removal a step begins. Otherwise each removal would have the work
	// begin again.
	settledAfter = time.Second
	// maxScrubbed is the number of pages from which on the first byte of a page no longer says
	// what the page is; see freePart. The file has 256 GiB then.
	maxScrubbed = 1 << 25
	// eraseLog is the page of a round that has only the log left to erase.
	eraseLog = -1
)

// Purge implements jobs.Purger. It does one step and returns the number of its pages, 0 once
// nothing is left to do. Other writes continue between two steps, and removals are waited for. It does
// not scrub a file of 256 GiB or more.
func (f *FreeSpace) Purge(ctx context.Context, _ audit.TenantID, _ int) (int, error) {
	if settled, err := f.db.awaitRemovals(ctx); err != nil || !settled {
		return 1, err
	}
	n, err := f.db.eraseTerms(ctx)
	if err != nil {
		return 0, fmt.Errorf("merge the full-text index: %w", err)
	}
	if n == 0 {
		if n, err = f.db.scrub(ctx); err != nil {
			return 0, fmt.Errorf("scrub the free space: %w", err)
		}
	}
	if n == 0 {
		if n, err = f.db.shrink(ctx); err != nil {
			return 0, fmt.Errorf("give free space back: %w", err)
		}
	}
	return n, nil
}

// awaitRemovals waits for a moment if records were removed just now. It reports whether none were
// removed meanwhile.
func (db *DB) awaitRemovals(ctx context.Context) (settled bool, err error) {
	sinceRemoval := func() time.Duration { return time.Since(time.UnixMilli(db.writer.removedAt.Load())) }
	if wait := settledAfter - sinceRemoval(); wait > 0 {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(min(wait, settledAfter)): // the clock may have been set back
		}
	}
	return sinceRemoval() >= settledAfter, nil
}

// scrub erases the free parts of the next pages, and returns how many it looked at. A purge
// that removes records meanwhile makes it begin again with the first page.
func (db *DB) scrub(ctx context.Context) (int, error) {
	var round, first, end int64
	var found []int64
	began := time.Now()
	err := db.snapshot(ctx, func(c *conn) (err error) {
		err = c.row(ctx, `SELECT round, page FROM pending_scrub`, nil, []any{&round, &first})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil || first <= 0 {
			return err
		}
		if end, err = c.int64(ctx, `SELECT page_count FROM pragma_page_count`); err != nil {
			return err
		}
		if end >= maxScrubbed {
			end = first // nothing to scrub
		} else {
			end = max(first, min(end+1, first+scrubPages))
		}
		found, err = c.remnants(ctx, first, end)
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case first == eraseLog:
		return 1, db.eraseLog(ctx, round)
	case first == 0:
		return 0, nil
	}
	db.yieldToOthers(ctx, time.Since(began))
	err = db.writeInBackground(ctx, workErase, len(found), func(b *batch, from, to int) error { return b.erase(found[from:to]) })
	if err != nil {
		return 0, err
	}
	next := end
	if first >= end {
		next = eraseLog
	}
	return max(1, int(end-first)), db.scrubNext(ctx, round, next)
}

// scrubNext notes where the round continues, unless a removal has begun another.
func (db *DB) scrubNext(ctx context.Context, round, page int64) error {
	return db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE pending_scrub SET page = ? WHERE round = ?`, page, round)
		return err
	})
}

// eraseLog erases the log and ends the round. It returns an *audit.UnavailableError while
// readers prevent it.
func (db *DB) eraseLog(ctx context.Context, round int64) error {
	erased, err := db.writer.eraseLogNow(ctx)
	switch {
	case err != nil:
		return err
	case !erased:
		return &audit.UnavailableError{Err: errors.New("a read prevents that the log is erased")}
	}
	return db.scrubNext(ctx, round, 0)
}

// remnants returns those of the pages from first to before end whose free part is not empty.
func (c *conn) remnants(ctx context.Context, first, end int64) (found []int64, err error) {
	mapped, err := c.hasPointerMaps(ctx)
	if err != nil {
		return nil, err
	}
	for number := first; number < end; number++ {
		page, err := c.page(ctx, number)
		if err != nil {
			return nil, err
		}
		if mapped && isPointerMap(number, len(page)) {
			continue
		}
		if !isZero(freePart(number, page)) {
			found = append(found, number)
		}
	}
	return found, nil
}

func (c *conn) page(ctx context.Context, number int64) (page []byte, err error) {
	err = c.row(ctx, `SELECT data FROM sqlite_dbpage WHERE pgno = ?`, []any{number}, []any{&page})
	return page, err
}

// erase overwrites the free parts of pages with zeros.
func (b *batch) erase(pages []int64) error {
	if err := b.flush(); err != nil {
		return err
	}
	for _, number := range pages {
		page, err := b.page(context.Background(), number)
		if err != nil {
			return err
		}
		free := freePart(number, page)
		if isZero(free) {
			continue // it was used meanwhile
		}
		clear(free)
		if _, err := b.exec(`UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?`, page, number); err != nil {
			return err
		}
	}
	b.writer.eraseLogSoon()
	return nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Types of B-tree pages.
const (
	interiorIndex = 2
	interiorTable = 5
	leafIndex     = 10
	leafTable     = 13
)

// freePart returns the part of a B-tree page between the list of its cells and the cells,
// which SQLite does not use. It returns nil for other pages, except that it must not be asked for a
// pointer map. They begin with the number
// of another page, of four bytes. Their first byte is 0 in a file of fewer than
// maxScrubbed pages. The format is that of
// https://www.sqlite.org/fileformat2.html#b_tree_pages.
func freePart(number int64, page []byte) []byte {
	const fileHeader = 100
	header := page
	if number == 1 {
		header = page[fileHeader:]
	}
	size := 8
	switch header[0] {
	case interiorIndex, interiorTable:
		size = 12
	case leafIndex, leafTable:
	default:
		return nil
	}
	begin := len(page) - len(header) + size + 2*(int(header[3])<<8|int(header[4]))
	cells := int(header[5])<<8 | int(header[6])
	if cells > len(page) || begin > cells {
		return nil // no page that SQLite wrote
	}
	return page[begin:cells]
}
