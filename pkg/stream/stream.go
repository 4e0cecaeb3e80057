// Package stream sends entries to subscribers as they get their places in the arrival log.
// Service handles the messages of clients and delivers entries.
//
// A subscription's position is a place of the tenant's arrival log. One pump at a time sends
// the entries of a tenant: it holds the lease on the tenant's stream, reads the log for all
// subscribers, and saves their positions once a second. Replay and live delivery are the same
// reading. docs/design/stream-delivery.md shows the states.
package stream

import (
	"context"
	"errors"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MaxSubscribers is the most subscribers of a tenant.
const MaxSubscribers = 1000

// ErrTooManySubscribers says that the tenant has MaxSubscribers.
var ErrTooManySubscribers = errors.New("the tenant has too many subscribers")

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

// Subscription is what a client asked for. It never changes.
type Subscription struct {
	ID string // unique
	// SealedFilter has the parameters of a list that choose entries. They are encrypted: their values can
	// be those of encrypted fields.
	SealedFilter []byte
	After        int64 // the place after which the client asked to begin
	// Replay is the last place at the time of the subscription. The client asked for
	// everything up to it, so sending skips none of that.
	Replay int64
	// Ended says that the client has unsubscribed. It waits for the answer.
	Ended bool
}

// Connections stores connections. All times are stored to the millisecond. They are by the clock
// of the process that calls; see Streams.
type Connections interface {
	// Create stores a new connection until shortly after its ExpiresAt. It returns
	// audit.ErrConflict if the id is taken.
	Create(ctx context.Context, c Connection) error
	// Connection returns a connection. It returns audit.ErrNotFound if none exists.
	Connection(ctx context.Context, id string) (Connection, error)
	// Subscribe replaces the connection's subscription. It returns audit.ErrNotFound if the
	// connection does not exist.
	Subscribe(ctx context.Context, id string, s Subscription) error
	// EndSubscription removes the subscription of this id from the connection. It does nothing
	// if the connection has another one or does not exist.
	EndSubscription(ctx context.Context, id, subscription string) error
	// CountSubscribed counts the tenant's connections that have a subscription.
	CountSubscribed(ctx context.Context, tenant audit.TenantID) (int, error)
	// Subscribed returns the tenant's connections that have a subscription, in any order.
	Subscribed(ctx context.Context, tenant audit.TenantID) ([]Connection, error)
	// ClaimEnd says that the caller ends the connection and has done so at the given time.
	// claimed is false if another caller has said so and its time has not come. It is true for
	// a connection that does not exist.
	ClaimEnd(ctx context.Context, id string, until time.Time) (claimed bool, err error)
	// Remove removes the connection. Removing it again is not an error.
	Remove(ctx context.Context, id string) error
}

// Progress is how far a subscription is.
type Progress struct {
	Place     int64 // everything up to it was sent, or is not for the subscriber
	Announced bool  // the client was told that it is subscribed
	// Tries counts the failed deliveries in a row. No delivery is tried before RetryAt.
	Tries   int
	RetryAt time.Time // zero: now
}

// State is the state of a tenant's open stream.
type State struct {
	// Changes rises with every Open, so with every change of a subscription.
	Changes int64
	// LeasedUntil is the end of the lease. The stream is free from then on.
	LeasedUntil time.Time
	// WatchedUntil is when a message in the queue looks at the stream at the latest, in case
	// the holder of the lease is killed.
	WatchedUntil time.Time
	Progress     map[string]Progress // by the ids of subscriptions
	Rest         Rest                // as the last Release said
}

// Rest says what everybody has: every subscription that had begun by Changes has everything up
// to Place. The zero Rest says nothing.
type Rest struct{ Changes, Place int64 }

// MaxAhead is the most by which LeasedUntil, WatchedUntil and RetryAt are ahead of the present.
const MaxAhead = time.Minute

// Plausible returns t, or the zero time if t is further ahead of now than MaxAhead. It is for
// adapters of Streams.
func Plausible(t, now time.Time) time.Time {
	if t.After(now.Add(MaxAhead)) {
		return time.Time{}
	}
	return t
}

// Streams stores the stream of each tenant that has subscribers: who sends its entries, and
// how far its subscriptions are. A stream is open until a time.
//
// All times are stored to the millisecond. Callers and answers go by the clock of the process
// that calls. The store keeps times by a clock of its own, so that the clocks of two processes
// may differ by any amount. What is further ahead than MaxAhead was stored while the store's
// clock was wrong. It counts as past.
type Streams interface {
	// Open opens the tenant's stream until the given time. A stream that is open for longer
	// stays so. Open raises Changes.
	Open(ctx context.Context, tenant audit.TenantID, until time.Time) error
	// Stream returns the tenant's stream. It returns audit.ErrNotFound if it is not open.
	Stream(ctx context.Context, tenant audit.TenantID) (State, error)
	// Acquire acquires the lease on the stream for a holder, a unique name, and sets
	// LeasedUntil and WatchedUntil, which are at most MaxAhead away. If another holder has a lease that has not expired,
	// acquired is false. Acquire returns audit.ErrNotFound if the stream is not open.
	Acquire(ctx context.Context, tenant audit.TenantID, holder string, leased, watched time.Time) (s State, acquired bool, err error)
	// Save replaces the progress of all subscriptions and renews the lease, in one write. It
	// returns audit.ErrPrecondition if the holder has lost the lease.
	Save(ctx context.Context, tenant audit.TenantID, holder string, progress map[string]Progress, leased, watched time.Time) error
	// Release releases the lease and stores Rest. It does nothing if the holder has lost the lease.
	Release(ctx context.Context, tenant audit.TenantID, holder string, rest Rest) error
	// Close closes the stream, unless Changes has risen or the holder has lost the lease.
	Close(ctx context.Context, tenant audit.TenantID, holder string, changes int64) error
	// Idle returns those of the tenants whose stream is open and has no holder, in any order.
	Idle(ctx context.Context, tenants []audit.TenantID) ([]audit.TenantID, error)
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
