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

// The names of the collections beside the partitions.
const (
	collectionTenants     = "tenants"
	collectionKeys        = "keys"
	collectionJobs        = "jobs"
	collectionQuarantine  = "quarantine"
	collectionStreams     = "streams"
	collectionSegments    = "stream_segments"
	collectionConnections = "connections"
)

// The names of indexes, which queries give as their hint.
const (
	indexID             = "_id_" // MongoDB makes it itself
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

// noLanguage is the field from which MongoDB would take the language of a
// document's text. No document has it: an entry whose metadata says
// {"language":"klingon"} would be refused otherwise.
const noLanguage = "_language"

// entryIndexes are the indexes of a partition but for that of the message. Each
// ends with the order of lists, so that a page is read as it stands in the index.
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

// expiryIndex has the server delete a document within about a minute after its expires_at.
func expiryIndex() mongo.IndexModel {
	return mongo.IndexModel{Keys: ascending(fieldExpiresAt), Options: options.Index().SetName(indexExpiry).SetExpireAfterSeconds(0)}
}

// messageIndex is the full-text index of the message. Words are neither stemmed
// nor left out. Queries of this package do not use it: what MongoDB takes for a
// word and a phrase differs from audit.Words. It is there for operators.
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

// EnsureIndexes makes the indexes of every collection that is not a partition,
// and the shared partitions of this month and of the next one. Calls that
// need an index make it themselves where it is missing; this takes that work out
// of their way.
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
		var later *audit.UnavailableError
		var refused *serverFailure
		if errors.As(err, &refused) && !errors.As(err, &later) {
			return nil // DocumentDB has no such index; entries must not wait for one that no query needs
		}
		return err
	})
}

// create makes indexes where they do not exist yet, and the collection with them.
func create(ctx context.Context, view mongo.IndexView, models []mongo.IndexModel) error {
	return retry(ctx, func() error {
		_, err := view.CreateMany(ctx, models)
		return failure(ctx, err)
	})
}

// catalog knows which collections have their indexes. The zero catalog knows of none.
type catalog struct{ states sync.Map } // name → *indexState

// indexState is of one collection. Whoever holds the turn makes the indexes.
type indexState struct {
	turn  chan struct{}
	until atomic.Int64 // Unix seconds
}

// ensuredFor is how long the indexes of a collection are taken to be there:
// another process may drop an empty partition.
const ensuredFor = 10 * time.Minute

// ensure runs makeIndexes unless it succeeded for this collection a short while
// ago. It is run by one caller at a time; the others wait for it.
func (db *DB) ensure(ctx context.Context, name string, makeIndexes func(mongo.IndexView) error) error {
	value, _ := db.catalog.states.LoadOrStore(name, &indexState{turn: make(chan struct{}, 1)})
	state := value.(*indexState)
	now := db.now()
	if now.Unix() < state.until.Load() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case state.turn <- struct{}{}:
	}
	defer func() { <-state.turn }()
	if now.Unix() < state.until.Load() {
		return nil
	}
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	if err := makeIndexes(collection.Indexes()); err != nil {
		return fmt.Errorf("make the indexes of %s: %w", name, err)
	}
	state.until.Store(now.Add(ensuredFor).Unix())
	return nil
}

// forget has the next write to a collection make its indexes again.
func (c *catalog) forget(name string) { c.states.Delete(name) }
