package jobs_test

import (
	"context"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// lastMoment calls a function right before the tombstone is written.
type lastMoment struct {
	tenants.Store
	before func()
}

func (s lastMoment) Tombstone(ctx context.Context, id audit.TenantID, version int64) error {
	s.before()
	return s.Store.Tombstone(ctx, id, version)
}

// TestLegalHoldBeforeTheTombstone: the hold is set between the last check of the record and
// the tombstone. Its request was answered, so the tenant remains.
func TestLegalHoldBeforeTheTombstone(t *testing.T) {
	p := newPurge(t)
	p.Tenants = lastMoment{p.db.Tenants(), func() { p.setLegalHold(t, true) }}
	p.finish(t)
	if job := p.stored(t); job.State != jobs.StateFailed {
		t.Errorf("the job is %s, want %s", job.State, jobs.StateFailed)
	}
	tenant, err := p.db.Tenants().Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatalf("the tenant under legal hold: %v", err)
	}
	if !tenant.Settings.LegalHold {
		t.Error("the tenant has no legal hold, want the one that was set")
	}
}
