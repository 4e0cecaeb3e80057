package hold

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const (
	actionCreate  = "legal_hold.create"
	actionInForce = "legal_hold.in_force"
	actionRelease = "legal_hold.release"
	resourceHold  = "legal_hold"
)

// maxAttempts is how often a change is tried while others change the same hold.
const maxAttempts = 8

// Tenants reads and writes the records of tenants; see tenants.Store.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
	// Update replaces the record if its stored Version is one less. It returns
	// audit.ErrPrecondition if it is another.
	Update(ctx context.Context, tenant audit.Tenant) error
}

// Service sets, shows and releases holds.
type Service struct {
	Store    Store
	Tenants  Tenants // tenants.Cache.Fresh if the process has a cache
	Jobs     *jobs.Service
	Recorder audit.Recorder
	// Released is called after a hold has ended: what it kept may be removed now.
	Released func(ctx context.Context, tenant audit.TenantID) error
	Now      func() time.Time
	Random   func([]byte)
}

// validate returns the faults of a hold as the caller describes it.
func (h *Hold) validate() []audit.FieldError {
	faults := slices.Concat(audit.TextFaults("/matter", h.Matter, MaxMatter), audit.TextFaults("/reason", h.Reason, MaxReason))
	if len(h.UserIDs) > MaxUserIDs {
		faults = append(faults, audit.FieldError{Pointer: "/user_ids", Code: "too_many", Detail: fmt.Sprintf("must have at most %d elements", MaxUserIDs)})
	}
	for i, id := range h.UserIDs[:min(len(h.UserIDs), MaxUserIDs)] {
		faults = append(faults, audit.TextFaults(fmt.Sprintf("/user_ids/%d", i), id, MaxUserID)...)
	}
	if !h.From.IsZero() && !h.To.IsZero() && !h.From.Before(h.To) {
		faults = append(faults, audit.FieldError{Pointer: "/to", Code: "out_of_range", Detail: "must be later than from"})
	}
	return faults
}

// Create sets a hold and starts the job that brings it into force. The caller sets Matter, Reason,
// UserIDs, From and To. It records the hold and starts its job first, so the log can have a hold that
// was not set, and a killed process leaves none without a job. It
// returns an *audit.ValidationError, audit.ErrForbidden if the caller's credential is restricted to
// resources, ErrTooManyStanding, or audit.ErrConflict if the tenant is being deleted.
func (s *Service) Create(ctx context.Context, by access.Principal, tenant audit.Tenant, h Hold) (Hold, error) {
	h.From, h.To = audit.WholeMillisecond(h.From), audit.WholeMillisecond(h.To)
	if err := audit.InvalidFields(h.validate()); err != nil {
		return Hold{}, err
	}
	var random [16]byte
	s.Random(random[:])
	h.ID, h.Tenant, h.Version = hex.EncodeToString(random[:]), tenant.ID, 1
	h.CreatedBy, h.CreatedAt = by.Subject, s.now()
	if err := s.create(ctx, by, tenant, h); err != nil {
		return Hold{}, fmt.Errorf("hold entries of %s: %w", tenant.ID, err)
	}
	return h, nil
}

func (s *Service) create(ctx context.Context, by access.Principal, tenant audit.Tenant, h Hold) error {
	if err := by.Unrestricted(); err != nil {
		return err
	}
	// A hold that stands only until meetDeletion takes it back would end the deletion.
	if current, err := s.Tenants.Tenant(ctx, tenant.ID); err != nil {
		return err
	} else if current.Status == audit.TenantDeleting {
		return errDeleting
	}
	standing, err := s.Store.Standing(ctx, tenant.ID)
	if err != nil {
		return err
	}
	if len(standing) >= MaxStanding {
		return ErrTooManyStanding
	}
	if err := s.record(ctx, tenant, &h, h.CreatedBy, actionCreate); err != nil {
		return err
	}
	if _, err := s.Jobs.Start(ctx, jobs.Job{ID: h.ID, Kind: jobs.KindLegalHold, Tenant: h.Tenant, CreatedBy: h.CreatedBy}); err != nil {
		return err
	}
	if err := s.Store.CreateHold(ctx, h); err != nil {
		return err
	}
	return s.meetDeletion(ctx, h)
}

