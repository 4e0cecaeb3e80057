package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// errLost says that a month has no manifest. Each job stores one before its first part. So parts beside none
// were listed in one that is lost. They can be the only copy of their entries: nobody removes them.
var errLost = errors.New("the manifest is missing")

// lost returns errLost with what an operator does, as the reason of a job.
func lost(of month) error {
	return &jobs.FailedError{Reason: fmt.Sprintf(
		"%s%s is missing, and there are parts: bring the newest version of this file back; nothing of %s is archived or removed until then", of.folder(), manifestName, of)}
}

// isLost reports whether the month of a manifest that was read has none, but parts. A part with a number that
// is passed over is that of the caller.
func isLost(ctx context.Context, blobs Blobs, m *Manifest, of month, own int) (is bool, err error) {
	if m.etag != "" {
		return false, nil
	}
	err = export.EachListed(ctx, blobs.List, m.Tenant, of.folder()+partPrefix, func(file export.Listed) error {
		n, isPart := numberOf(strings.TrimPrefix(file.Key, of.folder()))
		is = is || isPart && n != own
		return nil
	})
	return is, err
}

// ensureManifest stores an empty manifest of a month that has neither one nor parts.
func (r *archiveRun) ensureManifest(ctx context.Context) error {
	m, err := readManifest(ctx, r.Blobs, r.Job.Tenant, r.month)
	if err != nil || m.etag != "" {
		return err
	}
	own := 0
	if r.at.Pending != nil { // an earlier version wrote parts before the manifest
		own = r.at.Pending.Number()
	}
	is, err := isLost(ctx, r.Blobs, m, r.month, own)
	if err == nil && is {
		err = errLost
	}
	if err == nil {
		err = m.put(ctx, r.Blobs, r.Now())
	}
	if err != nil && !errors.Is(err, audit.ErrConflict) { // another job was first
		return err
	}
	return r.checkTenant(ctx) // its deletion may have passed the archive
}
