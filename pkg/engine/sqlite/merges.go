package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// Each transaction that indexes entries adds a segment of level 0. Merges make few large segments of
// many small ones. They run in the background: a merge writes its pages into an unfinished segment, which
// nobody reads, in short operations between the writes of others. The last one makes the
// segment visible and retires those that it replaces. Their pages are removed after that.
//
// A process that is killed leaves unfinished or retired segments. The next merge removes them.

// mergeLimits say when segments are merged.
type mergeLimits struct {
	// segments, docs and bytes are what level 0 must reach to be merged: one of them.
	segments, docs int
	bytes          int64
	// most is the number of segments of level 0 at which the writer merges some itself, in the
	// current transaction, because the merges in the background do not keep up.
	most int
	// atOnce is the number of segments of another level that become one of the next.
	atOnce int
	// large is the number of documents from which on a segment is large enough.
	large int
}

var defaultMerges = mergeLimits{segments: 64, docs: 8192, bytes: 32 << 20, most: 256, atOnce: 8, large: 1 << 17}

// level0 is what the writer knows of the segments of level 0.
type level0 struct {
	segments int   // that there are, about
	added    total // since the merger was woken
	avoid    avoided
}

// total is the size of some segments.
type total struct {
	segments, docs int
	bytes          int64
}

// add adds a segment.
func (t *total) add(docs int, bytes int64) {
	t.segments++
	t.docs += docs
	t.bytes += bytes
}

func totalOf(rows []segmentRow) (t total) {
	for i := range rows {
		t.add(rows[i].Docs, rows[i].Bytes)
	}
	return t
}

// avoided are segments that are damaged, so that they cannot be merged. Searches of them fail.
// Others can be stored, merged and found still.
type avoided map[int64]bool

// add adds those segments of a merge that cannot be read, if it failed because of them. It adds all of them if
// each can be read alone. It reports whether some were added that were not avoided before.
func (a avoided) add(ctx context.Context, c *conn, inputs []segmentRow, failed error) (added bool) {
	if !errors.Is(failed, postings.ErrDamaged) {
		return false
	}
	damaged := slices.DeleteFunc(slices.Clone(inputs), func(row segmentRow) bool { return c.canMerge(ctx, row) })
	if len(damaged) == 0 {
		damaged = inputs
	}
	for i := range damaged {
		if number := damaged[i].Number; !a[number] {
			a[number], added = true, true
			slog.WarnContext(ctx, "a part of the full-text index cannot be merged", "segment", number, "error", failed)
		}
	}
	return added
}

// canMerge reports whether a segment is not damaged, as far as a merge reads it.
func (c *conn) canMerge(ctx context.Context, row segmentRow) bool {
	snapshot, err := c.snapshotOf(ctx, nil, []segmentRow{row})
	if err == nil {
		_, err = snapshot.Merge(ctx, func(int, []byte) error { return nil })
	}
	return !errors.Is(err, postings.ErrDamaged)
}

// without returns the other segments.
func (a avoided) without(rows []segmentRow) []segmentRow {
	return slices.DeleteFunc(rows, func(row segmentRow) bool { return a[row.Number] })
}

// due reports whether segments of level 0 of that size are merged.
func (l *mergeLimits) due(t total) bool {
	return t.segments >= l.segments || t.docs >= l.docs || t.bytes >= l.bytes
}

// enough reports whether segments of level 0 of that size are enough for one merge.
func (l *mergeLimits) enough(t total) bool { return t.docs >= 2*l.docs || t.bytes >= l.bytes }

// newest returns the last of some segments of level 0, as many as the writer merges at once.
func (l *mergeLimits) newest(rows []segmentRow) []segmentRow {
	from := len(rows)
	for t := (total{}); from > 0 && t.segments < l.segments && !l.enough(t); {
		from--
		t.add(rows[from].Docs, rows[from].Bytes)
	}
	return rows[from:]
}

// countLevel0 counts the segments of level 0 exactly.
func (b *batch) countLevel0() error {
	return b.row(context.Background(), `SELECT count(*) FROM segments WHERE state = 1 AND level = 0`, nil, []any{&b.writer.level0.segments})
}

