package ingest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// Persister stores the entries of the ingest queues. It forwards them to the index queue, and
// their ids to the arrival queue.
type Persister struct {
	Store      Store
	Quarantine Quarantine
	Tenants    Tenants
	Index      Queue
	Arrivals   Queue // gets what envelope.PackArrivals returns
	// DeadLetters and PriorityDeadLetters get the lines that cannot be read as an entry, by the
	// tenant's tier, as the queues do.
	DeadLetters, PriorityDeadLetters Queue
	// Days registers the days of entries, from which their way on is checked; nil: nothing does.
	Days *ActiveDays
	Now  func() time.Time
	// Dropped gets the number of entries that were not stored because they expired more than
	// maxOverdue ago; nil: nothing counts them. It is called concurrently.
	Dropped func(ctx context.Context, tenant audit.TenantID, entries int)
}

// maxOverdue is how long after its end an accepted entry is still stored. The end is that of
// the tenant's settings at the time of storing. The time covers clocks that differ, and
// settings that are lengthened again.
const maxOverdue = 7 * 24 * time.Hour

// MaxTenantsAtOnce bounds the tenants of a batch whose entries are stored at the same time.
const MaxTenantsAtOnce = 10

// Persist handles the messages of a batch and returns one error, or nil, for each. It
// stores the entries of all messages of a tenant together, in one write.
//
// A message without an error may be deleted. Each of its entries is then stored and on
// the queues of the next steps, or in quarantine with its reason. An unreadable line is
// a dead letter. If the tenant is deleted or being deleted, the entries are dropped. So
// are entries that expired more than maxOverdue ago. A message with an error must be
// delivered again.
func (p *Persister) Persist(ctx context.Context, bodies []string) []error {
	return envelope.EachBatch(bodies, func(batch envelope.Batch, outcomes []error) {
		var running errgroup.Group
		running.SetLimit(MaxTenantsAtOnce)
		for _, messages := range batch.ByTenant() {
			running.Go(func() error {
				for i, err := range p.persistTenant(ctx, messages) {
					outcomes[messages[i].Index] = err
				}
				return nil
			})
		}
		_ = running.Wait() // the errors are in outcomes
	})
}

// persistTenant handles messages of one tenant. If together they fail for a reason that
// may be one message's fault, it handles each message alone.
func (p *Persister) persistTenant(ctx context.Context, messages []envelope.Message) []error {
	outcomes := make([]error, len(messages))
	err := panics.Recovered(ctx, func() error { return p.persistTogether(ctx, messages) })
	if err == nil {
		return outcomes
	}
	if len(messages) == 1 || ctx.Err() != nil || audit.IsUnavailable(err) {
		for i := range outcomes {
			outcomes[i] = err
		}
		return outcomes
	}
	for i := range messages {
		outcomes[i] = panics.Recovered(ctx, func() error { return p.persistTogether(ctx, messages[i:i+1]) })
	}
	return outcomes
}

func (p *Persister) persistTogether(ctx context.Context, messages []envelope.Message) error {
	tenant := messages[0].Contents.Tenant
	record, err := p.Tenants.Tenant(ctx, tenant)
	deleted, err := audit.IsDeleted(record, err)
	if err != nil {
		return fmt.Errorf("persist %s: %w", tenant, err)
	}
	if deleted {
		return nil
	}
	nameMessages(messages)
	all := envelope.Entries(messages)
	entries := p.withoutOverdue(&record, all)
	if err := p.store(ctx, messages, entries); err != nil {
		return err
	}
	// Last, so that messages that are delivered again during an outage neither send dead
	// letters nor count each time.
	if err := p.deadLetterPoison(ctx, &record, messages); err != nil {
		return fmt.Errorf("persist %s: %w", tenant, err)
	}
	if dropped := len(all) - len(entries); dropped > 0 && p.Dropped != nil {
		p.Dropped(ctx, tenant, dropped)
	}
	return nil
}

// nameMessages sets the ingest message of each entry.
func nameMessages(messages []envelope.Message) {
	for i := range messages {
		id, entries := messages[i].ID(), messages[i].Contents.Entries
		for j := range entries {
			entries[j].QueueMessage = id
		}
	}
}

// withoutOverdue returns the entries without those whose end was more than maxOverdue ago. A
// legal hold keeps all of them.
func (p *Persister) withoutOverdue(tenant *audit.Tenant, entries []audit.Entry) []audit.Entry {
	before := p.Now().Add(-maxOverdue)
	overdue := func(e *audit.Entry) bool {
		end := tenant.Settings.ExpiryOf(e)
		return !tenant.Settings.LegalHold && !end.IsZero() && end.Before(before)
	}
	for i := range entries {
		if overdue(&entries[i]) { // rare: only then are entries copied
			return slices.DeleteFunc(slices.Clone(entries), func(e audit.Entry) bool { return overdue(&e) })
		}
	}
	return entries
}

