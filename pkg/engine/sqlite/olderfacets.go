package sqlite

import (
	"context"
	"fmt"
)

// Older files have the facets of all entries in one table of wide rows.
// Its migration renames the table to unpacked_facets. packOlderFacets moves the rows from there.

// migratedAtOnce is the number of rows that migrateRows moves in one transaction.
const migratedAtOnce = 4096

// migrateRows moves rows of an older file, in one transaction for each step. A process that is
// killed meanwhile, or another one that opens the file, continues where the last transaction ended.
func (w *writer) migrateRows(ctx context.Context, what string, step func(b *batch) (more bool, err error)) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
		b := &batch{conn: &w.conn, writer: w}
		var err error
		if more, err = step(b); err == nil {
			err = b.flush()
		}
		if err != nil {
			w.rollback()
			return fmt.Errorf("%s: %w", what, err)
		}
		if err := w.commit(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

func (c *conn) hasTable(ctx context.Context, name string) (bool, error) {
	n, err := c.int64(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?`, name)
	return n > 0, err
}

// packOlderFacets moves some rows, and drops the table once it is empty.
func (b *batch) packOlderFacets() (more bool, err error) {
	ctx := context.Background()
	if exists, err := b.hasTable(ctx, "unpacked_facets"); err != nil || !exists {
		return false, err
	}
	type indexed struct{ tenant, key int64 }
	var rows []indexed
	var row indexed
	err = b.eachUnprepared(ctx, `SELECT tenant, key FROM unpacked_facets ORDER BY tenant, key LIMIT ?`,
		[]any{migratedAtOnce}, []any{&row.tenant, &row.key}, func() (bool, error) {
			rows = append(rows, row)
			return true, nil
		})
	if err != nil {
		return false, err
	}
	if len(rows) == 0 {
		_, err := b.link.ExecContext(ctx, `DROP TABLE unpacked_facets`)
		return false, err
	}
	docs := docReader{conn: b.conn}
	for _, row := range rows { // there is no entry if it was removed
		err := docs.each(ctx, `SELECT `+entryColumns+` FROM entries e`+joinDocs+`WHERE e.tenant = ? AND e.key = ?`, []any{row.tenant, row.key}, func() (bool, error) {
			e, err := docs.entry(ctx)
			if err != nil {
				return false, err
			}
			return true, b.insertFacets(row.tenant, []*indexRow{{key: row.key, facets: facetsOf(&e)}})
		})
		if err != nil {
			return false, err
		}
	}
	last := rows[len(rows)-1]
	_, err = b.link.ExecContext(ctx, `DELETE FROM unpacked_facets WHERE (tenant, key) <= (?, ?)`, last.tenant, last.key)
	return true, err
}
