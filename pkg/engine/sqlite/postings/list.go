package postings

import (
	"encoding/binary"
	"math/bits"
	"sort"
)

// The kinds of a token's list of documents.
const (
	listShort       = 0 // fewer than blockDocs documents
	listShortPlaced = 1 // the same, with positions
	listLong        = 2 // a chunk
	listPaged       = 3 // a table of chunks with pages of their own
)

// isLong reports whether a list of a kind has many documents.
func isLong(kind byte) bool { return kind == listLong || kind == listPaged }

const (
	// blockDocs is how many documents a block of a list has, except the last one.
	blockDocs = 128
	// maxInlineChunk is the length of the longest chunk in a page of tokens.
	maxInlineChunk = 4 << 10
	// blockEntryBytes is the length of a block in the table of blocks: its last ordinal, its end.
	blockEntryBytes = 4 + 4
	// chunkEntryBytes is the length of a chunk in the table of chunks: its last ordinal, its page.
	chunkEntryBytes = 4 + 4
)

// listWriter writes one list at a time.
type listWriter struct {
	emit func(page []byte) (number uint32, err error) // writes a page

	ordinals  [blockDocs]uint32 // of the documents of the current block
	ends      [blockDocs]uint32 // of their positions
	n         int
	positions []byte // of the current block
	placed    bool   // a document of the list has positions

	after  uint32 // the ordinal after the last block
	docs   int    // of the list
	base   uint32 // after, before the current chunk
	inside int    // documents of the blocks of the current chunk
	table  []byte
	blocks []byte

	chunks []byte
	value  []byte
	packed [blockDocs]uint32
	err    error
}

// start begins a list. placed says whether its documents have positions.
func (w *listWriter) start(placed bool) {
	w.n, w.positions, w.placed = 0, w.positions[:0], placed
	w.after, w.docs, w.base, w.inside = 0, 0, 0, 0
	w.table, w.blocks, w.chunks = w.table[:0], w.blocks[:0], w.chunks[:0]
}

// add appends a document, in rising order of the ordinals.
func (w *listWriter) add(ordinal uint32, positions []byte) {
	if w.n == blockDocs {
		w.endBlock()
	}
	w.ordinals[w.n] = ordinal
	if w.placed {
		if len(positions) == 0 {
			positions = noPositions
		}
		w.positions = append(w.positions, positions...)
		w.ends[w.n] = uint32(len(w.positions))
	}
	w.n++
}

// Positions are gaps, each with one bit more: whether another one follows. Positions begin at 1. A
// document without positions has a gap of 0.
var noPositions = []byte{0}

// appendPosition appends a position by the gap from the one before.
func appendPosition(dst []byte, gap uint32, more bool) []byte {
	v := uint64(gap) << 1
	if more {
		v |= 1
	}
	return binary.AppendUvarint(dst, v)
}

// endBlock adds the current block to the chunk, and writes the chunk if it is long enough.
func (w *listWriter) endBlock() {
	gaps := w.packed[:w.n-1]
	var all uint32
	for i := range gaps {
		gaps[i] = w.ordinals[i+1] - w.ordinals[i] - 1
		all |= gaps[i]
	}
	width := bits.Len32(all)
	w.blocks = binary.AppendUvarint(w.blocks, uint64(w.ordinals[0]-w.after))
	w.blocks = append(w.blocks, byte(width))
	if width > 0 {
		w.blocks = appendPacked(w.blocks, gaps, width)
	}
	w.blocks = append(w.blocks, w.positions...)
	last := w.ordinals[w.n-1]
	w.table = binary.LittleEndian.AppendUint32(w.table, last)
	w.table = binary.LittleEndian.AppendUint32(w.table, uint32(len(w.blocks)))
	w.after = last + 1
	w.inside += w.n
	w.docs += w.n
	w.n, w.positions = 0, w.positions[:0]
	if len(w.table)+len(w.blocks) >= pageBytes {
		w.endChunk()
	}
}

