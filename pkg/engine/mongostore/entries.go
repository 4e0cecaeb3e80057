package mongostore

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// IsolationFunc returns how the entries of a tenant are isolated. It returns
// audit.ErrNotFound if there is no such tenant. Every call of Entries calls it,
// so that it should cache.
type IsolationFunc func(ctx context.Context, tenant audit.TenantID) (audit.Isolation, error)

// Entries is the system of record. It implements ingest.Store, search.Reader,
// search.IDLister, stream.Reader and jobs.Purger.
type Entries struct {
	db        *DB
	isolation IsolationFunc
}

// Entries returns the system of record. New entries of a tenant go to the
// partition that isolation selects. Reads and purges cover both partitions.
func (db *DB) Entries(isolation IsolationFunc) *Entries {
	return &Entries{db: db, isolation: isolation}
}
