package attempts_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// world has a recorder over stores in memory.
type world struct {
	*attempts.Recorder

	now             time.Time
	tenant          audit.Tenant
	tenantErr       error
	claims          map[attempts.Slot]bool
	claimErr        error
	log             []audit.Entry
	logErr          error
	outside, failed int
	mu              sync.Mutex
}

func newWorld() *world {
	w := &world{now: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), claims: map[attempts.Slot]bool{}, tenant: audit.Tenant{ID: "acme", Status: audit.TenantActive}}
	var serial uint64
	w.Recorder = attempts.New(attempts.Recorder{
		Tenants: w, Claims: w, Log: w, Now: func() time.Time { return w.now },
		Random:  func(b []byte) { serial++; clear(b); binary.BigEndian.PutUint64(b, serial) },
		Outside: func(context.Context) { w.outside++ }, Failed: func(context.Context, audit.TenantID, error) { w.failed++ },
	})
	return w
}

func (w *world) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) {
	return w.tenant, w.tenantErr
}

func (w *world) Claim(ctx context.Context, slot attempts.Slot, most int) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := errors.Join(w.claimErr, ctx.Err()); err != nil {
		return false, err
	}
	if w.claims[slot] || len(w.claims) >= most {
		return false, nil
	}
	w.claims[slot] = true
	return true, nil
}

func (w *world) Record(ctx context.Context, _ audit.Tenant, e audit.Entry) error {
	if err := errors.Join(w.logErr, ctx.Err()); err != nil {
		return err
	}
	w.log = append(w.log, e)
	return nil
}

// wants compares how many attempts were recorded, counted as outside, and failed.
func (w *world) wants(t *testing.T, what string, recorded, outside, failed int) {
	t.Helper()
	if diff := cmp.Diff([3]int{recorded, outside, failed}, [3]int{len(w.log), w.outside, w.failed}); diff != "" {
		t.Errorf("%s: entries, attempts outside, failures (-want +got):\n%s", what, diff)
	}
}

// of is an attempt of a user of acme.
func of(tenant audit.TenantID, route string) attempts.Attempt {
	return attempts.Attempt{
		Principal: access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsReadOwn}}},
		Tenant:    tenant, Route: route, Missing: access.LogsCleanup, Reason: "No.", RequestID: "r1",
		IPAddress: netip.MustParseAddr("203.0.113.7"), UserAgent: "curl/8",
	}
}

func TestEntryOfAnAttempt(t *testing.T) {
	w := newWorld()
	w.Recorder.Record(t.Context(), of("acme", "DELETE /logs/cleanup"))
	w.wants(t, "an attempt", 1, 0, 0)
	got := w.log[0]
	if got.ID.Time() != w.now {
		t.Errorf("the id has the time %v, want %v", got.ID.Time(), w.now)
	}
	got.ID = audit.EntryID{}
	want := audit.Entry{
		UserID: "ann", RequestID: "r1", Action: "access.refused", ResourceType: "route", ResourceID: "DELETE /logs/cleanup", Severity: audit.SeverityWarning,
		Message: "No.", Metadata: audit.Object(`{"permission":"logs:cleanup"}`), IPAddress: netip.MustParseAddr("203.0.113.7"), UserAgent: "curl/8", Timestamp: w.now,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("the entry (-want +got):\n%s", diff)
	}
}

func TestEntriesHaveNoSensitiveOrMalformedValues(t *testing.T) {
	w := newWorld()
	w.tenant.Settings.SensitiveFields = []audit.SensitiveField{{Path: "ip_address"}, {Path: "user_agent"}}
	a := of("acme", "GET /logs")
	w.Recorder.Record(t.Context(), a)
	if got := w.log[0]; got.IPAddress.IsValid() || got.UserAgent != "" {
		t.Errorf("got address %v and agent %q, which the tenant wants encrypted, want neither", got.IPAddress, got.UserAgent)
	}
	w.tenant.Settings.SensitiveFields = nil
	a.Route, a.UserAgent, a.Principal.Subject = "GET /jobs", "\xff"+strings.Repeat("ü", audit.MaxUserAgent), strings.Repeat("ü", audit.MaxUserID)
	w.Recorder.Record(t.Context(), a)
	got := w.log[1]
	got.Tenant, got.ReceivedAt = "acme", w.now
	if faults := got.Validate(w.now); len(faults) > 0 {
		t.Errorf("got the faults %v, want a valid entry", faults)
	}
}

