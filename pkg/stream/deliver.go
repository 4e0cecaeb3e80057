package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// deliveryTime is how long one connection is sent to in one go, so that a long
	// replay does not keep others waiting.
	deliveryTime = 3 * time.Second
	// breath is for how long no delivery takes a connection whose turn is over where
	// somebody waits for it: a client's message asks every leasePoll.
	breath = 10 * leasePoll
	// afterBreath is when the queue has a delivery go on then; SQS makes a second of it.
	afterBreath = 2 * breath
	// atOnce is how many connections are sent to at once.
	atOnce = 32
	// readSegments is how many segments are read at once.
	readSegments = 16
	// MaxBehind is how many segments a live stream may be behind before it leaves
	// out what is between: some hundred thousand entries at most.
	MaxBehind = 2000
	// maxTries is how often in a row a client is too slow before it is cut: about a minute.
	maxTries = 7
	minRetry = time.Second
	maxRetry = 15 * time.Second
	// clocksDiffer is more than the clocks of two workers do: a wish must not come to
	// one who thinks that it is not time yet.
	clocksDiffer = 100 * time.Millisecond
)

// again is the queue message that asks to go on with one connection; its JSON
// Schema is events/schemas/delivery.json.
type again struct {
	Version    int            `json:"v"`
	Tenant     audit.TenantID `json:"tenant"`
	Connection string         `json:"connection"`
}

const againVersion = 1

func (s *Service) again(ctx context.Context, c Connection, delay time.Duration) error {
	body, err := json.Marshal(again{Version: againVersion, Tenant: c.Tenant, Connection: c.ID})
	if err == nil {
		err = s.Queue.SendAfter(ctx, delay, string(body))
	}
	if err != nil {
		return fmt.Errorf("ask for another delivery: %w", err)
	}
	return nil
}

// Deliver handles one queue message body: entries that were stored, or the wish
// to go on with a connection. After nil the message may be deleted; after an
// error it must be delivered again.
func (s *Service) Deliver(ctx context.Context, body string) error {
	var wish again
	if err := json.Unmarshal([]byte(body), &wish); err == nil && wish.Connection != "" {
		if wish.Version != againVersion {
			return fmt.Errorf("deliver: a wish of version %d, known is %d", wish.Version, againVersion)
		}
		return s.unlessGone(ctx, wish.Tenant, func() error {
			return s.deliver(ctx, newWindow(s, wish.Tenant, nil), wish.Connection)
		})
	}
	contents, err := envelope.Unpack(body)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	return s.unlessGone(ctx, contents.Tenant, func() error { return s.deliverNew(ctx, contents) })
}

// unlessGone does what is to be done for a tenant that is there.
func (s *Service) unlessGone(ctx context.Context, id audit.TenantID, do func() error) error {
	gone, err := audit.Gone(s.Tenants.Tenant(ctx, id))
	if err != nil {
		return fmt.Errorf("deliver %s: %w", id, err)
	}
	if gone {
		return nil
	}
	return do()
}

// deliverNew appends entries to their tenant's stream and sends them on.
func (s *Service) deliverNew(ctx context.Context, contents envelope.Contents) error {
	ids := make([]audit.EntryID, len(contents.Entries))
	for i := range contents.Entries {
		ids[i] = contents.Entries[i].ID
	}
	if err := s.Segments.Append(ctx, contents.Tenant, ids); err != nil {
		return fmt.Errorf("append %d entries to the stream of %s: %w", len(ids), contents.Tenant, err)
	}
	if err := s.deliverAll(ctx, contents.Tenant, contents.Entries); err != nil {
		return err
	}
	if len(contents.Poison) > 0 { // the step before passes none on: the message was damaged
		return fmt.Errorf("deliver %s: %d entries: %w: %s", contents.Tenant, len(contents.Poison), audit.ErrUnreadable, contents.Poison[0].Reason)
	}
	return nil
}

