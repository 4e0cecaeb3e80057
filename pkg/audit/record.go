package audit

import (
	"context"
	"fmt"
)

// Recorder writes the service's own entries into a tenant's log.
type Recorder interface {
	// Record sets the id and the times of the entry. An entry with an id keeps it and its timestamp,
	// so that repeating the same one has no effect.
	Record(ctx context.Context, tenant Tenant, entry Entry) error
}

// Record records an entry. Its error is an *UnavailableError: what could not be recorded must not be
// done, and can be tried again.
func Record(ctx context.Context, r Recorder, tenant Tenant, entry Entry) error {
	err := r.Record(ctx, tenant, entry)
	if err == nil || IsUnavailable(err) {
		return err
	}
	return &UnavailableError{Err: fmt.Errorf("record %s in %s: %w", entry.Action, tenant.ID, err)}
}
