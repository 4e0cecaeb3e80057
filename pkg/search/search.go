// Package search is the read side: Service answers lists, single entries and
// statistics; Indexer feeds the index from its queue.
package search

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Finder answers lists of one tenant's entries, or an *audit.UnavailableError.
// One that others stand in for takes seconds to find that out, not all the time
// that it is given.
type Finder interface {
	// Find returns the page of the entries that the filter chooses.
	Find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, page audit.PageRequest) (audit.Page, error)
}

// Index answers lists and statistics of one tenant's entries. What was indexed
// is found from the moment Put returned, or within a second where the index
// refreshes by itself.
type Index interface {
	Finder
	// Stats counts the entries that the filter chooses.
	Stats(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) (audit.Stats, error)
	// Contains reports whether the index itself has the entry.
	Contains(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (bool, error)
}

// IndexWriter makes entries findable. Put returns once every entry that it does
// not reject is durable in the index; putting an entry again is not an error.
type IndexWriter interface {
	Put(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) ([]audit.Rejection, error)
}

// Reader reads single entries from the system of record; audit.ErrNotFound
// where the tenant has none with this id.
type Reader interface {
	Entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (audit.Entry, error)
}
