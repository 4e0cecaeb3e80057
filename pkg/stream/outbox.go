package stream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// MaxBehind is how many places a live subscriber may be behind. Beyond that, the stream
	// leaves out what is pending and continues at the end of the log.
	MaxBehind = 100_000
	// maxAttempts is how often in a row a client may be too slow before it is cut: about a minute.
	maxAttempts = 7
	minRetry    = time.Second
	maxRetry    = 15 * time.Second
)

// outbox sends entries to one subscriber. Each has a goroutine of its own, so that a slow
// subscriber does not delay others.
type outbox struct {
	*pump
	Connection
	previous *outbox // of the connection's previous subscription; it ends first
	stopping chan struct{}
	stopOnce sync.Once
	done     chan struct{} // closed at the end of the goroutine; nil: it was not started

	walk  *arrival.Walk // reads what the tail does not have; nil: the tail has it
	limit int           // of the next read of walk

	mu    sync.Mutex
	state boxState
}

// boxState is what a pump has to know about an outbox.
type boxState struct {
	Progress
	running bool
	waiting bool // for entries after Place
	ended   bool // there is nothing to do for this subscription any more
	err     error
}

func newOutbox(p *pump, c Connection, previous *outbox) *outbox {
	o := &outbox{pump: p, Connection: c, previous: previous, stopping: make(chan struct{}), limit: arrival.MaxLoad}
	if previous != nil {
		previous.stop()
	}
	progress, begun := p.state.Progress[c.Subscription.ID]
	if !begun {
		progress = Progress{Place: c.Subscription.After}
	}
	o.state.Progress = progress
	return o
}

// status returns the present state.
func (o *outbox) status() boxState {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

func (o *outbox) set(change func(state *boxState)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.state)
}

// start begins to send.
func (o *outbox) start(ctx context.Context) {
	o.set(func(state *boxState) { state.running = true })
	o.done = make(chan struct{})
	go func() {
		defer close(o.done)
		if o.previous != nil {
			o.previous.wait()
		}
		o.run(ctx)
	}()
}

// stop ends sending after the current frame.
func (o *outbox) stop() { o.stopOnce.Do(func() { close(o.stopping) }) }

// wait waits until sending has ended.
func (o *outbox) wait() {
	switch {
	case o.done != nil:
		<-o.done
	case o.previous != nil:
		o.previous.wait()
	}
}

func (o *outbox) stopped() bool {
	select {
	case <-o.stopping:
		return true
	default:
		return false
	}
}

// The ends of a delivery that are not failures of the service. ErrGone is another.
var (
	// errNotSent says that the gateway did not accept a frame.
	errNotSent = errors.New("the frame was not sent")
	// errSubscriptionEnded says that the subscription must not be served any longer.
	errSubscriptionEnded = errors.New("the subscription has ended")
	// errStopped says that the outbox was stopped.
	errStopped = errors.New("stopped")
)

// run sends until the outbox is stopped or sending fails.
func (o *outbox) run(ctx context.Context) {
	var err error
	if broken := panics.Recovered(ctx, func() error { err = o.deliver(ctx); return nil }); broken != nil {
		err = errors.Join(errSubscriptionEnded, broken) // it would break every pump
	}
	switch {
	case errors.Is(context.Cause(ctx), errLate) && errors.Is(err, errNotSent): // counts as an attempt
		ctx = context.WithoutCancel(ctx)
	case ctx.Err() != nil: // the pump has failed
		err = errStopped
	}
	err = o.finish(ctx, err)
	o.set(func(state *boxState) { state.running, state.waiting, state.err = false, false, err })
}

// finish acts on the error with which sending ended. It returns the error if it is a failure
// of the service.
func (o *outbox) finish(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errStopped):
	case errors.Is(err, ErrGone):
		o.end()
		return o.Connections.Remove(ctx, o.ID)
	case errors.Is(err, errSubscriptionEnded), EndsConnection(err):
		o.close(ctx, err)
	case errors.Is(err, errNotSent):
		o.retryLater(ctx)
	default:
		return err
	}
	return nil
}

func (o *outbox) end() { o.set(func(state *boxState) { state.ended = true }) }

// retryLater plans the next attempt, or cuts a client that was too slow too often.
func (o *outbox) retryLater(ctx context.Context) {
	tries := o.status().Tries + 1
	if tries > maxAttempts {
		o.end()
		o.cutSlow(ctx)
		return
	}
	at := o.Now().Add(backoff.Policy{First: minRetry, Max: maxRetry}.Delay(tries)).UTC().Truncate(time.Millisecond)
	o.set(func(state *boxState) { state.Tries, state.RetryAt = tries, at })
}

// cutSlow closes the connection. Its client is expected to reconnect with its cursor. If that
// fails, the next pump begins with new attempts.
func (o *outbox) cutSlow(ctx context.Context) {
	o.Log.WarnContext(ctx, "a connection is cut", "tenant", o.Tenant, "why", "it was too slow for too long")
	if err := o.cut(ctx, o.ID); err != nil {
		o.Log.WarnContext(ctx, "a connection was not cut", "tenant", o.Tenant, "error", err)
	}
}

// close ends the subscription and the connection.
func (o *outbox) close(ctx context.Context, reason error) {
	o.end()
	o.Service.end(ctx, o.Connection, reason)
}

