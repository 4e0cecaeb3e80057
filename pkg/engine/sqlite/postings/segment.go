package postings

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"sort"
)

const (
	formatVersion = 1
	// maxDocs is the number of documents that a segment may have. The ordinals of lists are lower.
	maxDocs = math.MaxInt32
	// directoryFixed is the length of the part of a directory that every segment has: its kind, the
	// version, its length, the numbers of documents and pages, whether the pages follow, the last key.
	directoryFixed = 1 + 1 + 4 + 4 + 4 + 1 + 8
)

// segmentWriter writes the pages of a segment: first its keys, then its tokens in rising order.
type segmentWriter struct {
	write func(page int, data []byte) error // nil if the segment is whole
	whole []byte                            // the pages of a whole segment, from 1 on
	ends  []byte                            // where they end
	page  []byte                            // the memory of the next one
	info  Info

	keys   []int64 // of the current page
	firsts []byte  // the first key of each page

	list   listWriter
	shared int         // how many bytes all tokens since the last one that was written have too
	tokens tableWriter // the current page
	first  []byte      // not after its first token, and after the last one of the page before
	before []byte      // the first of the page before
	index  tableWriter
}

func newSegmentWriter(write func(page int, data []byte) error) *segmentWriter {
	w := &segmentWriter{write: write, shared: math.MaxInt}
	w.list.emit = w.emit
	return w
}

// newPage returns memory for the next page.
func (w *segmentWriter) newPage(kind byte, size int) []byte {
	if w.write == nil && size <= cap(w.page) {
		return append(w.page[:0], kind)
	}
	w.page = append(make([]byte, 0, size), kind)
	return w.page
}

// emit writes the next page.
func (w *segmentWriter) emit(page []byte) (number uint32, err error) {
	w.info.Pages++
	w.info.Bytes += int64(len(page))
	if w.write != nil {
		return uint32(w.info.Pages), w.write(w.info.Pages, page)
	}
	w.whole = append(w.whole, page...)
	w.ends = binary.LittleEndian.AppendUint32(w.ends, uint32(len(w.whole)))
	return uint32(w.info.Pages), nil
}

// addKey appends the key of the next document.
func (w *segmentWriter) addKey(key int64) error {
	if w.info.Docs == maxDocs {
		return fmt.Errorf("a full-text segment has at most %d documents", maxDocs)
	}
	if w.info.Docs == 0 {
		w.info.First = key
	}
	w.info.Last = key
	w.info.Docs++
	if w.keys = append(w.keys, key); len(w.keys) < keysPerPage {
		return nil
	}
	return w.endKeys()
}

// endKeys writes the current page of keys.
func (w *segmentWriter) endKeys() error {
	if len(w.keys) == 0 {
		return nil
	}
	w.firsts = binary.LittleEndian.AppendUint64(w.firsts, uint64(w.keys[0]))
	_, err := w.emit(appendKeysPage(nil, w.keys))
	w.keys = w.keys[:0]
	return err
}

// addToken appends a token with the documents that the list writer has, unless it has none. shared is how
// many bytes of the token the one of the call before has too.
func (w *segmentWriter) addToken(token []byte, shared int) error {
	shared = min(shared, w.shared)
	kind, value := w.list.end()
	if w.list.err != nil || len(value) == 0 {
		w.shared = shared
		return w.list.err
	}
	w.shared = math.MaxInt
	if w.tokens.entries > 0 && len(w.tokens.data)+len(token)+len(value) > pageBytes {
		if err := w.endTokens(); err != nil {
			return err
		}
	}
	if w.tokens.entries == 0 {
		w.first = append(w.first[:0], token[:shared+1]...)
	}
	w.tokens.add(token, shared, kind, value)
	return nil
}

// endTokens writes the current page of tokens.
func (w *segmentWriter) endTokens() error {
	page := w.newPage(pageTokens, max(len(w.tokens.data)+len(w.tokens.restarts)+16, 2*pageBytes))
	number, err := w.emit(seal(w.tokens.appendTo(page)))
	w.index.add(w.first, commonPrefix(w.before, w.first), 0, binary.AppendUvarint(nil, uint64(number)))
	w.before = append(w.before[:0], w.first...)
	return err
}

// finish writes the directory, which is page 0. It returns it if the segment is whole.
func (w *segmentWriter) finish() (Info, []byte, error) {
	if w.tokens.entries > 0 {
		if err := w.endTokens(); err != nil {
			return Info{}, nil, err
		}
	}
	page := make([]byte, directoryFixed, directoryFixed+len(w.firsts)+len(w.ends)+len(w.index.data)+len(w.index.restarts)+len(w.whole)+16)
	page[0], page[1] = pageDirectory, formatVersion
	binary.LittleEndian.PutUint32(page[6:], uint32(w.info.Docs))
	binary.LittleEndian.PutUint32(page[10:], uint32(w.info.Pages))
	binary.LittleEndian.PutUint64(page[15:], uint64(w.info.Last))
	page = append(page, w.firsts...)
	if w.write == nil {
		page[14] = 1
		page = append(page, w.ends...)
	}
	if w.index.entries > 0 {
		page = w.index.appendTo(page)
	}
	binary.LittleEndian.PutUint32(page[2:], uint32(len(page)+checksumBytes))
	page = seal(page)
	w.info.Bytes += int64(len(page))
	if w.write != nil {
		return w.info, nil, w.write(0, page)
	}
	w.info.Pages = 0
	return w.info, append(page, w.whole...), nil
}

