package mongostore

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// Arrivals stores the arrival log of each tenant. It implements arrival.Log and jobs.CountedPurger.
//
// A log has one document for each segment. The first place of a segment is part of its _id,
// and it follows from the segment before, which a majority has. Only one of two concurrent
// workers can therefore insert the next segment. A unique index has the ids of the messages.
// Reads go to the primary and return what a majority has.
type Arrivals struct{ db *DB }

// Arrivals returns the arrival logs.
func (db *DB) Arrivals() *Arrivals { return &Arrivals{db} }

const (
	fieldCount      = "count"
	fieldIDs        = "ids"
	fieldMessages   = "messages"
	fieldWrittenAt  = "written_at"
	fieldDays       = "days"
	fieldDayCounts  = "day_counts"
	fieldRepair     = "repair"
	fieldRepairedAt = "repaired_at"
)

// arrivalKey is the _id of a segment: the hash of the tenant's id as in entryKey, and the first
// place. The order of a tenant's keys is the order of its places.
type arrivalKey [tenantHashBytes + 8]byte

func keyOfArrival(tenant audit.TenantID, first int64) (key arrivalKey) {
	entry := keyOfEntry(tenant, audit.EntryID{})
	copy(key[:], entry[:tenantHashBytes])
	binary.BigEndian.PutUint64(key[tenantHashBytes:], uint64(first))
	return key
}

func (k arrivalKey) binary() bson.Binary {
	return bson.Binary{Subtype: bson.TypeBinaryGeneric, Data: k[:]}
}

// arrivalDocument is a stored segment.
type arrivalDocument struct {
	Key       bson.Binary   `bson:"_id"` // an arrivalKey
	Tenant    string        `bson:"tenant_id"`
	Count     int32         `bson:"count"` // of the ids
	IDs       bson.Binary   `bson:"ids"`   // one after the other
	Messages  []bson.Binary `bson:"messages"`
	WrittenAt time.Time     `bson:"written_at"`
	// Days are the days of the timestamps, since 1970, and DayCounts how many ids have each.
	Days       []int32   `bson:"days"`
	DayCounts  []int32   `bson:"day_counts"`
	Repair     bool      `bson:"repair,omitempty"`
	RepairedAt time.Time `bson:"repaired_at,omitempty"`
}

func (d *arrivalDocument) first() int64 {
	return int64(binary.BigEndian.Uint64(d.Key.Data[tenantHashBytes:]))
}

func (d *arrivalDocument) last() int64 { return d.first() + int64(d.Count) - 1 }

func readArrival(raw bson.Raw) (arrivalDocument, error) {
	var doc arrivalDocument
	if err := bson.Unmarshal(raw, &doc); err != nil || len(doc.Key.Data) != len(arrivalKey{}) {
		return doc, fmt.Errorf("a segment of the arrival log %w", errStored)
	}
	return doc, nil
}

func (d *arrivalDocument) segment() (arrival.Segment, error) {
	ids, err := envelope.UnpackIDs(d.IDs.Data)
	if err != nil || len(ids) != int(d.Count) {
		return arrival.Segment{}, fmt.Errorf("segment %d of the arrival log %w", d.first(), errStored)
	}
	return arrival.Segment{First: d.first(), IDs: ids, WrittenAt: d.WrittenAt.UTC(), Repair: d.Repair, RepairedAt: d.RepairedAt.UTC()}, nil
}

// arrivalsIn returns the query for the tenant's segments that begin from first to last.
func arrivalsIn(tenant audit.TenantID, first, last int64) bson.D {
	return append(ofTenant(tenant), arrivalRange(tenant, first, last))
}

func arrivalRange(tenant audit.TenantID, first, last int64) bson.E {
	return bson.E{Key: fieldKey, Value: bson.D{
		{Key: "$gte", Value: keyOfArrival(tenant, first).binary()}, {Key: "$lte", Value: keyOfArrival(tenant, last).binary()},
	}}
}

// find visits up to limit segments in the order of their places, or the latest first. Without
// fields, the documents are complete.
func (a *Arrivals) find(ctx context.Context, query bson.D, order, limit int, fields []string, visit func(d arrivalDocument) error) error {
	o := options.Find().SetSort(bson.D{{Key: fieldKey, Value: order}}).SetHint(indexID).SetLimit(int64(limit))
	if len(fields) > 0 {
		o.SetProjection(ascending(fields...))
	}
	return a.db.find(ctx, collectionArrivals, query, o, func(raw bson.Raw) (bool, error) {
		doc, err := readArrival(raw)
		if err == nil {
			err = visit(doc)
		}
		return true, err
	})
}

