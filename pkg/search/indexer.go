package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// Quarantine keeps entries that the index must refuse; see ingest.Quarantine.
type Quarantine interface {
	Add(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry, reasons []audit.Rejection) error
}

// Tenants finds tenants. It returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Indexer makes the entries of the index queue findable.
type Indexer struct {
	Index      IndexWriter
	Quarantine Quarantine
	Tenants    Tenants
	// Keys tell whose values were erased while a message was under way.
	Keys protect.Destruction
	// Clock decides when the time of a restored entry is over: nothing puts it back.
	Clock jobs.Clock
	Now   func() time.Time
	// Searchable gets, for each message that is indexed, how long ago the service received the
	// first of its entries; nil: nothing measures it.
	Searchable func(ctx context.Context, delays []time.Duration)
	// Worked gets what was done for the requests of a tenant; nil: nothing follows it.
	Worked func(ctx context.Context, w trace.Work)
}

// maxFirstDelay is the age at which a message cannot be the first one with its entries: no queue
// keeps one for longer. Reconciliation sends such messages, for example after an index was lost.
const maxFirstDelay = 14 * 24 * time.Hour

// maxIndexedAfterEnd is how long an entry that leaves the stores may still be indexed. Retention removes it
// from the index some days later, and it must not come back then.
const maxIndexedAfterEnd = 2 * oneDay

// leavesIndex returns what reports of some entries whether retention may have removed them from the index. now is the
// time of this process. The shared clock is asked if one of them was restored: retention goes by it, too.
func leavesIndex(ctx context.Context, clock jobs.Clock, now time.Time, s *audit.Settings, entries []audit.Entry) (func(*audit.Entry) bool, error) {
	shared := now
	if slices.ContainsFunc(entries, func(e audit.Entry) bool { return !e.RestoredUntil.IsZero() }) {
		var err error
		if shared, err = clock.Now(ctx, func() time.Time { return now }); err != nil {
			return nil, fmt.Errorf("ask for the time by which restored entries end: %w", err)
		}
	}
	return func(e *audit.Entry) bool {
		return e.RestoreEnded(shared) || s.LeavesStores(e, now.Add(-maxIndexedAfterEnd))
	}, nil
}

// IndexMessages handles the messages of a batch and returns one error, or nil, for each.
// It writes the entries of all messages together.
//
// A message without an error may be deleted. A message with an error must be delivered
// again. An unreadable line fails the whole message as audit.ErrUnreadable: the step
// before forwards none, so the message was damaged.
func (x *Indexer) IndexMessages(ctx context.Context, bodies []string) []error {
	return envelope.EachBatch(bodies, func(batch envelope.Batch, outcomes []error) {
		start := x.Now()
		all := batch.ByTenant()
		records, deleted, failed := x.prepare(ctx, all)
		var groups [][]envelope.Message
		var puts []Batch
		for i, messages := range all {
			tenant := messages[0].Contents.Tenant
			switch {
			case failed[i] != nil:
				setOutcomes(outcomes, messages, fmt.Errorf("index %s: %w", tenant, failed[i]))
			case deleted[i]:
				for _, m := range messages {
					outcomes[m.Index] = nil // dropped
				}
			default:
				if err := x.dropExpired(ctx, &records[i], messages); err != nil {
					setOutcomes(outcomes, messages, fmt.Errorf("index %s: %w", tenant, err))
					continue
				}
				groups, puts = append(groups, messages), append(puts, Batch{Tenant: tenant, Entries: envelope.Entries(messages)})
			}
		}
		if len(puts) == 0 {
			return
		}
		for i, err := range x.put(ctx, puts) {
			if len(groups[i]) > 1 && mayBeOneMessage(ctx, err) {
				x.putEach(ctx, groups[i], outcomes)
			} else {
				setOutcomes(outcomes, groups[i], err)
			}
		}
		x.measure(ctx, groups, outcomes)
		x.follow(ctx, groups, outcomes, start)
	})
}

// follow reports what was indexed for each tenant.
func (x *Indexer) follow(ctx context.Context, groups [][]envelope.Message, outcomes []error, start time.Time) {
	if x.Worked == nil {
		return
	}
	for _, messages := range groups {
		tenant, entries := messages[0].Contents.Tenant, 0
		indexed := slices.DeleteFunc(slices.Clone(messages), func(m envelope.Message) bool { return outcomes[m.Index] != nil })
		for _, m := range indexed {
			entries += len(m.Contents.Entries)
		}
		if len(indexed) > 0 {
			x.Worked(ctx, trace.Work{Tenant: string(tenant), Traces: envelope.TracesOf(indexed), Start: start, Attrs: []slog.Attr{
				slog.Int("messages", len(indexed)), slog.Int("entries", entries),
			}})
		}
	}
}

