package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// StreamLog keeps the order of every tenant's stream. It implements stream.Log
// and jobs.Purger.
//
// A stream is one document, its head, and one for each segment. The number of a
// segment is part of its _id, so that two workers cannot give the same one: the
// slower begins again. Whoever died between the insert of a segment and the
// update of the head leaves a head that is behind; whatever is asked next of the
// stream finds the segment and updates the head.
type StreamLog struct{ db *DB }

// StreamLog returns the streams.
func (db *DB) StreamLog() *StreamLog { return &StreamLog{db} }

const (
	fieldNumber = "number"
	fieldOpened = "opened"
	fieldUntil  = "until"
	fieldIDs    = "ids"
)

// streamHead is what is known of a tenant's stream as a whole.
type streamHead struct {
	Tenant string    `bson:"_id"`
	Number int64     `bson:"number"` // of the last segment
	Opened int64     `bson:"opened"` // the number at which the present opening began
	Until  time.Time `bson:"until"`
}

type segmentDocument struct {
	Key       string        `bson:"_id"` // see segmentKey
	Tenant    string        `bson:"tenant_id"`
	Number    int64         `bson:"number"`
	IDs       []bson.Binary `bson:"ids"`
	ExpiresAt time.Time     `bson:"expires_at"`
}

// segmentKey returns the _id of a segment. Those of a tenant are in the order
// of their numbers, which are not negative.
func segmentKey(tenant audit.TenantID, number int64) string {
	return keyOf(tenant, fmt.Sprintf("%019d", number))
}

// maxTurns bounds the attempts of workers that append to one stream at the same time.
const maxTurns = 60

// takeTurns runs try until it is done, at most maxTurns times. It starts over if
// the database was unavailable.
func takeTurns(ctx context.Context, try func() (done bool, err error)) error {
	delays := backoff.Policy{First: 2 * time.Millisecond, Max: 100 * time.Millisecond, Jitter: backoff.FullJitter}
	return repeat(ctx, func() error {
		for turn := range maxTurns {
			if done, err := try(); done || err != nil {
				return err
			}
			if err := backoff.Sleep(ctx, delays.Delay(turn+1)); err != nil {
				return err
			}
		}
		return unavailable(fmt.Errorf("others were faster %d times", maxTurns))
	})
}

// HasSubscribers implements stream.HasSubscribers.
func (l *StreamLog) HasSubscribers(ctx context.Context, tenant audit.TenantID) (bool, error) {
	h, err := l.readHead(ctx, tenant)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look who listens to %s: %w", tenant, err)
	}
	return h.Until.After(l.db.now()), nil
}

// readHead returns the head as it is stored, audit.ErrNotFound where the stream
// was never open.
func (l *StreamLog) readHead(ctx context.Context, tenant audit.TenantID) (streamHead, error) {
	doc, err := l.db.read(ctx, collectionStreams, readpref.Primary(), string(tenant))
	if err != nil {
		return streamHead{}, err
	}
	var h streamHead
	if err := bson.Unmarshal(doc, &h); err != nil {
		return h, fmt.Errorf("the head %w", errStored)
	}
	return h, nil
}

// head is readHead where the head is not behind; else it is made up to date.
func (l *StreamLog) head(ctx context.Context, tenant audit.TenantID) (streamHead, error) {
	h, err := l.readHead(ctx, tenant)
	if err != nil {
		return h, err
	}
	last, err := l.lastSegment(ctx, tenant, h.Number)
	if err != nil || last == h.Number {
		return h, err
	}
	h.Number = last
	return h, l.raise(ctx, tenant, last)
}

// lastSegment returns the highest number of a segment after the given one,
// which it returns where there is none.
func (l *StreamLog) lastSegment(ctx context.Context, tenant audit.TenantID, after int64) (int64, error) {
	falling := bson.D{{Key: fieldKey, Value: -1}}
	err := l.db.list(ctx, collectionSegments, indexID, falling, 1, segmentsAfter(tenant, after), func(doc bson.Raw) (more bool, err error) {
		s, err := readSegment(doc)
		after = s.Number
		return true, err
	})
	return after, err
}

func segmentsAfter(tenant audit.TenantID, number int64) bson.D {
	return bson.D{{Key: fieldKey, Value: bson.D{
		{Key: "$gt", Value: segmentKey(tenant, number)}, {Key: "$lte", Value: segmentKey(tenant, math.MaxInt64)},
	}}}
}

func readSegment(raw bson.Raw) (segmentDocument, error) {
	var doc segmentDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("a segment %w", errStored)
	}
	return doc, nil
}