// store stores the entries of the messages and sends them to the next steps.
func (p *Persister) store(ctx context.Context, messages []envelope.Message, entries []audit.Entry) error {
	tenant := messages[0].Contents.Tenant
	if len(entries) == 0 {
		return nil
	}
	if p.Days != nil { // before the entries: a day without entries does no harm
		if err := p.Days.touch(ctx, tenant, entries); err != nil {
			return fmt.Errorf("persist %d entries of %s: %w", len(entries), tenant, err)
		}
	}
	appended, err := p.Store.Append(ctx, tenant, entries)
	if err != nil {
		return fmt.Errorf("persist %d entries of %s: %w", len(entries), tenant, err)
	}
	if len(appended.Rejections) > 0 {
		if err := p.Quarantine.Add(ctx, tenant, audit.StepPersist, entries, appended.Rejections); err != nil {
			return fmt.Errorf("quarantine %d entries of %s: %w", len(appended.Rejections), tenant, err)
		}
	}
	return p.forward(ctx, messages, entries, appended)
}

// forward sends the stored entries to the next steps. The message that first brought a
// repeated entry forwarded it.
func (p *Persister) forward(ctx context.Context, messages []envelope.Message, entries []audit.Entry, appended Appended) error {
	tenant := messages[0].Contents.Tenant
	fresh := appended.new(entries)
	if len(fresh) == 0 {
		return nil
	}
	bodies, err := repack(messages, fresh)
	if err != nil {
		return err
	}
	arrivals, err := envelope.PackArrivals(tenant, arrivalsOf(fresh))
	if err != nil {
		return err
	}
	var sending errgroup.Group // at the same time, because each waits for its queue
	sending.Go(func() error { return send(ctx, p.Index, tenant, bodies, "entries for the index") })
	sending.Go(func() error { return send(ctx, p.Arrivals, tenant, arrivals, "the arrival of entries") })
	return sending.Wait()
}

// send sends bodies to a queue.
func send(ctx context.Context, to Queue, tenant audit.TenantID, bodies []string, what string) error {
	err := panics.Recovered(ctx, func() error { return to.Send(ctx, tenant, bodies) })
	if err != nil {
		return fmt.Errorf("enqueue %s of %s: %w", what, tenant, err)
	}
	return nil
}

// repack returns the messages for the next steps. If there is one message and all of its
// entries are new, that is the message itself. Otherwise it packs the new entries of all
// messages again.
func repack(messages []envelope.Message, fresh []audit.Entry) ([]string, error) {
	if first := &messages[0]; len(messages) == 1 && len(fresh) == len(first.Contents.Entries) && len(first.Contents.Poison) == 0 {
		return []string{first.Body}, nil
	}
	return envelope.Pack(messages[0].Contents.Tenant, fresh)
}

// arrivalsOf returns the ids that each ingest message brought, each id once.
func arrivalsOf(entries []audit.Entry) []envelope.Arrival {
	var arrivals []envelope.Arrival
	seen := make(map[audit.EntryID]bool, len(entries))
	for i := range entries {
		e := &entries[i]
		if seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		if last := len(arrivals) - 1; last < 0 || arrivals[last].Message != e.QueueMessage {
			arrivals = append(arrivals, envelope.Arrival{Message: e.QueueMessage, Received: e.ReceivedAt})
		}
		last := &arrivals[len(arrivals)-1]
		last.IDs = append(last.IDs, e.ID)
		if e.ReceivedAt.Before(last.Received) {
			last.Received = e.ReceivedAt
		}
	}
	return arrivals
}

// new returns the entries that were neither rejected nor repeated.
func (a Appended) new(entries []audit.Entry) []audit.Entry {
	if len(a.Rejections) == 0 && len(a.Repeated) == 0 {
		return entries
	}
	skip := make(map[int]bool, len(a.Rejections)+len(a.Repeated))
	for _, r := range a.Rejections {
		skip[r.Index] = true
	}
	for _, i := range a.Repeated {
		skip[i] = true
	}
	fresh := make([]audit.Entry, 0, len(entries)-len(skip))
	for i := range entries {
		if !skip[i] {
			fresh = append(fresh, entries[i])
		}
	}
	return fresh
}

// deadLetterPoison sends each unreadable line of the messages to the dead-letter queue,
// as a message of its own with the reason.
func (p *Persister) deadLetterPoison(ctx context.Context, tenant *audit.Tenant, messages []envelope.Message) error {
	var bodies []string
	for _, m := range messages {
		for _, poison := range m.Contents.Poison {
			body, err := envelope.PackPoison(m.Contents.Tenant, poison)
			if err != nil {
				return err
			}
			bodies = append(bodies, body)
		}
	}
	if len(bodies) == 0 {
		return nil
	}
	if err := QueueOf(*tenant, p.DeadLetters, p.PriorityDeadLetters).Send(ctx, tenant.ID, bodies); err != nil {
		return fmt.Errorf("dead-letter %d unreadable entries: %w", len(bodies), err)
	}
	return nil
}
