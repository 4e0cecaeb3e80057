// Package retention removes entries after their end, and archived entries that are not searchable any
// more. Task marks them: from some days later they may be removed. Until then a longer retention, or more
// searchable days, unmarks them again. Again has
// Task look at a tenant's days as soon as its settings change.
package retention

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Entry is what decides whether a stored entry may be removed. It has ID, Timestamp, UserID, Action,
// Severity, SubmittedBy, ReceivedAt and RestoredUntil.
type Entry struct {
	audit.Entry
	DeletableAt time.Time // from then on the entry may be removed; zero: it is not marked
}

// Selection is the entries of a tenant with From ≤ timestamp < To and an id greater than After.
type Selection struct {
	From, To time.Time
	After    audit.EntryID
	Marked   bool // only those that are marked
	// Encrypted says that the entries have Encrypted too.
	Encrypted bool
}

// MaxEntries is how many entries one call of Retained returns at most, and one other call takes.
const MaxEntries = 2000

// MaxEncrypted is how many entries are to be asked for with Encrypted, of which one can have 256 KiB.
const MaxEncrypted = 100

// Store is the system of record.
type Store interface {
	// Retained returns up to limit entries of the selection, in the order of their ids. It may return
	// fewer although more follow. An empty result means that none is left.
	Retained(ctx context.Context, tenant audit.TenantID, of Selection, limit int) ([]Entry, error)
	// Mark lets the entries be removed once the time has passed, by the store's own clock. It does
	// not change those that are marked already.
	Mark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, after time.Duration) error
	// Unmark takes Mark back.
	Unmark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error
	// EndRestore takes RestoredUntil back, and Mark: the entries stay as those that were never away.
	EndRestore(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error
	// RemoveDue removes those of the entries whose time has come by the store's own clock, and
	// returns their number. The store may remove them by itself.
	RemoveDue(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (int, error)
}

// Index is the search index.
type Index interface {
	// Remove removes the entries from the index. Those that it does not have are no error. It may
	// miss an entry that was put a second ago.
	Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error
}

// Archived tells which entries of a day are archived; see archive.ArchivedDay.
type Archived interface {
	// HasID reports whether an entry with the id is archived, whatever its content.
	HasID(ctx context.Context, id audit.EntryID) (bool, error)
	// HasEntry reports whether this very entry is archived.
	HasEntry(ctx context.Context, e *audit.Entry) (bool, error)
	// Cleaned reports whether a cleanup has removed an entry with the id, in an order of its own.
	Cleaned(ctx context.Context, id audit.EntryID) (bool, error)
}

// Closings are what one run did to empty partitions of the system of record, by their names.
type Closings struct {
	Closed  []string // they are dropped later
	Opened  []string // again: they were closed, and are not empty
	Dropped []string
}

// Tenants finds tenants. It returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}