// Head implements arrival.Log.
func (a *Arrivals) Head(ctx context.Context, tenant audit.TenantID) (head arrival.Head, err error) {
	err = retry(ctx, func() error {
		return a.find(ctx, arrivalsIn(tenant, 0, math.MaxInt64), -1, 1, []string{fieldKey, fieldCount, fieldRepairedAt}, func(d arrivalDocument) error {
			head = arrival.Head{Last: d.last(), RepairedAt: d.RepairedAt.UTC()}
			return nil
		})
	})
	if err != nil {
		return arrival.Head{}, fmt.Errorf("head of the arrival log of %s: %w", tenant, err)
	}
	return head, nil
}

// Append implements arrival.Log. It returns audit.ErrConflict too if a retry finds what its
// first try stored.
func (a *Arrivals) Append(ctx context.Context, tenant audit.TenantID, s arrival.Segment) error {
	doc := arrivalDocument{
		Key: keyOfArrival(tenant, s.First).binary(), Tenant: string(tenant), Count: int32(len(s.IDs)),
		IDs: bson.Binary{Data: envelope.PackIDs(s.IDs)}, Messages: messageBinaries(s.Messages), WrittenAt: s.WrittenAt,
		Repair: s.Repair, RepairedAt: s.RepairedAt,
	}
	for _, d := range s.Days() {
		doc.Days, doc.DayCounts = append(doc.Days, int32(d.Day)), append(doc.DayCounts, int32(d.Count))
	}
	err := a.db.ensureArrivals(ctx)
	if err == nil {
		err = retry(ctx, func() error { return a.db.insertOne(ctx, collectionArrivals, doc) })
	}
	if err != nil {
		return fmt.Errorf("append to the arrival log of %s: %w", tenant, err)
	}
	return nil
}

func messageBinaries(ids []audit.MessageID) []bson.Binary {
	values := make([]bson.Binary, len(ids))
	for i, id := range ids {
		values[i] = bson.Binary{Data: slices.Clone(id[:])}
	}
	return values
}

// Placed implements arrival.Log.
func (a *Arrivals) Placed(ctx context.Context, tenant audit.TenantID, messages []audit.MessageID) ([]audit.MessageID, error) {
	query := append(ofTenant(tenant), bson.E{Key: fieldMessages, Value: bson.D{{Key: "$in", Value: messageBinaries(messages)}}})
	o := options.Find().SetHint(indexArrivalMessages).SetProjection(ascending(fieldKey, fieldMessages))
	var placed []audit.MessageID
	err := a.db.find(ctx, collectionArrivals, query, o, func(raw bson.Raw) (bool, error) {
		doc, err := readArrival(raw)
		for _, m := range doc.Messages {
			if len(m.Data) != len(audit.MessageID{}) {
				return false, fmt.Errorf("a message of the arrival log %w", errStored)
			}
			if id := audit.MessageID(m.Data); slices.Contains(messages, id) {
				placed = append(placed, id)
			}
		}
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for messages in the arrival log of %s: %w", tenant, err)
	}
	return placed, nil
}

// Read implements arrival.Log. At the end of the log it is one command, and else two.
func (a *Arrivals) Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]arrival.Segment, error) {
	segments, err := a.read(ctx, tenant, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the arrival log of %s after %d: %w", tenant, after, err)
	}
	return segments, nil
}

func (a *Arrivals) read(ctx context.Context, tenant audit.TenantID, after int64, limit int) (segments []arrival.Segment, err error) {
	atEnd := false
	add := func(d arrivalDocument) error {
		if d.last() <= after {
			atEnd = true // a segment that begins next to after would have been found
			return nil
		}
		s, err := d.segment()
		segments = append(segments, s)
		return err
	}
	if after > 0 { // the segment that has the next place
		if err := a.find(ctx, arrivalsIn(tenant, 0, after+1), -1, 1, nil, add); err != nil || atEnd {
			return nil, err
		}
	}
	if limit > len(segments) {
		next := after + 1
		if len(segments) > 0 {
			next = segments[0].Last() + 1
		}
		err = a.find(ctx, arrivalsIn(tenant, next, math.MaxInt64), 1, limit-len(segments), nil, add)
	}
	return segments, err
}

// onDays visits the segments that have an id of one of the days, in any order.
func (a *Arrivals) onDays(ctx context.Context, tenant audit.TenantID, days any, conditions bson.D, fields []string, visit func(d *arrivalDocument) error) error {
	query := append(append(ofTenant(tenant), bson.E{Key: fieldDays, Value: days}), conditions...)
	o := options.Find().SetHint(indexArrivalDays).SetProjection(ascending(fields...))
	return a.db.find(ctx, collectionArrivals, query, o, func(raw bson.Raw) (bool, error) {
		doc, err := readArrival(raw)
		if err == nil {
			err = visit(&doc)
		}
		return true, err
	})
}

