package stream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// errKilled is what every call of a process returns that was killed.
var errKilled = errors.New("killed")

// dying counts the calls of a process at its ports. It is killed before a call: this one and
// all later ones have no effect.
type dying struct {
	calls  atomic.Int64
	killAt int64 // 0: never
}

func (d *dying) call() error {
	if n := d.calls.Add(1); d.killAt > 0 && n >= d.killAt {
		return errKilled
	}
	return nil
}

func (d *dying) dead() bool { return d.killAt > 0 && d.calls.Load() >= d.killAt }

// portsOf returns a service whose ports are those of the world, until the process dies.
func (w *world) portsOf(d *dying) *stream.Service {
	return &stream.Service{
		Arrivals: dyingLog{w.Arrivals, d}, Streams: dyingStreams{w.Streams, d}, Connections: dyingConnections{w.Connections, d},
		Reader: dyingReader{w.Reader, d}, Sender: dyingSender{w.Sender, d}, Queue: dyingQueue{w.Queue, d}, Tenants: w.Tenants, Keys: w.Keys,
		Cursors: w.Cursors, Problem: w.Problem, Now: w.Now, Pause: w.Pause, Random: w.Random, Log: w.Log,
	}
}

type dyingLog struct {
	arrival.Log
	d *dying
}

func (l dyingLog) Head(ctx context.Context, tenant audit.TenantID) (arrival.Head, error) {
	if err := l.d.call(); err != nil {
		return arrival.Head{}, err
	}
	return l.Log.Head(ctx, tenant)
}

func (l dyingLog) Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]arrival.Segment, error) {
	if err := l.d.call(); err != nil {
		return nil, err
	}
	return l.Log.Read(ctx, tenant, after, limit)
}

type dyingReader struct {
	arrival.Reader
	d *dying
}

func (r dyingReader) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	if err := r.d.call(); err != nil {
		return nil, err
	}
	return r.Reader.EntriesByID(ctx, tenant, ids)
}

type dyingSender struct {
	stream.Sender
	d *dying
}

func (s dyingSender) Send(ctx context.Context, connection string, text []byte) error {
	if err := s.d.call(); err != nil {
		return err
	}
	return s.Sender.Send(ctx, connection, text)
}

func (s dyingSender) Cut(ctx context.Context, connection string) error {
	if err := s.d.call(); err != nil {
		return err
	}
	return s.Sender.Cut(ctx, connection)
}

type dyingQueue struct {
	stream.Queue
	d *dying
}

func (q dyingQueue) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	if err := q.d.call(); err != nil {
		return err
	}
	return q.Queue.SendAfter(ctx, tenant, delay, body)
}

type dyingConnections struct {
	stream.Connections
	d *dying
}

func (c dyingConnections) Subscribed(ctx context.Context, tenant audit.TenantID) ([]stream.Connection, error) {
	if err := c.d.call(); err != nil {
		return nil, err
	}
	return c.Connections.Subscribed(ctx, tenant)
}

func (c dyingConnections) EndSubscription(ctx context.Context, id, subscription string) error {
	if err := c.d.call(); err != nil {
		return err
	}
	return c.Connections.EndSubscription(ctx, id, subscription)
}

func (c dyingConnections) ClaimEnd(ctx context.Context, id string, until time.Time) (bool, error) {
	if err := c.d.call(); err != nil {
		return false, err
	}
	return c.Connections.ClaimEnd(ctx, id, until)
}

func (c dyingConnections) Remove(ctx context.Context, id string) error {
	if err := c.d.call(); err != nil {
		return err
	}
	return c.Connections.Remove(ctx, id)
}

type dyingStreams struct {
	stream.Streams
	d *dying
}

func (s dyingStreams) Stream(ctx context.Context, tenant audit.TenantID) (stream.State, error) {
	if err := s.d.call(); err != nil {
		return stream.State{}, err
	}
	return s.Streams.Stream(ctx, tenant)
}

