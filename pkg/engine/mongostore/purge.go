package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// maxPurge is the most documents that one call of a Purge deletes one by one.
const maxPurge = 5000

// Purge implements jobs.Purger. It drops a partition of a dedicated tenant as a whole. It
// does not need to know the isolation, because the tenant's record may be gone.
func (s *Entries) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purgeEntries(ctx, tenant, min(limit, maxPurge))
	if err != nil {
		return 0, fmt.Errorf("purge entries of %s: %w", tenant, err)
	}
	return n, nil
}

// purgeOne removes the document whose key is the tenant, unless limit is 0.
func (db *DB) purgeOne(ctx context.Context, collection string, tenant audit.TenantID, limit int) (int, error) {
	if limit < 1 {
		return 0, nil
	}
	err := db.deleteOne(ctx, collection, withKey(string(tenant)))
	if errors.Is(err, audit.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}

func (db *DB) purgeEntries(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	purged := 0
	for _, family := range []audit.TenantID{"", tenant} {
		partitions, err := db.readRegistered(ctx, family)
		if err != nil {
			return 0, err
		}
		for _, p := range partitions {
			n, err := db.purgeFrom(ctx, p, tenant, limit-purged)
			if err != nil {
				return 0, err
			}
			if purged += n; purged >= limit {
				return purged, nil
			}
		}
	}
	return purged, nil
}

// purgeFrom removes entries of the tenant from one partition: up to limit from a shared one, and
// all from the tenant's own.
func (db *DB) purgeFrom(ctx context.Context, p partition, tenant audit.TenantID, limit int) (int, error) {
	if p.tenant == "" {
		return db.purge(ctx, p.String(), indexID, tenant, limit, keysIn(tenant, audit.Time{}).condition())
	}
	return db.purgePartition(ctx, p)
}

// purgePartition drops the partition of a dedicated tenant and returns how many entries it
// had, by the server's own statistics: counting a year of entries could take longer than a
// worker has. Entries that are written at the same time may be dropped without being counted.
// The record of the partition stays, so that the next purge finds an entry that a late write
// stores.
func (db *DB) purgePartition(ctx context.Context, p partition) (int, error) {
	collection, err := db.collection(p.String())
	if err != nil {
		return 0, err
	}
	n, err := collection.EstimatedDocumentCount(ctx)
	if err != nil {
		return 0, failure(ctx, err)
	}
	record, err := db.partitionRecord(ctx, p)
	if errors.Is(err, audit.ErrNotFound) { // it was empty, and was dropped meanwhile
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	record.Indexes = ""
	if err := db.setIndexes(ctx, &record); err != nil {
		return 0, err
	}
	return int(n), db.drop(ctx, p.String())
}

// purge deletes up to limit documents of the tenant, at most maxPurge. The index must
// answer the tenant and the conditions. It returns how many it selected: documents
// that another call deletes at the same time count too.
func (db *DB) purge(ctx context.Context, name, index string, tenant audit.TenantID, limit int, conditions ...bson.E) (int, error) {
	if limit = min(limit, maxPurge); limit < 1 {
		return 0, nil // MongoDB reads 0 as no limit
	}
	var keys bson.A
	o := options.Find().SetProjection(ascending(fieldKey)).SetLimit(int64(limit)).SetHint(index)
	err := db.find(ctx, name, append(ofTenant(tenant), conditions...), o, func(doc bson.Raw) (bool, error) {
		key := doc.Lookup(fieldKey)
		key.Value = slices.Clone(key.Value)
		keys = append(keys, key)
		return true, nil
	})
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	collection, err := db.collection(name)
	if err != nil {
		return 0, err
	}
	_, err = collection.DeleteMany(ctx, append(ofTenant(tenant), bson.E{Key: fieldKey, Value: bson.D{{Key: "$in", Value: keys}}}))
	return len(keys), failure(ctx, err)
}

// countRecords counts the documents that purge would delete.
func (db *DB) countRecords(ctx context.Context, what, name, index string, tenant audit.TenantID, conditions ...bson.E) (int64, error) {
	return db.countWhere(ctx, what, name, index, tenant, append(ofTenant(tenant), conditions...))
}

// countWhere counts documents of the tenant. The index must answer the filter. It reads the primary.
func (db *DB) countWhere(ctx context.Context, what, name, index string, tenant audit.TenantID, filter bson.D) (int64, error) {
	collection, err := db.collection(name)
	if err != nil {
		return 0, err
	}
	n, err := collection.CountDocuments(ctx, filter, options.Count().SetHint(index))
	if err != nil {
		return 0, fmt.Errorf("count the %s of %s: %w", what, tenant, failure(ctx, err))
	}
	return n, nil
}
