package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Facets are the fields of indexed entries that are counted. A new entry has them in a row of
// its own (recent_facets). Once a tenant has foldAt of these, they move into blocks of columns
// (facet_blocks), which are counted fast, and into roll-ups, which need no counting; see fold.go.

// facetColumns are the fields that are columns of a block, in their order. Columns that are
// counted often, and small, come first.
var facetColumns = [...]audit.Field{
	audit.FieldSeverity, audit.FieldAction, audit.FieldResourceType, audit.FieldSubmittedBy, audit.FieldUserID,
	audit.FieldIPAddress, audit.FieldResourceID, audit.FieldSessionID, audit.FieldRequestID,
}

// Columns by their place in facetColumns.
const (
	columnSeverity = iota
	columnAction
	columnResourceType
	columnSubmittedBy
	columnUserID
)

// columnOf returns the place of a field in facetColumns, -1 if it has none.
func columnOf(field audit.Field) int { return slices.Index(facetColumns[:], field) }

// facetRow is an indexed entry.
type facetRow struct {
	key    int64
	values [len(facetColumns)]string
}

func facetsOf(e *audit.Entry) (values [len(facetColumns)]string) {
	for i, field := range facetColumns {
		values[i] = e.Value(field)
	}
	return values
}

// errBadFacets says that the file has facets that this package did not write.
var errBadFacets = errors.New("the facets are damaged")

// appendFacets appends the values, each with its length before it.
func appendFacets(dst []byte, values *[len(facetColumns)]string) []byte {
	size := binary.MaxVarintLen16 * len(values)
	for _, value := range values {
		size += len(value)
	}
	dst = slices.Grow(dst, size)
	for _, value := range values {
		dst = appendText(dst, value)
	}
	return dst
}

func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

func parseFacets(data []byte) (values [len(facetColumns)]string, err error) {
	p := parser[string]{text: string(data)}
	for i := range values {
		values[i] = p.part()
	}
	return values, p.end()
}

// parser reads what this package encodes. After a fault it returns zero values, and end an
// error. The parts that it returns share the text's memory.
type parser[T string | []byte] struct {
	text   T
	failed bool
}

func (p *parser[T]) uvarint() uint64 {
	if len(p.text) > 0 && p.text[0] < 0x80 { // as most are
		n := p.text[0]
		p.text = p.text[1:]
		return uint64(n)
	}
	var n uint64
	for i := 0; i < len(p.text) && i < binary.MaxVarintLen64; i++ {
		n |= uint64(p.text[i]&0x7f) << (7 * i)
		if p.text[i] < 0x80 {
			p.text = p.text[i+1:]
			return n
		}
	}
	p.fail()
	return 0
}

func (p *parser[T]) fail() { p.text, p.failed = p.text[:0], true }

// count returns a number of values of at least one byte each.
func (p *parser[T]) count() int {
	n := p.uvarint()
	if n > uint64(len(p.text)) {
		p.fail()
		return 0
	}
	return int(n)
}

func (p *parser[T]) bytes(n int) T {
	if n > len(p.text) {
		p.fail()
		return p.text
	}
	part := p.text[:n]
	p.text = p.text[n:]
	return part
}

// part returns a part with its length before it.
func (p *parser[T]) part() T { return p.bytes(p.count()) }

// appendParts appends a list of parts with its length before it.
func (p *parser[T]) appendParts(dst []T) []T {
	n := p.count()
	dst = slices.Grow(dst, n)
	for range n {
		dst = append(dst, p.part())
	}
	return dst
}

// end returns errBadFacets if there was a fault or something is left.
func (p *parser[T]) end() error {
	if p.failed || len(p.text) > 0 {
		return errBadFacets
	}
	return nil
}

var recentFacetInserts = insertsInto(`recent_facets (tenant, key, facets)`, 1, 2)

// insertFacets adds entries that are indexed now, maxInserted at most.
func (b *batch) insertFacets(tenant int64, rows []*indexRow) error {
	args := recentFacetInserts.args(len(rows), tenant)
	for _, row := range rows {
		args = append(args, row.key, appendFacets(nil, &row.facets))
	}
	inserted, err := b.insert(recentFacetInserts, args)
	if err == nil && inserted < len(rows) {
		err = errBadFacets // of other entries with their keys
	}
	if err != nil {
		return err
	}
	return b.noteRecent(tenant, len(rows))
}

// recentFacets returns up to limit rows of recent_facets within the span, in the order of their keys.
func (c *conn) recentFacets(ctx context.Context, tenant int64, s span, limit int) (rows []facetRow, err error) {
	var row facetRow
	var data sql.RawBytes
	err = c.each(ctx, `SELECT key, facets FROM recent_facets WHERE tenant = ? AND key BETWEEN ? AND ? ORDER BY key LIMIT ?`,
		[]any{tenant, s.first, s.last, limit}, []any{&row.key, &data}, func() (bool, error) {
			var err error
			row.values, err = parseFacets(data)
			rows = append(rows, row)
			return true, err
		})
	return rows, err
}
