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

// TestAChangeBeforeTheTombstone: the status changes between the last check of the record and
// the tombstone, so the tenant remains.
func TestAChangeBeforeTheTombstone(t *testing.T) {
	p := newPurge(t)
	p.TenantPurge.Tenants = lastMoment{p.db.Tenants(), func() { p.setStatus(t, audit.TenantActive) }}
	p.finish(t)
	if job := p.stored(t); job.State != jobs.StateFailed {
		t.Errorf("the job is %s, want %s", job.State, jobs.StateFailed)
	}
	tenant, err := p.db.Tenants().Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatalf("the tenant with another status: %v", err)
	}
	if tenant.Status != audit.TenantActive {
		t.Errorf("the tenant's status is %s, want %s", tenant.Status, audit.TenantActive)
	}
}
