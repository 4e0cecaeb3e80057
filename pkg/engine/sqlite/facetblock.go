package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// maxBlock is the number of entries of a block at most. The two bytes of a code allow 65,536.
const maxBlock = 2048

// facetBlock is some entries of a tenant, by column.
type facetBlock struct {
	keys    []int64                         // in rising order
	columns [len(facetColumns)]*facetColumn // nil: not read
}

// facetColumn has the values of a column: that of entry i is values[codes[i]]. If there is only
// one value, it has no codes.
type facetColumn struct {
	values []string
	codes  []uint16
}

func (c *facetColumn) code(i int32) int {
	if c.codes == nil {
		return 0
	}
	return int(c.codes[i])
}

// columnSet is a set of places in facetColumns.
type columnSet uint16

const allColumns columnSet = 1<<len(facetColumns) - 1

func (s columnSet) has(column int) bool { return s>>column&1 == 1 }

func (s *columnSet) add(column int) { *s |= 1 << column }

// newBlock returns the block of rows, which are in rising order, with some of the columns.
func newBlock(rows []facetRow, columns columnSet) *facetBlock {
	b := &facetBlock{keys: make([]int64, len(rows))}
	for i := range rows {
		b.keys[i] = rows[i].key
	}
	for column := range facetColumns {
		if columns.has(column) {
			b.columns[column] = newColumn(rows, column)
		}
	}
	return b
}

func newColumn(rows []facetRow, column int) *facetColumn {
	c := &facetColumn{codes: make([]uint16, len(rows))}
	known := map[string]uint16{}
	for i := range rows {
		value := rows[i].values[column]
		code, found := known[value]
		if !found {
			code = uint16(len(c.values))
			known[value] = code
			c.values = append(c.values, value)
		}
		c.codes[i] = code
	}
	if len(c.values) == 1 {
		c.codes = nil
	}
	return c
}

// rows returns the entries of a block that has all columns.
func (b *facetBlock) rows() []facetRow {
	rows := make([]facetRow, len(b.keys))
	for i := range rows {
		rows[i].key = b.keys[i]
		for column := range facetColumns {
			c := b.columns[column]
			rows[i].values[column] = c.values[c.code(int32(i))]
		}
	}
	return rows
}

// pick returns a block of those entries of a block with all columns whose places are given. It takes far less time
// than newBlock, which compares the values.
func (b *facetBlock) pick(places []int) *facetBlock {
	picked := &facetBlock{keys: make([]int64, len(places))}
	for i, place := range places {
		picked.keys[i] = b.keys[place]
	}
	for column := range facetColumns {
		picked.columns[column] = b.columns[column].pick(places)
	}
	return picked
}

func (c *facetColumn) pick(places []int) *facetColumn {
	picked := &facetColumn{codes: make([]uint16, len(places))}
	next := make([]uint16, len(c.values)) // by the code: the picked one, plus 1
	for i, place := range places {
		code := c.code(int32(place))
		if next[code] == 0 {
			picked.values = append(picked.values, c.values[code])
			next[code] = uint16(len(picked.values))
		}
		picked.codes[i] = next[code] - 1
	}
	if len(picked.values) == 1 {
		picked.codes = nil
	}
	return picked
}

// appendKeys appends the first key and the differences to the next ones.
func appendKeys(dst []byte, keys []int64) []byte {
	var before int64
	for _, key := range keys {
		dst = binary.AppendUvarint(dst, uint64(key-before))
		before = key
	}
	return dst
}

// parseKeys parses n keys into the memory of the slice.
func parseKeys(keys []int64, data []byte, n int) ([]int64, error) {
	if n < 0 || n > len(data) {
		return nil, errBadFacets
	}
	keys = slices.Grow(keys[:0], n)[:n]
	var key int64
	for i := range keys {
		difference, size := binary.Uvarint(data)
		if size <= 0 {
			return nil, errBadFacets
		}
		data = data[size:]
		key += int64(difference)
		keys[i] = key
	}
	return keys, nil
}

// appendColumn appends the values, and then a code of one or two bytes for each entry.
func (c *facetColumn) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.values)))
	for _, value := range c.values {
		dst = appendText(dst, value)
	}
	for _, code := range c.codes {
		dst = append(dst, byte(code))
		if len(c.values) > 256 {
			dst = append(dst, byte(code>>8))
		}
	}
	return dst
}

