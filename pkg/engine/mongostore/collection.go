package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// This file has the calls of the driver that the adapters share. Each returns
// errors as failure does, and audit.ErrNotFound if no document matches.

// visitFunc handles one document of a result, and returns false to end the
// visits. The document is valid only during the call.
type visitFunc func(doc bson.Raw) (more bool, err error)

// collection returns the collection with this name. Reads go to the primary.
func (db *DB) collection(name string) (*mongo.Collection, error) {
	return db.collectionAt(name, readpref.Primary())
}

func (db *DB) collectionAt(name string, from *readpref.ReadPref) (*mongo.Collection, error) {
	database, err := db.database()
	if err != nil {
		return nil, err
	}
	return database.Collection(name, options.Collection().SetReadPreference(from)), nil
}

// find visits the documents that match the query, as the primary has them.
func (db *DB) find(ctx context.Context, name string, query bson.D, o *options.FindOptionsBuilder, visit visitFunc) error {
	return db.findAt(ctx, name, readpref.Primary(), query, o, visit)
}

// findAt is find on the server that from selects.
func (db *DB) findAt(ctx context.Context, name string, from *readpref.ReadPref, query bson.D, o *options.FindOptionsBuilder, visit visitFunc) error {
	collection, err := db.collectionAt(name, from)
	if err != nil {
		return err
	}
	cursor, err := collection.Find(ctx, query, o)
	if err != nil {
		return failure(ctx, err)
	}
	return each(ctx, cursor, visit)
}

// list visits up to limit documents on the primary, in an order that the index has.
func (db *DB) list(ctx context.Context, name, index string, order bson.D, limit int, query bson.D, visit visitFunc) error {
	return db.find(ctx, name, query, options.Find().SetSort(order).SetHint(index).SetLimit(int64(limit)), visit)
}

// each visits the documents of a cursor and closes it.
func each(ctx context.Context, cursor *mongo.Cursor, visit visitFunc) (err error) {
	defer func() {
		if closeErr := cursor.Close(ctx); err == nil {
			err = failure(ctx, closeErr)
		}
	}()
	for cursor.Next(ctx) {
		if more, err := visit(cursor.Current); err != nil || !more {
			return err
		}
	}
	return failure(ctx, cursor.Err())
}

// confirm visits the documents with the given keys that a majority has. Each
// document has only its key and the given fields.
func (db *DB) confirm(ctx context.Context, name string, keys, fields []string, visit func(key string, doc bson.Raw) error) error {
	projection := ascending(append([]string{fieldKey}, fields...)...)
	query := bson.D{{Key: fieldKey, Value: in(keys)}}
	return db.find(ctx, name, query, options.Find().SetProjection(projection), func(doc bson.Raw) (bool, error) {
		return true, visit(doc.Lookup(fieldKey).StringValue(), doc)
	})
}

// read returns the document with this _id, from the server that from selects.
func (db *DB) read(ctx context.Context, name string, from *readpref.ReadPref, key string) (bson.Raw, error) {
	collection, err := db.collectionAt(name, from)
	if err != nil {
		return nil, err
	}
	return single(ctx, collection.FindOne(ctx, withKey(key)))
}

// findOne returns the document that matches the query, which the index answers.
func (db *DB) findOne(ctx context.Context, name, index string, query bson.D) (bson.Raw, error) {
	collection, err := db.collection(name)
	if err != nil {
		return nil, err
	}
	return single(ctx, collection.FindOne(ctx, query, options.FindOne().SetHint(index)))
}

// findOneAndUpdate updates the document that matches the query, and returns it
// as it is afterwards.
func (db *DB) findOneAndUpdate(ctx context.Context, name string, query, update bson.D) (bson.Raw, error) {
	collection, err := db.collection(name)
	if err != nil {
		return nil, err
	}
	return single(ctx, collection.FindOneAndUpdate(ctx, query, update, options.FindOneAndUpdate().SetReturnDocument(options.After)))
}

func single(ctx context.Context, result *mongo.SingleResult) (bson.Raw, error) {
	doc, err := result.Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, audit.ErrNotFound
	}
	return doc, failure(ctx, err)
}

// insertOne adds a document. It returns audit.ErrConflict if a unique field of it is taken.
func (db *DB) insertOne(ctx context.Context, name string, doc any) error {
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	_, err = collection.InsertOne(ctx, doc)
	if mongo.IsDuplicateKeyError(err) {
		return audit.ErrConflict
	}
	return failure(ctx, err)
}

// insertMany adds the documents independently of each other. It returns the
// faults of single documents by their index. After an error, any document may be stored.
func (db *DB) insertMany(ctx context.Context, name string, docs []bson.Raw) (map[int]mongo.WriteError, error) {
	collection, err := db.collection(name)
	if err != nil {
		return nil, err
	}
	_, err = collection.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	return itemFaults(ctx, err)
}

