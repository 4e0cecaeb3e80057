package quarantine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// Service adds, retries and deletes entries in quarantine. A retry or deletion
// that cannot be recorded in the tenant's log does not happen.
type Service struct {
	Store Store
	// Standard and Priority (ingest) and Index are where a retry sends an entry.
	Standard, Priority, Index ingest.Queue
	Holds                     hold.Reader
	Recorder                  audit.Recorder
	Now                       func() time.Time
}

// maxReason bounds a stored reason, in bytes: some engines write pages.
const maxReason = 1024

// restoreTimeout bounds the restoring of an item, which continues if the request is canceled.
const restoreTimeout = 5 * time.Second

// Add implements ingest.Quarantine and search.Quarantine. reasons[i].Index
// points into entries. If an entry has several reasons, the first is stored. An entry that the index refuses does not
// come back after somebody has discarded it.
func (s *Service) Add(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry, reasons []audit.Rejection) error {
	now := s.Now().UTC().Truncate(time.Millisecond)
	items := make([]Item, 0, len(reasons))
	seen := make(map[string]bool, len(reasons))
	for _, r := range reasons {
		if r.Index < 0 || r.Index >= len(entries) {
			return fmt.Errorf("quarantine entries of %s: a reason for entry %d of %d", tenant, r.Index, len(entries))
		}
		e := entries[r.Index]
		id := itemID(tenant, step, &e)
		if seen[id] {
			continue
		}
		seen[id] = true
		items = append(items, Item{
			ID: id, Step: step, Code: r.Code, Reason: audit.Cut(r.Reason, maxReason), QuarantinedAt: now, Entry: e,
		})
	}
	if len(items) == 0 {
		return nil
	}
	if err := s.Store.Put(ctx, tenant, items); err != nil {
		return fmt.Errorf("quarantine %d entries of %s: %w", len(items), tenant, err)
	}
	if step != audit.StepIndex {
		return nil
	}
	return s.removeDiscarded(ctx, tenant, items) // after Put: Delete notes first what it discards
}

