// Package hold keeps legal holds. While one stands, nothing that it covers is removed: not by
// retention, by a cleanup, by an erasure, or by the deletion of the tenant. Service sets, shows and releases
// holds, Runner brings them into force, and Standing is what removals ask.
package hold

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// Limits of a hold.
const (
	MaxMatter   = 256     // bytes
	MaxReason   = 1 << 10 // bytes
	MaxUserIDs  = 100
	MaxUserID   = audit.MaxUserID
	MaxStanding = 100 // holds of a tenant that are not released; each removal reads them all
)

// Errors of Service. Each is an audit.ErrConflict.
var (
	ErrTooManyStanding = fmt.Errorf("the tenant has %d holds that are not released: %w", MaxStanding, audit.ErrConflict)
	ErrReleased        = fmt.Errorf("the hold is released: %w", audit.ErrConflict)
	// ErrHeld says that a hold covers what is to be removed.
	ErrHeld = fmt.Errorf("a legal hold covers it: %w", audit.ErrConflict)
)

// HeldError is ErrHeld with the holds of the tenant that cover what is to be removed. Its text does not
// name them, since logs have it.
type HeldError struct{ Holds Standing }

func (e *HeldError) Error() string { return ErrHeld.Error() }

func (e *HeldError) Unwrap() error { return ErrHeld }

// For returns the holds if the caller may read them, and nil otherwise.
func (e *HeldError) For(by access.Principal, tenant audit.TenantID) Standing {
	if !MayRead(by, tenant) {
		return nil
	}
	return e.Holds
}

// MayRead reports whether a caller may read the holds of a tenant. A caller whose credential is restricted
// to resources may not.
func MayRead(by access.Principal, tenant audit.TenantID) bool {
	return by.Unrestricted() == nil && by.Has(tenant, access.HoldsRead)
}

// Hold is a legal hold. Times have whole milliseconds. The JSON form is that of the embedded
// engine's file.
type Hold struct {
	ID     string         `json:"id"` // that of its job too
	Tenant audit.TenantID `json:"tenant_id"`
	Matter string         `json:"matter"` // the case
	Reason string         `json:"reason"`
	// UserIDs are the users whose entries it covers; empty: all entries.
	UserIDs []string `json:"user_ids,omitempty"`
	// From and To restrict it to From ≤ timestamp < To; a zero bound is open.
	From      time.Time `json:"from,omitzero"`
	To        time.Time `json:"to,omitzero"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	// InForceAt is when no removal was under way any more that did not know of the hold; zero
	// before.
	InForceAt time.Time `json:"in_force_at,omitzero"`
	// ReleasedAt is when it ended; zero: it stands. ReleasedBy and ReleaseReason are set with it.
	ReleasedAt    time.Time `json:"released_at,omitzero"`
	ReleasedBy    string    `json:"released_by,omitempty"`
	ReleaseReason string    `json:"release_reason,omitempty"`
	// Version is one more after each change.
	Version int64 `json:"version"`
}

// Covers reports whether the hold covers an entry. It looks at UserID and Timestamp.
func (h *Hold) Covers(e *audit.Entry) bool {
	return (h.From.IsZero() || !e.Timestamp.Before(h.From)) && (h.To.IsZero() || e.Timestamp.Before(h.To)) &&
		(len(h.UserIDs) == 0 || slices.Contains(h.UserIDs, e.UserID))
}

// Standing are the holds of a tenant that are not released. They hold at once: a hold is in force
// only later because a removal that began before can still run.
type Standing []Hold

// Cover reports whether one of the holds covers an entry.
func (s Standing) Cover(e *audit.Entry) bool {
	return slices.ContainsFunc(s, func(h Hold) bool { return h.Covers(e) })
}

// Overlap reports whether one of the holds can cover an entry with first ≤ timestamp ≤ last.
func (s Standing) Overlap(first, last time.Time) bool {
	return slices.ContainsFunc(s, func(h Hold) bool {
		return !h.From.After(last) && (h.To.IsZero() || h.To.After(first))
	})
}

// Expr returns the condition that exactly those entries meet that one of the holds covers.
func (s Standing) Expr() audit.Expr {
	held := audit.Or{}
	for i := range s {
		of := func(h Hold) bool { return h.From.Equal(s[i].From) && h.To.Equal(s[i].To) }
		if slices.ContainsFunc(s[:i], of) {
			continue
		}
		covered := audit.And{}
		if users := s.usersOf(of); len(users) > 0 {
			covered = append(covered, audit.Equals{Field: audit.FieldUserID, Values: users})
		}
		if from, to := s[i].From, s[i].To; !from.IsZero() || !to.IsZero() {
			covered = append(covered, audit.Time{From: from, To: to})
		}
		held = append(held, covered)
	}
	return held
}

// usersOf returns the users whose entries some of the holds cover; none: those of all users.
func (s Standing) usersOf(of func(Hold) bool) (users []string) {
	for _, h := range s {
		if !of(h) {
			continue
		}
		if len(h.UserIDs) == 0 {
			return nil
		}
		users = append(users, h.UserIDs...)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// Selection returns the times in which the holds cover entries: from the first to the last.
func (s Standing) Selection() (of retention.Selection) {
	for i := range s {
		h := &s[i]
		if i == 0 || h.From.Before(of.From) { // an open beginning is before every time
			of.From = h.From
		}
		if i == 0 || !of.To.IsZero() && (h.To.IsZero() || h.To.After(of.To)) {
			of.To = h.To
		}
	}
	return of
}

// Store stores holds, each under its tenant.
type Store interface {
	// CreateHold adds a hold. It returns audit.ErrConflict if the tenant has one with this id.
	CreateHold(ctx context.Context, h Hold) error
	// UpdateHold replaces a hold whose stored Version is one less. It returns audit.ErrPrecondition
	// if it is another, and audit.ErrNotFound if none exists.
	UpdateHold(ctx context.Context, h Hold) error
	// Hold returns a hold of the tenant. It returns audit.ErrNotFound if none exists.
	Hold(ctx context.Context, tenant audit.TenantID, id string) (Hold, error)
	// Holds returns up to limit holds of the tenant, the newest first, after a position (nil: from
	// the newest), and whether more follow.
	Holds(ctx context.Context, tenant audit.TenantID, after *jobs.Position, limit int) (list []Hold, more bool, err error)
	Reader
}

// Reader reads what no removal may touch.
type Reader interface {
	// Standing returns the holds of the tenant that are not released. It has those that were created
	// before the call, and reads no older state.
	Standing(ctx context.Context, tenant audit.TenantID) (Standing, error)
}
