package export

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// heldPage is how many entries of a legal hold are read at once. Each can have 384 KiB.
	heldPage = 100
	// maxLooked is how many entries of a hold's time an answer at once looks at. More is a job.
	maxLooked = 10 * retention.MaxEntries
)

// The reasons of exports by a legal hold that fail, for callers.
const (
	reasonNoHold   = "the legal hold does not exist any more"
	reasonReleased = "the legal hold was released, so that what it covered can be removed"
)

// ErrNoHold says that the tenant has no legal hold with the id that was asked for. It is an
// audit.ErrNotFound.
var ErrNoHold = fmt.Errorf("no such legal hold: %w", audit.ErrNotFound)

// HoldReader finds legal holds; see hold.Store.
type HoldReader interface {
	Hold(ctx context.Context, tenant audit.TenantID, id string) (hold.Hold, error)
}

// HeldStore reads what legal holds cover in the system of record: the index lacks what has expired.
type HeldStore interface {
	// Retained is that of retention.Store.
	Retained(ctx context.Context, tenant audit.TenantID, of retention.Selection, limit int) ([]retention.Entry, error)
	search.EntryReader
}

// findHold returns the hold that the options name, nil if they name none. It returns an
// *access.DeniedError or audit.ErrForbidden if the caller may not read holds, ErrNoHold, or
// hold.ErrReleased.
func findHold(ctx context.Context, holds HoldReader, by access.Principal, tenant audit.TenantID, o Options) (*hold.Hold, error) {
	if o.Hold == "" {
		return nil, nil //nolint:nilnil // most exports are by no hold
	}
	if !by.Has(tenant, access.HoldsRead) {
		return nil, &access.DeniedError{Tenant: tenant, Permission: access.HoldsRead}
	}
	if err := by.Unrestricted(); err != nil {
		return nil, err
	}
	h, err := holds.Hold(ctx, tenant, o.Hold)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return nil, ErrNoHold
	case err != nil:
		return nil, err
	case !h.ReleasedAt.IsZero():
		return nil, hold.ErrReleased
	}
	return &h, nil
}

// source is where an export reads its entries.
type source interface {
	// wait returns how long to wait until everything can be read that the export is to have.
	wait(ctx context.Context) (time.Duration, error)
	// begin finds the times of the first entry and the last, for the progress.
	begin(ctx context.Context) error
	// page returns entries after a position (nil: from the beginning). Last is the position behind
	// them, nil if nothing was read, and More says whether others can follow.
	page(ctx context.Context, from *audit.Position) (audit.Page, error)
}

// indexed reads what the index has.
type indexed struct{ *exportRun }

func (s indexed) wait(ctx context.Context) (time.Duration, error) {
	return s.Wait(ctx, &s.Job, &s.tenant, s.selection, &s.at.Place, func() error { return s.Save(ctx, s.at) })
}

func (s indexed) begin(ctx context.Context) error { return s.Begin(ctx, s.selection, &s.at.Place) }

func (s indexed) page(ctx context.Context, from *audit.Position) (audit.Page, error) {
	page, err := s.Entries.Page(ctx, s.selection, from, audit.MaxPageLimit)
	page.More = page.More && len(page.Entries) > 0
	return page, err
}

// ofHold reads what a legal hold covers. That can be few of very many entries.
type ofHold struct {
	*exportRun
	held held
}

func (s *ofHold) wait(context.Context) (time.Duration, error) { return s.Settle(&s.Job), nil }

func (s *ofHold) begin(ctx context.Context) error {
	first, err := s.held.store.Retained(ctx, s.Job.Tenant, s.held.span(audit.EntryID{}), 1)
	if err != nil || len(first) == 0 {
		return err
	}
	s.at.First, s.at.Last = first[0].Timestamp, s.Job.CreatedAt
	if to := s.held.span(audit.EntryID{}).To; !to.IsZero() && to.Before(s.at.Last) {
		s.at.Last = to
	}
	return nil
}

