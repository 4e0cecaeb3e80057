package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

const (
	idSize = len(audit.EntryID{})
	maxIDs = MaxRows * int64(idSize) // bytes of the ids of a part
)

// packedIDs are ids in rising order, one after the other.
type packedIDs []byte

func (p packedIDs) len() int { return len(p) / idSize }

func (p packedIDs) at(i int) []byte { return p[i*idSize : (i+1)*idSize] }

// check returns an error unless there are as many ids as a part has rows, and they rise.
func (p packedIDs) check(rows int64) error {
	if len(p)%idSize != 0 || int64(p.len()) != rows {
		return fmt.Errorf("%d bytes of ids for %d entries: %w", len(p), rows, export.ErrContent)
	}
	for i := 1; i < p.len(); i++ {
		if bytes.Compare(p.at(i-1), p.at(i)) >= 0 {
			return fmt.Errorf("the ids do not rise at %d: %w", i, export.ErrContent)
		}
	}
	return nil
}

// meets reports whether both have an id.
func (p packedIDs) meets(other packedIDs) bool {
	for i, j := 0, 0; i < p.len() && j < other.len(); {
		switch order := bytes.Compare(p.at(i), other.at(j)); {
		case order == 0:
			return true
		case order < 0:
			i++
		default:
			j++
		}
	}
	return false
}

// readIDs returns the ids of a part, and checks them.
func readIDs(ctx context.Context, blobs Getter, tenant audit.TenantID, of month, f *File) (packedIDs, error) {
	text, _, err := readAll(ctx, blobs, tenant, of.folder()+f.IDs.Name, maxIDs)
	if err != nil {
		return nil, fmt.Errorf("ids of %s: %w", f.Name, err)
	}
	ids := packedIDs(text)
	if hexSum(sha256.Sum256(text)) != f.IDs.SHA256 {
		err = export.ErrContent
	} else {
		err = ids.check(f.Rows)
	}
	if err != nil {
		return nil, fmt.Errorf("ids of %s: %w", f.Name, err)
	}
	return ids, nil
}

// between returns a copy of the ids with from ≤ time ≤ to.
func (p packedIDs) between(from, to time.Time) packedIDs {
	first := sort.Search(p.len(), func(i int) bool { return !audit.EntryID(p.at(i)).Time().Before(from) })
	end := sort.Search(p.len(), func(i int) bool { return audit.EntryID(p.at(i)).Time().After(to) })
	return bytes.Clone(p[first*idSize : max(first, end)*idSize])
}

// known tells which ids the parts of a month have. It is asked for ids in rising order up to a time. Of those
// parts whose times the current id lies in, it has the ids up to that time in memory.
type known struct {
	blobs  Getter
	tenant audit.TenantID
	month  month
	to     time.Time
	open   []cursor
	// files are still to come: none begins before next.
	files []File
	next  time.Time
}

// cursor is a place in the ids of a part.
type cursor struct {
	last         time.Time // of the part
	receivedUpTo time.Time
	ids          packedIDs
	next         int
}

// newKnown returns what tells which ids with from ≤ time ≤ to the parts of a manifest have.
func newKnown(blobs Getter, m *Manifest, of month, from, to time.Time) *known {
	k := &known{blobs: blobs, tenant: m.Tenant, month: of, to: to}
	k.begin(m, from)
	return k
}

// begin has the files of a manifest with ids from a time on to come.
func (k *known) begin(m *Manifest, from time.Time) {
	k.open, k.files = nil, nil
	for i := range m.Files {
		if m.Files[i].overlaps(from, k.to) {
			k.files = append(k.files, m.Files[i])
		}
	}
	k.setNext()
}

// setNext sets next to the first timestamp of the files that are still to come.
func (k *known) setNext() {
	for i := range k.files {
		if first := k.files[i].First; i == 0 || first.Before(k.next) {
			k.next = first
		}
	}
}

// has reports whether a part has the id.
func (k *known) has(ctx context.Context, id audit.EntryID) (bool, error) {
	_, has, err := k.partOf(ctx, id)
	return has, err
}

