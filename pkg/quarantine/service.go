package quarantine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// Service holds, lists, retries and deletes entries in quarantine. Retries and
// deletions are recorded in the tenant's log, or do not happen.
type Service struct {
	Store Store
	// Standard and Priority (ingest) and Index are where a retry sends an entry.
	Standard, Priority, Index ingest.Queue
	Recorder                  Recorder
	Now                       func() time.Time
}

// Recorder writes the service's own entries into a tenant's log.
type Recorder interface {
	Record(ctx context.Context, tenant audit.Tenant, entry audit.Entry) error
}

// maxReason bounds what is kept of a reason, in bytes: some engines write pages.
const maxReason = 1024

// restoreTimeout bounds putting an item back, which goes on when the request is canceled.
const restoreTimeout = 5 * time.Second

// Add implements ingest.Quarantine and search.Quarantine. reasons[i].Index
// points into entries; of several reasons for one entry the first is kept.
func (s *Service) Add(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry, reasons []audit.Rejection) error {
	now := s.Now().UTC().Truncate(time.Millisecond)
	items := make([]Item, 0, len(reasons))
	seen := make(map[string]bool, len(reasons))
	for _, r := range reasons {
		if r.Index < 0 || r.Index >= len(entries) {
			return fmt.Errorf("hold entries of %s: a reason for entry %d of %d", tenant, r.Index, len(entries))
		}
		e := entries[r.Index]
		id := itemID(tenant, step, &e)
		if seen[id] {
			continue
		}
		seen[id] = true
		items = append(items, Item{
			ID: id, Step: step, Code: r.Code, Reason: cut(r.Reason, maxReason), HeldAt: now, ExpiresAt: e.ExpiresAt, Entry: e,
		})
	}
	if len(items) == 0 {
		return nil
	}
	if err := s.Store.Put(ctx, tenant, items); err != nil {
		return fmt.Errorf("hold %d entries of %s: %w", len(items), tenant, err)
	}
	return nil
}

// itemID derives the id of an entry's item. The lengths keep tenant and step apart.
func itemID(tenant audit.TenantID, step string, e *audit.Entry) string {
	return hashID(fmt.Appendf(nil, "%d %s %d %s %s %x", len(tenant), tenant, len(step), step, e.ID, e.Digest))
}

// retryID derives the id that an item has while it is retried.
func retryID(id string, now time.Time) string {
	return hashID(fmt.Appendf(nil, "retry %s %d", id, now.UnixNano()))
}

func hashID(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// cut shortens text to at most limit bytes, at a character's border.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// Retry sends the item's entry through its step again and takes it out of
// quarantine once it is on the queue. Where the step still cannot take it, it
// comes back under the same id. After an error the item is still there, and the
// entry may go through its step all the same, which does no harm.
func (s *Service) Retry(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) error {
	item, err := s.Store.Item(ctx, tenant.ID, id)
	if err != nil {
		return fmt.Errorf("retry quarantine item of %s: %w", tenant.ID, err)
	}
	// The step may hold the entry again, under this id, before this call is
	// done. So the item moves to an id of this retry's own first: what is
	// removed in the end is only ever that.
	moved := item
	moved.ID = retryID(item.ID, s.Now())
	if err := s.move(ctx, tenant.ID, item, moved.ID); err != nil {
		return fmt.Errorf("retry quarantine item of %s: %w", tenant.ID, err)
	}
	err = s.send(ctx, tenant, &item)
	if err == nil {
		err = s.record(ctx, by, tenant, "quarantine.retry", &item)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
		defer cancel()
		return errors.Join(err, s.move(ctx, tenant.ID, moved, item.ID))
	}
	if err := s.remove(ctx, tenant.ID, moved.ID); err != nil {
		return fmt.Errorf("retry quarantine item of %s: %w", tenant.ID, err)
	}
	return nil
}

// move gives the item another id; at every moment it is there under one of the two.
func (s *Service) move(ctx context.Context, tenant audit.TenantID, item Item, id string) error {
	from := item.ID
	item.ID = id
	if err := s.Store.Put(ctx, tenant, []Item{item}); err != nil {
		return err
	}
	return s.remove(ctx, tenant, from)
}

// remove deletes an item that may be gone already.
func (s *Service) remove(ctx context.Context, tenant audit.TenantID, id string) error {
	if err := s.Store.Delete(ctx, tenant, id); err != nil && !errors.Is(err, audit.ErrNotFound) {
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
	if err := queue.Send(ctx, messages); err != nil {
		return &audit.UnavailableError{Err: fmt.Errorf("enqueue quarantine item %s of %s: %w", item.ID, tenant.ID, err)}
	}
	return nil
}

// Delete discards an item for good; audit.ErrConflict while the tenant is under
// legal hold. It is recorded just before, so that nothing vanishes without a trace.
func (s *Service) Delete(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) error {
	if tenant.Settings.LegalHold {
		return fmt.Errorf("delete quarantine item of %s: it is under legal hold: %w", tenant.ID, audit.ErrConflict)
	}
	item, err := s.Store.Item(ctx, tenant.ID, id)
	if err != nil {
		return fmt.Errorf("delete quarantine item of %s: %w", tenant.ID, err)
	}
	if err := s.record(ctx, by, tenant, "quarantine.delete", &item); err != nil {
		return err
	}
	if err := s.Store.Delete(ctx, tenant.ID, id); err != nil {
		return fmt.Errorf("delete quarantine item of %s: %w", tenant.ID, err)
	}
	return nil
}

// record tells what was done to which entry; of its content nothing.
func (s *Service) record(ctx context.Context, by access.Principal, tenant audit.Tenant, action string, item *Item) error {
	metadata, err := json.Marshal(map[string]string{"entry_id": item.Entry.ID.String(), "step": item.Step, "code": item.Code})
	if err == nil {
		err = s.Recorder.Record(ctx, tenant, audit.Entry{
			UserID: by.Subject, Action: action, ResourceType: "quarantine_item", ResourceID: item.ID, Metadata: metadata,
		})
	}
	var unavailable *audit.UnavailableError
	if err == nil || errors.As(err, &unavailable) {
		return err
	}
	return &audit.UnavailableError{Err: fmt.Errorf("record %s in %s: %w", action, tenant.ID, err)}
}
