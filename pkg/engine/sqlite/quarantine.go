package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// Quarantine stores entries that a step could not process. It implements
// quarantine.Store and jobs.CountedPurger.
type Quarantine struct{ db *DB }

// Quarantine returns the quarantine in this file.
func (db *DB) Quarantine() *Quarantine { return &Quarantine{db} }

// Put implements quarantine.Store.
func (q *Quarantine) Put(ctx context.Context, tenant audit.TenantID, items []quarantine.Item) error {
	number, err := q.db.ensureNumber(ctx, tenant)
	if err != nil {
		return fmt.Errorf("quarantine entries of %s: %w", tenant, err)
	}
	rows := make([][]any, len(items))
	for i := range items {
		item := &items[i]
		rows[i] = []any{
			number, item.ID, item.Step, item.Code, item.Reason, item.QuarantinedAt.UnixNano(),
			entryjson.AppendStored(nil, &item.Entry), item.Entry.ResourceType, item.Entry.ResourceID,
		}
	}
	err = q.db.write(ctx, func(b *batch) error {
		for _, row := range rows {
			_, err := b.exec(`INSERT INTO quarantine (tenant, id, step, code, reason, quarantined, doc, resource_type, resource_id)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, row...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("quarantine entries of %s: %w", tenant, err)
	}
	return nil
}

const quarantineColumns = `id, step, code, reason, quarantined, doc`

// quarantineRow is a row with the quarantineColumns.
type quarantineRow struct {
	item        quarantine.Item
	quarantined int64
	doc         []byte
}

func (r *quarantineRow) dest() []any {
	return []any{&r.item.ID, &r.item.Step, &r.item.Code, &r.item.Reason, &r.quarantined, &r.doc}
}

func (r *quarantineRow) read() (quarantine.Item, error) {
	entry, err := entryjson.ParseStored(r.doc)
	if err != nil {
		return quarantine.Item{}, fmt.Errorf("item %s: %w", r.item.ID, err)
	}
	item := r.item
	item.Entry = entry
	item.QuarantinedAt = time.Unix(0, r.quarantined).UTC()
	return item, nil
}

// List implements quarantine.Store.
func (q *Quarantine) List(ctx context.Context, tenant audit.TenantID, resources []quarantine.Resource, after string, limit int) (items []quarantine.Item, more bool, err error) {
	number, known, err := q.db.number(ctx, tenant)
	if err != nil {
		return nil, false, fmt.Errorf("list the quarantine of %s: %w", tenant, err)
	}
	if !known {
		return nil, false, nil
	}
	where, args := `id > ?`, []any{number, after, limit + 1}
	var row quarantineRow
	err = q.db.short.snapshot(ctx, tenant, func(c *conn) error {
		if len(resources) > 0 {
			ids, err := quarantineIDs(ctx, c, number, resources, after, limit+1)
			if err != nil {
				return err
			}
			list, err := json.Marshal(ids)
			if err != nil {
				return err
			}
			where, args = `id IN (SELECT value FROM json_each(?))`, []any{number, string(list), limit + 1}
		}
		return c.each(ctx, `SELECT `+quarantineColumns+` FROM quarantine WHERE tenant = ? AND `+where+` ORDER BY id LIMIT ?`,
			args, row.dest(), func() (bool, error) {
				if more = len(items) == limit; more {
					return false, nil
				}
				item, err := row.read()
				items = append(items, item)
				return true, err
			})
	})
	if err != nil {
		return nil, false, fmt.Errorf("list the quarantine of %s: %w", tenant, err)
	}
	return items, more, nil
}

// quarantineIDs returns the first n ids after the one given of the items of the resources.
func quarantineIDs(ctx context.Context, c *conn, number int64, resources []quarantine.Resource, after string, n int) ([]string, error) {
	return quarantine.FirstIDs(resources, n, func(r quarantine.Resource, n int) (ids []string, err error) {
		query, args := `SELECT id FROM quarantine INDEXED BY quarantine_by_type WHERE tenant = ? AND resource_type = ?`, []any{number, r.Type}
		if r.ID != "" {
			query = `SELECT id FROM quarantine INDEXED BY quarantine_by_resource WHERE tenant = ? AND resource_type = ? AND resource_id = ?`
			args = append(args, r.ID)
		}
		var id string
		err = c.each(ctx, query+` AND id > ? ORDER BY id LIMIT ?`, append(args, after, n), []any{&id}, func() (bool, error) {
			ids = append(ids, id)
			return true, nil
		})
		return ids, err
	})
}

// Item implements quarantine.Store.
func (q *Quarantine) Item(ctx context.Context, tenant audit.TenantID, id string) (quarantine.Item, error) {
	item, err := q.item(ctx, tenant, id)
	if err != nil {
		return quarantine.Item{}, fmt.Errorf("quarantine item %s of %s: %w", id, tenant, notFound(err))
	}
	return item, nil
}

// Existing implements quarantine.Store.
func (q *Quarantine) Existing(ctx context.Context, tenant audit.TenantID, ids []string) ([]string, error) {
	existing, err := q.existing(ctx, tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("look for %d quarantine items of %s: %w", len(ids), tenant, err)
	}
	return existing, nil
}

func (q *Quarantine) existing(ctx context.Context, tenant audit.TenantID, ids []string) (existing []string, err error) {
	number, known, err := q.db.number(ctx, tenant)
	if err != nil || !known {
		return nil, err
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	var id string
	err = q.db.short.snapshot(ctx, tenant, func(c *conn) error {
		return c.each(ctx, `SELECT id FROM quarantine WHERE tenant = ? AND id IN (SELECT value FROM json_each(?))`,
			[]any{number, string(list)}, []any{&id}, func() (bool, error) {
				existing = append(existing, id)
				return true, nil
			})
	})
	return existing, err
}

func (q *Quarantine) item(ctx context.Context, tenant audit.TenantID, id string) (quarantine.Item, error) {
	number, known, err := q.db.number(ctx, tenant)
	if err != nil {
		return quarantine.Item{}, err
	}
	if !known {
		return quarantine.Item{}, audit.ErrNotFound
	}
	var row quarantineRow
	err = q.db.short.snapshot(ctx, tenant, func(c *conn) error {
		return c.row(ctx, `SELECT `+quarantineColumns+` FROM quarantine WHERE tenant = ? AND id = ?`, []any{number, id}, row.dest())
	})
	if err != nil {
		return quarantine.Item{}, err
	}
	return row.read()
}

// Replace implements quarantine.Store. FreeSpace erases what the file has of the former entry.
func (q *Quarantine) Replace(ctx context.Context, tenant audit.TenantID, item quarantine.Item, entry audit.Entry) error {
	number, known, err := q.db.number(ctx, tenant)
	switch {
	case err != nil:
	case !known:
		err = audit.ErrNotFound
	default:
		err = q.db.write(ctx, func(b *batch) error { return b.replaceItem(number, &item, &entry) })
	}
	if err != nil {
		return fmt.Errorf("replace quarantine item %s of %s: %w", item.ID, tenant, err)
	}
	return nil
}

func (b *batch) replaceItem(tenant int64, item *quarantine.Item, entry *audit.Entry) error {
	var row quarantineRow
	found, err := b.found(`SELECT `+quarantineColumns+` FROM quarantine WHERE tenant = ? AND id = ?`, []any{tenant, item.ID}, row.dest())
	if err != nil {
		return err
	}
	if !found {
		return unchanged(audit.ErrNotFound)
	}
	stored, err := row.read()
	if err != nil {
		return err
	}
	was, becomes := entryjson.AppendStored(nil, &stored.Entry), entryjson.AppendStored(nil, entry)
	switch {
	case bytes.Equal(was, becomes):
		return nil
	case !bytes.Equal(was, entryjson.AppendStored(nil, &item.Entry)):
		return unchanged(audit.ErrPrecondition)
	}
	_, err = b.exec(`UPDATE quarantine SET doc = ?, resource_type = ?, resource_id = ? WHERE tenant = ? AND id = ?`,
		becomes, entry.ResourceType, entry.ResourceID, tenant, item.ID)
	if err != nil {
		return err
	}
	return b.scrubSoon()
}

// Delete implements quarantine.Store. FreeSpace erases what the file has of the item.
func (q *Quarantine) Delete(ctx context.Context, tenant audit.TenantID, id string) error {
	number, known, err := q.db.number(ctx, tenant)
	switch {
	case err != nil:
	case !known:
		err = audit.ErrNotFound
	default:
		err = q.db.write(ctx, func(b *batch) error {
			changed, err := b.exec(`DELETE FROM quarantine WHERE tenant = ? AND id = ?`, number, id)
			if err == nil && changed == 0 {
				return unchanged(audit.ErrNotFound)
			}
			if err != nil {
				return err
			}
			return b.scrubSoon()
		})
	}
	if err != nil {
		return fmt.Errorf("delete quarantine item %s of %s: %w", id, tenant, err)
	}
	return nil
}

// changeOne runs a write that changes one row. It returns errNone if it changes none.
func (db *DB) changeOne(ctx context.Context, errNone error, query string, args ...any) error {
	return db.write(ctx, func(b *batch) error {
		changed, err := b.exec(query, args...)
		if err == nil && changed == 0 {
			return unchanged(errNone)
		}
		return err
	})
}

// Purge implements jobs.Purger.
func (q *Quarantine) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := q.db.purgeTenant(ctx, tenant, limit, purgeRows(`DELETE FROM quarantine WHERE rowid IN (
		SELECT rowid FROM quarantine WHERE tenant = ? LIMIT ?)`))
	if err != nil {
		return 0, fmt.Errorf("purge quarantine of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (q *Quarantine) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return q.db.countNumbered(ctx, "quarantine", tenant, `SELECT count(*) FROM quarantine WHERE tenant = ?`)
}
