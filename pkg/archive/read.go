package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MonthName returns the month of a time as manifests spell it.
func MonthName(t time.Time) string { return monthOf(t).String() }

// NextMonth returns the first instant of the month after that of a time, in UTC.
func NextMonth(t time.Time) time.Time { return monthOf(t).end() }

// ReadManifest returns the manifest of the month of a time. If nothing is archived, it is an empty one. It
// returns an error that wraps export.ErrContent if the manifest is damaged.
func ReadManifest(ctx context.Context, blobs Getter, tenant audit.TenantID, at time.Time) (*Manifest, error) {
	m, err := readManifest(ctx, blobs, tenant, monthOf(at))
	if err != nil {
		return nil, fmt.Errorf("archive of %s: %w", tenant, err)
	}
	return m, nil
}

// HasParts reports whether there are files of parts of the month of a time, whatever the manifest says.
func HasParts(ctx context.Context, blobs Blobs, tenant audit.TenantID, at time.Time) (bool, error) {
	found, err := blobs.List(ctx, tenant, monthOf(at).folder()+partPrefix, "", 1)
	return len(found) > 0, err
}

// IsStored reports whether the month has a manifest.
func (m *Manifest) IsStored() bool { return m.etag != "" }

// Lists reports whether the manifest has a part.
func (m *Manifest) Lists(name string) bool { return m.file(name) != nil }

// PartAfter returns the first part with a higher number that can have entries with from ≤ timestamp < to; nil:
// there is none.
func (m *Manifest) PartAfter(number int, from, to time.Time) (next *File) {
	for i := range m.Files {
		f := &m.Files[i]
		if f.Number() > number && f.overlaps(from, to.Add(-1)) && (next == nil || f.Number() < next.Number()) {
			next = f
		}
	}
	return next
}

// Number returns the number that the name of the part has.
func (f *File) Number() int {
	n, _ := numberOf(f.Name) // readManifest has checked it
	return n
}