// Contains reports for each of the entries whether it is in quarantine after a step, and no retry of it is under way.
// An entry that the index refused and somebody discarded counts too: the index will never have it.
func (s *Service) Contains(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry) ([]bool, error) {
	ids := make([]string, 0, 2*len(entries))
	for i := range entries {
		ids = append(ids, itemID(tenant, step, &entries[i]))
	}
	for _, id := range ids {
		ids = append(ids, discardedPrefix+id)
	}
	existing, err := s.Store.Existing(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	contained := make([]bool, len(entries))
	for i := range entries {
		contained[i] = slices.Contains(existing, ids[i]) || slices.Contains(existing, discardedPrefix+ids[i])
	}
	return contained, nil
}

// HasAny reports whether the tenant has an item, or something is left of one that was discarded.
func (s *Service) HasAny(ctx context.Context, tenant audit.TenantID) (bool, error) {
	items, _, err := s.Store.List(ctx, tenant, nil, "", 1)
	return len(items) > 0, err
}

// itemID derives the id of an entry's item. The lengths make the text unambiguous.
func itemID(tenant audit.TenantID, step string, e *audit.Entry) string {
	return hashID(fmt.Appendf(nil, "%d %s %d %s %s %x", len(tenant), tenant, len(step), step, e.ID, e.Digest))
}

// retryID derives the id of an item during a retry.
func retryID(id string, now time.Time) string {
	return hashID(fmt.Appendf(nil, "retry %s %d", id, now.UnixNano()))
}

func hashID(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// IsExpired reports whether the item's entry has reached its end by the tenant's current
// settings. Such an item must not be shown.
func (s *Service) IsExpired(tenant *audit.Tenant, item *Item) bool {
	return tenant.Settings.IsExpired(&item.Entry, s.Now())
}

// item returns an item that has not expired and was not discarded.
func (s *Service) item(ctx context.Context, tenant *audit.Tenant, id string) (Item, error) {
	if isDiscarded(id) {
		return Item{}, audit.ErrNotFound
	}
	item, err := s.Store.Item(ctx, tenant.ID, id)
	if err == nil && s.IsExpired(tenant, &item) {
		return Item{}, audit.ErrNotFound
	}
	return item, err
}

// Retry sends the item's entry to the queue of its step and then removes the item.
// If the step rejects the entry again, the item returns under the same id. After
// an error the item still exists. The step may process the entry anyway, which
// does no harm.
func (s *Service) Retry(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) error {
	item, err := s.item(ctx, &tenant, id)
	if err != nil {
		return fmt.Errorf("retry quarantine item of %s: %w", tenant.ID, err)
	}
	// The step may add the entry again, under this id, before this call ends. So the
	// item first moves to an id of this retry. Only that item is removed at the end.
	moved := item
	moved.ID = retryID(item.ID, s.Now())
	if err = s.undiscard(ctx, tenant.ID, &item); err == nil {
		err = move(ctx, s.Store, tenant.ID, item, moved.ID)
	}
	if err != nil {
		return fmt.Errorf("retry quarantine item of %s: %w", tenant.ID, err)
	}
	err = s.send(ctx, tenant, &item)
	if err == nil {
		err = s.record(ctx, by, tenant, "quarantine.retry", &item)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
		defer cancel()
		return errors.Join(err, move(ctx, s.Store, tenant.ID, moved, item.ID))
	}
	if err := remove(ctx, s.Store, tenant.ID, moved.ID); err != nil {
		return fmt.Errorf("retry quarantine item of %s: %w", tenant.ID, err)
	}
	return nil
}

// move gives the item another id. It exists under at least one of the two at any time.
func move(ctx context.Context, store Store, tenant audit.TenantID, item Item, id string) error {
	from := item.ID
	item.ID = id
	if err := store.Put(ctx, tenant, []Item{item}); err != nil {
		return err
	}
	return remove(ctx, store, tenant, from)
}

// remove deletes an item. It returns nil if the item does not exist.
func remove(ctx context.Context, store Store, tenant audit.TenantID, id string) error {
	if err := store.Delete(ctx, tenant, id); err != nil && !errors.Is(err, audit.ErrNotFound) {
		return err
	}
	return nil
}

func (s *Service) send(ctx context.Context, tenant audit.Tenant, item *Item) error {
	queue := s.Index
	switch item.Step {
	case audit.StepPersist:
		queue = ingest.QueueOf(tenant, s.Standard, s.Priority)
	case audit.StepIndex:
	default:
		return fmt.Errorf("quarantine item %s of %s: no queue for step %q", item.ID, tenant.ID, item.Step)
	}
	messages, err := envelope.Pack(tenant.ID, []audit.Entry{item.Entry})
	if err != nil {
		return fmt.Errorf("quarantine item %s: %w", item.ID, err)
	}
	if err := queue.Send(ctx, tenant.ID, messages); err != nil {
		return &audit.UnavailableError{Err: fmt.Errorf("enqueue quarantine item %s of %s: %w", item.ID, tenant.ID, err)}
	}
	return nil
}

// Delete removes an item for ever. The deletion is recorded first, so that it leaves a trace. While a legal hold
// covers the item's entry, Delete returns a *hold.HeldError. An entry that the index refused stays stored, and out of
// the index.
func (s *Service) Delete(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) error {
	item, err := s.item(ctx, &tenant, id)
	if err == nil {
		err = s.checkHolds(ctx, tenant.ID, &item.Entry)
	}
	if err != nil {
		return fmt.Errorf("delete quarantine item of %s: %w", tenant.ID, err)
	}
	if err := s.record(ctx, by, tenant, "quarantine.delete", &item); err != nil {
		return err
	}
	if item.Step == audit.StepIndex {
		err = s.Store.Put(ctx, tenant.ID, []Item{item.discarded(tenant.ID)})
	}
	if err == nil {
		err = s.Store.Delete(ctx, tenant.ID, id)
	}
	if err != nil {
		return fmt.Errorf("delete quarantine item of %s: %w", tenant.ID, err)
	}
	return nil
}

// checkHolds returns a *hold.HeldError if a legal hold covers the entry.
func (s *Service) checkHolds(ctx context.Context, tenant audit.TenantID, e *audit.Entry) error {
	standing, err := s.Holds.Standing(ctx, tenant)
	if err != nil {
		return err
	}
	standing = slices.DeleteFunc(standing, func(h hold.Hold) bool { return !h.Covers(e) })
	if len(standing) > 0 {
		return &hold.HeldError{Holds: standing}
	}
	return nil
}

// record records the action with the entry's id, without its content.
func (s *Service) record(ctx context.Context, by access.Principal, tenant audit.Tenant, action string, item *Item) error {
	metadata, err := json.Marshal(map[string]string{"entry_id": item.Entry.ID.String(), "step": item.Step, "code": item.Code})
	if err != nil {
		return fmt.Errorf("record %s in %s: %w", action, tenant.ID, err)
	}
	return audit.Record(ctx, s.Recorder, tenant, audit.Entry{
		UserID: by.Subject, Action: action, ResourceType: "quarantine_item", ResourceID: item.ID, Metadata: metadata,
	})
}
