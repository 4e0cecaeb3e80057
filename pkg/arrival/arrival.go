// Package arrival keeps and reads the arrival log of each tenant: the order in which its
// entries were stored. Orderer gives entries their places, Feed reads them. Reconciler places
// entries whose message to Orderer was lost, and Pruner removes old places.
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
	// Repair marks a segment of Reconciler.
	Repair bool
	// RepairedAt is when the last such segment up to this one was written, itself included. It
	// rises with each. It is zero if there is none.
	RepairedAt time.Time
}

// Last returns the place of the last entry.
func (s *Segment) Last() int64 { return s.First + int64(len(s.IDs)) - 1 }

// DayCount is how many entries of a segment have timestamps on a day.
type DayCount struct {
	Day   int64 // since 1970, in UTC
	Count int
}

// Days returns the days of the timestamps of the segment's entries, each once.
func (s *Segment) Days() []DayCount {
	var days []DayCount
	at := map[int64]int{}
	for i := range s.IDs {
		day := DayNumber(s.IDs[i].Time())
		n, known := at[day]
		if !known {
			n = len(days)
			at[day], days = n, append(days, DayCount{Day: day})
		}
		days[n].Count++
	}
	return days
}

// DayNumber returns the number of days from 1970 to the time's day in UTC.
func DayNumber(t time.Time) int64 { return t.Unix() / int64(oneDay/time.Second) }

const oneDay = 24 * time.Hour

// Head is the end of a log: the last place, 0 if there is none, and Segment.RepairedAt of the
// last segment.
type Head struct {
	Last       int64
	RepairedAt time.Time
}

// Log stores the arrival log of every tenant. What Head, Placed and Read return is durable
// and stays.
type Log interface {
	Appender
	// Read returns up to limit segments in their order: the one that has the place next to
	// after, and those that follow it. If that place was pruned, the first one is the oldest
	// segment. Read returns none at the end of the log.
	Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]Segment, error)
	// PlacesOn returns how many places the entries have whose timestamps lie on a day, in UTC.
	PlacesOn(ctx context.Context, tenant audit.TenantID, day time.Time) (int64, error)
	// VisitDay calls visit with the ids of each segment that has such an entry, in any order.
	// Ids of other days are among them. visit must neither keep the ids nor use a store.
	VisitDay(ctx context.Context, tenant audit.TenantID, day time.Time, visit func(ids []audit.EntryID)) error
	// Prune removes up to limit segments that were written before the time, the oldest first.
	// It keeps the last segment. It returns how many it removed.
	Prune(ctx context.Context, tenant audit.TenantID, before time.Time, limit int) (int, error)
}

// Appender is the part of Log that gives places.
type Appender interface {
	// Head returns the end of the log. It can be behind other appends.
	Head(ctx context.Context, tenant audit.TenantID) (Head, error)
	// Append adds a segment with at least one id and one message. Its First is one more than
	// the last place. Append returns audit.ErrConflict, and adds nothing, if First is taken
	// or if the log has one of the messages. After another error the segment may exist.
	Append(ctx context.Context, tenant audit.TenantID, s Segment) error
	// Placed returns those of the messages that the log has, in any order.
	Placed(ctx context.Context, tenant audit.TenantID, messages []audit.MessageID) ([]audit.MessageID, error)
	// Repaired returns those of the ids that segments of Reconciler have, in any order.
	Repaired(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.EntryID, error)
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
