package mongostore

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Attempts says which refused attempts are recorded, one document for each caller and hour. It
// implements attempts.Claims and jobs.CountedPurger. MongoDB removes a document some hours after its hour.
type Attempts struct{ db *DB }

// Attempts returns the claims of refused attempts.
func (db *DB) Attempts() *Attempts { return &Attempts{db} }

const (
	fieldPlaces  = "places"
	fieldClaimed = "claimed" // how many places there are

	attemptsTTL = 3 * time.Hour
)

func (db *DB) ensureAttempts(ctx context.Context) error {
	return db.ensure(ctx, collectionAttempts, func(view mongo.IndexView) error { return create(ctx, view, []mongo.IndexModel{expiryIndex()}) })
}

// Claim implements attempts.Claims. It is one update, or two if several requests begin an hour.
func (s *Attempts) Claim(ctx context.Context, slot attempts.Slot, most int) (bool, error) {
	free, err := s.claim(ctx, slot, most)
	if err == nil && !free { // or another request made the document at the same time
		free, err = s.claim(ctx, slot, most)
	}
	if err != nil {
		return false, fmt.Errorf("claim a refused attempt of %s: %w", slot.Tenant, err)
	}
	return free, nil
}

// claim adds the place to the document, unless it is there or the document is full. Then no document
// matches, and the one that the update would make has a key that is taken.
func (s *Attempts) claim(ctx context.Context, slot attempts.Slot, most int) (bool, error) {
	if err := s.db.ensureAttempts(ctx); err != nil {
		return false, err
	}
	collection, err := s.db.collection(collectionAttempts)
	if err != nil {
		return false, err
	}
	query := append(withKey(keyOf(slot.Tenant, hex.EncodeToString(slot.Caller[:])+"/"+strconv.FormatInt(slot.Hour, 10))),
		bson.E{Key: fieldClaimed, Value: bson.D{{Key: "$lt", Value: most}}}, bson.E{Key: fieldPlaces, Value: bson.D{{Key: "$ne", Value: slot.Place}}})
	_, err = collection.UpdateOne(ctx, query, bson.D{
		{Key: "$push", Value: bson.D{{Key: fieldPlaces, Value: slot.Place}}}, {Key: "$inc", Value: bson.D{{Key: fieldClaimed, Value: 1}}},
		{Key: "$setOnInsert", Value: bson.D{{Key: fieldTenant, Value: string(slot.Tenant)}, {Key: fieldExpiresAt, Value: time.Unix(slot.Hour*3600, 0).Add(attemptsTTL)}}},
	}, options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) {
		return false, nil
	}
	return err == nil, failure(ctx, err)
}

// attemptsOf selects the tenant's records by their keys.
func attemptsOf(tenant audit.TenantID) bson.E {
	return bson.E{Key: fieldKey, Value: bson.D{
		{Key: "$gte", Value: keyOf(tenant, "")}, {Key: "$lt", Value: string(tenant) + "0"}, // "0" follows "/"
	}}
}

// Purge implements jobs.Purger.
func (s *Attempts) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, collectionAttempts, indexID, tenant, limit, attemptsOf(tenant))
	if err != nil {
		return 0, fmt.Errorf("purge the refused attempts of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Attempts) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "refused attempts", collectionAttempts, indexID, tenant, attemptsOf(tenant))
}