// parse parses the column of n entries. It keeps the memory of the slices.
func (c *facetColumn) parse(data []byte, n int) error {
	p := parser[string]{text: string(data)}
	c.values, c.codes = p.appendParts(c.values[:0]), c.codes[:0]
	if len(c.values) == 1 {
		c.codes = nil
		return p.end()
	}
	c.codes = slices.Grow(c.codes, n)[:n]
	if len(c.values) <= 256 {
		for i, code := range []byte(p.bytes(n)) {
			c.codes[i] = uint16(code)
		}
	} else {
		codes := p.bytes(2 * n)
		for i := range len(codes) / 2 {
			c.codes[i] = uint16(codes[2*i]) | uint16(codes[2*i+1])<<8
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	for _, code := range c.codes {
		if int(code) >= len(c.values) {
			return errBadFacets
		}
	}
	return nil
}

// blockAt is a row of facet_blocks without its columns. Blocks of a tenant do not overlap. The
// span of a block holds its keys, and keys that were removed.
type blockAt struct {
	span
	number  int64 // of the row
	entries int
}

// blockQuery reads blocks of a tenant with some columns, in rising order, from the one that may
// have the first key of a span. There are as many queries as sets of columns.
func blockQuery(columns columnSet) string {
	selected := []string{"number", "first", "last", "entries", "keys"}
	for column, field := range facetColumns {
		if columns.has(column) {
			selected = append(selected, string(field)) // a constant of audit, which is the column's name
		}
	}
	return fmt.Sprintf(`SELECT %s FROM facet_blocks WHERE tenant = ?1 AND first >= coalesce(
		(SELECT max(first) FROM facet_blocks WHERE tenant = ?1 AND first <= ?2), ?2) AND first <= ?3 ORDER BY first`, strings.Join(selected, ", "))
}

// eachBlock reads the blocks that may have keys of the span, with some columns. The next block takes
// the memory of the one before, except for the texts of values.
func (c *conn) eachBlock(ctx context.Context, tenant int64, s span, columns columnSet, visit func(at blockAt, block *facetBlock) (more bool, err error)) error {
	var at blockAt
	var keys sql.RawBytes
	dest := []any{&at.number, &at.first, &at.last, &at.entries, &keys}
	var texts [len(facetColumns)]sql.RawBytes
	block := &facetBlock{}
	for column := range facetColumns {
		if columns.has(column) {
			dest = append(dest, &texts[column])
			block.columns[column] = &facetColumn{}
		}
	}
	return c.each(ctx, blockQuery(columns), []any{tenant, s.first, s.last}, dest, func() (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if at.intersect(s).empty() {
			return true, nil
		}
		var err error
		if block.keys, err = parseKeys(block.keys, keys, at.entries); err != nil {
			return false, fmt.Errorf("block %d: %w", at.number, err)
		}
		for i, column := range block.columns {
			if column == nil {
				continue
			}
			if err := column.parse(texts[i], at.entries); err != nil {
				return false, fmt.Errorf("block %d: %w", at.number, err)
			}
		}
		return visit(at, block)
	})
}

// insertBlock writes a block with all columns.
func (b *batch) insertBlock(tenant int64, s span, block *facetBlock) error {
	args := []any{tenant, s.first, s.last, len(block.keys), appendKeys(nil, block.keys)}
	for _, column := range block.columns {
		args = append(args, column.append(nil))
	}
	_, err := b.exec(insertBlockQuery, args...)
	return err
}

var insertBlockQuery = func() string {
	names := make([]string, len(facetColumns))
	for i, field := range facetColumns {
		names[i] = string(field)
	}
	return fmt.Sprintf(`INSERT INTO facet_blocks (tenant, first, last, entries, keys, %s) VALUES (?, ?, ?, ?, ?%s)`,
		strings.Join(names, ", "), strings.Repeat(", ?", len(names)))
}()

// insertBlocks writes rows as blocks of about the same size. They cover the span.
func (b *batch) insertBlocks(tenant int64, s span, rows []facetRow) error {
	return b.insertParts(maxBlock, len(rows), tenant, s, func(from, to int) *facetBlock { return newBlock(rows[from:to], allColumns) })
}

// insertParts writes n entries as blocks of up to most entries. part returns the block of those from ≤ place < to.
func (b *batch) insertParts(most, n int, tenant int64, s span, part func(from, to int) *facetBlock) error {
	parts := (n + most - 1) / most
	for i := range parts {
		block := part(i*n/parts, (i+1)*n/parts)
		covered := span{block.keys[0], block.keys[len(block.keys)-1]}
		if i == 0 {
			covered.first = s.first
		}
		if i == parts-1 {
			covered.last = s.last
		}
		if err := b.insertBlock(tenant, covered, block); err != nil {
			return err
		}
	}
	return nil
}

// readBlock returns the block with the greatest first key up to the given one, nil if there is none.
func (b *batch) readBlock(tenant, key int64) (at blockAt, block *facetBlock, err error) {
	err = b.eachBlock(context.Background(), tenant, span{key, key}, allColumns, func(foundAt blockAt, found *facetBlock) (bool, error) {
		at, block = foundAt, found
		return false, nil
	})
	return at, block, err
}

func (b *batch) deleteBlock(number int64) error {
	_, err := b.exec(`DELETE FROM facet_blocks WHERE number = ?`, number)
	return err
}

// mergeRows returns the rows of two lists in rising order, which have no key in common.
func mergeRows(x, y []facetRow) []facetRow {
	rows := append(slices.Clone(x), y...)
	slices.SortFunc(rows, func(a, b facetRow) int { return cmp.Compare(a.key, b.key) })
	return rows
}