// partOf reports whether a part has the id, and returns its receivedUpTo.
func (k *known) partOf(ctx context.Context, id audit.EntryID) (receivedUpTo time.Time, has bool, err error) {
	at := id.Time()
	k.open = slices.DeleteFunc(k.open, func(c cursor) bool { return c.last.Before(at) })
	if len(k.files) > 0 && !k.next.After(at) {
		if err := k.load(ctx, at); err != nil {
			return time.Time{}, false, err
		}
	}
	for i := range k.open {
		if k.open[i].has(id) {
			return k.open[i].receivedUpTo, true, nil
		}
	}
	return time.Time{}, false, nil
}

// load reads the ids of the files that begin up to a time, but for those that end before it. If one is gone, it goes by
// the manifest of now: a cleanup can have replaced its part.
func (k *known) load(ctx context.Context, at time.Time) error {
	missing := k.loadListed(ctx, at)
	if !errors.Is(missing, audit.ErrNotFound) {
		return missing
	}
	m, err := readManifest(ctx, k.blobs, k.tenant, k.month)
	if err != nil {
		return err
	}
	if m.etag == "" { // it is lost, or was deleted with its tenant
		return missing
	}
	k.begin(m, at)
	return k.loadListed(ctx, at)
}

// loadListed is load by the manifest that was read last.
func (k *known) loadListed(ctx context.Context, at time.Time) error {
	var later []File
	for _, f := range k.files {
		switch {
		case f.First.After(at):
			later = append(later, f)
		case !f.Last.Before(at):
			ids, err := readIDs(ctx, k.blobs, k.tenant, k.month, &f)
			if err != nil {
				return err
			}
			k.open = append(k.open, cursor{last: f.Last, receivedUpTo: f.receivedUpTo(), ids: ids.between(at, k.to)})
		}
	}
	k.files = later
	k.setNext()
	return nil
}

// has reports whether the id is one of those from the cursor on, and moves the cursor to it.
func (c *cursor) has(id audit.EntryID) bool {
	for ; c.next < c.ids.len(); c.next++ {
		if order := bytes.Compare(c.ids.at(c.next), id[:]); order >= 0 {
			return order == 0
		}
	}
	return false
}

// Reader tells which entries are archived.
type Reader struct{ Blobs Blobs }

// ArchivedDay tells which entries of a day are archived. It is asked for entries in the rising order of their
// ids, for each once, and not concurrently.
type ArchivedDay struct {
	known   *known
	cleaned *CleanedReader
}

// On returns what tells which entries of a day are archived. It goes by the state of the archive at the call.
func (r *Reader) On(ctx context.Context, tenant audit.TenantID, day time.Time) (*ArchivedDay, error) {
	m, err := readManifest(ctx, r.Blobs, tenant, monthOf(day))
	if err != nil {
		return nil, fmt.Errorf("archive of %s: %w", tenant, err)
	}
	return &ArchivedDay{newKnown(r.Blobs, m, monthOf(day), day, day.Add(oneDay)), NewCleanedReader(r.Blobs, tenant)}, nil
}

// HasID reports whether an entry with the id is archived. It can have other content than the one that is stored:
// that was sent after the archived one had left the database.
func (d *ArchivedDay) HasID(ctx context.Context, id audit.EntryID) (bool, error) {
	has, err := d.known.has(ctx, id)
	if err != nil {
		return false, fmt.Errorf("archive of %s: %w", d.known.tenant, err)
	}
	return has, nil
}

// Cleaned reports whether a cleanup has removed an entry with the id.
func (d *ArchivedDay) Cleaned(ctx context.Context, id audit.EntryID) (bool, error) {
	cleaned, err := d.cleaned.Has(ctx, id)
	if err != nil {
		return false, fmt.Errorf("archive of %s: %w", d.known.tenant, err)
	}
	return cleaned, nil
}

// HasEntry reports whether this very entry is archived, and not one that was stored before under its id: the service
// received it no later than all entries of its part, and no cleanup has removed an entry with its id. A restored entry
// comes from the archive, whatever a cleanup removed.
func (d *ArchivedDay) HasEntry(ctx context.Context, e *audit.Entry) (bool, error) {
	receivedUpTo, has, err := d.known.partOf(ctx, e.ID)
	if err == nil && has {
		has = !e.ReceivedAt.IsZero() && !e.ReceivedAt.After(receivedUpTo)
	}
	if err == nil && has && e.RestoredUntil.IsZero() {
		var cleaned bool
		cleaned, err = d.cleaned.Has(ctx, e.ID)
		has = !cleaned
	}
	if err != nil {
		return false, fmt.Errorf("archive of %s: %w", d.known.tenant, err)
	}
	return has, nil
}
