package archive

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// heldInterval is how long after a look a part is looked at again that a legal hold keeps.
const heldInterval = 7 * oneDay

// removeEnded removes the parts of a month whose end has come and that no legal hold keeps. It returns
// when the next part with entries of the day can be removed, zero if none is known, and whether one was
// removed.
func (r *planRun) removeEnded(ctx context.Context, m *Manifest, day time.Time) (due time.Time, removed bool, err error) {
	if m.etag == "" {
		return time.Time{}, false, nil
	}
	of, now, name := monthOf(day), r.Now(), day.Format(time.DateOnly)
	standing, err := r.Holds.Standing(ctx, r.tenant.ID)
	if err != nil {
		return time.Time{}, false, err
	}
	var ended []string
	for i := range m.Files {
		f := &m.Files[i]
		end := f.end(&r.tenant.Settings)
		switch {
		case end.IsZero():
			continue
		case now.Before(end):
		case standing.Overlap(f.First, f.Last):
			end = now.Add(heldInterval)
		default:
			ended = append(ended, f.Name)
			continue
		}
		hasDay := slices.ContainsFunc(f.Days, func(d Rows) bool { return d.Day == name })
		if hasDay && (due.IsZero() || end.Before(due)) {
			due = end
		}
	}
	if len(ended) > 0 {
		left, err := update(ctx, r.Blobs, r.tenant.ID, of, r.Now, func(m *Manifest) (bool, error) { return m.remove(ended), nil })
		if err != nil {
			return time.Time{}, false, err
		}
		r.manifests[of] = left
		if len(left.Files) == 0 {
			if err := forgetCleaned(ctx, r.Blobs, r.tenant.ID, of); err != nil {
				return time.Time{}, false, err
			}
		}
		r.Log.InfoContext(ctx, "parts of the archive were removed after their end", "tenant", string(r.tenant.ID), "month", of.String(), "parts", len(ended))
	}
	removed = len(ended) > 0
	if r.cleaned[of] && !removed {
		return due, false, nil
	}
	r.cleaned[of] = true
	return due, removed, removeGivenUp(ctx, r.Blobs, r.tenant.ID, of)
}

// remove removes parts, and the days of which no entry is left. It reports whether there were any.
func (m *Manifest) remove(names []string) bool {
	before := len(m.Files)
	m.Files = slices.DeleteFunc(m.Files, func(f File) bool { return slices.Contains(names, f.Name) })
	m.Days = slices.DeleteFunc(m.Days, func(d Day) bool { return m.rowsOn(d.Day) == 0 })
	return len(m.Files) < before
}

// removeGivenUp removes the files of a month with numbers that no part can have any more: those of parts that
// ended, and what killed workers left.
func removeGivenUp(ctx context.Context, blobs Blobs, tenant audit.TenantID, of month) error {
	m, err := readManifest(ctx, blobs, tenant, of)
	if err != nil {
		return err
	}
	return eachKey(ctx, blobs, tenant, of.folder(), func(key string) error {
		n, is := numberOf(strings.TrimPrefix(key, of.folder()))
		if !is || n >= m.Next || m.file(partName(n)) != nil {
			return nil
		}
		return blobs.Delete(ctx, tenant, key)
	})
}
