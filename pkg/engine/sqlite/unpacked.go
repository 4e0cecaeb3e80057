package sqlite

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// Older files have the facets of all entries in one table of wide rows.
// Its migration renames the table to unpacked_facets. packFacets moves the rows from there.

// packedAtOnce is the number of rows that packFacets moves in one transaction.
const packedAtOnce = 4096

// packFacets moves the facets of an older file. A process that is killed meanwhile, or another
// one that opens the file, continues where the last transaction ended.
func (w *writer) packFacets(ctx context.Context) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
		b := &batch{conn: &w.conn, writer: w}
		var err error
		if more, err = b.packSomeFacets(); err == nil {
			err = b.flush()
		}
		if err != nil {
			w.rollback()
			return fmt.Errorf("pack facets: %w", err)
		}
		if err := w.commit(); err != nil {
			return fmt.Errorf("pack facets: %w", err)
		}
	}
	return nil
}

// packSomeFacets moves some rows, and drops the table once it is empty.
func (b *batch) packSomeFacets() (more bool, err error) {
	ctx := context.Background()
	tables, err := b.int64(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'unpacked_facets'`)
	if err != nil || tables == 0 {
		return false, err
	}
	type indexed struct{ tenant, key int64 }
	var rows []indexed
	var docs [][]byte
	var row indexed
	var doc []byte
	err = b.eachUnprepared(ctx, `SELECT f.tenant, f.key, e.doc FROM unpacked_facets f LEFT JOIN entries e ON e.key = f.key AND e.tenant = f.tenant
		ORDER BY f.tenant, f.key LIMIT ?`, []any{packedAtOnce}, []any{&row.tenant, &row.key, &doc}, func() (bool, error) {
		rows, docs = append(rows, row), append(docs, doc)
		return true, nil
	})
	if err != nil {
		return false, err
	}
	if len(rows) == 0 {
		_, err := b.link.ExecContext(ctx, `DROP TABLE unpacked_facets`)
		return false, err
	}
	for i, row := range rows {
		if docs[i] == nil { // the entry was removed
			continue
		}
		e, err := entryjson.ParseStored(docs[i])
		if err != nil {
			return false, fmt.Errorf("entry with key %d: %w", row.key, err)
		}
		values := facetsOf(&e)
		if err := b.insertFacets(row.tenant, row.key, &values); err != nil {
			return false, err
		}
	}
	last := rows[len(rows)-1]
	_, err = b.link.ExecContext(ctx, `DELETE FROM unpacked_facets WHERE (tenant, key) <= (?, ?)`, last.tenant, last.key)
	return true, err
}
