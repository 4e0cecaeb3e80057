package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// Index is the search index. It implements search.Index, search.IndexWriter,
// search.IDLister, retention.Index and jobs.CountedPurger. It reads order and documents from Entries of
// the same file, and indexes only entries that are stored there.
type Index struct {
	db            *DB
	scan          scanLimits
	maxLongValues int
}

// Index returns the search index in this file.
func (db *DB) Index() *Index { return &Index{db, usualScan, maxLongValues} }

// indexRow is an entry as it is indexed.
type indexRow struct {
	id     audit.EntryID
	key    int64 // of the stored entry
	facets [len(facetColumns)]string
	doc    postings.Doc
	terms  batchedTerms // of doc
}

func (t *tokenizer) indexRow(e *audit.Entry) (indexRow, error) {
	doc, err := t.tokenize(e)
	return indexRow{id: e.ID, facets: facetsOf(e), doc: doc}, err
}

// batchTerms prepares the tokens of rows that are written together.
func batchTerms(rows []*indexRow) {
	docs := make([]postings.Doc, len(rows))
	for i, row := range rows {
		docs[i] = row.doc
	}
	batch := postings.NewBatch(docs)
	for i, row := range rows {
		row.doc, row.terms = postings.Doc{}, batchedTerms{batch, i}
	}
}

func newIndexRows(tenant int64, entries []audit.Entry) ([]indexRow, []audit.Rejection) {
	t := tokenizerFor(tenant)
	defer tokenizers.Put(t)
	rows := make([]indexRow, 0, len(entries))
	var rejections []audit.Rejection
	for i := range entries {
		row, err := t.indexRow(&entries[i])
		if err != nil {
			rejections = append(rejections, unindexable(i))
			continue
		}
		rows = append(rows, row)
	}
	return rows, rejections
}

// unindexable is the rejection of an entry that has no tokens.
func unindexable(index int) audit.Rejection {
	return audit.Rejection{Index: index, Code: audit.CodeUnstorable, Reason: "the metadata is not a JSON object that can be indexed"}
}

// putBatch writes the entries of one tenant.
func (x *Index) putBatch(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) ([]audit.Rejection, error) {
	number, known, err := x.db.number(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("index entries of %s: %w", tenant, err)
	}
	if !known {
		return nil, nil // a tenant without a number has no entries
	}
	rows, rejections := newIndexRows(number, entries)
	if len(rows) == 0 {
		return rejections, nil
	}
	for part := range slices.Chunk(pointersTo(rows), maxRows) {
		batchTerms(part)
	}
	err = x.db.writeRows(ctx, len(rows), func(b *batch, from, to int) error {
		for i := from; i < to; i++ {
			if err := b.insertIndexRow(number, &rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("index entries of %s: %w", tenant, err)
	}
	return rejections, nil
}

// Put implements search.IndexWriter. It ignores entries that Entries does not have.
// Concurrent writes share a commit.
func (x *Index) Put(ctx context.Context, batches []search.Batch) []search.PutResult {
	results := make([]search.PutResult, len(batches))
	var running sync.WaitGroup
	for i, b := range batches {
		running.Go(func() {
			results[i].Err = panics.Recovered(ctx, func() (err error) {
				results[i].Rejections, err = x.putBatch(ctx, b.Tenant, b.Entries)
				return err
			})
		})
	}
	running.Wait()
	return results
}

func (b *batch) insertIndexRow(tenant int64, row *indexRow) error {
	err := b.row(context.Background(), `INSERT INTO indexed_keys
		SELECT tenant, key FROM entries WHERE tenant = ? AND id = ?
		ON CONFLICT DO NOTHING RETURNING key`, []any{tenant, row.id[:]}, []any{&row.key})
	switch {
	case errors.Is(err, sql.ErrNoRows): // not stored, or indexed before
		return nil
	case err != nil:
		return err
	}
	return b.insertIndexed(tenant, []*indexRow{row})
}

var indexedKeyInserts = insertsInto(`indexed_keys (tenant, key)`, 1, 1)

// insertIndexRows indexes entries that were stored under their keys in this transaction.
func (b *batch) insertIndexRows(tenant int64, rows []*indexRow) error {
	for part := range slices.Chunk(rows, maxInserted) {
		if err := b.insertKeys(tenant, part); err != nil {
			return err
		}
		if err := b.insertIndexed(tenant, part); err != nil {
			return err
		}
	}
	return nil
}

// insertKeys adds entries to indexed_keys. It removes what the index has of other entries with their keys, which
// are no longer stored.
func (b *batch) insertKeys(tenant int64, rows []*indexRow) error {
	args := indexedKeyInserts.args(len(rows), tenant)
	for _, row := range rows {
		args = append(args, row.key)
	}
	inserted, err := b.insert(indexedKeyInserts, args)
	if err != nil || inserted == len(rows) {
		return err
	}
	keys := make([]int64, len(rows))
	for i, row := range rows {
		keys[i] = row.key
	}
	slices.Sort(keys)
	if err := b.removeIndexed(tenant, keys); err != nil {
		return err
	}
	_, err = b.insert(indexedKeyInserts, args)
	return err
}

func (b *batch) insertIndexed(tenant int64, rows []*indexRow) error {
	for _, row := range rows {
		b.addTerms(row.key, row.terms)
	}
	return b.insertFacets(tenant, rows)
}

// Contains implements search.Index.
func (x *Index) Contains(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (bool, error) {
	number, known, err := x.db.number(ctx, tenant)
	if err != nil {
		return false, fmt.Errorf("look for %s of %s in the index: %w", id, tenant, err)
	}
	if !known {
		return false, nil
	}
	var found int64
	err = x.db.short.snapshot(ctx, tenant, func(c *conn) error {
		var err error
		found, err = c.int64(ctx, `SELECT count(*) FROM entries e JOIN indexed_keys k ON k.tenant = e.tenant AND k.key = e.key
			WHERE e.tenant = ? AND e.id = ?`, number, id[:])
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for %s of %s in the index: %w", id, tenant, err)
	}
	return found > 0, nil
}

// Purge implements jobs.Purger. FreeSpace erases the tokens.
func (x *Index) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := x.db.purgeTenant(ctx, tenant, limit, (*batch).purgeIndex)
	if err != nil {
		return 0, fmt.Errorf("purge index of %s: %w", tenant, err)
	}
	return n, nil
}

func (b *batch) purgeIndex(tenant int64, limit int) (int, error) {
	var keys []int64
	var key int64
	err := b.each(context.Background(), `SELECT key FROM indexed_keys WHERE tenant = ? ORDER BY key LIMIT ?`,
		[]any{tenant, limit}, []any{&key}, func() (bool, error) {
			keys = append(keys, key)
			return true, nil
		})
	if err != nil {
		return 0, err
	}
	return len(keys), b.removeIndexed(tenant, keys)
}

// removeIndexed removes indexed entries from the index. The keys are in rising order.
func (b *batch) removeIndexed(tenant int64, keys []int64) error {
	if len(keys) == 0 {
		return nil
	}
	if err := b.removeTerms(keys); err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := b.exec(`DELETE FROM indexed_keys WHERE tenant = ? AND key = ?`, tenant, key); err != nil {
			return err
		}
	}
	return b.removeFacets(tenant, keys)
}
