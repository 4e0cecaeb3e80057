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

// hooked calls the test, or fails, at certain calls of Connections.
type hooked struct {
	stream.Connections
	release func()                // called before a lease is released
	stuck   error                 // the error of every release
	save    func(until time.Time) // called before a lease is renewed
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

// backlog stores segments, each of one entry that fills a frame. Then the client "c"
// subscribes with a cursor from before them. Nothing is sent yet.
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

// deliverNext handles the next queue message. It fails the test if none is due.
func (w *world) deliverNext() {
	w.t.Helper()
	body, due := w.queue.take(w.clock())
	if !due {
		w.t.Fatal("no delivery is due, want one")
	}
	if err := w.Deliver(w.t.Context(), body); err != nil {
		w.t.Fatal(err)
	}
}

// requestLease asks for the lease of "c", as a waiting client's message does.
func (w *world) requestLease() {
	if _, acquired, err := w.Connections.Acquire(w.t.Context(), "c", "message", w.clock().Add(time.Second)); err != nil {
		w.t.Error(err)
	} else if acquired {
		w.t.Error("acquired the lease of a delivery, want it taken")
	}
}

func TestMessagesHaveTheirTurnInALongReplay(t *testing.T) {
	const segments, perFrame = 200, 50 * time.Millisecond
	t.Run("unsubscribe", func(t *testing.T) {
		w := newWorld(t)
		c, _ := w.backlog(segments)
		c.before = func() { w.pass(perFrame); w.requestLease() }
		began := w.clock()
		w.deliverNext()
		c.before = nil
		if took := w.clock().Sub(began); took > 4*time.Second {
			t.Fatalf("the client's message: took %v, want at most %v", took, 4*time.Second)
		} else if len(c.ids()) == segments {
			t.Fatalf("all %d entries were sent before the client's message, want fewer", segments)
		}
		// New entries do not start another delivery before the client's message.
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
			t.Errorf("%d entries were sent after unsubscribing, want 0", got-sent)
		}
	})
	t.Run("the waiting client is gone", func(t *testing.T) {
		w := newWorld(t)
		c, missed := w.backlog(segments)
		c.before = func() { w.pass(perFrame); w.requestLease() }
		turns := 0
		for ; len(c.ids()) < segments; turns++ {
			w.deliverNext()
			w.pass(time.Second)
		}
		if c.wants(t, missed...); turns < 4 {
			t.Errorf("%d turns, want at least 4", turns)
		}
	})
	t.Run("no client waits, so there is no pause", func(t *testing.T) {
		w := newWorld(t)
		c, missed := w.backlog(segments)
		c.before = func() { w.pass(perFrame) }
		w.deliverQueued()
		c.wants(t, missed...)
	})
}

// Entries are stored and queue messages are handled just before the lease is released. All of
// them find the lease taken.
func TestTheEndOfATurnLosesNoRequest(t *testing.T) {
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
		w.pass(2 * time.Second) // far less than the delay of the message that watch sends
		w.deliverQueued()
		c.wants(t, want...)
	}
}

func TestAFailedDeliveryKeepsNoLease(t *testing.T) {
	w := newWorld(t)
	c, missed := w.backlog(1)
	down := errors.New("down")
	reader := w.Reader
	w.Reader = failing{func() error { w.requestLease(); return down }}
	body, _ := w.queue.take(w.clock())
	if err := w.Deliver(t.Context(), body); !errors.Is(err, down) {
		t.Fatalf("got error %v, want %v", err, down)
	}
	w.Reader = reader
	w.deliverQueued() // the message that abort sent
	c.wants(t, missed...)
	if err := w.Deliver(t.Context(), body); err != nil { // the queue delivers it again
		t.Fatal(err)
	}
	c.wants(t, missed...)
}

// The lease lasts until it expires. The message is delivered again before that.
func TestADeliveryThatCannotReleaseItsLeaseIsResumed(t *testing.T) {
	w := newWorld(t)
	c, missed := w.backlog(1)
	down := errors.New("down")
	reader, connections := w.Reader, w.Connections
	w.Reader, w.Connections = failing{func() error { return down }}, &hooked{Connections: w.Connections, stuck: down}
	body, _ := w.queue.take(w.clock())
	if err := w.Deliver(t.Context(), body); !errors.Is(err, down) {
		t.Fatalf("got error %v, want %v", err, down)
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
func TestEveryLeaseIsWatched(t *testing.T) {
	w := newWorld(t)
	c, missed := w.backlog(40)
	saves := 0
	w.Connections = &hooked{Connections: w.Connections, save: func(until time.Time) {
		saves++
		w.queue.mu.Lock()
		defer w.queue.mu.Unlock()
		if !slices.ContainsFunc(w.queue.wait, func(waiting waiting) bool { return waiting.due.After(until) }) {
			t.Errorf("got no message that resumes after the lease until %s, want one", until)
		}
	}}
	c.before = func() { w.pass(2900 * time.Millisecond) }
	for len(c.ids()) < len(missed) {
		w.deliverNext()
	}
	if c.wants(t, missed...); saves == 0 {
		t.Error("saved 0 times, want at least once")
	}
}

// A worker is killed right after it acquired the lease, before it sent a message that resumes the
// delivery. The worker that finds the lease taken sends that message.
func TestAnUnwatchedLeaseLosesNoEntry(t *testing.T) {
	w := newWorld(t)
	c := w.subscribe("c", `{}`, "")
	e := w.entry(nil)
	messages := w.store(e)
	if _, acquired, err := w.Connections.Acquire(t.Context(), "c", "killed", w.clock().Add(15*time.Second)); err != nil {
		t.Fatal(err)
	} else if !acquired {
		t.Fatal("acquired is false, want true")
	}
	for _, message := range messages { // delivered while the lease lasts
		if err := w.Deliver(t.Context(), message); err != nil {
			t.Fatal(err)
		}
	}
	c.wants(t)
	w.pass(16 * time.Second)
	w.deliverQueued()
	c.wants(t, e)
}
