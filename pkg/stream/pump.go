package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

const (
	// TurnTime bounds the time for which one message sends, so that other tenants have their
	// turn. What is pending then has a message of its own.
	TurnTime = 5 * time.Second
	// Linger is how long a pump waits for more entries after the last ones.
	Linger = 750 * time.Millisecond
	// saveEvery is the interval in which positions are saved. After a pump was killed, what it
	// sent since is sent again.
	saveEvery = time.Second
	// lookEvery is the interval in which a pump looks for changes of subscriptions.
	lookEvery = 200 * time.Millisecond
	// minPoll and maxPoll bound the interval in which a pump looks for entries. It is short
	// after entries, and doubles.
	minPoll = 20 * time.Millisecond
	maxPoll = 160 * time.Millisecond
	// stopTime is how long a pump waits for a frame that is being sent when its time is up. The
	// other subscribers wait as long.
	stopTime = 200 * time.Millisecond
	// loadsAtOnce is how many subscribers that are behind read entries at the same time.
	loadsAtOnce = 4
)

// WritesPerSecond is about how many writes a tenant's stream costs while entries arrive all the
// time, for all of its subscribers: those of saveEvery, and three for each pump.
const WritesPerSecond = float64(time.Second)/float64(saveEvery) + 3*float64(time.Second)/float64(TurnTime)

// ReadsPerSecond is about how many reads a pump makes for all subscribers of its tenant: of the
// end of the log, and of the state of the stream. With, entries come all the time, and without,
// none come. The entries themselves are read once in addition.
func ReadsPerSecond() (with, without float64) {
	looks := float64(time.Second) / float64(lookEvery)
	return looks + float64(time.Second)/float64(minPoll), looks + float64(time.Second)/float64(maxPoll)
}

// Deliver handles the body of one queue message, which asks to look at the stream of a tenant.
// After nil the message may be deleted. After an error it must be delivered again.
// docs/design/stream-delivery.md shows the states of a stream.
func (s *Service) Deliver(ctx context.Context, body string) error {
	id, traces, err := envelope.UnpackNudge(body)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	ctx = trace.WithFirst(ctx, traces)
	tenant, err := s.Tenants.Tenant(ctx, id)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return fmt.Errorf("deliver to %s: %w", id, err)
	}
	if deleted {
		return nil
	}
	deadline := s.Now().Add(TurnTime)
	for again := true; again; {
		if again, err = s.pump(ctx, id, traces, deadline); err != nil {
			return fmt.Errorf("deliver to %s: %w", id, err)
		}
		if again && !s.Now().Before(deadline) {
			return s.nudge(ctx, id, 0)
		}
	}
	return nil
}

// pump sends what the tenant's subscribers have not received, unless another worker does. It
// reports whether something came after its last look.
//
// A worker that finds the lease taken returns at once, as order-logs does. The holder looks at
// the log once more after it has released the lease, so it sees every entry that had its place
// before. If the holder is killed, the message that watch sent looks after the lease.
func (s *Service) pump(ctx context.Context, tenant audit.TenantID, traces []trace.Trace, deadline time.Time) (again bool, err error) {
	state, err := s.Streams.Stream(ctx, tenant)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil // it has no subscribers
	}
	if err != nil {
		return false, err
	}
	if state.LeasedUntil.After(s.Now()) {
		return false, nil
	}
	pending, err := s.pending(ctx, tenant, &state)
	if err != nil {
		return false, err
	}
	if !pending {
		return false, s.checkConnections(ctx, tenant)
	}
	watched, err := s.watch(ctx, tenant, state.WatchedUntil) // before the lease, which is never without it
	if err != nil {
		return false, err
	}
	holder := s.newID()
	state, acquired, err := s.Streams.Acquire(ctx, tenant, holder, s.Now().Add(leaseTime), watched)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return false, nil
	case err != nil || !acquired:
		return false, err
	}
	p := &pump{
		Service: s, tenant: tenant, holder: holder, deadline: deadline, state: state, savedAt: s.Now(), lookedAt: s.Now(),
		tail: newTail(s, tenant), boxes: map[string]*outbox{}, loads: make(chan struct{}, loadsAtOnce),
	}
	defer s.report(ctx, tenant, traces, p.savedAt, &p.delivery)
	return p.run(ctx)
}

// pending reports whether a stream may have something to send. It costs no write, so that a
// message of watch that comes after everything was sent costs next to nothing.
func (s *Service) pending(ctx context.Context, tenant audit.TenantID, state *State) (bool, error) {
	if state.Rest.Changes != state.Changes {
		return true, nil
	}
	head, err := s.Arrivals.Head(ctx, tenant)
	return head.Last > state.Rest.Place, err
}

