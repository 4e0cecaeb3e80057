package mongostore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// maxPurge is the most documents that one call of a Purge removes.
const maxPurge = 1000

// Purge implements jobs.Purger. It drops the tenant's own partitions once
// they are empty.
func (s *Entries) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.purge(ctx, tenant, min(limit, maxPurge))
	if err != nil {
		return 0, fmt.Errorf("purge entries of %s: %w", tenant, err)
	}
	return n, nil
}

func (s *Entries) purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	partitions, err := s.db.partitions(ctx, tenant)
	if err != nil {
		return 0, err
	}
	purged := 0
	for _, p := range partitions {
		n, err := s.db.purge(ctx, p.String(), indexTime, tenant, limit-purged)
		if err != nil {
			return 0, err
		}
		if purged += n; purged >= limit {
			return purged, nil
		}
		if p.tenant == tenant {
			// It can lose only entries of a deleted tenant that are being written now.
			if err := s.db.drop(ctx, p.String()); err != nil {
				return 0, err
			}
		}
	}
	return purged, nil
}

// purge deletes up to limit documents of the tenant, at most maxPurge. The index
// must begin with the tenant. It returns how many it selected: documents that
// another call deletes at the same time count too.
func (db *DB) purge(ctx context.Context, name, index string, tenant audit.TenantID, limit int) (int, error) {
	if limit = min(limit, maxPurge); limit < 1 {
		return 0, nil // MongoDB reads 0 as no limit
	}
	keys, err := db.keys(ctx, name, index, tenant, limit)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	collection, err := db.collection(name)
	if err != nil {
		return 0, err
	}
	_, err = collection.DeleteMany(ctx, append(ofTenant(tenant), bson.E{Key: fieldKey, Value: in(keys)}))
	return len(keys), failure(ctx, err)
}

// keys returns up to limit keys of the tenant's documents.
func (db *DB) keys(ctx context.Context, name, index string, tenant audit.TenantID, limit int) ([]string, error) {
	var keys []string
	visit := func(doc bson.Raw) (bool, error) {
		key, _ := doc.Lookup(fieldKey).StringValueOK()
		keys = append(keys, key)
		return true, nil
	}
	find := func() *options.FindOptionsBuilder {
		return options.Find().SetProjection(ascending(fieldKey)).SetLimit(int64(limit))
	}
	err := db.find(ctx, name, ofTenant(tenant), find().SetHint(index), visit)
	var server mongo.ServerError
	if errors.As(err, &server) && server.HasErrorCode(codeBadValue) {
		// The index is missing: an earlier pass dropped the collection, and a late
		// write created it again.
		err = db.find(ctx, name, ofTenant(tenant), find(), visit)
	}
	return keys, err
}
