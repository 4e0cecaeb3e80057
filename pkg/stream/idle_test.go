package stream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// TestAccessEndsWithoutEntries: connections end although nothing is sent to them, and the checks
// go on for those that are left.
func TestAccessEndsWithoutEntries(t *testing.T) {
	w := newWorld(t)
	revoked, kept := w.connect("revoked", w.createKey("k1"), tenant), w.connect("kept", w.createKey("k2"), tenant)
	w.say("revoked", `{}`, "")
	w.say("kept", `{}`, "")
	w.deliverQueued()
	for range 5 {
		w.pass(10 * time.Second)
		w.deliverQueued()
	}
	w.revoke("k1")
	for range 6 {
		w.pass(10 * time.Second)
		w.deliverQueued()
	}
	revoked.wantEnded(t, stream.ErrKeyRevoked)
	if kept.cut {
		t.Error("the other connection is cut, want it open")
	}
	w.setStatus(audit.TenantSuspended)
	for range 6 {
		w.pass(10 * time.Second)
		w.deliverQueued()
	}
	kept.wantEnded(t, stream.ErrTenantSuspended)
	for range 6 {
		w.pass(10 * time.Second)
		w.deliverQueued()
	}
	if w.queue.len() != 0 {
		t.Errorf("the queue has %d messages after the last connection has ended, want 0", w.queue.len())
	}
}

// TestOneWorkerEndsAConnection: while a worker ends it, others leave it alone.
func TestOneWorkerEndsAConnection(t *testing.T) {
	w := newWorld(t)
	listener := w.connect("listener", w.createKey("k"), tenant)
	w.say("listener", `{}`, "")
	w.deliverQueued()
	w.revoke("k")
	w.pass(checkInterval)
	listener.before = func() {
		listener.before = nil
		if err := w.End(t.Context(), "listener", problemOf(stream.ErrKeyRevoked)); err != nil {
			t.Errorf("another worker ends the connection: got error %v, want none", err)
		}
		if listener.cut {
			t.Error("another worker cut the connection before the client was told, want it open")
		}
	}
	w.publish(w.entry(nil))
	listener.wantEnded(t, stream.ErrKeyRevoked)
	listener.wantsFrames(t, "subscribed", "error")
}

// TestAConnectionEndsAlthoughItsWorkerDies kills the worker before each of its calls. A check
// tells the client and cuts it within a minute.
func TestAConnectionEndsAlthoughItsWorkerDies(t *testing.T) {
	for killAt := int64(1); ; killAt++ {
		w := newWorld(t)
		listener := w.connect("listener", w.createKey("k"), tenant)
		w.say("listener", `{}`, "")
		w.revoke("k")
		w.pass(checkInterval)
		w.store(w.entry(nil))
		d := &dying{killAt: killAt}
		w.deliverUntilKilled(w.portsOf(d), killAt)
		for range 6 {
			w.pass(10 * time.Second)
			w.deliverQueued()
		}
		listener.wantEnded(t, stream.ErrKeyRevoked)
		if _, err := w.Connections.Connection(t.Context(), "listener"); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("the connection's record: got error %v, want %v", err, audit.ErrNotFound)
		}
		if t.Failed() {
			t.Fatalf("killed before call %d", killAt)
		}
		if !d.dead() {
			return
		}
	}
}

// TestChecksDoNotMultiply: a stream has one message for its next check, however often a worker
// looks at it.
func TestChecksDoNotMultiply(t *testing.T) {
	w := newWorld(t)
	w.subscribe("listener", `{}`, "")
	for range 40 {
		w.publish(w.entry(nil))
		w.pass(3 * time.Second)
		w.deliverQueued()
	}
	w.pass(time.Second)
	if got := w.queue.len(); got > 3 {
		t.Errorf("the queue has %d messages, want up to 3", got)
	}
}
