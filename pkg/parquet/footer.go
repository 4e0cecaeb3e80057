package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Limits of a file that is read.
const (
	// MaxGroup is how much a row group can have before compression, and after it, in bytes. A Reader has
	// one row group in memory.
	MaxGroup = 64 << 20
	// maxFooter is how long the description of a file can be, in bytes. Each column of each row group
	// takes about 100.
	maxFooter = 16 << 20
	// maxNodes is how many elements the tree of columns can have. A list takes three.
	maxNodes = 30_000
	// maxGroupRows is how many rows a row group can have. Values that are absent take no space, so that
	// the size of a file does not bound its rows.
	maxGroupRows = 1 << 24
)

// encryptedMagic ends a file whose description is encrypted.
const encryptedMagic = "PARE"

// footer is the description of a file.
type footer struct {
	columns []column
	rows    int64
	groups  []groupAt
}

// groupAt is where a row group is in a file.
type groupAt struct {
	rows   int64
	chunks []chunkAt // by column
}

// chunkAt is where the page of a column is in a file.
type chunkAt struct {
	offset, compressed, uncompressed int64 // bytes, with the page's header
	levels                           int64
}

// readAt reads a part of the file.
func readAt(from io.ReaderAt, buffer []byte, offset int64) error {
	n, err := from.ReadAt(buffer, offset)
	switch {
	case n == len(buffer):
		return nil
	case errors.Is(err, io.EOF) || err == nil:
		return fmt.Errorf("the file ends at byte %d: %w", offset+int64(n), ErrDamaged)
	}
	return err
}

// readFooter reads the description of a file, and checks that the row groups fill the file.
func readFooter(from io.ReaderAt, size int64) (*footer, error) {
	const ends = 2*len(magic) + 4 // bytes: the magic words and the footer's length
	if size < int64(ends) {
		return nil, fmt.Errorf("%d bytes: %w", size, ErrDamaged)
	}
	var begin [len(magic)]byte
	var end [4 + len(magic)]byte
	if err := errors.Join(readAt(from, begin[:], 0), readAt(from, end[:], size-int64(len(end)))); err != nil {
		return nil, err
	}
	if string(end[4:]) == encryptedMagic {
		return nil, fmt.Errorf("an encrypted file: %w", ErrUnsupported)
	}
	if string(begin[:]) != magic || string(end[4:]) != magic {
		return nil, fmt.Errorf("no %s at the beginning and at the end: %w", magic, ErrDamaged)
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	switch {
	case length > size-int64(ends):
		return nil, fmt.Errorf("a footer of %d bytes in a file of %d: %w", length, size, ErrDamaged)
	case length > maxFooter:
		return nil, fmt.Errorf("a footer of %d bytes, at most %d: %w", length, maxFooter, ErrUnsupported)
	}
	text := make([]byte, length)
	offset := size - int64(len(end)) - length
	if err := readAt(from, text, offset); err != nil {
		return nil, err
	}
	return parseFooter(text, offset)
}

// parseFooter reads the description of a file that begins at the offset.
func parseFooter(text []byte, offset int64) (*footer, error) {
	r := footerReader{thriftReader: thriftReader{b: text}, next: int64(len(magic))}
	var rows int64
	r.structure(thriftStruct, func(id int64, kind byte) bool {
		switch id {
		case 2:
			r.readSchema(kind)
		case 3:
			rows = r.integer(kind)
		case 4:
			r.list(kind, func(uint64) { r.wantColumns() }, r.readGroup)
		case 8:
			r.refuse("it is encrypted")
		default:
			return false
		}
		return true
	})
	r.wantColumns()
	if len(r.b) > 0 {
		r.fail("%d bytes after the footer's fields", len(r.b))
	}
	if r.rows != rows {
		r.fail("%d rows, the row groups have %d", rows, r.rows)
	}
	switch {
	case r.next > offset:
		r.fail("the row groups end at byte %d, the footer begins at %d", r.next, offset)
	case r.next < offset:
		r.refuse("%d bytes between the row groups and the footer", offset-r.next)
	}
	if r.err != nil {
		return nil, fmt.Errorf("footer: %w", r.err)
	}
	return &r.footer, nil
}

// footerReader reads a footer. Its row groups follow one another without a gap, so that no two of them
// share a page.
type footerReader struct {
	thriftReader
	footer
	next int64 // where the next page begins
}

// refuse reports something that other writers write.
func (r *footerReader) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format+": %w", append(args, ErrUnsupported)...)
	}
	r.b = nil
}

