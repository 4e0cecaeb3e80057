package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// checkInterval is the age from which the check of an API key is repeated.
const checkInterval = access.DefaultKeyTTL

// createKey creates an API key of the tenant and returns its principal.
func (w *world) createKey(id string) access.Principal {
	w.t.Helper()
	key := tenants.Key{ID: id, Tenant: tenant, Name: id, Hash: access.HashSecret(id), Permissions: []string{string(access.LogsStream)}, CreatedAt: w.clock()}
	if err := w.db.Keys().CreateKey(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
	return access.Key{ID: id, Tenant: tenant, Permissions: []access.Permission{access.LogsStream}}.Principal()
}

func (w *world) revoke(id string) {
	w.t.Helper()
	if err := w.db.Keys().DeleteKey(w.t.Context(), tenant, id); err != nil {
		w.t.Fatal(err)
	}
}

// setStatus changes the status of the tenant.
func (w *world) setStatus(status audit.TenantStatus) {
	w.t.Helper()
	record, err := w.db.Tenants().Tenant(w.t.Context(), tenant)
	if err != nil {
		w.t.Fatal(err)
	}
	record.Status, record.Version = status, record.Version+1
	if err := w.db.Tenants().Update(w.t.Context(), record); err != nil {
		w.t.Fatal(err)
	}
}

// wantEnded checks that the client's last frame tells the reason and that it was cut.
func (c *client) wantEnded(t *testing.T, reason error) {
	t.Helper()
	last := c.last()
	if last.Type != "error" {
		t.Fatalf("got last frame of type %q, want %q", last.Type, "error")
	}
	if !strings.Contains(last.Error.Detail, reason.Error()) {
		t.Errorf("got reason %q, want %q", last.Error.Detail, reason)
	}
	if !c.cut {
		t.Error("the connection is open, want it cut")
	}
}

func TestARevokedKeyEndsItsSubscription(t *testing.T) {
	w := newWorld(t)
	revoked := w.connect("revoked", w.createKey("k1"), tenant)
	kept := w.connect("kept", w.createKey("k2"), tenant)
	w.say("revoked", `{}`, "")
	w.say("kept", `{}`, "")
	before, after := w.entry(nil), w.entry(nil)
	w.publish(before)
	w.revoke("k1")
	w.pass(checkInterval)
	w.publish(after)
	revoked.wants(t, before)
	revoked.wantEnded(t, stream.ErrKeyRevoked)
	kept.wants(t, before, after)
	if _, err := w.Connections.Connection(t.Context(), "revoked"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("the connection's record: got error %v, want %v", err, audit.ErrNotFound)
	}
}

func TestARevokedKeyEndsAReplayBetweenFrames(t *testing.T) {
	w := newWorld(t)
	listener := w.connect("listener", w.createKey("k"), tenant)
	w.say("listener", `{}`, "")
	long := func(e *audit.Entry) { e.Message = strings.Repeat("x", audit.MaxMessage) }
	entries := make([]audit.Entry, 30) // of several frames
	for i := range entries {
		entries[i] = w.entry(long)
	}
	sent := 0
	listener.before = func() {
		if sent++; sent == 2 {
			w.revoke("k")
			w.pass(checkInterval)
		}
	}
	w.publish(entries...)
	listener.wantEnded(t, stream.ErrKeyRevoked)
	listener.wantsFrames(t, "subscribed", "entries", "entries", "error")
}

func TestARevokedKeyEndsAnIdleConnectionAtItsNextMessage(t *testing.T) {
	w := newWorld(t)
	w.connect("idle", w.createKey("k"), tenant)
	w.revoke("k")
	w.pass(checkInterval)
	for name, say := range map[string]func(ctx context.Context, id string, body []byte) error{
		"ping": w.Ping, "subscribe": w.Subscribe, "unsubscribe": w.Unsubscribe,
	} {
		err := say(t.Context(), "idle", []byte(`{"action":"`+name+`"}`))
		if !errors.Is(err, stream.ErrKeyRevoked) {
			t.Errorf("%s: got error %v, want %v", name, err, stream.ErrKeyRevoked)
		}
		if !stream.EndsConnection(err) {
			t.Errorf("%s: the connection goes on after %v, want it to end", name, err)
		}
	}
}

func TestATicketIsBoundToItsKey(t *testing.T) {
	w := newWorld(t)
	text, _, err := w.Ticket(w.createKey("k"), tenant)
	if err != nil {
		t.Fatal(err)
	}
	principal, to, err := w.Redeem(text)
	if err != nil {
		t.Fatal(err)
	}
	listener := w.connect("early", principal, to)
	w.say("early", `{}`, "")
	w.revoke("k")
	w.pass(checkInterval)
	w.publish(w.entry(nil))
	listener.wants(t)
	listener.wantEnded(t, stream.ErrKeyRevoked)
	if principal, to, err = w.Redeem(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Connect(t.Context(), "late", principal, to); !errors.Is(err, stream.ErrKeyRevoked) {
		t.Errorf("connect by a ticket of a revoked key: got error %v, want %v", err, stream.ErrKeyRevoked)
	}
}

func TestASuspendedTenantEndsItsSubscriptions(t *testing.T) {
	w := newWorld(t)
	listener := w.subscribe("listener", `{}`, "")
	before, during := w.entry(nil), w.entry(nil)
	w.publish(before)
	resume := listener.last().Cursor
	w.setStatus(audit.TenantSuspended)
	if err := w.Ping(t.Context(), "listener", []byte(`{"action":"ping"}`)); !errors.Is(err, stream.ErrTenantSuspended) {
		t.Errorf("ping: got error %v, want %v", err, stream.ErrTenantSuspended)
	}
	w.publish(during) // accepted before the suspension
	listener.wants(t, before)
	listener.wantEnded(t, stream.ErrTenantSuspended)
	if err := w.Connect(t.Context(), "again", auditor, tenant); !errors.Is(err, stream.ErrTenantSuspended) {
		t.Errorf("connect: got error %v, want %v", err, stream.ErrTenantSuspended)
	}

	w.setStatus(audit.TenantActive)
	w.subscribe("back", `{}`, resume).wants(t, during)
}

func TestAnExpiredCredentialEndsItsSubscription(t *testing.T) {
	w := newWorld(t)
	expiring := auditor
	expiring.ExpiresAt = w.clock().Add(time.Minute)
	listener := w.connect("listener", expiring, tenant)
	w.say("listener", `{}`, "")
	w.pass(time.Minute)
	w.publish(w.entry(nil))
	listener.wants(t)
	listener.wantEnded(t, stream.ErrConnectionExpired)
}

// failingKeys are keys that cannot be read.
type failingKeys struct{ err error }

func (f failingKeys) Key(context.Context, audit.TenantID, string) (access.Key, error) {
	return access.Key{}, f.err
}

func TestNothingIsSentWhileAKeyCannotBeChecked(t *testing.T) {
	w := newWorld(t)
	listener := w.connect("listener", w.createKey("k"), tenant)
	w.say("listener", `{}`, "")
	keys, down := w.Keys, &audit.UnavailableError{Err: errors.New("down")}
	w.Keys = failingKeys{down}
	w.pass(checkInterval)
	w.store(w.entry(nil))
	if err := w.Deliver(t.Context(), nudge); !errors.Is(err, down) {
		t.Errorf("got error %v, want %v", err, down)
	}
	listener.wants(t)
	if listener.cut {
		t.Error("the connection is cut, want it open")
	}
	w.Keys = keys
	w.publish(w.entry(nil))
	if got := len(listener.ids()); got != 2 {
		t.Errorf("got %d entries once the key can be checked, want 2", got)
	}
}
