package arrival

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
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
	// keptAfterRetention is how long a segment is kept after the longest retention of its
	// tenant. An accepted entry can be a day in the future and is stored for up to seven days
	// after its end.
	keptAfterRetention = 8 * 24 * time.Hour
	// pruneEvery is how often a process prunes the log of a tenant that grows.
	pruneEvery = 10 * time.Minute
	// maxPruned is the most segments that are pruned at once.
	maxPruned = 100
	// maxPruneTimes bounds the tenants whose last pruning a process remembers.
	maxPruneTimes = 16_384
)

// Orderer gives the entries of the arrival queue their places. Several may work on one tenant
// at the same time. It is safe for concurrent use.
type Orderer struct {
	Log     Log
	Tenants Tenants
	Now     func() time.Time

	once   sync.Once
	pruned *ttlcache.Cache[audit.TenantID, struct{}]
}

// Order handles the messages of a batch and returns one error, or nil, for each. A message
// without an error may be deleted: all of its entries have their places, or its tenant is
// deleted. A message with an error must be delivered again. Handling a message again adds
// nothing.
func (o *Orderer) Order(ctx context.Context, bodies []string) []error {
	o.once.Do(func() { o.pruned = ttlcache.New[audit.TenantID, struct{}](maxPruneTimes) })
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
	return outcomes
}

// order appends the arrivals of a tenant and prunes its log.
func (o *Orderer) order(ctx context.Context, id audit.TenantID, arrivals []envelope.Arrival) error {
	tenant, err := o.Tenants.Tenant(ctx, id)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return fmt.Errorf("order entries of %s: %w", id, err)
	}
	if deleted {
		return nil
	}
	for rest := withoutRepeats(arrivals); len(rest) > 0; {
		var next []envelope.Arrival
		next, rest = cutSegment(rest)
		if err := o.append(ctx, id, next); err != nil {
			return fmt.Errorf("order entries of %s: %w", id, err)
		}
	}
	if err := o.prune(ctx, id, &tenant.Settings); err != nil {
		return fmt.Errorf("prune the arrival log of %s: %w", id, err)
	}
	return nil
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

// append appends one segment with the arrivals that the log does not have.
func (o *Orderer) append(ctx context.Context, tenant audit.TenantID, arrivals []envelope.Arrival) error {
	delays := backoff.Policy{First: 2 * time.Millisecond, Max: 100 * time.Millisecond, Jitter: backoff.FullJitter}
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		head, err := o.Log.Head(ctx, tenant)
		if err != nil {
			return err
		}
		err = o.Log.Append(ctx, tenant, segmentOf(head+1, arrivals, o.Now()))
		if !errors.Is(err, audit.ErrConflict) {
			return err
		}
		missing, err := o.withoutPlaced(ctx, tenant, arrivals)
		if err != nil || len(missing) == 0 {
			return err
		}
		if len(missing) == len(arrivals) { // another orderer took the number
			if err := backoff.Sleep(ctx, delays.Delay(attempt)); err != nil {
				return err
			}
		}
		arrivals = missing
	}
	return &audit.UnavailableError{RetryAfter: time.Second, Err: fmt.Errorf("lost to other orderers %d times", maxAttempts)}
}

func segmentOf(first int64, arrivals []envelope.Arrival, now time.Time) Segment {
	s := Segment{First: first, WrittenAt: now.UTC().Truncate(time.Millisecond)}
	for _, a := range arrivals {
		s.IDs = append(s.IDs, a.IDs...)
		s.Messages = append(s.Messages, a.Message)
	}
	return s
}

// withoutPlaced returns the arrivals whose messages the log does not have.
func (o *Orderer) withoutPlaced(ctx context.Context, tenant audit.TenantID, arrivals []envelope.Arrival) ([]envelope.Arrival, error) {
	messages := make([]audit.MessageID, len(arrivals))
	for i, a := range arrivals {
		messages[i] = a.Message
	}
	placed, err := o.Log.Placed(ctx, tenant, messages)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(arrivals), func(a envelope.Arrival) bool { return slices.Contains(placed, a.Message) }), nil
}

// prune removes old segments, once in a while. Nothing is pruned under legal hold or if some
// entries are kept for ever.
func (o *Orderer) prune(ctx context.Context, tenant audit.TenantID, settings *audit.Settings) error {
	longest := settings.LongestRetention()
	if settings.LegalHold || longest == 0 {
		return nil
	}
	now := o.Now()
	if last, found := o.pruned.Get(tenant); found && last.Fresh(now, pruneEvery) {
		return nil
	}
	n, err := o.Log.Prune(ctx, tenant, now.AddDate(0, 0, -longest).Add(-keptAfterRetention), maxPruned)
	if err != nil || n == maxPruned { // more may remain for the next call
		return err
	}
	o.pruned.Put(tenant, ttlcache.Entry[struct{}]{ReadAt: now})
	return nil
}