// PlacesOn implements arrival.Log.
func (a *Arrivals) PlacesOn(ctx context.Context, tenant audit.TenantID, day time.Time) (n int64, err error) {
	number := int32(arrival.DayNumber(day))
	err = a.onDays(ctx, tenant, number, nil, []string{fieldKey, fieldDays, fieldDayCounts}, func(d *arrivalDocument) error {
		i := slices.Index(d.Days, number)
		if i < 0 || i >= len(d.DayCounts) {
			return fmt.Errorf("segment %d of the arrival log %w", d.first(), errStored)
		}
		n += int64(d.DayCounts[i])
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count the places of %s: %w", tenant, err)
	}
	return n, nil
}

// VisitDay implements arrival.Log.
func (a *Arrivals) VisitDay(ctx context.Context, tenant audit.TenantID, day time.Time, visit func(ids []audit.EntryID)) error {
	err := a.onDays(ctx, tenant, int32(arrival.DayNumber(day)), nil, []string{fieldKey, fieldCount, fieldIDs}, func(d *arrivalDocument) error {
		s, err := d.segment()
		if err == nil {
			visit(s.IDs)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the places of %s on %s: %w", tenant, day.Format(time.DateOnly), err)
	}
	return nil
}

// Repaired implements arrival.Log. It is one command.
func (a *Arrivals) Repaired(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (repaired []audit.EntryID, err error) {
	asked := make(map[audit.EntryID]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	var days []int32
	for _, d := range (&arrival.Segment{IDs: ids}).Days() {
		days = append(days, int32(d.Day))
	}
	ofReconciler := bson.D{{Key: fieldRepair, Value: true}}
	err = a.onDays(ctx, tenant, bson.D{{Key: "$in", Value: days}}, ofReconciler, []string{fieldKey, fieldCount, fieldIDs}, func(d *arrivalDocument) error {
		s, err := d.segment()
		for _, id := range s.IDs {
			if asked[id] {
				repaired = append(repaired, id)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for places of the reconciler of %s: %w", tenant, err)
	}
	return repaired, nil
}

// Prune implements arrival.Log.
func (a *Arrivals) Prune(ctx context.Context, tenant audit.TenantID, before time.Time, limit int) (int, error) {
	n, err := a.prune(ctx, tenant, before, limit)
	if err != nil {
		return 0, fmt.Errorf("prune the arrival log of %s: %w", tenant, err)
	}
	return n, nil
}

func (a *Arrivals) prune(ctx context.Context, tenant audit.TenantID, before time.Time, limit int) (int, error) {
	var oldest []arrivalDocument
	fields := []string{fieldKey, fieldWrittenAt}
	err := a.find(ctx, arrivalsIn(tenant, 0, math.MaxInt64), 1, limit+1, fields, func(d arrivalDocument) error {
		oldest = append(oldest, d)
		return nil
	})
	if err != nil {
		return 0, err
	}
	keys := bson.A{}
	for i := 0; i < len(oldest)-1 && oldest[i].WrittenAt.Before(before); i++ { // not the last one
		keys = append(keys, oldest[i].Key)
	}
	if len(keys) == 0 {
		return 0, nil
	}
	collection, err := a.db.collection(collectionArrivals)
	if err != nil {
		return 0, err
	}
	_, err = collection.DeleteMany(ctx, append(ofTenant(tenant), bson.E{Key: fieldKey, Value: bson.D{{Key: "$in", Value: keys}}}))
	return len(keys), failure(ctx, err)
}

// Purge implements jobs.Purger.
func (a *Arrivals) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := a.db.purge(ctx, collectionArrivals, indexID, tenant, limit, arrivalRange(tenant, 0, math.MaxInt64))
	if err != nil {
		return 0, fmt.Errorf("purge the arrival log of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (a *Arrivals) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return a.db.countRecords(ctx, "arrival log", collectionArrivals, indexID, tenant, arrivalRange(tenant, 0, math.MaxInt64))
}

// arrivalIndexes returns the index of the messages, which is unique among the segments of a
// tenant, and that of the days.
func arrivalIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{
		{Keys: ascending(fieldTenant, fieldMessages), Options: options.Index().SetName(indexArrivalMessages).SetUnique(true)},
		{Keys: ascending(fieldTenant, fieldDays, fieldRepair), Options: options.Index().SetName(indexArrivalDays)},
	}
}

func (db *DB) ensureArrivals(ctx context.Context) error {
	return db.ensure(ctx, collectionArrivals, func(view mongo.IndexView) error { return create(ctx, view, arrivalIndexes()) })
}