func (s dyingStreams) Acquire(ctx context.Context, tenant audit.TenantID, holder string, leased, watched time.Time) (stream.State, bool, error) {
	if err := s.d.call(); err != nil {
		return stream.State{}, false, err
	}
	return s.Streams.Acquire(ctx, tenant, holder, leased, watched)
}

func (s dyingStreams) Save(ctx context.Context, tenant audit.TenantID, holder string, progress map[string]stream.Progress, leased, watched time.Time) error {
	if err := s.d.call(); err != nil {
		return err
	}
	return s.Streams.Save(ctx, tenant, holder, progress, leased, watched)
}

func (s dyingStreams) Release(ctx context.Context, tenant audit.TenantID, holder string, rest stream.Rest) error {
	if err := s.d.call(); err != nil {
		return err
	}
	return s.Streams.Release(ctx, tenant, holder, rest)
}

func (s dyingStreams) Close(ctx context.Context, tenant audit.TenantID, holder string, changes int64) error {
	if err := s.d.call(); err != nil {
		return err
	}
	return s.Streams.Close(ctx, tenant, holder, changes)
}

// A pump is killed before each of its calls. Its message does not come again: only what the
// pump itself has left in the queue, and later entries, bring the stream forward. Each
// subscriber gets everything. What comes twice is what was sent within a second, and has the
// place that it had.
func TestAKilledPumpLosesNothing(t *testing.T) {
	for killAt := int64(1); ; killAt++ {
		w := newWorld(t)
		live := w.subscribe("live", `{}`, "")
		errorsOnly := w.subscribe("errors", `{"severity":"ERROR"}`, "")
		before := w.entry(nil)
		w.publish(before)
		d := &dying{killAt: killAt}
		victim := w.portsOf(d)
		wanted := w.entries(150) // of several frames
		some := w.entry(func(e *audit.Entry) { e.Severity = audit.SeverityError })
		wanted = append(wanted, some)
		w.store(wanted...)
		w.send("errors", `{"severity":"ERROR"}`, live.last().Cursor) // so that a subscription is new
		// The nudges of both are handled by the process that dies.
		w.deliverUntilKilled(victim, killAt)
		died := d.dead()
		w.pass(11 * time.Second) // after the lease and the message of watch
		w.deliverQueued()
		if len(live.once(t)) < 1+len(wanted) && killAt <= 3 { // it had not begun: its message comes again
			if err := w.Deliver(t.Context(), nudge); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := live.once(t), idsOf(append([]audit.Entry{before}, wanted...)...); !slices.Equal(got, want) {
			t.Fatalf("killed before call %d: the live subscriber got %d entries, want %d", killAt, len(got), len(want))
		}
		if got, want := errorsOnly.once(t), idsOf(some); !slices.Equal(got, want) {
			t.Fatalf("killed before call %d: the subscriber of errors got %v, want %v", killAt, got, want)
		}
		if !died {
			t.Logf("a run has %d calls", killAt-1)
			return
		}
	}
}

// The process that appends is killed before it nudges, and the batch comes again.
func TestALostNudgeIsSentAgain(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	w.pass(time.Minute)
	w.deliverQueued()
	e := w.entry(nil)
	w.queue.fail = errKilled
	if _, err := w.db.Entries().Append(t.Context(), tenant, []audit.Entry{e}); err != nil {
		t.Fatal(err)
	}
	body := w.arrivalOf(tenant, e.ID)
	if err := w.orderer.Order(t.Context(), []string{body})[0]; !errors.Is(err, errKilled) {
		t.Fatalf("got error %v, want %v", err, errKilled)
	}
	w.queue.fail = nil
	w.deliverQueued()
	c.wants(t)
	if err := w.orderer.Order(t.Context(), []string{body})[0]; err != nil {
		t.Fatal(err)
	}
	w.deliverQueued()
	c.wants(t, e)
}

// Two pumps work on one stream at the same time, because the first one was asleep for longer
// than its lease. Everything comes in order, once by its place.
func TestTwoPumpsAtOnce(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	w.pass(time.Minute)
	long := func(e *audit.Entry) { e.Message = strings.Repeat("x", audit.MaxMessage) }
	entries := make([]audit.Entry, 40)
	for i := range entries {
		entries[i] = w.entry(long)
	}
	w.store(entries...)
	var begun atomic.Bool
	c.set(func(c *client) {
		c.before = func() {
			if begun.Swap(true) {
				return
			}
			w.pass(10 * time.Second) // while the first one sends its first frame
			if err := w.Deliver(t.Context(), nudge); err != nil {
				t.Error(err)
			}
		}
	})
	w.deliverQueued()
	if got, want := c.once(t), idsOf(entries...); !slices.Equal(got, want) {
		t.Errorf("got %d entries, want %d in their order", len(got), len(want))
	}
}

// countingStreams counts reads and writes.
type countingStreams struct {
	stream.Streams
	reads, writes *atomic.Int64
}

func (s countingStreams) Stream(ctx context.Context, tenant audit.TenantID) (stream.State, error) {
	s.reads.Add(1)
	return s.Streams.Stream(ctx, tenant)
}

// countingLog counts the looks at the end of the log.
type countingLog struct {
	arrival.Log
	reads *atomic.Int64
}

func (l countingLog) Head(ctx context.Context, tenant audit.TenantID) (arrival.Head, error) {
	l.reads.Add(1)
	return l.Log.Head(ctx, tenant)
}

func (s countingStreams) Acquire(ctx context.Context, tenant audit.TenantID, holder string, leased, watched time.Time) (stream.State, bool, error) {
	s.writes.Add(1)
	return s.Streams.Acquire(ctx, tenant, holder, leased, watched)
}

func (s countingStreams) Save(ctx context.Context, tenant audit.TenantID, holder string, progress map[string]stream.Progress, leased, watched time.Time) error {
	s.writes.Add(1)
	return s.Streams.Save(ctx, tenant, holder, progress, leased, watched)
}

func (s countingStreams) Release(ctx context.Context, tenant audit.TenantID, holder string, rest stream.Rest) error {
	s.writes.Add(1)
	return s.Streams.Release(ctx, tenant, holder, rest)
}

func (s countingStreams) Close(ctx context.Context, tenant audit.TenantID, holder string, changes int64) error {
	s.writes.Add(1)
	return s.Streams.Close(ctx, tenant, holder, changes)
}

// A stream with 50 subscribers costs about stream.WritesPerSecond and stream.ReadsPerSecond for
// all of them together, whatever the load.
func TestWritesDoNotGrowWithLoadAndSubscribers(t *testing.T) {
	const (
		subscribers = 50
		limit       = 1.5 * stream.WritesPerSecond // pumps can end early
		loadTime    = 12 * time.Second
	)
	for _, perSecond := range []int{1, 20, 200} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			w := newWorld(t)
			var reads, writes atomic.Int64
			w.Streams, w.Arrivals = countingStreams{w.Streams, &reads, &writes}, countingLog{w.Arrivals, &reads}
			for i := range subscribers {
				w.connect(fmt.Sprintf("s%d", i), auditor, tenant)
				w.send(fmt.Sprintf("s%d", i), `{}`, "")
			}
			w.deliverQueued()
			w.pass(time.Minute)
			reads.Store(0)
			writes.Store(0)
			began, owed, sent := w.clock(), 0.0, 0
			// The load comes while the pump pauses, as it does from other processes.
			w.Pause = func(ctx context.Context, d time.Duration) error {
				if w.clock().Sub(began) < loadTime {
					for owed += d.Seconds() * float64(perSecond); owed >= 1; owed-- {
						w.store(w.entry(nil))
						sent++
					}
				}
				return w.pause(ctx, d)
			}
			w.store(w.entry(nil))
			sent++
			for w.clock().Sub(began) < loadTime {
				w.deliverQueued()
				if owed++; owed >= 1 { // nobody pumps: the next entry nudges
					w.pass(time.Second / time.Duration(perSecond))
					w.store(w.entry(nil))
					owed--
					sent++
				}
			}
			w.deliverQueued()
			took := w.clock().Sub(began).Seconds()
			if rate := float64(writes.Load()) / took; rate > limit {
				t.Errorf("%d entries in %.0f s to %d subscribers cost %.1f writes a second, want at most %.1f", sent, took, subscribers, rate, limit)
			} else {
				t.Logf("%d entries in %.0f s to %d subscribers cost %.2f writes a second", sent, took, subscribers, rate)
			}
			most, _ := stream.ReadsPerSecond()
			if rate := float64(reads.Load()) / took; rate > 1.2*most { // each pump begins and ends with some
				t.Errorf("%d entries in %.0f s to %d subscribers cost %.1f reads a second, want at most %.1f", sent, took, subscribers, rate, 1.2*most)
			} else {
				t.Logf("%d entries in %.0f s to %d subscribers cost %.1f reads a second", sent, took, subscribers, rate)
			}
			for id, c := range w.gateway.clients {
				if got := len(c.once(t)); got != sent {
					t.Errorf("%s got %d entries, want %d", id, got, sent)
				}
			}
		})
	}
}

