// Package quarantine stores accepted entries that a later step rejected, each with
// its reason, until an administrator retries or deletes them. An item is kept as long as
// its entry would be by the tenant's current settings.
package quarantine

import (
	"context"
	"slices"
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

// Resource selects items by their entry's resource type, and by its resource id if ID is set.
type Resource struct{ Type, ID string }

// FirstIDs returns the first n ids that read finds for any of the resources, in order and each
// once. read returns the first n ids for one resource, in any order. Stores use it for List.
func FirstIDs(resources []Resource, n int, read func(r Resource, n int) ([]string, error)) ([]string, error) {
	var first []string
	for _, r := range resources {
		ids, err := read(r, n)
		if err != nil {
			return nil, err
		}
		first = append(first, ids...)
		slices.Sort(first)
		first = slices.Compact(first)
		first = first[:min(n, len(first))]
	}
	return first, nil
}

// Store stores items. Every method is limited to one tenant.
type Store interface {
	// Put stores the items durably. It does not change an item whose id exists.
	Put(ctx context.Context, tenant audit.TenantID, items []Item) error
	// List returns up to limit items after the item with the id after ("" for
	// the beginning), ordered by id, and whether more follow. If resources are given, it
	// returns only the items whose entries are of one of them. It reads no other items,
	// so the time that it takes does not depend on them.
	List(ctx context.Context, tenant audit.TenantID, resources []Resource, after string, limit int) (items []Item, more bool, err error)
	// Item returns one item. It returns audit.ErrNotFound if none exists.
	Item(ctx context.Context, tenant audit.TenantID, id string) (Item, error)
	// Existing returns those of the ids that items have, in any order.
	Existing(ctx context.Context, tenant audit.TenantID, ids []string) ([]string, error)
	// Replace gives an item, as it was read, another entry. It changes nothing and returns audit.ErrPrecondition
	// if the item got another entry since, and audit.ErrNotFound if it no longer exists. Repeating it is no error.
	Replace(ctx context.Context, tenant audit.TenantID, item Item, entry audit.Entry) error
	// Delete removes one item. It returns audit.ErrNotFound if none exists.
	Delete(ctx context.Context, tenant audit.TenantID, id string) error
}