// deliverAll sends to every subscriber of the tenant, each by itself.
func (s *Service) deliverAll(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
	ids, err := s.Connections.Subscribed(ctx, tenant)
	if err != nil {
		return fmt.Errorf("find the subscribers of %s: %w", tenant, err)
	}
	var (
		w       = newWindow(s, tenant, entries)
		failed  = make([]error, len(ids))
		running sync.WaitGroup
		free    = make(chan struct{}, atOnce)
	)
	for i, id := range ids {
		free <- struct{}{}
		running.Go(func() {
			defer func() { <-free }()
			failed[i] = s.deliver(ctx, w, id)
		})
	}
	running.Wait()
	return errors.Join(failed...)
}

// deliver sends the connection what it has not got, unless somebody is at it:
// then they will look again.
func (s *Service) deliver(ctx context.Context, w *window, id string) error {
	d := &delivery{Service: s, window: w, holder: s.holder(), ends: s.Now().Add(deliveryTime)}
	for {
		c, acquired, err := s.Connections.Acquire(ctx, id, d.holder, s.Now().Add(leaseTime))
		if errors.Is(err, audit.ErrNotFound) {
			return nil
		}
		if err == nil && !acquired {
			return s.countOn(ctx, id)
		}
		asked := false
		if err == nil {
			d.Connection, d.saved = c, s.Now()
			asked, err = d.turn(ctx)
		}
		if err != nil {
			return fmt.Errorf("deliver to a subscriber of %s: %w", w.tenant, err)
		}
		if !asked {
			return nil
		}
	}
}

// countOn leaves what there is to deliver to whoever has the lease. One who was
// killed before they had the queue look after the connection would take it with
// them, so that where no look is due the queue makes one after the lease.
func (s *Service) countOn(ctx context.Context, id string) error {
	c, err := s.Connections.Connection(ctx, id)
	if errors.Is(err, audit.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at who delivers: %w", err)
	}
	if c.Subscription == nil || c.Subscription.WatchedUntil.After(s.Now()) {
		return nil
	}
	return s.again(ctx, c, leaseTime+clocksDiffer)
}

// delivery is one worker's time with one connection, whose lease it has.
type delivery struct {
	*Service
	Connection
	window *window
	holder string
	ends   time.Time
	saved  time.Time // when the lease was taken or something was saved last
}

// turn sends what there is and gives the lease back, but for where somebody asked
// for it and there is time to look again.
//
// Whoever asked is gone and counts on the holder. So the lease is given back for
// good only where the holder looked after they asked, or where a wish follows: the
// message that is handled, which comes again after an error, or one that is sent
// after the lease was given back. One that was sent before could be handled
// before, find the lease taken and be forgotten together with who asked. Where
// the holder is killed in between, the wish of watch is due after its lease.
func (d *delivery) turn(ctx context.Context) (asked bool, err error) {
	left, err := d.run(ctx)
	if err = d.settle(ctx, err); err != nil {
		return false, d.abandon(ctx, err)
	}
	released, err := d.Connections.Release(ctx, d.ID, d.holder)
	switch {
	case err != nil:
		return false, d.abandon(ctx, err)
	case released && left:
		return false, d.again(ctx, d.Connection, 0)
	case !released && d.over():
		return false, d.yield(ctx)
	}
	return !released, nil
}

// abandon gives the lease back after a failure, so that the message finds it free
// when it comes again. Where that fails as well, a wish comes when the lease is over.
func (d *delivery) abandon(ctx context.Context, failure error) error {
	err := d.release(ctx, d.Connection, d.holder)
	if err != nil {
		err = errors.Join(err, d.again(ctx, d.Connection, leaseTime+clocksDiffer))
	}
	return errors.Join(failure, err)
}

// over reports whether it is another's turn.
func (d *delivery) over() bool { return d.Now().After(d.ends) }

