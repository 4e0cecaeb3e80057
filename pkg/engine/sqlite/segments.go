package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// The full-text index is segments of package postings, which has the format of their pages. Each
// indexed entry has its tokens in one segment. A segment never changes: each transaction adds one,
// and merges replace several by one; see merges.go. What was removed is marked in a bitmap of the
// segment's documents, so that the same key can be indexed again in another segment.

// segmentState is the state of a segment.
type segmentState int64

// States of segments, as files have them.
const (
	segmentUnfinished segmentState = 0 // a merge writes it
	segmentInUse      segmentState = 1
	segmentRetired    segmentState = 2 // its pages are to be removed
)

const (
	// pagesOfSegment is the number of pages that a segment can have. The id of a page is its number within
	// the segment and, in the bits above, the number of the segment.
	pagesOfSegmentBits = 24
	pagesOfSegment     = 1 << pagesOfSegmentBits
	// removedPart is the number of documents of which a row of removed_terms says which are removed. Its id
	// is like that of a page.
	removedPart = 1 << 16
	// wholeBytes bounds the segments of level 0. Each has one page, which searches and merges read as a
	// whole. Larger ones are written with many pages, as a merge does.
	wholeBytes = 1 << 20
	// segmentCacheBytes bounds the pages of segments that are kept in memory.
	segmentCacheBytes = 32 << 20
	// removedCacheBytes bounds the bitmaps that are kept in memory.
	removedCacheBytes = 16 << 20
)

func pageID(segment int64, page int) int64 { return segment<<pagesOfSegmentBits | int64(page) }

// segmentCache keeps pages and bitmaps of segments in use, and values of their tokens.
type segmentCache struct {
	pages  *postings.Cache
	values valueCache

	mu      sync.Mutex
	removed map[int64]removedDocs // by segment
	bytes   int                   // of removed
}

// removedDocs is the bitmap of a segment when so many of its documents were removed. No removal is ever
// undone, so the number says which bitmap it is.
type removedDocs struct {
	count  int
	bitmap []uint64
}

func newSegmentCache() *segmentCache {
	return &segmentCache{pages: postings.NewCache(segmentCacheBytes), removed: map[int64]removedDocs{}}
}

func (c *segmentCache) removedOf(segment int64, count int) (bitmap []uint64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, known := c.removed[segment]
	return r.bitmap, known && r.count == count
}

// keepRemoved keeps a bitmap, unless a later one is kept.
func (c *segmentCache) keepRemoved(segment int64, count int, bitmap []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed[segment].count >= count {
		return
	}
	c.bytes += 8 * (len(bitmap) - len(c.removed[segment].bitmap))
	if c.bytes > removedCacheBytes {
		clear(c.removed)
		c.bytes = 8 * len(bitmap)
	}
	c.removed[segment] = removedDocs{count, bitmap}
}

// segmentRow is a row of segments.
type segmentRow struct {
	postings.Info
	state   segmentState
	removed int // documents
}

// segmentPages reads pages of segments. It implements postings.Source.
type segmentPages struct{ *conn }

// Page implements postings.Source.
func (c segmentPages) Page(ctx context.Context, segment int64, page int) (data []byte, err error) {
	if page < 0 || page >= pagesOfSegment {
		return nil, postings.ErrDamaged
	}
	err = c.row(ctx, `SELECT data FROM segment_pages WHERE id = ?`, []any{pageID(segment, page)}, []any{&data})
	if errors.Is(err, sql.ErrNoRows) {
		err = postings.ErrDamaged
	}
	if err != nil {
		return nil, fmt.Errorf("page %d of segment %d: %w", page, segment, err)
	}
	return data, nil
}

// segmentsIn returns the segments in use that may have keys of the span, in the order of their numbers.
func (c *conn) segmentsIn(ctx context.Context, s span) (rows []segmentRow, err error) {
	var row segmentRow
	err = c.each(ctx, `SELECT number, state, level, docs, removed, first, last, pages, bytes FROM segments
		WHERE state = 1 AND first <= ? AND last >= ? ORDER BY number`, []any{s.last, s.first}, row.columns(), func() (bool, error) {
		if row.Docs < 1 || row.Docs > math.MaxInt32 || row.removed < 0 || row.removed > row.Docs {
			return false, fmt.Errorf("row of segment %d: %w", row.Number, postings.ErrDamaged)
		}
		rows = append(rows, row)
		return true, nil
	})
	return rows, err
}

func (r *segmentRow) columns() []any {
	return []any{&r.Number, &r.state, &r.Level, &r.Docs, &r.removed, &r.First, &r.Last, &r.Pages, &r.Bytes}
}

