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
// and jobs.CountedPurger. The times of connections are stored by the server's clock. MongoDB removes a
// connection about a minute after its ExpiresAt.
type Connections struct{ db *DB }

// Connections returns the connections.
func (db *DB) Connections() *Connections { return &Connections{db} }

// The fields that only a connection has.
const (
	fieldSubscribed   = "subscribed"
	fieldSubscription = "subscription"
	fieldEnding       = "ending" // somebody ends the connection until then; absent: nobody
)

type connectionDocument struct {
	ID           string                `bson:"_id"`
	Tenant       string                `bson:"tenant_id"`
	Principal    string                `bson:"principal"` // in its JSON form
	ConnectedAt  time.Time             `bson:"connected_at"`
	ExpiresAt    time.Time             `bson:"expires_at"`
	Subscribed   bool                  `bson:"subscribed"`
	Subscription *subscriptionDocument `bson:"subscription"`
}

type subscriptionDocument struct {
	ID           string `bson:"id"`
	SealedFilter []byte `bson:"sealed_filter"`
	After        int64  `bson:"after"`
	Replay       int64  `bson:"replay"`
	Ended        bool   `bson:"ended"`
}

func newConnectionDocument(c *stream.Connection, skew time.Duration) (connectionDocument, error) {
	principal, err := json.Marshal(c.Principal)
	if err != nil {
		return connectionDocument{}, err
	}
	subscription := newSubscriptionDocument(c.Subscription)
	return connectionDocument{
		ID: c.ID, Tenant: string(c.Tenant), Principal: string(principal), ConnectedAt: c.ConnectedAt.Add(skew), ExpiresAt: c.ExpiresAt.Add(skew),
		Subscribed: subscription != nil, Subscription: subscription,
	}, err
}

// newSubscriptionDocument returns nil for no subscription.
func newSubscriptionDocument(s *stream.Subscription) *subscriptionDocument {
	if s == nil {
		return nil
	}
	return &subscriptionDocument{ID: s.ID, SealedFilter: s.SealedFilter, After: s.After, Replay: s.Replay, Ended: s.Ended}
}

func readConnection(raw bson.Raw, skew time.Duration) (stream.Connection, error) {
	var doc connectionDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return stream.Connection{}, fmt.Errorf("a connection %w", errStored)
	}
	c := stream.Connection{ID: doc.ID, Tenant: audit.TenantID(doc.Tenant), ConnectedAt: doc.ConnectedAt.Add(-skew).UTC(), ExpiresAt: doc.ExpiresAt.Add(-skew).UTC()}
	if err := json.Unmarshal([]byte(doc.Principal), &c.Principal); err != nil {
		return stream.Connection{}, fmt.Errorf("the principal of a connection %w", errStored)
	}
	if s := doc.Subscription; s != nil {
		c.Subscription = &stream.Subscription{ID: s.ID, SealedFilter: s.SealedFilter, After: s.After, Replay: s.Replay, Ended: s.Ended}
	}
	return c, nil
}

// Create implements stream.Connections.
func (s *Connections) Create(ctx context.Context, c stream.Connection) error {
	if err := s.create(ctx, &c); err != nil {
		return fmt.Errorf("create connection %s of %s: %w", c.ID, c.Tenant, err)
	}
	return nil
}

func (s *Connections) create(ctx context.Context, c *stream.Connection) error {
	skew, err := s.db.skew(ctx)
	if err != nil {
		return err
	}
	doc, err := newConnectionDocument(c, skew)
	if err != nil {
		return err
	}
	if err := s.db.ensureConnections(ctx); err != nil { // an index removes the connection when it expires
		return err
	}
	return s.db.insertOne(ctx, collectionConnections, doc)
}

// Connection implements stream.Connections.
func (s *Connections) Connection(ctx context.Context, id string) (c stream.Connection, err error) {
	skew, err := s.db.skew(ctx)
	if err == nil {
		c, err = s.read(ctx, id, skew)
	}
	if err != nil {
		return stream.Connection{}, fmt.Errorf("connection %s: %w", id, err)
	}
	return c, nil
}

func (s *Connections) read(ctx context.Context, id string, skew time.Duration) (stream.Connection, error) {
	doc, err := s.db.read(ctx, collectionConnections, readpref.Primary(), id)
	if err != nil {
		return stream.Connection{}, err
	}
	return readConnection(doc, skew)
}

