package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// partitionDocument is the record of a partition in the collection "partitions". The
// record is written after the partition's indexes, and before its first entry. A call
// that reads the records therefore knows every partition with entries.
type partitionDocument struct {
	Key       string    `bson:"_id"` // partition.key: a family's records are in the order of time
	Name      string    `bson:"name"`
	Tenant    string    `bson:"tenant_id,omitempty"`
	Period    int       `bson:"period"`
	Indexes   Indexes   `bson:"indexes"` // that the partition has; "" if it was dropped
	CreatedAt time.Time `bson:"created_at"`
	// Epoch is another after each change of what follows. A record of an earlier version has none.
	Epoch    bson.ObjectID `bson:"epoch,omitempty"`
	ClosedAt time.Time     `bson:"closed_at,omitempty"` // by the server's clock; zero: the partition is open
	Dropping bool          `bson:"dropping,omitempty"`  // the closed partition may be dropped at any moment
	DueAt    time.Time     `bson:"due_at,omitempty"`    // when ClosePartitions looks at it again; zero: now
}

func (d *partitionDocument) partition() partition {
	return partition{tenant: audit.TenantID(d.Tenant), period: d.Period}
}

func (d *partitionDocument) isClosed() bool { return !d.ClosedAt.IsZero() }

const (
	fieldIndexes  = "indexes"
	fieldEpoch    = "epoch"
	fieldClosedAt = "closed_at"
	fieldDropping = "dropping"
	fieldDueAt    = "due_at"
	// registryTTL is how long a process uses the records that it read. A list may miss
	// for that long the first entries of an old period.
	registryTTL = time.Minute
	// maxFamilies is how many dedicated tenants' records a process keeps.
	maxFamilies = 1000
	// maxComputed is how many partitions a call reads without a look at the records.
	maxComputed = 3
)

// registry caches the records of partitions: those of the shared ones under "", and
// those of a dedicated tenant under its id.
type registry struct {
	families *ttlcache.Cache[audit.TenantID, []partition]
	// epochs has the epochs of the partitions of past periods that this process writes into.
	epochs *ttlcache.Cache[partition, bson.ObjectID]
}

func newRegistry() registry {
	return registry{
		families: ttlcache.New[audit.TenantID, []partition](maxFamilies), epochs: ttlcache.New[partition, bson.ObjectID](maxFamilies),
	}
}

// partitions returns the partitions that may have entries of the tenant in the time
// range, earliest first. Some may not exist. The call computes them if the range is
// short. Otherwise it returns those with a record, and those of the current entries.
func (db *DB) partitions(ctx context.Context, tenant audit.TenantID, isolation audit.Isolation, t audit.Time) ([]partition, error) {
	if !t.From.IsZero() && !t.To.IsZero() {
		first, last := partitionOf(tenant, isolation, t.From), partitionOf(tenant, isolation, t.To.Add(-time.Millisecond))
		if last.period-first.period < maxComputed {
			return through(first, last), nil
		}
	}
	now := db.now()
	current := through(partitionOf(tenant, isolation, now), partitionOf(tenant, isolation, now.Add(audit.MaxLead)))
	registered, err := db.registered(ctx, current[0].tenant)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(registered, current)
	slices.SortFunc(all, func(a, b partition) int { return a.period - b.period })
	return slices.DeleteFunc(slices.Compact(all), func(p partition) bool { return !p.overlaps(t) }), nil
}

// through returns the partitions of one family from first to last.
func through(first, last partition) []partition {
	var all []partition
	for p := first; p.period <= last.period; p.period++ {
		all = append(all, p)
	}
	return all
}

// registered returns the partitions of a family that have a record, earliest first.
// The answer is at most registryTTL old, and has what this process registered.
func (db *DB) registered(ctx context.Context, family audit.TenantID) ([]partition, error) {
	now := db.now()
	if entry, found := db.registry.families.Get(family); found && entry.Fresh(now, registryTTL) {
		return entry.Value, nil
	}
	partitions, err := db.readRegistered(ctx, family)
	if err != nil {
		return nil, err
	}
	db.registry.families.Update(family, func(entry ttlcache.Entry[[]partition], found bool) (ttlcache.Entry[[]partition], bool) {
		return ttlcache.Entry[[]partition]{Value: partitions, ReadAt: now}, true
	})
	return partitions, nil
}

