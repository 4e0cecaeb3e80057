package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Holds keeps legal holds, each under its tenant. It implements hold.Store and jobs.CountedPurger.
type Holds struct{ db *DB }

// Holds returns the legal holds in this file.
func (db *DB) Holds() *Holds { return &Holds{db} }

// CreateHold implements hold.Store.
func (s *Holds) CreateHold(ctx context.Context, h hold.Hold) error {
	doc, err := json.Marshal(h)
	if err == nil {
		err = s.db.write(ctx, func(b *batch) error {
			n, err := b.exec(`INSERT INTO holds (tenant, id, created, standing, version, doc) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				string(h.Tenant), h.ID, h.CreatedAt.UnixMilli(), h.ReleasedAt.IsZero(), h.Version, string(doc))
			if err == nil && n == 0 {
				err = unchanged(audit.ErrConflict)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("create hold %s of %s: %w", h.ID, h.Tenant, err)
	}
	return nil
}

// UpdateHold implements hold.Store.
func (s *Holds) UpdateHold(ctx context.Context, h hold.Hold) error {
	doc, err := json.Marshal(h)
	if err == nil {
		err = s.db.write(ctx, func(b *batch) error {
			n, err := b.exec(`UPDATE holds SET standing = ?, version = ?, doc = ? WHERE tenant = ? AND id = ? AND version = ?`,
				h.ReleasedAt.IsZero(), h.Version, string(doc), string(h.Tenant), h.ID, h.Version-1)
			if err != nil || n > 0 {
				return err
			}
			return b.missed(`SELECT count(*) FROM holds WHERE tenant = ? AND id = ?`, string(h.Tenant), h.ID)
		})
	}
	if err != nil {
		return fmt.Errorf("update hold %s of %s: %w", h.ID, h.Tenant, err)
	}
	return nil
}

// Hold implements hold.Store.
func (s *Holds) Hold(ctx context.Context, tenant audit.TenantID, id string) (hold.Hold, error) {
	list, err := readDocs[hold.Hold](ctx, s.db, `SELECT doc FROM holds WHERE tenant = ? AND id = ?`, string(tenant), id)
	if err == nil && len(list) == 0 {
		err = audit.ErrNotFound
	}
	if err != nil {
		return hold.Hold{}, fmt.Errorf("hold %s of %s: %w", id, tenant, err)
	}
	return list[0], nil
}

// Holds implements hold.Store.
func (s *Holds) Holds(ctx context.Context, tenant audit.TenantID, after *jobs.Position, limit int) (list []hold.Hold, more bool, err error) {
	created, id := newestFrom(after)
	list, err = readDocs[hold.Hold](ctx, s.db, `SELECT doc FROM holds WHERE tenant = ? AND (created, id) < (?, ?) ORDER BY created DESC, id DESC LIMIT ?`,
		string(tenant), created, id, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("list holds of %s: %w", tenant, err)
	}
	if more = len(list) > limit; more {
		list = list[:limit]
	}
	return list, more, nil
}

// Standing implements hold.Store.
func (s *Holds) Standing(ctx context.Context, tenant audit.TenantID) (hold.Standing, error) {
	list, err := readDocs[hold.Hold](ctx, s.db, `SELECT doc FROM holds WHERE tenant = ? AND standing = 1`, string(tenant))
	if err != nil {
		return nil, fmt.Errorf("list standing holds of %s: %w", tenant, err)
	}
	return list, nil
}

// Purge implements jobs.Purger.
func (s *Holds) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, limit, func(b *batch, limit int) (int, error) {
		changed, err := b.exec(`DELETE FROM holds WHERE tenant = ?1 AND id IN (SELECT id FROM holds WHERE tenant = ?1 LIMIT ?2)`, string(tenant), limit)
		return int(changed), err
	})
	if err != nil {
		return 0, fmt.Errorf("purge holds of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Holds) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "holds", tenant, `SELECT count(*) FROM holds WHERE tenant = ?`)
}
