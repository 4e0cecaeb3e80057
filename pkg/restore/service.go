package restore

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Service starts, shows and cancels restores.
type Service struct {
	Jobs     *jobs.Service
	Recorder audit.Recorder
	// Clock decides when the entries leave again.
	Clock  jobs.Clock
	Now    func() time.Time
	Random func([]byte)
}

const oneDay = 24 * time.Hour

// Create starts a restore. It records it first, so the log can have one that was not started. It returns
// an *audit.ValidationError, audit.ErrForbidden if the caller's credential is restricted to resources,
// ErrTooManyOpen, or jobs.ErrTooManyQueued.
func (s *Service) Create(ctx context.Context, by access.Principal, tenant audit.Tenant, r Request) (Restore, error) {
	r.From, r.To = audit.WholeMillisecond(r.From), audit.WholeMillisecond(r.To)
	if err := r.validate(); err != nil {
		return Restore{}, err
	}
	job, err := s.prepare(ctx, by, tenant.ID, &r)
	if err != nil {
		return Restore{}, fmt.Errorf("restore entries of %s: %w", tenant.ID, err)
	}
	if err := s.record(ctx, tenant, &job, &r); err != nil {
		return Restore{}, err
	}
	if job, err = s.Jobs.Start(ctx, job); err != nil {
		return Restore{}, err
	}
	return ofJob(job)
}

// prepare returns the job of a restore that the caller may start.
func (s *Service) prepare(ctx context.Context, by access.Principal, tenant audit.TenantID, r *Request) (jobs.Job, error) {
	if err := by.Unrestricted(); err != nil { // a part has entries of any resource
		return jobs.Job{}, err
	}
	full, err := s.Jobs.Full(ctx, tenant, jobs.KindRestore, MaxOpen)
	if err == nil && full {
		err = ErrTooManyOpen
	}
	if err != nil {
		return jobs.Job{}, err
	}
	now, err := s.Clock.Now(ctx, s.Now)
	if err != nil {
		return jobs.Job{}, err
	}
	var random [16]byte
	s.Random(random[:])
	until := now.Add(time.Duration(r.Days) * oneDay)
	at, err := json.Marshal(checkpoint{From: r.From, To: r.To, Days: r.Days, IncludeCleaned: r.IncludeCleaned, Until: until})
	return jobs.Job{ID: hex.EncodeToString(random[:]), Kind: jobs.KindRestore, Tenant: tenant, CreatedBy: by.Subject, Checkpoint: at}, err
}

// record writes who restores what into the tenant's log.
func (s *Service) record(ctx context.Context, tenant audit.Tenant, job *jobs.Job, r *Request) error {
	about, err := json.Marshal(struct {
		From           time.Time `json:"from"`
		To             time.Time `json:"to"`
		Days           int       `json:"days"`
		IncludeCleaned bool      `json:"include_cleaned"`
	}{r.From, r.To, r.Days, r.IncludeCleaned})
	if err != nil {
		return fmt.Errorf("record a restore of %s: %w", tenant.ID, err)
	}
	return audit.Record(ctx, s.Recorder, tenant, audit.Entry{
		UserID: job.CreatedBy, Action: actionCreate, ResourceType: resourceRestore, ResourceID: job.ID, Metadata: about,
	})
}

// List returns up to limit restores of the tenant, the newest first, and whether more follow. It returns
// none if the caller may not see them.
func (s *Service) List(ctx context.Context, by access.Principal, tenant audit.TenantID, after *jobs.Position, limit int) ([]Restore, bool, error) {
	list, more, err := s.Jobs.List(ctx, by, tenant, jobs.Filter{Kinds: []jobs.Kind{jobs.KindRestore}}, after, limit)
	if err != nil {
		return nil, false, err
	}
	restores, err := jobs.WithCheckpoints(ctx, s.Jobs.Store, list, ofJob)
	return restores, more, err
}

// Restore returns a restore of the tenant. It returns audit.ErrNotFound if none exists or if the caller may
// not see it.
func (s *Service) Restore(ctx context.Context, by access.Principal, tenant audit.TenantID, id string) (Restore, error) {
	job, err := s.Jobs.Job(ctx, by, tenant, id)
	if err == nil && job.Kind != jobs.KindRestore {
		err = fmt.Errorf("restore %s of %s: %w", id, tenant, audit.ErrNotFound)
	}
	if err != nil {
		return Restore{}, err
	}
	return ofJob(job)
}

// Cancel ends a restore; see jobs.Service.Cancel. What has come back stays until its time is over.
func (s *Service) Cancel(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) (Restore, error) {
	if _, err := s.Restore(ctx, by, tenant.ID, id); err != nil {
		return Restore{}, err
	}
	job, err := s.Jobs.Cancel(ctx, by, tenant, id)
	if err != nil {
		return Restore{}, err
	}
	return ofJob(job)
}
