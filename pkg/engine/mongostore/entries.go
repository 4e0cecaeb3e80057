package mongostore

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// IsolationFunc returns how the entries of a tenant are isolated, which never changes.
// It returns audit.ErrNotFound if there is no such tenant. Every call of Entries and
// Index calls it, so that it should cache.
type IsolationFunc func(ctx context.Context, tenant audit.TenantID) (audit.Isolation, error)

// Entries is the system of record. It implements ingest.Store, search.Reader,
// search.IDLister, arrival.Reader, retention.Store and jobs.CountedPurger.
type Entries struct {
	db        *DB
	isolation IsolationFunc
}

// Entries returns the system of record. The entries of a tenant are in the partitions
// that isolation selects.
func (db *DB) Entries(isolation IsolationFunc) *Entries {
	return &Entries{db: db, isolation: isolation}
}

// of returns the isolation of a tenant.
func (f IsolationFunc) of(ctx context.Context, tenant audit.TenantID) (audit.Isolation, error) {
	isolation, err := f(ctx, tenant)
	if err != nil {
		return "", fmt.Errorf("look up the isolation: %w", err)
	}
	return isolation, nil
}