// Subscribe implements stream.Connections.
func (s *Connections) Subscribe(ctx context.Context, id string, subscription stream.Subscription) error {
	doc := newSubscriptionDocument(&subscription)
	err := retry(ctx, func() error {
		return s.db.updateOne(ctx, collectionConnections, withKey(id), set(
			bson.E{Key: fieldSubscription, Value: doc}, bson.E{Key: fieldSubscribed, Value: true}))
	})
	if err != nil {
		return fmt.Errorf("subscribe connection %s: %w", id, err)
	}
	return nil
}

// EndSubscription implements stream.Connections.
func (s *Connections) EndSubscription(ctx context.Context, id, subscription string) error {
	current := append(withKey(id), bson.E{Key: fieldSubscription + ".id", Value: subscription})
	err := retry(ctx, func() error {
		return s.db.updateOne(ctx, collectionConnections, current, set(
			bson.E{Key: fieldSubscription, Value: nil}, bson.E{Key: fieldSubscribed, Value: false}))
	})
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("end the subscription of connection %s: %w", id, err)
	}
	return nil
}

// CountSubscribed implements stream.Connections. MongoDB answers it from the index.
func (s *Connections) CountSubscribed(ctx context.Context, tenant audit.TenantID) (n int, err error) {
	o := options.Find().SetProjection(ascending(fieldKey))
	err = s.findSubscribed(ctx, tenant, o, func(bson.Raw) error { n++; return nil })
	if err != nil {
		return 0, fmt.Errorf("count the subscribed connections of %s: %w", tenant, err)
	}
	return n, nil
}

// Subscribed implements stream.Connections.
func (s *Connections) Subscribed(ctx context.Context, tenant audit.TenantID) (subscribed []stream.Connection, err error) {
	skew, err := s.db.skew(ctx)
	if err == nil {
		err = s.findSubscribed(ctx, tenant, options.Find(), func(doc bson.Raw) error {
			c, err := readConnection(doc, skew)
			subscribed = append(subscribed, c)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list the subscribed connections of %s: %w", tenant, err)
	}
	return subscribed, nil
}

// findSubscribed visits the tenant's connections that have a subscription.
func (s *Connections) findSubscribed(ctx context.Context, tenant audit.TenantID, o *options.FindOptionsBuilder, visit func(doc bson.Raw) error) error {
	query := append(ofTenant(tenant), bson.E{Key: fieldSubscribed, Value: true})
	return s.db.find(ctx, collectionConnections, query, o.SetHint(indexSubscribed), func(doc bson.Raw) (bool, error) { return true, visit(doc) })
}

// ClaimEnd implements stream.Connections. If the answer to an update is lost, the caller is
// refused: the claim ends by itself.
func (s *Connections) ClaimEnd(ctx context.Context, id string, until time.Time) (claimed bool, err error) {
	err = retry(ctx, func() error {
		claimed, err = s.claimEnd(ctx, id, until)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("claim the end of connection %s: %w", id, err)
	}
	return claimed, nil
}

func (s *Connections) claimEnd(ctx context.Context, id string, until time.Time) (claimed bool, err error) {
	now, skew, err := s.db.serverNow(ctx)
	if err != nil {
		return false, err
	}
	free := bson.E{Key: fieldEnding, Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gt", Value: now}}}}}
	err = s.db.updateOne(ctx, collectionConnections, append(withKey(id), free), set(bson.E{Key: fieldEnding, Value: until.Add(skew)}))
	if !errors.Is(err, audit.ErrNotFound) {
		return err == nil, err
	}
	_, err = s.db.read(ctx, collectionConnections, readpref.Primary(), id)
	if errors.Is(err, audit.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// Remove implements stream.Connections.
func (s *Connections) Remove(ctx context.Context, id string) error {
	err := retry(ctx, func() error { return s.db.deleteOne(ctx, collectionConnections, withKey(id)) })
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("remove connection %s: %w", id, err)
	}
	return nil
}

// Purge implements jobs.Purger.
func (s *Connections) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, collectionConnections, indexSubscribed, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge connections of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Connections) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "connections", collectionConnections, indexSubscribed, tenant)
}
