// Package quarantine keeps accepted entries that a later step could not take,
// each with its reason, until an administrator retries or deletes them.
package quarantine

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Item is one entry in quarantine.
type Item struct {
	// ID is derived from tenant, entry id, digest and step, so that holding
	// the same entry twice keeps it once; while a retry is under way, from the
	// retry's time as well. It is 32 hexadecimal digits.
	ID     string
	Step   string // audit.StepPersist or audit.StepIndex
	Code   string
	Reason string
	HeldAt time.Time
	// ExpiresAt is when the tenant's retention of the entry ends; zero: never.
	ExpiresAt time.Time
	Entry     audit.Entry
}

// Store keeps items. Every method is of one tenant.
type Store interface {
	// Put keeps the items durably; an id that is there already is left as it is.
	Put(ctx context.Context, tenant audit.TenantID, items []Item) error
	// List returns up to limit items after the item with the id after ("" for
	// the beginning), ordered by id, and whether more follow.
	List(ctx context.Context, tenant audit.TenantID, after string, limit int) (items []Item, more bool, err error)
	// Item returns one item, audit.ErrNotFound where there is none.
	Item(ctx context.Context, tenant audit.TenantID, id string) (Item, error)
	// Delete removes one item, audit.ErrNotFound where there is none.
	Delete(ctx context.Context, tenant audit.TenantID, id string) error
}
