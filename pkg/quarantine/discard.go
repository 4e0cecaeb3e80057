package quarantine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// discardedPrefix begins the id of what is left of an item that somebody discarded and whose entry is stored: the index
// refused it. It says that the index will never have the entry, and keeps the item from coming back. It is removed with
// the tenant, or when its entry would be. Ids of items are hexadecimal, so those with the prefix follow all others.
const discardedPrefix = "x-"

func isDiscarded(id string) bool { return strings.HasPrefix(id, discardedPrefix) }

// discarded returns what is left of an item. It has no content, but for what decides when it goes. It has no tokens either:
// an erasure that has just passed would not find them.
func (i *Item) discarded(tenant audit.TenantID) Item {
	e := &i.Entry
	left := audit.Entry{
		ID: e.ID, Tenant: e.Tenant, Timestamp: e.Timestamp, ReceivedAt: e.ReceivedAt, Action: e.Action, Severity: e.Severity,
		SubmittedBy: e.SubmittedBy, Digest: e.Digest,
	}
	return Item{ID: discardedPrefix + itemID(tenant, i.Step, e), Step: i.Step, QuarantinedAt: i.QuarantinedAt, Entry: left}
}

// List returns up to limit items after the item with the id after; see Store.List.
func (s *Service) List(ctx context.Context, tenant audit.TenantID, resources []Resource, after string, limit int) (items []Item, more bool, err error) {
	items, more, err = s.Store.List(ctx, tenant, resources, after, limit)
	if n := slices.IndexFunc(items, func(i Item) bool { return isDiscarded(i.ID) }); n >= 0 {
		return items[:n], false, err
	}
	return items, more, err
}

// removeDiscarded removes those of the items again that were discarded before, or meanwhile.
func (s *Service) removeDiscarded(ctx context.Context, tenant audit.TenantID, items []Item) error {
	ids := make([]string, len(items))
	for n := range items {
		ids[n] = discardedPrefix + items[n].ID
	}
	existing, err := s.Store.Existing(ctx, tenant, ids)
	for _, id := range existing {
		if err == nil {
			err = remove(ctx, s.Store, tenant, strings.TrimPrefix(id, discardedPrefix))
		}
	}
	if err != nil {
		return fmt.Errorf("remove discarded items of %s: %w", tenant, err)
	}
	return nil
}

// undiscard forgets that an item was discarded: its deletion failed at the end.
func (s *Service) undiscard(ctx context.Context, tenant audit.TenantID, item *Item) error {
	existing, err := s.Store.Existing(ctx, tenant, []string{discardedPrefix + itemID(tenant, item.Step, &item.Entry)})
	for _, id := range existing {
		if err == nil {
			err = remove(ctx, s.Store, tenant, id)
		}
	}
	return err
}
