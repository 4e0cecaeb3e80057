package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// DropTokens implements erasure.Entries. FreeSpace erases what the file has of the tokens.
func (s *Entries) DropTokens(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, key protect.KeyRef) error {
	err := s.changeDocs(ctx, tenant, ids, func(_ *batch, _ int64, e *audit.Entry) (bool, error) {
		return protect.DropTokens(e, key), nil
	})
	if err != nil {
		return fmt.Errorf("drop tokens of %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// changeDocs writes the documents of those entries again that change has changed. change gets their keys.
func (s *Entries) changeDocs(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, change func(b *batch, key int64, e *audit.Entry) (bool, error)) error {
	number, known, err := s.db.number(ctx, tenant)
	if err != nil || !known {
		return err // a tenant without a number has no entries
	}
	return s.db.writeRows(ctx, len(ids), func(b *batch, from, to int) error {
		changed := changedDocs{batch: b, tenant: number, blocks: map[int64][][]byte{}}
		r := docReader{conn: b.conn, tenant: tenant}
		for _, id := range ids[from:to] {
			entry, err := r.byID(context.Background(), number, id)
			if errors.Is(err, audit.ErrNotFound) {
				continue
			}
			is := false
			if err == nil {
				is, err = change(b, r.key, &entry)
			}
			if err == nil && is {
				err = changed.set(&r, entryjson.AppendDocument(nil, &entry))
			}
			if err != nil {
				return err
			}
		}
		return changed.write()
	})
}

// changedDocs are documents that were changed. Each block of them is written once.
type changedDocs struct {
	*batch
	tenant int64
	blocks map[int64][][]byte // as they are to be
	any    bool
}

// set changes the document of the current row.
func (c *changedDocs) set(r *docReader, doc []byte) error {
	c.any = true
	if r.block == 0 {
		return c.replaceRecentDoc(c.tenant, r.key, doc)
	}
	if c.blocks[r.block] == nil { // else the reader may have read it again, as it was
		c.blocks[r.block] = r.blocks[r.block]
	}
	c.blocks[r.block][r.place] = doc
	return nil
}

// write writes the blocks.
func (c *changedDocs) write() error {
	for _, number := range slices.Sorted(maps.Keys(c.blocks)) {
		if err := c.replaceDocs(number, c.blocks[number]); err != nil {
			return err
		}
	}
	if !c.any {
		return nil
	}
	return c.scrubSoon()
}

// replaceDoc writes the document of an entry again.
func (b *batch) replaceDoc(tenant int64, at docPlace, doc []byte) error {
	if at.block == 0 {
		if err := b.replaceRecentDoc(tenant, at.key, doc); err != nil {
			return err
		}
		return b.scrubSoon()
	}
	docs, err := b.readDocs(context.Background(), at.block)
	if err != nil {
		return err
	}
	docs[at.place] = doc
	if err := b.replaceDocs(at.block, docs); err != nil {
		return err
	}
	return b.scrubSoon()
}

// replaceRecentDoc writes the document of an entry again that is in no block yet.
func (b *batch) replaceRecentDoc(tenant, key int64, doc []byte) error {
	_, err := b.exec(`UPDATE recent_docs SET doc = ? WHERE tenant = ? AND key = ?`, doc, tenant, key)
	return err
}
