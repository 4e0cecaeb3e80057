// Package stream sends entries to subscribers as they are stored: Service
// answers what clients say over their connections, and delivers.
//
// The order of a tenant's stream is the order of its Log, which keeps the ids of
// the last Keep: a subscriber that comes back with its cursor gets everything
// that was appended after it, once. Nothing is appended for a tenant to whom
// nobody has listened for so long.
package stream

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Keep is how far back a cursor reaches: a tenant's stream stays open for so long
// after the last connection that was subscribed to it can have ended.
const Keep = 24 * time.Hour

// Position is a place in a tenant's stream: behind the first Within entries of
// the segment that follows Segment.
type Position struct {
	Segment int64
	Within  int
}

// Segment is a piece of a tenant's stream: the ids of entries in their order.
// Within one opening the segments have consecutive numbers.
type Segment struct {
	Number int64
	IDs    []audit.EntryID
}

// ErrExpired says that what followed a position is not kept any more.
var ErrExpired = errors.New("the stream is not kept that far back")

// HasSubscribers tells whether somebody listens to a tenant.
type HasSubscribers interface {
	// HasSubscribers reports whether the tenant's stream is open. What is stored after
	// Open returned is stored while it is.
	HasSubscribers(ctx context.Context, tenant audit.TenantID) (bool, error)
}

// Log is the order of every tenant's stream. A segment is kept for Keep.
type Log interface {
	HasSubscribers
	// Open opens the tenant's stream, or keeps it open, until the given time, and
	// returns the number of its last segment. A stream that was not open begins
	// anew: its numbers go on, but what came before them is expired.
	Open(ctx context.Context, tenant audit.TenantID, until time.Time) (int64, error)
	// Append adds one segment with those of the ids that the stream does not have
	// yet, each once, in their order. It does nothing where the stream is not open
	// or has all of them, so that it can be repeated, at once or later. After an
	// error the segment may be there.
	Append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error
	// Head returns the number of the last segment.
	Head(ctx context.Context, tenant audit.TenantID) (int64, error)
	// Read returns up to limit segments after the one with the number, in their
	// order without a gap, none where that is the last one; ErrExpired where the
	// next one is not kept any more or the stream was not open in between.
	Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]Segment, error)
}

// Connection is a client's connection.
type Connection struct {
	ID     string // the gateway's
	Tenant audit.TenantID
	// Principal is who connected, with the grants in the one tenant.
	Principal   access.Principal
	ConnectedAt time.Time
	ExpiresAt   time.Time // the connection is cut then
	// Subscription is what the client asked for last; nil: nothing.
	Subscription *Subscription
}

// Subscription is what is sent over a connection, and how far that has come.
type Subscription struct {
	Filter url.Values // the parameters of a list that choose entries
	At     Position   // up to which everything was sent
	// Replay is the last segment that there was when the client subscribed: up to
	// there it asked for everything, however much that is.
	Replay int64
	// Tries counts the deliveries in a row that the gateway did not take; until
	// RetryAt none is tried, because one is under way in the queue.
	Tries   int
	RetryAt time.Time
	// WatchedUntil is when a wish in the queue looks after the connection at the
	// latest, should a delivery not live to save what it sent.
	WatchedUntil time.Time
}

// Connections keeps the connections. Whoever sends over a connection or changes
// its subscription holds its lease, so that frames stay in order. All times are
// kept to the millisecond.
type Connections interface {
	// Create keeps a new connection, until ExpiresAt and not much longer;
	// audit.ErrConflict where the id is taken.
	Create(ctx context.Context, c Connection) error
	// Connection returns the connection, audit.ErrNotFound where there is none.
	Connection(ctx context.Context, id string) (Connection, error)
	// Subscribed returns the ids of the tenant's connections that have a
	// subscription, in any order.
	Subscribed(ctx context.Context, tenant audit.TenantID) ([]string, error)
	// Remove forgets the connection, whoever holds its lease. Removing it again is
	// not an error.
	Remove(ctx context.Context, id string) error

	// Acquire takes the connection's lease for the holder, a text of its own, until
	// the given time; the lease of another holder counts until its time. Where it
	// cannot be had, acquired is false, and the holder's Release will say that
	// somebody asked. audit.ErrNotFound where there is no connection.
	Acquire(ctx context.Context, id, holder string, until time.Time) (c Connection, acquired bool, err error)
	// Save keeps the subscription (nil: none) and has the lease last until the
	// given time; audit.ErrPrecondition where the holder has no lease any more.
	Save(ctx context.Context, id, holder string, s *Subscription, until time.Time) error
	// Release gives the lease back. Where somebody asked for it since it was taken,
	// or since Release said so last, it does not and returns false: there may be
	// something to do. A lease that is not the holder's any more counts as given back.
	Release(ctx context.Context, id, holder string) (released bool, err error)
}

// Reader reads entries from the system of record.
type Reader interface {
	// EntriesByID returns those of the entries that the tenant has, in any order.
	EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error)
}

// Limits of the WebSocket API; API Gateway's.
const (
	MaxFrameBytes  = 32 << 10
	MaxConnection  = 2 * time.Hour
	MaxIdle        = 10 * time.Minute
	MaxMessageSize = 128 << 10 // of one message of several frames
)

// The failures of a Sender.
var (
	// ErrGone says that the client has disconnected.
	ErrGone = errors.New("the client is gone")
	// ErrBusy says that the gateway does not take the frame now, because the client
	// is slow or too much is sent at once.
	ErrBusy = errors.New("the gateway takes no more for now")
)

// Sender sends to clients.
type Sender interface {
	// Send hands the text, at most MaxFrameBytes long, to the gateway, which sends
	// what it takes in order; ErrGone, ErrBusy, or an error that says nothing of
	// what the client got.
	Send(ctx context.Context, connection string, text []byte) error
	// Cut ends the connection. Where the client has gone already that is no error.
	Cut(ctx context.Context, connection string) error
}

// Queue takes messages for the function that delivers. Send returns nil only once
// the body is durable; it is not handed on before the delay, at most 15 minutes,
// is over.
type Queue interface {
	SendAfter(ctx context.Context, delay time.Duration, body string) error
}

// Tenants finds tenants; audit.ErrNotFound where there is none.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}
