package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// Persister stores the entries of the ingest queues. It forwards them to the index queue, and
// their ids to the arrival queue. Or a Committer takes them the whole way at once.
type Persister struct {
	Store      Store
	Quarantine Quarantine
	Tenants    Tenants
	Index      Queue
	Arrivals   Queue // gets what envelope.PackArrivals returns
	// Committer does what Store and the consumers of Index and Arrivals do; nil: they do it. Nudge
	// then tells the live streams of tenants that their arrival logs have grown, as
	// arrival.Nudger does; nil: there are no live streams.
	Committer Committer
	Nudge     func(ctx context.Context, tenants []audit.TenantID, traces map[audit.TenantID][]trace.Trace) []error
	// DeadLetters and PriorityDeadLetters get the lines that cannot be read as an entry, by the
	// tenant's tier, as the queues do.
	DeadLetters, PriorityDeadLetters Queue
	// Days registers the days of entries, from which their way on is checked; nil: nothing does.
	Days *ActiveDays
	Now  func() time.Time
	// Clock decides which entries are not stored because they expired too long ago: nothing brings them back.
	Clock jobs.Clock
	// Dropped gets the number of entries that were not stored because they expired more than
	// maxOverdue ago; nil: nothing counts them. It is called concurrently.
	Dropped func(ctx context.Context, tenant audit.TenantID, entries int)
	// Worked gets what was done for the requests of a tenant; nil: nothing follows it. It is
	// called concurrently.
	Worked func(ctx context.Context, w trace.Work)
	// Conflicts gets the number of entries that went to the quarantine because another entry has
	// their identity; nil: nothing counts them. It is called concurrently.
	Conflicts func(ctx context.Context, tenant audit.TenantID, entries int)
	// Keys tell whether two entries of one identity have the same content, if a rule of sensitive
	// fields came between them.
	Keys ExistingKeys
	// Handoff has what a Service of the same process accepted; nil: all is read from the messages.
	Handoff *envelope.Handoff
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
// the queues of the next steps, or in quarantine with its reason. With a Committer the next
// steps are done as well. An unreadable line is a dead letter. If the tenant is deleted or being
// deleted, the entries are dropped. So are entries that expired more than maxOverdue ago. A
// message with an error must be delivered again.
func (p *Persister) Persist(ctx context.Context, bodies []string) []error {
	return p.Handoff.EachBatch(bodies, func(batch envelope.Batch, outcomes []error) {
		groups := batch.ByTenant()
		if p.Committer != nil {
			p.persistGroups(ctx, groups, outcomes)
			return
		}
		eachAtOnce(len(groups), func(i int) { p.persistGroups(ctx, groups[i:i+1], outcomes) })
	})
}

// eachAtOnce calls do with 0 to n-1, up to MaxTenantsAtOnce at the same time.
func eachAtOnce(n int, do func(i int)) {
	if n == 1 {
		do(0)
		return
	}
	var running errgroup.Group
	running.SetLimit(MaxTenantsAtOnce)
	for i := range n {
		running.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = running.Wait() // do keeps the errors
}

// persistGroups handles messages, grouped by tenant, and sets their outcomes. What fails together
// for a reason that may be one tenant's or one message's is done again with each alone.
func (p *Persister) persistGroups(ctx context.Context, groups [][]envelope.Message, outcomes []error) {
	results := p.persistTogether(ctx, groups)
	for i, messages := range groups {
		err := results[i]
		switch {
		case err == nil || ctx.Err() != nil || isOutage(err) || len(groups) == 1 && len(messages) == 1:
			for _, m := range messages {
				outcomes[m.Index] = err
			}
		case len(groups) > 1:
			p.persistGroups(ctx, groups[i:i+1], outcomes)
		default:
			for j := range messages {
				p.persistGroups(ctx, [][]envelope.Message{messages[j : j+1]}, outcomes)
			}
		}
	}
}

// isOutage reports whether each message alone would fail too.
func isOutage(err error) bool { return audit.IsUnavailable(err) && !errors.Is(err, ErrPeriodClosed) }

// load is what there is to do for the messages of one tenant.
type load struct {
	Load     // without the entries that are overdue
	messages []envelope.Message
	record   audit.Tenant
	dropped  bool // the tenant is deleted
	overdue  int
}

// persistTogether handles messages, grouped by tenant. It returns one error, or nil, for each group.
func (p *Persister) persistTogether(ctx context.Context, groups [][]envelope.Message) []error {
	loads, errs := make([]load, len(groups)), make([]error, len(groups))
	each := func(step func(l *load) error) {
		eachAtOnce(len(groups), func(i int) {
			if errs[i] == nil && !loads[i].dropped {
				errs[i] = panics.Recovered(ctx, func() error { return step(&loads[i]) })
			}
		})
	}
	for i := range groups {
		loads[i].messages, loads[i].Tenant = groups[i], groups[i][0].Contents.Tenant
	}
	start := p.Now()
	each(func(l *load) error { return p.prepare(ctx, l) })
	if p.Committer != nil {
		p.commit(ctx, loads, errs)
	} else {
		each(func(l *load) error { return p.store(ctx, l) })
	}
	each(func(l *load) error { return p.finish(ctx, l, start) })
	return errs
}

// prepare finds out what has to be stored, and registers its days.
func (p *Persister) prepare(ctx context.Context, l *load) error {
	record, err := p.Tenants.Tenant(ctx, l.Tenant)
	l.record = record
	if l.dropped, err = audit.IsDeleted(record, err); err != nil {
		return fmt.Errorf("persist %s: %w", l.Tenant, err)
	}
	if l.dropped {
		return nil
	}
	nameMessages(l.messages)
	all := envelope.Entries(l.messages)
	if l.Entries, err = p.withoutOverdue(ctx, &record, all); err != nil {
		return l.failed(err)
	}
	l.overdue = len(all) - len(l.Entries)
	if err := protect.DropErasedTokens(ctx, p.Keys, l.Tenant, l.Entries); err != nil {
		return l.failed(err)
	}
	if p.Days == nil || len(l.Entries) == 0 {
		return nil
	}
	if err := p.Days.Touch(ctx, l.Tenant, l.Entries); err != nil { // before the entries: a day without entries does no harm
		return l.failed(err)
	}
	return nil
}

// failed returns the error of a step that failed for all entries.
func (l *Load) failed(err error) error {
	return fmt.Errorf("persist %d entries of %s: %w", len(l.Entries), l.Tenant, err)
}

// finish comes last, so that messages that are delivered again during an outage neither send
// dead letters nor count each time.
func (p *Persister) finish(ctx context.Context, l *load, start time.Time) error {
	if err := p.deadLetterPoison(ctx, &l.record, l.messages); err != nil {
		return fmt.Errorf("persist %s: %w", l.Tenant, err)
	}
	if l.overdue > 0 && p.Dropped != nil {
		p.Dropped(ctx, l.Tenant, l.overdue)
	}
	if p.Worked != nil {
		p.Worked(ctx, trace.Work{Tenant: string(l.Tenant), Traces: envelope.TracesOf(l.messages), Start: start, Attrs: []slog.Attr{
			slog.Int("messages", len(l.messages)), slog.Int("entries", len(l.Entries)),
		}})
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

// withoutOverdue returns the entries without those whose end was more than maxOverdue ago. It asks Clock if that is so
// for one of them by the clock of this process, which is rare.
func (p *Persister) withoutOverdue(ctx context.Context, tenant *audit.Tenant, entries []audit.Entry) ([]audit.Entry, error) {
	overdue := func(at time.Time) func(audit.Entry) bool {
		before := at.Add(-maxOverdue)
		return func(e audit.Entry) bool {
			end := tenant.Settings.ExpiryOf(&e)
			return !end.IsZero() && end.Before(before)
		}
	}
	if !slices.ContainsFunc(entries, overdue(p.Now())) {
		return entries, nil
	}
	at, err := p.Clock.Now(ctx, p.Now)
	if err != nil {
		return nil, fmt.Errorf("ask for the time by which entries expire: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(entries), overdue(at)), nil
}

// store stores the entries and sends them to the next steps.
func (p *Persister) store(ctx context.Context, l *load) error {
	if len(l.Entries) == 0 {
		return nil
	}
	appended, err := p.Store.Append(ctx, l.Tenant, l.Entries)
	if err != nil {
		return l.failed(err)
	}
	if err := p.settleRules(ctx, &l.Load, &appended); err != nil {
		return err
	}
	if err := p.quarantine(ctx, &l.Load, audit.StepPersist, appended.Rejections); err != nil {
		return err
	}
	return p.forward(ctx, l, appended)
}

// settleRules turns conflicts into repetitions if the content is the same, and only one of the two
// entries has encrypted values: a rule came between an entry and its retry.
func (p *Persister) settleRules(ctx context.Context, l *Load, appended *Appended) error {
	kindsDiffer := func(r audit.Rejection) bool {
		return r.Code == audit.CodeIdentityConflict && r.StoredDigest.Kind != l.Entries[r.Index].Digest.Kind
	}
	if !slices.ContainsFunc(appended.Rejections, kindsDiffer) {
		return nil
	}
	keys, err := p.Keys.Existing(ctx, l.Tenant)
	if errors.Is(err, audit.ErrNotFound) || errors.Is(err, protect.ErrDestroyed) {
		return nil // what was keyed can no longer be compared
	}
	if err != nil {
		return l.failed(fmt.Errorf("compare content: %w", err))
	}
	appended.Rejections = slices.DeleteFunc(appended.Rejections, func(r audit.Rejection) bool {
		same := kindsDiffer(r) && keys.SameContent(r.StoredDigest, l.Entries[r.Index].Digest)
		if same {
			appended.Repeated = append(appended.Repeated, r.Index)
		}
		return same
	})
	slices.Sort(appended.Repeated)
	return nil
}

func (p *Persister) quarantine(ctx context.Context, l *Load, step string, reasons []audit.Rejection) error {
	if len(reasons) == 0 {
		return nil
	}
	if err := p.Quarantine.Add(ctx, l.Tenant, step, l.Entries, reasons); err != nil {
		return fmt.Errorf("quarantine %d entries of %s: %w", len(reasons), l.Tenant, err)
	}
	conflicts := 0
	for _, r := range reasons {
		if r.Code == audit.CodeIdentityConflict {
			conflicts++
		}
	}
	if conflicts > 0 && p.Conflicts != nil {
		p.Conflicts(ctx, l.Tenant, conflicts)
	}
	return nil
}

// commit takes the entries of all loads the whole way. It sets the errors of those that fail.
func (p *Persister) commit(ctx context.Context, loads []load, errs []error) {
	var batch []Load
	var at []int // in loads
	for i := range loads {
		if l := &loads[i]; errs[i] == nil && !l.dropped && len(l.Entries) > 0 {
			batch, at = append(batch, l.Load), append(at, i)
		}
	}
	if len(batch) == 0 {
		return
	}
	var results []Committed
	err := panics.Recovered(ctx, func() error {
		results = p.Committer.Commit(ctx, batch)
		return nil
	})
	if err == nil && len(results) != len(batch) {
		err = fmt.Errorf("the engine returned %d results for %d loads", len(results), len(batch))
	}
	var grown []audit.TenantID
	var grownAt []int
	traces := make(map[audit.TenantID][]trace.Trace, len(batch))
	for i := range batch {
		if errs[at[i]] = err; err != nil {
			continue
		}
		l := &batch[i]
		if errs[at[i]] = p.committed(ctx, l, &results[i]); errs[at[i]] == nil {
			grown, grownAt = append(grown, l.Tenant), append(grownAt, at[i])
			traces[l.Tenant] = envelope.TracesOf(loads[at[i]].messages)
		}
	}
	if len(grown) == 0 || p.Nudge == nil {
		return
	}
	for i, err := range p.Nudge(ctx, grown, traces) {
		errs[grownAt[i]] = err
	}
}

// committed puts what was refused into the quarantine.
func (p *Persister) committed(ctx context.Context, l *Load, result *Committed) error {
	if result.Err != nil {
		return l.failed(result.Err)
	}
	if err := p.settleRules(ctx, l, &result.Appended); err != nil {
		return err
	}
	if err := p.quarantine(ctx, l, audit.StepPersist, result.Rejections); err != nil {
		return err
	}
	return p.quarantine(ctx, l, audit.StepIndex, result.Unindexed)
}

// forward sends the stored entries to the next steps. The message that first brought a
// repeated entry forwarded it.
func (p *Persister) forward(ctx context.Context, l *load, appended Appended) error {
	fresh := appended.new(l.Entries)
	if len(fresh) == 0 {
		return nil
	}
	traces := tracesByMessage(l.messages)
	bodies, err := repack(l.messages, fresh, traces)
	if err != nil {
		return err
	}
	arrived := envelope.ArrivalsOf(fresh)
	for i := range arrived {
		arrived[i].Traces = traces[arrived[i].Message]
	}
	arrivals, err := envelope.PackArrivals(l.Tenant, arrived)
	if err != nil {
		return err
	}
	ctx = trace.WithFirst(ctx, envelope.TracesOf(l.messages))
	var sending errgroup.Group // at the same time, because each waits for its queue
	sending.Go(func() error { return send(ctx, p.Index, l.Tenant, bodies, "entries for the index") })
	sending.Go(func() error { return send(ctx, p.Arrivals, l.Tenant, arrivals, "the arrival of entries") })
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
func repack(messages []envelope.Message, fresh []audit.Entry, traces map[audit.MessageID][]trace.Trace) ([]string, error) {
	if first := &messages[0]; len(messages) == 1 && len(fresh) == len(first.Contents.Entries) && len(first.Contents.Poison) == 0 {
		return []string{first.Body}, nil
	}
	p := envelope.Packer{Tenant: messages[0].Contents.Tenant}
	for i := range fresh {
		p.Traces = traces[fresh[i].QueueMessage]
		p.Add(&fresh[i])
	}
	return p.Messages()
}

// tracesByMessage returns the traces of each message.
func tracesByMessage(messages []envelope.Message) map[audit.MessageID][]trace.Trace {
	traces := make(map[audit.MessageID][]trace.Trace, len(messages))
	for i := range messages {
		traces[messages[i].ID()] = messages[i].Contents.Traces
	}
	return traces
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