// Subscribers come with a random cursor, at random times, while entries are stored, the lease
// is lost, clients are slow and pumps are killed. Each gets every entry after its cursor, in
// order and once by its place.
func TestReplayGoesLiveWithoutAGap(t *testing.T) {
	runs := 20
	if testing.Short() {
		runs = 4
	}
	for run := range runs {
		seed := uint64(time.Now().UnixNano()) + uint64(run)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { replayRandomly(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

// replaying is a subscriber of the test, with the entries that it has to get.
type replaying struct {
	*client
	from    int // how many entries were stored before its cursor
	refused int // how many frames it has refused or will refuse
}

// mostRefused keeps the subscribers of the test from being cut: the stream cuts a client that
// refuses eight frames in a row.
const mostRefused = 5

func replayRandomly(t *testing.T, random *rand.Rand) {
	w := newWorld(t)
	all := w.entries(1)
	w.store(all...)
	var mu sync.Mutex // of random and of what follows
	var subscribers []replaying
	step := func() {
		mu.Lock()
		defer mu.Unlock()
		switch random.IntN(6) {
		case 0, 1, 2:
			some := w.entries(1 + random.IntN(200))
			all = append(all, some...)
			w.store(some...)
		case 3:
			if len(subscribers) < 8 {
				from := random.IntN(len(all) + 1)
				id := fmt.Sprintf("s%d", len(subscribers))
				subscribers = append(subscribers, replaying{client: w.connect(id, auditor, tenant), from: from})
				w.send(id, `{}`, arrival.Cursor(w.Cursors, tenant, int64(from)))
			}
		case 4:
			if n := len(subscribers); n > 0 {
				s := &subscribers[random.IntN(n)]
				if s.refused < mostRefused {
					s.refused++
					s.set(func(c *client) { c.fails = append(c.fails, stream.ErrBusy) })
				}
			}
		case 5:
			w.pass(time.Duration(random.IntN(6000)) * time.Millisecond)
		}
	}
	pause := w.Pause
	w.Pause = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		often := random.IntN(3) == 0
		mu.Unlock()
		if often {
			step()
		}
		return pause(ctx, d)
	}
	for range 30 {
		step()
		mu.Lock()
		killAt := int64(0)
		if random.IntN(2) == 0 {
			killAt = 1 + random.Int64N(60)
		}
		mu.Unlock()
		victim := w.portsOf(&dying{killAt: killAt})
		if body, due := w.queue.take(w.clock()); due {
			if err := victim.Deliver(t.Context(), body); errors.Is(err, errKilled) {
				w.queue.put(w.clock().Add(3*time.Minute), body) // after the queue's visibility timeout
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Pause = pause
	for range 12 {
		w.pass(20 * time.Second)
		w.deliverQueued()
	}
	for i, s := range subscribers {
		if got, want := s.once(t), idsOf(all[s.from:]...); !slices.Equal(got, want) {
			t.Errorf("subscriber %d after %d got %d entries, want %d", i, s.from, len(got), len(want))
		}
	}
}

// A subscriber that replays does not delay one that is live, and both read the same log.
func TestAReplayDelaysNobody(t *testing.T) {
	w := newWorld(t)
	live := w.subscribe("live", `{}`, "")
	first := live.last().Cursor
	old := w.entries(5000)
	for some := range slices.Chunk(old, 500) {
		w.store(some...)
	}
	w.deliverQueued()
	live.wants(t, old...)
	hang := make(chan struct{})
	replay := w.connect("replay", auditor, tenant)
	replay.set(func(c *client) { c.hang = hang })
	w.send("replay", `{}`, first)
	e := w.entry(nil)
	w.store(e)
	var running sync.WaitGroup
	running.Go(w.deliverQueued)
	live.awaits(t, append(slices.Clone(old), e)...)
	close(hang)
	running.Wait()
	w.pass(time.Minute)
	w.deliverQueued()
	if got, want := replay.once(t), idsOf(append(slices.Clone(old), e)...); !slices.Equal(got, want) {
		t.Errorf("the replay got %d entries, want %d", len(got), len(want))
	}
}

func TestTooManySubscribersAreRefused(t *testing.T) {
	w := newWorld(t)
	w.connect("c", auditor, tenant)
	w.Connections = crowded{w.Connections}
	err := w.Subscribe(t.Context(), "c", []byte(`{"action":"subscribe"}`))
	if !errors.Is(err, stream.ErrTooManySubscribers) {
		t.Errorf("got error %v, want %v", err, stream.ErrTooManySubscribers)
	}
	c, err := w.Connections.Connection(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if c.Subscription != nil {
		t.Errorf("the refused client has the subscription %v, want none", c.Subscription)
	}
}

// crowded are connections of which too many are subscribed.
type crowded struct{ stream.Connections }

func (crowded) CountSubscribed(context.Context, audit.TenantID) (int, error) {
	return stream.MaxSubscribers + 1, nil
}

// After the last subscriber has gone, a tenant costs nothing but its log.
func TestATenantWithoutSubscribersIsNotNudged(t *testing.T) {
	w := newWorld(t)
	w.subscribe("c", `{}`, "")
	w.pass(time.Minute)
	if err := w.Disconnect(t.Context(), "c", nil); err != nil {
		t.Fatal(err)
	}
	w.publish(w.entry(nil)) // its pump finds out
	w.pass(time.Minute)
	w.deliverQueued()
	w.store(w.entry(nil))
	if n := w.queue.len(); n != 0 {
		t.Errorf("the queue has %d messages, want 0", n)
	}
}

// While a pump works, entries cost no message.
func TestNobodyNudgesAPump(t *testing.T) {
	w := newWorld(t)
	w.subscribe("c", `{}`, "")
	w.pass(time.Minute)
	w.deliverQueued()
	w.lock("busy", time.Second)
	before := w.queue.len()
	w.store(w.entry(nil))
	if got := w.queue.len(); got != before {
		t.Errorf("the queue has %d messages, want %d", got, before)
	}
	w.pass(time.Second)
	w.store(w.entry(nil))
	if got := w.queue.len(); got != before+1 {
		t.Errorf("after the lease the queue has %d messages, want %d", got, before+1)
	}
}