// appendChunk appends the current chunk.
func (w *listWriter) appendChunk(dst []byte) []byte {
	dst = appendListHead(dst, w.inside, w.placed)
	dst = binary.AppendUvarint(dst, uint64(w.base))
	return append(append(dst, w.table...), w.blocks...)
}

func appendListHead(dst []byte, docs int, placed bool) []byte {
	head := uint64(docs) << 1
	if placed {
		head |= 1
	}
	return binary.AppendUvarint(dst, head)
}

// endChunk writes the current chunk as a page.
func (w *listWriter) endChunk() {
	page := make([]byte, 0, len(w.table)+len(w.blocks)+32)
	number, err := w.emit(seal(w.appendChunk(append(page, pageChunk))))
	if w.err == nil {
		w.err = err
	}
	w.chunks = binary.LittleEndian.AppendUint32(w.chunks, w.after-1)
	w.chunks = binary.LittleEndian.AppendUint32(w.chunks, number)
	w.base, w.inside = w.after, 0
	w.table, w.blocks = w.table[:0], w.blocks[:0]
}

// end ends the list. It returns the list's value until the next one. The value of a list without
// documents is empty.
func (w *listWriter) end() (kind byte, value []byte) {
	if w.docs == 0 && w.n < blockDocs {
		return w.short()
	}
	if w.n > 0 {
		w.endBlock()
	}
	if len(w.chunks) == 0 && len(w.table)+len(w.blocks) <= maxInlineChunk {
		w.value = w.appendChunk(w.value[:0])
		return listLong, w.value
	}
	if w.inside > 0 {
		w.endChunk()
	}
	w.value = append(appendListHead(w.value[:0], w.docs, w.placed), w.chunks...)
	return listPaged, w.value
}

func (w *listWriter) short() (kind byte, value []byte) {
	value = w.value[:0]
	after, from := uint32(0), uint32(0)
	for i, ordinal := range w.ordinals[:w.n] {
		value = binary.AppendUvarint(value, uint64(ordinal-after))
		after = ordinal + 1
		if w.placed {
			value = append(value, w.positions[from:w.ends[i]]...)
			from = w.ends[i]
		}
	}
	w.value = value
	if w.placed {
		return listShortPlaced, value
	}
	return listShort, value
}

// listReader reads a list of documents, a block at a time.
type listReader struct {
	of     *segment
	docs   int
	placed bool

	chunks []byte // the table of chunks, nil if there is only one
	nth    int    // the current chunk
	chunk  chunk
	block  int // the current block of the chunk

	after     uint32   // the ordinal after the block before
	ordinals  []uint32 // of the current block
	dense     bool     // they are consecutive
	positions []byte   // of the current block
	ends      []uint32 // of the documents' positions, empty if they were not needed yet
}

// chunk is a part of a list.
type chunk struct {
	docs   int
	base   uint32 // no ordinal is lower
	table  []byte
	blocks []byte
	rest   []byte // blocks and what follows, for reading a few bytes too many
}

// list returns the list of a kind and a value. It returns nil if the list is damaged or cannot be read.
func (s *segment) list(kind byte, value []byte) *listReader {
	l := &listReader{}
	if !l.open(s, kind, value) {
		return nil
	}
	return l
}

// open begins with the first block of a list. It returns false if the list is damaged or cannot be read.
func (l *listReader) open(of *segment, kind byte, value []byte) (ok bool) {
	*l = listReader{of: of, ordinals: l.ordinals[:0], ends: l.ends[:0]}
	switch kind {
	case listShort, listShortPlaced:
		l.placed, l.positions = kind == listShortPlaced, value
		l.ordinals, l.ends, ok = of.short(kind, value, l.ordinals, l.ends)
		l.docs = len(l.ordinals)
	case listLong:
		ok = l.parseChunk(value) && l.readBlock(0)
		l.docs = l.chunk.docs
	case listPaged:
		var head uint64
		head, value = uvarint(value)
		l.docs, l.placed, l.chunks = int(head>>1), head&1 == 1, value
		ok = head>>1 <= uint64(of.docs) && len(value) > 0 && len(value)%chunkEntryBytes == 0 && l.readChunk(0) && l.readBlock(0)
	}
	if !ok {
		of.damaged("list")
	}
	return ok
}

