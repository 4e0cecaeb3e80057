package erasure

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// ArchiveCheck is the jobs.Runner of erasures at the workers of the archive. It looks for archived entries of the
// subject that a legal hold covers, and hands the job back to Runner.
type ArchiveCheck struct {
	Holds   hold.Reader
	Tenants jobs.Tenants // tenants.Cache.Fresh if the process has a cache
	// Archived reads what is archived of a tenant; see export.Runner.
	Archived func(tenant audit.TenantID, from, to time.Time) export.ArchivedEntries
}

// Run implements jobs.Runner.
func (c *ArchiveCheck) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	if !s.Job.Archive { // an old message: Runner has the job
		return jobs.Result{}, nil
	}
	var at checkpoint
	err := s.Read(&at)
	if err == nil {
		err = c.check(ctx, s, &at)
	}
	if err != nil {
		return jobs.Result{}, fmt.Errorf("erase a subject of %s: %w", s.Job.Tenant, err)
	}
	return jobs.Result{}, nil
}

// check looks at what is left, or what the slice has time for. Runner notices a hold that is set meanwhile, and
// begins again.
func (c *ArchiveCheck) check(ctx context.Context, s *jobs.Slice, at *checkpoint) error {
	tenant, err := c.Tenants.Tenant(ctx, s.Job.Tenant)
	if _, err = jobs.LiveTenant(tenant, err, reasonDeleted); err != nil {
		return err
	}
	standing, err := c.Holds.Standing(ctx, s.Job.Tenant)
	if err != nil {
		return err
	}
	of := standing.Selection()
	archived := c.Archived(s.Job.Tenant, of.From, of.To)
	for more := len(standing) > 0; more; {
		places, err := archived.IDs(ctx, at.ArchivedUpTo, audit.EntryID{}, retention.MaxEncrypted)
		if err != nil {
			return err
		}
		entries, err := archived.Read(ctx, places)
		if err != nil {
			return err
		}
		for i := range entries {
			if e := &entries[i]; at.concerns(e) && standing.Cover(e) {
				return &jobs.FailedError{Reason: reasonHeld}
			}
			at.ArchivedUpTo = entries[i].ID
		}
		if more = len(places) == retention.MaxEncrypted; more && s.TimeUp() {
			return s.Save(ctx, at)
		}
		if err := s.SaveIfDue(ctx, at); err != nil {
			return err
		}
	}
	at.ArchiveChecked, s.Job.Archive = true, false
	return s.Save(ctx, at)
}
