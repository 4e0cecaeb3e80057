package quarantine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

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

// Rewriter changes the entries of items.
type Rewriter struct {
	Store  Store
	Random func([]byte) // fills its argument with random bytes
}

// Rewrite replaces the items of a tenant whose entries change reports to have changed. An item exists at any
// time. After a crash it can be under another id, until Rewrite comes to its end. It begins after the item with the id last ("" for the
// beginning), and sets last as it goes, also before an error. It returns false if stop was true before the end.
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

func (r *Rewriter) rewrite(ctx context.Context, tenant audit.TenantID, item Item, change func(context.Context, *audit.Entry) (changed bool, err error)) error {
	item, found, err := r.restored(ctx, tenant, item)
	if err != nil || !found {
		return err
	}
	changed, err := change(ctx, &item.Entry)
	if err == nil && changed {
		err = r.replace(ctx, tenant, item)
	}
	return err
}

// rewritePrefix begins the ids of items while they are replaced. They follow those of other items, so that Rewrite
// comes to what a worker that was killed has left there.
const rewritePrefix = "ffffffff"

// restored gives an item its own id again if a worker was killed while it replaced it. It reports false if the
// item has been removed since.
func (r *Rewriter) restored(ctx context.Context, tenant audit.TenantID, item Item) (Item, bool, error) {
	id := itemID(tenant, item.Step, &item.Entry)
	if item.ID == id || !strings.HasPrefix(item.ID, rewritePrefix) {
		return item, true, nil
	}
	if err := move(ctx, r.Store, tenant, item, id); err != nil {
		return Item{}, false, err
	}
	item, err := r.Store.Item(ctx, tenant, id)
	if errors.Is(err, audit.ErrNotFound) {
		return Item{}, false, nil
	}
	return item, err == nil, err
}

// replace replaces the item with its id. Put changes none that exists, so it first moves to another id, which
// no other worker has. It does not bring back an item that a retry or a deletion has removed.
func (r *Rewriter) replace(ctx context.Context, tenant audit.TenantID, item Item) error {
	var random [12]byte
	r.Random(random[:])
	moved := item
	moved.ID = rewritePrefix + hex.EncodeToString(random[:])
	if err := r.Store.Put(ctx, tenant, []Item{moved}); err != nil {
		return err
	}
	err := r.Store.Delete(ctx, tenant, item.ID)
	if errors.Is(err, audit.ErrNotFound) {
		return remove(ctx, r.Store, tenant, moved.ID)
	}
	if err != nil {
		return err
	}
	return move(ctx, r.Store, tenant, moved, item.ID)
}
