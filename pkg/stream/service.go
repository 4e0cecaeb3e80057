package stream

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// Service answers clients and delivers to them. Every field is required. It is
// safe for concurrent use.
type Service struct {
	Segments    Log
	Connections Connections
	Reader      Reader
	Sender      Sender
	Queue       Queue // what it sends there comes back to Deliver
	Tenants     Tenants
	Cursors     *cursor.Signer
	Now         func() time.Time
	Random      func(b []byte) // fills b with random bytes
	Log         *slog.Logger   // gets what happens to connections, never content
}

const (
	// leaseTime is for how long a connection is left alone where whoever holds its
	// lease was killed. It is longer than a few frames can take.
	leaseTime = 15 * time.Second
	// renewAfter is when a holder that is still at work saves how far it has come.
	renewAfter = leaseTime / 3
	// leasePatience is how long a client's message waits for a delivery to end.
	leasePatience = 2 * deliveryTime
	leasePoll     = 20 * time.Millisecond
)

// Connect keeps a connection that is about to be made. The principal has been
// verified, and authorised for access.LogsStream in the tenant. The error is
// audit.ErrUnauthenticated where the credential has just ended.
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
		return fmt.Errorf("connect: the credential has ended: %w", audit.ErrUnauthenticated)
	}
	if err := s.Connections.Create(ctx, c); err != nil {
		return fmt.Errorf("connect to %s: %w", tenant, err)
	}
	return nil
}

// Disconnect forgets a connection that has ended.
func (s *Service) Disconnect(ctx context.Context, id string, _ []byte) error {
	if err := s.Connections.Remove(ctx, id); err != nil {
		return fmt.Errorf("disconnect: %w", err)
	}
	return nil
}

// Subscribe starts the stream that the client asks for, in the place of the one
// it had. What is wrong with the message is an *audit.ValidationError; a
// connection that is over is audit.ErrNotFound.
func (s *Service) Subscribe(ctx context.Context, id string, body []byte) error {
	message, err := parseSubscribe(body)
	if err != nil {
		return err
	}
	c, holder, err := s.hold(ctx, id)
	if err != nil {
		return err
	}
	subscribed, err := s.subscription(ctx, c, message)
	if err == nil {
		err = s.Connections.Save(ctx, id, holder, &subscribed, s.Now().Add(leaseTime))
	}
	if err == nil {
		err = s.tell(ctx, c, frame{Type: "subscribed", Cursor: s.cursor(c.Tenant, subscribed.At)})
	}
	if err = errors.Join(err, s.release(ctx, c, holder)); err != nil {
		return err
	}
	// What was appended in between found no subscription, and what the cursor asks
	// for is to be replayed.
	return s.again(ctx, c, 0)
}

// subscription is what the message asks for, from its place on.
func (s *Service) subscription(ctx context.Context, c Connection, message subscribe) (Subscription, error) {
	// The connection's last cursor has to be good for Keep as well.
	head, err := s.Segments.Open(ctx, c.Tenant, c.ExpiresAt.Add(Keep))
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
		return Subscription{}, audit.Invalid("/after", "expired", "must be a cursor of the last %d hours; what came before can be searched", int(Keep.Hours()))
	}
	if err != nil {
		return Subscription{}, fmt.Errorf("subscribe to %s: %w", c.Tenant, err)
	}
	return wanted, nil
}

// Unsubscribe ends the client's stream.
func (s *Service) Unsubscribe(ctx context.Context, id string, body []byte) error {
	if err := parseBare(body); err != nil {
		return err
	}
	c, holder, err := s.hold(ctx, id)
	if err != nil {
		return err
	}
	if err = s.Connections.Save(ctx, id, holder, nil, s.Now().Add(leaseTime)); err == nil {
		err = s.tell(ctx, c, frame{Type: "unsubscribed"})
	}
	return errors.Join(err, s.release(ctx, c, holder))
}

