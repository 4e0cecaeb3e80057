package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Tenants stores the records of tenants. It implements tenants.Store.
type Tenants struct{ db *DB }

// Tenants returns the records of tenants in this file.
func (db *DB) Tenants() *Tenants { return &Tenants{db} }

// Create implements tenants.Store.
func (s *Tenants) Create(ctx context.Context, tenant audit.Tenant) error {
	doc, err := json.Marshal(tenant)
	if err == nil {
		err = s.db.changeOne(ctx, audit.ErrConflict,
			`INSERT INTO tenants (id, version, doc) VALUES (?, 1, ?) ON CONFLICT DO NOTHING`, string(tenant.ID), string(doc))
	}
	if err != nil {
		return fmt.Errorf("create tenant %s: %w", tenant.ID, err)
	}
	return nil
}

// Tenant implements tenants.Store.
func (s *Tenants) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	var tenant audit.Tenant
	var doc []byte
	var version int64
	err := s.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT doc, version FROM tenants WHERE id = ? AND doc IS NOT NULL`, []any{string(id)}, []any{&doc, &version})
	})
	if err == nil {
		tenant, err = readTenant(doc, version)
	}
	if err != nil {
		return audit.Tenant{}, fmt.Errorf("tenant %s: %w", id, notFound(err))
	}
	return tenant, nil
}

func readTenant(doc []byte, version int64) (audit.Tenant, error) {
	tenant := audit.Tenant{Version: version, Settings: audit.Settings{RemoveSecrets: true}} // older records lack it
	err := json.Unmarshal(doc, &tenant)
	return tenant, err
}

// List implements tenants.Store.
func (s *Tenants) List(ctx context.Context, only []audit.TenantID, after audit.TenantID, limit int) (tenants []audit.Tenant, more bool, err error) {
	query := `SELECT doc, version FROM tenants WHERE id > ? AND doc IS NOT NULL ORDER BY id LIMIT ?`
	args := []any{string(after), limit + 1}
	if only != nil {
		ids, err := json.Marshal(only)
		if err != nil {
			return nil, false, fmt.Errorf("list tenants: %w", err)
		}
		query = `SELECT doc, version FROM tenants WHERE id > ? AND doc IS NOT NULL
			AND id IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?`
		args = []any{string(after), string(ids), limit + 1}
	}
	var doc sql.RawBytes
	var version int64
	err = s.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, query, args, []any{&doc, &version}, func() (bool, error) {
			if more = len(tenants) == limit; more {
				return false, nil
			}
			tenant, err := readTenant(doc, version)
			tenants = append(tenants, tenant)
			return true, err
		})
	})
	if err != nil {
		return nil, false, fmt.Errorf("list tenants: %w", err)
	}
	return tenants, more, nil
}

// Update implements tenants.Store.
func (s *Tenants) Update(ctx context.Context, tenant audit.Tenant) error {
	doc, err := json.Marshal(tenant)
	if err == nil {
		err = s.db.write(ctx, func(b *batch) error { return b.updateTenant(tenant, doc) })
	}
	if err != nil {
		return fmt.Errorf("update tenant %s: %w", tenant.ID, err)
	}
	return nil
}

func (b *batch) updateTenant(tenant audit.Tenant, doc []byte) error {
	version, err := b.int64(context.Background(), `SELECT version FROM tenants WHERE id = ? AND doc IS NOT NULL`, string(tenant.ID))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return unchanged(audit.ErrNotFound)
	case err != nil:
		return err
	case version != tenant.Version-1:
		return unchanged(audit.ErrPrecondition)
	}
	_, err = b.exec(`UPDATE tenants SET version = ?, doc = ? WHERE id = ?`, tenant.Version, string(doc), string(tenant.ID))
	return err
}

// Tombstone implements tenants.Store.
func (s *Tenants) Tombstone(ctx context.Context, id audit.TenantID, version int64) error {
	err := s.db.write(ctx, func(b *batch) error { return b.tombstone(id, version) })
	if err != nil {
		return fmt.Errorf("write tombstone of tenant %s: %w", id, err)
	}
	return nil
}

func (b *batch) tombstone(id audit.TenantID, version int64) error {
	changed, err := b.exec(`UPDATE tenants SET doc = NULL WHERE id = ? AND (version = ? OR doc IS NULL)`, string(id), version)
	if err != nil {
		return err
	}
	if changed > 0 {
		b.writer.eraseLogSoon()
		return nil
	}
	return b.missed(`SELECT count(*) FROM tenants WHERE id = ?`, string(id))
}