// boundLevel0 merges segments of level 0 if there are too many: the newest, because the background merges the
// oldest.
func (b *batch) boundLevel0() error {
	l := &b.writer.level0
	if l.segments+len(b.writer.fresh) < b.writer.merges.most+len(l.avoid) {
		return nil
	}
	rows, err := b.segmentsIn(context.Background(), everything)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(row segmentRow) bool { return row.Level > 0 || b.writer.isFresh(row.Number) })
	l.segments = len(rows)
	if rows = l.avoid.without(rows); len(rows) < b.writer.merges.most {
		return nil
	}
	rows = b.writer.merges.newest(rows)
	failed, err := b.mergeNow(rows)
	if err == nil && l.avoid.add(context.Background(), b.conn, rows, failed) {
		return nil
	}
	return errors.Join(failed, err)
}

// mergeNow merges segments of level 0 within the current transaction. If that failed, it has written nothing,
// unless it returns another error.
func (b *batch) mergeNow(rows []segmentRow) (failed, err error) {
	if err := b.run(`SAVEPOINT merge`); err != nil {
		return nil, err
	}
	if failed = b.mergeLevel0(rows); failed != nil {
		err = b.run(`ROLLBACK TO merge`)
	}
	return failed, errors.Join(err, b.run(`RELEASE merge`))
}

func (b *batch) mergeLevel0(rows []segmentRow) error {
	snapshot, err := b.snapshotOf(context.Background(), nil, rows)
	if err != nil {
		return err
	}
	snapshot.Cache = b.writer.segments.pages
	if err := b.insertMerged(snapshot); err != nil {
		return err
	}
	for i := range rows {
		if _, err := b.removePages(rows[i].Number, math.MaxInt); err != nil {
			return err
		}
	}
	return b.countLevel0()
}

// insertMerged inserts a segment of level 1 of the documents of a snapshot.
func (b *batch) insertMerged(snapshot *postings.Snapshot) error {
	number, err := b.insertSegment(segmentUnfinished, mergesLevel0, &postings.Info{Level: 1})
	if err != nil {
		return err
	}
	info, err := snapshot.Merge(context.Background(), func(page int, data []byte) error { return b.insertPage(number, page, data) })
	if err != nil {
		return err
	}
	info.Number, info.Level = number, 1
	if info.Docs == 0 {
		_, err := b.removePages(number, math.MaxInt)
		return err
	}
	b.writer.fresh = append(b.writer.fresh, freshSegment{number: number})
	return b.finishSegment(&info)
}

// finishSegment makes an unfinished segment visible.
func (b *batch) finishSegment(info *postings.Info) error {
	finished, err := b.exec(`UPDATE segments SET state = 1, level = ?, docs = ?, first = ?, last = ?, pages = ?, bytes = ? WHERE number = ? AND state = 0`,
		info.Level, info.Docs, info.First, info.Last, info.Pages, info.Bytes, info.Number)
	if err == nil && finished == 0 {
		err = fmt.Errorf("the unfinished segment %d is gone", info.Number)
	}
	return err
}

// retire takes segments out of use.
func (b *batch) retire(rows []segmentRow) error {
	for i := range rows {
		if _, err := b.exec(`UPDATE segments SET state = 2 WHERE number = ?`, rows[i].Number); err != nil {
			return err
		}
	}
	return b.countLevel0()
}

// removePages removes up to so many pages of a segment, and its row once it has none. It returns the number
// of pages.
func (b *batch) removePages(segment int64, most int) (int, error) {
	first, last := pageID(segment, 0), pageID(segment, pagesOfSegment-1)
	removed, err := b.exec(`DELETE FROM segment_pages WHERE id IN (SELECT id FROM segment_pages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?)`, first, last, most)
	if err != nil || removed == int64(most) {
		return int(removed), err
	}
	if _, err := b.exec(`DELETE FROM removed_terms WHERE id BETWEEN ? AND ?`, first, last); err != nil {
		return 0, err
	}
	_, err = b.exec(`DELETE FROM segments WHERE number = ?`, segment)
	return int(removed), err
}
