package jobs

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Recorder writes the service's own entries into a tenant's log.
type Recorder interface {
	// Record sets the id and the times of the entry. An entry with an id keeps it and its timestamp,
	// so that repeating the same one has no effect.
	Record(ctx context.Context, tenant audit.Tenant, entry audit.Entry) error
}

// The action and resource type of entries about jobs.
const (
	ActionCancel = "job.cancel"
	ResourceJob  = "job"
)

// Record records an entry. Its error is an *audit.UnavailableError: what could not be recorded must
// not be done, and can be tried again.
func Record(ctx context.Context, r Recorder, tenant audit.Tenant, entry audit.Entry) error {
	err := r.Record(ctx, tenant, entry)
	if err == nil || audit.IsUnavailable(err) {
		return err
	}
	return &audit.UnavailableError{Err: fmt.Errorf("record %s in %s: %w", entry.Action, tenant.ID, err)}
}