// snapshotOf returns segments as they are searched and merged. Without a cache it reads what the current
// transaction has written.
func (c *conn) snapshotOf(ctx context.Context, cache *segmentCache, rows []segmentRow) (*postings.Snapshot, error) {
	snapshot := &postings.Snapshot{Source: segmentPages{c}, Segments: make([]postings.Segment, len(rows))}
	if cache != nil {
		snapshot.Cache = cache.pages
	}
	for i := range rows {
		bitmap, err := c.removedDocs(ctx, cache, &rows[i])
		if err != nil {
			return nil, err
		}
		snapshot.Segments[i] = postings.Segment{Info: rows[i].Info, Removed: bitmap}
	}
	return snapshot, nil
}

// removedDocs returns the bitmap of the removed documents of a segment.
func (c *conn) removedDocs(ctx context.Context, cache *segmentCache, row *segmentRow) ([]uint64, error) {
	if row.removed == 0 {
		return nil, nil
	}
	if cache != nil {
		if bitmap, known := cache.removedOf(row.Number, row.removed); known {
			return bitmap, nil
		}
	}
	bitmap := make([]uint64, (row.Docs+63)/64)
	var id int64
	var part sql.RawBytes
	err := c.each(ctx, `SELECT id, docs FROM removed_terms WHERE id BETWEEN ? AND ?`,
		[]any{pageID(row.Number, 0), pageID(row.Number, pagesOfSegment-1)}, []any{&id, &part}, func() (bool, error) {
			words := bitmap[min(int(id%pagesOfSegment)*removedPart/64, len(bitmap)):]
			if len(part) > 8*len(words) {
				return false, postings.ErrDamaged
			}
			unpackWords(words, part)
			return true, nil
		})
	if err != nil {
		return nil, fmt.Errorf("removed documents of segment %d: %w", row.Number, err)
	}
	if cache != nil {
		cache.keepRemoved(row.Number, row.removed, bitmap)
	}
	return bitmap, nil
}

func unpackWords(words []uint64, part []byte) {
	for i := 0; 8*i+8 <= len(part); i++ {
		words[i] = binary.LittleEndian.Uint64(part[8*i:])
	}
}

func packWords(words []uint64) []byte {
	part := make([]byte, 0, 8*len(words))
	for _, word := range words {
		part = binary.LittleEndian.AppendUint64(part, word)
	}
	return part
}

// matcher searches the full-text index for one request, within one snapshot of the file.
type matcher struct {
	cache    *segmentCache
	conn     *conn
	within   span
	snapshot *postings.Snapshot // of the segments within; nil: not read yet
}

func (m *matcher) segments(ctx context.Context) (_ *postings.Snapshot, err error) {
	if m.snapshot != nil {
		return m.snapshot, nil
	}
	rows, err := m.conn.segmentsIn(ctx, m.within)
	if err != nil {
		return nil, err
	}
	m.snapshot, err = m.conn.snapshotOf(ctx, m.cache, rows)
	return m.snapshot, err
}

// keys yields the keys that a piece with an expression matches.
func (m *matcher) keys(ctx context.Context, p piece, falling bool) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		snapshot, err := m.segments(ctx)
		if err != nil {
			yield(0, err)
			return
		}
		snapshot.Search(ctx, p.match, p.first, p.last, falling)(yield)
	}
}

// count returns the number of keys that a piece with an expression matches.
func (m *matcher) count(ctx context.Context, p piece) (int64, error) {
	snapshot, err := m.segments(ctx)
	if err != nil {
		return 0, err
	}
	return snapshot.Count(ctx, p.match, p.first, p.last)
}

// addTerms adds the tokens of an entry to the segment that flush writes.
func (b *batch) addTerms(key int64, terms batchedTerms) {
	b.terms = append(b.terms, postings.Placed{Batch: terms.batch, Doc: terms.doc, Key: key})
}

// batchedTerms are the tokens of an entry: a document of a batch.
type batchedTerms struct {
	batch *postings.Batch
	doc   int
}

// flushTerms writes the tokens of the entries so far as one segment.
func (b *batch) flushTerms() error {
	if len(b.terms) == 0 {
		return nil
	}
	info, page, err := postings.Build(b.terms)
	if err != nil {
		return err
	}
	if len(page) > wholeBytes {
		b.terms = b.terms[:0]
		return b.insertMerged(&postings.Snapshot{Source: onlyPage(page), Segments: []postings.Segment{{Info: info}}})
	}
	if info.Number, err = b.insertSegment(segmentInUse, mergesLevel0, &info); err != nil {
		return err
	}
	if err := b.insertPage(info.Number, 0, page); err != nil {
		return err
	}
	b.terms = b.terms[:0]
	b.writer.fresh = append(b.writer.fresh, freshSegment{info.Number, info.Docs, page})
	return b.boundLevel0()
}

