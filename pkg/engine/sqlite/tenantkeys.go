package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// TenantKeys keeps the wrapped keys that encrypt values. It implements protect.KeyStore and
// jobs.CountedPurger.
type TenantKeys struct{ db *DB }

// TenantKeys returns the keys in this file.
func (db *DB) TenantKeys() *TenantKeys { return &TenantKeys{db} }

// Keys implements protect.KeyStore.
func (s *TenantKeys) Keys(ctx context.Context, tenant audit.TenantID, subjects []protect.SubjectID) (keys []protect.StoredKey, err error) {
	err = s.db.short.snapshot(ctx, tenant, func(c *conn) error {
		for _, subject := range subjects {
			var generation int64
			var wrapped sql.RawBytes
			err := c.each(ctx, `SELECT generation, wrapped FROM tenant_keys WHERE tenant = ? AND subject = ?`,
				[]any{string(tenant), subject[:]}, []any{&generation, &wrapped}, func() (bool, error) {
					keys = append(keys, protect.StoredKey{
						Ref: protect.KeyRef{Subject: subject, Generation: uint32(generation)}, Wrapped: append([]byte(nil), wrapped...),
					})
					return true, nil
				})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", tenant, err)
	}
	return keys, nil
}

// CreateKeys implements protect.KeyStore.
func (s *TenantKeys) CreateKeys(ctx context.Context, tenant audit.TenantID, keys []protect.StoredKey) error {
	err := s.db.write(ctx, func(b *batch) error {
		for _, k := range keys {
			if err := b.createKey(tenant, k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("create %d keys of %s: %w", len(keys), tenant, err)
	}
	return nil
}

func (b *batch) createKey(tenant audit.TenantID, k protect.StoredKey) error {
	query := `UPDATE tenant_keys SET generation = ?3, wrapped = ?4
		WHERE tenant = ?1 AND subject = ?2 AND generation = ?3 - 1 AND wrapped IS NULL`
	if k.Ref.IsFirst() {
		query = `INSERT INTO tenant_keys (tenant, subject, generation, wrapped) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING`
	}
	_, err := b.exec(query, string(tenant), k.Ref.Subject[:], int64(k.Ref.Generation), k.Wrapped)
	return err
}

// DestroyKey implements protect.KeyStore. What the file has of the key is overwritten soon.
func (s *TenantKeys) DestroyKey(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	_, err := s.db.purge(ctx, 1, func(b *batch, _ int) (int, error) {
		changed, err := b.exec(`INSERT INTO tenant_keys (tenant, subject, generation) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET generation = excluded.generation, wrapped = NULL
			WHERE generation < excluded.generation OR generation = excluded.generation AND wrapped IS NOT NULL`,
			string(tenant), ref.Subject[:], int64(ref.Generation))
		return int(changed), err
	})
	if err != nil {
		return fmt.Errorf("destroy a key of %s: %w", tenant, err)
	}
	return nil
}

// Purge implements jobs.Purger. It destroys the root first. That the tenant had one stays known, so
// that no process makes another.
func (s *TenantKeys) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if err := s.DestroyKey(ctx, tenant, protect.RootRef); err != nil {
		return 0, err
	}
	n, err := s.db.purge(ctx, limit, func(b *batch, limit int) (int, error) {
		changed, err := b.exec(`DELETE FROM tenant_keys WHERE tenant = ?1 AND subject IN (
			SELECT subject FROM tenant_keys WHERE tenant = ?1 AND subject <> ?2 LIMIT ?3)`, string(tenant), protect.RootRef.Subject[:], limit)
		return int(changed), err
	})
	if err != nil {
		return 0, fmt.Errorf("purge the keys of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *TenantKeys) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "tenant keys", tenant, `SELECT count(*) FROM tenant_keys WHERE tenant = ? AND subject <> ?`, protect.RootRef.Subject[:])
}