func (s *ofHold) page(ctx context.Context, from *audit.Position) (audit.Page, error) {
	return s.held.page(ctx, from)
}

// openHold has the export read what a legal hold covers. It returns a *jobs.FailedError if the hold does
// not stand any more.
func (r *exportRun) openHold(ctx context.Context) error {
	h, err := r.Holds.Hold(ctx, r.Job.Tenant, r.options.Hold)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return &jobs.FailedError{Reason: reasonNoHold}
	case err != nil:
		return err
	case !h.ReleasedAt.IsZero():
		return &jobs.FailedError{Reason: reasonReleased}
	}
	r.source = &ofHold{exportRun: r, held: held{store: r.Held, hold: h, selection: r.selection}}
	return nil
}

// held reads those entries of a selection that a legal hold covers, in the order of their ids.
type held struct {
	store     HeldStore
	hold      hold.Hold
	selection search.Selection

	ahead  []audit.EntryID // covered by the hold, after the last page
	last   audit.EntryID   // up to which pages were returned
	end    audit.EntryID   // up to which entries were looked at
	looked int
}

// span returns what to read after an id: the times of both the hold and the selection.
func (h *held) span(after audit.EntryID) retention.Selection {
	from, to := h.selection.Range()
	if h.hold.From.After(from) {
		from = h.hold.From
	}
	if to.IsZero() || !h.hold.To.IsZero() && h.hold.To.Before(to) {
		to = h.hold.To
	}
	return retention.Selection{From: from, To: to, After: after}
}

// page is that of source.
func (h *held) page(ctx context.Context, from *audit.Position) (audit.Page, error) {
	if err := h.moveTo(from); err != nil {
		return audit.Page{}, err
	}
	if len(h.ahead) == 0 {
		if more, err := h.look(ctx); err != nil || !more {
			return audit.Page{}, err
		}
	}
	ids := h.ahead[:min(heldPage, len(h.ahead))]
	h.ahead = h.ahead[len(ids):]
	if h.last = h.end; len(h.ahead) > 0 {
		h.last = ids[len(ids)-1]
	}
	entries, err := h.read(ctx, ids)
	return audit.Page{Entries: entries, Last: &audit.Position{Time: h.last.Time(), Tie: h.last.String()}, More: true}, err
}

// moveTo continues after a position that page returned, perhaps that of another process.
func (h *held) moveTo(from *audit.Position) (err error) {
	var id audit.EntryID
	if from != nil {
		if id, err = audit.ParseEntryID(from.Tie); err != nil {
			return fmt.Errorf("read the position: %w", err)
		}
	}
	if id != h.last {
		h.ahead, h.last, h.end = nil, id, id
	}
	return nil
}

// look finds the next entries that the hold covers. It reports false if nothing is left to look at.
func (h *held) look(ctx context.Context) (bool, error) {
	entries, err := h.store.Retained(ctx, h.hold.Tenant, h.span(h.end), retention.MaxEntries)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	for i := range entries {
		if h.hold.Covers(&entries[i].Entry) {
			h.ahead = append(h.ahead, entries[i].ID)
		}
	}
	h.end = entries[len(entries)-1].ID
	h.looked += len(entries)
	return true, nil
}

// read returns those of the entries that are in the selection.
func (h *held) read(ctx context.Context, ids []audit.EntryID) ([]audit.Entry, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	entries, err := h.store.EntriesByID(ctx, h.hold.Tenant, ids)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return !h.selection.Has(e) })
	slices.SortFunc(entries, func(a, b audit.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return entries, nil
}

// each calls use with one page after the other, until there are no more or use returns false. It returns a
// *TooLargeError if it would have to look at more than an answer at once has time for.
func (h *held) each(ctx context.Context, use func(page []audit.Entry) (more bool, err error)) error {
	var from *audit.Position
	for {
		page, err := h.page(ctx, from)
		if err != nil || !page.More {
			return err
		}
		if h.looked > maxLooked {
			return &TooLargeError{}
		}
		if more, err := use(page.Entries); err != nil || !more {
			return err
		}
		from = page.Last
	}
}
