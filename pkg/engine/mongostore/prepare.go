package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// maxPrepared is the most partitions that one call of PreparePartitions creates.
	// Each takes a server about 0.1 s.
	maxPrepared = 1000
	// preparePage is how many dedicated tenants PreparePartitions reads at once.
	preparePage = 1000
)

// PreparePartitions creates the indexes of every collection that is not a partition,
// and the partitions of this month and of the next one. These are the shared ones, and
// those of the years of dedicated tenants. It creates at most 1,000 partitions and
// reports whether more remain for the next call. To call it again is cheap. A write
// creates a partition that is missing, so that PreparePartitions only saves writes that
// time.
func (db *DB) PreparePartitions(ctx context.Context) (more bool, err error) {
	if more, err = db.preparePartitions(ctx, maxPrepared); err != nil {
		return false, fmt.Errorf("prepare partitions: %w", err)
	}
	return more, nil
}

func (db *DB) preparePartitions(ctx context.Context, limit int) (more bool, err error) {
	if err := db.EnsureIndexes(ctx); err != nil {
		return false, err
	}
	for after := audit.TenantID(""); ; {
		tenants, err := db.dedicatedTenants(ctx, after, preparePage)
		if err != nil || len(tenants) == 0 {
			return false, err
		}
		missing, err := db.unprepared(ctx, tenants)
		if err != nil {
			return false, err
		}
		for _, p := range missing {
			if limit == 0 {
				return true, nil
			}
			if err := db.ensurePartition(ctx, p); err != nil {
				return false, err
			}
			limit--
		}
		after = tenants[len(tenants)-1]
	}
}

// upcoming returns the partitions of this month and of the next one.
func (db *DB) upcoming(tenant audit.TenantID, isolation audit.Isolation) []partition {
	now := db.now().UTC()
	next := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	return through(partitionOf(tenant, isolation, now), partitionOf(tenant, isolation, next))
}

// dedicatedTenants returns the next dedicated tenants after the given one, in rising order.
func (db *DB) dedicatedTenants(ctx context.Context, after audit.TenantID, limit int) ([]audit.TenantID, error) {
	var tenants []audit.TenantID
	query := bson.D{
		{Key: fieldIsolation, Value: string(audit.IsolationDedicated)},
		{Key: fieldKey, Value: bson.D{{Key: "$gt", Value: string(after)}}},
	}
	visit := func(doc bson.Raw) (bool, error) {
		id, _ := doc.Lookup(fieldKey).StringValueOK()
		tenants = append(tenants, audit.TenantID(id))
		return true, nil
	}
	if err := db.list(ctx, collectionTenants, indexIsolation, ascending(fieldKey), limit, query, visit); err != nil {
		return nil, fmt.Errorf("list dedicated tenants: %w", err)
	}
	return tenants, nil
}

// unprepared returns the upcoming partitions of dedicated tenants that lack a record
// or an index.
func (db *DB) unprepared(ctx context.Context, tenants []audit.TenantID) ([]partition, error) {
	var missing []partition
	var keys []string
	for _, tenant := range tenants {
		for _, p := range db.upcoming(tenant, audit.IsolationDedicated) {
			missing, keys = append(missing, p), append(keys, p.key())
		}
	}
	prepared := map[string]bool{}
	query := bson.D{{Key: fieldKey, Value: in(keys)}}
	err := db.find(ctx, collectionPartitions, query, options.Find().SetHint(indexID), func(doc bson.Raw) (bool, error) {
		record, err := readPartition(doc)
		prepared[record.Key] = record.Indexes.include(db.indexes)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the records of partitions: %w", err)
	}
	kept := missing[:0]
	for _, p := range missing {
		if !prepared[p.key()] {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

// EnsureIndexes creates the indexes of every collection that is not a partition,
// and the shared partitions of this month and of the next one. A write creates the
// indexes of its collection if they are missing. EnsureIndexes saves it that time. A read
// by an index that does not exist fails.
func (db *DB) EnsureIndexes(ctx context.Context) error {
	for _, ensure := range []func(context.Context) error{
		db.ensureTenants, db.ensureKeys, db.ensureQuarantine, db.ensureStreams, db.ensureConnections, db.ensureJobs, db.ensureHolds, db.ensureActivity, db.ensureArrivals, db.ensureQuotas, db.ensureAttempts, db.ensurePartitions,
	} {
		if err := ensure(ctx); err != nil {
			return err
		}
	}
	for _, p := range db.upcoming("", audit.IsolationShared) {
		if err := db.ensurePartition(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) ensureTenants(ctx context.Context) error {
	return db.ensure(ctx, collectionTenants, func(view mongo.IndexView) error { return create(ctx, view, tenantIndexes()) })
}