// pump is the work of one worker on the stream of one tenant while it holds the lease.
type pump struct {
	*Service
	tenant   audit.TenantID
	holder   string
	deadline time.Time

	state    State // as it was read and saved last
	tail     *tail
	delivery delivery
	boxes    map[string]*outbox // by the ids of connections
	retired  []*outbox          // those of connections that are not subscribed any more
	loads    chan struct{}      // has an element for each subscriber that reads entries by itself
	savedAt  time.Time          // when the lease was acquired or renewed last
	lookedAt time.Time          // when the state was read last
	activeAt time.Time          // when entries or subscriptions came last
}

// errLeaseLost says that another worker may hold the lease, or that the stream was closed. The
// other continues from the saved positions.
var errLeaseLost = errors.New("the lease is lost")

// run sends until nothing is pending or the time is up, saves the positions and releases the
// lease.
func (p *pump) run(ctx context.Context) (again bool, err error) {
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pending, err := p.work(bounded)
	p.stop(cancel, err != nil)
	if errors.Is(err, errLeaseLost) {
		return false, nil
	}
	saveErr := p.saveChanges(ctx)
	if errors.Is(saveErr, errLeaseLost) {
		return false, nil
	}
	if err = errors.Join(err, p.failure(), saveErr); err != nil { // the message finds the lease free when it is delivered again
		return false, errors.Join(err, p.Streams.Release(ctx, p.tenant, p.holder, Rest{}))
	}
	return p.leave(ctx, pending)
}

// leave gives the lease back and reports whether something came after the last look. What is
// pending gets a message of its own. It is sent after the release: a message before it could
// find the lease taken and be lost.
func (p *pump) leave(ctx context.Context, pending bool) (again bool, err error) {
	if len(p.boxes) == 0 {
		if err := p.Streams.Close(ctx, p.tenant, p.holder, p.state.Changes); err != nil {
			return false, err
		}
	}
	retryAt, rest := p.retryAt(), Rest{}
	if !pending && retryAt.IsZero() {
		rest = Rest{Changes: p.state.Changes, Place: p.tail.end()}
	}
	if err := p.Streams.Release(ctx, p.tenant, p.holder, rest); err != nil {
		return false, err
	}
	switch {
	case pending:
		return false, errors.Join(p.nudge(ctx, p.tenant, 0), p.checkConnections(ctx, p.tenant))
	case !retryAt.IsZero():
		err = p.nudge(ctx, p.tenant, max(0, retryAt.Sub(p.Now()))+maxClockSkew)
	}
	if err == nil {
		err = p.checkConnections(ctx, p.tenant)
	}
	if err != nil {
		return false, err
	}
	return p.missed(ctx)
}

// missed reports whether entries or subscriptions came after the last look. The lease is free.
func (p *pump) missed(ctx context.Context) (bool, error) {
	state, err := p.Streams.Stream(ctx, p.tenant)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	head, err := p.Arrivals.Head(ctx, p.tenant)
	return head.Last > p.tail.end() || state.Changes != p.state.Changes, err
}

// work sends until nothing is pending or the time is up. It reports whether something is
// pending.
func (p *pump) work(ctx context.Context) (pending bool, err error) {
	if err := p.load(ctx); err != nil {
		return false, err
	}
	for poll := minPoll; ; poll = min(2*poll, maxPoll) {
		grown, err := p.look(ctx)
		if err != nil {
			return false, err
		}
		if grown {
			poll = minPoll
		}
		rest := p.tend(ctx)
		switch now := p.Now(); {
		case p.failure() != nil:
			return false, p.failure()
		case !now.Before(p.deadline):
			return !rest || now.Sub(p.activeAt) < Linger, nil
		case len(p.boxes) == 0, rest && now.Sub(p.activeAt) >= Linger:
			return false, nil
		}
		if err := p.Pause(ctx, poll); err != nil {
			return false, err
		}
	}
}

// look looks for new entries and changes of subscriptions, and saves the positions once in a
// while. It reports whether there are new entries.
func (p *pump) look(ctx context.Context) (grown bool, err error) {
	head, err := p.Arrivals.Head(ctx, p.tenant)
	if err != nil {
		return false, err
	}
	if grown = p.tail.raise(head.Last); grown {
		p.activeAt = p.Now()
	}
	if p.Now().Sub(p.lookedAt) >= lookEvery {
		if err := p.lookForChanges(ctx); err != nil {
			return false, err
		}
	}
	since := p.Now().Sub(p.savedAt)
	if since < saveEvery {
		return grown, nil
	}
	if progress := p.progress(); since >= renewAfter || !maps.Equal(progress, p.state.Progress) {
		return grown, p.save(ctx, progress)
	}
	return grown, nil
}

