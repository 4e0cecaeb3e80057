package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// Service answers the messages of clients and delivers entries to them. Every exported
// field is required. It is safe for concurrent use and must not be copied.
type Service struct {
	Segments    Log
	Connections Connections
	Reader      Reader
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
	Random  func(b []byte) // fills b with random bytes
	Log     *slog.Logger   // gets events of connections, never content

	once    sync.Once
	checked *ttlcache.Cache[checkedKey, struct{}] // see checkKey
}

// Connect stores a connection that is about to be made. The caller has verified
// the principal and its permission access.LogsStream in the tenant. Connect
// returns audit.ErrUnauthenticated if the credential has expired or was revoked, and
// audit.ErrForbidden if the tenant is suspended or deleted.
func (s *Service) Connect(ctx context.Context, id string, principal access.Principal, tenant audit.TenantID) error {
	now := s.Now()
	c := Connection{
		ID: id, Tenant: tenant, Principal: principal.Within(tenant, access.LogsStream, access.LogsReadSensitive),
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

// Subscribe starts the stream that the client asks for. It replaces the stream
// that the connection had. It returns an *audit.ValidationError if the message
// has faults, and an error for which EndsConnection is true if the client must not use the
// connection any longer. It returns audit.ErrNotFound if the connection has ended.
func (s *Service) Subscribe(ctx context.Context, id string, body []byte) error {
	message, err := parseSubscribe(body)
	if err != nil {
		return err
	}
	c, holder, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	subscribed, err := s.subscription(ctx, c, message)
	if err == nil {
		err = s.Connections.Save(ctx, id, holder, &subscribed, s.Now().Add(leaseTime))
	}
	if err == nil {
		err = s.sendFrame(ctx, c, frame{Type: "subscribed", Cursor: s.cursor(c.Tenant, subscribed.At)})
	}
	if err = errors.Join(err, s.releaseAndResume(ctx, c, holder)); err != nil {
		return err
	}
	// Entries appended meanwhile found no subscription, and entries after the cursor
	// must be replayed.
	return s.resume(ctx, c, 0)
}

// subscription returns the subscription that the message asks for.
func (s *Service) subscription(ctx context.Context, c Connection, message subscribe) (Subscription, error) {
	// The last cursor of the connection must be valid for Retention too.
	head, err := s.Segments.Open(ctx, c.Tenant, c.ExpiresAt.Add(Retention))
	if err != nil {
		return Subscription{}, fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	wanted := Subscription{Filter: message.filter, At: Position{Segment: head}, Replay: head}
	if message.after == "" {
		return wanted, nil
	}
	if wanted.At, err = s.position(c.Tenant, message.after); err != nil {
		return Subscription{}, err
	}
	_, err = s.Segments.Read(ctx, c.Tenant, wanted.At.Segment, 1)
	if errors.Is(err, ErrExpired) {
		return Subscription{}, audit.Invalid("/after", "expired", "must be a cursor of the last %d hours; what came before can be searched", int(Retention.Hours()))
	}
	if err != nil {
		return Subscription{}, fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	return wanted, nil
}

// Unsubscribe ends the client's stream. Its errors are those of Subscribe.
func (s *Service) Unsubscribe(ctx context.Context, id string, body []byte) error {
	if err := parseBare(body); err != nil {
		return err
	}
	c, holder, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	if err = s.Connections.Save(ctx, id, holder, nil, s.Now().Add(leaseTime)); err == nil {
		err = s.sendFrame(ctx, c, frame{Type: "unsubscribed"})
	}
	return errors.Join(err, s.releaseAndResume(ctx, c, holder))
}

// Ping sends a pong with the position of the stream. If the connection has ended or must
// end, its errors are those of Subscribe.
func (s *Service) Ping(ctx context.Context, id string, body []byte) error {
	if err := parseBare(body); err != nil {
		return err
	}
	c, err := s.Connections.Connection(ctx, id)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if err := s.check(ctx, c); err != nil {
		return err
	}
	pong := frame{Type: "pong"}
	if c.Subscription != nil {
		pong.Cursor = s.cursor(c.Tenant, c.Subscription.At)
	}
	if err := s.sendFrame(ctx, c, pong); err != nil || c.Subscription == nil {
		return err
	}
	// If a delivery was killed, this resumes it at the latest.
	head, err := s.Segments.Head(ctx, c.Tenant)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if head > c.Subscription.At.Segment {
		return s.resume(ctx, c, 0)
	}
	return nil
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
	text, err := json.Marshal(frame{Type: "error", Error: problem})
	if err != nil {
		return fmt.Errorf("error frame: %w", err)
	}
	if err := s.Sender.Send(ctx, id, text); err != nil && !errors.Is(err, ErrGone) {
		return fmt.Errorf("send an error frame: %w", err)
	}
	return nil
}

// Cut removes the connection and closes it.
func (s *Service) Cut(ctx context.Context, id string) error {
	return errors.Join(s.Connections.Remove(ctx, id), s.Sender.Cut(ctx, id))
}

// sendFrame sends one frame. If the client is gone, it removes the connection.
func (s *Service) sendFrame(ctx context.Context, c Connection, f frame) error {
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("%s frame: %w", f.Type, err)
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
