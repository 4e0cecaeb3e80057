package stream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// delivery is what a pump has sent to all of its subscribers.
//
// It measures for each second the longest time from the receipt of an entry until the first
// subscriber got it. A slow client counts only if nobody else got the entry before. What a client
// missed before it subscribed does not count.
type delivery struct {
	mu          sync.Mutex
	frames      int
	first, last int64 // the first and the last place that is the end of a frame
	place       int64 // up to which some subscriber has the live entries
	second      int64 // of the last delay
	delays      []time.Duration
}

// add notes that a subscriber got a frame. replayed is the last place that it had missed when it
// subscribed.
func (d *delivery) add(f *entriesFrame, replayed int64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frames++
	d.last = max(d.last, f.last)
	if d.first == 0 || f.last < d.first {
		d.first = f.last
	}
	if f.last <= max(d.place, replayed) {
		return
	}
	d.place = f.last
	delay := max(0, now.Sub(f.received)) // clocks differ
	if last := len(d.delays) - 1; last >= 0 && d.second == now.Unix() {
		d.delays[last] = max(d.delays[last], delay)
		return
	}
	d.second, d.delays = now.Unix(), append(d.delays, delay)
}

// report tells what was sent.
func (s *Service) report(ctx context.Context, tenant audit.TenantID, traces []trace.Trace, start time.Time, d *delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.Delivered != nil && len(d.delays) > 0 {
		s.Delivered(ctx, tenant, d.delays)
	}
	if s.Worked != nil && d.frames > 0 {
		s.Worked(ctx, trace.Work{Tenant: string(tenant), Traces: traces, Start: start, Attrs: []slog.Attr{
			slog.Int("frames", d.frames), slog.Int64("first_place", d.first), slog.Int64("last_place", d.last),
		}})
	}
}
