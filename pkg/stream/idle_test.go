package stream_test

import (
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
