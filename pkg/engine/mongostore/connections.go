package mongostore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// Connections keeps the clients' connections. It implements stream.Connections
// and jobs.Purger. MongoDB removes a connection about a minute after its ExpiresAt.
type Connections struct{ db *DB }

// Connections returns the connections.
func (db *DB) Connections() *Connections { return &Connections{db} }

// The fields that only a connection has.
const (
	fieldSubscribed   = "subscribed"
	fieldSubscription = "subscription"
	fieldHolder       = "holder"
	fieldLease        = "lease"
	fieldContended    = "asked"
)

type connectionDocument struct {
	ID           string                `bson:"_id"`
	Tenant       string                `bson:"tenant_id"`
	Principal    string                `bson:"principal"` // in its JSON form
	ConnectedAt  time.Time             `bson:"connected_at"`
	ExpiresAt    time.Time             `bson:"expires_at"`
	Subscribed   bool                  `bson:"subscribed"`
	Subscription *subscriptionDocument `bson:"subscription"`
	Contended    bool                  `bson:"asked"` // whether another worker tried to acquire the lease
}

type subscriptionDocument struct {
	Filter  string `bson:"filter"` // in JSON, because the client chooses the names in it
	Segment int64  `bson:"segment"`
	Within  int64  `bson:"within"`
	Replay  int64  `bson:"replay"`

	Tries        int64     `bson:"tries"`
	RetryAt      time.Time `bson:"retry_at,omitempty"`
	WatchedUntil time.Time `bson:"watched_until,omitempty"`
}

func newConnectionDocument(c *stream.Connection) (connectionDocument, error) {
	principal, err := json.Marshal(c.Principal)
	if err != nil {
		return connectionDocument{}, err
	}
	subscription, err := newSubscriptionDocument(c.Subscription)
	return connectionDocument{
		ID: c.ID, Tenant: string(c.Tenant), Principal: string(principal), ConnectedAt: c.ConnectedAt, ExpiresAt: c.ExpiresAt,
		Subscribed: subscription != nil, Subscription: subscription,
	}, err
}

// newSubscriptionDocument returns nil for no subscription.
func newSubscriptionDocument(s *stream.Subscription) (*subscriptionDocument, error) {
	if s == nil {
		return nil, nil
	}
	filter, err := json.Marshal(s.Filter)
	if err != nil {
		return nil, err
	}
	return &subscriptionDocument{
		Filter: string(filter), Segment: s.At.Segment, Within: int64(s.At.Within), Replay: s.Replay,
		Tries: int64(s.Tries), RetryAt: s.RetryAt, WatchedUntil: s.WatchedUntil,
	}, nil
}

func readConnection(raw bson.Raw) (stream.Connection, error) {
	var doc connectionDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return stream.Connection{}, fmt.Errorf("a connection %w", errStored)
	}
	c := stream.Connection{ID: doc.ID, Tenant: audit.TenantID(doc.Tenant), ConnectedAt: doc.ConnectedAt.UTC(), ExpiresAt: doc.ExpiresAt.UTC()}
	if err := json.Unmarshal([]byte(doc.Principal), &c.Principal); err != nil {
		return stream.Connection{}, fmt.Errorf("the principal of a connection %w", errStored)
	}
	if s := doc.Subscription; s != nil {
		c.Subscription = &stream.Subscription{
			At: stream.Position{Segment: s.Segment, Within: int(s.Within)}, Replay: s.Replay,
			Tries: int(s.Tries), RetryAt: s.RetryAt.UTC(), WatchedUntil: s.WatchedUntil.UTC(),
		}
		if err := json.Unmarshal([]byte(s.Filter), &c.Subscription.Filter); err != nil {
			return stream.Connection{}, fmt.Errorf("the filter of a connection %w", errStored)
		}
	}
	return c, nil
}

// Create implements stream.Connections.
func (s *Connections) Create(ctx context.Context, c stream.Connection) error {
	doc, err := newConnectionDocument(&c)
	if err == nil {
		err = s.db.ensureConnections(ctx) // an index removes the connection when it expires
	}
	if err == nil {
		err = s.db.insertOne(ctx, collectionConnections, doc)
	}
	if err != nil {
		return fmt.Errorf("create connection %s of %s: %w", c.ID, c.Tenant, err)
	}
	return nil
}

// Connection implements stream.Connections.
func (s *Connections) Connection(ctx context.Context, id string) (c stream.Connection, err error) {
	doc, err := s.db.read(ctx, collectionConnections, readpref.Primary(), id)
	if err == nil {
		c, err = readConnection(doc)
	}
	if err != nil {
		return stream.Connection{}, fmt.Errorf("connection %s: %w", id, err)
	}
	return c, nil
}

// Subscribed implements stream.Connections. MongoDB answers it from the index.
func (s *Connections) Subscribed(ctx context.Context, tenant audit.TenantID) ([]string, error) {
	ids, err := s.subscribed(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("list the subscribed connections of %s: %w", tenant, err)
	}
	return ids, nil
}

