package ingest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// panickingStore panics for the entries of one user.
type panickingStore struct{ tenantStore }

func (s *panickingStore) Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (ingest.Appended, error) {
	for i := range entries {
		if entries[i].UserID == "broken" {
			panic("entry content")
		}
	}
	return s.tenantStore.Append(ctx, tenant, entries)
}

func TestPersistSurvivesAPanicOfOneMessage(t *testing.T) {
	entries := &panickingStore{tenantStore{
		writes: map[audit.TenantID]int{}, stored: map[audit.TenantID]int{},
		err: func(audit.TenantID, []audit.Entry) error { return nil },
	}}
	p := ingest.Persister{
		Now: clock, Store: entries, Index: &lockedQueue{}, Arrivals: &lockedQueue{}, DeadLetters: &lockedQueue{},
		Tenants: directory{"acme": {ID: "acme"}, "globex": {ID: "globex"}},
	}
	outcomes := p.Persist(t.Context(), []string{
		messageOf(t, "acme", "u"), messageOf(t, "acme", "broken"), messageOf(t, "globex", "u"),
	})
	for i, want := range []bool{false, true, false} {
		if got := outcomes[i] != nil; got != want {
			t.Errorf("message %d failed: %t (%v), want %t", i, got, outcomes[i], want)
		}
	}
	if err := outcomes[1]; err != nil && strings.Contains(err.Error(), "entry content") {
		t.Errorf("got error %v, want it without the panic's value", err)
	}
	if got := entries.stored["acme"] + entries.stored["globex"]; got != 2 {
		t.Errorf("stored %d entries, want 2", got)
	}
}
