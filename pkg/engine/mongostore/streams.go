package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// Streams stores the live stream of each tenant that has subscribers: one document, whose _id
// is the tenant's id. It implements stream.Streams and jobs.CountedPurger. All times are stored by the
// server's clock. MongoDB removes a stream about a minute after its end.
type Streams struct{ db *DB }

// Streams returns the streams.
func (db *DB) Streams() *Streams { return &Streams{db} }

// The fields that only a stream has. Its end is expires_at.
const (
	fieldChanges     = "changes"
	fieldHolder      = "holder"
	fieldLeasedUntil = "leased_until"
	fieldWatched     = "watched_until"
	fieldProgress    = "progress"
	fieldRest        = "rest"
)

type streamDocument struct {
	Tenant    string             `bson:"_id"`
	ExpiresAt time.Time          `bson:"expires_at"`
	Changes   int64              `bson:"changes"`
	Leased    time.Time          `bson:"leased_until"`
	Watched   time.Time          `bson:"watched_until"`
	Progress  []progressDocument `bson:"progress"`
	Rest      restDocument       `bson:"rest"`
}

type progressDocument struct {
	Subscription string    `bson:"subscription"`
	Place        int64     `bson:"place"`
	Announced    bool      `bson:"announced"`
	Tries        int64     `bson:"tries"`
	RetryAt      time.Time `bson:"retry_at,omitempty"`
}

type restDocument struct {
	Changes int64 `bson:"changes"`
	Place   int64 `bson:"place"`
}

func newProgressDocuments(progress map[string]stream.Progress, skew time.Duration) []progressDocument {
	docs := make([]progressDocument, 0, len(progress))
	for id, p := range progress {
		docs = append(docs, progressDocument{Subscription: id, Place: p.Place, Announced: p.Announced, Tries: int64(p.Tries), RetryAt: shift(p.RetryAt, skew)})
	}
	return docs
}

// readStream reads a stream at a time of the server's clock.
func readStream(raw bson.Raw, now time.Time, skew time.Duration) (stream.State, error) {
	own := func(t time.Time) time.Time { return shift(stream.Plausible(t.UTC(), now), -skew) }
	var doc streamDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return stream.State{}, fmt.Errorf("a stream %w", errStored)
	}
	state := stream.State{
		Changes: doc.Changes, LeasedUntil: own(doc.Leased), WatchedUntil: own(doc.Watched),
		Progress: make(map[string]stream.Progress, len(doc.Progress)), Rest: stream.Rest{Changes: doc.Rest.Changes, Place: doc.Rest.Place},
	}
	for _, p := range doc.Progress {
		state.Progress[p.Subscription] = stream.Progress{Place: p.Place, Announced: p.Announced, Tries: int(p.Tries), RetryAt: own(p.RetryAt)}
	}
	return state, nil
}

