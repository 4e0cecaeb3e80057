// Package stream sends entries to subscribers as they are stored. Service
// handles the messages of clients and delivers entries.
//
// The order of a tenant's stream is the order of its Log. The Log has the ids of
// the last 24 hours (Retention). A subscriber that reconnects with its cursor
// gets every entry that was appended after it, once. Nothing is appended for a
// tenant that had no subscriber for that long.
package stream

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Retention is how long a cursor is valid. A tenant's stream stays open for
// Retention after the latest possible end of its last subscription.
const Retention = 24 * time.Hour

// Position is a place in a tenant's stream: after the first Within entries of the
// segment that follows Segment.
type Position struct {
	Segment int64
	Within  int
}

// Segment is a part of a tenant's stream: the ids of entries in their order. While
// a stream stays open, its segments have consecutive numbers.
type Segment struct {
	Number int64
	IDs    []audit.EntryID
}

// ErrExpired says that the entries after a position are no longer available.
var ErrExpired = errors.New("the stream does not reach that far back")

// HasSubscribers finds out whether a tenant has subscribers.
type HasSubscribers interface {
	// HasSubscribers reports whether the tenant's stream is open. It returns true
	// for every entry that is stored after Open returned, until the stream closes.
	HasSubscribers(ctx context.Context, tenant audit.TenantID) (bool, error)
}

// Log stores the order of every tenant's stream. It stores a segment for Retention.
type Log interface {
	HasSubscribers
	// Open opens the tenant's stream, or extends it, until the given time. It
	// returns the number of the last segment. If the stream was not open, the
	// numbers continue, but every earlier segment is expired.
	Open(ctx context.Context, tenant audit.TenantID, until time.Time) (int64, error)
	// Append adds one segment with the ids that the stream does not have yet, each
	// once, in their order. It does nothing if the stream is not open or has all
	// ids, so it may be repeated at any time. After an error the segment may exist.
	Append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error
	// Head returns the number of the last segment.
	Head(ctx context.Context, tenant audit.TenantID) (int64, error)
	// Read returns up to limit segments after the number after, in their order and
	// without a gap. It returns none at the end of the stream. It returns ErrExpired
	// if the next segment is no longer available, or if the stream was closed since.
	Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]Segment, error)
}

// Connection is a client's connection.
type Connection struct {
	ID     string // the gateway's
	Tenant audit.TenantID
	// Principal is the caller that connected, with its grants in this tenant only.
	Principal   access.Principal
	ConnectedAt time.Time
	ExpiresAt   time.Time // the service cuts the connection then
	// Subscription is the client's latest; nil: none.
	Subscription *Subscription
}

// Subscription is what a client asked for and the progress of sending it.
type Subscription struct {
	Filter url.Values // the parameters of a list that choose entries
	At     Position   // everything before it was sent
	// Replay is the last segment at the time of the subscription. The client asked
	// for everything up to it, so sending skips none of that.
	Replay int64
	// Tries counts the failed deliveries in a row. No delivery is tried before
	// RetryAt: a message in the queue resumes then.
	Tries   int
	RetryAt time.Time
	// WatchedUntil is when a message in the queue resumes the delivery at the
	// latest, in case a worker is killed before it saves its progress.
	WatchedUntil time.Time
}

// Connections stores connections. A worker holds a connection's lease while it
// sends entries over it or changes its subscription, so that frames stay in order. All
// times are stored to the millisecond.
type Connections interface {
	// Create stores a new connection until shortly after its ExpiresAt. It returns
	// audit.ErrConflict if the id is taken.
	Create(ctx context.Context, c Connection) error
	// Connection returns a connection. It returns audit.ErrNotFound if none exists.
	Connection(ctx context.Context, id string) (Connection, error)
	// Subscribed returns the ids of the tenant's connections that have a
	// subscription, in any order.
	Subscribed(ctx context.Context, tenant audit.TenantID) ([]string, error)
	// Remove removes the connection, even if somebody holds its lease. Removing it
	// again is not an error.
	Remove(ctx context.Context, id string) error

	// Acquire acquires the connection's lease until the given time. holder is a
	// unique name. If another holder has a lease that has not expired, acquired is
	// false, and that holder's next Release returns false. Acquire returns
	// audit.ErrNotFound if the connection does not exist.
	Acquire(ctx context.Context, id, holder string, until time.Time) (c Connection, acquired bool, err error)
	// Save stores the subscription (nil: none) and extends the lease to the given
	// time. It returns audit.ErrPrecondition if the holder has lost the lease.
	Save(ctx context.Context, id, holder string, s *Subscription, until time.Time) error
	// Release releases the lease and returns true. It keeps the lease and returns false
	// if another holder called Acquire since the lease was acquired, or since Release
	// returned false last. Entries may then be pending. If the holder has lost the
	// lease, Release returns true.
	Release(ctx context.Context, id, holder string) (released bool, err error)
}

// Reader reads entries from the system of record.
type Reader interface {
	// EntriesByID returns the entries with these ids that the tenant has, in any order.
	EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error)
}

// Limits of the WebSocket API. They are API Gateway's quotas.
const (
	MaxFrameBytes  = 32 << 10
	MaxConnection  = 2 * time.Hour    // duration of a connection
	MaxIdle        = 10 * time.Minute // without a message of either side
	MaxMessageSize = 128 << 10        // bytes of one message, in several frames
)

// The failures of a Sender.
var (
	// ErrGone says that the client has disconnected.
	ErrGone = errors.New("the client is gone")
	// ErrBusy says that the gateway does not accept the frame now: the client is
	// slow, or the gateway limits the rate.
	ErrBusy = errors.New("the gateway accepts no more frames for now")
)

// Sender sends to clients.
type Sender interface {
	// Send gives the text, at most MaxFrameBytes, to the gateway. The gateway sends
	// accepted texts in order. Send returns ErrGone, ErrBusy, or another error after
	// which the client may have received the text.
	Send(ctx context.Context, connection string, text []byte) error
	// Cut closes the connection. It returns nil if the client is already gone.
	Cut(ctx context.Context, connection string) error
}

// Queue sends messages to the function that delivers. SendAfter returns nil only
// once the body is durable. The message is delivered after the delay, which is at
// most 15 minutes (SQS).
type Queue interface {
	SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error
}

// Tenants finds tenants. Tenant returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}