// insertSegment inserts the row of a segment, which a kind of merger removes if it stays unfinished.
func (b *batch) insertSegment(state segmentState, by mergerKind, info *postings.Info) (number int64, err error) {
	err = b.row(context.Background(), `INSERT INTO segments (state, merger, level, docs, removed, first, last, pages, bytes)
		VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?) RETURNING number`,
		[]any{state, by, info.Level, info.Docs, info.First, info.Last, info.Pages, info.Bytes}, []any{&number})
	return number, err
}

func (b *batch) insertPage(segment int64, page int, data []byte) error {
	if page >= pagesOfSegment {
		return fmt.Errorf("segment %d has too many pages", segment)
	}
	_, err := b.exec(`INSERT INTO segment_pages (id, data) VALUES (?, ?)`, pageID(segment, page), data)
	return err
}

// freshSegment is a segment that the current transaction has added.
type freshSegment struct {
	number int64
	docs   int
	page   []byte // nil: it is not of level 0
}

// keepFresh keeps the segments of a committed transaction in memory, where the next merge needs them.
func (w *writer) keepFresh() {
	wake := false
	for i := range w.fresh {
		s := &w.fresh[i]
		if s.page == nil { // the merger of level 0 wakes the one of the others
			wake = true
			continue
		}
		w.segments.pages.Put(s.number, 0, s.page)
		w.level0.segments++
		w.level0.added.add(s.docs, int64(len(s.page)))
	}
	if wake || w.merges.due(w.level0.added) {
		w.level0.added = total{}
		select {
		case w.level0Full <- struct{}{}:
		default: // the merger knows already
		}
	}
	w.fresh = nil
}

// removeTerms marks the entries with the keys, which are in rising order, as removed. The next merge of
// their segments leaves them out.
func (b *batch) removeTerms(keys []int64) error {
	ctx := context.Background()
	if err := b.flush(); err != nil { // entries to remove may not be written yet
		return err
	}
	rows, err := b.segmentsIn(ctx, span{keys[0], keys[len(keys)-1]})
	if err != nil {
		return err
	}
	for i := range rows {
		if err := b.removeTermsOf(&rows[i], keys); err != nil {
			return err
		}
	}
	return nil
}

// removeTermsOf marks those documents of a segment that have one of the keys.
func (b *batch) removeTermsOf(row *segmentRow, keys []int64) error {
	from, _ := slices.BinarySearch(keys, row.First)
	keys = keys[from:]
	if row.Last < math.MaxInt64 {
		to, _ := slices.BinarySearch(keys, row.Last+1)
		keys = keys[:to]
	}
	if len(keys) == 0 {
		return nil
	}
	snapshot := &postings.Snapshot{Source: segmentPages{b.conn}}
	if !b.writer.isFresh(row.Number) { // a rollback would give the number of a fresh one to another
		snapshot.Cache = b.writer.segments.pages
	}
	ordinals, err := snapshot.Find(context.Background(), postings.Segment{Info: row.Info}, keys)
	if err != nil {
		return err
	}
	return b.markRemoved(row, slices.DeleteFunc(ordinals, func(ordinal int) bool { return ordinal < 0 }))
}

func (w *writer) isFresh(segment int64) bool {
	return slices.ContainsFunc(w.fresh, func(s freshSegment) bool { return s.number == segment })
}

// markRemoved marks documents of a segment as removed. They are in rising order.
func (b *batch) markRemoved(row *segmentRow, ordinals []int) error {
	marked := 0
	for len(ordinals) > 0 {
		part := ordinals[0] / removedPart
		to, _ := slices.BinarySearch(ordinals, (part+1)*removedPart)
		n, err := b.markPart(row, part, ordinals[:to])
		if err != nil {
			return err
		}
		marked += n
		ordinals = ordinals[to:]
	}
	if marked == 0 {
		return nil
	}
	_, err := b.exec(`UPDATE segments SET removed = ? WHERE number = ?`, row.removed+marked, row.Number)
	return err
}

// markPart marks documents of one row of removed_terms. It returns how many were not marked before.
func (b *batch) markPart(row *segmentRow, part int, ordinals []int) (marked int, err error) {
	words := make([]uint64, (min(row.Docs-part*removedPart, removedPart)+63)/64)
	var stored []byte
	id := pageID(row.Number, part)
	found, err := b.found(`SELECT docs FROM removed_terms WHERE id = ?`, []any{id}, []any{&stored})
	if err != nil {
		return 0, err
	}
	if found && len(stored) != 8*len(words) {
		return 0, fmt.Errorf("removed documents of segment %d: %w", row.Number, postings.ErrDamaged)
	}
	unpackWords(words, stored)
	for _, ordinal := range ordinals {
		within := ordinal - part*removedPart
		if bit := uint64(1) << (within % 64); words[within/64]&bit == 0 {
			words[within/64] |= bit
			marked++
		}
	}
	if marked == 0 {
		return 0, nil
	}
	_, err = b.exec(`INSERT INTO removed_terms (id, docs) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET docs = ?2`, id, packWords(words))
	return marked, err
}
