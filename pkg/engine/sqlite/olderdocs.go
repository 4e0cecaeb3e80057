package sqlite

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// Older files have the document of an entry in its row. Their migration renames the table to
// unpacked_entries. packOlderDocs moves the rows from there.

// packOlderDocs moves some rows, and drops the table once it is empty.
func (b *batch) packOlderDocs() (more bool, err error) {
	ctx := context.Background()
	if exists, err := b.hasTable(ctx, "unpacked_entries"); err != nil || !exists {
		return false, err
	}
	byTenant := map[int64][]entryRow{}
	var row entryRow
	var id, digest, doc []byte
	last, n := int64(0), 0
	err = b.eachUnprepared(ctx, `SELECT key, tenant, id, digest, message, doc FROM unpacked_entries ORDER BY key LIMIT ?`,
		[]any{migratedAtOnce}, []any{&row.key, &row.tenant, &id, &digest, &row.message, &doc}, func() (bool, error) {
			e, err := entryjson.ParseStored(doc)
			if err != nil {
				return false, fmt.Errorf("entry with key %d: %w", row.key, err)
			}
			var ok bool
			if row.digest, ok = audit.ParseDigest(digest); !ok {
				return false, fmt.Errorf("entry with key %d: %w", row.key, errBadDocs)
			}
			row.id, row.doc = e.ID, entryjson.AppendDocument(nil, &e)
			byTenant[row.tenant] = append(byTenant[row.tenant], row)
			last = row.key
			n++
			return true, nil
		})
	if err != nil {
		return false, err
	}
	if n == 0 {
		_, err := b.link.ExecContext(ctx, `DROP TABLE unpacked_entries`)
		return false, err
	}
	for _, rows := range byTenant {
		for _, chunk := range b.writer.blocks.chunks(pointersTo(rows)) {
			err := b.writeChunk(&chunk, func(rows []*entryRow) error {
				for _, row := range rows {
					if _, err := b.insertEntry(row); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return false, err
			}
		}
	}
	_, err = b.link.ExecContext(ctx, `DELETE FROM unpacked_entries WHERE key <= ?`, last)
	return true, err
}
