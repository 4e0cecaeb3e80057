package parquet

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// Page is the page of a column, which may be no such thing.
type Page struct {
	Levels  int
	Content []byte // before compression
}

// Craft returns a file of one row group with a page for each column. Its description and its checksums
// are right whatever the pages have.
func Craft(columns []Column, rows int64, pages []Page) ([]byte, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	if err != nil {
		return nil, err
	}
	described := make([]column, len(columns))
	group := rowGroup{offset: int64(len(magic)), rows: rows}
	file := []byte(magic)
	for i, p := range pages {
		described[i] = column{Column: columns[i], levels: p.Levels}
		packed := encoder.EncodeAll(p.Content, nil)
		at := chunk{column: &described[i], offset: int64(len(file))}
		file = append(appendPageHeader(file, p.Levels, len(p.Content), packed), packed...)
		at.compressed = int64(len(file)) - at.offset
		at.uncompressed = at.compressed + int64(len(p.Content)-len(packed))
		group.add(&at)
	}
	return Seal(file, appendFooter(nil, described, &State{Rows: rows, Groups: 1, Metadata: group.append(nil)})), nil
}

// Seal appends a footer to what precedes it.
func Seal(file, footer []byte) []byte {
	file = binary.LittleEndian.AppendUint32(append(file, footer...), uint32(len(footer)))
	return append(file, magic...)
}
