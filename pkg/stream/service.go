package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/trace"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// Service answers the messages of clients and delivers entries to them. Every exported
// field is required. It is safe for concurrent use and must not be copied.
type Service struct {
	Arrivals    arrival.Log
	Connections Connections
	Streams     Streams
	Reader      arrival.Reader
	Sender      Sender
	Queue       Queue // Deliver handles its messages
	// Tenants may return records that are some seconds old. Nothing is sent to subscribers of
	// a tenant that was suspended longer ago.
	Tenants Tenants
	Keys    Keys
	Cursors *cursor.Signer
	// Problem returns the problem document that tells a client why its connection ends.
	Problem func(reason error) []byte
	Now     func() time.Time
	Pause   func(ctx context.Context, d time.Duration) error // waits; it returns ctx's error if ctx ends first
	Random  func(b []byte)                                   // fills b with random bytes
	Log     *slog.Logger                                     // gets events of connections, never content
	// Delivered gets the delays of entries that were sent live: for each second of a pump, the
	// longest one from the receipt of an entry until a subscriber got it; nil: nothing measures it.
	Delivered func(ctx context.Context, tenant audit.TenantID, delays []time.Duration)
	// Worked gets what a pump sent; nil: nothing follows it.
	Worked func(ctx context.Context, w trace.Work)

	once    sync.Once
	checked *ttlcache.Cache[checkedKey, struct{}]     // see checkKey
	checks  *ttlcache.Cache[audit.TenantID, struct{}] // see checkConnections; ReadAt is when the next one is due
}

// Connect stores a connection that is about to be made. The caller has verified
// the principal and its permission access.LogsStream in the tenant. Connect
// returns audit.ErrUnauthenticated if the credential has expired or was revoked, and
// audit.ErrForbidden if the tenant is suspended or deleted.
func (s *Service) Connect(ctx context.Context, id string, principal access.Principal, tenant audit.TenantID) error {
	now := s.Now()
	c := Connection{
		ID: id, Tenant: tenant, Principal: principal.Within(tenant, access.LogsStream),
		ConnectedAt: now, ExpiresAt: now.Add(MaxConnection),
	}
	if ends := principal.ExpiresAt; !ends.IsZero() && ends.Before(c.ExpiresAt) {
		c.ExpiresAt = ends
	}
	if !now.Before(c.ExpiresAt) {
		return fmt.Errorf("connect: the credential has expired: %w", audit.ErrUnauthenticated)
	}
	// A ticket can be a minute older than the revocation of its key.
	if err := s.check(ctx, c); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := s.Connections.Create(ctx, c); err != nil {
		return fmt.Errorf("connect to %s: %w", tenant, err)
	}
	return nil
}

// Disconnect removes a connection that has ended.
func (s *Service) Disconnect(ctx context.Context, id string, _ []byte) error {
	if err := s.Connections.Remove(ctx, id); err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	return nil
}

