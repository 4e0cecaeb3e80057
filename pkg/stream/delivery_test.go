package stream_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// measured returns the delays that the world's pumps report.
func (w *world) measured() *[]time.Duration {
	var all []time.Duration
	w.Delivered = func(_ context.Context, _ audit.TenantID, delays []time.Duration) { all = append(all, delays...) }
	return &all
}

func TestTheDelayOfLiveEntriesIsMeasured(t *testing.T) {
	w := newWorld(t)
	delays := w.measured()
	w.store(w.entry(func(e *audit.Entry) { e.ReceivedAt = e.ReceivedAt.Add(-time.Hour) }))
	live := w.subscribe("live", `{}`, "")
	replaying := w.subscribe("replaying", `{}`, arrival.Cursor(w.Cursors, tenant, 0))
	replaying.wantsFrames(t, "subscribed", "entries")
	if len(*delays) != 0 {
		t.Errorf("got the delays %v of what was missed before the subscription, want none", *delays)
	}
	w.publish(w.entry(func(e *audit.Entry) { e.ReceivedAt = e.ReceivedAt.Add(-30 * time.Second) }))
	live.wantsFrames(t, "subscribed", "entries")
	if len(*delays) == 0 {
		t.Fatal("got no delay of a live entry, want one")
	}
	if got := slices.Max(*delays); got < 30*time.Second || got > 32*time.Second {
		t.Errorf("got the delay %s, want about 30 s", got)
	}
}