// free is the condition that a stream has no holder at a time of the server's clock.
func free(now time.Time) bson.E {
	return bson.E{Key: fieldLeasedUntil, Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gt", Value: now}, {Key: "$lte", Value: now.Add(stream.MaxAhead)}}}}}
}

// openStream matches a tenant's stream if it is open at a time of the server's clock.
func openStream(tenant audit.TenantID, now time.Time) bson.D {
	return append(withKey(string(tenant)), bson.E{Key: fieldExpiresAt, Value: bson.D{{Key: "$gt", Value: now}}})
}

// leasedStream matches a tenant's stream if the holder has its lease.
func leasedStream(tenant audit.TenantID, holder string) bson.D {
	return append(withKey(string(tenant)), bson.E{Key: fieldHolder, Value: holder})
}

// Open implements stream.Streams. A document that has expired is replaced: MongoDB has not
// removed it yet.
func (s *Streams) Open(ctx context.Context, tenant audit.TenantID, until time.Time) error {
	err := s.db.ensureStreams(ctx)
	if err == nil {
		err = retryContended(ctx, func() (done bool, err error) { return s.open(ctx, tenant, until) })
	}
	if err != nil {
		return fmt.Errorf("open the stream of %s: %w", tenant, err)
	}
	return nil
}

// open is not done if another process opened or removed the stream at the same time.
func (s *Streams) open(ctx context.Context, tenant audit.TenantID, until time.Time) (done bool, err error) {
	now, skew, err := s.db.serverNow(ctx)
	if err != nil {
		return false, err
	}
	until = until.Add(skew)
	change := bson.D{
		{Key: "$max", Value: bson.D{{Key: fieldExpiresAt, Value: until}}}, {Key: "$inc", Value: bson.D{{Key: fieldChanges, Value: int64(1)}}},
	}
	err = s.db.updateOne(ctx, collectionStreams, openStream(tenant, now), change)
	if !errors.Is(err, audit.ErrNotFound) {
		return err == nil, err
	}
	expired := append(withKey(string(tenant)), bson.E{Key: fieldExpiresAt, Value: bson.D{{Key: "$lte", Value: now}}})
	if err := s.db.deleteOne(ctx, collectionStreams, expired); err != nil && !errors.Is(err, audit.ErrNotFound) {
		return false, err
	}
	err = s.db.insertOne(ctx, collectionStreams, streamDocument{Tenant: string(tenant), ExpiresAt: until, Changes: 1, Progress: []progressDocument{}})
	if errors.Is(err, audit.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// Stream implements stream.Streams.
func (s *Streams) Stream(ctx context.Context, tenant audit.TenantID) (state stream.State, err error) {
	now, skew, err := s.db.serverNow(ctx)
	if err == nil {
		state, err = s.read(ctx, tenant, now, skew)
	}
	if err != nil {
		return stream.State{}, fmt.Errorf("stream of %s: %w", tenant, err)
	}
	return state, nil
}

// read returns the stream. It returns audit.ErrNotFound if it is not open at a time of the server's
// clock.
func (s *Streams) read(ctx context.Context, tenant audit.TenantID, now time.Time, skew time.Duration) (stream.State, error) {
	doc, err := s.db.findOne(ctx, collectionStreams, indexID, openStream(tenant, now))
	if err != nil {
		return stream.State{}, err
	}
	return readStream(doc, now, skew)
}

// Acquire implements stream.Streams.
func (s *Streams) Acquire(ctx context.Context, tenant audit.TenantID, holder string, leased, watched time.Time) (state stream.State, acquired bool, err error) {
	err = retry(ctx, func() error {
		state, acquired, err = s.acquire(ctx, tenant, holder, leased, watched)
		return err
	})
	if err != nil {
		return stream.State{}, false, fmt.Errorf("acquire the stream of %s: %w", tenant, err)
	}
	return state, acquired, nil
}

func (s *Streams) acquire(ctx context.Context, tenant audit.TenantID, holder string, leased, watched time.Time) (stream.State, bool, error) {
	now, skew, err := s.db.serverNow(ctx)
	if err != nil {
		return stream.State{}, false, err
	}
	available := bson.E{Key: "$or", Value: bson.A{bson.D{free(now)}, bson.D{{Key: fieldHolder, Value: holder}}}}
	doc, err := s.db.findOneAndUpdate(ctx, collectionStreams, append(openStream(tenant, now), available), set(append(
		leaseFields(leased, watched, skew), bson.E{Key: fieldHolder, Value: holder})...))
	if errors.Is(err, audit.ErrNotFound) { // is it taken, or not open?
		state, err := s.read(ctx, tenant, now, skew)
		return state, false, err
	}
	if err != nil {
		return stream.State{}, false, err
	}
	state, err := readStream(doc, now, skew)
	return state, err == nil, err
}

// leaseFields are the fields of a lease.
func leaseFields(leased, watched time.Time, skew time.Duration) []bson.E {
	return []bson.E{{Key: fieldLeasedUntil, Value: leased.Add(skew)}, {Key: fieldWatched, Value: watched.Add(skew)}}
}

// Save implements stream.Streams. An expired lease still belongs to the holder until another
// acquires it.
func (s *Streams) Save(ctx context.Context, tenant audit.TenantID, holder string, progress map[string]stream.Progress, leased, watched time.Time) error {
	err := retry(ctx, func() error {
		skew, err := s.db.skew(ctx)
		if err != nil {
			return err
		}
		return s.db.updateOne(ctx, collectionStreams, leasedStream(tenant, holder), set(append(
			leaseFields(leased, watched, skew), bson.E{Key: fieldProgress, Value: newProgressDocuments(progress, skew)})...))
	})
	if errors.Is(err, audit.ErrNotFound) {
		err = audit.ErrPrecondition
	}
	if err != nil {
		return fmt.Errorf("save the progress of the stream of %s: %w", tenant, err)
	}
	return nil
}

// Release implements stream.Streams.
func (s *Streams) Release(ctx context.Context, tenant audit.TenantID, holder string, rest stream.Rest) error {
	err := retry(ctx, func() error {
		return s.db.updateOne(ctx, collectionStreams, leasedStream(tenant, holder), set(
			bson.E{Key: fieldHolder, Value: ""}, bson.E{Key: fieldLeasedUntil, Value: time.Time{}},
			bson.E{Key: fieldRest, Value: restDocument{Changes: rest.Changes, Place: rest.Place}}))
	})
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("release the stream of %s: %w", tenant, err)
	}
	return nil
}

// Close implements stream.Streams.
func (s *Streams) Close(ctx context.Context, tenant audit.TenantID, holder string, changes int64) error {
	unchanged := append(leasedStream(tenant, holder), bson.E{Key: fieldChanges, Value: changes})
	err := retry(ctx, func() error { return s.db.deleteOne(ctx, collectionStreams, unchanged) })
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("close the stream of %s: %w", tenant, err)
	}
	return nil
}

// Idle implements stream.Streams. It is one command, and one more when the clocks must be compared.
func (s *Streams) Idle(ctx context.Context, tenants []audit.TenantID) (idle []audit.TenantID, err error) {
	keys := make([]string, len(tenants))
	for i, tenant := range tenants {
		keys[i] = string(tenant)
	}
	now, _, err := s.db.serverNow(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for idle streams: %w", err)
	}
	query := bson.D{
		{Key: fieldKey, Value: in(keys)}, {Key: fieldExpiresAt, Value: bson.D{{Key: "$gt", Value: now}}}, free(now),
	}
	o := options.Find().SetHint(indexID).SetProjection(ascending(fieldKey))
	err = s.db.find(ctx, collectionStreams, query, o, func(doc bson.Raw) (bool, error) {
		id, ok := doc.Lookup(fieldKey).StringValueOK()
		if !ok {
			return false, fmt.Errorf("the _id of a stream %w", errStored)
		}
		idle = append(idle, audit.TenantID(id))
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for idle streams: %w", err)
	}
	return idle, nil
}

// Purge implements jobs.Purger.
func (s *Streams) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purgeOne(ctx, collectionStreams, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge the stream of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Streams) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countWhere(ctx, "stream", collectionStreams, indexID, tenant, withKey(string(tenant)))
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