// raise has the head know of the segment with the number.
func (l *StreamLog) raise(ctx context.Context, tenant audit.TenantID, number int64) error {
	collection, err := l.db.collection(collectionStreams)
	if err != nil {
		return err
	}
	_, err = collection.UpdateOne(ctx, bson.D{{Key: fieldKey, Value: string(tenant)}},
		bson.D{{Key: "$max", Value: bson.D{{Key: fieldNumber, Value: number}}}})
	return failure(ctx, err)
}

// Head implements stream.Log; it is 0 where the stream was never open.
func (l *StreamLog) Head(ctx context.Context, tenant audit.TenantID) (int64, error) {
	h, err := l.head(ctx, tenant)
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return 0, fmt.Errorf("head of the stream of %s: %w", tenant, err)
	}
	return h.Number, nil
}

// Open implements stream.Log.
func (l *StreamLog) Open(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, err error) {
	if err = l.db.ensureSegments(ctx); err == nil {
		err = takeTurns(ctx, func() (done bool, err error) {
			number, done, err = l.open(ctx, tenant, until)
			return done, err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("open the stream of %s: %w", tenant, err)
	}
	return number, nil
}

// open is not done where another changed the head meanwhile.
func (l *StreamLog) open(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, done bool, err error) {
	h, err := l.head(ctx, tenant)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		// A purge that is not done yet may have left segments behind.
		number, err = l.lastSegment(ctx, tenant, 0)
		if err != nil {
			return 0, false, err
		}
		err = l.db.insertOne(ctx, collectionStreams, streamHead{Tenant: string(tenant), Number: number + 1, Opened: number + 1, Until: until})
		if errors.Is(err, audit.ErrConflict) {
			return 0, false, nil
		}
		return number + 1, err == nil, err
	case err != nil:
		return 0, false, err
	case h.Until.After(l.db.now()):
		return l.keepOpen(ctx, tenant, until)
	}
	return l.reopen(ctx, h, until)
}

// keepOpen has a stream that is open stay open. The number is that of the same
// moment, in case that it closed meanwhile and began anew.
func (l *StreamLog) keepOpen(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, done bool, err error) {
	collection, err := l.db.collection(collectionStreams)
	if err != nil {
		return 0, false, err
	}
	var h streamHead
	err = collection.FindOneAndUpdate(ctx,
		bson.D{{Key: fieldKey, Value: string(tenant)}},
		bson.D{{Key: "$max", Value: bson.D{{Key: fieldUntil, Value: until}}}},
		options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&h)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return 0, false, nil
	}
	return h.Number, err == nil, failure(ctx, err)
}

// reopen begins anew with a stream whose head is still as given.
func (l *StreamLog) reopen(ctx context.Context, h streamHead, until time.Time) (number int64, done bool, err error) {
	collection, err := l.db.collection(collectionStreams)
	if err != nil {
		return 0, false, err
	}
	number = h.Number + 1
	result, err := collection.UpdateOne(ctx,
		bson.D{{Key: fieldKey, Value: h.Tenant}, {Key: fieldNumber, Value: h.Number}, {Key: fieldUntil, Value: h.Until}},
		bson.D{{Key: "$set", Value: bson.D{{Key: fieldNumber, Value: number}, {Key: fieldOpened, Value: number}, {Key: fieldUntil, Value: until}}}})
	if err != nil {
		return 0, false, failure(ctx, err)
	}
	return number, result.MatchedCount == 1, nil
}

// Append implements stream.Log.
func (l *StreamLog) Append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	if len(ids) == 0 {
		return nil
	}
	err := l.db.ensureSegments(ctx)
	if err == nil {
		err = takeTurns(ctx, func() (done bool, err error) { return l.append(ctx, tenant, ids) })
	}
	if err != nil {
		return fmt.Errorf("append to the stream of %s: %w", tenant, err)
	}
	return nil
}

// append is not done where another was faster to append. Each id comes once
// because the last segment is looked for before the ids are: an id in a segment
// after it is in one whose number cannot be given again.
func (l *StreamLog) append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (done bool, err error) {
	now := l.db.now()
	h, err := l.head(ctx, tenant)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	case !h.Until.After(now):
		return true, nil
	}
	fresh, err := l.fresh(ctx, tenant, h.Opened, ids)
	if err != nil || len(fresh) == 0 {
		return err == nil, err
	}
	number := h.Number + 1
	err = l.db.insertOne(ctx, collectionSegments, segmentDocument{
		Key: segmentKey(tenant, number), Tenant: string(tenant), Number: number, IDs: fresh, ExpiresAt: now.Add(stream.Keep),
	})
	if errors.Is(err, audit.ErrConflict) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, l.raise(ctx, tenant, number)
}

