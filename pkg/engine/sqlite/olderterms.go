package sqlite

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// Older files have the tokens of entries in terms, a table of SQLite's module FTS5. rebuildTerms
// removes it and builds the tokens again from the documents.

const (
	// droppedAtOnce is the number of rows of the older table that one transaction removes. Those with
	// tokens have about 4 KB.
	droppedAtOnce = 2000
	// rebuiltBytes bounds the documents that one transaction reads, unless there is only one.
	rebuiltBytes = 16 << 20
)

// rebuildTerms does a step. Once the older table is gone and all entries have their tokens, it
// drops the table that says where to continue.
func (b *batch) rebuildTerms() (more bool, err error) {
	ctx := context.Background()
	if exists, err := b.hasTable(ctx, "rebuilt_terms"); err != nil || !exists {
		return false, err
	}
	if exists, err := b.hasTable(ctx, "terms"); err != nil || exists {
		return true, b.dropTerms(ctx, err)
	}
	var after indexedKey
	if err := b.row(ctx, `SELECT tenant, key FROM rebuilt_terms`, nil, []any{&after.tenant, &after.key}); err != nil {
		return false, err
	}
	last, err := b.rebuildAfter(ctx, after)
	if err != nil {
		return false, err
	}
	if last == after {
		_, err := b.link.ExecContext(ctx, `DROP TABLE rebuilt_terms`)
		return false, err
	}
	_, err = b.link.ExecContext(ctx, `UPDATE rebuilt_terms SET tenant = ?, key = ?`, last.tenant, last.key)
	return true, err
}

// dropTerms removes rows of the older table. It drops the table once the largest parts are empty.
func (b *batch) dropTerms(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	for _, part := range []string{"terms_data", "terms_docsize"} {
		result, err := b.link.ExecContext(ctx, `DELETE FROM `+part+` WHERE id IN (SELECT id FROM `+part+` LIMIT ?)`, droppedAtOnce)
		if err != nil {
			return err
		}
		if removed, err := result.RowsAffected(); err != nil || removed > 0 {
			return err
		}
	}
	_, err = b.link.ExecContext(ctx, `DROP TABLE terms`)
	return err
}

// indexedKey is the key of an indexed entry.
type indexedKey struct{ tenant, key int64 }

// rebuildAfter writes a segment with the tokens of the entries after one. It returns the last of them, or
// that one if there are none.
func (b *batch) rebuildAfter(ctx context.Context, after indexedKey) (last indexedKey, err error) {
	last = after
	keys, err := b.indexedAfter(ctx, after)
	if err != nil {
		return last, err
	}
	t := newTokenizer(after.tenant)
	docs := docReader{conn: b.conn}
	var rows []indexRow
	var read []int64
	bytes := 0
	for _, at := range keys {
		if bytes >= rebuiltBytes {
			break
		}
		if at.tenant != t.tenant {
			t = newTokenizer(at.tenant)
		}
		err := docs.each(ctx, `SELECT `+entryColumns+` FROM entries e`+joinDocs+`WHERE e.tenant = ? AND e.key = ?`, []any{at.tenant, at.key}, func() (bool, error) {
			row, readable, err := docs.tokens(ctx, &t)
			if err != nil {
				return false, err
			}
			if !readable { // an error could quote content
				slog.WarnContext(ctx, "an entry cannot be found by its words, because its document is damaged", "key", at.key)
				return true, nil
			}
			bytes += len(row.doc.Sequence) + len(row.doc.Set)
			rows, read = append(rows, row), append(read, at.key)
			return true, nil
		})
		if err != nil {
			return last, err
		}
		last = at
	}
	if len(rows) == 0 { // there are no entries if they were removed
		return last, nil
	}
	batchTerms(pointersTo(rows))
	placed := make([]postings.Placed, len(rows))
	for i := range rows {
		placed[i] = postings.Placed{Batch: rows[i].terms.batch, Doc: rows[i].terms.doc, Key: read[i]}
	}
	info, page, err := postings.Build(placed)
	if err != nil {
		return last, err
	}
	return last, b.insertMerged(&postings.Snapshot{Source: onlyPage(page), Segments: []postings.Segment{{Info: info}}})
}

// tokens returns the tokens of the current row, unless its document is damaged.
func (r *docReader) tokens(ctx context.Context, t *tokenizer) (row indexRow, readable bool, err error) {
	doc, err := r.document(ctx)
	switch {
	case errors.Is(err, errBadDocs):
		return indexRow{}, false, nil
	case err != nil:
		return indexRow{}, false, err
	}
	e, err := r.parse(doc)
	if err == nil {
		row, err = t.indexRow(&e)
	}
	return row, err == nil, nil
}

func (b *batch) indexedAfter(ctx context.Context, after indexedKey) (keys []indexedKey, err error) {
	var at indexedKey
	err = b.eachUnprepared(ctx, `SELECT tenant, key FROM indexed_keys WHERE (tenant, key) > (?, ?) ORDER BY tenant, key LIMIT ?`,
		[]any{after.tenant, after.key, migratedAtOnce}, []any{&at.tenant, &at.key}, func() (bool, error) {
			keys = append(keys, at)
			return true, nil
		})
	return keys, err
}

// onlyPage is the page of a segment that has one and is not stored. It implements postings.Source.
type onlyPage []byte

// Page implements postings.Source.
func (p onlyPage) Page(_ context.Context, _ int64, page int) ([]byte, error) {
	if page != 0 {
		return nil, postings.ErrDamaged
	}
	return p, nil
}