// reader is one operation that reads segments. After an error it reads nothing more.
type reader struct {
	ctx      context.Context
	snapshot *Snapshot
	keep     bool // pages are kept in the cache
	err      error
	steps    int
}

func newReader(ctx context.Context, snapshot *Snapshot, keep bool) *reader {
	return &reader{ctx: ctx, snapshot: snapshot, keep: keep, err: ctx.Err()}
}

// stopped reports whether the operation has ended early. It is called at least every few microseconds.
func (r *reader) stopped() bool {
	if r.steps++; r.err == nil && r.steps%64 == 0 {
		r.err = r.ctx.Err()
	}
	return r.err != nil
}

// page returns a page of a segment as it is stored, nil after an error.
func (r *reader) page(segment int64, page int) []byte {
	if r.stopped() {
		return nil
	}
	if data := r.snapshot.Cache.get(segment, page); data != nil {
		return data
	}
	data, err := r.snapshot.Source.Page(r.ctx, segment, page)
	intact := sealed(data) || page == 0 && sealedWhole(data)
	if err == nil && !intact {
		err = fmt.Errorf("%w: segment %d, page %d", ErrDamaged, segment, page)
	}
	if err != nil {
		r.err = err
		return nil
	}
	if r.keep {
		r.snapshot.Cache.Put(segment, page, data)
	}
	return data
}

// segment reads a segment.
type segment struct {
	*reader
	number int64
	docs   uint32
	last   int64  // the highest key
	pages  uint32 // from 1 on
	whole  []byte // they themselves, if the segment is whole
	ends   []byte
	firsts []byte // the first key of each page of keys
	index  table  // the pages of tokens

	keysAt int // the current page of keys, -1 if there is none
	keys   keysPage
	cursor tokenCursor
}

// open returns a segment, nil after an error.
func (r *reader) open(info Info) *segment {
	data := r.page(info.Number, 0)
	if data == nil {
		return nil
	}
	s := &segment{reader: r, number: info.Number, keysAt: -1}
	if !s.parse(data) || int(s.docs) != info.Docs || s.first(0) != info.First || s.last != info.Last {
		s.damaged("directory")
		return nil
	}
	return s
}

// splitWhole returns the directory of a page 0, and the pages that follow it.
func splitWhole(data []byte) (directory, pages []byte, ok bool) {
	if len(data) < directoryFixed+checksumBytes || data[0] != pageDirectory || data[1] != formatVersion {
		return nil, nil, false
	}
	length := uint64(binary.LittleEndian.Uint32(data[2:]))
	if length < directoryFixed+checksumBytes || length > uint64(len(data)) {
		return nil, nil, false
	}
	return data[:length], data[length:], true
}

// parse reads a page 0.
func (s *segment) parse(data []byte) (ok bool) {
	directory, pages, ok := splitWhole(data)
	if !ok {
		return false
	}
	s.docs, s.pages = binary.LittleEndian.Uint32(directory[6:]), binary.LittleEndian.Uint32(directory[10:])
	s.last = int64(binary.LittleEndian.Uint64(directory[15:]))
	rest := directory[directoryFixed : len(directory)-checksumBytes]
	if s.docs == 0 || s.docs > maxDocs {
		return false
	}
	n := s.keyPages() * 8
	if n > len(rest) {
		return false
	}
	s.firsts, rest = rest[:n], rest[n:]
	if directory[14] == 1 {
		if uint64(s.pages)*4 > uint64(len(rest)) {
			return false
		}
		s.whole, s.ends, rest = pages, rest[:s.pages*4], rest[s.pages*4:]
	} else if len(pages) > 0 {
		return false
	}
	if len(rest) > 0 { // a segment may have no tokens
		s.index, ok = parseTable(rest)
	}
	return ok
}

// sealedWhole reports whether a page 0 and the pages in it are as they were written.
func sealedWhole(data []byte) bool {
	directory, _, ok := splitWhole(data)
	if !ok || !sealed(directory) {
		return false
	}
	var s segment
	if !s.parse(data) || s.ends == nil {
		return false
	}
	for page := range s.pages {
		if b := s.part(page + 1); b == nil || !sealed(b) {
			return false
		}
	}
	return s.end(s.pages) == len(s.whole)
}

// part returns a page of a whole segment, nil if it is damaged.
func (s *segment) part(page uint32) []byte {
	from, to := s.end(page-1), s.end(page)
	if from > to || to > len(s.whole) {
		return nil
	}
	return s.whole[from:to]
}

func (s *segment) end(page uint32) int {
	if page == 0 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(s.ends[4*(page-1):]))
}

