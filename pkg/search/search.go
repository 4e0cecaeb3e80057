// Package search is the read side: Service reads lists, single entries and
// statistics, Indexer writes to the index, Reconciler repairs the index.
package search

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Finder reads lists of one tenant's entries. It returns an
// *audit.UnavailableError while its engine is unavailable. If another Finder can
// stand in for it, it does so within seconds, before its context ends.
type Finder interface {
	// Find returns a page of the entries that match the filter.
	Find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, page audit.PageRequest) (audit.Page, error)
}

// Index reads lists and statistics of one tenant's entries. An entry is found as
// soon as Put has returned, or within a second if the index refreshes by itself.
type Index interface {
	Finder
	// Stats counts the entries that match the filter.
	Stats(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) (audit.Stats, error)
	// Contains reports whether the index has the entry.
	Contains(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (bool, error)
}

// IndexWriter makes entries findable. Put writes the entries of all batches in as few
// requests as possible. It returns one result for each batch, because one tenant's
// entries can fail while another's are written. Putting an entry again is not an error.
type IndexWriter interface {
	Put(ctx context.Context, batches []Batch) []PutResult
}

// PutEntries writes the entries of one tenant.
func PutEntries(ctx context.Context, w IndexWriter, tenant audit.TenantID, entries []audit.Entry) ([]audit.Rejection, error) {
	result := w.Put(ctx, []Batch{{Tenant: tenant, Entries: entries}})[0]
	return result.Rejections, result.Err
}

// Batch is entries of one tenant.
type Batch struct {
	Tenant  audit.TenantID
	Entries []audit.Entry
}

// PutResult is the result of one Batch. If Err is nil, every entry without a rejection
// is durable in the index. The rejections have the entries' indexes, in no order.
type PutResult struct {
	Rejections []audit.Rejection
	Err        error
}

// Reader reads single entries from the system of record. Entry returns
// audit.ErrNotFound if the tenant has none with this id.
type Reader interface {
	Entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (audit.Entry, error)
}