// short appends the ordinals of a short list, and where its documents' positions end in the value.
func (s *segment) short(kind byte, value []byte, ordinals, ends []uint32) (_, _ []uint32, ok bool) {
	next := uint64(0)
	for rest := value; len(rest) > 0; {
		var gap uint64
		gap, rest = uvarint(rest)
		next += gap + 1
		if rest == nil || gap >= uint64(s.docs) || next > uint64(s.docs) {
			return ordinals, ends, false
		}
		ordinals = append(ordinals, uint32(next-1))
		if kind == listShortPlaced {
			if rest = skipPositions(rest); rest == nil {
				return ordinals, ends, false
			}
			ends = append(ends, uint32(len(value)-len(rest)))
		}
	}
	return ordinals, ends, len(value) > 0
}

// skipPositions returns what follows a document's positions, nil if they have no end.
func skipPositions(b []byte) []byte {
	for i := 0; i < len(b); {
		more := b[i]&1 == 1
		for b[i] >= 0x80 {
			if i++; i == len(b) {
				return nil
			}
		}
		if i++; !more {
			return b[i:]
		}
	}
	return nil
}

// readChunk makes a chunk of the table the current one.
func (l *listReader) readChunk(nth int) bool {
	entry := l.chunks[nth*chunkEntryBytes:]
	page := l.of.page(binary.LittleEndian.Uint32(entry[4:]), pageChunk)
	if page == nil || !l.parseChunk(page) || l.chunk.last(l.chunk.count()-1) != binary.LittleEndian.Uint32(entry) {
		return false
	}
	l.nth = nth
	return true
}

func (l *listReader) parseChunk(b []byte) bool {
	head, b := uvarint(b)
	base, b := uvarint(b)
	docs := head >> 1
	if b == nil || docs == 0 || docs > uint64(l.of.docs) || base >= uint64(l.of.docs) || l.chunks != nil && l.placed != (head&1 == 1) {
		return false
	}
	tableBytes := (int(docs) + blockDocs - 1) / blockDocs * blockEntryBytes
	if len(b) < tableBytes {
		return false
	}
	l.placed = head&1 == 1
	l.chunk = chunk{docs: int(docs), base: uint32(base), table: b[:tableBytes], blocks: b[tableBytes:], rest: b[tableBytes:cap(b)]}
	l.ordinals = l.ordinals[:0]
	return l.chunk.end(l.chunk.count()-1) == len(l.chunk.blocks) && l.chunk.last(l.chunk.count()-1) < l.of.docs
}

func (c *chunk) count() int { return len(c.table) / blockEntryBytes }

func (c *chunk) last(block int) uint32 {
	return binary.LittleEndian.Uint32(c.table[block*blockEntryBytes:])
}

func (c *chunk) end(block int) int {
	return int(binary.LittleEndian.Uint32(c.table[block*blockEntryBytes+4:]))
}

// readBlock makes a block of the chunk the current one.
func (l *listReader) readBlock(block int) bool {
	if l.of.stopped() {
		return false
	}
	c := &l.chunk
	from, after := 0, c.base
	if block > 0 {
		from, after = c.end(block-1), c.last(block-1)+1
	}
	to, last := c.end(block), c.last(block)
	if from > to || to > len(c.blocks) || block > 0 && c.last(block-1) >= last {
		return false
	}
	gap, b := uvarint(c.blocks[from:to])
	if len(b) == 0 || gap > uint64(last) {
		return false
	}
	n := min(blockDocs, c.docs-block*blockDocs)
	width := int(b[0])
	packed := packedBytes(n-1, width)
	if width > 32 || packed > len(b)-1 {
		return false
	}
	if cap(l.ordinals) < blockDocs {
		l.ordinals = make([]uint32, blockDocs)
	}
	l.ordinals = l.ordinals[:n]
	first := uint64(after) + gap
	l.ordinals[0] = uint32(first)
	end := addGaps(l.ordinals[1:], c.rest[to-len(b)+1:], width, first)
	if end != uint64(last) || last >= l.of.docs {
		return false
	}
	l.after, l.block, l.dense = after, block, width == 0
	l.positions, l.ends = b[1+packed:], l.ends[:0]
	return l.placed || len(l.positions) == 0
}

