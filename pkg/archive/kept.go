package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// keptName is the name of the file that says that an archive outlives its tenant.
const keptName = "_kept.json"

// Keeper keeps the archives of tenants that are deleted without them. It implements jobs.ArchiveKeeper.
type Keeper struct{ Blobs Blobs }

// Keep adds a file to the tenant's archive that says who has kept it. From then on no worker removes
// anything of it. Repeating it has no effect.
func (k *Keeper) Keep(ctx context.Context, job *jobs.Job) error {
	text, err := json.Marshal(struct {
		Tenant audit.TenantID `json:"tenant_id"`
		KeptBy string         `json:"kept_by"`
		KeptAt time.Time      `json:"kept_at"`
		Job    string         `json:"deletion_id"`
	}{job.Tenant, job.CreatedBy, job.CreatedAt, job.ID})
	if err == nil {
		err = k.Blobs.Create(ctx, job.Tenant, keptName, export.ContentOf(text, "application/json"))
	}
	if err != nil && !errors.Is(err, audit.ErrConflict) {
		return fmt.Errorf("keep the archive of %s: %w", job.Tenant, err)
	}
	return nil
}

// Size counts the files of a tenant's archive and their bytes.
func (k *Keeper) Size(ctx context.Context, tenant audit.TenantID) (size certificate.KeptArchive, err error) {
	err = export.EachListed(ctx, k.Blobs.List, tenant, "", func(file export.Listed) error {
		size.Files++
		size.Bytes += file.Size
		return nil
	})
	if err != nil {
		return size, fmt.Errorf("measure the archive of %s: %w", tenant, err)
	}
	return size, nil
}

// fate is what becomes of the archive of a tenant that is being deleted.
type fate int

const (
	// archiveGoes: it is removed with its tenant.
	archiveGoes fate = iota
	// archiveKept: it outlives its tenant.
	archiveKept
	// archiveHeld: a legal hold stands, which stops the deletion. Nothing is removed before the hold is released and
	// the tenant deleted again.
	archiveHeld
)

// fateOf returns what becomes of the archive of a tenant that is being deleted. The tenant's record, which has been
// read, may be gone. It asks the holds last. Right after it the blobs remove what the caller may remove.
func fateOf(ctx context.Context, blobs *timely, holds hold.Reader, tenant *audit.Tenant, id audit.TenantID) (fate, error) {
	outlives, err := isKept(ctx, blobs, tenant, id)
	if err != nil {
		return archiveHeld, err
	}
	blobs.look()
	standing, err := holds.Standing(ctx, id)
	switch {
	case err != nil || len(standing) > 0:
		return archiveHeld, err
	case outlives:
		return archiveKept, nil
	}
	return archiveGoes, nil
}

// isKept reports whether the tenant's record says that the archive is kept, or Keep was called for the tenant.
func isKept(ctx context.Context, blobs Getter, tenant *audit.Tenant, id audit.TenantID) (bool, error) {
	if tenant.KeepArchive {
		return true, nil
	}
	body, _, err := blobs.Get(ctx, id, keptName)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}
