package search

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// IDLister lists the ids of entries. The system of record and the index both implement it.
type IDLister interface {
	// IDs returns the ids of the tenant's entries with from ≤ timestamp < to
	// that are greater than after, in rising order. A zero bound is open. It may
	// return fewer than limit although more follow, and returns at most MaxIDs. An empty
	// result means that none is left.
	IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error)
	// Count returns the number of these entries.
	Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error)
}

// EntryReader reads entries from the system of record. EntriesByID returns those of the ids
// that the tenant has, in any order.
type EntryReader interface {
	EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error)
}

// Queue takes messages for the indexer; see ingest.Queue.
type Queue interface {
	Send(ctx context.Context, tenant audit.TenantID, bodies []string) error
}

// Reconciler finds entries that are stored but not indexed, and sends them to the index
// queue again.
type Reconciler struct {
	Store  IDLister
	Index  IDLister
	Reader EntryReader
	Queue  Queue
	// Grace is how long after its receipt an entry may be missing in the index. It
	// should be longer than the longest backlog of the index queue. Otherwise entries
	// that wait in the queue are sent twice, which costs work and does no harm.
	Grace time.Duration
	Now   func() time.Time
}

// Reconciliation is the result for one tenant and day.
type Reconciliation struct {
	Tenant   audit.TenantID
	Day      time.Time // its beginning, UTC
	Stored   int64     // entries in the system of record
	Indexed  int64     // of them, those in the index
	Repaired int64     // of them, those that were missing and are on the queue again
	Pending  int64     // of them, those that were received within the grace
	Expired  int64     // of them, those that are missing because they are about to be removed
	// Extra counts the entries that only the index has, because they were removed from
	// the system of record. Nothing is done about them.
	Extra int64
	// Lag is the time since the oldest missing entry was received; zero if none is missing.
	Lag time.Duration
}

// MaxIDs is how many ids one call of IDs returns at most, and how many are compared at once.
// They have 160 KB. It is OpenSearch's max_result_window.
const MaxIDs = 10_000

// repairBatch is how many missing entries are read and sent together.
const repairBatch = 100

// Reconcile compares one day of a tenant, in UTC. After an error, entries that were
// counted may be in the queue. The call can be repeated.
func (r *Reconciler) Reconcile(ctx context.Context, tenant *audit.Tenant, day time.Time) (Reconciliation, error) {
	day = day.UTC().Truncate(24 * time.Hour)
	c := comparison{Store: r.Store, Index: r.Index, Reader: r.Reader, found: Reconciliation{Tenant: tenant.ID, Day: day}}
	now := r.Now()
	c.use = func(ctx context.Context, entries []audit.Entry) error {
		return r.repair(ctx, &tenant.Settings, &c.found, entries, now)
	}
	if err := c.all(ctx, day, day.Add(oneDay)); err != nil {
		return c.found, fmt.Errorf("reconcile %s %s: %w", tenant.ID, day.Format(time.DateOnly), err)
	}
	return c.found, nil
}

// comparison compares what a tenant has in the system of record and in the index.
type comparison struct {
	Store   IDLister
	Index   IDLister
	Reader  EntryReader
	found   Reconciliation
	missing []audit.EntryID // that the index lacks, not yet read
	// use gets the entries that the index lacks.
	use func(ctx context.Context, entries []audit.Entry) error
}

// all compares a range of timestamps.
func (c *comparison) all(ctx context.Context, from, to time.Time) error {
	if err := c.compare(ctx, from, to); err != nil {
		return err
	}
	return c.read(ctx)
}

