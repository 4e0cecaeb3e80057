package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// The files that say which entries cleanups have removed lie in a folder for each day of the timestamps. Their
// names are the first id, the last, and the beginning of the SHA-256 of the content: the ids in rising order.
const (
	cleanedFolder = "_cleaned/"
	// maxCleaned is more ids than one page of a cleanup has.
	maxCleaned = 10_000
)

func cleanedDay(day string) string { return cleanedFolder + day + "/" }

// CleanedLog notes which entries cleanups have removed: a restore leaves them out.
type CleanedLog struct {
	Blobs   Blobs
	Holds   hold.Reader
	Tenants Tenants
	Now     func() time.Time
}

// Note notes that a cleanup removed entries, at most maxCleaned. Repeating it has no effect. It notes nothing
// of a tenant that has no archive.
func (l *CleanedLog) Note(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	has, err := l.hasArchive(ctx, tenant)
	if err == nil && has {
		err = l.note(ctx, tenant, ids)
	}
	if err != nil {
		return fmt.Errorf("note %d removed entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// Discard removes what was noted of a tenant that is being deleted, unless its archive stays or a legal hold stands.
func (l *CleanedLog) Discard(ctx context.Context, tenant audit.Tenant, id audit.TenantID) error {
	blobs := &timely{Blobs: l.Blobs, now: l.Now}
	fate, err := fateOf(ctx, blobs, l.Holds, &tenant, id)
	if err == nil && fate == archiveGoes {
		err = removeBelow(ctx, blobs, id, cleanedFolder)
	}
	if err != nil {
		return fmt.Errorf("remove what cleanups of %s noted: %w", id, err)
	}
	return nil
}

// hasArchive reports whether entries of the tenant are archived, or can be about to be.
func (l *CleanedLog) hasArchive(ctx context.Context, id audit.TenantID) (bool, error) {
	tenant, err := l.Tenants.Tenant(ctx, id)
	if err != nil || tenant.Settings.Archive {
		return err == nil, err
	}
	found, err := l.Blobs.List(ctx, id, monthPrefix, "", 1) // the setting was on before
	return len(found) > 0, err
}

func (l *CleanedLog) note(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	byDay := map[string]packedIDs{}
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b audit.EntryID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		day := id.Time().Format(time.DateOnly)
		byDay[day] = append(byDay[day], id[:]...)
	}
	for day, packed := range byDay {
		sum := sha256.Sum256(packed)
		key := fmt.Sprintf("%s%x-%x-%x", cleanedDay(day), packed.at(0), packed.at(packed.len()-1), sum[:8])
		if err := l.Blobs.Create(ctx, tenant, key, export.ContentOf(packed, idsType)); err != nil {
			return err
		}
	}
	return nil
}

// forgetCleaned removes what is noted of a month.
func forgetCleaned(ctx context.Context, blobs Blobs, tenant audit.TenantID, of month) error {
	return removeBelow(ctx, blobs, tenant, cleanedFolder+of.String())
}

// removeBelow removes the files whose keys begin with a prefix.
func removeBelow(ctx context.Context, blobs Blobs, tenant audit.TenantID, prefix string) error {
	return export.EachListed(ctx, blobs.List, tenant, prefix, func(file export.Listed) error { return blobs.Delete(ctx, tenant, file.Key) })
}

// CleanedReader tells which entries cleanups have removed. It is asked for ids in rising order, and not
// concurrently. It has in memory what cleanups removed around the current id, and the names of the files of
// its day.
type CleanedReader struct {
	blobs  Blobs
	tenant audit.TenantID
	day    string
	files  []cleanedFile // that are still to come, by their first id
	open   []cleanedCursor
}

// cleanedFile is a file of a CleanedLog.
type cleanedFile struct {
	key         string
	first, last audit.EntryID
}

// cleanedCursor is a place in the ids of a file.
type cleanedCursor struct {
	last audit.EntryID
	cursor
}

// NewCleanedReader returns what tells which entries of a tenant cleanups have removed.
func NewCleanedReader(blobs Blobs, tenant audit.TenantID) *CleanedReader {
	return &CleanedReader{blobs: blobs, tenant: tenant}
}

// Has reports whether a cleanup has removed the entry. It returns a *jobs.FailedError if what cleanups noted is
// damaged.
func (c *CleanedReader) Has(ctx context.Context, id audit.EntryID) (bool, error) {
	if day := id.Time().Format(time.DateOnly); day != c.day {
		if err := c.list(ctx, day); err != nil {
			return false, err
		}
	}
	c.open = slices.DeleteFunc(c.open, func(o cleanedCursor) bool { return bytes.Compare(o.last[:], id[:]) < 0 })
	for len(c.files) > 0 && bytes.Compare(c.files[0].first[:], id[:]) <= 0 {
		f := c.files[0]
		if bytes.Compare(f.last[:], id[:]) >= 0 {
			if err := c.load(ctx, f); err != nil {
				return false, err
			}
		}
		c.files = c.files[1:]
	}
	for i := range c.open {
		if c.open[i].has(id) {
			return true, nil
		}
	}
	return false, nil
}

// list reads the names of the files of a day.
func (c *CleanedReader) list(ctx context.Context, day string) error {
	c.day, c.files, c.open = day, nil, nil
	return export.EachListed(ctx, c.blobs.List, c.tenant, cleanedDay(day), func(file export.Listed) error {
		f, err := parseCleaned(file.Key)
		c.files = append(c.files, f)
		return err
	})
}

func parseCleaned(key string) (cleanedFile, error) {
	f := cleanedFile{key: key}
	names := strings.Split(key[strings.LastIndexByte(key, '/')+1:], "-")
	valid := len(names) == 3
	for i, id := range []*audit.EntryID{&f.first, &f.last} {
		if valid {
			n, err := hex.Decode(id[:], []byte(names[i])[:min(len(names[i]), 2*idSize)])
			valid = err == nil && n == idSize && len(names[i]) == 2*idSize
		}
	}
	if !valid {
		return f, damagedCleaned(key)
	}
	return f, nil
}

func damagedCleaned(key string) error {
	return &jobs.FailedError{Reason: key + ", which says what cleanups removed, is damaged"}
}

// load opens a file. One that is gone is passed over: the archive of its month has ended.
func (c *CleanedReader) load(ctx context.Context, f cleanedFile) error {
	text, _, err := readAll(ctx, c.blobs, c.tenant, f.key, maxCleaned*int64(idSize))
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return nil
	case errors.Is(err, export.ErrContent):
		return damagedCleaned(f.key)
	case err != nil:
		return err
	}
	ids, sum := packedIDs(text), sha256.Sum256(text)
	if !strings.HasSuffix(f.key, hex.EncodeToString(sum[:8])) || ids.check(int64(ids.len())) != nil {
		return damagedCleaned(f.key)
	}
	c.open = append(c.open, cleanedCursor{f.last, cursor{ids: ids}})
	return nil
}
