// Package parquet writes tables as Parquet files, one row group after the other, so that one process
// can continue the file of another after any row group. It has what a table of entries needs: flat
// columns of texts, numbers and times, and lists of texts. It encodes them plainly, in one page for
// each column and row group, compressed with zstd. Libraries for every encoding and reflection add
// megabytes to a function, and cannot continue a file. The format is that of
// https://github.com/apache/parquet-format.
package parquet

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Type is the type of a column. Every column can lack a value in any row.
type Type uint8

// The types.
const (
	Text      Type = iota // UTF-8
	Texts                 // a list of texts
	Integer               // 64 bits, signed
	Timestamp             // UTC, milliseconds since 1970
)

// Column describes a column.
type Column struct {
	Name string
	Type Type
}

// Value is a column's value in one row. The zero Value stands for none.
type Value struct {
	Valid   bool
	Text    []byte   // of type Text
	Texts   [][]byte // of type Texts
	Integer int64    // of types Integer and Timestamp
}

// State is what a process needs to continue a file after a row group.
type State struct {
	Size   int64 `json:"size,omitempty"` // bytes that were written
	Rows   int64 `json:"rows,omitempty"`
	Groups int   `json:"groups,omitempty"`
	// Metadata describes the row groups, as the end of the file has it. It has about 100 bytes for
	// each column and row group.
	Metadata []byte `json:"metadata,omitempty"`
}

// Writer writes a file.
type Writer struct {
	columns []column
	state   State
	rows    int64 // buffered
	size    int   // of what is buffered, in bytes before compression
	page    []byte
	packed  []byte
	zstd    *zstd.Encoder
}

// window is how far back compression looks, in bytes. More takes memory and saves next to nothing.
const window = 1 << 20

// NewWriter returns a writer that continues a file, from its beginning if the state is zero.
func NewWriter(columns []Column, from State) (*Writer, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true), zstd.WithWindowSize(window))
	if err != nil {
		return nil, fmt.Errorf("write a Parquet file: %w", err)
	}
	w := &Writer{columns: make([]column, len(columns)), state: from, zstd: encoder}
	for i, c := range columns {
		w.columns[i].Column = c
	}
	return w, nil
}

// State returns the state after what Flush has appended.
func (w *Writer) State() State { return w.state }

// Size returns the number of bytes of the rows that are buffered, before compression.
func (w *Writer) Size() int { return w.size }

// Add buffers a row, which has a value for each column. It keeps no reference to the row.
func (w *Writer) Add(row []Value) {
	w.rows++
	for i := range w.columns {
		w.size += w.columns[i].add(&row[i])
	}
}

// magic begins and ends a file.
const magic = "PAR1"

// Flush appends the buffered rows as a row group. The first call also appends what precedes the
// first row group.
func (w *Writer) Flush(dst []byte) []byte {
	if w.state.Size == 0 {
		dst = append(dst, magic...)
		w.state.Size = int64(len(magic))
	}
	if w.rows == 0 {
		return dst
	}
	group := rowGroup{offset: w.state.Size, rows: w.rows, ordinal: w.state.Groups}
	begin := len(dst)
	for i := range w.columns {
		dst = w.appendPage(dst, begin, &w.columns[i], &group)
	}
	w.state.Metadata = group.append(w.state.Metadata)
	w.state.Size += int64(len(dst) - begin)
	w.state.Rows += w.rows
	w.state.Groups++
	w.rows, w.size = 0, 0
	return dst
}

// appendPage appends what a column has buffered. The row group begins at dst[begin].
func (w *Writer) appendPage(dst []byte, begin int, c *column, group *rowGroup) []byte {
	w.page = c.appendTo(w.page[:0])
	w.packed = w.zstd.EncodeAll(w.page, w.packed[:0])
	chunk := chunk{column: c, offset: group.offset + int64(len(dst)-begin)}
	start := len(dst)
	dst = append(appendPageHeader(dst, c.levels, len(w.page), w.packed), w.packed...)
	chunk.compressed = int64(len(dst) - start)
	chunk.uncompressed = chunk.compressed - int64(len(w.packed)) + int64(len(w.page))
	group.add(&chunk)
	c.reset()
	return dst
}

// Close appends the rest of the file: the buffered rows, and what readers look for at the end.
func (w *Writer) Close(dst []byte) []byte {
	dst = w.Flush(dst)
	begin := len(dst)
	dst = appendFooter(dst, w.columns, &w.state)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(dst)-begin))
	return append(dst, magic...)
}

// maxIdle is the size up to which the memory of a buffer is kept although little of it is used.
const maxIdle = 64 << 10

// keep empties a buffer for its next use. It frees a large one of which less than half was used, so
// that the buffers of many columns, each large once, do not add up.
func keep(buffer []byte) []byte {
	if cap(buffer) > maxIdle && len(buffer) < cap(buffer)/2 {
		return nil
	}
	return buffer[:0]
}
