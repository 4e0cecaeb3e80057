package stream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// hooked are connections that tests look at, or stop, at a certain place.
type hooked struct {
	stream.Connections
	release func()                // before a lease is given back
	stuck   error                 // what giving back fails with
	save    func(until time.Time) // before a lease is kept
}

func (h *hooked) Release(ctx context.Context, id, holder string) (bool, error) {
	if h.release != nil {
		h.release()
	}
	if h.stuck != nil {
		return false, h.stuck
	}
	return h.Connections.Release(ctx, id, holder)
}

func (h *hooked) Save(ctx context.Context, id, holder string, s *stream.Subscription, until time.Time) error {
	if h.save != nil {
		h.save(until)
	}
	return h.Connections.Save(ctx, id, holder, s, until)
}

// backlog stores segments, each of one entry that fills a frame, and has the
// client "c" subscribe after the first of them, which sends nothing yet.
func (w *world) backlog(segments int) (c *client, missed []audit.Entry) {
	w.t.Helper()
	after := w.subscribe("opener", `{}`, "").last().Cursor
	if err := w.Cut(w.t.Context(), "opener"); err != nil {
		w.t.Fatal(err)
	}
	for range segments {
		e := w.entry(func(e *audit.Entry) { e.Message = strings.Repeat("x", audit.MaxMessage) })
		missed = append(missed, e)
		w.publish(e)
	}
	c = w.connect("c", auditor, tenant)
	if err := w.Subscribe(w.t.Context(), "c", fmt.Appendf(nil, `{"action":"subscribe","after":%q}`, after)); err != nil {
		w.t.Fatal(err)
	}
	return c, missed
}

// deliverNext handles the next queue message, which has to be there.
func (w *world) deliverNext() {
	w.t.Helper()
	body, due := w.queue.take(w.clock())
	if !due {
		w.t.Fatal("no delivery is due")
	}
	if err := w.Deliver(w.t.Context(), body); err != nil {
		w.t.Fatal(err)
	}
}

// asks does what a client's message does while it waits.
func (w *world) asks() {
	if _, acquired, err := w.Connections.Acquire(w.t.Context(), "c", "message", w.clock().Add(time.Second)); acquired || err != nil {
		w.t.Errorf("the lease of a delivery was taken: %t, %v", acquired, err)
	}
}

