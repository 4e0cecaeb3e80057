package arrival_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

var errKilled = errors.New("killed")

// killing is a log that fails at one of its calls, and at all later ones: before the call has
// an effect, or after it.
type killing struct {
	arrival.Log
	at    int
	after bool
	calls int
}

func (k *killing) call(do func() error) error {
	k.calls++
	if k.calls > k.at || k.calls == k.at && !k.after {
		return errKilled
	}
	err := do()
	if k.calls == k.at {
		return errKilled
	}
	return err
}

func (k *killing) Head(ctx context.Context, tenant audit.TenantID) (head arrival.Head, err error) {
	err = k.call(func() error { head, err = k.Log.Head(ctx, tenant); return err })
	return head, err
}

func (k *killing) Append(ctx context.Context, tenant audit.TenantID, s arrival.Segment) error {
	return k.call(func() error { return k.Log.Append(ctx, tenant, s) })
}

func (k *killing) Placed(ctx context.Context, tenant audit.TenantID, messages []audit.MessageID) (placed []audit.MessageID, err error) {
	err = k.call(func() error { placed, err = k.Log.Placed(ctx, tenant, messages); return err })
	return placed, err
}

// arrivals stores count entries in messages of three and returns the messages.
func (w *world) arrivals(count int) (bodies []string, ids map[audit.EntryID]bool) {
	w.t.Helper()
	ids = map[audit.EntryID]bool{}
	for len(ids) < count {
		entries := []audit.Entry{w.entry(0, nil), w.entry(time.Hour, nil), w.entry(24*time.Hour, nil)}
		for i := range entries {
			ids[entries[i].ID] = true
		}
		bodies = append(bodies, w.arrival(w.sent, entries...))
	}
	return bodies, ids
}

// TestKilledAtEveryStep: the messages come again, in another order and another batch.
func TestKilledAtEveryStep(t *testing.T) {
	for at := 1; at <= 6; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("call %d, after its effect: %t", at, after), func(t *testing.T) {
				w := newWorld(t)
				bodies, ids := w.arrivals(12)
				// The first message has its place already, so that the batch conflicts.
				if err := w.orderer.Order(t.Context(), bodies[:1])[0]; err != nil {
					t.Fatal(err)
				}
				log := w.orderer.Log
				k := &killing{Log: log, at: at, after: after}
				killed := &arrival.Orderer{Log: k, Tenants: w.tenants, Now: w.orderer.Now}
				outcomes := killed.Order(t.Context(), bodies)
				for i, err := range outcomes {
					if got, want := errors.Is(err, errKilled), k.calls >= at; got != want {
						t.Errorf("message %d: killed is %t (%v), want %t", i, got, err, want)
					}
				}
				slices.Reverse(bodies)
				for batch := range slices.Chunk(bodies, 3) {
					for i, err := range w.orderer.Order(t.Context(), batch) {
						if err != nil {
							t.Errorf("message %d: %v, want nil", i, err)
						}
					}
				}
				w.wantDense(ids)
			})
		}
	}
}

// TestOrderersAtOnce: several orderers get every message, each in its own order and batches.
func TestOrderersAtOnce(t *testing.T) {
	w := newWorld(t)
	bodies, ids := w.arrivals(240)
	var running sync.WaitGroup
	for n := range 5 {
		running.Go(func() {
			w.orderBy(n, slices.Concat(bodies[13*n:], bodies[:13*n]))
		})
	}
	running.Wait()
	w.wantDense(ids)
}

// TestMessagesOfABatchFailAlone: an unreadable one, one of a later release, and one of a tenant
// that is gone.
func TestMessagesOfABatchFailAlone(t *testing.T) {
	w := newWorld(t)
	bodies, ids := w.arrivals(3)
	gone, err := envelope.PackArrivals("gone", []envelope.Arrival{{Message: messageID(1), IDs: []audit.EntryID{{1}}}})
	if err != nil {
		t.Fatal(err)
	}
	batch := []string{bodies[0], "not a message", `{"v":2,"tenant":"acme"}`, gone[0], `{"v":1,"tenant":"acme","messages":[{"id":"AA==","entries":""}]}`}
	want := []error{nil, audit.ErrUnreadable, envelope.ErrVersion, nil, audit.ErrUnreadable}
	for i, err := range w.orderer.Order(t.Context(), batch) {
		if !errors.Is(err, want[i]) {
			t.Errorf("message %d: %v, want %v", i, err, want[i])
		}
	}
	w.wantDense(ids)
	if head, err := w.db.Arrivals().Head(t.Context(), "gone"); err != nil || head.Last != 0 {
		t.Errorf("the log of a deleted tenant has head %d (%v), want 0", head.Last, err)
	}
}

// TestLargeBatchesAreSeveralSegments: so that a feed reads no more than it needs.
func TestLargeBatchesAreSeveralSegments(t *testing.T) {
	w := newWorld(t)
	var arrivals []envelope.Arrival
	for m := range 10 {
		a := envelope.Arrival{Message: messageID(m)}
		for i := range 1000 {
			a.IDs = append(a.IDs, audit.DeriveEntryID("acme", start, fmt.Sprint(m, i)))
		}
		arrivals = append(arrivals, a)
	}
	bodies, err := envelope.PackArrivals("acme", arrivals)
	if err != nil {
		t.Fatal(err)
	}
	for i, body := range bodies {
		if len(body) > envelope.TargetBytes {
			t.Errorf("message %d has %d bytes, want at most %d", i, len(body), envelope.TargetBytes)
		}
	}
	for _, err := range w.orderer.Order(t.Context(), bodies) {
		if err != nil {
			t.Fatal(err)
		}
	}
	segments, err := w.db.Arrivals().Read(t.Context(), "acme", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, s := range segments {
		sizes = append(sizes, len(s.IDs))
	}
	if want := []int{4000, 4000, 2000}; !slices.Equal(sizes, want) {
		t.Errorf("segments of %v ids, want %v", sizes, want)
	}
}
