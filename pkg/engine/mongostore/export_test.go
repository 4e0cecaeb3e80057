package mongostore

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// What is tested without a server.
var (
	EntryDocument = entryDocument
	ReadEntry     = readEntry
	Convert       = convert
	Failure       = failure
	ItemFaults    = itemFaults
	KeyOfEntry    = keyOfEntry
	KeysIn        = keysIn
)

// The limits that tests compare with.
const (
	PartitionPrefix = partitionPrefix
	MaxIndexName    = maxIndexName
)

// PrepareAtMost is PreparePartitions with another limit.
func PrepareAtMost(ctx context.Context, db *DB, limit int) (more bool, err error) {
	return db.preparePartitions(ctx, limit)
}

// Condition returns the bounds of _id.
func (r keyRange) Condition() bson.D { return r.condition().Value.(bson.D) }

// WithServerClock replaces the clock of the server.
func WithServerClock(now func() time.Time) Option {
	return func(db *DB) { db.serverTime = func(ctx context.Context) (time.Time, error) { return now(), ctx.Err() } }
}

// ConnectionsOf returns the most connections of the database to each server.
func ConnectionsOf(db *DB) (uint64, error) {
	o, err := db.clientOptions(db.uri)
	if err != nil {
		return 0, err
	}
	return *o.MaxPoolSize, nil
}
