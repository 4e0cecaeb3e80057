// Package mongostore is the system of record on MongoDB 6 and later, Atlas and
// DocumentDB. It stores entries in partitions by time. It also stores the quarantine,
// tenants, keys, jobs, the arrival log, the live stream and its connections. While the search
// index is down, it answers the lists that MongoDB's own indexes can answer.
//
// A majority acknowledges every write, and a read returns only what a majority
// has. The package needs no transactions, change streams, pipeline updates,
// retryable writes or server-side scripts. It retries a write whose answer was
// lost, and a duplicate _id shows that the first try succeeded.
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

	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/trace"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// Defaults of a DB.
const (
	// PoolSize is the most connections of a process to each server, unless WithPoolSize changes
	// it. A Lambda handles one event at a time, and persist-logs stores the entries of that many tenants at once.
	PoolSize = ingest.MaxTenantsAtOnce
	// DefaultTimeout bounds a call whose context has no deadline.
	DefaultTimeout = 30 * time.Second

	selectionTimeout = 5 * time.Second // to find a server for the call
	connectTimeout   = 5 * time.Second
	idleTimeout      = time.Minute // a Lambda that was frozen for longer has likely lost its connections
)

// DB is one database on a MongoDB server. It connects when it is first used.
// Its methods and those of its adapters are safe for concurrent use.
type DB struct {
	uri, name string
	timeout   time.Duration
	poolSize  int
	monitor   *event.CommandMonitor
	now       func() time.Time
	indexes   Indexes

	serverTime func(ctx context.Context) (time.Time, error)
	skews      *ttlcache.Cache[struct{}, time.Duration] // one entry; see skew

	readPreference string // of lists
	listsFrom      *readpref.ReadPref

	mu       sync.Mutex
	client   *mongo.Client
	closed   bool
	rotation *rotation // nil: the connection string stays

	catalog  catalog
	registry registry
}

// Option changes how a database is used.
type Option func(*DB)

// WithTimeout bounds calls whose context has no deadline; see DefaultTimeout.
func WithTimeout(d time.Duration) Option { return func(db *DB) { db.timeout = d } }

// WithPoolSize bounds the connections of this process to each server; the default is PoolSize.
// Calls wait until one is free.
func WithPoolSize(n int) Option { return func(db *DB) { db.poolSize = n } }

// WithIndexes selects the indexes of new partitions; the default is IndexesFull.
// Partitions that exist keep theirs.
func WithIndexes(indexes Indexes) Option { return func(db *DB) { db.indexes = indexes } }

// WithReadPreference selects the servers that answer lists and Index.EntriesByID, by the name of a
// MongoDB read preference such as secondaryPreferred. Secondaries can be behind. All other
// reads go to the primary, which is also the default for lists.
func WithReadPreference(name string) Option { return func(db *DB) { db.readPreference = name } }

// WithMonitor reports every command to the monitor, and records none in traces. A command's
// body has content of entries and must not be logged.
func WithMonitor(m *event.CommandMonitor) Option { return func(db *DB) { db.monitor = m } }

// WithClock sets the clock; the default is time.Now.
func WithClock(now func() time.Time) Option { return func(db *DB) { db.now = now } }

// Open returns the database with this name at the connection string uri, which
// begins with mongodb:// or mongodb+srv://. Certificates in PEM may follow on lines of their own:
// their authorities are trusted beside those of the system. It opens no connection and looks up no
// name. This package sets the read and write concern, retries and timeouts, and
// overrides the connection string. Its errors repeat only the hosts of the
// connection string.
func Open(uri, name string, opts ...Option) (*DB, error) {
	db := &DB{uri: uri, name: name, timeout: DefaultTimeout, poolSize: PoolSize, now: time.Now,
		indexes: IndexesFull, readPreference: "primary", registry: newRegistry(), skews: ttlcache.New[struct{}, time.Duration](1)}
	db.serverTime = db.handshakeTime
	for _, opt := range opts {
		opt(db)
	}
	if db.rotation != nil {
		db.rotation.askedAt = db.wallClock() // the caller has just read it
	}
	if name == "" || strings.ContainsAny(name, `/\. "$*<>:|?`+"\x00") {
		return nil, errors.New("mongodb: the database name is empty or has characters that MongoDB refuses")
	}
	if db.indexes != IndexesFull && db.indexes != IndexesLean {
		return nil, fmt.Errorf("mongodb: no such indexes: %q", db.indexes)
	}
	mode, err := readpref.ModeFromString(db.readPreference)
	if err == nil {
		db.listsFrom, err = readpref.New(mode)
	}
	if err != nil {
		return nil, fmt.Errorf("mongodb: no such read preference: %q", db.readPreference)
	}
	if strings.HasPrefix(uri, "mongodb+srv://") {
		return db, nil // parsing it would look up its name
	}
	if _, err := db.clientOptions(uri); err != nil {
		return nil, err
	}
	return db, nil
}

