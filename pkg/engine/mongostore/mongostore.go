// Package mongostore is the system of record on MongoDB 6 and later, Atlas and
// DocumentDB: entries in monthly partitions, the quarantine, tenants, keys, jobs,
// the live stream's order and its connections, and the lists that MongoDB's own
// indexes can answer while the search index is down.
//
// Every write is acknowledged by a majority and every read sees only what a
// majority has. Nothing here needs transactions, change streams, pipeline
// updates, retryable writes or server-side scripts: a write whose answer was
// lost is repeated, and a duplicate _id shows that it had arrived.
package mongostore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// Defaults of a DB.
const (
	// DefaultPoolSize is how many connections a process has at most: a Lambda
	// handles one request or batch at a time, and thousands of them share a server.
	DefaultPoolSize = 10
	// DefaultTimeout bounds a call whose context has no deadline.
	DefaultTimeout = 30 * time.Second

	selectionTimeout = 5 * time.Second // until a server that takes the call is found
	connectTimeout   = 5 * time.Second
	idleTimeout      = time.Minute // connections that a frozen Lambda kept longer are likely dead
)

// DB is one database on a MongoDB server. It connects when it is first used.
// Its methods and those of its adapters are safe for concurrent use.
type DB struct {
	uri, name string
	poolSize  uint64
	timeout   time.Duration
	monitor   *event.CommandMonitor
	now       func() time.Time

	mu     sync.Mutex
	client *mongo.Client
	closed bool

	catalog catalog
}

// Option changes how a database is used.
type Option func(*DB)

// WithPoolSize sets the most connections to each server; see DefaultPoolSize.
func WithPoolSize(connections uint64) Option { return func(db *DB) { db.poolSize = connections } }

// WithTimeout bounds calls whose context has no deadline; see DefaultTimeout.
func WithTimeout(d time.Duration) Option { return func(db *DB) { db.timeout = d } }

// WithMonitor has every command reported, for traces. A command's body holds
// content of entries and must not be logged.
func WithMonitor(m *event.CommandMonitor) Option { return func(db *DB) { db.monitor = m } }

// WithClock has the database read the time from now instead of time.Now.
func WithClock(now func() time.Time) Option { return func(db *DB) { db.now = now } }

// Open returns the database with this name at the connection string uri, which
// begins with mongodb:// or mongodb+srv://. It opens no connection and looks up
// no name. Read and write concern, retries and timeouts are set here and not by
// the connection string. No error of this package repeats what the connection
// string says besides hosts.
func Open(uri, name string, opts ...Option) (*DB, error) {
	db := &DB{uri: uri, name: name, poolSize: DefaultPoolSize, timeout: DefaultTimeout, now: time.Now}
	for _, opt := range opts {
		opt(db)
	}
	if name == "" || strings.ContainsAny(name, `/\. "$*<>:|?`+"\x00") {
		return nil, errors.New("mongodb: the database name is empty or has characters that MongoDB refuses")
	}
	if strings.HasPrefix(uri, "mongodb+srv://") {
		return db, nil // reading it looks up its name
	}
	if _, err := db.clientOptions(); err != nil {
		return nil, err
	}
	return db, nil
}

// errConnectionString stands for the driver's error, which may repeat parts of
// the connection string.
var errConnectionString = errors.New("mongodb: the connection string cannot be read, or its DNS name not be looked up")

func (db *DB) clientOptions() (*options.ClientOptions, error) {
	o := options.Client().ApplyURI(db.uri)
	o.SetAppName("ocelot").
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetRetryWrites(false). // DocumentDB refuses them; see the package's comment
		SetRetryReads(true).
		SetMaxPoolSize(db.poolSize).
		SetMaxConnIdleTime(idleTimeout).
		SetConnectTimeout(connectTimeout).
		SetServerSelectionTimeout(selectionTimeout).
		SetTimeout(db.timeout)
	if db.monitor != nil {
		o.SetMonitor(db.monitor)
	}
	if err := o.Validate(); err != nil {
		return nil, errConnectionString
	}
	return o, nil
}

// errClosed answers whatever is asked of a DB after Close.
var errClosed = errors.New("mongodb: the database is closed")

// connected returns the client, which opens its connections in the background.
func (db *DB) connected() (*mongo.Client, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	switch {
	case db.closed:
		return nil, errClosed
	case db.client != nil:
		return db.client, nil
	}
	o, err := db.clientOptions()
	if err != nil {
		return nil, unavailable(err) // Open read it before, but for a DNS name that may yet be found
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, errConnectionString
	}
	db.client = client
	return client, nil
}

func (db *DB) database() (*mongo.Database, error) {
	client, err := db.connected()
	if err != nil {
		return nil, err
	}
	return client.Database(db.name), nil
}

// Ping reports whether the primary, which takes the writes, answers.
func (db *DB) Ping(ctx context.Context) error {
	client, err := db.connected()
	if err == nil {
		err = failure(ctx, client.Ping(ctx, readpref.Primary()))
	}
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Close ends the connections. Calls that begin later fail. Closing again does nothing.
func (db *DB) Close(ctx context.Context) error {
	db.mu.Lock()
	client := db.client
	db.client, db.closed = nil, true
	db.mu.Unlock()
	if client == nil {
		return nil
	}
	if err := client.Disconnect(ctx); err != nil {
		return fmt.Errorf("close: %w", failure(ctx, err))
	}
	return nil
}