// meetDeletion raises the version of the tenant's record, or takes the hold back if the tenant is
// being deleted. A deletion reads the holds between reading that record and marking it. So it sees the
// hold, or its mark comes first, or it must begin again.
func (s *Service) meetDeletion(ctx context.Context, h Hold) error {
	for range maxAttempts {
		tenant, err := s.Tenants.Tenant(ctx, h.Tenant)
		if err != nil {
			return err
		}
		if tenant.Status == audit.TenantDeleting {
			return s.takeBack(ctx, h)
		}
		tenant.Version++
		if err := s.Tenants.Update(ctx, tenant); !errors.Is(err, audit.ErrPrecondition) {
			return err
		}
	}
	return &audit.UnavailableError{Err: errors.New("the tenant changes too often")}
}

func (s *Service) takeBack(ctx context.Context, h Hold) error {
	h.ReleasedAt, h.ReleasedBy, h.ReleaseReason = s.now(), h.CreatedBy, "the tenant is being deleted"
	h.Version++
	if err := s.Store.UpdateHold(ctx, h); err != nil {
		return err
	}
	return errDeleting
}

var errDeleting = fmt.Errorf("the tenant is being deleted: %w", audit.ErrConflict)

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// record writes who sets or releases a hold. Who may read the log need not know of whom a hold is,
// and why: the hold itself has that.
func (s *Service) record(ctx context.Context, tenant audit.Tenant, h *Hold, by, action string) error {
	metadata, err := json.Marshal(struct {
		Users int       `json:"users"` // 0: all
		From  time.Time `json:"from,omitzero"`
		To    time.Time `json:"to,omitzero"`
	}{len(h.UserIDs), h.From, h.To})
	if err != nil {
		return fmt.Errorf("record a legal hold of %s: %w", tenant.ID, err)
	}
	return audit.Record(ctx, s.Recorder, tenant, audit.Entry{
		UserID: by, Action: action, ResourceType: resourceHold, ResourceID: h.ID, Metadata: metadata,
	})
}

// List returns up to limit holds of the tenant, the newest first, and whether more follow. It returns
// audit.ErrForbidden if the caller's credential is restricted to resources.
func (s *Service) List(ctx context.Context, by access.Principal, tenant audit.TenantID, after *jobs.Position, limit int) ([]Hold, bool, error) {
	if err := by.Unrestricted(); err != nil {
		return nil, false, err
	}
	return s.Store.Holds(ctx, tenant, after, limit)
}

// Hold returns a hold of the tenant. It returns audit.ErrNotFound if none exists, and
// audit.ErrForbidden as List does.
func (s *Service) Hold(ctx context.Context, by access.Principal, tenant audit.TenantID, id string) (Hold, error) {
	if err := by.Unrestricted(); err != nil {
		return Hold{}, err
	}
	return s.Store.Hold(ctx, tenant, id)
}

// Release ends a hold: what it kept is removed as if it had never been. Releasing twice is
// ErrReleased. It records the release first, so the log can have one that failed. It returns
// audit.ErrForbidden if the caller's credential is restricted to resources, and audit.ErrNotFound.
func (s *Service) Release(ctx context.Context, by access.Principal, tenant audit.Tenant, id, reason string) (Hold, error) {
	if err := audit.InvalidFields(audit.TextFaults("?reason", reason, MaxReason)); err != nil {
		return Hold{}, err
	}
	h, err := s.release(ctx, by, tenant, id, reason)
	if err != nil {
		return Hold{}, fmt.Errorf("release hold %s of %s: %w", id, tenant.ID, err)
	}
	return h, nil
}

func (s *Service) release(ctx context.Context, by access.Principal, tenant audit.Tenant, id, reason string) (Hold, error) {
	if err := by.Unrestricted(); err != nil {
		return Hold{}, err
	}
	for attempt := range maxAttempts {
		h, err := s.Store.Hold(ctx, tenant.ID, id)
		if err != nil {
			return Hold{}, err
		}
		if !h.ReleasedAt.IsZero() { // by a call that may have failed before it told retention
			return Hold{}, cmp.Or(s.Released(ctx, tenant.ID), ErrReleased)
		}
		if attempt == 0 {
			if err := s.record(ctx, tenant, &h, by.Subject, actionRelease); err != nil {
				return Hold{}, err
			}
		}
		h.ReleasedAt, h.ReleasedBy, h.ReleaseReason = s.now(), by.Subject, reason
		h.Version++
		if err = s.Store.UpdateHold(ctx, h); errors.Is(err, audit.ErrPrecondition) {
			continue // its job has just brought it into force
		}
		if err != nil {
			return Hold{}, err
		}
		return h, s.Released(ctx, tenant.ID)
	}
	return Hold{}, &audit.UnavailableError{Err: errors.New("it changes too often")}
}