// compare compares a range by its counts, and by its ids only if the counts differ. The
// index holds only what is stored, so equal counts mean equal entries. It is counted
// first, so that an entry that is stored meanwhile makes the counts differ. A range with
// many entries is then compared day by day, and a day hour by hour.
func (c *comparison) compare(ctx context.Context, from, to time.Time) error {
	tenant := c.found.Tenant
	indexed, err := c.Index.Count(ctx, tenant, from, to)
	if err != nil {
		return fmt.Errorf("count the index: %w", err)
	}
	stored, err := c.Store.Count(ctx, tenant, from, to)
	switch {
	case err != nil:
		return fmt.Errorf("count the store: %w", err)
	case stored == indexed:
		c.found.Stored += stored
		c.found.Indexed += indexed
		return nil
	case stored <= MaxIDs || to.Sub(from) <= time.Hour:
		return c.merge(ctx, &idStream{lister: c.Store, tenant: tenant, from: from, to: to}, &idStream{lister: c.Index, tenant: tenant, from: from, to: to})
	}
	step := time.Hour
	if to.Sub(from) > oneDay {
		step = oneDay
	}
	for ; from.Before(to); from = from.Add(step) {
		end := from.Add(step)
		if end.After(to) {
			end = to
		}
		if err := c.compare(ctx, from, end); err != nil {
			return err
		}
	}
	return nil
}

// merge reads both lists in parallel.
func (c *comparison) merge(ctx context.Context, stored, indexed *idStream) error {
	for {
		s, moreStored, err := stored.peek(ctx)
		if err != nil {
			return fmt.Errorf("list the store: %w", err)
		}
		x, moreIndexed, err := indexed.peek(ctx)
		if err != nil {
			return fmt.Errorf("list the index: %w", err)
		}
		order := bytes.Compare(s[:], x[:])
		switch {
		case !moreStored && !moreIndexed:
			return nil
		case !moreStored, moreIndexed && order > 0:
			c.found.Extra++
			indexed.skip()
		case !moreIndexed, order < 0:
			if c.missing = append(c.missing, s); len(c.missing) == repairBatch {
				if err := c.read(ctx); err != nil {
					return err
				}
			}
			stored.skip()
		default:
			c.found.Stored++
			c.found.Indexed++
			stored.skip()
			indexed.skip()
		}
	}
}

// read reads the missing entries, and has them used.
func (c *comparison) read(ctx context.Context) error {
	if len(c.missing) == 0 {
		return nil
	}
	entries, err := c.Reader.EntriesByID(ctx, c.found.Tenant, c.missing)
	if err != nil {
		return fmt.Errorf("read %d missing entries: %w", len(c.missing), err)
	}
	c.missing = c.missing[:0]
	c.found.Stored += int64(len(entries)) // the others were removed since they were listed
	return c.use(ctx, entries)
}

// repair sends those of the missing entries that the index should have by now.
func (r *Reconciler) repair(ctx context.Context, settings *audit.Settings, found *Reconciliation, entries []audit.Entry, now time.Time) error {
	overdue := entries[:0]
	for _, entry := range entries {
		if leavesIndex(settings, &entry, now) {
			found.Expired++
			continue
		}
		age := now.Sub(entry.ReceivedAt)
		found.Lag = max(found.Lag, age)
		if age < r.Grace {
			found.Pending++
		} else {
			overdue = append(overdue, entry)
		}
	}
	if len(overdue) == 0 {
		return nil
	}
	bodies, err := envelope.Pack(found.Tenant, overdue)
	if err != nil {
		return err
	}
	if err := r.Queue.Send(ctx, found.Tenant, bodies); err != nil {
		return fmt.Errorf("send %d missing entries to the index queue: %w", len(overdue), err)
	}
	found.Repaired += int64(len(overdue))
	return nil
}

// idStream reads a list page by page.
type idStream struct {
	lister   IDLister
	tenant   audit.TenantID
	from, to time.Time

	page  []audit.EntryID
	after audit.EntryID
	ended bool
}

// peek returns the next id; more is false at the end.
func (s *idStream) peek(ctx context.Context) (id audit.EntryID, more bool, err error) {
	if len(s.page) == 0 && !s.ended {
		if s.page, err = s.lister.IDs(ctx, s.tenant, s.from, s.to, s.after, MaxIDs); err != nil {
			return id, false, err
		}
		s.ended = len(s.page) == 0
	}
	if s.ended {
		return id, false, nil
	}
	return s.page[0], true, nil
}

func (s *idStream) skip() {
	s.after = s.page[0]
	s.page = s.page[1:]
}
