package parquet

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"
)

var (
	// ErrDamaged means that a file is damaged, cut, or not a Parquet file.
	ErrDamaged = errors.New("damaged Parquet file")
	// ErrUnsupported means that a file has something that Writer does not write, such as another
	// encoding, or that it exceeds a limit. Other programs may be able to read it.
	ErrUnsupported = errors.New("unsupported Parquet file")
)

// Reader reads a file that Writer wrote. It has one row group in memory, which has at most MaxGroup
// bytes before compression. It checks the checksums of pages and all lengths and counts, so that a
// file of a stranger does no harm. Reader is safe for concurrent use if the file is.
type Reader struct {
	from io.ReaderAt
	footer
	zstd *zstd.Decoder
}

// Open reads the description of a file of size bytes. It returns ErrDamaged or ErrUnsupported, or an
// error of from. The errors of the methods are the same.
func Open(from io.ReaderAt, size int64) (*Reader, error) {
	described, err := readFooter(from, size)
	if err != nil {
		return nil, fmt.Errorf("open a Parquet file: %w", err)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxGroup), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("open a Parquet file: %w", err)
	}
	return &Reader{from: from, footer: *described, zstd: decoder}, nil
}

// Columns returns the columns.
func (r *Reader) Columns() []Column {
	columns := make([]Column, len(r.columns))
	for i := range r.columns {
		columns[i] = r.columns[i].Column
	}
	return columns
}

// Rows returns the number of rows. Rows without values take no space: who expects a number compares
// it before reading.
func (r *Reader) Rows() int64 { return r.rows }

// Groups returns the number of row groups.
func (r *Reader) Groups() int { return len(r.groups) }

// GroupRows returns the number of rows of a row group, which is below Groups.
func (r *Reader) GroupRows(i int) int64 { return r.groups[i].rows }

// All reads every row. A row has a value for each column, and is valid until the next one. After an
// error there is no other row.
func (r *Reader) All() iter.Seq2[[]Value, error] {
	return func(yield func([]Value, error) bool) {
		g := newGroupReader(r)
		for i := range r.groups {
			if !g.read(i, yield) {
				return
			}
		}
	}
}

// Group reads the rows of a row group, which is below Groups, as All does.
func (r *Reader) Group(i int) iter.Seq2[[]Value, error] {
	return func(yield func([]Value, error) bool) { newGroupReader(r).read(i, yield) }
}

// groupReader reads one row group after the other.
type groupReader struct {
	*Reader
	pages  []page
	packed []byte
	row    []Value
}

func newGroupReader(r *Reader) *groupReader {
	return &groupReader{Reader: r, pages: make([]page, len(r.columns)), row: make([]Value, len(r.columns))}
}

// read yields the rows of a row group. It returns whether to go on.
func (g *groupReader) read(i int, yield func([]Value, error) bool) bool {
	fail := func(err error) bool {
		yield(nil, fmt.Errorf("read row group %d of a Parquet file: %w", i, err))
		return false
	}
	if err := g.load(&g.groups[i]); err != nil {
		return fail(err)
	}
	for range g.groups[i].rows {
		for c := range g.pages {
			if err := g.pages[c].read(&g.row[c]); err != nil {
				return fail(g.inColumn(c, err))
			}
		}
		if !yield(g.row, nil) {
			return false
		}
	}
	for c := range g.pages {
		if err := g.pages[c].end(); err != nil {
			return fail(g.inColumn(c, err))
		}
	}
	return true
}

func (g *groupReader) inColumn(c int, err error) error {
	return fmt.Errorf("column %.64q: %w", g.columns[c].Name, err)
}

// load reads the pages of a row group.
func (g *groupReader) load(at *groupAt) error {
	for c := range at.chunks {
		if err := g.loadPage(&at.chunks[c], &g.pages[c], g.columns[c].Type); err != nil {
			return g.inColumn(c, err)
		}
	}
	return nil
}

