package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/parquet"
)

const (
	// maxLoaded is how many bytes of parts and of their entries an Entries has in memory, beside the part that it
	// reads.
	maxLoaded = 192 << 20
	// maxDecoded is how many entries of a part are in memory. Small ones take far more there than in their part.
	maxDecoded = 16 << 10
	// maxReads is how often a file that seems damaged or missing is read.
	maxReads = 3
)

// Has reports whether the tenant has an archive, whatever its settings say now.
func (r *Reader) Has(ctx context.Context, tenant audit.TenantID) (bool, error) {
	found, err := r.Blobs.List(ctx, tenant, monthPrefix, "", 1)
	if err != nil {
		return false, fmt.Errorf("archive of %s: %w", tenant, err)
	}
	return len(found) > 0, nil
}

// Entries reads the archived entries of a time in the order of their ids. It implements export.ArchivedEntries.
// It goes by the manifests of the time at which it reaches a month. It is not safe for concurrent use.
type Entries struct {
	blobs    Blobs
	tenant   audit.TenantID
	from, to time.Time // zero: open

	begun  bool
	after  audit.EntryID // the next id is greater
	months []month       // that follow
	month  month
	later  []File // of the month, by their first timestamp, whose ids are not read yet
	open   []*idCursor
	files  map[string]*File // whose ids were read, by key
	parts  []*loadedPart    // the one that was used last is the last

	maxLoaded int64 // the constant of this name, but for tests
}

// NewEntries returns what reads a tenant's archived entries with from ≤ timestamp < to; a zero bound is open.
func NewEntries(blobs Blobs, tenant audit.TenantID, from, to time.Time) *Entries {
	return &Entries{blobs: blobs, tenant: tenant, from: from, to: to, files: map[string]*File{}, maxLoaded: maxLoaded}
}

// idCursor is a place in the ids of a part.
type idCursor struct {
	file      *File
	ids       packedIDs
	next, end int
}

func (c *idCursor) id() audit.EntryID { return audit.EntryID(c.ids.at(c.next)) }

// skip moves the cursor behind an id. It reports whether an id is left.
func (c *idCursor) skip(after audit.EntryID) bool {
	if c.next < c.end && bytes.Compare(c.ids.at(c.next), after[:]) <= 0 {
		c.next += sort.Search(c.end-c.next, func(i int) bool { return bytes.Compare(c.ids.at(c.next+i), after[:]) > 0 })
	}
	return c.next < c.end
}

// IDs implements export.ArchivedEntries.
func (e *Entries) IDs(ctx context.Context, after, upTo audit.EntryID, limit int) (places []export.Archived, err error) {
	if err := e.moveTo(ctx, after); err != nil {
		return nil, err
	}
	for len(places) < limit {
		c, err := e.next(ctx)
		if err != nil {
			return nil, err
		}
		if c == nil {
			break
		}
		id := c.id()
		if !upTo.IsZero() && bytes.Compare(id[:], upTo[:]) > 0 {
			break
		}
		places = append(places, export.Archived{ID: id, ReceivedUpTo: c.file.receivedUpTo(), Part: e.month.folder() + c.file.Name, Row: c.next})
		e.after = id
	}
	return places, nil
}

// moveTo continues after an id. To go back it begins again.
func (e *Entries) moveTo(ctx context.Context, after audit.EntryID) error {
	if !e.begun || bytes.Compare(after[:], e.after[:]) < 0 {
		all, err := months(ctx, e.blobs, e.tenant)
		if err != nil {
			return fmt.Errorf("archive of %s: %w", e.tenant, err)
		}
		e.months = slices.DeleteFunc(all, func(m month) bool {
			return !m.end().After(e.from) || !e.to.IsZero() && !m.Before(e.to) || !m.end().After(after.Time())
		})
		e.begun, e.later, e.open = true, nil, nil
	}
	e.after = after
	return nil
}

// months returns the months of a tenant that have files, in their order.
func months(ctx context.Context, blobs Blobs, tenant audit.TenantID) (all []month, err error) {
	for after := ""; ; {
		found, err := blobs.List(ctx, tenant, monthPrefix, after, 1)
		if err != nil || len(found) == 0 {
			return all, err
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(found[0].Key, monthPrefix), "/")
		if of, err := parseMonth(name); err == nil { // no other folder has parts
			all = append(all, of)
		}
		after = monthPrefix + name + "/~" // after every file of the folder
	}
}