// measure reports the delays of the messages that are indexed.
func (x *Indexer) measure(ctx context.Context, groups [][]envelope.Message, outcomes []error) {
	if x.Searchable == nil {
		return
	}
	now := x.Now()
	var delays []time.Duration
	for _, messages := range groups {
		for _, m := range messages {
			if outcomes[m.Index] != nil || len(m.Contents.Entries) == 0 {
				continue
			}
			first := m.Contents.Entries[0].ReceivedAt
			for i := range m.Contents.Entries {
				if at := m.Contents.Entries[i].ReceivedAt; at.Before(first) {
					first = at
				}
			}
			if delay := now.Sub(first); delay < maxFirstDelay {
				delays = append(delays, max(0, delay)) // clocks differ
			}
		}
	}
	if len(delays) > 0 {
		x.Searchable(ctx, delays)
	}
}

// mayBeOneMessage reports whether the messages of a tenant may have failed because of one of
// them.
func mayBeOneMessage(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && !audit.IsUnavailable(err)
}

// putEach writes each message of a tenant alone, so that only the one at fault fails.
func (x *Indexer) putEach(ctx context.Context, messages []envelope.Message, outcomes []error) {
	for _, m := range messages {
		put := Batch{Tenant: m.Contents.Tenant, Entries: m.Contents.Entries}
		setOutcomes(outcomes, []envelope.Message{m}, x.put(ctx, []Batch{put})[0])
	}
}

// put writes batches with one call and returns one error, or nil, for each.
func (x *Indexer) put(ctx context.Context, batches []Batch) []error {
	results, errs := x.Index.Put(ctx, batches), make([]error, len(batches))
	for i := range batches {
		errs[i] = errors.New("the index returned no result")
		if i < len(results) {
			errs[i] = x.finish(ctx, batches[i], results[i])
		}
	}
	return errs
}

// dropExpired removes the entries that have left the index from messages of the tenant.
func (x *Indexer) dropExpired(ctx context.Context, tenant *audit.Tenant, messages []envelope.Message) error {
	leaves, err := leavesIndex(ctx, x.Clock, x.Now(), &tenant.Settings, envelope.Entries(messages))
	if err != nil {
		return err
	}
	for i := range messages {
		c := &messages[i].Contents
		c.Entries = slices.DeleteFunc(c.Entries, func(e audit.Entry) bool { return leaves(&e) })
	}
	return nil
}

// prepare returns the groups' tenants and whether they are deleted, and removes the tokens of erased
// values. It does so for all groups at the same time, because each can wait for an unavailable store.
func (x *Indexer) prepare(ctx context.Context, groups [][]envelope.Message) (records []audit.Tenant, deleted []bool, failed []error) {
	records, deleted, failed = make([]audit.Tenant, len(groups)), make([]bool, len(groups)), make([]error, len(groups))
	var running sync.WaitGroup
	for i, messages := range groups {
		running.Go(func() {
			failed[i] = panics.Recovered(ctx, func() (err error) {
				tenant := messages[0].Contents.Tenant
				records[i], err = x.Tenants.Tenant(ctx, tenant)
				if deleted[i], err = audit.IsDeleted(records[i], err); err != nil || deleted[i] {
					return err
				}
				return protect.DropErasedTokens(ctx, x.Keys, tenant, envelope.Entries(messages)) // they share their elements
			})
		})
	}
	running.Wait()
	return records, deleted, failed
}

// finish sends the rejected entries of a batch to the quarantine.
func (x *Indexer) finish(ctx context.Context, put Batch, result PutResult) error {
	if result.Err != nil {
		return fmt.Errorf("index %d entries of %s: %w", len(put.Entries), put.Tenant, result.Err)
	}
	if len(result.Rejections) == 0 {
		return nil
	}
	if err := x.Quarantine.Add(ctx, put.Tenant, audit.StepIndex, put.Entries, result.Rejections); err != nil {
		return fmt.Errorf("quarantine %d entries of %s: %w", len(result.Rejections), put.Tenant, err)
	}
	return nil
}

// setOutcomes sets the outcome of messages of one tenant. A damaged message fails even if
// the others do not.
func setOutcomes(outcomes []error, messages []envelope.Message, err error) {
	for _, m := range messages {
		outcomes[m.Index] = err
		if poison := m.Contents.Poison; err == nil && len(poison) > 0 {
			outcomes[m.Index] = fmt.Errorf("index %s: %d entries: %w: %s", m.Contents.Tenant, len(poison), audit.ErrUnreadable, poison[0].Reason)
		}
	}
}