func (s *Connections) subscribed(ctx context.Context, tenant audit.TenantID) ([]string, error) {
	var ids []string
	query := append(ofTenant(tenant), bson.E{Key: fieldSubscribed, Value: true})
	o := options.Find().SetHint(indexSubscribed).SetProjection(ascending(fieldKey))
	err := s.db.find(ctx, collectionConnections, query, o, func(doc bson.Raw) (bool, error) {
		id, ok := doc.Lookup(fieldKey).StringValueOK()
		if !ok {
			return false, fmt.Errorf("the _id of a connection %w", errStored)
		}
		ids = append(ids, id)
		return true, nil
	})
	return ids, err
}

// Remove implements stream.Connections.
func (s *Connections) Remove(ctx context.Context, id string) error {
	err := retry(ctx, func() error { return s.db.deleteOne(ctx, collectionConnections, withKey(id)) })
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("remove connection %s: %w", id, err)
	}
	return nil
}

// Acquire implements stream.Connections.
func (s *Connections) Acquire(ctx context.Context, id, holder string, until time.Time) (c stream.Connection, acquired bool, err error) {
	err = retry(ctx, func() error {
		c, acquired, err = s.acquire(ctx, id, holder, until)
		return err
	})
	if err != nil {
		return stream.Connection{}, false, fmt.Errorf("acquire connection %s: %w", id, err)
	}
	return c, acquired, nil
}

// acquire marks a lease that is taken as contended. It tries once more
// afterwards: the holder may have released the lease before it saw the mark.
func (s *Connections) acquire(ctx context.Context, id, holder string, until time.Time) (stream.Connection, bool, error) {
	c, err := s.tryAcquire(ctx, id, holder, until)
	if !errors.Is(err, audit.ErrNotFound) {
		return c, err == nil, err
	}
	if err := s.update(ctx, withKey(id), set(bson.E{Key: fieldContended, Value: true})); err != nil {
		return c, false, err
	}
	c, err = s.tryAcquire(ctx, id, holder, until)
	if errors.Is(err, audit.ErrNotFound) {
		return c, false, nil
	}
	return c, err == nil, err
}

// tryAcquire acquires the lease if it is free, expired or the holder's own. It
// returns audit.ErrNotFound otherwise, and if there is no such connection.
func (s *Connections) tryAcquire(ctx context.Context, id, holder string, until time.Time) (stream.Connection, error) {
	free := bson.E{Key: "$or", Value: bson.A{
		bson.D{{Key: fieldHolder, Value: bson.D{{Key: "$exists", Value: false}}}},
		bson.D{{Key: fieldHolder, Value: holder}},
		bson.D{{Key: fieldLease, Value: bson.D{{Key: "$lte", Value: s.db.now()}}}},
	}}
	doc, err := s.db.findOneAndUpdate(ctx, collectionConnections, append(withKey(id), free),
		set(bson.E{Key: fieldHolder, Value: holder}, bson.E{Key: fieldLease, Value: until}, bson.E{Key: fieldContended, Value: false}))
	if err != nil {
		return stream.Connection{}, err
	}
	return readConnection(doc)
}

func (s *Connections) update(ctx context.Context, query, update bson.D) error {
	return s.db.updateOne(ctx, collectionConnections, query, update)
}

// leasedTo matches a connection whose lease the holder has.
func leasedTo(id, holder string) bson.D {
	return append(withKey(id), bson.E{Key: fieldHolder, Value: holder})
}

// Save implements stream.Connections. An expired lease still belongs to the
// holder until another acquires it.
func (s *Connections) Save(ctx context.Context, id, holder string, subscription *stream.Subscription, until time.Time) error {
	doc, err := newSubscriptionDocument(subscription)
	if err == nil {
		err = retry(ctx, func() error {
			return s.update(ctx, leasedTo(id, holder), set(
				bson.E{Key: fieldSubscription, Value: doc}, bson.E{Key: fieldSubscribed, Value: doc != nil}, bson.E{Key: fieldLease, Value: until}))
		})
	}
	if errors.Is(err, audit.ErrNotFound) {
		err = audit.ErrPrecondition
	}
	if err != nil {
		return fmt.Errorf("save the subscription of connection %s: %w", id, err)
	}
	return nil
}

// Release implements stream.Connections. It retries each step separately: after
// the second step may have cleared the mark, the first must not release the lease.
func (s *Connections) Release(ctx context.Context, id, holder string) (released bool, err error) {
	err = retry(ctx, func() error {
		return s.update(ctx, append(leasedTo(id, holder), bson.E{Key: fieldContended, Value: false}),
			bson.D{{Key: "$unset", Value: bson.D{{Key: fieldHolder, Value: ""}, {Key: fieldLease, Value: ""}}}})
	})
	if errors.Is(err, audit.ErrNotFound) {
		err = retry(ctx, func() error {
			return s.update(ctx, leasedTo(id, holder), set(bson.E{Key: fieldContended, Value: false}))
		})
		if err == nil {
			return false, nil
		}
	}
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return false, fmt.Errorf("release connection %s: %w", id, err)
	}
	return true, nil
}

// Purge implements jobs.Purger.
func (s *Connections) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, collectionConnections, indexSubscribed, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge connections of %s: %w", tenant, err)
	}
	return n, nil
}
