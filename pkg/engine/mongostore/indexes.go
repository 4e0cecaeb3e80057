package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The names of the collections that are not partitions.
const (
	collectionTenants     = "tenants"
	collectionPartitions  = "partitions"
	collectionKeys        = "keys" // API keys
	collectionTenantKeys  = "tenant_keys"
	collectionJobs        = "jobs"
	collectionHolds       = "legal_holds"
	collectionActivity    = "activity"
	collectionQuarantine  = "quarantine"
	collectionStreams     = "streams"
	collectionArrivals    = "arrivals"
	collectionConnections = "connections"
	collectionQuotas      = "quotas"
	collectionAttempts    = "attempts"

	collectionCertificates = "certificates"
	collectionSigningKeys  = "certificate_keys"
)

// The names of indexes. Queries give them as their hint. Those of partitions are short;
// see maxTenantInName.
const (
	indexID              = "_id_" // MongoDB creates it
	indexTime            = "time"
	indexUser            = "user"
	indexAction          = "action"
	indexSeverity        = "severity"
	indexResource        = "resource"
	indexDeletable       = "deletable"
	indexMarked          = "marked"
	indexMessage         = "text"
	indexExpiry          = "expiry"
	indexKeyHash         = "hash"
	indexKeyTenant       = "tenant_created"
	indexQuarantineItem  = "tenant_item" // of activity too
	indexQuarantineType  = "tenant_type"
	indexQuarantineOf    = "tenant_resource"
	indexSubscribed      = "tenant_subscribed"
	indexArrivalMessages = "tenant_messages"
	indexArrivalDays     = "tenant_days"
	indexIsolation       = "isolation"
	indexCreated         = "tenant_created" // the newest first
	indexJobsOverdue     = "resume"
	indexJobsSweep       = "sweep"
	indexActivityDue     = "work_due"
	indexPartitionsDue   = "due"
)

// Indexes selects the indexes of partitions.
type Indexes string

const (
	// IndexesFull has an index for each field that MongoDB can filter by, and for
	// operators: the time and the words of the message.
	IndexesFull Indexes = "full"
	// IndexesLean leaves out the indexes of time, action, severity and message. The
	// _id answers lists by time, and OpenSearch the others.
	IndexesLean Indexes = "lean"
)

// include reports whether a partition with these indexes has all of the others.
func (i Indexes) include(others Indexes) bool { return i == IndexesFull || i == others }

// noLanguage names the field in which MongoDB looks for the language of a
// document's text. No document has it. With the default field, MongoDB would
// refuse an entry whose metadata is {"language":"klingon"}.
const noLanguage = "_language"

// entryIndexes returns the indexes of a partition, except the index of the message.
// Each ends with the order of lists, so that MongoDB reads a page without a sort. The
// _id alone has that order within a tenant.
func entryIndexes(set Indexes) []mongo.IndexModel {
	by := func(name string, fields ...string) mongo.IndexModel {
		fields = append(append([]string{fieldTenant}, fields...), fieldKey)
		return mongo.IndexModel{Keys: ascending(fields...), Options: options.Index().SetName(name)}
	}
	indexes := []mongo.IndexModel{by(indexUser, fieldUserID), by(indexResource, fieldResourceID), deletableIndex(), markedIndex()}
	if set == IndexesFull {
		indexes = append(indexes, by(indexTime, fieldTimestamp), by(indexAction, fieldAction, fieldResourceType), by(indexSeverity, fieldSeverity))
	}
	return indexes
}

// IndexCount returns how many indexes a partition has, the _id included.
func IndexCount(set Indexes) int {
	n := 1 + len(entryIndexes(set))
	if set == IndexesFull {
		n++ // of the message
	}
	return n
}

// deletableIndex makes MongoDB delete an entry about a minute after its deletable_at.
// The index is sparse: an entry without the field takes no space in it.
func deletableIndex() mongo.IndexModel {
	return mongo.IndexModel{Keys: ascending(fieldDeletableAt), Options: options.Index().SetName(indexDeletable).SetExpireAfterSeconds(0).SetSparse(true)}
}

// markedIndex finds the entries of a tenant that have a deletable_at. The others take no space in it.
func markedIndex() mongo.IndexModel {
	return mongo.IndexModel{Keys: ascending(fieldTenant, fieldKey), Options: options.Index().SetName(indexMarked).SetPartialFilterExpression(isMarked())}
}

// isMarked returns the condition of markedIndex, which its queries repeat.
func isMarked() bson.D {
	return bson.D{{Key: fieldDeletableAt, Value: bson.D{{Key: "$exists", Value: true}}}}
}

// expiryIndex makes MongoDB delete a document about a minute after its expires_at.
func expiryIndex() mongo.IndexModel {
	return mongo.IndexModel{Keys: ascending(fieldExpiresAt), Options: options.Index().SetName(indexExpiry).SetExpireAfterSeconds(0)}
}

// tenantIndexes returns the index that finds the dedicated tenants.
func tenantIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{{Keys: ascending(fieldIsolation, fieldKey), Options: options.Index().SetName(indexIsolation)}}
}

// messageIndex is the full-text index of the message, without stemming and stop
// words. It is for operators. The queries of this package do not use it, because
// MongoDB's words and phrases differ from words.Split.
func messageIndex() mongo.IndexModel {
	return mongo.IndexModel{
		Keys:    bson.D{{Key: fieldTenant, Value: 1}, {Key: fieldMessage, Value: "text"}},
		Options: options.Index().SetName(indexMessage).SetDefaultLanguage("none").SetLanguageOverride(noLanguage),
	}
}

func keyIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		{Keys: ascending(fieldHash), Options: options.Index().SetName(indexKeyHash).SetUnique(true)},
		{Keys: ascending(fieldTenant, fieldCreatedAt, fieldKey), Options: options.Index().SetName(indexKeyTenant)},
	}
}

func quarantineIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		{Keys: ascending(fieldTenant, fieldKey), Options: options.Index().SetName(indexQuarantineItem)},
		{Keys: ascending(fieldTenant, fieldEntryType, fieldKey), Options: options.Index().SetName(indexQuarantineType)},
		{Keys: ascending(fieldTenant, fieldEntryType, fieldEntryResource, fieldKey), Options: options.Index().SetName(indexQuarantineOf)},
	}
}

func connectionIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		{Keys: ascending(fieldTenant, fieldSubscribed, fieldKey), Options: options.Index().SetName(indexSubscribed)},
		expiryIndex(),
	}
}

func activityIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		{Keys: ascending(fieldWork, fieldDue), Options: options.Index().SetName(indexActivityDue)},
		{Keys: ascending(fieldTenant, fieldKey), Options: options.Index().SetName(indexQuarantineItem)},
	}
}

func (db *DB) ensureActivity(ctx context.Context) error {
	return db.ensure(ctx, collectionActivity, func(view mongo.IndexView) error { return create(ctx, view, activityIndexes()) })
}

func (db *DB) ensurePartitions(ctx context.Context) error {
	due := mongo.IndexModel{Keys: ascending(fieldDueAt), Options: options.Index().SetName(indexPartitionsDue)}
	return db.ensure(ctx, collectionPartitions, func(view mongo.IndexView) error { return create(ctx, view, []mongo.IndexModel{due}) })
}

func createdIndex() mongo.IndexModel {
	return mongo.IndexModel{Keys: append(ascending(fieldTenant), newestFirst()...), Options: options.Index().SetName(indexCreated)}
}

func (db *DB) ensureHolds(ctx context.Context) error {
	return db.ensure(ctx, collectionHolds, func(view mongo.IndexView) error { return create(ctx, view, []mongo.IndexModel{createdIndex()}) })
}

func jobIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		createdIndex(),
		{Keys: ascending(fieldResumeAt), Options: options.Index().SetName(indexJobsOverdue).SetSparse(true)},
		{Keys: ascending(fieldSweepAt), Options: options.Index().SetName(indexJobsSweep).SetSparse(true)},
		expiryIndex(),
	}
}

func (db *DB) ensureJobs(ctx context.Context) error {
	return db.ensure(ctx, collectionJobs, func(view mongo.IndexView) error { return create(ctx, view, jobIndexes()) })
}

func (db *DB) ensureKeys(ctx context.Context) error {
	return db.ensure(ctx, collectionKeys, func(view mongo.IndexView) error { return create(ctx, view, keyIndexes()) })
}

func (db *DB) ensureQuarantine(ctx context.Context) error {
	return db.ensure(ctx, collectionQuarantine, func(view mongo.IndexView) error { return create(ctx, view, quarantineIndexes()) })
}

func (db *DB) ensureStreams(ctx context.Context) error {
	return db.ensure(ctx, collectionStreams, func(view mongo.IndexView) error { return create(ctx, view, []mongo.IndexModel{expiryIndex()}) })
}

func (db *DB) ensureConnections(ctx context.Context) error {
	return db.ensure(ctx, collectionConnections, func(view mongo.IndexView) error { return create(ctx, view, connectionIndexes()) })
}

// createEntryIndexes creates the indexes of a partition.
func createEntryIndexes(ctx context.Context, view mongo.IndexView, set Indexes) error {
	if err := create(ctx, view, entryIndexes(set)); err != nil || set != IndexesFull {
		return err
	}
	err := create(ctx, view, []mongo.IndexModel{messageIndex()})
	var refused *serverFailure
	if errors.As(err, &refused) && !audit.IsUnavailable(err) {
		return nil // DocumentDB has no such index, and no query needs it
	}
	return err
}

// create creates the indexes and the collection that do not exist yet.
func create(ctx context.Context, view mongo.IndexView, models []mongo.IndexModel) error {
	return retry(ctx, func() error {
		_, err := view.CreateMany(ctx, models)
		return failure(ctx, err)
	})
}

// catalog records which collections have their indexes. The zero catalog is empty.
type catalog struct{ states sync.Map } // name → *indexState

// indexState is the state of one collection's indexes. The caller that fills the
// semaphore creates them.
type indexState struct {
	semaphore chan struct{}
	exist     atomic.Bool
}

// ensure calls createIndexes unless it succeeded for this collection before. One
// caller at a time calls it, and the others wait.
func (db *DB) ensure(ctx context.Context, name string, createIndexes func(mongo.IndexView) error) error {
	state := db.catalog.state(name)
	if state.exist.Load() {
		return nil
	}
	return state.alone(ctx, func() error {
		if state.exist.Load() {
			return nil
		}
		collection, err := db.collection(name)
		if err != nil {
			return err
		}
		if err := createIndexes(collection.Indexes()); err != nil {
			return fmt.Errorf("create the indexes of %s: %w", name, err)
		}
		state.exist.Store(true)
		return nil
	})
}

func (c *catalog) state(name string) *indexState {
	value, _ := c.states.LoadOrStore(name, &indexState{semaphore: make(chan struct{}, 1)})
	return value.(*indexState)
}

// alone calls do while no other caller does.
func (s *indexState) alone(ctx context.Context, do func() error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case s.semaphore <- struct{}{}:
	}
	defer func() { <-s.semaphore }()
	return do()
}

// forget makes the next write to a collection create its indexes again.
func (c *catalog) forget(name string) { c.states.Delete(name) }
