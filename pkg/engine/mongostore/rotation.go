package mongostore

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

const (
	// URIMaxAge is how often WithCurrentURI asks for the connection string.
	URIMaxAge = 5 * time.Minute
	// URIMinAge is how often it asks while no connection can be made.
	URIMinAge = time.Minute

	switchTimeout = 5 * time.Second  // to fetch a connection string and to try it
	retireAfter   = 15 * time.Minute // Lambda ends every call within it
)

// rotation follows a connection string that may change.
type rotation struct {
	current func(ctx context.Context) (string, error)
	failed  func(error)

	askedAt time.Time
	refused atomic.Bool // since then a connection could not be made, or its credentials were refused
	retired []*mongo.Client
}

// WithCurrentURI has a running process take up a changed connection string, for example one with
// another password. current returns the string. It is called before a call of the database, every
// URIMaxAge, and after URIMinAge if a connection was refused. The new string is used once the
// primary answers over it. Otherwise failed gets the error, and the earlier string stays in use.
func WithCurrentURI(current func(ctx context.Context) (string, error), failed func(error)) Option {
	return func(db *DB) { db.rotation = &rotation{current: current, failed: failed} }
}

// monitor notices connections that could not be made.
func (r *rotation) monitor() *event.PoolMonitor {
	return &event.PoolMonitor{Event: func(e *event.PoolEvent) {
		if e.Type == event.ConnectionCheckOutFailed && e.Reason == event.ReasonConnectionErrored {
			r.refused.Store(true)
		}
	}}
}

// due reports whether it is time to ask for the connection string.
func (r *rotation) due(now time.Time) bool {
	age := now.Sub(r.askedAt)
	return age < 0 || age >= URIMaxAge || age >= URIMinAge && r.refused.Load()
}

// followURI takes up a changed connection string. One call at a time asks for it. Others go on
// with the earlier one meanwhile.
func (db *DB) followURI() {
	uri, due := db.beginToAsk()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), switchTimeout)
	defer cancel()
	current, err := db.rotation.current(ctx)
	if err == nil && current != uri {
		err = db.switchTo(ctx, current)
	}
	if err != nil {
		db.rotation.failed(err)
	}
}

// beginToAsk returns the present connection string, and whether it is time to ask for the current one.
func (db *DB) beginToAsk() (uri string, due bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	r := db.rotation
	if r == nil || db.closed || !r.due(db.wallClock()) {
		return "", false
	}
	r.askedAt = db.wallClock()
	r.refused.Store(false)
	return db.uri, true
}

// switchTo replaces the client by one with another connection string, if the primary answers
// it. Calls that use the earlier client can end.
func (db *DB) switchTo(ctx context.Context, uri string) error {
	client, err := db.connect(uri)
	if err != nil {
		return err
	}
	if err := failure(ctx, client.Ping(ctx, readpref.Primary())); err != nil {
		disconnect(client)
		return fmt.Errorf("the new connection string: %w", err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		go disconnect(client)
		return errClosed
	}
	if old := db.client; old != nil {
		db.rotation.retired = append(db.rotation.retired, old)
		time.AfterFunc(retireAfter, func() { disconnect(old) })
	}
	db.uri, db.client = uri, client
	return nil
}

// disconnect closes the connections of a client that has no calls. It fails only if the client
// is closed already, or takes too long for its connections to matter.
func disconnect(client *mongo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), switchTimeout)
	defer cancel()
	_ = client.Disconnect(ctx)
}