// advance makes the next block the current one. It returns false if there is none.
func (l *listReader) advance() bool {
	switch {
	case l.block+1 < l.chunk.count():
		return l.read(l.readBlock(l.block + 1))
	case (l.nth+1)*chunkEntryBytes < len(l.chunks):
		return l.read(l.readChunk(l.nth+1) && l.readBlock(0))
	}
	return false
}

// retreat makes the block before the current one. It returns false if there is none.
func (l *listReader) retreat() bool {
	switch {
	case l.block > 0:
		return l.read(l.readBlock(l.block - 1))
	case l.nth > 0:
		return l.read(l.readChunk(l.nth-1) && l.readBlock(l.chunk.count()-1))
	}
	return false
}

// read reports the result of a read. A list that could not be read is empty from then on.
func (l *listReader) read(ok bool) bool {
	if !ok {
		l.of.damaged("list")
		l.ordinals, l.chunks, l.chunk, l.block, l.nth = nil, nil, chunk{}, 0, 0
	}
	return ok
}

// seek makes the first block current whose last ordinal is not less than an ordinal. It returns false
// if there is none; then the current block is another one.
func (l *listReader) seek(ordinal uint32) bool {
	n := len(l.ordinals)
	switch {
	case n == 0:
		return false
	case l.after <= ordinal && ordinal <= l.ordinals[n-1]:
		return true
	case l.chunk.table == nil: // a short list is one block
		return false
	}
	if ordinal < l.chunk.base || ordinal > l.chunk.last(l.chunk.count()-1) {
		chunks := len(l.chunks) / chunkEntryBytes
		nth := sort.Search(chunks, func(i int) bool { return binary.LittleEndian.Uint32(l.chunks[i*chunkEntryBytes:]) >= ordinal })
		switch {
		case nth == chunks && (chunks > 0 || ordinal > l.chunk.last(l.chunk.count()-1)):
			return false
		case nth != l.nth && !l.read(l.readChunk(nth)):
			return false
		}
	}
	block := sort.Search(l.chunk.count(), func(i int) bool { return l.chunk.last(i) >= ordinal })
	return l.read(block < l.chunk.count() && l.readBlock(block))
}

// seekLast makes the last block current.
func (l *listReader) seekLast() bool {
	if len(l.ordinals) == 0 {
		return false
	}
	if l.chunk.table == nil {
		return true
	}
	if last := len(l.chunks)/chunkEntryBytes - 1; last > l.nth && !l.read(l.readChunk(last)) {
		return false
	}
	return l.read(l.readBlock(l.chunk.count() - 1))
}

// positionsOf returns the positions of the i-th document of the current block, as they are written. It
// returns nil if they are damaged.
func (l *listReader) positionsOf(i int) []byte {
	if len(l.ends) == 0 {
		left := l.positions
		for range l.ordinals {
			if left = skipPositions(left); left == nil {
				l.of.damaged("positions")
				l.ends = l.ends[:0]
				return nil
			}
			l.ends = append(l.ends, uint32(len(l.positions)-len(left)))
		}
		if len(left) > 0 {
			l.of.damaged("positions")
			return nil
		}
	}
	from := uint32(0)
	if i > 0 {
		from = l.ends[i-1]
	}
	positions := l.positions[from:l.ends[i]]
	if l.chunk.table == nil { // a short list has the gaps of the ordinals between them
		_, positions = uvarint(positions)
	}
	return positions
}
