package mongostore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// TenantKeys keeps the wrapped keys that encrypt values, one document for each subject. It implements
// protect.KeyStore and jobs.CountedPurger. A document without a wrapped key says that it was destroyed.
type TenantKeys struct{ db *DB }

// TenantKeys returns the keys.
func (db *DB) TenantKeys() *TenantKeys { return &TenantKeys{db} }

const (
	fieldSubject = "subject"
	fieldWrapped = "wrapped"
)

// tenantKeyID is the _id of a subject's document.
func tenantKeyID(tenant audit.TenantID, subject protect.SubjectID) string {
	return string(tenant) + "/" + hex.EncodeToString(subject[:])
}

func tenantKeyDocument(tenant audit.TenantID, k protect.StoredKey) bson.D {
	doc := bson.D{
		{Key: fieldKey, Value: tenantKeyID(tenant, k.Ref.Subject)}, {Key: fieldTenant, Value: string(tenant)},
		{Key: fieldSubject, Value: k.Ref.Subject[:]}, {Key: fieldGeneration, Value: int64(k.Ref.Generation)},
	}
	if len(k.Wrapped) > 0 {
		doc = append(doc, bson.E{Key: fieldWrapped, Value: k.Wrapped})
	}
	return doc
}

// Keys implements protect.KeyStore. It is one command for each 1,000 subjects.
func (s *TenantKeys) Keys(ctx context.Context, tenant audit.TenantID, subjects []protect.SubjectID) (keys []protect.StoredKey, err error) {
	if len(subjects) == 0 {
		return nil, nil
	}
	ids := make([]string, len(subjects))
	for i, subject := range subjects {
		ids[i] = tenantKeyID(tenant, subject)
	}
	query := append(ofTenant(tenant), bson.E{Key: fieldKey, Value: in(ids)})
	err = s.db.list(ctx, collectionTenantKeys, indexID, ascending(fieldKey), len(ids), query, func(doc bson.Raw) (bool, error) {
		key, err := readTenantKey(doc)
		keys = append(keys, key)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", tenant, err)
	}
	return keys, nil
}

func readTenantKey(doc bson.Raw) (protect.StoredKey, error) {
	failed := fmt.Errorf("a key of a tenant %w", errStored)
	_, subject, ok := doc.Lookup(fieldSubject).BinaryOK()
	if !ok || len(subject) != len(protect.SubjectID{}) {
		return protect.StoredKey{}, failed
	}
	generation, ok := doc.Lookup(fieldGeneration).Int64OK()
	if !ok || generation < 0 || generation > math.MaxUint32 {
		return protect.StoredKey{}, failed
	}
	key := protect.StoredKey{Ref: protect.KeyRef{Subject: protect.SubjectID(subject), Generation: uint32(generation)}}
	if wrapped, err := doc.LookupErr(fieldWrapped); err == nil {
		_, data, ok := wrapped.BinaryOK()
		if !ok {
			return protect.StoredKey{}, failed
		}
		key.Wrapped = append(key.Wrapped, data...)
	}
	return key, nil
}

// CreateKeys implements protect.KeyStore. First generations are one command together, and so are all others.
func (s *TenantKeys) CreateKeys(ctx context.Context, tenant audit.TenantID, keys []protect.StoredKey) error {
	if len(keys) == 0 {
		return nil
	}
	writes := make([]mongo.WriteModel, len(keys))
	for i, k := range keys {
		if k.Ref.IsFirst() {
			writes[i] = mongo.NewInsertOneModel().SetDocument(tenantKeyDocument(tenant, k))
		} else {
			writes[i] = nextTenantKey(tenant, k)
		}
	}
	if _, err := s.db.writeMany(ctx, collectionTenantKeys, writes); err != nil { // the faults are keys that exist
		return fmt.Errorf("create %d keys of %s: %w", len(keys), tenant, err)
	}
	return nil
}

// nextTenantKey stores a key after a destroyed one, unless another process was first.
func nextTenantKey(tenant audit.TenantID, k protect.StoredKey) mongo.WriteModel {
	query := append(tenantKeyQuery(tenant, k.Ref.Subject),
		bson.E{Key: fieldGeneration, Value: int64(k.Ref.Generation) - 1}, bson.E{Key: fieldWrapped, Value: bson.D{{Key: "$exists", Value: false}}})
	return mongo.NewUpdateOneModel().SetFilter(query).SetUpdate(
		set(bson.E{Key: fieldGeneration, Value: int64(k.Ref.Generation)}, bson.E{Key: fieldWrapped, Value: k.Wrapped}))
}

func tenantKeyQuery(tenant audit.TenantID, subject protect.SubjectID) bson.D {
	return bson.D{{Key: fieldKey, Value: tenantKeyID(tenant, subject)}, {Key: fieldTenant, Value: string(tenant)}}
}

// DestroyKey implements protect.KeyStore.
func (s *TenantKeys) DestroyKey(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	if err := s.destroy(ctx, tenant, ref); err != nil {
		return fmt.Errorf("destroy a key of %s: %w", tenant, err)
	}
	return nil
}

func (s *TenantKeys) destroy(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	err := s.db.insertOne(ctx, collectionTenantKeys, tenantKeyDocument(tenant, protect.StoredKey{Ref: ref}))
	if !errors.Is(err, audit.ErrConflict) {
		return err
	}
	query := append(tenantKeyQuery(tenant, ref.Subject), bson.E{Key: fieldGeneration, Value: bson.D{{Key: "$lte", Value: int64(ref.Generation)}}})
	err = s.db.updateOne(ctx, collectionTenantKeys, query, bson.D{
		{Key: "$set", Value: bson.D{{Key: fieldGeneration, Value: int64(ref.Generation)}}},
		{Key: "$unset", Value: bson.D{{Key: fieldWrapped, Value: ""}}},
	})
	if errors.Is(err, audit.ErrNotFound) {
		return nil // there is a newer one
	}
	return err
}

// subjectKeysOf selects the tenant's keys but for its root.
func subjectKeysOf(tenant audit.TenantID) bson.E {
	root := tenantKeyID(tenant, protect.RootRef.Subject)                                                              // the lowest id of the tenant
	return bson.E{Key: fieldKey, Value: bson.D{{Key: "$gt", Value: root}, {Key: "$lt", Value: string(tenant) + "0"}}} // "0" follows "/"
}

// Purge implements jobs.Purger. It destroys the root first. That the tenant had one stays known, so
// that no process makes another.
func (s *TenantKeys) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if err := s.DestroyKey(ctx, tenant, protect.RootRef); err != nil {
		return 0, err
	}
	n, err := s.db.purge(ctx, collectionTenantKeys, indexID, tenant, limit, subjectKeysOf(tenant))
	if err != nil {
		return 0, fmt.Errorf("purge the keys of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *TenantKeys) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "tenant keys", collectionTenantKeys, indexID, tenant, subjectKeysOf(tenant))
}
