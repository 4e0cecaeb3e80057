package export

import (
	"bytes"
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

// heldPage is how many entries of a legal hold are read at once. Each can have 384 KiB.
const heldPage = 100

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

// Archived is the place of an entry in the archive.
type Archived struct {
	ID audit.EntryID
	// ReceivedUpTo is a time: a stored entry with this id that was received later is another one.
	ReceivedUpTo time.Time
	Part         string
	Row          int
}

// ArchivedEntries reads the archived entries of a time; see archive.Entries. The methods return a
// *jobs.FailedError if the archive is damaged.
type ArchivedEntries interface {
	// IDs returns up to limit places in the order of their ids, which are greater than after and not greater
	// than upTo, if that is not zero. Fewer mean that no others follow.
	IDs(ctx context.Context, after, upTo audit.EntryID, limit int) ([]Archived, error)
	// Read returns the entries at places that IDs has returned.
	Read(ctx context.Context, places []Archived) ([]audit.Entry, error)
}

// checkHold returns why the caller may not export by the hold that the options name; nil: it may, or they name
// none. The error is an *access.DeniedError or audit.ErrForbidden if the caller may not read holds, ErrNoHold,
// or hold.ErrReleased.
func checkHold(ctx context.Context, holds HoldReader, by access.Principal, tenant audit.TenantID, o Options) error {
	if o.Hold == "" {
		return nil
	}
	if !by.Has(tenant, access.HoldsRead) {
		return &access.DeniedError{Tenant: tenant, Permission: access.HoldsRead}
	}
	if err := by.Unrestricted(); err != nil {
		return err
	}
	h, err := holds.Hold(ctx, tenant, o.Hold)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return ErrNoHold
	case err != nil:
		return err
	case !h.ReleasedAt.IsZero():
		return hold.ErrReleased
	}
	return nil
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
	if err != nil {
		return err
	}
	archived, err := s.held.archive.IDs(ctx, audit.EntryID{}, audit.EntryID{}, 1)
	if err != nil || len(first)+len(archived) == 0 {
		return err
	}
	s.at.Last = s.Job.CreatedAt
	if len(first) > 0 {
		s.at.First = first[0].Timestamp
	}
	if len(archived) > 0 && (len(first) == 0 || archived[0].ID.Time().Before(s.at.First)) {
		s.at.First = archived[0].ID.Time()
	}
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
	if r.Archived == nil { // the workers of the archive do it
		return nil
	}
	of := held{store: r.Held, hold: h, selection: r.selection}
	span := of.span(audit.EntryID{})
	of.archive = r.Archived(r.Job.Tenant, span.From, span.To)
	r.source = &ofHold{exportRun: r, held: of}
	return nil
}

// held reads those entries of a selection that a legal hold covers, in the order of their ids: those in the
// system of record, and those that only the archive has. Each id is looked at in both at about the same time,
// the system of record first. So an entry that is archived, restored or removed meanwhile is read once.
type held struct {
	store     HeldStore
	archive   ArchivedEntries
	hold      hold.Hold
	selection search.Selection

	ahead []heldEntry   // that the hold may cover, after the last page
	last  audit.EntryID // up to which pages were returned
	end   audit.EntryID // up to which entries were looked at
}

// heldEntry is an entry that is to be read.
type heldEntry struct {
	id       audit.EntryID
	stored   bool      // the system of record had it, and the hold covers it
	archived *Archived // where the archive has one with this id; nil: nowhere
	// differs says that the archived one can have other content: it was archived before the stored one was
	// received.
	differs bool
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
	next := h.ahead[:min(heldPage, len(h.ahead))]
	h.ahead = h.ahead[len(next):]
	if h.last = h.end; len(h.ahead) > 0 {
		h.last = next[len(next)-1].id
	}
	entries, err := h.read(ctx, next)
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

// look finds the next entries that the hold can cover. It reports false if nothing is left to look at.
func (h *held) look(ctx context.Context) (bool, error) {
	stored, err := h.store.Retained(ctx, h.hold.Tenant, h.span(h.end), retention.MaxEntries)
	if err != nil {
		return false, err
	}
	var end audit.EntryID
	if len(stored) > 0 {
		end = stored[len(stored)-1].ID
	}
	archived, err := h.archive.IDs(ctx, h.end, end, retention.MaxEntries)
	if err != nil || len(stored)+len(archived) == 0 {
		return false, err
	}
	if n := len(archived); n == retention.MaxEntries || len(stored) == 0 { // others can follow
		end = archived[n-1].ID
		stored = slices.DeleteFunc(stored, func(e retention.Entry) bool { return bytes.Compare(e.ID[:], end[:]) > 0 })
	}
	h.end = end
	h.merge(stored, archived)
	return true, nil
}

// merge adds entries to ahead. Of those that only the archive has, it is not known yet whether the hold covers
// them.
func (h *held) merge(stored []retention.Entry, archived []Archived) {
	for len(stored) > 0 || len(archived) > 0 {
		order := 0 // of the next stored one to the next archived one
		switch {
		case len(stored) == 0:
			order = 1
		case len(archived) == 0:
			order = -1
		default:
			order = bytes.Compare(stored[0].ID[:], archived[0].ID[:])
		}
		var next heldEntry
		if order >= 0 {
			next = heldEntry{id: archived[0].ID, archived: &archived[0]}
			archived = archived[1:]
		}
		if order <= 0 {
			e := &stored[0].Entry
			next.id, next.stored = e.ID, h.hold.Covers(e)
			next.differs = e.RestoredUntil.IsZero() && next.archived != nil && next.archived.ReceivedUpTo.Before(e.ReceivedAt)
			stored = stored[1:]
		}
		if next.stored || next.differs || order > 0 {
			h.ahead = append(h.ahead, next)
		}
	}
}

// read returns those of the entries that are in the selection.
func (h *held) read(ctx context.Context, next []heldEntry) ([]audit.Entry, error) {
	entries, err := h.readStored(ctx, next)
	if err != nil {
		return nil, err
	}
	stored := make(map[audit.EntryID]audit.Digest, len(entries))
	for i := range entries {
		stored[entries[i].ID] = entries[i].Digest
	}
	var places []Archived
	for _, e := range next {
		if _, is := stored[e.id]; e.archived != nil && (!is || e.differs) { // one that has just been removed too
			places = append(places, *e.archived)
		}
	}
	if len(places) > 0 {
		archived, err := h.archive.Read(ctx, places)
		if err != nil {
			return nil, err
		}
		for i := range archived {
			e := &archived[i]
			if digest, is := stored[e.ID]; h.hold.Covers(e) && (!is || digest != e.Digest) {
				entries = append(entries, *e)
			}
		}
	}
	entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return !h.selection.Has(e) })
	slices.SortStableFunc(entries, func(a, b audit.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return entries, nil
}

// readStored returns those of the entries that the system of record has.
func (h *held) readStored(ctx context.Context, next []heldEntry) ([]audit.Entry, error) {
	var ids []audit.EntryID
	for _, e := range next {
		if e.stored {
			ids = append(ids, e.id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return h.store.EntriesByID(ctx, h.hold.Tenant, ids)
}
