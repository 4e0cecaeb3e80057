package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// Keys stores API keys. It implements tenants.KeyStore and jobs.CountedPurger. The
// id and the hash of a key are unique among all tenants.
type Keys struct{ db *DB }

// Keys returns the API keys in this file.
func (db *DB) Keys() *Keys { return &Keys{db} }

// CreateKey implements tenants.KeyStore.
func (s *Keys) CreateKey(ctx context.Context, key tenants.Key) error {
	doc, err := json.Marshal(key)
	if err == nil {
		err = s.db.changeOne(ctx, audit.ErrConflict,
			`INSERT INTO keys (id, tenant, hash, created, last_used, doc) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			key.ID, string(key.Tenant), key.Hash[:], key.CreatedAt.UnixNano(), minuteOrNull(key.LastUsedAt), string(doc))
	}
	if err != nil {
		return fmt.Errorf("create key %s of %s: %w", key.ID, key.Tenant, err)
	}
	return nil
}

// minuteOrNull returns the column of a time, truncated to the minute. It is NULL
// for the zero time.
func minuteOrNull(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.Truncate(time.Minute).Unix(), Valid: !t.IsZero()}
}

// readKey reads a key. last_used has its own column, so that a use changes only that.
func readKey(doc []byte, lastUsed sql.NullInt64) (tenants.Key, error) {
	var key tenants.Key
	err := json.Unmarshal(doc, &key)
	key.LastUsedAt = time.Time{}
	if lastUsed.Valid {
		key.LastUsedAt = time.Unix(lastUsed.Int64, 0).UTC()
	}
	return key, err
}

// Keys implements tenants.KeyStore.
func (s *Keys) Keys(ctx context.Context, tenant audit.TenantID, after *tenants.KeyPosition, limit int) (keys []tenants.Key, more bool, err error) {
	created, id := int64(math.MinInt64), ""
	if after != nil {
		created, id = after.CreatedAt.UnixNano(), after.ID
	}
	var doc sql.RawBytes
	var lastUsed sql.NullInt64
	err = s.db.short.snapshot(ctx, tenant, func(c *conn) error {
		return c.each(ctx, `SELECT doc, last_used FROM keys WHERE tenant = ? AND (created, id) > (?, ?) ORDER BY created, id LIMIT ?`,
			[]any{string(tenant), created, id, limit + 1}, []any{&doc, &lastUsed}, func() (bool, error) {
				if more = len(keys) == limit; more {
					return false, nil
				}
				key, err := readKey(doc, lastUsed)
				keys = append(keys, key)
				return true, err
			})
	})
	if err != nil {
		return nil, false, fmt.Errorf("list keys of %s: %w", tenant, err)
	}
	return keys, more, nil
}

// Key implements tenants.KeyStore.
func (s *Keys) Key(ctx context.Context, tenant audit.TenantID, id string) (tenants.Key, error) {
	key, err := s.key(ctx, `tenant = ? AND id = ?`, string(tenant), id)
	if err != nil {
		return tenants.Key{}, fmt.Errorf("key of %s: %w", tenant, err)
	}
	return key, nil
}

// KeyByHash implements tenants.KeyStore.
func (s *Keys) KeyByHash(ctx context.Context, hash [32]byte) (tenants.Key, error) {
	key, err := s.key(ctx, `hash = ?`, hash[:])
	if err != nil {
		return tenants.Key{}, fmt.Errorf("key by hash: %w", err)
	}
	return key, nil
}

// key returns the key that the condition chooses.
func (s *Keys) key(ctx context.Context, where string, args ...any) (tenants.Key, error) {
	var doc []byte
	var lastUsed sql.NullInt64
	err := s.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT doc, last_used FROM keys WHERE `+where, args, []any{&doc, &lastUsed})
	})
	if err != nil {
		return tenants.Key{}, notFound(err)
	}
	return readKey(doc, lastUsed)
}

// TouchKey implements tenants.KeyStore. It stores the latest use, truncated to the
// minute. It returns audit.ErrNotFound if the key does not exist.
func (s *Keys) TouchKey(ctx context.Context, tenant audit.TenantID, id string, t time.Time) error {
	err := s.db.changeOne(ctx, audit.ErrNotFound,
		`UPDATE keys SET last_used = max(coalesce(last_used, 0), ?) WHERE tenant = ? AND id = ?`,
		minuteOrNull(t), string(tenant), id)
	if err != nil {
		return fmt.Errorf("touch key %s of %s: %w", id, tenant, err)
	}
	return nil
}

// DeleteKey implements tenants.KeyStore.
func (s *Keys) DeleteKey(ctx context.Context, tenant audit.TenantID, id string) error {
	err := s.db.changeOne(ctx, audit.ErrNotFound, `DELETE FROM keys WHERE tenant = ? AND id = ?`, string(tenant), id)
	if err != nil {
		return fmt.Errorf("delete key %s of %s: %w", id, tenant, err)
	}
	return nil
}

// Purge implements jobs.Purger.
func (s *Keys) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return s.db.purgeByID(ctx, "keys", tenant, limit)
}

// CountRecords implements jobs.Counter.
func (s *Keys) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "keys", tenant, `SELECT count(*) FROM keys WHERE tenant = ?`)
}
