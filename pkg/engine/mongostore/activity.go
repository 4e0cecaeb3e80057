package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Activity is the register of active days. It implements activity.Register and jobs.CountedPurger.
type Activity struct{ db *DB }

// Activity returns the register.
func (db *DB) Activity() *Activity { return &Activity{db} }

const (
	fieldWork         = "work"
	fieldReceived     = "received" // the day of receipt, absent if the work does not tell these days apart
	fieldDay          = "day"      // of the timestamps, absent likewise
	fieldTouches      = "touches"
	fieldChecks       = "checks"
	fieldDue          = "due_at"        // absent for a day that is due only once it is touched
	fieldClaimedUntil = "claimed_until" // absent for a day that was not claimed since its last check
)

// dayDocument is a record. The zero time stands for an absent day.
type dayDocument struct {
	Key      string    `bson:"_id"`
	Work     string    `bson:"work"`
	Tenant   string    `bson:"tenant_id"`
	Received time.Time `bson:"received,omitempty"`
	Day      time.Time `bson:"day,omitempty"`
	Touches  int64     `bson:"touches"`
	Checks   int       `bson:"checks"`
	Claimed  time.Time `bson:"claimed_until,omitempty"`
}

func (d *dayDocument) record() activity.Day {
	return activity.Day{
		Work: activity.Work(d.Work), Tenant: audit.TenantID(d.Tenant), Receipt: activity.Receipt{Received: d.Received.UTC(), Day: d.Day.UTC()},
		Touches: d.Touches, Checks: d.Checks, Claimed: d.Claimed.UTC(),
	}
}

// keyOfDay returns the _id of a record, for example acme/places/2026-03-02/2026-03-01.
func keyOfDay(d *activity.Day) string {
	id := string(d.Work)
	for _, day := range []time.Time{d.Received, d.Day} {
		if !day.IsZero() {
			id += "/" + day.UTC().Format(time.DateOnly)
		}
	}
	return keyOf(d.Tenant, id)
}

// Touch implements activity.Register. It is one command, unless another process adds a record
// at the same time.
func (a *Activity) Touch(ctx context.Context, tenant audit.TenantID, receipts []activity.Receipt, due time.Time) error {
	err := a.db.ensureActivity(ctx)
	if err == nil {
		days := activity.Days(tenant, receipts)
		touches := make([]mongo.WriteModel, len(days))
		for i := range days {
			touches[i] = touchOf(&days[i], days[i].DueOnTouch(due))
		}
		err = retry(ctx, func() error { return a.touch(ctx, touches) })
	}
	if err != nil {
		return fmt.Errorf("register active days of %s: %w", tenant, err)
	}
	return nil
}

// TouchDays implements cleanup.Register. It is one command, as Touch is.
func (a *Activity) TouchDays(ctx context.Context, days []activity.Day, due time.Time) error {
	touches := make([]mongo.WriteModel, len(days))
	for i := range days {
		touches[i] = touchOf(&days[i], due)
	}
	if err := retry(ctx, func() error { return a.touch(ctx, touches) }); err != nil {
		return fmt.Errorf("touch %d days: %w", len(days), err)
	}
	return nil
}

// touch does what touchOf returned.
func (a *Activity) touch(ctx context.Context, touches []mongo.WriteModel) error {
	if len(touches) == 0 {
		return nil
	}
	for range 2 {
		faults, err := a.db.writeMany(ctx, collectionActivity, touches)
		if err != nil || len(faults) == 0 {
			return err
		}
		var again []mongo.WriteModel // another process added the record between the server's look and its insert
		for i, fault := range faults {
			if !mongo.IsDuplicateKeyError(fault) {
				return failure(ctx, fault)
			}
			again = append(again, touches[i])
		}
		touches = again
	}
	return unavailable(fmt.Errorf("%d records were added by others", len(touches)))
}

// touchOf returns the upsert of one record.
func touchOf(day *activity.Day, due time.Time) mongo.WriteModel {
	created := bson.D{{Key: fieldWork, Value: string(day.Work)}, {Key: fieldTenant, Value: string(day.Tenant)}}
	if !day.Received.IsZero() {
		created = append(created, bson.E{Key: fieldReceived, Value: day.Received})
	}
	if !day.Day.IsZero() {
		created = append(created, bson.E{Key: fieldDay, Value: day.Day})
	}
	model := mongo.NewUpdateOneModel().SetFilter(withKey(keyOfDay(day))).SetUpsert(true)
	if !day.Work.IsDueOnTouch() {
		created = append(created, bson.E{Key: fieldTouches, Value: 1}, bson.E{Key: fieldChecks, Value: 0}, bson.E{Key: fieldDue, Value: due})
		return model.SetUpdate(bson.D{{Key: "$setOnInsert", Value: created}})
	}
	return model.SetUpdate(append(bson.D{{Key: "$setOnInsert", Value: created}}, touched(due)...))
}

// touched returns the change of a record that is touched. $min also sets an absent time.
func touched(due time.Time) bson.D {
	return bson.D{
		{Key: "$inc", Value: bson.D{{Key: fieldTouches, Value: 1}}}, {Key: "$set", Value: bson.D{{Key: fieldChecks, Value: 0}}},
		{Key: "$min", Value: bson.D{{Key: fieldDue, Value: due}}},
	}
}