// wantColumns fails unless the columns are known.
func (r *footerReader) wantColumns() {
	if len(r.columns) == 0 {
		r.refuse("no columns")
	}
}

// node is an element of the tree of columns.
type node struct {
	physical, repetition, converted int64 // -1: not given
	name                            string
	children                        int64
	logical                         int64 // the type's id in the union of logical types; 0: none
	isUTCMillis                     bool
}

func (r *footerReader) readSchema(kind byte) {
	var nodes []node
	r.list(kind, func(n uint64) {
		if n > maxNodes {
			r.refuse("a schema of %d elements, at most %d", n, maxNodes)
		}
	}, func(kind byte) { nodes = append(nodes, r.readNode(kind)) })
	if r.err != nil {
		return
	}
	if len(nodes) == 0 || len(r.columns) > 0 {
		r.fail("a schema without a root, or a second one")
		return
	}
	root, rest := nodes[0], nodes[1:]
	for range root.children {
		if len(rest) == 0 || r.err != nil {
			r.fail("a schema of %d columns has fewer", root.children)
			return
		}
		rest = r.addColumn(rest)
	}
	if len(rest) > 0 {
		r.fail("%d elements of the schema below no column", len(rest))
	}
}

// addColumn adds the column that the first node describes. It returns the nodes after it.
func (r *footerReader) addColumn(nodes []node) []node {
	first := &nodes[0]
	of, used := columnType(nodes)
	if used == 0 {
		r.refuse("column %.64q has a type that is not read", first.name)
		return nil
	}
	r.columns = append(r.columns, column{Column: Column{Name: first.name, Type: of}})
	return nodes[used:]
}

// columnType returns the type that the first nodes describe, and how many they are. It returns 0 nodes
// for what the writer does not write.
func columnType(nodes []node) (of Type, used int) {
	first := &nodes[0]
	switch {
	case first.repetition != optional:
	case first.children == 1 && len(nodes) > 2 && isList(nodes):
		return Texts, 3
	case first.children != 0:
	case first.physical == physicalByteArray && (first.logical == logicalString || first.logical == 0 && first.converted == convertedUTF8):
		return Text, 1
	case first.physical == physicalInt64 && first.logical == logicalTimestamp && first.isUTCMillis:
		return Timestamp, 1
	case first.physical == physicalInt64 && first.logical == 0 && first.converted == -1:
		return Integer, 1
	}
	return 0, 0
}

// isList reports whether the first three nodes are a list of texts.
func isList(nodes []node) bool {
	list, text := &nodes[1], &nodes[2]
	return nodes[0].converted == convertedList && nodes[0].physical == -1 &&
		list.repetition == repeated && list.children == 1 && list.physical == -1 && list.name == listName &&
		text.repetition == required && text.children == 0 && text.physical == physicalByteArray && text.converted == convertedUTF8 && text.name == elementName
}

func (r *footerReader) readNode(kind byte) node {
	n := node{physical: -1, repetition: -1, converted: -1}
	r.structure(kind, func(id int64, kind byte) bool {
		switch id {
		case 1:
			n.physical = r.integer(kind)
		case 3:
			n.repetition = r.integer(kind)
		case 4:
			n.name = string(r.text(kind))
		case 5:
			n.children = r.integer(kind)
		case 6:
			n.converted = r.integer(kind)
		case 10:
			r.structure(kind, func(id int64, kind byte) bool {
				n.logical = id
				if id == logicalTimestamp {
					n.isUTCMillis = r.readTimestamp(kind)
				}
				return id == logicalTimestamp
			})
		default:
			return false
		}
		return true
	})
	return n
}

// readTimestamp reports whether times are UTC, in milliseconds.
func (r *footerReader) readTimestamp(kind byte) bool {
	var utc, millis bool
	r.structure(kind, func(id int64, kind byte) bool {
		switch id {
		case 1:
			utc = r.isTrue(kind)
			return true
		case 2:
			r.structure(kind, func(id int64, _ byte) bool {
				millis = id == 1
				return false
			})
			return true
		}
		return false
	})
	return utc && millis
}

