package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// Activity is the register of active days. It implements search.Activity and jobs.Purger.
type Activity struct{ db *DB }

// Activity returns the register.
func (db *DB) Activity() *Activity { return &Activity{db} }

const (
	fieldDay     = "day"
	fieldTouches = "touches"
	fieldChecks  = "checks"
	fieldDue     = "due_at" // absent for a day that has been checked
)

type dayDocument struct {
	Key     string    `bson:"_id"`
	Tenant  string    `bson:"tenant_id"`
	Day     time.Time `bson:"day"`
	Touches int64     `bson:"touches"`
	Checks  int       `bson:"checks"`
}

func keyOfDay(tenant audit.TenantID, day time.Time) string {
	return keyOf(tenant, day.UTC().Format(time.DateOnly))
}

// Touch implements search.Activity. It is one command for a day that is due, which is the
// usual case, and two for another.
func (a *Activity) Touch(ctx context.Context, tenant audit.TenantID, days []time.Time, due time.Time) error {
	err := a.db.ensureActivity(ctx)
	for i := 0; err == nil && i < len(days); i++ {
		err = retry(ctx, func() error { return a.touch(ctx, tenant, days[i], due) })
	}
	if err != nil {
		return fmt.Errorf("register active days of %s: %w", tenant, err)
	}
	return nil
}

func (a *Activity) touch(ctx context.Context, tenant audit.TenantID, day, due time.Time) error {
	key, once := keyOfDay(tenant, day), bson.E{Key: "$inc", Value: bson.D{{Key: fieldTouches, Value: 1}}}
	isDue := append(withKey(key), bson.E{Key: fieldChecks, Value: 0}, bson.E{Key: fieldDue, Value: bson.D{{Key: "$gt", Value: time.Unix(0, 0)}}})
	err := a.db.updateOne(ctx, collectionActivity, isDue, bson.D{once})
	if !errors.Is(err, audit.ErrNotFound) {
		return err
	}
	collection, err := a.db.collection(collectionActivity)
	if err != nil {
		return err
	}
	_, err = collection.UpdateOne(ctx, withKey(key), bson.D{once, {Key: "$set", Value: bson.D{
		{Key: fieldTenant, Value: string(tenant)}, {Key: fieldDay, Value: day}, {Key: fieldChecks, Value: 0}, {Key: fieldDue, Value: due},
	}}}, options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) { // another process has just made it
		return a.db.updateOne(ctx, collectionActivity, withKey(key), bson.D{once})
	}
	return failure(ctx, err)
}

// DueDays implements search.Activity.
func (a *Activity) DueDays(ctx context.Context, at time.Time, limit int) (due []search.ActiveDay, err error) {
	query := bson.D{{Key: fieldDue, Value: bson.D{{Key: "$lte", Value: at}}}}
	err = a.db.list(ctx, collectionActivity, indexActivityDue, ascending(fieldDue), limit, query, func(raw bson.Raw) (bool, error) {
		var doc dayDocument
		if err := bson.Unmarshal(raw, &doc); err != nil {
			return false, fmt.Errorf("the record %w", errStored)
		}
		due = append(due, search.ActiveDay{Tenant: audit.TenantID(doc.Tenant), Day: doc.Day.UTC(), Touches: doc.Touches, Checks: doc.Checks})
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list active days: %w", err)
	}
	return due, nil
}

// Check implements search.Activity.
func (a *Activity) Check(ctx context.Context, day search.ActiveDay, due time.Time) error {
	update := bson.D{{Key: "$set", Value: bson.D{{Key: fieldChecks, Value: day.Checks}, {Key: fieldDue, Value: due}}}}
	if due.IsZero() {
		update = bson.D{{Key: "$set", Value: bson.D{{Key: fieldChecks, Value: day.Checks}}}, {Key: "$unset", Value: bson.D{{Key: fieldDue, Value: ""}}}}
	}
	untouched := append(withKey(keyOfDay(day.Tenant, day.Day)), bson.E{Key: fieldTouches, Value: day.Touches})
	err := a.db.updateOne(ctx, collectionActivity, untouched, update)
	if err != nil && !errors.Is(err, audit.ErrNotFound) { // not found: it was touched meanwhile
		return fmt.Errorf("check %s of %s: %w", day.Day.Format(time.DateOnly), day.Tenant, err)
	}
	return nil
}

// Purge implements jobs.Purger.
func (a *Activity) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := a.db.purge(ctx, collectionActivity, indexQuarantineItem, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge active days of %s: %w", tenant, err)
	}
	return n, nil
}
