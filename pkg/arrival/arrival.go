// Package arrival keeps and reads the arrival log of each tenant: the order in which its
// entries were stored. Orderer gives entries their places, Feed reads them.
//
// A place is a number. A tenant's places begin at 1 and have no gap. A reader needs the number
// of the last place that it has read, and no clock: an entry with an old timestamp arrives at
// the end like any other.
package arrival

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Segment is a part of a tenant's arrival log that was appended at once.
type Segment struct {
	First     int64 // the place of the first entry
	IDs       []audit.EntryID
	Messages  []audit.MessageID // the ingest messages that brought the entries; Read leaves them out
	WrittenAt time.Time         // to the millisecond
}

// Last returns the place of the last entry.
func (s *Segment) Last() int64 { return s.First + int64(len(s.IDs)) - 1 }

// Log stores the arrival log of every tenant. What Head, Placed and Read return is durable
// and stays.
type Log interface {
	// Head returns the last place, 0 if there is none. It can be behind other appends.
	Head(ctx context.Context, tenant audit.TenantID) (int64, error)
	// Append adds a segment with at least one id and one message. Its First is one more than
	// the result of Head. Append returns audit.ErrConflict, and adds nothing, if First is taken
	// or if the log has one of the messages. After another error the segment may exist.
	Append(ctx context.Context, tenant audit.TenantID, s Segment) error
	// Placed returns those of the messages that the log has, in any order.
	Placed(ctx context.Context, tenant audit.TenantID, messages []audit.MessageID) ([]audit.MessageID, error)
	// Read returns up to limit segments in their order: the one that has the place next to
	// after, and those that follow it. If that place was pruned, the first one is the oldest
	// segment. Read returns none at the end of the log.
	Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]Segment, error)
	// Prune removes up to limit segments that were written before the time, the oldest first.
	// It keeps the last segment. It returns how many it removed.
	Prune(ctx context.Context, tenant audit.TenantID, before time.Time, limit int) (int, error)
}

// Reader reads entries from the system of record.
type Reader interface {
	// EntriesByID returns the entries with these ids that the tenant has, in any order.
	EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error)
}

// Tenants finds tenants. Tenant returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}
