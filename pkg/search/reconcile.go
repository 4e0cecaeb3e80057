package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// IDLister lists entries by their ids. The system of record and the index are each one.
type IDLister interface {
	// IDs returns the ids of the tenant's entries with from ≤ timestamp < to
	// that are greater than after, in rising order; a zero bound is open. An
	// answer of fewer than limit may be of fewer than there are; an empty one
	// says that none is left.
	IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error)
}

// Queue takes messages for the indexer; see ingest.Queue.
type Queue interface {
	Send(ctx context.Context, bodies []string) error
}

// Reconciler finds entries that are stored but not in the index, and puts them
// on the index queue again.
type Reconciler struct {
	Store  IDLister
	Index  IDLister
	Reader Reader
	Queue  Queue
	// Grace is how long after an entry was received it may be on its way. It
	// should be longer than the index queue takes when it is behind: an entry
	// that waits there is sent a second time otherwise, which does no harm but
	// work.
	Grace time.Duration
	Now   func() time.Time
}

// Reconciliation is what was found for one tenant and day.
type Reconciliation struct {
	Tenant   audit.TenantID
	Day      time.Time // its beginning, UTC
	Stored   int64     // entries in the system of record
	Indexed  int64     // of them, those in the index
	Repaired int64     // of them, those that were missing and are on the queue again
	Pending  int64     // of them, those that were received within the grace
	// Extra is the entries that only the index has: such as were removed from
	// the system of record. They are left alone.
	Extra int64
	// Lag is the age of the oldest entry, by its receipt, that is not in the index; zero where none is missing.
	Lag time.Duration
}

// reconcilePage is how many ids are compared at once, 160 KB of them.
const reconcilePage = 10_000

// repairBatch is how many entries are read before they are sent.
const repairBatch = 100

// Reconcile compares one day of a tenant, UTC. After an error the entries
// counted so far may be on the queue, and the same call may be repeated.
func (r *Reconciler) Reconcile(ctx context.Context, tenant audit.TenantID, day time.Time) (Reconciliation, error) {
	day = day.UTC().Truncate(24 * time.Hour)
	c := comparison{Reconciler: r, found: Reconciliation{Tenant: tenant, Day: day}, now: r.Now()}
	stored := &idStream{lister: r.Store, tenant: tenant, from: day, to: day.Add(24 * time.Hour)}
	indexed := &idStream{lister: r.Index, tenant: tenant, from: stored.from, to: stored.to}
	err := c.merge(ctx, stored, indexed)
	if err == nil {
		err = c.repair(ctx)
	}
	if err != nil {
		return c.found, fmt.Errorf("reconcile %s %s: %w", tenant, day.Format(time.DateOnly), err)
	}
	return c.found, nil
}

// comparison is the work on one day.
type comparison struct {
	*Reconciler
	found   Reconciliation
	now     time.Time
	missing []audit.Entry // to be sent
}

// merge walks both lists at once.
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
			if err := c.lacks(ctx, s); err != nil {
				return err
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

// lacks takes note of an entry that is not in the index.
func (c *comparison) lacks(ctx context.Context, id audit.EntryID) error {
	entry, err := c.Reader.Entry(ctx, c.found.Tenant, id)
	if errors.Is(err, audit.ErrNotFound) {
		return nil // removed since it was listed
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", id, err)
	}
	c.found.Stored++
	age := c.now.Sub(entry.ReceivedAt)
	c.found.Lag = max(c.found.Lag, age)
	if age < c.Grace {
		c.found.Pending++
		return nil
	}
	if c.missing = append(c.missing, entry); len(c.missing) < repairBatch {
		return nil
	}
	return c.repair(ctx)
}

// repair sends what is missing.
func (c *comparison) repair(ctx context.Context) error {
	if len(c.missing) == 0 {
		return nil
	}
	bodies, err := envelope.Pack(c.found.Tenant, c.missing)
	if err != nil {
		return err
	}
	if err := c.Queue.Send(ctx, bodies); err != nil {
		return fmt.Errorf("send %d missing entries to the index queue: %w", len(c.missing), err)
	}
	c.found.Repaired += int64(len(c.missing))
	c.missing = c.missing[:0]
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
		if s.page, err = s.lister.IDs(ctx, s.tenant, s.from, s.to, s.after, reconcilePage); err != nil {
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