// yield leaves the connection to who asked for it, if that was a client's message,
// and has the queue go on for all others.
func (d *delivery) yield(ctx context.Context) error {
	var err error
	if until := d.Now().Add(breath); d.Subscription != nil && d.Subscription.RetryAt.Before(until) {
		d.Subscription.RetryAt = until
		err = d.settle(ctx, d.save(ctx))
	}
	if err == nil {
		_, err = d.giveUp(ctx, d.ID, d.holder)
	}
	if err != nil {
		return d.abandon(ctx, err)
	}
	return d.again(ctx, d.Connection, afterBreath)
}

// The ends of a delivery that are no failures of the service; ErrGone is another.
var (
	// errNotTaken says that the gateway did not take a frame.
	errNotTaken = errors.New("the frame was not taken")
	// errLost says that somebody else has the lease, who goes on from what was saved last.
	errLost = errors.New("the lease is lost")
	// errOver says that the subscription is not good any more.
	errOver = errors.New("the subscription is over")
)

// settle does what the end of a delivery asks for.
func (d *delivery) settle(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrGone):
		return d.Connections.Remove(ctx, d.ID)
	case errors.Is(err, errLost):
		return nil
	case errors.Is(err, errOver):
		return d.cut(ctx, "its subscription is not good any more")
	case errors.Is(err, errNotTaken):
		return d.later(ctx)
	}
	return err
}

// run sends what there is, as long as there is time; left is true where that was
// too short.
func (d *delivery) run(ctx context.Context) (left bool, err error) {
	if d.Tenant != d.window.tenant {
		return false, errors.New("the connection is of another tenant")
	}
	sub := d.Subscription
	if sub == nil || d.Now().Before(sub.RetryAt) {
		return false, nil
	}
	filter, err := d.filter()
	if err != nil {
		return false, errors.Join(errOver, err)
	}
	for {
		before := sub.At
		more, err := d.step(ctx, filter)
		if sub.At != before {
			err = errors.Join(err, d.save(ctx))
		}
		if err != nil {
			return false, err
		}
		if !more || d.over() {
			return more, nil
		}
	}
}

// filter is what the subscriber may and wants to see.
func (d *delivery) filter() (audit.Filter, error) {
	if err := d.stillGood(d.Connection); err != nil {
		return audit.Filter{}, err
	}
	scope, err := d.Principal.Authorize(d.Tenant, access.LogsStream)
	if err != nil {
		return audit.Filter{}, err
	}
	filter, err := search.ParseFilter(d.Subscription.Filter)
	filter.Where = audit.All(filter.Where, scope.Expr())
	return filter, err
}

// step sends the next segments, at least one frame of them, as long as there is
// time, and moves the position; more is false at the end of the stream.
func (d *delivery) step(ctx context.Context, filter audit.Filter) (more bool, err error) {
	segments, err := d.window.after(ctx, d.Subscription.At.Segment)
	if errors.Is(err, ErrExpired) {
		return true, d.skip(ctx)
	}
	if err != nil || len(segments) == 0 {
		return false, err
	}
	if err := d.watch(ctx); err != nil {
		return false, err
	}
	if len(segments) == readSegments {
		if behind, err := d.behind(ctx); err != nil || behind {
			return true, errors.Join(err, d.skipIf(ctx, behind))
		}
	}
	for _, segment := range segments {
		if err := d.sendSegment(ctx, segment, filter); err != nil {
			return false, err
		}
		if d.over() {
			break
		}
	}
	return true, nil
}

// watch has the queue look after the connection once a lease that begins now is
// over, whatever becomes of this delivery; once for many of them.
func (d *delivery) watch(ctx context.Context) error {
	now := d.Now()
	if d.Subscription.WatchedUntil.After(now.Add(leaseTime + clocksDiffer)) {
		return nil
	}
	err := d.again(ctx, d.Connection, 2*leaseTime)
	if err == nil {
		d.Subscription.WatchedUntil = now.Add(2 * leaseTime)
	}
	return err
}

// behind reports whether the stream has fallen so far behind that it is not live.
func (d *delivery) behind(ctx context.Context) (bool, error) {
	head, err := d.Segments.Head(ctx, d.Tenant)
	return head-max(d.Subscription.At.Segment, d.Subscription.Replay) > MaxBehind, err
}