// Ping answers that the connection lives, and how far its stream has come. A
// connection that is over is audit.ErrNotFound.
func (s *Service) Ping(ctx context.Context, id string, body []byte) error {
	if err := parseBare(body); err != nil {
		return err
	}
	c, err := s.Connections.Connection(ctx, id)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if err := s.stillGood(c); err != nil {
		return err
	}
	pong := frame{Type: "pong"}
	if c.Subscription != nil {
		pong.Cursor = s.cursor(c.Tenant, c.Subscription.At)
	}
	if err := s.tell(ctx, c, pong); err != nil || c.Subscription == nil {
		return err
	}
	// A delivery that was killed is taken up here at the latest.
	head, err := s.Segments.Head(ctx, c.Tenant)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if head > c.Subscription.At.Segment {
		return s.again(ctx, c, 0)
	}
	return nil
}

// Refuse is what a message gets that asks for nothing known: an *audit.ValidationError.
func (s *Service) Refuse(_ context.Context, _ string, body []byte) error {
	if !jsontext.Value(body).IsValid() {
		return audit.Invalid("", "invalid_json", "must be a JSON object")
	}
	return audit.Invalid("/action", "invalid_choice", "must be one of %s", strings.Join(actions, ", "))
}

// Fail tells the client what is wrong with its message; problem is the JSON text
// of a problem document. A client that is gone is no error.
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

// Cut ends a connection that is over.
func (s *Service) Cut(ctx context.Context, id string) error {
	return errors.Join(s.Connections.Remove(ctx, id), s.Sender.Cut(ctx, id))
}

// hold takes the connection's lease, and waits for it where a delivery has it.
func (s *Service) hold(ctx context.Context, id string) (c Connection, holder string, err error) {
	holder = s.holder()
	ctx, cancel := context.WithTimeout(ctx, leasePatience)
	defer cancel()
	for {
		c, acquired, err := s.Connections.Acquire(ctx, id, holder, s.Now().Add(leaseTime))
		if err != nil {
			return Connection{}, "", fmt.Errorf("hold the connection: %w", err)
		}
		if acquired {
			if err := s.stillGood(c); err != nil {
				return Connection{}, "", errors.Join(err, s.release(ctx, c, holder))
			}
			return c, holder, nil
		}
		select {
		case <-ctx.Done():
			return Connection{}, "", &audit.UnavailableError{Err: errors.New("the connection is being sent to")}
		case <-time.After(leasePoll):
		}
	}
}

// stillGood returns audit.ErrNotFound where the connection's time is over, and
// audit.ErrForbidden where its principal may not listen.
func (s *Service) stillGood(c Connection) error {
	if !s.Now().Before(c.ExpiresAt) {
		return fmt.Errorf("the connection's time is over: %w", audit.ErrNotFound)
	}
	_, err := c.Principal.Authorize(c.Tenant, access.LogsStream)
	return err
}

// release gives a lease back. Somebody who asked for it meanwhile had something to
// deliver: a wish follows, sent when it cannot find the lease taken any more.
func (s *Service) release(ctx context.Context, c Connection, holder string) error {
	asked, err := s.giveUp(ctx, c.ID, holder)
	if err != nil || !asked {
		return err
	}
	return s.again(ctx, c, 0)
}

// giveUp gives a lease back for good, and says whether somebody asked for it, who
// counts on the holder.
func (s *Service) giveUp(ctx context.Context, id, holder string) (asked bool, err error) {
	for {
		released, err := s.Connections.Release(ctx, id, holder)
		if err != nil || released {
			return asked, err
		}
		asked = true
	}
}

// holder returns a new name for whoever holds a lease.
func (s *Service) holder() string {
	var b [8]byte
	s.Random(b[:])
	return hex.EncodeToString(b[:])
}

// tell sends one frame; a client that is gone is forgotten.
func (s *Service) tell(ctx context.Context, c Connection, f frame) error {
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
