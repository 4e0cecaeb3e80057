package stream_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// killWithWrongClock has a subscriber and 150 entries, and a pump that is killed before a call
// while the machine's clock is wrong. It returns the subscriber, the entries, and whether the
// pump lived that long.
func (w *world) killWithWrongClock(killAt int64, wrong time.Duration) (c *client, entries []audit.Entry, died bool) {
	w.t.Helper()
	w.pass(wrong)
	c = w.subscribe("before", `{}`, "")
	entries = w.entries(150)
	w.store(entries...)
	d := &dying{killAt: killAt}
	victim := w.portsOf(d)
	w.deliverUntilKilled(victim, killAt)
	w.pass(-wrong)
	return c, entries, d.dead()
}

// A pump is killed before each of its calls while the clock is a day ahead. Then the clock is
// put right. What the pump left behind says a day too late, so the next entries bring the stream
// forward. They do so at once.
func TestAPumpIsKilledWhileTheClockIsADayAhead(t *testing.T) {
	for killAt := int64(1); ; killAt += killStep() {
		w := newWorld(t)
		c, wanted, died := w.killWithWrongClock(killAt, 24*time.Hour)
		next := w.entry(nil)
		w.publish(next)
		if got, want := c.once(t), idsOf(append(wanted, next)...); !slices.Equal(got, want) {
			t.Fatalf("killed before call %d: the subscriber got %d entries, want %d", killAt, len(got), len(want))
		}
		if w.nextWatch() > 11*time.Second {
			t.Fatalf("killed before call %d: the next look is in %s, want it after the lease", killAt, w.nextWatch())
		}
		if !died {
			return
		}
	}
}

// killStep is how many calls apart pumps are killed.
func killStep() int64 {
	if testing.Short() {
		return 5
	}
	return 1
}

// nextWatch returns the time until the first delayed message.
func (w *world) nextWatch() time.Duration {
	now := w.clock()
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	first := time.Duration(1 << 62)
	for _, m := range w.queue.wait {
		first = min(first, m.due.Sub(now))
	}
	return first
}

// A pump is killed before each of its calls while the clock is a day behind. When the clock is
// put right, the connection has expired. The client continues with its cursor on a new one.
func TestAPumpIsKilledWhileTheClockIsADayBehind(t *testing.T) {
	for killAt := int64(1); ; killAt += killStep() {
		w := newWorld(t)
		c, wanted, died := w.killWithWrongClock(killAt, -24*time.Hour)
		again := w.subscribe("after", `{}`, c.last().Cursor)
		next := w.entry(nil)
		w.publish(next)
		if got, want := append(c.once(t), again.once(t)...), idsOf(append(wanted, next)...); !slices.Equal(got, want) {
			t.Fatalf("killed before call %d: the client got %d entries, want %d", killAt, len(got), len(want))
		}
		if !died {
			return
		}
	}
}