func (d *delivery) skipIf(ctx context.Context, behind bool) error {
	if !behind {
		return nil
	}
	return d.skip(ctx)
}

// skip goes on at the head of the stream and tells the client where it left off.
func (d *delivery) skip(ctx context.Context) error {
	head, err := d.Segments.Head(ctx, d.Tenant)
	if err != nil {
		return err
	}
	text, err := json.Marshal(frame{Type: "lagged", Cursor: d.cursor(d.Tenant, d.Subscription.At)})
	if err != nil {
		return err
	}
	if err := d.send(ctx, text); err != nil {
		return err
	}
	d.Subscription.At, d.Subscription.Replay = Position{Segment: head}, head
	return nil
}

// sendSegment sends the segment's entries from the position on, as long as there is time.
func (d *delivery) sendSegment(ctx context.Context, segment Segment, filter audit.Filter) error {
	candidates, err := d.window.candidates(ctx, segment)
	if err != nil {
		return err
	}
	var b batch
	for i := d.Subscription.At.Within; i < len(segment.IDs); i++ {
		c := candidates[segment.IDs[i]]
		if c == nil || !c.Matches(filter) { // nil: it was deleted meanwhile
			continue
		}
		item := itemOf(&c.Entry)
		if !b.fits(item) {
			if err := d.sendBatch(ctx, &b, Position{Segment: segment.Number - 1, Within: i}); err != nil || d.over() {
				return err
			}
		}
		b.add(item)
	}
	return d.sendBatch(ctx, &b, Position{Segment: segment.Number})
}

// sendBatch sends what the batch has and moves the position.
func (d *delivery) sendBatch(ctx context.Context, b *batch, to Position) error {
	if len(b.items) > 0 {
		if err := d.send(ctx, b.text(d.cursor(d.Tenant, to))); err != nil {
			return err
		}
		b.items = b.items[:0]
		d.Subscription.Tries = 0
	}
	d.Subscription.At = to
	if d.Now().Sub(d.saved) > renewAfter {
		return d.save(ctx)
	}
	return nil
}

// send is Sender.Send; what it fails with is ErrGone or errNotTaken.
func (d *delivery) send(ctx context.Context, text []byte) error {
	err := d.Sender.Send(ctx, d.ID, text)
	if err == nil || errors.Is(err, ErrGone) {
		return err
	}
	if !errors.Is(err, ErrBusy) {
		d.Log.WarnContext(ctx, "a frame was not taken", "tenant", d.Tenant, "error", err)
	}
	return errors.Join(errNotTaken, err)
}

// later puts the rest off, or cuts a client that has been too slow for too long.
func (d *delivery) later(ctx context.Context) error {
	sub := d.Subscription
	if sub.Tries++; sub.Tries > maxTries {
		return d.cut(ctx, "it was too slow for too long")
	}
	delay := backoff.Policy{First: minRetry, Max: maxRetry}.Delay(sub.Tries)
	sub.RetryAt = d.Now().Add(delay - clocksDiffer)
	if err := d.save(ctx); err != nil {
		return d.settle(ctx, err)
	}
	return d.again(ctx, d.Connection, delay)
}

// save keeps how far the subscription has come, and the lease, after which
// somebody looks.
func (d *delivery) save(ctx context.Context) error {
	now := d.Now()
	watched := d.watch(ctx)
	err := d.Connections.Save(ctx, d.ID, d.holder, d.Subscription, now.Add(leaseTime))
	if errors.Is(err, audit.ErrPrecondition) || errors.Is(err, audit.ErrNotFound) {
		return errLost
	}
	if err != nil {
		return errors.Join(watched, fmt.Errorf("save a subscription of %s: %w", d.Tenant, err))
	}
	d.saved = now
	return watched
}

// cut ends the connection: its client comes back, with its cursor.
func (d *delivery) cut(ctx context.Context, why string) error {
	d.Log.InfoContext(ctx, "a connection is cut", "tenant", d.Tenant, "why", why)
	return d.Cut(ctx, d.ID)
}
