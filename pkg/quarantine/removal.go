package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// removePage is how many items RemoveIf has in memory. An entry can have 256 KiB.
const removePage = 50

// RemoveIf removes the items of a tenant whose entries are to go, and returns their number, also with
// an error. It asks about every item of the tenant after the one with the id last ("" for all), and sets last
// as it goes. Before each page it asks begin for what decides, and stops if that is nil.
func RemoveIf(ctx context.Context, store Store, tenant audit.TenantID, last *string, begin func(context.Context) (goes func(*audit.Entry) bool, err error)) (removed int, err error) {
	for more := true; more; {
		goes, err := begin(ctx)
		if err != nil || goes == nil {
			return removed, err
		}
		var items []Item
		if items, more, err = store.List(ctx, tenant, nil, *last, removePage); err != nil {
			return removed, fmt.Errorf("look for items to remove of %s: %w", tenant, err)
		}
		for i := range items {
			id := items[i].ID
			if goes(&items[i].Entry) {
				err := store.Delete(ctx, tenant, id)
				if err != nil && !errors.Is(err, audit.ErrNotFound) { // else a retry or another worker was faster
					return removed, fmt.Errorf("remove item %s of %s: %w", id, tenant, err)
				}
				if err == nil {
					removed++
				}
			}
			*last = id
		}
		if len(items) == 0 {
			return removed, nil
		}
	}
	return removed, nil
}

// maxRewrites is how often Rewriter changes an item that others change at the same time.
const maxRewrites = 20

// Rewriter changes the entries of items.
type Rewriter struct{ Store Store }

// Rewrite changes the items of a tenant whose entries change reports to have changed. change is called again
// if another worker has changed the item meanwhile. It must not write into what the entry's fields refer to, except
// for the elements of Encrypted. Rewrite begins after the item with the id last ("" for the beginning), and sets
// last as it goes, also before an error. It returns false if stop was true before the end.
func (r *Rewriter) Rewrite(ctx context.Context, tenant audit.TenantID, last *string, change func(context.Context, *audit.Entry) (changed bool, err error), stop func() bool) (done bool, err error) {
	for more := true; more; {
		var items []Item
		if items, more, err = r.Store.List(ctx, tenant, nil, *last, removePage); err != nil {
			return false, fmt.Errorf("look for items to change of %s: %w", tenant, err)
		}
		for i := range items {
			if stop() {
				return false, nil
			}
			if err := r.rewrite(ctx, tenant, items[i], change); err != nil {
				return false, fmt.Errorf("change item %s of %s: %w", items[i].ID, tenant, err)
			}
			*last = items[i].ID
		}
		if len(items) == 0 {
			return true, nil
		}
	}
	return true, nil
}

// rewrite changes one item. An item that a retry or a deletion removes meanwhile is not brought back.
func (r *Rewriter) rewrite(ctx context.Context, tenant audit.TenantID, item Item, change func(context.Context, *audit.Entry) (changed bool, err error)) error {
	for n := 1; ; n++ {
		entry := item.Entry
		entry.Encrypted = slices.Clone(entry.Encrypted)
		changed, err := change(ctx, &entry)
		if err == nil && changed {
			err = r.Store.Replace(ctx, tenant, item, entry)
		}
		if errors.Is(err, audit.ErrPrecondition) && n < maxRewrites {
			item, err = r.Store.Item(ctx, tenant, item.ID)
			if err == nil {
				continue
			}
		}
		if errors.Is(err, audit.ErrNotFound) {
			return nil
		}
		return err
	}
}
