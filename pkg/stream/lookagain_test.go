package stream_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// beforeRelease are streams to which something happens when a holder is about to release its lease
// for the first time.
type beforeRelease struct {
	stream.Streams
	once *atomic.Bool
	do   func()
}

func (s beforeRelease) Release(ctx context.Context, tenant audit.TenantID, holder string, rest stream.Rest) error {
	if !s.once.Swap(true) {
		s.do()
	}
	return s.Streams.Release(ctx, tenant, holder, rest)
}

// An entry, or a subscription, comes between the last look of a pump and the release of its
// lease. Who brings it finds the lease taken. The holder looks once more after the release, so
// nobody waits for the message of watch.
func TestAHolderLooksOnceMoreAfterItsRelease(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(w *world)
		want    []string // frames
	}{
		"entry":        {func(w *world) { w.store(w.entry(nil)) }, []string{"subscribed", "entries", "entries"}},
		"subscription": {func(w *world) { w.send("c", `{}`, "") }, []string{"subscribed", "entries", "subscribed"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			client := w.connect("c", auditor, tenant)
			w.send("c", `{}`, "")
			w.Streams = beforeRelease{w.Streams, new(atomic.Bool), func() {
				c.happens(w)
				w.queue.mu.Lock()
				w.queue.wait = nil // another worker has found the lease taken
				w.queue.mu.Unlock()
			}}
			w.publish(w.entry(nil))
			client.wantsFrames(t, c.want...)
		})
	}
}

// A pump is killed after some seconds in which 20 entries a second came. What it sent in the last
// second can come again, and nothing before that.
func TestAtMostASecondIsSentAgain(t *testing.T) {
	const perSecond = 20
	for _, lived := range []time.Duration{1500 * time.Millisecond, 2900 * time.Millisecond, 4500 * time.Millisecond} {
		t.Run(lived.String(), func(t *testing.T) {
			w := newWorld(t)
			c := w.subscribe("c", `{}`, "")
			w.pass(time.Minute)
			w.deliverQueued()
			d := &dying{killAt: 1 << 40}
			began, owed := w.clock(), 0.0
			pause := w.Pause
			w.Pause = func(ctx context.Context, wait time.Duration) error {
				for owed += wait.Seconds() * perSecond; owed >= 1; owed-- {
					w.store(w.entry(nil))
				}
				if w.clock().Sub(began) >= lived {
					d.calls.Store(d.killAt)
				}
				return pause(ctx, wait)
			}
			victim := w.portsOf(d)
			w.Pause = pause
			w.store(w.entry(nil))
			if body, _ := w.queue.take(w.clock()); !errors.Is(victim.Deliver(t.Context(), body), errKilled) {
				t.Fatal("the pump was not killed, want it killed")
			}
			w.pass(11 * time.Second) // after the lease and the message of watch
			w.deliverQueued()
			sent, once := len(c.ids()), len(c.once(t))
			if again := sent - once; again > 1.2*perSecond {
				t.Errorf("%d entries of %d were sent again, want those of a second at most, which are %d", again, once, perSecond)
			}
			if want := int(lived.Seconds() * perSecond * 0.9); once < want {
				t.Errorf("%d entries were sent, want at least %d for the test to prove something", once, want)
			}
		})
	}
}