// writeMany writes the models independently of each other. It returns the faults of single models by their
// index. After an error, any model may be written.
func (db *DB) writeMany(ctx context.Context, name string, models []mongo.WriteModel) (map[int]mongo.WriteError, error) {
	collection, err := db.collection(name)
	if err != nil {
		return nil, err
	}
	_, err = collection.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	return itemFaults(ctx, err)
}

// itemFaults returns the faults of single documents that an unordered write of many
// reports, by the document's index. It returns an error if the error concerns the whole call.
func itemFaults(ctx context.Context, err error) (map[int]mongo.WriteError, error) {
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) || bulk.WriteConcernError != nil {
		return nil, failure(ctx, err)
	}
	faults := make(map[int]mongo.WriteError, len(bulk.WriteErrors))
	for _, e := range bulk.WriteErrors {
		if !mongo.IsDuplicateKeyError(e.WriteError) && !slices.Contains(documentCodes, e.Code) {
			return nil, failure(ctx, err)
		}
		faults[e.Index] = e.WriteError
	}
	return faults, nil
}

// updateOne updates the document that matches the query.
func (db *DB) updateOne(ctx context.Context, name string, query, update bson.D) error {
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	result, err := collection.UpdateOne(ctx, query, update)
	if err != nil {
		return failure(ctx, err)
	}
	return foundIf(result.MatchedCount > 0)
}

// replaceOne replaces the document that matches the query.
func (db *DB) replaceOne(ctx context.Context, name string, query bson.D, doc any) error {
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	result, err := collection.ReplaceOne(ctx, query, doc)
	if err != nil {
		return failure(ctx, err)
	}
	return foundIf(result.MatchedCount > 0)
}

// replaceCurrent replaces the document with this key if the condition holds for it. It returns
// audit.ErrPrecondition if it does not, and audit.ErrNotFound if there is no document.
func (db *DB) replaceCurrent(ctx context.Context, name, key string, condition bson.E, doc any) error {
	return db.missed(ctx, name, key, db.replaceOne(ctx, name, append(withKey(key), condition), doc))
}

// missed says why a conditional write changed no document: it returns audit.ErrPrecondition if the one with the
// key exists. It returns other errors as they are.
func (db *DB) missed(ctx context.Context, name, key string, err error) error {
	if !errors.Is(err, audit.ErrNotFound) {
		return err
	}
	if _, readErr := db.read(ctx, name, readpref.Primary(), key); !errors.Is(readErr, audit.ErrNotFound) {
		return errors.Join(audit.ErrPrecondition, readErr)
	}
	return err
}

// deleteOne deletes the document that matches the query.
func (db *DB) deleteOne(ctx context.Context, name string, query bson.D) error {
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	result, err := collection.DeleteOne(ctx, query)
	if err != nil {
		return failure(ctx, err)
	}
	return foundIf(result.DeletedCount > 0)
}

// drop removes a collection with its documents and indexes.
func (db *DB) drop(ctx context.Context, name string) error {
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	if err := collection.Drop(ctx); err != nil {
		return fmt.Errorf("drop %s: %w", name, failure(ctx, err))
	}
	db.catalog.forget(name)
	return nil
}

func foundIf(found bool) error {
	if !found {
		return audit.ErrNotFound
	}
	return nil
}

// withKey matches the document with this _id.
func withKey(key string) bson.D { return bson.D{{Key: fieldKey, Value: key}} }

// ofTenant matches the documents of a tenant.
func ofTenant(tenant audit.TenantID) bson.D { return bson.D{{Key: fieldTenant, Value: string(tenant)}} }

// in returns the condition that a field has one of the values.
func in(values []string) any {
	switch len(values) {
	case 0:
		return bson.D{{Key: "$in", Value: bson.A{}}}
	case 1:
		return values[0]
	}
	return bson.D{{Key: "$in", Value: values}}
}

// set returns the update that sets the fields.
func set(fields ...bson.E) bson.D { return bson.D{{Key: "$set", Value: bson.D(fields)}} }

// raise returns the update that sets a field to the value if that is greater.
func raise(field string, value any) bson.D {
	return bson.D{{Key: "$max", Value: bson.D{{Key: field, Value: value}}}}
}

// ascending returns the fields in ascending order, for an index or a sort. As a
// projection it selects the fields.
func ascending(fields ...string) bson.D {
	keys := make(bson.D, len(fields))
	for i, field := range fields {
		keys[i] = bson.E{Key: field, Value: 1}
	}
	return keys
}
