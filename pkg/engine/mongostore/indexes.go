package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The names of the collections that are not partitions.
const (
	collectionTenants     = "tenants"
	collectionKeys        = "keys"
	collectionJobs        = "jobs"
	collectionQuarantine  = "quarantine"
	collectionStreams     = "streams"
	collectionSegments    = "stream_segments"
	collectionConnections = "connections"
)

// The names of indexes. Queries give them as their hint.
const (
	indexID             = "_id_" // MongoDB creates it
	indexTime           = "tenant_time"
	indexUser           = "tenant_user_time"
	indexAction         = "tenant_action_resource_type_time"
	indexSeverity       = "tenant_severity_time"
	indexResource       = "tenant_resource_id_time"
	indexExpiry         = "expiry"
	indexMessage        = "message_text"
	indexKeyHash        = "hash"
	indexKeyTenant      = "tenant_created"
	indexQuarantineItem = "tenant_item"
	indexStreamID       = "tenant_ids"
	indexSubscribed     = "tenant_subscribed"
)

// noLanguage names the field in which MongoDB looks for the language of a
// document's text. No document has it. With the default field, MongoDB would
// refuse an entry whose metadata is {"language":"klingon"}.
const noLanguage = "_language"

// entryIndexes are the indexes of a partition, except the index of the message.
// Each ends with the order of lists, so that MongoDB reads a page without a sort.
func entryIndexes() []mongo.IndexModel {
	by := func(name string, fields ...string) mongo.IndexModel {
		fields = append(append([]string{fieldTenant}, fields...), fieldTimestamp, fieldKey)
		return mongo.IndexModel{Keys: ascending(fields...), Options: options.Index().SetName(name)}
	}
	return []mongo.IndexModel{
		by(indexTime), by(indexUser, fieldUserID), by(indexAction, fieldAction, fieldResourceType),
		by(indexSeverity, fieldSeverity), by(indexResource, fieldResourceID), expiryIndex(),
	}
}

// expiryIndex makes MongoDB delete a document about a minute after its expires_at.
func expiryIndex() mongo.IndexModel {
	return mongo.IndexModel{Keys: ascending(fieldExpiresAt), Options: options.Index().SetName(indexExpiry).SetExpireAfterSeconds(0)}
}

// messageIndex is the full-text index of the message, without stemming and stop
// words. It is for operators. The queries of this package do not use it, because
// MongoDB's words and phrases differ from audit.Words.
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
		expiryIndex(),
	}
}

func segmentIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		{Keys: ascending(fieldTenant, fieldIDs), Options: options.Index().SetName(indexStreamID)},
		expiryIndex(),
	}
}

func connectionIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		{Keys: ascending(fieldTenant, fieldSubscribed, fieldKey), Options: options.Index().SetName(indexSubscribed)},
		expiryIndex(),
	}
}

// EnsureIndexes creates the indexes of every collection that is not a partition,
// and of the shared partitions of this month and of the next one. Calls that need
// an index create it if it is missing. EnsureIndexes saves them that time.
func (db *DB) EnsureIndexes(ctx context.Context) error {
	this := sharedPartition(db.now())
	next := partition{month: this.month + 1}
	for _, ensure := range []func(context.Context) error{
		db.ensureKeys, db.ensureQuarantine, db.ensureSegments, db.ensureConnections,
		func(ctx context.Context) error { return db.ensurePartition(ctx, this) },
		func(ctx context.Context) error { return db.ensurePartition(ctx, next) },
	} {
		if err := ensure(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) ensureKeys(ctx context.Context) error {
	return db.ensure(ctx, collectionKeys, func(view mongo.IndexView) error { return create(ctx, view, keyIndexes()) })
}

func (db *DB) ensureQuarantine(ctx context.Context) error {
	return db.ensure(ctx, collectionQuarantine, func(view mongo.IndexView) error { return create(ctx, view, quarantineIndexes()) })
}

func (db *DB) ensureSegments(ctx context.Context) error {
	return db.ensure(ctx, collectionSegments, func(view mongo.IndexView) error { return create(ctx, view, segmentIndexes()) })
}

func (db *DB) ensureConnections(ctx context.Context) error {
	return db.ensure(ctx, collectionConnections, func(view mongo.IndexView) error { return create(ctx, view, connectionIndexes()) })
}

func (db *DB) ensurePartition(ctx context.Context, p partition) error {
	return db.ensure(ctx, p.String(), func(view mongo.IndexView) error {
		if err := create(ctx, view, entryIndexes()); err != nil {
			return err
		}
		err := create(ctx, view, []mongo.IndexModel{messageIndex()})
		var unavailable *audit.UnavailableError
		var refused *serverFailure
		if errors.As(err, &refused) && !errors.As(err, &unavailable) {
			return nil // DocumentDB has no such index, and no query needs it
		}
		return err
	})
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
	until     atomic.Int64 // Unix seconds
}

// indexTTL is how long the indexes of a collection are assumed to exist. It is
// limited because another process may drop an empty partition.
const indexTTL = 10 * time.Minute

// ensure calls createIndexes unless it succeeded for this collection within the
// indexTTL. One caller at a time calls it, and the others wait.
func (db *DB) ensure(ctx context.Context, name string, createIndexes func(mongo.IndexView) error) error {
	value, _ := db.catalog.states.LoadOrStore(name, &indexState{semaphore: make(chan struct{}, 1)})
	state := value.(*indexState)
	now := db.now()
	if now.Unix() < state.until.Load() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case state.semaphore <- struct{}{}:
	}
	defer func() { <-state.semaphore }()
	if now.Unix() < state.until.Load() {
		return nil
	}
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	if err := createIndexes(collection.Indexes()); err != nil {
		return fmt.Errorf("create the indexes of %s: %w", name, err)
	}
	state.until.Store(now.Add(indexTTL).Unix())
	return nil
}

// forget makes the next write to a collection create its indexes again.
func (c *catalog) forget(name string) { c.states.Delete(name) }
