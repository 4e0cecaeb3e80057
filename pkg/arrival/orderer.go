package arrival

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

const (
	// maxSegment is the most ids of a segment, unless one message has more. A feed reads
	// whole segments; this one has 64 KiB.
	maxSegment = 4096
	// MaxTenantsAtOnce bounds the tenants whose logs grow at the same time.
	MaxTenantsAtOnce = 10
	// maxAttempts bounds the attempts of orderers that append to one log at the same time. In
	// each round one of them succeeds.
	maxAttempts = 60
)

// appendDelays are the delays after an append that lost to another one.
var appendDelays = backoff.Policy{First: 2 * time.Millisecond, Max: 100 * time.Millisecond, Jitter: backoff.FullJitter}

// errLost says that others appended to the log all the time.
var errLost = &audit.UnavailableError{RetryAfter: time.Second, Err: fmt.Errorf("lost to other appends %d times", maxAttempts)}

// Orderer gives the entries of the arrival queue their places. Several may work on one tenant
// at the same time. It is safe for concurrent use.
type Orderer struct {
	Log     Log
	Tenants Tenants
	Nudger  *Nudger // nil: there are no live streams
	Now     func() time.Time
	// Worked gets what was done for the requests of a tenant; nil: nothing follows it. It is
	// called concurrently.
	Worked func(ctx context.Context, w trace.Work)
}

// Order handles the messages of a batch and returns one error, or nil, for each. A message
// without an error may be deleted: all of its entries have their places, or its tenant is
// deleted. A message with an error must be delivered again. Handling a message again adds
// nothing.
func (o *Orderer) Order(ctx context.Context, bodies []string) []error {
	outcomes := make([]error, len(bodies))
	indexes := map[audit.TenantID][]int{}
	arrivals := map[audit.TenantID][]envelope.Arrival{}
	for i, body := range bodies {
		tenant, unpacked, err := envelope.UnpackArrivals(body)
		if err != nil {
			outcomes[i] = fmt.Errorf("order: %w", err)
			continue
		}
		indexes[tenant] = append(indexes[tenant], i)
		arrivals[tenant] = append(arrivals[tenant], unpacked...)
	}
	var running errgroup.Group
	running.SetLimit(MaxTenantsAtOnce)
	for tenant, at := range indexes {
		running.Go(func() error {
			err := panics.Recovered(ctx, func() error { return o.order(ctx, tenant, arrivals[tenant]) })
			for _, i := range at {
				outcomes[i] = err
			}
			return nil
		})
	}
	_ = running.Wait() // the errors are in outcomes
	o.nudge(ctx, indexes, arrivals, outcomes)
	return outcomes
}

// tracesOf returns the traces of the arrivals, each once.
func tracesOf(arrivals []envelope.Arrival) []trace.Trace {
	lists := make([][]trace.Trace, len(arrivals))
	for i := range arrivals {
		lists[i] = arrivals[i].Traces
	}
	return trace.Merge(lists...)
}

// nudge tells the live streams about the logs of the tenants whose messages succeeded. If that
// fails for a tenant, its messages have failed too.
func (o *Orderer) nudge(ctx context.Context, indexes map[audit.TenantID][]int, arrivals map[audit.TenantID][]envelope.Arrival, outcomes []error) {
	if o.Nudger == nil {
		return
	}
	var grown []audit.TenantID
	traces := make(map[audit.TenantID][]trace.Trace, len(indexes))
	for tenant, at := range indexes {
		if outcomes[at[0]] == nil {
			grown = append(grown, tenant)
			traces[tenant] = tracesOf(arrivals[tenant])
		}
	}
	if len(grown) == 0 {
		return
	}
	for i, err := range o.Nudger.Nudge(ctx, grown, traces) {
		for _, at := range indexes[grown[i]] {
			outcomes[at] = err
		}
	}
}

// order appends the arrivals of a tenant.
func (o *Orderer) order(ctx context.Context, id audit.TenantID, arrivals []envelope.Arrival) error {
	start := o.Now()
	tenant, err := o.Tenants.Tenant(ctx, id)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return fmt.Errorf("order entries of %s: %w", id, err)
	}
	if deleted {
		return nil
	}
	placed, err := Assign(ctx, o.Log, id, arrivals, o.Now)
	if err != nil {
		return fmt.Errorf("order entries of %s: %w", id, err)
	}
	if o.Worked != nil {
		o.Worked(ctx, trace.Work{Tenant: string(id), Traces: tracesOf(arrivals), Start: start, Attrs: []slog.Attr{
			slog.Int("messages", len(arrivals)), slog.Int64("first_place", placed.First), slog.Int64("last_place", placed.Last),
		}})
	}
	return nil
}

// Places are the first and the last place that an Assign gave; zero: it gave none.
type Places struct{ First, Last int64 }

