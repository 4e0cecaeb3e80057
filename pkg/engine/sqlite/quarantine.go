package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// Quarantine stores entries that a step could not process. It implements
// quarantine.Store and jobs.Purger.
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
	err = q.db.snapshot(ctx, func(c *conn) error {
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

func (q *Quarantine) item(ctx context.Context, tenant audit.TenantID, id string) (quarantine.Item, error) {
	number, known, err := q.db.number(ctx, tenant)
	if err != nil {
		return quarantine.Item{}, err
	}
	if !known {
		return quarantine.Item{}, audit.ErrNotFound
	}
	var row quarantineRow
	err = q.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT `+quarantineColumns+` FROM quarantine WHERE tenant = ? AND id = ?`, []any{number, id}, row.dest())
	})
	if err != nil {
		return quarantine.Item{}, err
	}
	return row.read()
}

// Delete implements quarantine.Store.
func (q *Quarantine) Delete(ctx context.Context, tenant audit.TenantID, id string) error {
	number, known, err := q.db.number(ctx, tenant)
	switch {
	case err != nil:
	case !known:
		err = audit.ErrNotFound
	default:
		err = q.db.changeOne(ctx, audit.ErrNotFound, `DELETE FROM quarantine WHERE tenant = ? AND id = ?`, number, id)
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
