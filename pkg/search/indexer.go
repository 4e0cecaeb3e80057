package search

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// Quarantine stores entries that the index rejected; see ingest.Quarantine.
type Quarantine interface {
	Add(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry, reasons []audit.Rejection) error
}

// Tenants finds tenants. Tenant returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Indexer writes the entries of the index queue to the index.
type Indexer struct {
	Index      IndexWriter
	Quarantine Quarantine
	Tenants    Tenants
}

// IndexMessage handles one queue message body. After nil the message may be
// deleted. After an error it must be delivered again. An unreadable line fails
// the whole message: the previous step forwards readable entries only, so the
// message was damaged and belongs in the dead-letter queue.
func (x *Indexer) IndexMessage(ctx context.Context, body string) error {
	contents, err := envelope.Unpack(body)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	gone, err := audit.Gone(x.Tenants.Tenant(ctx, contents.Tenant))
	if err != nil {
		return fmt.Errorf("index %s: %w", contents.Tenant, err)
	}
	if gone {
		return nil
	}
	rejections, err := x.Index.Put(ctx, contents.Tenant, contents.Entries)
	if err != nil {
		return fmt.Errorf("index %d entries of %s: %w", len(contents.Entries), contents.Tenant, err)
	}
	if len(rejections) > 0 {
		if err := x.Quarantine.Add(ctx, contents.Tenant, audit.StepIndex, contents.Entries, rejections); err != nil {
			return fmt.Errorf("quarantine %d entries of %s: %w", len(rejections), contents.Tenant, err)
		}
	}
	if len(contents.Poison) > 0 {
		return fmt.Errorf("index %s: %d entries: %w: %s", contents.Tenant, len(contents.Poison), audit.ErrUnreadable, contents.Poison[0].Reason)
	}
	return nil
}
