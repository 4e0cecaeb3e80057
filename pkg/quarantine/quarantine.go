// Package quarantine stores accepted entries that a later step rejected, each with
// its reason, until an administrator retries or deletes them. An item is kept as long as
// its entry would be by the tenant's current settings.
package quarantine

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Item is one entry in quarantine.
type Item struct {
	// ID is 32 hexadecimal digits derived from tenant, entry id, digest and step, so
	// that adding the same entry twice stores it once. During a retry it is derived
	// from the retry's time too.
	ID            string
	Step          string // audit.StepPersist or audit.StepIndex
	Code          string
	Reason        string
	QuarantinedAt time.Time
	Entry         audit.Entry
}

// Store stores items. Every method is limited to one tenant.
type Store interface {
	// Put stores the items durably. It does not change an item whose id exists.
	Put(ctx context.Context, tenant audit.TenantID, items []Item) error
	// List returns up to limit items after the item with the id after ("" for
	// the beginning), ordered by id, and whether more follow.
	List(ctx context.Context, tenant audit.TenantID, after string, limit int) (items []Item, more bool, err error)
	// Item returns one item. It returns audit.ErrNotFound if none exists.
	Item(ctx context.Context, tenant audit.TenantID, id string) (Item, error)
	// Delete removes one item. It returns audit.ErrNotFound if none exists.
	Delete(ctx context.Context, tenant audit.TenantID, id string) error
}
