package sqlite

import (
	"context"
	"errors"
	"fmt"

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
	return s.db.eachID(ctx, tenant, ids, func(b *batch, number int64, id audit.EntryID) error {
		r := docReader{conn: b.conn, tenant: tenant}
		entry, err := r.byID(context.Background(), number, id)
		if errors.Is(err, audit.ErrNotFound) {
			return nil
		}
		changed := false
		if err == nil {
			changed, err = change(b, r.key, &entry)
		}
		if err != nil || !changed {
			return err
		}
		return b.replaceDoc(number, docPlace{r.key, r.block, r.place}, entryjson.AppendDocument(nil, &entry))
	})
}

// replaceDoc writes the document of an entry again.
func (b *batch) replaceDoc(tenant int64, at docPlace, doc []byte) error {
	if at.block == 0 {
		if _, err := b.exec(`UPDATE recent_docs SET doc = ? WHERE tenant = ? AND key = ?`, doc, tenant, at.key); err != nil {
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
