package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// StreamLog keeps the order of every tenant's stream. It implements stream.Log
// and jobs.Purger.
//
// A stream is one head document and a document for each segment. The number of a
// segment is part of its _id, so that only one of two concurrent workers can
// insert it. The other retries with the next number. A worker that dies between
// the insert of a segment and the update of the head leaves a head that is
// behind. The next call that needs the head finds the segment and updates the head.
type StreamLog struct{ db *DB }

// StreamLog returns the streams.
func (db *DB) StreamLog() *StreamLog { return &StreamLog{db} }

const (
	fieldNumber = "number"
	fieldOpened = "opened"
	fieldUntil  = "until"
)

// streamHead is the state of a tenant's stream as a whole.
type streamHead struct {
	Tenant string    `bson:"_id"`
	Number int64     `bson:"number"` // of the last segment
	Opened int64     `bson:"opened"` // Number when the stream was last opened
	Until  time.Time `bson:"until"`  // the end of the time for which the stream is open
}

// maxContention bounds the attempts of workers that change one stream at the same time.
const maxContention = 60

// retryContended calls try until it is done, at most maxContention times. It
// starts over if the database was unavailable.
func retryContended(ctx context.Context, try func() (done bool, err error)) error {
	delays := backoff.Policy{First: 2 * time.Millisecond, Max: 100 * time.Millisecond, Jitter: backoff.FullJitter}
	return retry(ctx, func() error {
		for attempt := 1; attempt <= maxContention; attempt++ {
			if done, err := try(); done || err != nil {
				return err
			}
			if err := backoff.Sleep(ctx, delays.Delay(attempt)); err != nil {
				return err
			}
		}
		return unavailable(fmt.Errorf("lost to other workers %d times", maxContention))
	})
}

// HasSubscribers implements stream.HasSubscribers.
func (l *StreamLog) HasSubscribers(ctx context.Context, tenant audit.TenantID) (bool, error) {
	h, err := l.readHead(ctx, tenant)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for subscribers of %s: %w", tenant, err)
	}
	return h.Until.After(l.db.now()), nil
}

// Head implements stream.Log. It returns 0 if the stream was never open.
func (l *StreamLog) Head(ctx context.Context, tenant audit.TenantID) (int64, error) {
	h, err := l.head(ctx, tenant)
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return 0, fmt.Errorf("head of the stream of %s: %w", tenant, err)
	}
	return h.Number, nil
}

// readHead returns the stored head. It returns audit.ErrNotFound if the stream
// was never open.
func (l *StreamLog) readHead(ctx context.Context, tenant audit.TenantID) (streamHead, error) {
	doc, err := l.db.read(ctx, collectionStreams, readpref.Primary(), string(tenant))
	if err != nil {
		return streamHead{}, err
	}
	return decodeHead(doc)
}

func decodeHead(doc bson.Raw) (h streamHead, err error) {
	if err := bson.Unmarshal(doc, &h); err != nil {
		return h, fmt.Errorf("the head %w", errStored)
	}
	return h, nil
}

// head returns the head, and first updates one that is behind.
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
	return h, l.raiseHead(ctx, tenant, last)
}

// raiseHead records in the head that the segment with this number exists.
func (l *StreamLog) raiseHead(ctx context.Context, tenant audit.TenantID, number int64) error {
	err := l.db.updateOne(ctx, collectionStreams, withKey(string(tenant)), raise(fieldNumber, number))
	if errors.Is(err, audit.ErrNotFound) { // a purge removed the head
		return nil
	}
	return err
}

// Open implements stream.Log.
func (l *StreamLog) Open(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, err error) {
	if err = l.db.ensureSegments(ctx); err == nil {
		err = retryContended(ctx, func() (done bool, err error) {
			number, done, err = l.open(ctx, tenant, until)
			return done, err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("open the stream of %s: %w", tenant, err)
	}
	return number, nil
}

// open is not done if another worker changed the head at the same time.
func (l *StreamLog) open(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, done bool, err error) {
	h, err := l.head(ctx, tenant)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return l.create(ctx, tenant, until)
	case err != nil:
		return 0, false, err
	case h.Until.After(l.db.now()):
		return l.extend(ctx, tenant, until)
	}
	return l.reopen(ctx, h, until)
}

// create opens a stream that has no head. A purge that is not done yet may have
// left segments.
func (l *StreamLog) create(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, done bool, err error) {
	last, err := l.lastSegment(ctx, tenant, 0)
	if err != nil {
		return 0, false, err
	}
	number = last + 1
	err = l.db.insertOne(ctx, collectionStreams, streamHead{Tenant: string(tenant), Number: number, Opened: number, Until: until})
	if errors.Is(err, audit.ErrConflict) {
		return 0, false, nil
	}
	return number, err == nil, err
}

// extend moves the end of a stream that is open. It returns the number from the
// same update, because the stream may have been closed and reopened before it.
func (l *StreamLog) extend(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, done bool, err error) {
	doc, err := l.db.findOneAndUpdate(ctx, collectionStreams, withKey(string(tenant)), raise(fieldUntil, until))
	if errors.Is(err, audit.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	h, err := decodeHead(doc)
	return h.Number, err == nil, err
}

// reopen opens a closed stream if its head did not change since it was read.
func (l *StreamLog) reopen(ctx context.Context, h streamHead, until time.Time) (number int64, done bool, err error) {
	number = h.Number + 1
	err = l.db.updateOne(ctx, collectionStreams,
		bson.D{{Key: fieldKey, Value: h.Tenant}, {Key: fieldNumber, Value: h.Number}, {Key: fieldUntil, Value: h.Until}},
		set(bson.E{Key: fieldNumber, Value: number}, bson.E{Key: fieldOpened, Value: number}, bson.E{Key: fieldUntil, Value: until}))
	if errors.Is(err, audit.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return number, true, nil
}

// Purge implements jobs.Purger. A segment counts as one record.
func (l *StreamLog) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := l.purge(ctx, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge the stream of %s: %w", tenant, err)
	}
	return n, nil
}

// maxPurgeSegments is the most segments that one call of Purge removes: each may
// have the ids of a thousand entries in its index.
const maxPurgeSegments = 50

// purge removes the head first, so that the stream is closed from then on.
func (l *StreamLog) purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if limit < 1 {
		return 0, nil
	}
	purged := 1
	err := l.db.deleteOne(ctx, collectionStreams, withKey(string(tenant)))
	if errors.Is(err, audit.ErrNotFound) {
		purged, err = 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := l.db.purge(ctx, collectionSegments, indexStreamID, tenant, min(limit-purged, maxPurgeSegments))
	return purged + n, err
}
