package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
)

// Rewriter removes entries from the archive. It replaces a part by another one, which has what is left of it. The
// manifest has the one or the other.
type Rewriter struct {
	Blobs Blobs
	Holds hold.Reader
	Now   func() time.Time
}

// Replacement is a part that takes the place of another one. Its JSON form lets another process finish it.
type Replacement struct {
	Month string `json:"month"`
	Old   string `json:"old"` // the name of the part that goes
	// Was is the SHA-256 of that part.
	Was string `json:"was"`
	// Job is the id of the job that replaces it.
	Job string `json:"job"`
	// New is the part that takes its place; nil: no entry is left.
	New *File `json:"new,omitempty"`
	// NewNumber is the number of New, or the one that a replacement without it goes by: the manifest takes the
	// replacement as long as no part with this number or a greater one was added or given up.
	NewNumber int `json:"new_number"`
	// Removed is how many entries go, and Days are those of their timestamps, in their order.
	Removed int64       `json:"removed"`
	Days    []time.Time `json:"days"`

	part *part // New before it is stored
}

// Months returns the first instants of the months with archived entries that can have timestamps with from ≤
// timestamp < to, in their order; a zero bound is open.
func (r *Rewriter) Months(ctx context.Context, tenant audit.TenantID, from, to time.Time) (all []time.Time, err error) {
	found, err := months(ctx, r.Blobs, tenant)
	if err != nil {
		return nil, fmt.Errorf("archive of %s: %w", tenant, err)
	}
	for _, of := range found {
		if of.end().After(from) && (to.IsZero() || of.Before(to)) {
			all = append(all, of.Time)
		}
	}
	return all, nil
}

// Manifest returns the manifest of a month. It returns a *jobs.FailedError if that is damaged or lost.
func (r *Rewriter) Manifest(ctx context.Context, tenant audit.TenantID, at time.Time) (*Manifest, error) {
	return NewEntries(r.Blobs, tenant, time.Time{}, time.Time{}).manifest(ctx, monthOf(at))
}

// Without reads a part of a manifest, and returns the one that is to take its place: it has the entries for which
// goes is false. It returns nil if all stay. It returns a *jobs.FailedError if the part is damaged. Nothing is
// stored yet.
func (r *Rewriter) Without(ctx context.Context, m *Manifest, old *File, job string, goes func(*audit.Entry) bool) (*Replacement, error) {
	of, err := parseMonth(m.Month)
	if err != nil {
		return nil, err
	}
	var p *part
	var removed int64
	var days []time.Time
	reader := NewEntries(r.Blobs, m.Tenant, time.Time{}, time.Time{})
	err = reader.again(ctx, of, old, func() (err error) {
		if p, err = newPart(); err != nil {
			return err
		}
		removed, days = 0, nil
		return readPart(ctx, r.Blobs, m.Tenant, of, old, func(e *audit.Entry) error {
			if !goes(e) {
				p.add(*e)
				return nil
			}
			removed++
			if day := e.Timestamp.Truncate(oneDay); len(days) == 0 || day.After(days[len(days)-1]) { // ids rise with time
				days = append(days, day)
			}
			return nil
		})
	})
	if err != nil || removed == 0 {
		return nil, err
	}
	if p.file.Rows+removed != old.Rows {
		return nil, fmt.Errorf("%s of %s %s has %d entries and %d that go, want %d: %w", old.Name, m.Tenant, of, p.file.Rows, removed, old.Rows, errDamaged)
	}
	replacement := &Replacement{Month: m.Month, Old: old.Name, Was: old.SHA256, Job: job, Removed: removed, Days: days}
	if p.file.Rows > 0 {
		p.end()
		p.file.CreatedAt, p.file.DeletableAt, p.file.Job = old.CreatedAt, old.DeletableAt, job // its entries were read then
		replacement.New, replacement.part = &p.file, p
	}
	return replacement, nil
}

// Number returns the number of the part that goes.
func (p *Replacement) Number() int {
	n, _ := numberOf(p.Old) // Without has it from a manifest
	return n
}

// Name gives the replacement, and the new part, a number.
func (p *Replacement) Name(number int) {
	p.NewNumber = number
	if p.New != nil {
		p.New.setNumber(number)
	}
}

// Store stores the new part under its name. It returns audit.ErrConflict if another job has taken that.
func (r *Rewriter) Store(ctx context.Context, tenant audit.TenantID, p *Replacement) error {
	of, err := parseMonth(p.Month)
	if err != nil || p.part == nil {
		return err
	}
	return p.part.store(ctx, r.Blobs, tenant, of)
}

// Swap reads the new part back and verifies it. Then it brings it into the manifest in the place of the old one,
// and removes that. It reports false if it gave the new part up: it was not stored, the old one is not what it
// was, or another job has taken its number. It returns a *jobs.FailedError if the manifest is lost. Repeating it has
// no effect. may is called right before the manifest is replaced. Its error ends the swap. If the worker sleeps for
// so long after it that the look is old, it is called again.
func (r *Rewriter) Swap(ctx context.Context, tenant audit.TenantID, p *Replacement, may func(context.Context) error) (done bool, err error) {
	of, err := parseMonth(p.Month)
	if err != nil {
		return false, err
	}
	if done, err = r.swap(ctx, tenant, of, p, may); errors.Is(err, errLost) {
		err = lost(of)
	}
	return done, err
}

