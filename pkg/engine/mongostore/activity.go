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

// Touch implements search.Activity. It is one command if all days are due, which is the usual
// case, and two or three otherwise.
func (a *Activity) Touch(ctx context.Context, tenant audit.TenantID, days []time.Time, due time.Time) error {
	err := a.db.ensureActivity(ctx)
	if err == nil {
		err = retry(ctx, func() error { return a.touch(ctx, tenant, days, due) })
	}
	if err != nil {
		return fmt.Errorf("register active days of %s: %w", tenant, err)
	}
	return nil
}

// touch first touches the days that are due. The others become due by an upsert, whose filter
// leaves out days that are due: for these the server tries an insert, which conflicts.
func (a *Activity) touch(ctx context.Context, tenant audit.TenantID, days []time.Time, due time.Time) error {
	collection, err := a.db.collection(collectionActivity)
	if err != nil {
		return err
	}
	once := bson.E{Key: "$inc", Value: bson.D{{Key: fieldTouches, Value: 1}}}
	isDue := bson.D{{Key: fieldChecks, Value: 0}, {Key: fieldDue, Value: bson.D{{Key: "$gt", Value: time.Unix(0, 0)}}}}
	touches, upserts := make([]mongo.WriteModel, len(days)), make([]mongo.WriteModel, len(days))
	for i, day := range days {
		key := withKey(keyOfDay(tenant, day))
		touches[i] = mongo.NewUpdateOneModel().SetFilter(append(slices.Clone(key), isDue...)).SetUpdate(bson.D{once})
		upserts[i] = mongo.NewUpdateOneModel().SetFilter(append(key, bson.E{Key: "$nor", Value: bson.A{isDue}})).SetUpsert(true).
			SetUpdate(bson.D{once, {Key: "$set", Value: bson.D{
				{Key: fieldTenant, Value: string(tenant)}, {Key: fieldDay, Value: day}, {Key: fieldChecks, Value: 0}, {Key: fieldDue, Value: due},
			}}})
	}
	unordered := options.BulkWrite().SetOrdered(false)
	result, err := collection.BulkWrite(ctx, touches, unordered)
	if err != nil || result.MatchedCount == int64(len(days)) {
		return failure(ctx, err)
	}
	_, err = collection.BulkWrite(ctx, upserts, unordered)
	faults, err := itemFaults(ctx, err)
	if err != nil || len(faults) == 0 {
		return err
	}
	var again []mongo.WriteModel // due since the first command, or touched by it already: once more does no harm
	for i, fault := range faults {
		if !mongo.IsDuplicateKeyError(fault) {
			return failure(ctx, fault)
		}
		again = append(again, touches[i])
	}
	_, err = collection.BulkWrite(ctx, again, unordered)
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

// DueAt implements search.Activity.
func (a *Activity) DueAt(ctx context.Context, tenant audit.TenantID, day time.Time) (time.Time, error) {
	raw, err := a.db.read(ctx, collectionActivity, readpref.Primary(), keyOfDay(tenant, day))
	if errors.Is(err, audit.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("due time of %s of %s: %w", day.Format(time.DateOnly), tenant, err)
	}
	due, _ := raw.Lookup(fieldDue).TimeOK() // absent: zero
	if due.IsZero() {
		return time.Time{}, nil
	}
	return due.UTC(), nil
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