// page returns what a page of a kind has between its kind and its checksum, nil after an error.
func (s *segment) page(page uint32, kind byte) []byte {
	var data []byte
	if page == 0 || page > s.pages {
		s.damaged("number of a page")
		return nil
	}
	if s.ends != nil {
		data = s.part(page)
	} else {
		data = s.reader.page(s.number, int(page))
	}
	if len(data) <= checksumBytes || data[0] != kind {
		s.damaged("kind of a page")
		return nil
	}
	return data[1 : len(data)-checksumBytes]
}

// fail ends the operation, unless err is nil.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// damaged ends the operation because a part of the segment is not as it should be.
func (s *segment) damaged(what string) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: segment %d: %s", ErrDamaged, s.number, what)
	}
}

func (s *segment) keyPages() int { return (int(s.docs) + keysPerPage - 1) / keysPerPage }

// first returns the first key of a page of keys.
func (s *segment) first(page int) int64 {
	return int64(binary.LittleEndian.Uint64(s.firsts[8*page:]))
}

// readKeys makes a page of keys the current one.
func (s *segment) readKeys(page int) bool {
	if page == s.keysAt {
		return true
	}
	data := s.page(uint32(page+1), pageKeys)
	if data == nil {
		return false
	}
	keys, ok := parseKeysPage(data, min(keysPerPage, int(s.docs)-page*keysPerPage))
	if !ok {
		s.damaged("keys")
		return false
	}
	s.keysAt, s.keys = page, keys
	return true
}

// key returns the key of a document, 0 after an error.
func (s *segment) key(ordinal uint32) int64 {
	if !s.readKeys(int(ordinal) / keysPerPage) {
		return 0
	}
	return s.keys.key(int(ordinal) % keysPerPage)
}

// search returns the first document whose key is not less than a key. It is the number of documents
// if there is none, and after an error.
func (s *segment) search(key int64) uint32 {
	switch {
	case key <= s.first(0):
		return 0
	case key > s.last:
		return s.docs
	}
	page := max(0, sort.Search(s.keyPages(), func(i int) bool { return s.first(i) > key })-1)
	if !s.readKeys(page) {
		return s.docs
	}
	return uint32(page*keysPerPage + s.keys.search(key))
}

// tokenCursor reads the tokens of a segment in rising order.
type tokenCursor struct {
	tableCursor
	of     *segment
	page   table       // the current one
	first  []byte      // its text in the index
	number []byte      // its number
	index  tableCursor // its current entry is the next page, if more is true
	more   bool
}

// tokensFrom returns a cursor whose next tokens are the last ones before a token, at most
// restartEvery, and then those from it on. It is valid until the next call, which is cheaper if the
// token there is in the same page.
func (s *segment) tokensFrom(token string) *tokenCursor {
	c := &s.cursor
	if c.of == nil || token < string(c.first) || c.more && token >= string(c.index.token) {
		c.of, c.page, c.rest = s, table{}, nil
		if s.index.restarts == nil {
			return c
		}
		c.index.seek(s.index, token)
		c.more = c.index.next()
		c.skipPage()
		for c.more && string(c.index.token) <= token {
			c.skipPage()
		}
		c.readPage()
	}
	if c.page.restarts != nil {
		c.seek(c.page, token)
	}
	return c
}

// beginningWith yields a cursor at each token that begins so. No other token may be looked for before its
// end.
func (s *segment) beginningWith(prefix string) iter.Seq[*tokenCursor] {
	return func(yield func(*tokenCursor) bool) {
		for c := s.tokensFrom(prefix); c.next() && !s.stopped(); {
			start := c.token[:min(len(c.token), len(prefix))]
			if string(start) > prefix || string(start) == prefix && !yield(c) {
				return
			}
		}
	}
}

// skipPage makes the next page the current one, without reading it.
func (c *tokenCursor) skipPage() {
	c.first, c.number = append(c.first[:0], c.index.token...), c.index.value
	c.more = c.more && c.index.next()
	if c.index.damaged {
		c.of.damaged("directory")
	}
}

// readPage reads the current page. It returns false after an error.
func (c *tokenCursor) readPage() bool {
	number, rest := uvarint(c.number)
	if rest == nil || number > math.MaxUint32 {
		c.of.damaged("directory")
	}
	if c.of.err != nil {
		return false
	}
	data := c.of.page(uint32(number), pageTokens)
	if data == nil {
		return false
	}
	var ok bool
	if c.page, ok = parseTable(data); !ok {
		c.of.damaged("tokens")
	}
	return ok
}

// next makes the next token the current one. It returns false at the end, and after an error.
func (c *tokenCursor) next() bool {
	for !c.tableCursor.next() {
		if c.damaged {
			c.of.damaged("tokens")
		}
		if !c.more || c.of.err != nil {
			return false
		}
		c.skipPage()
		if !c.readPage() {
			return false
		}
		c.rest = c.page.data // the token before stays: the next one must be after it
	}
	return true
}

// find returns the kind and the value of a token's list. ok is false if no document has the token.
func (s *segment) find(token string) (kind byte, value []byte, ok bool) {
	for c := s.tokensFrom(token); c.next(); {
		if string(c.token) >= token {
			return c.kind, c.value, string(c.token) == token
		}
	}
	return 0, nil, false
}