func TestWhoseLogGetsAnAttempt(t *testing.T) {
	grants := func(of map[audit.TenantID][]access.Permission) access.Principal {
		return access.Principal{Subject: "ann", Grants: of}
	}
	user := grants(map[audit.TenantID][]access.Permission{"acme": {access.LogsReadOwn}})
	two := grants(map[audit.TenantID][]access.Permission{"acme": {access.LogsReadOwn}, "globex": {access.LogsReadOwn}})
	operator := grants(map[audit.TenantID][]access.Permission{access.AnyTenant: {access.TenantsRead}})
	for _, c := range []struct {
		name              string
		principal         access.Principal
		tenant            audit.TenantID
		recorded, outside int
	}{
		{"its own tenant", user, "acme", 1, 0},
		{"a foreign one", user, "globex", 0, 1},
		{"one of two", two, "globex", 1, 0},
		{"a third", two, "other", 0, 1},
		{"any tenant of an operator", operator, "acme", 1, 0},
		{"no tenant", user, "", 0, 1},
		{"nobody", access.Principal{}, "acme", 0, 1},
	} {
		w := newWorld()
		a := of(c.tenant, "DELETE /logs/cleanup")
		a.Principal = c.principal
		w.Recorder.Record(t.Context(), a)
		w.wants(t, c.name, c.recorded, c.outside, 0)
	}
	w := newWorld()
	w.tenantErr = audit.ErrNotFound
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "a tenant that does not exist", 0, 1, 0)
	w.tenantErr, w.tenant.Status = nil, audit.TenantDeleting
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "a tenant that is being deleted", 0, 2, 0)
}

func TestOneEntryAMinute(t *testing.T) {
	w := newWorld()
	for range 5 {
		w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	}
	w.wants(t, "the same route", 1, 0, 0)
	w.Recorder.Record(t.Context(), of("acme", "GET /jobs"))
	w.wants(t, "another route", 2, 0, 0)
	other := of("acme", "GET /logs")
	other.Principal.KeyID = "k1"
	w.Recorder.Record(t.Context(), other)
	w.wants(t, "another caller", 3, 0, 0)
	w.now = w.now.Add(time.Minute)
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "another minute", 4, 0, 0)
}

func TestSoManyEntriesAnHour(t *testing.T) {
	w := newWorld()
	for i := range attempts.MaxAnHour + 20 {
		w.Recorder.Record(t.Context(), of("acme", fmt.Sprintf("GET /%d", i)))
	}
	w.wants(t, "many routes", attempts.MaxAnHour, 0, 0)
}

// A caller that hangs up suppresses nothing.
func TestAttemptsOfCallersThatHangUp(t *testing.T) {
	w := newWorld()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Recorder.Record(ctx, of("acme", "GET /logs"))
	w.wants(t, "an attempt", 1, 0, 0)
}

func TestFailuresDoNotHoldUpAnswers(t *testing.T) {
	down := &audit.UnavailableError{Err: errors.New("down")}
	w := newWorld()
	w.logErr = down
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "the queue is down", 0, 0, 1)
	w.logErr = nil
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "a moment later", 0, 0, 2) // it is not asked
	w.now = w.now.Add(6 * time.Second)
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "the queue is back in the same minute", 1, 0, 2)

	w = newWorld()
	w.claimErr = down
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "the store is down", 0, 0, 1)
	w = newWorld()
	w.tenantErr = down
	w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
	w.wants(t, "tenants cannot be read", 0, 0, 1)
}

// slow answers when the caller no longer waits.
type slow struct{ *world }

func (slow) Claim(ctx context.Context, _ attempts.Slot, _ int) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestSlowStoresDoNotHoldUpAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.Claims = slow{w}
		start := time.Now()
		for range 10 {
			w.Recorder.Record(t.Context(), of("acme", "GET /logs"))
		}
		if got := time.Since(start); got > 1500*time.Millisecond {
			t.Errorf("ten attempts took %v, want about a second together", got)
		}
		w.wants(t, "attempts", 0, 0, 10)
	})
}