// Assign gives the entries of a tenant's arrivals their places in its log. The entries are stored.
// It returns no error once all of them have their places. Placing an arrival again adds nothing.
func Assign(ctx context.Context, log Appender, tenant audit.TenantID, arrivals []envelope.Arrival, now func() time.Time) (given Places, err error) {
	for rest := withoutRepeats(arrivals); len(rest) > 0; {
		var next []envelope.Arrival
		next, rest = cutSegment(rest)
		segment, err := assign(ctx, log, tenant, next, now)
		if err != nil {
			return Places{}, err
		}
		if len(segment.IDs) > 0 {
			given = Places{First: cmp.Or(given.First, segment.First), Last: segment.Last()}
		}
	}
	return given, nil
}

// withoutRepeats returns the arrivals with each message once.
func withoutRepeats(arrivals []envelope.Arrival) []envelope.Arrival {
	seen := make(map[audit.MessageID]bool, len(arrivals))
	once := make([]envelope.Arrival, 0, len(arrivals))
	for _, a := range arrivals {
		if !seen[a.Message] {
			seen[a.Message] = true
			once = append(once, a)
		}
	}
	return once
}

// cutSegment returns the arrivals of the next segment and the rest.
func cutSegment(arrivals []envelope.Arrival) (next, rest []envelope.Arrival) {
	size := 0
	for i, a := range arrivals {
		if size += len(a.IDs); i > 0 && size > maxSegment {
			return arrivals[:i], arrivals[i:]
		}
	}
	return arrivals, nil
}

// assign appends one segment with the arrivals that the log does not have, and returns it. It is
// empty if the log has them all.
func assign(ctx context.Context, log Appender, tenant audit.TenantID, arrivals []envelope.Arrival, now func() time.Time) (Segment, error) {
	var repaired time.Time // the arrivals have no entry that the reconciler placed until then
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		head, err := log.Head(ctx, tenant)
		if err != nil {
			return Segment{}, err
		}
		if head.RepairedAt.After(repaired) {
			if arrivals, err = withoutRepaired(ctx, log, tenant, arrivals, head.RepairedAt); err != nil || len(arrivals) == 0 {
				return Segment{}, err
			}
			repaired = head.RepairedAt
		}
		segment := segmentOf(head, arrivals, now())
		err = log.Append(ctx, tenant, segment)
		if !errors.Is(err, audit.ErrConflict) {
			return segment, err
		}
		missing, err := withoutPlaced(ctx, log, tenant, arrivals)
		if err != nil || len(missing) == 0 {
			return Segment{}, err
		}
		if len(missing) == len(arrivals) { // another orderer took the number
			if err := backoff.Sleep(ctx, appendDelays.Delay(attempt)); err != nil {
				return Segment{}, err
			}
		}
		arrivals = missing
	}
	return Segment{}, errLost
}

func segmentOf(head Head, arrivals []envelope.Arrival, now time.Time) Segment {
	s := Segment{First: head.Last + 1, WrittenAt: now.UTC().Truncate(time.Millisecond), RepairedAt: head.RepairedAt}
	for _, a := range arrivals {
		s.IDs = append(s.IDs, a.IDs...)
		s.Messages = append(s.Messages, a.Message)
	}
	return s
}

// withoutPlaced returns the arrivals whose messages the log does not have.
func withoutPlaced(ctx context.Context, log Appender, tenant audit.TenantID, arrivals []envelope.Arrival) ([]envelope.Arrival, error) {
	messages := make([]audit.MessageID, len(arrivals))
	for i, a := range arrivals {
		messages[i] = a.Message
	}
	placed, err := log.Placed(ctx, tenant, messages)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(arrivals), func(a envelope.Arrival) bool { return slices.Contains(placed, a.Message) }), nil
}

// withoutRepaired returns the arrivals without the entries that the reconciler has placed, the
// last time at repairedAt. It looks only for entries that were received before that, by clocks
// that may differ. So it costs nothing unless the reconciler has lately placed some.
func withoutRepaired(ctx context.Context, log Appender, tenant audit.TenantID, arrivals []envelope.Arrival, repairedAt time.Time) ([]envelope.Arrival, error) {
	var old []audit.EntryID
	for _, a := range arrivals {
		if a.Received.Before(repairedAt.Add(maxSkew)) {
			old = append(old, a.IDs...)
		}
	}
	if len(old) == 0 {
		return arrivals, nil
	}
	repaired, err := log.Repaired(ctx, tenant, old)
	if err != nil || len(repaired) == 0 {
		return arrivals, err
	}
	placed := make(map[audit.EntryID]bool, len(repaired))
	for _, id := range repaired {
		placed[id] = true
	}
	rest := make([]envelope.Arrival, 0, len(arrivals))
	for _, a := range arrivals {
		a.IDs = slices.DeleteFunc(slices.Clone(a.IDs), func(id audit.EntryID) bool { return placed[id] })
		if len(a.IDs) > 0 {
			rest = append(rest, a)
		}
	}
	return rest, nil
}