func TestMessagesHaveTheirTurnInALongReplay(t *testing.T) {
	const segments, perFrame = 200, 50 * time.Millisecond
	t.Run("unsubscribe", func(t *testing.T) {
		w := newWorld(t)
		c, _ := w.backlog(segments)
		c.before = func() { w.pass(perFrame); w.asks() }
		began := w.clock()
		w.deliverNext()
		c.before = nil
		if took := w.clock().Sub(began); took > 4*time.Second || len(c.ids()) == segments {
			t.Fatalf("whoever waited was kept waiting for %s and %d entries", took, len(c.ids()))
		}
		// What is stored now does not begin another turn before theirs.
		sent := len(c.ids())
		for _, message := range w.store(w.entry(nil)) {
			if err := w.Deliver(t.Context(), message); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Unsubscribe(t.Context(), "c", []byte(`{"action":"unsubscribe"}`)); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		w.deliverQueued()
		if got := len(c.ids()); got != sent {
			t.Errorf("%d entries came afterwards", got-sent)
		}
	})
	t.Run("nothing", func(t *testing.T) { // whoever waited has gone
		w := newWorld(t)
		c, missed := w.backlog(segments)
		c.before = func() { w.pass(perFrame); w.asks() }
		turns := 0
		for ; len(c.ids()) < segments; turns++ {
			w.deliverNext()
			w.pass(time.Second)
		}
		if c.wants(t, missed...); turns < 4 {
			t.Errorf("%d turns", turns)
		}
	})
	t.Run("nobody", func(t *testing.T) { // then it goes on without a pause
		w := newWorld(t)
		c, missed := w.backlog(segments)
		c.before = func() { w.pass(perFrame) }
		w.deliverQueued()
		c.wants(t, missed...)
	})
}

// While the lease is given back entries are stored, and what is in the queue is
// handled: all of it finds the lease taken.
func TestTheEndOfATurnLosesNoWish(t *testing.T) {
	for times := range 4 {
		w := newWorld(t)
		c, want := w.backlog(100)
		c.before = func() { w.pass(50 * time.Millisecond) }
		left := times
		w.Connections = &hooked{Connections: w.Connections, release: func() {
			if left--; left < 0 {
				return
			}
			e := w.entry(nil)
			want = append(want, e)
			w.pass(time.Second)
			w.publish(e)
		}}
		w.deliverNext()
		c.before = nil
		w.pass(2 * time.Second) // far less than until somebody looks after those who were killed
		w.deliverQueued()
		c.wants(t, want...)
	}
}

func TestAFailedDeliveryKeepsNoLease(t *testing.T) {
	w := newWorld(t)
	c, missed := w.backlog(1)
	down := errors.New("down")
	reader := w.Reader
	w.Reader = failing{func() error { w.asks(); return down }}
	body, _ := w.queue.take(w.clock())
	if err := w.Deliver(t.Context(), body); !errors.Is(err, down) {
		t.Fatal(err)
	}
	w.Reader = reader
	w.deliverQueued() // for who asked
	c.wants(t, missed...)
	if err := w.Deliver(t.Context(), body); err != nil { // again, as the queue does
		t.Fatal(err)
	}
	c.wants(t, missed...)
}

// The lease stays until its time, and the message is there before.
func TestADeliveryThatCannotGiveItsLeaseBackIsTakenUp(t *testing.T) {
	w := newWorld(t)
	c, missed := w.backlog(1)
	down := errors.New("down")
	reader, connections := w.Reader, w.Connections
	w.Reader, w.Connections = failing{func() error { return down }}, &hooked{Connections: w.Connections, stuck: down}
	body, _ := w.queue.take(w.clock())
	if err := w.Deliver(t.Context(), body); !errors.Is(err, down) {
		t.Fatal(err)
	}
	w.Reader, w.Connections = reader, connections
	w.pass(2 * time.Second)
	if err := w.Deliver(t.Context(), body); err != nil {
		t.Fatal(err)
	}
	c.wants(t)
	w.pass(15 * time.Second)
	w.deliverQueued()
	c.wants(t, missed...)
}

// failing is a reader that cannot read.
type failing struct{ fail func() error }

func (f failing) EntriesByID(context.Context, audit.TenantID, []audit.EntryID) ([]audit.Entry, error) {
	return nil, f.fail()
}

// A worker can be killed at any time, however slow its client is: a resume message is
// in the queue that is due after the lease.
func TestEveryLeaseIsLookedAfter(t *testing.T) {
	w := newWorld(t)
	c, missed := w.backlog(40)
	saves := 0
	w.Connections = &hooked{Connections: w.Connections, save: func(until time.Time) {
		saves++
		w.queue.mu.Lock()
		defer w.queue.mu.Unlock()
		if !slices.ContainsFunc(w.queue.wait, func(waiting waiting) bool { return waiting.due.After(until) }) {
			t.Errorf("nobody looks after the lease until %s", until)
		}
	}}
	c.before = func() { w.pass(2900 * time.Millisecond) }
	for len(c.ids()) < len(missed) {
		w.deliverNext()
	}
	if c.wants(t, missed...); saves == 0 {
		t.Error("nothing was saved")
	}
}

// A worker that is killed as soon as it has the lease had nobody look after the
// connection: whoever finds the lease taken sees to it.
func TestALeaseThatNobodyWatchesLosesNoWish(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	e := w.entry(nil)
	messages := w.store(e)
	if _, acquired, err := w.Connections.Acquire(t.Context(), "c", "killed", w.clock().Add(15*time.Second)); !acquired || err != nil {
		t.Fatal(acquired, err)
	}
	for _, message := range messages { // comes again while the lease lasts
		if err := w.Deliver(t.Context(), message); err != nil {
			t.Fatal(err)
		}
	}
	c.wants(t)
	w.pass(16 * time.Second)
	w.deliverQueued()
	c.wants(t, e)
}
