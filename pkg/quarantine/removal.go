package quarantine

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// removePage is how many items RemoveIf has in memory. An entry can have 256 KiB.
const removePage = 50

// RemoveIf removes the items of a tenant whose entries are to go, and returns their number, also with
// an error. It asks about every item of the tenant. Before each page it asks begin for what decides, and
// stops if that is nil.
func RemoveIf(ctx context.Context, store Store, tenant audit.TenantID, begin func(context.Context) (goes func(*audit.Entry) bool, err error)) (removed int, err error) {
	for after, more := "", true; more; {
		goes, err := begin(ctx)
		if err != nil || goes == nil {
			return removed, err
		}
		var items []Item
		if items, more, err = store.List(ctx, tenant, nil, after, removePage); err != nil {
			return removed, fmt.Errorf("look for items to remove of %s: %w", tenant, err)
		}
		for i := range items {
			after = items[i].ID
			if !goes(&items[i].Entry) {
				continue
			}
			err := store.Delete(ctx, tenant, after)
			if errors.Is(err, audit.ErrNotFound) { // a retry or another worker was faster
				continue
			}
			if err != nil {
				return removed, fmt.Errorf("remove item %s of %s: %w", after, tenant, err)
			}
			removed++
		}
		if len(items) == 0 {
			return removed, nil
		}
	}
	return removed, nil
}
