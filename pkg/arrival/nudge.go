package arrival

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// Streams finds the live streams that nobody serves; see stream.Streams.
type Streams interface {
	// Idle returns those of the tenants that have subscribers and whose stream has no holder,
	// in any order. A holder looks at the log once more after it has left the stream.
	Idle(ctx context.Context, tenants []audit.TenantID) ([]audit.TenantID, error)
}

// Queue sends messages to the function that serves the live streams. SendAfter returns nil only
// once the body is durable.
type Queue interface {
	SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error
}

// Nudger tells the live streams that logs have grown.
type Nudger struct {
	Streams Streams
	Queue   Queue
}

// Nudge sends a message for each of the tenants that has subscribers and whose stream nobody
// serves. It returns an error, or nil, for each tenant. The caller has appended to the logs
// before. traces are those of the requests that made a log grow, by tenant; nil: they are unknown.
// Tenants without subscribers cost their share of one query.
func (n *Nudger) Nudge(ctx context.Context, tenants []audit.TenantID, traces map[audit.TenantID][]trace.Trace) []error {
	outcomes := make([]error, len(tenants))
	idle, err := n.Streams.Idle(ctx, tenants)
	var sending errgroup.Group
	sending.SetLimit(MaxTenantsAtOnce)
	for i, tenant := range tenants {
		if err != nil {
			outcomes[i] = fmt.Errorf("nudge the stream of %s: %w", tenant, err)
		} else if slices.Contains(idle, tenant) {
			sending.Go(func() error {
				outcomes[i] = panics.Recovered(ctx, func() error { return SendNudge(ctx, n.Queue, tenant, 0, traces[tenant]...) })
				return nil
			})
		}
	}
	_ = sending.Wait() // the errors are in outcomes
	return outcomes
}

// SendNudge sends a message that asks to look at the tenant's stream after the delay, on behalf
// of the requests with these traces.
func SendNudge(ctx context.Context, q Queue, tenant audit.TenantID, delay time.Duration, traces ...trace.Trace) error {
	body, err := envelope.PackNudge(tenant, traces...)
	if err == nil {
		err = q.SendAfter(trace.WithFirst(ctx, traces), tenant, delay, body)
	}
	if err != nil {
		return fmt.Errorf("nudge the stream of %s: %w", tenant, err)
	}
	return nil
}