// TouchAll implements activity.Register.
func (a *Activity) TouchAll(ctx context.Context, work activity.Work, tenant audit.TenantID, due time.Time) error {
	var err error
	if work == activity.Archive {
		err = a.touchRetained(ctx, work, tenant, due)
	} else {
		err = retry(ctx, func() error {
			collection, err := a.db.collection(collectionActivity)
			if err != nil {
				return err
			}
			_, err = collection.UpdateMany(ctx, daysOf(work, tenant), touched(due))
			return failure(ctx, err)
		})
	}
	if err != nil {
		return fmt.Errorf("touch all days of %s: %w", tenant, err)
	}
	return nil
}

// daysOf selects the tenant's records of a kind of work. Their keys have a slash after it, and the
// character after the slash is 0.
func daysOf(work activity.Work, tenant audit.TenantID) bson.D {
	keys := bson.D{{Key: "$gte", Value: keyOf(tenant, string(work)+"/")}, {Key: "$lt", Value: keyOf(tenant, string(work)+"0")}}
	return append(ofTenant(tenant), bson.E{Key: fieldKey, Value: keys})
}

// touchRetained touches the records of the days that the tenant has for activity.Retain. It adds those
// that are missing.
func (a *Activity) touchRetained(ctx context.Context, work activity.Work, tenant audit.TenantID, due time.Time) error {
	var touches []mongo.WriteModel
	err := a.db.find(ctx, collectionActivity, daysOf(activity.Retain, tenant), options.Find().SetHint(indexID), func(raw bson.Raw) (bool, error) {
		var doc dayDocument
		if err := bson.Unmarshal(raw, &doc); err != nil {
			return false, fmt.Errorf("the record %w", errStored)
		}
		day := doc.record()
		touches = append(touches, touchOf(&activity.Day{Work: work, Tenant: tenant, Receipt: day.Receipt}, due))
		return true, nil
	})
	if err != nil {
		return err
	}
	return retry(ctx, func() error { return a.touch(ctx, touches) })
}

// DueDays implements activity.Register.
func (a *Activity) DueDays(ctx context.Context, work activity.Work, at time.Time, limit int) (due []activity.Day, err error) {
	query := bson.D{{Key: fieldWork, Value: string(work)}, {Key: fieldDue, Value: bson.D{{Key: "$lte", Value: at}}}}
	err = a.db.list(ctx, collectionActivity, indexActivityDue, ascending(fieldWork, fieldDue), limit, query, func(raw bson.Raw) (bool, error) {
		var doc dayDocument
		if err := bson.Unmarshal(raw, &doc); err != nil {
			return false, fmt.Errorf("the record %w", errStored)
		}
		due = append(due, doc.record())
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list active days: %w", err)
	}
	return due, nil
}

// Claim implements activity.Register. It is one command for many days.
func (a *Activity) Claim(ctx context.Context, days []activity.Day, until time.Time) error {
	if len(days) == 0 {
		return nil
	}
	claims := make([]mongo.WriteModel, len(days))
	for i := range days {
		earlier := append(withKey(keyOfDay(&days[i])), bson.E{Key: fieldDue, Value: bson.D{{Key: "$lt", Value: until}}}, lastClaim(&days[i]))
		claim := bson.D{{Key: "$set", Value: bson.D{{Key: fieldDue, Value: until}, {Key: fieldClaimedUntil, Value: until}}}}
		claims[i] = mongo.NewUpdateOneModel().SetFilter(earlier).SetUpdate(claim)
	}
	err := retry(ctx, func() error {
		faults, err := a.db.writeMany(ctx, collectionActivity, claims)
		for _, fault := range faults {
			err = failure(ctx, fault)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("claim %d days: %w", len(days), err)
	}
	return nil
}

// lastClaim is the condition that the last claim of a day is the one that it has.
func lastClaim(day *activity.Day) bson.E {
	if day.Claimed.IsZero() {
		return bson.E{Key: fieldClaimedUntil, Value: nil} // absent too
	}
	return bson.E{Key: fieldClaimedUntil, Value: day.Claimed}
}

// DueAt implements activity.Register.
func (a *Activity) DueAt(ctx context.Context, day activity.Day) (due, claimed time.Time, err error) {
	raw, err := a.db.read(ctx, collectionActivity, readpref.Primary(), keyOfDay(&day))
	if errors.Is(err, audit.ErrNotFound) {
		return due, claimed, nil
	}
	if err != nil {
		return due, claimed, fmt.Errorf("due time of %s: %w", keyOfDay(&day), err)
	}
	due, _ = raw.Lookup(fieldDue).TimeOK() // absent: zero
	claimed, _ = raw.Lookup(fieldClaimedUntil).TimeOK()
	return due.UTC(), claimed.UTC(), nil
}

// Check implements activity.Register.
func (a *Activity) Check(ctx context.Context, day activity.Day, due time.Time) error {
	set, unset := bson.D{{Key: fieldChecks, Value: day.Checks}}, bson.D{{Key: fieldClaimedUntil, Value: ""}}
	if due.IsZero() {
		unset = append(unset, bson.E{Key: fieldDue, Value: ""})
	} else {
		set = append(set, bson.E{Key: fieldDue, Value: due})
	}
	untouched := append(withKey(keyOfDay(&day)), bson.E{Key: fieldTouches, Value: day.Touches}, lastClaim(&day))
	err := a.db.updateOne(ctx, collectionActivity, untouched, bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: unset}})
	if err != nil && !errors.Is(err, audit.ErrNotFound) { // not found: it was touched or claimed meanwhile
		return fmt.Errorf("check %s: %w", keyOfDay(&day), err)
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

// CountRecords implements jobs.Counter.
func (a *Activity) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return a.db.countRecords(ctx, "active days", collectionActivity, indexQuarantineItem, tenant)
}
