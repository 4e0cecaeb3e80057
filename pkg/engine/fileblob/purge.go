package fileblob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

// Purge removes up to limit blobs and uploads of the tenant, and returns how many it removed. It
// returns 0 if the tenant has none left.
func (b *Blobs) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	removed, err := b.purgeUploads(ctx, tenant, limit)
	if err != nil {
		return removed, fmt.Errorf("purge uploads of %s: %w", tenant, err)
	}
	listed, err := b.List(ctx, tenant, "", "", limit-removed)
	for _, blob := range listed {
		if err == nil {
			err = b.Delete(ctx, tenant, blob.Key)
			removed++
		}
	}
	return removed, err
}

// CountRecords counts what Purge would remove.
func (b *Blobs) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	uploads, err := b.uploadsOf(ctx, tenant, math.MaxInt)
	if err != nil {
		return 0, fmt.Errorf("count the uploads of %s: %w", tenant, err)
	}
	n := int64(len(uploads))
	err = export.EachListed(ctx, b.List, tenant, "", func(export.Listed) error { n++; return nil })
	return n, err
}

func (b *Blobs) purgeUploads(ctx context.Context, tenant audit.TenantID, limit int) (removed int, err error) {
	uploads, err := b.uploadsOf(ctx, tenant, limit)
	for _, upload := range uploads {
		if err != nil || ctx.Err() != nil {
			return removed, errors.Join(err, ctx.Err())
		}
		err = b.removeUpload(upload)
		removed++
	}
	return removed, err
}

// uploadsOf returns up to limit unfinished uploads of the tenant.
func (b *Blobs) uploadsOf(ctx context.Context, tenant audit.TenantID, limit int) (uploads []export.Upload, err error) {
	entries, err := fs.ReadDir(b.root.FS(), unfinished)
	for _, entry := range entries {
		if err != nil || len(uploads) >= limit || ctx.Err() != nil {
			return uploads, errors.Join(err, ctx.Err())
		}
		text, readErr := b.root.ReadFile(path.Join(unfinished, entry.Name(), aboutFile))
		if readErr != nil {
			continue // a file of Put, or an upload that has just begun or ended
		}
		var what about
		if json.Unmarshal(text, &what) == nil && what.Tenant == tenant {
			uploads = append(uploads, export.Upload{ID: entry.Name()})
		}
	}
	return uploads, err
}

// RemoveOlder removes blobs that were last written before a time, of all tenants, and unfinished
// files as Open does. It is the lifecycle rule of this engine.
func (b *Blobs) RemoveOlder(ctx context.Context, before time.Time) error {
	err := fs.WalkDir(b.root.FS(), ".", func(file string, entry fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if entry.IsDir() {
			if file == unfinished {
				return fs.SkipDir
			}
			return nil
		}
		if _, is := b.layout.keyOf(file); !is {
			return nil
		}
		info, err := entry.Info()
		if err == nil && info.ModTime().Before(before) {
			err = b.root.Remove(file)
		}
		if errors.Is(err, fs.ErrNotExist) { // another process removed it first
			return nil
		}
		return err
	})
	if err = errors.Join(err, b.removeUnfinished()); err != nil {
		return fmt.Errorf("remove old blobs: %w", err)
	}
	return nil
}