func (r *Rewriter) swap(ctx context.Context, tenant audit.TenantID, of month, p *Replacement, may func(context.Context) error) (done bool, err error) {
	if p.New != nil {
		if _, err = verify(ctx, r.Blobs, tenant, of, p.New); errors.Is(err, audit.ErrNotFound) || errors.Is(err, export.ErrContent) {
			return r.giveUp(ctx, tenant, of, p)
		}
		if err != nil {
			return false, err
		}
	}
	blobs := &timely{Blobs: r.Blobs, now: r.Now}
	_, err = update(ctx, blobs, tenant, of, r.Now, func(m *Manifest) (bool, error) {
		if done = p.isIn(m); done || !p.fits(m) {
			return false, nil
		}
		blobs.look()
		if err := may(ctx); err != nil {
			return false, err
		}
		m.replace(p)
		done = true
		return true, nil
	})
	if err == nil && !done {
		done, err = r.giveUp(ctx, tenant, of, p)
	}
	if err != nil || !done {
		return false, err
	}
	return true, r.removeOld(ctx, tenant, of, p)
}

// isIn reports whether the manifest has the replacement. That of another job is another one, which that job counts.
func (p *Replacement) isIn(m *Manifest) bool {
	if p.New == nil {
		return slices.Contains(m.Removed, RemovedPart{Name: p.Old, Job: p.Job})
	}
	stored := m.file(p.New.Name)
	return stored != nil && stored.SHA256 == p.New.SHA256 && stored.Job == p.Job
}

// fits reports whether the manifest has the old part, and can have the new one.
func (p *Replacement) fits(m *Manifest) bool {
	old := m.file(p.Old)
	return old != nil && old.SHA256 == p.Was && p.NewNumber >= m.Next
}

// replace brings a replacement into the manifest.
func (m *Manifest) replace(p *Replacement) {
	if p.New != nil {
		part := *p.New
		part.DeletableAt = m.file(p.Old).DeletableAt // it can have been marked meanwhile
		m.Files = append(m.Files, part)
		m.Next = part.Number() + 1
	} else {
		m.Removed = append(m.Removed, RemovedPart{Name: p.Old, Job: p.Job})
	}
	m.remove([]string{p.Old})
	for i := range m.Days {
		m.Days[i].Rows.Rows = m.rowsOn(m.Days[i].Day)
	}
}

// removeOld removes the files of the part that was replaced.
func (r *Rewriter) removeOld(ctx context.Context, tenant audit.TenantID, of month, p *Replacement) error {
	n, is := numberOf(p.Old)
	if !is {
		return fmt.Errorf("archive of %s %s: %q is no part", tenant, of, p.Old)
	}
	return removeFiles(ctx, r.Blobs, tenant, of, n)
}

// giveUp removes the new part unless the manifest has the replacement, and reports whether that has it. From before
// the removal on, nobody brings the replacement into the manifest.
func (r *Rewriter) giveUp(ctx context.Context, tenant audit.TenantID, of month, p *Replacement) (done bool, err error) {
	m, err := giveUp(ctx, r.Blobs, tenant, of, r.Now, p.NewNumber)
	return err == nil && p.isIn(m), err
}

// End ends a replacement that another process has begun and cannot finish any more. It reports whether the
// manifest has it. Then it removes the old part, otherwise the new one. Without a manifest it removes nothing.
func (r *Rewriter) End(ctx context.Context, tenant audit.TenantID, p *Replacement) (done bool, err error) {
	of, err := parseMonth(p.Month)
	if err != nil {
		return false, err
	}
	done, err = r.giveUp(ctx, tenant, of, p)
	if errors.Is(err, errLost) {
		return false, nil
	}
	if err != nil || !done {
		return false, err
	}
	return true, r.removeOld(ctx, tenant, of, p)
}

// Discard ends a replacement whose tenant is being deleted. If the archive is not kept, it removes what the replacement
// may have stored after the deletion had passed the archive. While a legal hold stands, it removes nothing.
func (r *Rewriter) Discard(ctx context.Context, tenant audit.Tenant, id audit.TenantID, p *Replacement) error {
	of, err := parseMonth(p.Month)
	if err != nil {
		return err
	}
	blobs := &timely{Blobs: r.Blobs, now: r.Now}
	fate, err := fateOf(ctx, blobs, r.Holds, &tenant, id)
	switch {
	case err != nil, fate == archiveHeld:
		return err
	case fate == archiveKept:
		_, err = r.End(ctx, id, p)
		return err
	}
	return removeFiles(ctx, blobs, id, of, p.NewNumber)
}

// Numbers returns the numbers of the parts of a manifest that can have entries with from ≤ timestamp < to, in their
// order; a zero bound is open. Those that a job has written itself are left out.
func (m *Manifest) Numbers(job string, from, to time.Time) (numbers []int) {
	for i := range m.Files {
		f := &m.Files[i]
		if f.Job != job && !f.Last.Before(from) && (to.IsZero() || f.First.Before(to)) {
			numbers = append(numbers, f.Number())
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Part returns the part with a number; nil: the manifest has none.
func (m *Manifest) Part(number int) *File { return m.file(partName(number)) }
