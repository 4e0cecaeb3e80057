package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// Keys keeps API keys. It implements tenants.KeyStore and jobs.CountedPurger. The
// id and the hash of a key are unique among all tenants.
type Keys struct{ db *DB }

// Keys returns the API keys.
func (db *DB) Keys() *Keys { return &Keys{db} }

const (
	fieldHash     = "hash"
	fieldLastUsed = "last_used_at"
)

type keyDocument struct {
	ID          string     `bson:"_id"`
	Tenant      string     `bson:"tenant_id"`
	Name        string     `bson:"name"`
	Hash        []byte     `bson:"hash"`
	Permissions []string   `bson:"permissions"`
	Resources   []string   `bson:"resources"`
	CreatedAt   time.Time  `bson:"created_at"`
	CreatedBy   string     `bson:"created_by,omitempty"`
	ExpiresAt   *time.Time `bson:"expires_at,omitempty"`
	LastUsedAt  *time.Time `bson:"last_used_at,omitempty"`
}

// optional returns nil for the zero time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func required(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func readKey(raw bson.Raw) (tenants.Key, error) {
	var doc keyDocument
	if err := bson.Unmarshal(raw, &doc); err != nil || len(doc.Hash) != len(tenants.Key{}.Hash) {
		return tenants.Key{}, fmt.Errorf("a key %w", errStored)
	}
	return tenants.Key{
		ID: doc.ID, Tenant: audit.TenantID(doc.Tenant), Name: doc.Name, Hash: [32]byte(doc.Hash), Permissions: doc.Permissions, Resources: doc.Resources,
		CreatedAt: doc.CreatedAt.UTC(), CreatedBy: doc.CreatedBy, ExpiresAt: required(doc.ExpiresAt), LastUsedAt: required(doc.LastUsedAt),
	}, nil
}

// CreateKey implements tenants.KeyStore. Times are kept to the millisecond.
func (s *Keys) CreateKey(ctx context.Context, key tenants.Key) error {
	err := s.db.ensureKeys(ctx) // an index keeps the hash unique
	if err == nil {
		err = s.db.insertOne(ctx, collectionKeys, keyDocument{
			ID: key.ID, Tenant: string(key.Tenant), Name: key.Name, Hash: key.Hash[:], Permissions: key.Permissions, Resources: key.Resources,
			CreatedAt: key.CreatedAt, CreatedBy: key.CreatedBy, ExpiresAt: optional(key.ExpiresAt), LastUsedAt: optional(key.LastUsedAt.Truncate(time.Minute)),
		})
	}
	if err != nil {
		return fmt.Errorf("create key %s of %s: %w", key.ID, key.Tenant, err)
	}
	return nil
}

// Keys implements tenants.KeyStore.
func (s *Keys) Keys(ctx context.Context, tenant audit.TenantID, after *tenants.KeyPosition, limit int) (keys []tenants.Key, more bool, err error) {
	query := ofTenant(tenant)
	if after != nil {
		query = append(query, bson.E{Key: "$or", Value: bson.A{
			bson.D{{Key: fieldCreatedAt, Value: bson.D{{Key: "$gt", Value: after.CreatedAt}}}},
			bson.D{{Key: fieldCreatedAt, Value: after.CreatedAt}, {Key: fieldKey, Value: bson.D{{Key: "$gt", Value: after.ID}}}},
		}}, bson.E{Key: fieldCreatedAt, Value: bson.D{{Key: "$gte", Value: after.CreatedAt}}})
	}
	order := ascending(fieldCreatedAt, fieldKey)
	err = s.db.list(ctx, collectionKeys, indexKeyTenant, order, limit+1, query, func(doc bson.Raw) (bool, error) {
		if more = len(keys) == limit; more {
			return false, nil
		}
		key, err := readKey(doc)
		keys = append(keys, key)
		return true, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list keys of %s: %w", tenant, err)
	}
	return keys, more, nil
}

// Key implements tenants.KeyStore.
func (s *Keys) Key(ctx context.Context, tenant audit.TenantID, id string) (tenants.Key, error) {
	doc, err := s.db.findOne(ctx, collectionKeys, indexID, keyQuery(tenant, id))
	if err != nil {
		return tenants.Key{}, fmt.Errorf("key of %s: %w", tenant, err)
	}
	key, err := readKey(doc)
	if err != nil {
		return tenants.Key{}, fmt.Errorf("key of %s: %w", tenant, err)
	}
	return key, nil
}

// KeyByHash implements tenants.KeyStore.
func (s *Keys) KeyByHash(ctx context.Context, hash [32]byte) (tenants.Key, error) {
	key, err := s.keyByHash(ctx, hash)
	if err != nil {
		return tenants.Key{}, fmt.Errorf("key by hash: %w", err)
	}
	return key, nil
}

func (s *Keys) keyByHash(ctx context.Context, hash [32]byte) (tenants.Key, error) {
	doc, err := s.db.findOne(ctx, collectionKeys, indexKeyHash, bson.D{{Key: fieldHash, Value: hash[:]}})
	if err != nil {
		return tenants.Key{}, err
	}
	return readKey(doc)
}

// TouchKey implements tenants.KeyStore. It stores the latest use to the minute.
// It returns audit.ErrNotFound if the key does not exist.
func (s *Keys) TouchKey(ctx context.Context, tenant audit.TenantID, id string, t time.Time) error {
	if err := s.db.updateOne(ctx, collectionKeys, keyQuery(tenant, id), raise(fieldLastUsed, t.Truncate(time.Minute))); err != nil {
		return fmt.Errorf("touch key %s of %s: %w", id, tenant, err)
	}
	return nil
}

func keyQuery(tenant audit.TenantID, id string) bson.D {
	return append(withKey(id), ofTenant(tenant)...)
}

// DeleteKey implements tenants.KeyStore.
func (s *Keys) DeleteKey(ctx context.Context, tenant audit.TenantID, id string) error {
	if err := s.db.deleteOne(ctx, collectionKeys, keyQuery(tenant, id)); err != nil {
		return fmt.Errorf("delete key %s of %s: %w", id, tenant, err)
	}
	return nil
}

// Purge implements jobs.Purger.
func (s *Keys) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, collectionKeys, indexKeyTenant, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge keys of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Keys) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "keys", collectionKeys, indexKeyTenant, tenant)
}