// errConnectionString replaces the driver's error, which may repeat parts of the
// connection string.
var errConnectionString = errors.New("mongodb: the connection string cannot be read, or its DNS name not be looked up")

func (db *DB) clientOptions(uri string) (*options.ClientOptions, error) {
	uri, certificates, _ := strings.Cut(uri, "\n")
	o := options.Client().ApplyURI(strings.TrimSpace(uri))
	o.SetAppName("ocelot").
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetRetryWrites(false). // DocumentDB refuses them; see the package's comment
		SetRetryReads(true).
		SetMaxPoolSize(uint64(db.poolSize)).
		SetMaxConnIdleTime(idleTimeout).
		SetConnectTimeout(connectTimeout).
		SetServerSelectionTimeout(selectionTimeout).
		SetTimeout(db.timeout)
	switch {
	case db.monitor != nil:
		o.SetMonitor(db.monitor)
	case trace.Recording():
		o.SetMonitor(traceMonitor())
	}
	if db.rotation != nil {
		o.SetPoolMonitor(db.rotation.monitor())
	}
	if err := o.Validate(); err != nil {
		return nil, errConnectionString
	}
	return o, trust(o, certificates)
}

// traceMonitor records commands in their traces.
func traceMonitor() *event.CommandMonitor {
	record := func(ctx context.Context, took time.Duration, failed bool) {
		trace.Called(ctx, "MongoDB", time.Now().Add(-took), failed)
	}
	return &event.CommandMonitor{
		Succeeded: func(ctx context.Context, e *event.CommandSucceededEvent) { record(ctx, e.Duration, false) },
		Failed:    func(ctx context.Context, e *event.CommandFailedEvent) { record(ctx, e.Duration, true) },
	}
}

// errClosed is the error of every call after Close.
var errClosed = errors.New("mongodb: the database is closed")

// connected returns the client, which opens its connections in the background.
func (db *DB) connected() (*mongo.Client, error) {
	db.followURI()
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil, errClosed
	}
	if db.client != nil {
		return db.client, nil
	}
	client, err := db.connect(db.uri)
	if err == nil {
		db.client = client
	}
	return client, err
}

// connect returns a client with the connection string.
func (db *DB) connect(uri string) (*mongo.Client, error) {
	o, err := db.clientOptions(uri)
	if err != nil {
		return nil, unavailable(err) // Open checked everything but a DNS name, which may be found later
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, errConnectionString
	}
	return client, nil
}

func (db *DB) database() (*mongo.Database, error) {
	client, err := db.connected()
	if err != nil {
		return nil, err
	}
	return client.Database(db.name), nil
}

// Ping returns nil if the primary answers.
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

// Close closes the connections. Later calls fail. A second Close does nothing.
func (db *DB) Close(ctx context.Context) error {
	db.mu.Lock()
	client := db.client
	db.client, db.closed = nil, true
	if db.rotation != nil {
		for _, retired := range db.rotation.retired {
			disconnect(retired)
		}
		db.rotation.retired = nil
	}
	db.mu.Unlock()
	if client == nil {
		return nil
	}
	if err := client.Disconnect(ctx); err != nil {
		return fmt.Errorf("close: %w", failure(ctx, err))
	}
	return nil
}
