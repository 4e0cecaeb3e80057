package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// FreeSpace erases what is left of removed records in the file, and then gives the space back to the
// disk. It implements jobs.Space and works for all tenants.
//
// The full-text index only marks entries as removed, until a merge rewrites their segments.
// And when SQLite moves a row to another page, the old page keeps a copy in its free
// part. Deleting the row does not reach that copy.
//
// The work is done in laps. A lap has the segments with removed entries written again, then it erases the
// free part of each page, and then the log. So it erases what was removed before it began. What is removed
// meanwhile does not hold it up, and is left to the next lap. Where a lap is, only the memory knows: a process
// that was killed begins with another lap. The file knows whether one is still to begin.
type FreeSpace struct{ db *DB }

// FreeSpace returns the free space of this file.
func (db *DB) FreeSpace() *FreeSpace { return &FreeSpace{db} }

const (
	// scrubPages is how many pages one step reads.
	scrubPages = 1000
	// settledAfter is how long after a removal a lap begins. Otherwise the next removal, which often follows
	// soon, would need another lap.
	settledAfter = time.Second
	// maxUnsettled is how long a lap waits at most for removals that go on.
	maxUnsettled = 30 * time.Second
	// maxScrubbed is the number of pages from which on the first byte of a page no longer says
	// what the page is; see freePart. The file has 256 GiB then.
	maxScrubbed = 1 << 25
	// eraseLog is the page of a lap that has only the log left to erase.
	eraseLog = -1
)

// laps are those of this process.
type laps struct {
	turn     chan struct{} // of one step at a time
	current  lap
	ended    int64     // the last removal before the last lap that has ended
	wantedAt time.Time // when the next one was asked for; zero: it was not
}

func newLaps() laps { return laps{turn: make(chan struct{}, 1)} }

// lap is a lap that is under way. There is none if removal is 0.
type lap struct {
	removal int64        // the last one before the lap began
	merger  mergerKind   // the one that erases; mergerKinds: all have
	asked   <-chan error // its result; nil: it was not asked yet
	failed  error        // of the mergers before
	page    int64        // where to continue, or eraseLog
}

// Pending implements jobs.Space.
func (f *FreeSpace) Pending(ctx context.Context) (removal int64, err error) {
	removal, pending, err := f.db.removals(ctx)
	if err != nil {
		return 0, fmt.Errorf("find what is left to erase: %w", err)
	}
	if !pending {
		return 0, nil
	}
	return removal, nil
}

// Erase implements jobs.Space. Other writes continue between two steps. It does not erase free parts in a file of
// 256 GiB or more.
func (f *FreeSpace) Erase(ctx context.Context, removal int64) (done bool, err error) {
	l := &f.db.laps
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	last, pending, err := f.db.removals(ctx)
	switch {
	case err != nil:
		return false, fmt.Errorf("find what is left to erase: %w", err)
	case !pending:
		l.current, l.ended, l.wantedAt = lap{}, last, time.Time{}
		return f.db.shrunk(ctx)
	case removal <= l.ended:
		return true, nil
	case l.current.removal == 0:
		return false, f.db.beginLap(ctx, last)
	}
	return false, f.db.lapStep(ctx)
}

// removals returns the number of the last removal, and whether something is left of what was removed. Nothing is
// left once a lap has ended without a removal since its beginning.
func (db *DB) removals(ctx context.Context) (last int64, pending bool, err error) {
	err = db.snapshot(ctx, func(c *conn) error {
		err := c.row(ctx, `SELECT round, page != 0 FROM pending_scrub`, nil, []any{&last, &pending})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return last, pending, err
}

// shrunk does a step of giving space back. It reports whether there is none to give.
func (db *DB) shrunk(ctx context.Context) (bool, error) {
	n, err := db.shrink(ctx)
	if err != nil {
		return false, fmt.Errorf("give free space back: %w", err)
	}
	return n == 0, nil
}

// beginLap begins a lap for the removals so far, unless others go on: then it waits for a moment.
func (db *DB) beginLap(ctx context.Context, removal int64) error {
	if db.laps.wantedAt.IsZero() {
		db.laps.wantedAt = time.Now()
	}
	age := time.Since(time.UnixMilli(db.writer.removedAt.Load()))
	// The age is negative if the clock was set back.
	if age >= 0 && age < settledAfter && time.Since(db.laps.wantedAt) < maxUnsettled {
		return backoff.Sleep(ctx, settledAfter-age)
	}
	db.laps.current, db.laps.wantedAt = lap{removal: removal, page: 1}, time.Time{}
	return nil
}

// lapStep does a step of the current lap.
func (db *DB) lapStep(ctx context.Context) error {
	l := &db.laps.current
	switch {
	case l.merger < mergerKinds:
		if err := db.eraseTerms(ctx, l); err != nil {
			return fmt.Errorf("merge the full-text index: %w", err)
		}
		return nil
	case l.page != eraseLog:
		next, err := db.scrub(ctx, l.page)
		if err != nil {
			return fmt.Errorf("scrub the free space: %w", err)
		}
		l.page = next
		return nil
	}
	if err := db.eraseLog(ctx, l.removal); err != nil {
		return fmt.Errorf("erase the log: %w", err)
	}
	db.laps.ended, db.laps.current = l.removal, lap{}
	return nil
}

// scrub erases the free parts of the next pages. It returns where to continue.
func (db *DB) scrub(ctx context.Context, first int64) (next int64, err error) {
	var found []int64
	began := time.Now()
	err = db.long.snapshot(ctx, "", func(c *conn) error {
		pages, err := c.int64(ctx, `SELECT page_count FROM pragma_page_count`)
		if err != nil {
			return err
		}
		if first > pages || pages >= maxScrubbed {
			next = eraseLog
			return nil
		}
		next = min(pages+1, first+scrubPages)
		found, err = c.remnants(ctx, first, next)
		return err
	})
	if err != nil || next == eraseLog {
		return next, err
	}
	db.yieldToOthers(ctx, time.Since(began))
	return next, db.writeInBackground(ctx, workErase, len(found), func(b *batch, from, to int) error { return b.erase(found[from:to]) })
}

// eraseLog erases the log and ends the lap that began after a removal. It returns an *audit.UnavailableError while
// readers prevent it.
func (db *DB) eraseLog(ctx context.Context, removal int64) error {
	erased, err := db.writer.eraseLogNow(ctx, removal)
	switch {
	case err != nil:
		return err
	case !erased:
		return &audit.UnavailableError{Err: errors.New("a read prevents that the log is erased")}
	}
	return db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE pending_scrub SET page = 0 WHERE round = ?`, removal)
		return err
	})
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
		if errors.Is(err, sql.ErrNoRows) {
			continue // another worker gave it back meanwhile
		}
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