// readRegistered is registered without the cache.
func (db *DB) readRegistered(ctx context.Context, family audit.TenantID) ([]partition, error) {
	var partitions []partition
	// A tenant id has no slash, and the character after the slash is 0.
	query := bson.D{{Key: fieldKey, Value: bson.D{{Key: "$gte", Value: string(family) + "/"}, {Key: "$lt", Value: string(family) + "0"}}}}
	o := options.Find().SetSort(ascending(fieldKey)).SetHint(indexID)
	err := db.find(ctx, collectionPartitions, query, o, func(doc bson.Raw) (bool, error) {
		p, err := readPartition(doc)
		partitions = append(partitions, partition{tenant: family, period: p.Period})
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the records of partitions: %w", err)
	}
	return partitions, nil
}

func readPartition(doc bson.Raw) (p partitionDocument, err error) {
	if err := bson.Unmarshal(doc, &p); err != nil {
		return p, fmt.Errorf("the record of a partition %w", errStored)
	}
	return p, nil
}

// ensurePartition makes sure that the partition is open and has its indexes and its record. A
// process looks once for each partition. For one of a past period see openPartition.
func (db *DB) ensurePartition(ctx context.Context, p partition) error {
	return db.ensure(ctx, p.String(), func(view mongo.IndexView) error {
		_, err := db.register(ctx, view, p)
		return err
	})
}

// register makes sure that the partition is open and has its indexes and its record, which it returns.
func (db *DB) register(ctx context.Context, view mongo.IndexView, p partition) (partitionDocument, error) {
	record, err := db.partitionRecord(ctx, p)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return db.createPartition(ctx, view, p)
	case err != nil:
		return record, err
	case record.isClosed():
		return db.reopenIfDue(ctx, record)
	case record.Indexes.include(db.indexes):
		return record, nil
	}
	if err := createEntryIndexes(ctx, view, db.indexes); err != nil {
		return record, err
	}
	record.Indexes = db.indexes
	return record, db.setIndexes(ctx, &record)
}

// partitionRecord returns the record of the partition, as a majority has it.
func (db *DB) partitionRecord(ctx context.Context, p partition) (partitionDocument, error) {
	doc, err := db.read(ctx, collectionPartitions, readpref.Primary(), p.key())
	if err != nil {
		return partitionDocument{}, err
	}
	return readPartition(doc)
}

// createPartition creates the indexes of a partition, then its record.
func (db *DB) createPartition(ctx context.Context, view mongo.IndexView, p partition) (partitionDocument, error) {
	if err := createEntryIndexes(ctx, view, db.indexes); err != nil {
		return partitionDocument{}, err
	}
	record := partitionDocument{
		Key: p.key(), Name: p.String(), Tenant: string(p.tenant), Period: p.period, Indexes: db.indexes, CreatedAt: db.now(), Epoch: bson.NewObjectID(),
	}
	err := retry(ctx, func() error { return db.insertOne(ctx, collectionPartitions, record) })
	if errors.Is(err, audit.ErrConflict) { // another process created the record at the same time
		record, err = db.partitionRecord(ctx, p)
		if err == nil && record.isClosed() {
			err = errClosedPartition(p)
		}
	}
	db.registry.families.Remove(p.tenant)
	if err != nil || !p.hasEnded(db.now()) {
		return record, err
	}
	// Another process may have registered, closed and dropped it since the indexes were created. From now
	// on that changes the epoch.
	return record, createEntryIndexes(ctx, view, db.indexes)
}

// setIndexes records which indexes the partition has.
func (db *DB) setIndexes(ctx context.Context, record *partitionDocument) error {
	update := set(bson.E{Key: fieldIndexes, Value: string(record.Indexes)})
	err := retry(ctx, func() error { return db.updateOne(ctx, collectionPartitions, record.current(), update) })
	if errors.Is(err, audit.ErrNotFound) {
		return errClosedPartition(record.partition())
	}
	return err
}