func (g *groupReader) loadPage(at *chunkAt, p *page, of Type) error {
	if int64(cap(g.packed)) < at.compressed {
		g.packed = make([]byte, at.compressed)
	}
	g.packed = g.packed[:at.compressed]
	if err := readAt(g.from, g.packed, at.offset); err != nil {
		return err
	}
	packed, size, err := readPageHeader(g.packed, at)
	if err != nil {
		return fmt.Errorf("page header: %w", err)
	}
	content := p.content
	if int64(cap(content)) < size {
		content = make([]byte, 0, size)
	}
	content, err = g.zstd.DecodeAll(packed, content[:0:size])
	if err != nil {
		return fmt.Errorf("unpack a page of %d bytes: %w: %w", size, err, ErrDamaged)
	}
	if int64(len(content)) != size {
		return fmt.Errorf("a page of %d bytes, want %d: %w", len(content), size, ErrDamaged)
	}
	return p.begin(content, of, at.levels)
}

// readPageHeader reads the header of the page that fills the chunk. It returns the packed content,
// whose checksum it has compared, and the size of the content.
func readPageHeader(chunk []byte, at *chunkAt) (packed []byte, size int64, err error) {
	h := pageHeader{kind: -1, values: -1, encodings: [3]int64{-1, -1, -1}}
	r := thriftReader{b: chunk}
	h.read(&r)
	if r.err != nil {
		return nil, 0, r.err
	}
	packed = r.b
	switch {
	case h.kind != dataPage:
		return nil, 0, fmt.Errorf("a page of type %d, want %d: %w", h.kind, dataPage, ErrUnsupported)
	case h.encodings != [3]int64{encodingPlain, encodingRLE, encodingRLE}:
		return nil, 0, fmt.Errorf("encodings %v: %w", h.encodings, ErrUnsupported)
	case h.compressed >= 0 && h.compressed < int64(len(packed)):
		return nil, 0, fmt.Errorf("several pages: %w", ErrUnsupported)
	case h.compressed != int64(len(packed)):
		return nil, 0, fmt.Errorf("%d bytes of a page of %d: %w", len(packed), h.compressed, ErrDamaged)
	case h.uncompressed != at.uncompressed-int64(len(chunk)-len(packed)):
		return nil, 0, fmt.Errorf("%d bytes before compression, the footer has %d with the header: %w", h.uncompressed, at.uncompressed, ErrDamaged)
	case h.uncompressed < 0:
		return nil, 0, fmt.Errorf("%d bytes before compression: %w", h.uncompressed, ErrDamaged)
	case h.values != at.levels:
		return nil, 0, fmt.Errorf("%d values, the footer has %d: %w", h.values, at.levels, ErrDamaged)
	case h.hasChecksum && h.checksum != crc32.ChecksumIEEE(packed):
		return nil, 0, fmt.Errorf("another checksum: %w", ErrDamaged)
	}
	return packed, h.uncompressed, nil
}

// pageHeader has the fields of PageHeader.
type pageHeader struct {
	kind                     int64
	uncompressed, compressed int64 // bytes
	values                   int64
	encodings                [3]int64 // of values, definition levels and repetition levels
	checksum                 uint32
	hasChecksum              bool
}

func (h *pageHeader) read(r *thriftReader) {
	r.structure(thriftStruct, func(id int64, kind byte) bool {
		switch id {
		case 1:
			h.kind = r.integer(kind)
		case 2:
			h.uncompressed = r.integer(kind)
		case 3:
			h.compressed = r.integer(kind)
		case 4:
			h.checksum, h.hasChecksum = uint32(r.integer(kind)), true
		case 5:
			r.structure(kind, func(id int64, kind byte) bool {
				switch id {
				case 1:
					h.values = r.integer(kind)
				case 2, 3, 4:
					h.encodings[id-2] = r.integer(kind)
				default:
					return false
				}
				return true
			})
		default:
			return false
		}
		return true
	})
}
