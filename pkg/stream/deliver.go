package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// maxConcurrent is the number of connections that one message is delivered to at the same time.
const maxConcurrent = 32

// Deliver handles the body of one queue message: stored entries, or a request to
// resume the delivery to one connection. After nil the message may be deleted.
// After an error it must be delivered again. docs/design/stream-delivery.md
// shows the states of a delivery.
func (s *Service) Deliver(ctx context.Context, body string) error {
	var m resumeMessage
	if err := json.Unmarshal([]byte(body), &m); err == nil && m.Connection != "" {
		if m.Version != resumeVersion {
			return fmt.Errorf("deliver: resume message version %d, known is %d", m.Version, resumeVersion)
		}
		return s.ifTenantExists(ctx, m.Tenant, func(tenant audit.Tenant) error {
			return s.deliver(ctx, newWindow(s, tenant, nil), m.Connection)
		})
	}
	contents, err := envelope.Unpack(body)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	return s.ifTenantExists(ctx, contents.Tenant, func(tenant audit.Tenant) error { return s.deliverNew(ctx, tenant, contents) })
}

// ifTenantExists calls do unless the tenant is deleted or being deleted.
func (s *Service) ifTenantExists(ctx context.Context, id audit.TenantID, do func(tenant audit.Tenant) error) error {
	tenant, err := s.Tenants.Tenant(ctx, id)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return fmt.Errorf("deliver %s: %w", id, err)
	}
	if deleted {
		return nil
	}
	return do(tenant)
}

// deliverNew appends entries to their tenant's stream and delivers them.
func (s *Service) deliverNew(ctx context.Context, tenant audit.Tenant, contents envelope.Contents) error {
	ids := make([]audit.EntryID, len(contents.Entries))
	for i := range contents.Entries {
		ids[i] = contents.Entries[i].ID
	}
	if err := s.Segments.Append(ctx, contents.Tenant, ids); err != nil {
		return fmt.Errorf("append %d entries to the stream of %s: %w", len(ids), contents.Tenant, err)
	}
	if err := s.deliverAll(ctx, tenant, contents.Entries); err != nil {
		return err
	}
	if len(contents.Poison) > 0 { // the sender packs readable entries only: the message was damaged
		return fmt.Errorf("deliver %s: %d entries: %w: %s", contents.Tenant, len(contents.Poison), audit.ErrUnreadable, contents.Poison[0].Reason)
	}
	return nil
}

// deliverAll delivers to every subscriber of the tenant, each independently.
func (s *Service) deliverAll(ctx context.Context, tenant audit.Tenant, entries []audit.Entry) error {
	ids, err := s.Connections.Subscribed(ctx, tenant.ID)
	if err != nil {
		return fmt.Errorf("find the subscribers of %s: %w", tenant.ID, err)
	}
	var (
		w       = newWindow(s, tenant, entries)
		errs    = make([]error, len(ids))
		running sync.WaitGroup
		slots   = make(chan struct{}, maxConcurrent)
	)
	for i, id := range ids {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			errs[i] = s.deliver(ctx, w, id)
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// deliver sends the connection its pending entries. If another worker holds the
// connection's lease, that worker sends them.
func (s *Service) deliver(ctx context.Context, w *window, id string) error {
	d := &delivery{Service: s, window: w, holder: s.newHolder(), deadline: s.Now().Add(deliveryTime)}
	for contended := true; contended; {
		c, acquired, err := s.Connections.Acquire(ctx, id, d.holder, s.Now().Add(leaseTime))
		if errors.Is(err, audit.ErrNotFound) {
			return nil
		}
		if err == nil && !acquired {
			return s.deferToHolder(ctx, id)
		}
		if err == nil {
			d.Connection, d.savedAt = c, s.Now()
			contended, err = d.attempt(ctx)
		}
		if err != nil {
			return fmt.Errorf("deliver to a subscriber of %s: %w", w.tenant.ID, err)
		}
	}
	return nil
}

// deferToHolder leaves the delivery to the holder of the lease. The holder can
// have been killed before it scheduled a check of the connection. If no check is
// scheduled, deferToHolder sends a message that resumes after the lease.
func (s *Service) deferToHolder(ctx context.Context, id string) error {
	c, err := s.Connections.Connection(ctx, id)
	if errors.Is(err, audit.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a connection that another worker delivers to: %w", err)
	}
	if c.Subscription == nil || c.Subscription.WatchedUntil.After(s.Now()) {
		return nil
	}
	return s.resume(ctx, c, leaseTime+maxClockSkew)
}
