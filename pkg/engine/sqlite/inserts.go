package sqlite

import (
	"fmt"
	"slices"
	"strings"
)

// Rows that are stored together are inserted by one statement, because a statement costs more than a row.

// maxInserted bounds the rows of one statement. It is about what a chunk of documents has.
const maxInserted = 32

// inserts are the statements that insert 1 to maxInserted rows into a table. They leave out rows of which a
// unique column is taken.
type inserts struct {
	shared, own int                 // columns
	queries     [maxInserted]string // by the number of rows, less one
}

// insertsInto returns the statements for a table and a list of its columns. All rows share the values of the
// first ones, and have others of their own.
func insertsInto(table string, shared, own int) *inserts {
	i := &inserts{shared: shared, own: own}
	var columns []string
	for n := range shared {
		columns = append(columns, fmt.Sprint(`?`, n+1))
	}
	row := `(` + strings.Join(append(columns, slices.Repeat([]string{`?`}, own)...), `, `) + `)`
	for n := range i.queries {
		i.queries[n] = `INSERT INTO ` + table + ` VALUES ` + row + strings.Repeat(`, `+row, n) + ` ON CONFLICT DO NOTHING`
	}
	return i
}

// args returns the shared values, with memory for those of so many rows.
func (i *inserts) args(rows int, shared ...any) []any {
	return append(make([]any, 0, i.shared+i.own*rows), shared...)
}

// insert inserts rows. args has their shared values, and then those of one row after the other. It returns how
// many were inserted.
func (c *conn) insert(into *inserts, args []any) (inserted int, err error) {
	changed, err := c.exec(into.queries[(len(args)-into.shared)/into.own-1], args...)
	return int(changed), err
}