// deliver sends the entries after the position, until the outbox is stopped.
func (o *outbox) deliver(ctx context.Context) error {
	if o.Subscription.Ended {
		return o.unsubscribed(ctx)
	}
	if o.Tenant != o.tenant {
		return fmt.Errorf("the connection is of another tenant: %w", errSubscriptionEnded)
	}
	view, err := o.view()
	if err != nil {
		return errors.Join(errSubscriptionEnded, err)
	}
	if err := o.announce(ctx); err != nil {
		return err
	}
	for {
		if err := o.skip(ctx); err != nil {
			return err
		}
		part, err := o.next(ctx, view)
		if err != nil {
			return err
		}
		if err := o.sendPart(ctx, part); err != nil {
			return err
		}
	}
}

// sendPart sends the frames of a part and moves the position behind it.
func (o *outbox) sendPart(ctx context.Context, p *part) error {
	for i := range p.frames {
		if o.stopped() {
			return errStopped
		}
		if err := o.send(ctx, p.frames[i].text); err != nil {
			return err
		}
		o.advance(p.frames[i].last)
		o.delivery.add(&p.frames[i], o.Subscription.Replay, o.Now())
	}
	o.advance(p.to)
	if o.stopped() {
		return errStopped
	}
	return nil
}

// view returns the condition of the entries that the subscriber asked for and may see.
func (o *outbox) view() (view, error) {
	scope, err := o.Principal.Authorize(o.Tenant, access.LogsStream)
	if err != nil {
		return view{}, err
	}
	text, err := o.Cursors.Open(placeOf(o.Tenant, o.Subscription.ID), o.Subscription.SealedFilter)
	if err != nil {
		return view{}, err
	}
	query, err := url.ParseQuery(string(text))
	if err != nil {
		return view{}, err
	}
	filter, err := search.ParseFilter(query)
	if err != nil {
		return view{}, err
	}
	filter.Where = audit.All(filter.Where, scope.Expr())
	var key strings.Builder
	fmt.Fprintf(&key, "%q %s", scope.Owner, text)
	for _, r := range scope.Resources {
		fmt.Fprintf(&key, " %q %q", r.Type, r.ID)
	}
	return view{key: key.String(), filter: filter}, nil
}

// announce tells the client that it is subscribed, once.
func (o *outbox) announce(ctx context.Context) error {
	state := o.status()
	if state.Announced {
		return nil
	}
	if err := o.sendFrame(ctx, frame{Type: "subscribed", Cursor: o.cursor(o.Tenant, state.Place)}); err != nil {
		return err
	}
	o.set(func(state *boxState) { state.Announced = true })
	return nil
}

// unsubscribed tells the client that it is not subscribed any more.
func (o *outbox) unsubscribed(ctx context.Context) error {
	if err := o.sendFrame(ctx, frame{Type: "unsubscribed"}); err != nil {
		return err
	}
	o.end()
	return o.Connections.EndSubscription(ctx, o.ID, o.Subscription.ID)
}

// skip leaves out what is pending if the subscriber is too far behind. It reports to the client
// the position after which entries are left out.
func (o *outbox) skip(ctx context.Context) error {
	place, head := o.status().Place, o.tail.end()
	if head-max(place, o.Subscription.Replay) <= MaxBehind {
		return nil
	}
	if err := o.sendFrame(ctx, frame{Type: "lagged", Cursor: o.cursor(o.Tenant, place)}); err != nil {
		return err
	}
	o.walk = nil
	o.advance(head)
	return nil
}

// next waits for entries after the position and returns their frames.
func (o *outbox) next(ctx context.Context, v view) (*part, error) {
	after := o.status().Place
	b, err := o.tail.next(ctx, after, o)
	if err == nil {
		o.walk = nil
		return b.part(v, after, o.cursorOf), nil
	}
	if !errors.Is(err, errBehind) {
		return nil, err
	}
	return o.catchUp(ctx, v, after)
}

// catchUp reads entries that the tail does not have. A bounded number of subscribers does so at
// the same time, so that it bounds the memory.
func (o *outbox) catchUp(ctx context.Context, v view, after int64) (*part, error) {
	select {
	case o.loads <- struct{}{}:
	case <-o.stopping:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-o.loads }()
	if o.walk == nil || o.walk.After != after {
		o.walk = o.newWalk(o.Tenant, after)
	}
	b, err := o.readBatch(ctx, o.walk, o.limit)
	if err != nil {
		return nil, err
	}
	if b.last == after { // the tail is further, so the log was removed: its tenant is being deleted
		return nil, errLeaseLost
	}
	o.limit = nextLimit(b)
	return b.part(v, after, o.cursorOf), nil
}

// cursorOf returns the cursor after a place.
func (o *outbox) cursorOf(place int64) string { return o.cursor(o.Tenant, place) }

// advance moves the position.
func (o *outbox) advance(place int64) {
	o.set(func(state *boxState) { state.Place = max(state.Place, place) })
}

// sendFrame sends a frame without entries.
func (o *outbox) sendFrame(ctx context.Context, f frame) error {
	text, err := f.text()
	if err != nil {
		return err
	}
	return o.send(ctx, text)
}

// send sends one frame. It returns the error of check, or ErrGone or errNotSent if sending
// fails.
func (o *outbox) send(ctx context.Context, text []byte) error {
	if err := o.check(ctx, o.Connection); err != nil { // the entries can have waited long
		return err
	}
	err := o.Sender.Send(ctx, o.ID, text)
	switch {
	case err == nil:
		o.set(func(state *boxState) { state.Tries, state.RetryAt = 0, time.Time{} })
		return nil
	case errors.Is(err, ErrGone):
		return err
	case !errors.Is(err, ErrBusy) && ctx.Err() == nil:
		o.Log.WarnContext(ctx, "a frame was not sent", "tenant", o.Tenant, "error", err)
	}
	return errors.Join(errNotSent, err)
}
