// Package jobs does the long pieces of work that outlive the request that
// started them. A request writes the job's record and queues its message; the
// job's worker receives the message and updates the record until the job ends.
package jobs

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Store stores the records of jobs.
type Store interface {
	// CreateJob adds a job. It returns audit.ErrConflict if the id is taken.
	CreateJob(ctx context.Context, job audit.Job) error
	// UpdateJob replaces a job. It returns audit.ErrNotFound if none exists.
	UpdateJob(ctx context.Context, job audit.Job) error
	// Job returns a job of the tenant. It returns audit.ErrNotFound if none exists.
	Job(ctx context.Context, tenant audit.TenantID, id string) (audit.Job, error)
}

// Tenants is the part of tenants.Store that a worker uses.
type Tenants interface {
	// Tenant returns one tenant. It returns audit.ErrNotFound if none exists or if it was purged.
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
	// Tombstone removes the record and reserves the id for ever. Repeating it is not an error.
	Tombstone(ctx context.Context, id audit.TenantID) error
}

// Purger is a store that can remove a tenant. Purge removes up to limit of the
// tenant's records and returns how many it removed; 0 means that none is left.
// It never removes a record of another tenant. It may be repeated at any time.
type Purger interface {
	Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error)
}

// NamedPurger is a store with its name in error messages.
type NamedPurger struct {
	Name   string
	Purger Purger
}
