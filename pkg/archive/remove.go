package archive

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
)

// heldInterval is how long after a look a part is looked at again that a legal hold keeps.
const heldInterval = 7 * oneDay

// timely are Blobs that replace and delete nothing if the last look at settings and holds is old: the worker slept
// since then. That is an audit.ErrConflict, after which update, or the next slice, looks again.
type timely struct {
	Blobs
	now    func() time.Time
	looked activity.Look
}

// look notes that settings and holds are read now.
func (t *timely) look() { t.looked = activity.NewLook(t.now()) }

// errOldLook says that settings and holds have to be read again.
var errOldLook = fmt.Errorf("settings and holds were read too long ago: %w", audit.ErrConflict)

func (t *timely) Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c export.Content) error {
	if t.looked.IsOld(t.now()) {
		return errOldLook
	}
	return t.Blobs.Replace(ctx, tenant, key, etag, c)
}

func (t *timely) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	if t.looked.IsOld(t.now()) {
		return errOldLook
	}
	return t.Blobs.Delete(ctx, tenant, key)
}

// removeEnded marks the parts of a month whose end is near and that no legal hold keeps, and removes those
// that were marked before and have ended. It returns when the next part with entries of the day is due, zero
// if none is known, and whether one was removed.
func (r *planRun) removeEnded(ctx context.Context, m *Manifest, day time.Time) (due time.Time, removed bool, err error) {
	if m.etag == "" {
		return time.Time{}, false, nil
	}
	of := monthOf(day)
	var now time.Time
	var standing hold.Standing
	var ended []string
	blobs := &timely{Blobs: r.Blobs, now: r.Now}
	change := func(m *Manifest) (changed bool, err error) { // it looks again at each try
		ended = nil
		blobs.look()
		if now, err = r.Clock.Now(ctx, r.Now); err != nil {
			return false, err
		}
		if r.tenant, err = r.Tenants.Tenant(ctx, r.tenant.ID); err != nil {
			return false, err
		}
		if standing, err = r.Holds.Standing(ctx, r.tenant.ID); err != nil {
			return false, err
		}
		for i := range m.Files {
			f := &m.Files[i]
			marked, at := f.next(&r.tenant.Settings, &standing, now)
			changed = changed || !marked.Equal(f.DeletableAt)
			f.DeletableAt = marked
			if !marked.IsZero() && !now.Before(at) {
				ended = append(ended, f.Name)
			}
		}
		return m.remove(ended) || changed, nil
	}
	if m, err = update(ctx, blobs, r.tenant.ID, of, r.Now, change); err != nil {
		return time.Time{}, false, err
	}
	r.manifests[of] = m
	if removed = len(ended) > 0; removed {
		r.Log.InfoContext(ctx, "parts of the archive were removed after their end", "tenant", string(r.tenant.ID), "month", of.String(), "parts", len(ended))
	}
	due = m.nextOn(day, &r.tenant.Settings, &standing, now)
	if r.cleaned[of] && !removed {
		return due, false, nil
	}
	r.cleaned[of] = true
	return due, removed, r.removeRest(ctx, m, of)
}

// next returns the DeletableAt that the part is to have by these settings and holds, and when to look at it
// again; zero: never. A part that is marked can be removed from then on.
func (f *File) next(s *audit.Settings, standing *hold.Standing, now time.Time) (marked, at time.Time) {
	end := f.end(s)
	switch {
	case end.IsZero():
		return time.Time{}, time.Time{}
	case now.Before(end.Add(-RemovalGrace)):
		return time.Time{}, end.Add(-RemovalGrace)
	case standing.Overlap(f.First, f.Last):
		return time.Time{}, now.Add(heldInterval)
	}
	if marked = f.DeletableAt; marked.IsZero() {
		marked = now.Add(RemovalGrace).UTC().Truncate(time.Millisecond)
	}
	if end.Before(marked) {
		end = marked
	}
	return marked, end
}

// nextOn returns when the next part with entries of a day is to be looked at; zero: never.
func (m *Manifest) nextOn(day time.Time, s *audit.Settings, standing *hold.Standing, now time.Time) (due time.Time) {
	name := day.Format(time.DateOnly)
	for i := range m.Files {
		f := &m.Files[i]
		if !slices.ContainsFunc(f.Days, func(d Rows) bool { return d.Day == name }) {
			continue
		}
		if _, at := f.next(s, standing, now); !at.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	return due
}

// removeRest removes what no part of the month needs any more.
func (r *planRun) removeRest(ctx context.Context, m *Manifest, of month) error {
	if err := removeGivenUp(ctx, r.Blobs, r.tenant.ID, of); err != nil || len(m.Files) > 0 || m.Next == 1 {
		return err
	}
	running, err := r.isRunning(ctx, of) // its parts need what cleanups noted
	if err != nil || running {
		return err
	}
	return forgetCleaned(ctx, r.Blobs, r.tenant.ID, of)
}

// remove removes parts, and the days of which no entry is left. It reports whether there were any.
func (m *Manifest) remove(names []string) bool {
	if len(names) == 0 {
		return false
	}
	before := len(m.Files)
	m.Files = slices.DeleteFunc(m.Files, func(f File) bool { return slices.Contains(names, f.Name) })
	m.Days = slices.DeleteFunc(m.Days, func(d Day) bool { return m.rowsOn(d.Day) == 0 })
	return len(m.Files) < before
}

// removeGivenUp removes the files of a month with numbers that no part can have any more: those of parts that
// ended, and what killed workers left. Without a manifest it removes nothing.
func removeGivenUp(ctx context.Context, blobs Blobs, tenant audit.TenantID, of month) error {
	m, err := readManifest(ctx, blobs, tenant, of)
	if err != nil || m.etag == "" {
		return err
	}
	return export.EachListed(ctx, blobs.List, tenant, of.folder(), func(file export.Listed) error {
		n, is := numberOf(strings.TrimPrefix(file.Key, of.folder()))
		if !is || n >= m.Next || m.file(partName(n)) != nil {
			return nil
		}
		return blobs.Delete(ctx, tenant, file.Key)
	})
}