// lookForChanges reads the subscriptions again if they have changed.
func (p *pump) lookForChanges(ctx context.Context) error {
	state, err := p.Streams.Stream(ctx, p.tenant)
	if errors.Is(err, audit.ErrNotFound) { // its tenant is being deleted
		return errLeaseLost
	}
	if err != nil {
		return err
	}
	p.lookedAt = p.Now()
	if state.Changes == p.state.Changes {
		return nil
	}
	p.state.Changes = state.Changes
	return p.load(ctx)
}

// load reads the subscriptions. It starts those that are new and ends those that are no more.
func (p *pump) load(ctx context.Context) error {
	connections, err := p.Connections.Subscribed(ctx, p.tenant)
	if err != nil {
		return fmt.Errorf("find the subscribers of %s: %w", p.tenant, err)
	}
	found := make(map[string]bool, len(connections))
	for _, c := range connections {
		found[c.ID] = true
		old := p.boxes[c.ID]
		if old != nil && old.Subscription.ID == c.Subscription.ID {
			continue
		}
		box := newOutbox(p, c, old)
		p.boxes[c.ID] = box
		if !box.status().Announced {
			p.activeAt = p.Now() // entries often follow a subscription
		}
	}
	for id, box := range p.boxes {
		if !found[id] {
			box.stop()
			p.retired = append(p.retired, box)
			delete(p.boxes, id)
		}
	}
	p.tail.start(p.boxes)
	return nil
}

// tend starts what is due and drops what has ended. It reports whether nothing is pending: each
// subscriber has everything, or is to be tried again later.
func (p *pump) tend(ctx context.Context) (rest bool) {
	rest = true
	now, head := p.Now(), p.tail.end()
	for id, box := range p.boxes {
		switch state := box.status(); {
		case state.err != nil: // see failure
		case state.ended && !state.running:
			delete(p.boxes, id)
		case state.running:
			rest = rest && state.waiting && state.Place >= head
		case now.Before(state.RetryAt):
		case now.Before(p.deadline):
			box.start(ctx)
			rest = false
		}
	}
	return rest
}

// progress returns the progress of all subscriptions that have begun.
func (p *pump) progress() map[string]Progress {
	all := make(map[string]Progress, len(p.boxes))
	for _, box := range p.boxes {
		if state := box.status(); !state.ended && (state.Announced || state.Tries > 0) {
			all[box.Subscription.ID] = state.Progress
		}
	}
	return all
}

// failure returns an error of the service with which a subscriber's delivery ended.
func (p *pump) failure() error {
	for _, box := range p.boxes {
		if err := box.status().err; err != nil {
			return err
		}
	}
	return nil
}

// errLate is the cause of the end of a frame that took too long when the pump's time was up.
var errLate = errors.New("the client is slow")

// stop ends all deliveries after their current frame. A frame that takes too long, or any frame
// after a failure, is cut short: another pump sends it again.
func (p *pump) stop(cancel context.CancelCauseFunc, failed bool) {
	for _, box := range p.boxes {
		box.stop()
	}
	if failed {
		cancel(nil)
	}
	timer := time.AfterFunc(stopTime, func() { cancel(errLate) })
	defer timer.Stop()
	for _, box := range p.boxes {
		box.wait()
	}
	for _, box := range p.retired {
		box.wait()
	}
}

// saveChanges saves the positions if any has changed.
func (p *pump) saveChanges(ctx context.Context) error {
	progress := p.progress()
	if maps.Equal(progress, p.state.Progress) {
		return nil
	}
	return p.save(ctx, progress)
}

// save stores the positions and renews the lease.
func (p *pump) save(ctx context.Context, progress map[string]Progress) error {
	now := p.Now()
	watched, err := p.watch(ctx, p.tenant, p.state.WatchedUntil)
	if err != nil {
		return err
	}
	err = p.Streams.Save(ctx, p.tenant, p.holder, progress, now.Add(leaseTime), watched)
	if errors.Is(err, audit.ErrPrecondition) {
		return errLeaseLost
	}
	if err != nil {
		return err
	}
	p.savedAt, p.state.Progress, p.state.WatchedUntil = now, progress, watched
	return nil
}

// retryAt returns when the first of the slow subscribers is to be tried again; zero: there is none.
func (p *pump) retryAt() (first time.Time) {
	for _, box := range p.boxes {
		if at := box.status().RetryAt; !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// settings returns the tenant's settings. They may be some seconds old.
func (s *Service) settings(ctx context.Context, tenant audit.TenantID) (audit.Settings, error) {
	record, err := s.Tenants.Tenant(ctx, tenant)
	if err != nil {
		return audit.Settings{}, fmt.Errorf("settings of %s: %w", tenant, err)
	}
	return record.Settings, nil
}
