package erasure

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// Subjects names subjects as the stores of keys do; see protect.Keyring.
type Subjects interface {
	SubjectID(ctx context.Context, tenant audit.TenantID, subject string) (protect.SubjectID, error)
}

// Service starts, shows and cancels erasures.
type Service struct {
	Jobs     *jobs.Service
	Subjects Subjects
	Holds    hold.Reader
	Recorder audit.Recorder
	Clock    jobs.Clock // see Runner
	Now      func() time.Time
	Random   func([]byte)
}

// Create starts an erasure. It records it first, so the log can have one that was not started. It
// returns an *audit.ValidationError, ErrSelf, audit.ErrForbidden if the caller's credential is
// restricted to resources, a *hold.HeldError, ErrTooManyOpen, or jobs.ErrTooManyQueued. A hold that names
// other users can cover an entry of the subject too: then the erasure fails later.
func (s *Service) Create(ctx context.Context, by access.Principal, tenant audit.Tenant, r Request) (Erasure, error) {
	if err := r.validate(); err != nil {
		return Erasure{}, err
	}
	if err := s.check(ctx, by, tenant.ID, r.Subject); err != nil {
		return Erasure{}, fmt.Errorf("erase a subject of %s: %w", tenant.ID, err)
	}
	subject, err := s.Subjects.SubjectID(ctx, tenant.ID, r.Subject)
	if err != nil {
		return Erasure{}, fmt.Errorf("erase a subject of %s: %w", tenant.ID, err)
	}
	var random [16]byte
	s.Random(random[:])
	job := jobs.Job{ID: hex.EncodeToString(random[:]), Kind: jobs.KindErasure, Tenant: tenant.ID, CreatedBy: by.Subject}
	now, err := s.Clock.Now(ctx, s.Now)
	if err != nil {
		return Erasure{}, fmt.Errorf("erase a subject of %s: %w", tenant.ID, err)
	}
	at := checkpoint{Subject: subject, ErasesAt: now.Add(time.Duration(r.DelayHours) * time.Hour)}
	if job.Checkpoint, err = json.Marshal(at); err != nil {
		return Erasure{}, fmt.Errorf("erase a subject of %s: %w", tenant.ID, err)
	}
	if err := s.record(ctx, tenant, &job, &at, &r); err != nil {
		return Erasure{}, err
	}
	if job, err = s.Jobs.Start(ctx, job); err != nil {
		return Erasure{}, err
	}
	return ofJob(job)
}

// check returns why the caller may not erase the subject now.
func (s *Service) check(ctx context.Context, by access.Principal, tenant audit.TenantID, subject string) error {
	if subject == by.Subject || subject == by.Person() {
		return ErrSelf
	}
	if err := by.Unrestricted(); err != nil { // the values of a subject are in entries of any resource
		return err
	}
	standing, err := s.Holds.Standing(ctx, tenant)
	if err != nil {
		return err
	}
	others := func(h hold.Hold) bool { return len(h.UserIDs) > 0 && !slices.Contains(h.UserIDs, subject) }
	if standing = slices.DeleteFunc(standing, others); len(standing) > 0 {
		return &hold.HeldError{Holds: standing}
	}
	full, err := s.Jobs.Full(ctx, tenant, jobs.KindErasure, MaxOpen)
	if err == nil && full {
		err = ErrTooManyOpen
	}
	return err
}

// record writes who wants an erasure, and why. The log outlives the key, so it has the HMAC of the
// subject's name: a name can itself be what is to be erased.
func (s *Service) record(ctx context.Context, tenant audit.Tenant, job *jobs.Job, at *checkpoint, r *Request) error {
	metadata, err := json.Marshal(struct {
		Subject    protect.SubjectID `json:"subject_hmac"`
		Reason     string            `json:"reason"`
		DelayHours int               `json:"delay_hours"`
	}{at.Subject, r.Reason, r.DelayHours})
	if err != nil {
		return fmt.Errorf("record an erasure of %s: %w", tenant.ID, err)
	}
	return audit.Record(ctx, s.Recorder, tenant, audit.Entry{
		UserID: job.CreatedBy, Action: actionCreate, ResourceType: resourceErasure, ResourceID: job.ID, Metadata: metadata,
	})
}

// List returns up to limit erasures of the tenant, the newest first, and whether more follow. It
// returns none if the caller may not see them.
func (s *Service) List(ctx context.Context, by access.Principal, tenant audit.TenantID, after *jobs.Position, limit int) ([]Erasure, bool, error) {
	list, more, err := s.Jobs.List(ctx, by, tenant, jobs.Filter{Kinds: []jobs.Kind{jobs.KindErasure}}, after, limit)
	if err != nil {
		return nil, false, err
	}
	erasures, err := jobs.WithCheckpoints(ctx, s.Jobs.Store, list, ofJob)
	return erasures, more, err
}

// Erasure returns an erasure of the tenant. It returns audit.ErrNotFound if none exists or if the
// caller may not see it.
func (s *Service) Erasure(ctx context.Context, by access.Principal, tenant audit.TenantID, id string) (Erasure, error) {
	job, err := s.Jobs.Job(ctx, by, tenant, id)
	if err == nil && job.Kind != jobs.KindErasure {
		err = fmt.Errorf("erasure %s of %s: %w", id, tenant, audit.ErrNotFound)
	}
	if err != nil {
		return Erasure{}, err
	}
	return ofJob(job)
}

// Cancel ends an erasure whose delay is not over; see jobs.Service.Cancel.
func (s *Service) Cancel(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) (Erasure, error) {
	if _, err := s.Erasure(ctx, by, tenant.ID, id); err != nil {
		return Erasure{}, err
	}
	job, err := s.Jobs.Cancel(ctx, by, tenant, id)
	if err != nil {
		return Erasure{}, err
	}
	return ofJob(job)
}