func (r *footerReader) readGroup(kind byte) {
	g := groupAt{rows: -1}
	r.structure(kind, func(id int64, kind byte) bool {
		switch id {
		case 1:
			r.list(kind, func(n uint64) {
				if n != uint64(len(r.columns)) || g.chunks != nil {
					r.fail("a row group of %d columns, want %d", n, len(r.columns))
				}
			}, func(kind byte) { g.chunks = append(g.chunks, r.readChunk(kind, &r.columns[len(g.chunks)])) })
		case 3:
			g.rows = r.integer(kind)
		default:
			return false
		}
		return true
	})
	if r.err == nil {
		r.addGroup(&g)
	}
	if r.err != nil {
		r.err = fmt.Errorf("row group %d: %w", len(r.groups), r.err)
		return
	}
	r.groups = append(r.groups, g)
	r.rows += g.rows
}

// addGroup checks a row group.
func (r *footerReader) addGroup(g *groupAt) {
	switch {
	case len(g.chunks) != len(r.columns):
		r.fail("no columns")
	case g.rows < 0:
		r.fail("%d rows", g.rows)
	case g.rows > maxGroupRows:
		r.refuse("%d rows, at most %d", g.rows, maxGroupRows)
	}
	var compressed, uncompressed int64
	for i := range g.chunks {
		c, levels := &r.columns[i], g.chunks[i].levels
		if levels < g.rows || c.Type != Texts && levels != g.rows {
			r.fail("column %.64q: %d values of %d rows", c.Name, levels, g.rows)
		}
		compressed += g.chunks[i].compressed
		uncompressed += g.chunks[i].uncompressed
	}
	if larger := max(compressed, uncompressed); larger > MaxGroup {
		r.refuse("%d bytes, at most %d", larger, MaxGroup)
	}
}

// readChunk reads where the page of a column is.
func (r *footerReader) readChunk(kind byte, c *column) (at chunkAt) {
	described := false
	r.structure(kind, func(id int64, kind byte) bool {
		switch id {
		case 1:
			r.refuse("its values are in another file")
		case 3:
			described = true
			at = r.readChunkMetadata(kind, c)
		case 8, 9:
			r.refuse("it is encrypted")
		default:
			return false
		}
		return true
	})
	if !described {
		r.fail("no description")
	}
	if r.err == nil {
		r.place(&at)
	}
	if r.err != nil {
		r.err = fmt.Errorf("column %.64q: %w", c.Name, r.err)
	}
	return at
}

// place checks that a page begins where the one before ends.
func (r *footerReader) place(at *chunkAt) {
	switch {
	case at.offset < r.next:
		r.fail("its page begins at byte %d, the one before ends at %d", at.offset, r.next)
	case at.offset > r.next:
		r.refuse("%d bytes before its page", at.offset-r.next)
	case at.compressed <= 0 || at.uncompressed <= 0 || at.levels < 0:
		r.fail("%d values in %d bytes, %d before compression", at.levels, at.compressed, at.uncompressed)
	case at.compressed > MaxGroup || at.uncompressed > MaxGroup:
		r.refuse("%d bytes, %d before compression, at most %d", at.compressed, at.uncompressed, MaxGroup)
	default:
		r.next += at.compressed
	}
}

func (r *footerReader) readChunkMetadata(kind byte, c *column) (at chunkAt) {
	physical, codec := int64(-1), int64(-1)
	var path []string
	r.structure(kind, func(id int64, kind byte) bool {
		switch id {
		case 1:
			physical = r.integer(kind)
		case 3:
			r.list(kind, r.wantPath, func(kind byte) { path = append(path, string(r.text(kind))) })
		case 4:
			codec = r.integer(kind)
		case 5:
			at.levels = r.integer(kind)
		case 6:
			at.uncompressed = r.integer(kind)
		case 7:
			at.compressed = r.integer(kind)
		case 9:
			at.offset = r.integer(kind)
		case 11:
			r.refuse("it has a dictionary")
		default:
			return false
		}
		return true
	})
	switch {
	case physical != int64(c.physical()):
		r.fail("it has type %d, want %d", physical, c.physical())
	case !slices.Equal(path, c.path()):
		r.fail("it is column %.64q", path)
	case codec != codecZstd:
		r.refuse("it is compressed with codec %d, want %d", codec, codecZstd)
	}
	return at
}

// wantPath checks the number of names from the root to a column.
func (r *footerReader) wantPath(n uint64) {
	if n > 3 {
		r.refuse("a column below %d others", n-1)
	}
}
