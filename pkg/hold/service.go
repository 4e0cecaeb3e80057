package hold

import (
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

// Service sets, shows and releases holds.
type Service struct {
	Store    Store
	Tenants  jobs.Tenants // tenants.Cache.Fresh if the process has a cache
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
// UserIDs, From and To. It records the hold first, so the log can have one that was not set. It
// returns an *audit.ValidationError, audit.ErrForbidden if the caller's credential is restricted to
// resources, ErrTooManyStanding, or audit.ErrConflict if the tenant is being deleted.
func (s *Service) Create(ctx context.Context, by access.Principal, tenant audit.Tenant, h Hold) (Hold, error) {
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
	if len(by.Resources) > 0 { // a hold covers entries of any resource
		return audit.ErrForbidden
	}
	standing, err := s.Store.Standing(ctx, tenant.ID)
	if err != nil {
		return err
	}
	if len(standing) >= MaxStanding {
		return ErrTooManyStanding
	}
	if err := s.record(ctx, tenant, &h, h.CreatedBy, actionCreate, h.Reason); err != nil {
		return err
	}
	if err := s.Store.CreateHold(ctx, h); err != nil {
		return err
	}
	if err := s.checkTenant(ctx, h); err != nil {
		return err
	}
	_, err = s.Jobs.Start(ctx, jobs.Job{ID: h.ID, Kind: jobs.KindLegalHold, Tenant: h.Tenant, CreatedBy: h.CreatedBy})
	return err
}

// checkTenant takes the hold back if the tenant is being deleted. A deletion looks for holds after
// it has marked the tenant, and a hold for the mark after it was stored. So one of them sees the
// other.
func (s *Service) checkTenant(ctx context.Context, h Hold) error {
	tenant, err := s.Tenants.Tenant(ctx, h.Tenant)
	if err != nil || tenant.Status != audit.TenantDeleting {
		return err
	}
	h.ReleasedAt, h.ReleasedBy, h.ReleaseReason = s.now(), h.CreatedBy, "the tenant is being deleted"
	h.Version++
	if err := s.Store.UpdateHold(ctx, h); err != nil {
		return err
	}
	return fmt.Errorf("the tenant is being deleted: %w", audit.ErrConflict)
}

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// record writes who sets or releases a hold, and why.
func (s *Service) record(ctx context.Context, tenant audit.Tenant, h *Hold, by, action, reason string) error {
	metadata, err := json.Marshal(struct {
		Matter  string    `json:"matter"`
		Reason  string    `json:"reason"`
		UserIDs []string  `json:"user_ids,omitempty"`
		From    time.Time `json:"from,omitzero"`
		To      time.Time `json:"to,omitzero"`
	}{h.Matter, reason, h.UserIDs, h.From, h.To})
	if err != nil {
		return fmt.Errorf("record a legal hold of %s: %w", tenant.ID, err)
	}
	return audit.Record(ctx, s.Recorder, tenant, audit.Entry{
		UserID: by, Action: action, ResourceType: resourceHold, ResourceID: h.ID, Metadata: metadata,
	})
}

// List returns up to limit holds of the tenant, the newest first, and whether more follow.
func (s *Service) List(ctx context.Context, tenant audit.TenantID, after *Position, limit int) ([]Hold, bool, error) {
	return s.Store.Holds(ctx, tenant, after, limit)
}

// Hold returns a hold of the tenant. It returns audit.ErrNotFound if none exists.
func (s *Service) Hold(ctx context.Context, tenant audit.TenantID, id string) (Hold, error) {
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
	if len(by.Resources) > 0 {
		return Hold{}, audit.ErrForbidden
	}
	for attempt := range maxAttempts {
		h, err := s.Store.Hold(ctx, tenant.ID, id)
		if err != nil {
			return Hold{}, err
		}
		if !h.ReleasedAt.IsZero() {
			return Hold{}, ErrReleased
		}
		if attempt == 0 {
			if err := s.record(ctx, tenant, &h, by.Subject, actionRelease, reason); err != nil {
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