// fresh returns those of the ids, each once, that no segment of the opening has.
func (l *StreamLog) fresh(ctx context.Context, tenant audit.TenantID, opened int64, ids []audit.EntryID) ([]bson.Binary, error) {
	all := make([]bson.Binary, len(ids))
	for i, id := range ids {
		all[i] = bson.Binary{Data: id[:]}
	}
	had := make(map[audit.EntryID]bool, len(ids))
	collection, err := l.db.collection(collectionSegments)
	if err != nil {
		return nil, err
	}
	cursor, err := collection.Find(ctx, bson.D{
		{Key: fieldTenant, Value: string(tenant)}, {Key: fieldIDs, Value: bson.D{{Key: "$in", Value: all}}},
		{Key: fieldNumber, Value: bson.D{{Key: "$gt", Value: opened}}},
	}, options.Find().SetHint(indexStreamID).SetProjection(bson.D{{Key: fieldIDs, Value: 1}}))
	if err != nil {
		return nil, failure(ctx, err)
	}
	err = each(ctx, cursor, func(doc bson.Raw) (bool, error) {
		s, err := readSegment(doc)
		if err != nil {
			return false, err
		}
		segment, err := s.ids()
		for _, id := range segment {
			had[id] = true
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	var fresh []bson.Binary
	for i, id := range ids {
		if !had[id] {
			had[id] = true
			fresh = append(fresh, all[i])
		}
	}
	return fresh, nil
}

func (s *segmentDocument) ids() ([]audit.EntryID, error) {
	ids := make([]audit.EntryID, len(s.IDs))
	for i, id := range s.IDs {
		if len(id.Data) != len(ids[i]) {
			return nil, fmt.Errorf("an id of a segment %w", errStored)
		}
		copy(ids[i][:], id.Data)
	}
	return ids, nil
}

// Read implements stream.Log. What a stream kept can be read after it closed.
func (l *StreamLog) Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]stream.Segment, error) {
	segments, err := l.read(ctx, tenant, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the stream of %s after %d: %w", tenant, after, err)
	}
	return segments, nil
}

func (l *StreamLog) read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]stream.Segment, error) {
	if after < 0 {
		return nil, stream.ErrExpired
	}
	for range 2 {
		segments, err := l.segments(ctx, tenant, after, limit)
		if err != nil {
			return nil, err
		}
		// The head is read after the segments: as it has the position in its
		// opening, they are of that as well.
		h, err := l.readHead(ctx, tenant)
		if errors.Is(err, audit.ErrNotFound) {
			return nil, stream.ErrExpired
		}
		if err != nil {
			return nil, err
		}
		if n := len(segments); n > 0 && segments[n-1].Number > h.Number {
			h.Number = segments[n-1].Number
			if err := l.raise(ctx, tenant, h.Number); err != nil {
				return nil, err
			}
		}
		switch {
		case after < h.Opened || after > h.Number:
			return nil, stream.ErrExpired
		case len(segments) > 0:
			return l.kept(segments, after, limit)
		case after == h.Number:
			return nil, nil
		}
		// What follows is gone, or was appended since it was looked for.
	}
	return nil, stream.ErrExpired
}

// segments returns up to limit segments, at least one, whether or not one is
// missing between them.
func (l *StreamLog) segments(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]segmentDocument, error) {
	var segments []segmentDocument
	query := segmentsAfter(tenant, after)
	err := l.db.list(ctx, collectionSegments, indexID, rising(fieldKey), max(limit, 1), query, func(doc bson.Raw) (more bool, err error) {
		s, err := readSegment(doc)
		segments = append(segments, s)
		return true, err
	})
	return segments, err
}

// kept returns the segments up to the first that is missing or expired.
func (l *StreamLog) kept(segments []segmentDocument, after int64, limit int) ([]stream.Segment, error) {
	var kept []stream.Segment
	for _, s := range segments {
		if s.Number != after+1+int64(len(kept)) || !s.ExpiresAt.After(l.db.now()) {
			break
		}
		ids, err := s.ids()
		if err != nil {
			return nil, err
		}
		kept = append(kept, stream.Segment{Number: s.Number, IDs: ids})
	}
	if len(kept) == 0 {
		return nil, stream.ErrExpired
	}
	return kept[:min(max(limit, 0), len(kept))], nil
}

// purgedSegments is how many segments one call of Purge removes at most: each
// may have the ids of a thousand entries in its index.
const purgedSegments = 50

// Purge implements jobs.Purger. A segment counts as one record.
func (l *StreamLog) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := l.purge(ctx, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge the stream of %s: %w", tenant, err)
	}
	return n, nil
}

// purge begins with the head: from then on the stream is not open.
func (l *StreamLog) purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if limit < 1 {
		return 0, nil
	}
	purged := 1
	err := l.db.deleteOne(ctx, collectionStreams, bson.D{{Key: fieldKey, Value: string(tenant)}})
	if errors.Is(err, audit.ErrNotFound) {
		purged, err = 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := l.db.purge(ctx, collectionSegments, indexStreamID, tenant, min(limit-purged, purgedSegments))
	return purged + n, err
}
