package stream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// maxTailBytes bounds the entries that a tail keeps, unless its last batch has more.
	maxTailBytes = 8 << 20
	// nearTail is how many places a subscriber may be from the tail so that the tail reads them
	// for it.
	nearTail = 2000
	// largeBatch is the size from which on fewer entries are read at once, in bytes.
	largeBatch = 2 << 20
)

// tail reads the end of a tenant's log, once for all subscribers that are there. It keeps the
// last entries that it has read. A subscriber that is further behind reads by itself until it
// has reached the tail.
type tail struct {
	*Service
	tenant audit.TenantID

	mu      sync.Mutex
	changed chan struct{} // closed when anything below changes, and replaced
	head    int64         // of the log, as it was seen last
	walk    *arrival.Walk // nil: start was not called. The goroutine that sets reading uses it
	reading bool
	last    int64    // the last place that was read
	batches []*batch // the last ones, without a gap
	size    int      // of batches, in bytes
}

func newTail(s *Service, tenant audit.TenantID) *tail {
	return &tail{Service: s, tenant: tenant, changed: make(chan struct{})}
}

// start lets the tail begin where most subscribers are, if it has not begun.
func (t *tail) start(boxes map[string]*outbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.walk != nil {
		return
	}
	var places []int64
	for _, o := range boxes {
		if !o.Subscription.Ended {
			places = append(places, o.status().Place)
		}
	}
	if len(places) == 0 {
		return
	}
	front := slices.Max(places)
	near := slices.DeleteFunc(places, func(place int64) bool { return front-place > nearTail })
	t.last = slices.Min(near)
	t.walk = t.newWalk(t.tenant, t.last)
}

// newWalk returns a reader of the tenant's log after a place.
func (s *Service) newWalk(tenant audit.TenantID, after int64) *arrival.Walk {
	return &arrival.Walk{Log: s.Arrivals, Reader: s.Reader, Tenant: tenant, After: after}
}

// end returns the last place of the log, as it was seen last.
func (t *tail) end() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.head
}

// raise tells the tail the last place of the log. It reports whether that is new.
func (t *tail) raise(head int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if head <= t.head {
		return false
	}
	t.head = head
	t.wake()
	return true
}

// wake tells everybody who waits that something has changed. The caller has locked mu.
func (t *tail) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// errBehind says that the tail does not have a place any more.
var errBehind = errors.New("behind the tail")

// next waits for a batch that has the place next to after. It returns errBehind if the tail has
// passed it, and errStopped if the outbox is stopped.
func (t *tail) next(ctx context.Context, after int64, o *outbox) (*batch, error) {
	for {
		b, read, changed, err := t.find(after)
		switch {
		case b != nil || err != nil:
			return b, err
		case read:
			if err := t.read(ctx); err != nil {
				return nil, err
			}
			continue
		}
		o.set(func(state *boxState) { state.waiting = true })
		select {
		case <-changed:
		case <-o.stopping:
			return nil, errStopped
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		o.set(func(state *boxState) { state.waiting = false })
	}
}

// find returns the batch that has the place next to after. Otherwise the caller has to read
// the next batch, or to wait until changed is closed.
func (t *tail) find(after int64) (b *batch, read bool, changed <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.batches) - 1; i >= 0; i-- {
		if b := t.batches[i]; b.after <= after && after < b.last {
			return b, false, nil, nil
		}
	}
	switch {
	case t.reading:
		return nil, false, t.changed, nil
	case after < t.last:
		return nil, false, nil, errBehind
	case after >= t.head:
		return nil, false, t.changed, nil
	case after > t.last+nearTail:
		t.walk, t.last, t.batches, t.size = t.newWalk(t.tenant, after), after, nil, 0
	}
	t.reading = true
	return nil, true, nil, nil
}

// read reads the next batch. The caller has set reading.
func (t *tail) read(ctx context.Context) error {
	b, err := t.readBatch(ctx, t.walk, t.limit())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading = false
	switch {
	case err != nil:
	case b.after == b.last: // the log is shorter than its head says: it was removed
		t.head = b.last
	default:
		t.last, t.batches, t.size = b.last, append(t.batches, b), t.size+b.size
		for t.size > maxTailBytes && len(t.batches) > 1 {
			t.size -= t.batches[0].size
			t.batches = t.batches[1:]
		}
	}
	t.wake()
	return err
}

// limit returns how many places to read next.
func (t *tail) limit() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.batches) == 0 {
		return arrival.MaxLoad
	}
	return nextLimit(t.batches[len(t.batches)-1])
}

// nextLimit returns how many places to read after a batch. Large entries are read a few at a time.
func nextLimit(b *batch) int {
	if b.size > largeBatch {
		return arrival.MaxLoad / 8
	}
	return arrival.MaxLoad
}

// readBatch reads the next places of a log. Only visible entries are in the batch.
func (s *Service) readBatch(ctx context.Context, walk *arrival.Walk, limit int) (*batch, error) {
	b := &batch{after: walk.After, parts: map[string]*part{}}
	settings, err := s.settings(ctx, walk.Tenant)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	places, err := walk.Next(ctx, limit)
	if err != nil {
		return nil, err
	}
	b.last = walk.After
	for _, p := range places {
		if e := p.Entry; e != nil && settings.IsVisible(e, now) {
			b.size += sizeOf(e)
			b.entries = append(b.entries, placed{
				place: p.Number, Candidate: search.NewCandidate(*e),
				item: sync.OnceValue(func() []byte { return itemOf(e, settings.ExpiryOf(e)) }),
			})
		}
	}
	return b, nil
}

// sizeOf returns about how much memory an entry takes.
func sizeOf(e *audit.Entry) int {
	const rest = 1 << 10
	return rest + len(e.Before) + len(e.After) + len(e.Metadata) + len(e.Message)
}

// batch is a part of a log with its entries.
type batch struct {
	after, last int64 // it has the places after after, up to last
	entries     []placed
	size        int // of the entries, in bytes

	mu    sync.Mutex
	parts map[string]*part // by the keys of views
}

// placed is an entry with its place.
type placed struct {
	*search.Candidate
	place int64
	item  func() []byte // the entry's text; made once for all subscribers
}

// view is what a subscriber sees of a log. Subscribers with the same key see the same.
type view struct {
	key    string
	filter audit.Filter
}

// part is what a view shows of a batch, as frames. Everything up to the place to is in them, or
// is not to be seen.
type part struct {
	frames []entriesFrame
	to     int64
}

// part returns the frames of the entries after a place. They are made once for all subscribers
// that have the same view.
func (b *batch) part(v view, after int64, cursor func(place int64) string) *part {
	if after > b.after {
		return b.newPart(v, after, cursor)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts[v.key] == nil {
		b.parts[v.key] = b.newPart(v, after, cursor)
	}
	return b.parts[v.key]
}

func (b *batch) newPart(v view, after int64, cursor func(place int64) string) *part {
	p := &part{to: b.last}
	var f frameBuilder
	var received time.Time // of the last entry in f
	flush := func() {
		if f.last > 0 {
			p.frames = append(p.frames, f.frame(cursor(f.last), received))
			f = frameBuilder{}
		}
	}
	for _, e := range b.entries {
		if e.place <= after || !e.Matches(v.filter) {
			continue
		}
		if item := e.item(); !f.add(item, e.place) {
			flush()
			f.add(item, e.place)
		}
		received = e.Entry.ReceivedAt
	}
	flush()
	return p
}