// Subscribe starts the stream that the client asks for. It replaces the stream that the
// connection had. A pump sends the answer, so that the answer is before the first entries.
// Subscribe returns an *audit.ValidationError if the message has faults, and an error for which
// EndsConnection is true if the client must not use the connection any longer. It returns
// audit.ErrNotFound if the connection has ended, and ErrTooManySubscribers.
func (s *Service) Subscribe(ctx context.Context, id string, body []byte) error {
	message, err := parseSubscribe(body)
	if err != nil {
		return err
	}
	c, err := s.connection(ctx, id)
	if err != nil {
		return err
	}
	head, err := s.Arrivals.Head(ctx, c.Tenant)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	wanted := Subscription{ID: s.newID(), After: head.Last, Replay: head.Last}
	if wanted.SealedFilter, err = SealFilter(s.Cursors, c.Tenant, wanted.ID, message.filter); err != nil {
		return fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	if message.after != "" {
		place, ok := arrival.ParseCursor(s.Cursors, c.Tenant, message.after)
		if !ok {
			return errNoCursor
		}
		wanted.After = place
	}
	return s.change(ctx, c, wanted)
}

// SealFilter returns the filter of a subscription as its record has it.
func SealFilter(keys *cursor.Signer, tenant audit.TenantID, subscription string, filter url.Values) ([]byte, error) {
	return keys.Seal(placeOf(tenant, subscription), []byte(filter.Encode()))
}

// placeOf names a subscription to the cipher of its filter.
func placeOf(tenant audit.TenantID, subscription string) string {
	return "subscription " + subscription + " of " + string(tenant)
}

// connection returns the connection, if its client may use it.
func (s *Service) connection(ctx context.Context, id string) (Connection, error) {
	c, err := s.Connections.Connection(ctx, id)
	if err != nil {
		return Connection{}, fmt.Errorf("read the connection: %w", err)
	}
	return c, s.check(ctx, c)
}

// openAfterwards is how long a stream stays open after its last connection.
const openAfterwards = time.Minute

// change replaces the connection's subscription. The stream is opened after that: a pump that
// finds no subscription closes the stream only if it was not opened meanwhile.
func (s *Service) change(ctx context.Context, c Connection, wanted Subscription) error {
	if err := s.Connections.Subscribe(ctx, c.ID, wanted); err != nil {
		return fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	// After the subscription: of two that are one too many, at least one is refused.
	n, err := s.Connections.CountSubscribed(ctx, c.Tenant)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	if n > MaxSubscribers {
		return errors.Join(ErrTooManySubscribers, s.Connections.EndSubscription(ctx, c.ID, wanted.ID))
	}
	if err := s.Streams.Open(ctx, c.Tenant, c.ExpiresAt.Add(openAfterwards)); err != nil {
		return fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	return s.nudge(ctx, c.Tenant, 0)
}

// Unsubscribe ends the client's stream. A pump sends the answer, which is after the last
// entries. Its errors are those of Subscribe.
func (s *Service) Unsubscribe(ctx context.Context, id string, body []byte) error {
	if err := parseBare(body); err != nil {
		return err
	}
	c, err := s.connection(ctx, id)
	if err != nil {
		return err
	}
	return s.change(ctx, c, Subscription{ID: s.newID(), Ended: true})
}

// Ping sends a pong with the position of the stream. If the connection has ended or must
// end, its errors are those of Subscribe.
func (s *Service) Ping(ctx context.Context, id string, body []byte) error {
	if err := parseBare(body); err != nil {
		return err
	}
	c, err := s.connection(ctx, id)
	if err != nil {
		return err
	}
	if c.Subscription == nil || c.Subscription.Ended {
		return s.sendFrame(ctx, c, frame{Type: "pong"})
	}
	state, err := s.Streams.Stream(ctx, c.Tenant)
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		return fmt.Errorf("ping: %w", err)
	}
	place := max(c.Subscription.After, state.Progress[c.Subscription.ID].Place)
	if err := s.sendFrame(ctx, c, frame{Type: "pong", Cursor: s.cursor(c.Tenant, place)}); err != nil {
		return err
	}
	// If a pump was killed, this resumes it at the latest.
	if state.LeasedUntil.After(s.Now()) {
		return nil
	}
	pending, err := s.pending(ctx, c.Tenant, &state)
	if err != nil || !pending {
		return err
	}
	return s.nudge(ctx, c.Tenant, 0)
}

// Refuse handles a message without a known action. It returns an *audit.ValidationError.
func (s *Service) Refuse(_ context.Context, _ string, body []byte) error {
	if !jsontext.Value(body).IsValid() {
		return audit.Invalid("", "invalid_json", "must be a JSON object")
	}
	return audit.Invalid("/action", "invalid_choice", "must be one of %s", strings.Join(actions, ", "))
}

// Fail sends the client an error frame. problem is the JSON text of a problem
// document. It returns nil if the client is gone.
func (s *Service) Fail(ctx context.Context, id string, problem []byte) error {
	text, err := frame{Type: "error", Error: problem}.text()
	if err != nil {
		return err
	}
	if err := s.Sender.Send(ctx, id, text); err != nil && !errors.Is(err, ErrGone) {
		return fmt.Errorf("send an error frame: %w", err)
	}
	return nil
}

// sendFrame sends one frame. If the client is gone, it removes the connection.
func (s *Service) sendFrame(ctx context.Context, c Connection, f frame) error {
	text, err := f.text()
	if err != nil {
		return err
	}
	err = s.Sender.Send(ctx, c.ID, text)
	if errors.Is(err, ErrGone) {
		return s.Connections.Remove(ctx, c.ID)
	}
	if err != nil {
		return fmt.Errorf("send a %s frame: %w", f.Type, err)
	}
	return nil
}