// next returns the cursor with the least id that is greater than after; nil: no id is left.
func (e *Entries) next(ctx context.Context) (*idCursor, error) {
	for {
		e.open = slices.DeleteFunc(e.open, func(c *idCursor) bool { return !c.skip(e.after) })
		var first *idCursor
		for _, c := range e.open {
			if first == nil || bytes.Compare(c.ids.at(c.next), first.ids.at(first.next)) < 0 {
				first = c
			}
		}
		switch {
		case len(e.later) > 0 && (first == nil || !e.later[0].First.After(first.id().Time())):
			if err := e.openNext(ctx); err != nil {
				return nil, err
			}
		case first != nil:
			return first, nil
		case len(e.months) == 0:
			return nil, nil //nolint:nilnil // no id is left
		default:
			if err := e.nextMonth(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// nextMonth goes on to the next month.
func (e *Entries) nextMonth(ctx context.Context) error {
	e.month, e.months = e.months[0], e.months[1:]
	m, err := e.manifest(ctx, e.month)
	if err != nil {
		return err
	}
	for i := range m.Files {
		if f := m.Files[i]; !f.Last.Before(e.from) && (e.to.IsZero() || f.First.Before(e.to)) && !f.Last.Before(e.after.Time()) {
			e.later = append(e.later, f)
		}
	}
	slices.SortFunc(e.later, func(a, b File) int { return a.First.Compare(b.First) })
	return nil
}

// manifest returns the manifest of a month. It returns a *jobs.FailedError if that is damaged or lost.
func (e *Entries) manifest(ctx context.Context, of month) (*Manifest, error) {
	m, err := readManifest(ctx, e.blobs, e.tenant, of)
	if errors.Is(err, export.ErrContent) {
		return nil, &jobs.FailedError{Reason: fmt.Sprintf("the manifest of %s is damaged, so that nobody knows what is archived", of)}
	}
	if err != nil {
		return nil, fmt.Errorf("archive of %s: %w", e.tenant, err)
	}
	is, err := isLost(ctx, e.blobs, m, of, 0)
	if err == nil && is { // it is stored before the first part
		if m, err = readManifest(ctx, e.blobs, e.tenant, of); err == nil && m.etag == "" {
			return nil, lost(of)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("archive of %s: %w", e.tenant, err)
	}
	return m, nil
}

// openNext reads the ids of the next part of the month.
func (e *Entries) openNext(ctx context.Context) error {
	f := &e.later[0]
	c := &idCursor{file: f}
	err := e.again(ctx, e.month, f, func() (err error) {
		c.ids, err = readIDs(ctx, e.blobs, e.tenant, e.month, f)
		return err
	})
	if err != nil {
		return err
	}
	e.later = e.later[1:]
	c.next = sort.Search(c.ids.len(), func(i int) bool { return !audit.EntryID(c.ids.at(i)).Time().Before(e.from) })
	c.end = c.ids.len()
	if !e.to.IsZero() {
		c.end = sort.Search(c.ids.len(), func(i int) bool { return !audit.EntryID(c.ids.at(i)).Time().Before(e.to) })
	}
	e.open = append(e.open, c)
	e.files[e.month.folder()+f.Name] = f
	return nil
}

// again reads a file of a part again if it seems damaged or missing. Then it returns a *jobs.FailedError, unless
// the manifest has changed meanwhile.
func (e *Entries) again(ctx context.Context, of month, f *File, read func() error) error {
	var err error
	for range maxReads {
		if err = read(); err == nil {
			return nil
		}
		if !errors.Is(err, export.ErrContent) && !errors.Is(err, audit.ErrNotFound) {
			return fmt.Errorf("archive of %s: %w", e.tenant, err)
		}
	}
	m, readErr := e.manifest(ctx, of)
	if readErr != nil {
		return readErr
	}
	if now := m.file(f.Name); now == nil || now.SHA256 != f.SHA256 {
		return &audit.UnavailableError{Err: fmt.Errorf("%s of %s %s was replaced or removed meanwhile: %w", f.Name, e.tenant, of, err)}
	}
	what := "damaged"
	if errors.Is(err, audit.ErrNotFound) {
		what = "missing"
	}
	return &jobs.FailedError{Reason: fmt.Sprintf("%s of %s is %s: it is not what its manifest says", f.Name, of, what)}
}

// loadedPart is a part in memory.
type loadedPart struct {
	key     string
	file    *File
	table   *parquet.Reader
	first   int           // the row of the first of the entries
	entries []audit.Entry // those of one row group, or of a piece of it
	decoded int64         // the bytes of these
}

// size is how many bytes of memory the part takes.
func (p *loadedPart) size() int64 { return p.file.Bytes + p.decoded }

// Read implements export.ArchivedEntries.
func (e *Entries) Read(ctx context.Context, places []export.Archived) ([]audit.Entry, error) {
	entries := make([]audit.Entry, 0, len(places))
	for i := range places {
		p, err := e.part(ctx, places[i].Part)
		if err != nil {
			return nil, err
		}
		if !p.has(places[i].Row) {
			err = p.load(places[i].Row)
			e.trim(len(e.parts) - 1)
		}
		if err != nil || p.entries[places[i].Row-p.first].ID != places[i].ID {
			return nil, &jobs.FailedError{Reason: places[i].Part + " is damaged: its entries are not those of its ids"}
		}
		entries = append(entries, p.entries[places[i].Row-p.first])
	}
	return entries, nil
}

// part returns a part whose ids were read. It keeps the parts that were used last.
func (e *Entries) part(ctx context.Context, key string) (*loadedPart, error) {
	if i := slices.IndexFunc(e.parts, func(p *loadedPart) bool { return p.key == key }); i >= 0 {
		p := e.parts[i]
		e.parts = append(slices.Delete(e.parts, i, i+1), p)
		return p, nil
	}
	f := e.files[key]
	if f == nil {
		return nil, fmt.Errorf("archive of %s: the ids of %s were not read", e.tenant, key)
	}
	e.trim(len(e.parts))
	p := &loadedPart{key: key, file: f}
	of := monthOf(f.First)
	err := e.again(ctx, of, f, func() (err error) {
		p.table, err = openPart(ctx, e.blobs, e.tenant, of, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	e.parts = append(e.parts, p)
	return p, nil
}

// trim forgets what was not used for the longest time, until the first n parts fit into maxLoaded: first entries,
// which can be decoded again, then parts.
func (e *Entries) trim(n int) {
	total := int64(0)
	for _, p := range e.parts[:n] {
		total += p.size()
	}
	for _, p := range e.parts[:n] {
		if total <= e.maxLoaded {
			return
		}
		total -= p.decoded
		p.entries, p.decoded = nil, 0
	}
	for total > e.maxLoaded {
		total -= e.parts[0].size()
		e.parts = slices.Delete(e.parts, 0, 1)
	}
}

// has reports whether the entry of a row is in memory.
func (p *loadedPart) has(row int) bool { return row >= p.first && row < p.first+len(p.entries) }

// load reads entries from a row on: up to maxDecoded of its row group.
func (p *loadedPart) load(row int) error {
	p.first, p.entries, p.decoded = row, nil, 0
	begin := 0 // of the group
	for group := range p.table.Groups() {
		rows := int(p.table.GroupRows(group))
		if row >= begin+rows {
			begin += rows
			continue
		}
		return p.decode(group, row-begin, min(maxDecoded, begin+rows-row))
	}
	return errDamaged
}

// decode reads n entries of a row group after those that it skips.
func (p *loadedPart) decode(group, skip, n int) error {
	p.entries = make([]audit.Entry, 0, n)
	for row, err := range p.table.Group(group) {
		if err != nil {
			return errors.Join(err, errDamaged)
		}
		if skip--; skip >= 0 {
			continue
		}
		e, err := entryOf(row)
		if err != nil {
			return errors.Join(err, errDamaged)
		}
		p.entries, p.decoded = append(p.entries, e), p.decoded+int64(SizeOf(&e))
		if len(p.entries) == n {
			return nil
		}
	}
	return errDamaged
}

// SizeOf returns about how much memory an entry takes, in bytes.
func SizeOf(e *audit.Entry) int {
	n := 512 + len(e.Message) + len(e.Before) + len(e.After) + len(e.Metadata)
	for i := range e.Encrypted {
		n += len(e.Encrypted[i].Data)
	}
	return n
}
