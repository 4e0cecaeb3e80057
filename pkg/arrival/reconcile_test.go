package arrival_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// reconciler returns one over the stores of the world.
func (w *world) reconciler() arrival.Reconciler {
	return arrival.Reconciler{
		Log: w.db.Arrivals(), Store: w.db.Entries(), Reader: w.db.Entries(), Now: func() time.Time { return w.now },
		Publish: func(arrival.Reconciliation) error { return nil },
	}
}

// check compares today's receipts of entries of a day some days ago. It returns what was found
// and the outcome.
func (w *world) check(r arrival.Reconciler, ago, checks int) (found arrival.Reconciliation, outcome activity.Outcome) {
	w.t.Helper()
	tenant := w.tenants["acme"]
	r.Publish = func(f arrival.Reconciliation) error {
		found = f
		return nil
	}
	today := start.Truncate(24 * time.Hour)
	day := activity.Day{Work: activity.Places, Tenant: "acme", Receipt: activity.Receipt{Received: today, Day: today.AddDate(0, 0, -ago)}, Checks: checks}
	outcome, err := r.Check(w.t.Context(), &tenant, day)
	if err != nil {
		w.t.Fatal(err)
	}
	return found, outcome
}

// order gives the messages to the orderer.
func (w *world) order(bodies ...string) {
	w.t.Helper()
	for _, err := range w.orderer.Order(w.t.Context(), bodies) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// store stores entries and returns their ids. Their message to the orderer is lost.
func (w *world) store(entries ...audit.Entry) map[audit.EntryID]bool {
	w.t.Helper()
	w.arrival(w.sent, entries...)
	ids := map[audit.EntryID]bool{}
	for i := range entries {
		ids[entries[i].ID] = true
	}
	return ids
}

func unite(sets ...map[audit.EntryID]bool) map[audit.EntryID]bool {
	all := map[audit.EntryID]bool{}
	for _, set := range sets {
		for id := range set {
			all[id] = true
		}
	}
	return all
}

// TestLostArrivalsGetTheirPlaces: an hour after their receipt, late entries too, and each once.
func TestLostArrivalsGetTheirPlaces(t *testing.T) {
	w := newWorld(t)
	bodies, placed := w.arrivals(6)
	w.order(bodies...)
	lost := w.store(w.entry(0, nil), w.entry(time.Minute, nil))
	late := w.store(w.entry(24*time.Hour, nil), w.entry(25*time.Hour, nil))
	w.now = w.now.Add(59 * time.Minute)
	found, outcome := w.check(w.reconciler(), 0, 0)
	if found.Repaired != 0 || found.Pending != 2 {
		t.Errorf("after 59 minutes %d got places and %d wait, want 0 and 2", found.Repaired, found.Pending)
	}
	if got, want := outcome, (activity.Outcome{Due: w.now.Add(5 * time.Minute)}); got != want {
		t.Errorf("pending entries: %+v, want %+v", got, want)
	}
	w.wantDense(placed)
	w.now = w.now.Add(time.Minute)
	found, outcome = w.check(w.reconciler(), 0, 0)
	if found.Repaired != 2 || found.Lag != time.Hour {
		t.Errorf("after an hour %d got places, received up to %s ago, want 2 and an hour", found.Repaired, found.Lag)
	}
	if got, want := outcome, (activity.Outcome{Due: w.now.Add(time.Hour)}); got != want {
		t.Errorf("repaired entries: %+v, want %+v", got, want)
	}
	w.wantDense(unite(placed, lost))
	if found, _ := w.check(w.reconciler(), 1, 0); found.Repaired != 2 {
		t.Errorf("%d entries of the day before got places, want 2", found.Repaired)
	}
	w.wantDense(unite(placed, lost, late))
	for checks, want := range []activity.Outcome{{Checks: 1, Due: w.now.Add(time.Hour)}, {Checks: 2}} {
		found, outcome := w.check(w.reconciler(), 0, checks)
		if found.Repaired != 0 {
			t.Errorf("check %d: %d got places, want 0: each has one", checks, found.Repaired)
		}
		if outcome != want {
			t.Errorf("check %d without a difference: %+v, want %+v", checks, outcome, want)
		}
	}
}

// TestMessagesThatComeAfterTheReconciler: redelivered late, redriven after days, or with other
// entries beside those that have places by now.
func TestMessagesThatComeAfterTheReconciler(t *testing.T) {
	for name, after := range map[string]time.Duration{"at once": 0, "after an hour": time.Hour, "after ten days": 240 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			bodies, first := w.arrivals(3)
			lost, ids := w.arrivals(30)
			fresh, others := w.arrivals(3)
			w.order(bodies...)
			w.now = w.now.Add(time.Hour)
			for ago := range 2 {
				w.check(w.reconciler(), ago, 0)
			}
			w.wantDense(unite(first, ids, others)) // the others' message is not there yet either
			w.now = w.now.Add(after)
			for range 2 {
				w.order(slices.Concat(lost[:4], fresh)...)
				w.order(lost...)
			}
			w.wantDense(unite(first, ids, others))
			next, more := w.arrivals(3)
			w.order(append(next, lost[2])...)
			w.wantDense(unite(first, ids, others, more))
		})
	}
}

// TestMessageWithPlacesForSome: the reconciler placed some of its entries, because the others
// were stored later.
func TestMessageWithPlacesForSome(t *testing.T) {
	w := newWorld(t)
	early, later := w.entry(0, nil), w.entry(0, nil)
	w.store(early)
	w.now = w.now.Add(time.Hour)
	w.check(w.reconciler(), 0, 0)
	body := w.arrival(1, early, later)
	for range 2 {
		w.order(body)
	}
	w.wantDense(map[audit.EntryID]bool{early.ID: true, later.ID: true})
}

// queries counts how often the log is asked what the reconciler placed.
type queries struct {
	arrival.Log
	repaired int
}

func (q *queries) Repaired(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.EntryID, error) {
	q.repaired++
	return q.Log.Repaired(ctx, tenant, ids)
}

// TestOrderingCostsNothingMoreInTheUsualCase: the orderer asks what the reconciler placed only
// for entries that were received before its last segment, or within the differences of clocks.
func TestOrderingCostsNothingMoreInTheUsualCase(t *testing.T) {
	w := newWorld(t)
	log := &queries{Log: w.db.Arrivals()}
	w.orderer.Log = log
	order := func(want int) {
		t.Helper()
		log.repaired = 0
		bodies, _ := w.arrivals(6)
		w.order(bodies...)
		if log.repaired != want {
			t.Errorf("asked %d times, want %d", log.repaired, want)
		}
	}
	order(0)
	w.store(w.entry(0, nil))
	w.now = w.now.Add(time.Hour)
	w.check(w.reconciler(), 0, 0)
	order(1)
	w.now = w.now.Add(26 * time.Hour)
	order(0)
}

// clockOf returns a reconciler whose clock differs.
func (w *world) clockOf(skew time.Duration) arrival.Reconciler {
	r := w.reconciler()
	r.Now = func() time.Time { return w.now.Add(skew) }
	return r
}

// TestReconcilerWithAWrongClock: a day ahead, it places what was just received. The message
// that comes then adds nothing.
func TestReconcilerWithAWrongClock(t *testing.T) {
	for _, skew := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		w := newWorld(t)
		bodies, ids := w.arrivals(9)
		for ago := range 2 {
			w.check(w.clockOf(skew), ago, 0)
		}
		w.now = w.now.Add(time.Second)
		w.order(bodies...)
		w.wantDense(ids)
	}
}

// TestReconcilersAndOrderersAtOnce: several of each work on one log, on the same entries.
func TestReconcilersAndOrderersAtOnce(t *testing.T) {
	w := newWorld(t)
	bodies, ids := w.arrivals(180)
	lost := w.store(w.entry(0, nil), w.entry(0, nil), w.entry(0, nil))
	w.now = w.now.Add(time.Hour)
	tenant, today := w.tenants["acme"], start.Truncate(24*time.Hour)
	var running sync.WaitGroup
	for n := range 3 {
		running.Go(func() {
			w.orderBy(n, slices.Concat(bodies[7*n:], bodies[:7*n]))
		})
		running.Go(func() {
			r := arrival.WithWidth(w.reconciler(), int64(1+40*n)) // some compare by parts of the day
			for range 4 {
				for ago := range 2 {
					day := activity.Day{Tenant: "acme", Receipt: activity.Receipt{Received: today, Day: today.AddDate(0, 0, -ago)}}
					if _, err := r.Check(t.Context(), &tenant, day); err != nil {
						t.Errorf("reconciler %d: %v, want nil", n, err)
					}
				}
			}
		})
	}
	running.Wait()
	w.wantDense(unite(ids, lost))
}

// TestReconcilerKilledAtEveryStep: another run, and the messages after all, add what is missing.
func TestReconcilerKilledAtEveryStep(t *testing.T) {
	for at := 1; at <= 4; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("call %d, after its effect: %t", at, after), func(t *testing.T) {
				w := newWorld(t)
				bodies, ids := w.arrivals(12)
				w.order(bodies[0])
				w.now = w.now.Add(time.Hour)
				tenant, today := w.tenants["acme"], start.Truncate(24*time.Hour)
				r := w.reconciler()
				k := &killing{Log: w.db.Arrivals(), at: at, after: after}
				r.Log = k
				_, err := r.Check(t.Context(), &tenant, activity.Day{Tenant: "acme", Receipt: activity.Receipt{Received: today, Day: today}})
				if got, want := errors.Is(err, errKilled), k.calls >= at; got != want {
					t.Errorf("killed is %t (%v), want %t", got, err, want)
				}
				w.check(w.reconciler(), 0, 0)
				w.order(bodies...)
				w.wantDense(ids)
			})
		}
	}
}

// TestPartsOfADay: a day with many entries is compared in parts, of which none is left out.
func TestPartsOfADay(t *testing.T) {
	for _, width := range []int64{1, 5, 1000} {
		w := newWorld(t)
		w.now = start.Truncate(24 * time.Hour).Add(24*time.Hour - time.Millisecond)
		var placed, lost []audit.Entry
		for i := range 120 {
			e := w.entry(time.Duration(i)*12*time.Minute, nil) // some in each hour
			if i%3 == 0 {
				lost = append(lost, e)
			} else {
				placed = append(placed, e)
			}
		}
		placed = append(placed, w.entry(24*time.Hour-time.Millisecond, nil)) // the first millisecond of the day
		lost = append(lost, w.entry(0, nil))                                 // and the last
		w.arrive(placed...)
		ids := w.store(lost...)
		for i := range placed {
			ids[placed[i].ID] = true
		}
		w.now = w.now.Add(2 * time.Hour)
		if found, _ := w.check(*arrival.WithWidth(w.reconciler(), width), 0, 0); found.Repaired != int64(len(lost)) {
			t.Errorf("width %d: %d got places, want %d", width, found.Repaired, len(lost))
		}
		w.wantDense(ids)
	}
}

// TestADayIsComparedInSteps: steps that have no time find what one with all of its time does. What a step before has
// placed gets no second place.
func TestADayIsComparedInSteps(t *testing.T) {
	for _, width := range []int64{20, 1 << 19} {
		w := newWorld(t)
		midnight := start.Truncate(24 * time.Hour)
		w.now = midnight.Add(24*time.Hour - time.Millisecond)
		var placed, lost []audit.Entry
		for i := range 900 {
			if e := w.entry(time.Duration(i)*90*time.Second, nil); i%3 == 0 {
				placed = append(placed, e)
			} else {
				lost = append(lost, e)
			}
		}
		w.arrive(placed...)
		ids := w.store(lost...)
		for i := range placed {
			ids[placed[i].ID] = true
		}
		w.now = w.now.Add(2 * time.Hour)
		r := arrival.WithWidth(w.reconciler(), width)
		var found []arrival.Reconciliation
		r.Publish = func(f arrival.Reconciliation) error {
			found = append(found, f)
			return nil
		}
		tenant, n := w.tenants["acme"], 0
		day := activity.Day{Tenant: "acme", Receipt: activity.Receipt{Received: midnight, Day: midnight}, Until: w.now.Add(-time.Second)}
		for stopped := true; stopped && n < 1000; n++ {
			outcome, err := r.Check(t.Context(), &tenant, day)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(outcome.Progress) // as a task has it
			if err != nil {
				t.Fatal(err)
			}
			day.Progress = activity.Progress{}
			if err := json.Unmarshal(text, &day.Progress); err != nil {
				t.Fatal(err)
			}
			stopped = outcome.Stopped
		}
		if n < 5 {
			t.Errorf("width %d: got %d steps, want more", width, n)
		}
		if len(found) != 1 {
			t.Fatalf("width %d: %d results were published in %d steps, want 1", width, len(found), n)
		}
		want := arrival.Reconciliation{
			Tenant: "acme", Receipt: day.Receipt, Stored: 900, Placed: int64(len(placed)), Repaired: int64(len(lost)), Lag: 2 * time.Hour,
		}
		if found[0] != want {
			t.Errorf("width %d: got %+v\nwant %+v", width, found[0], want)
		}
		w.wantDense(ids)
	}
}

// TestEntriesThatWereRemoved keep their places, and their day is compared by ids. (One removed
// and one lost would hide each other.)
func TestEntriesThatWereRemoved(t *testing.T) {
	w := newWorld(t)
	bodies, ids := w.arrivals(9)
	w.order(bodies...)
	if _, err := w.db.Entries().Purge(t.Context(), "acme", 4); err != nil {
		t.Fatal(err)
	}
	lost := w.store(w.entry(0, nil), w.entry(0, nil))
	w.now = w.now.Add(time.Hour)
	w.check(w.reconciler(), 0, 0)
	w.wantDense(unite(ids, lost))
	if _, outcome := w.check(w.reconciler(), 0, 1); outcome != (activity.Outcome{Checks: 2}) {
		t.Errorf("a day with fewer entries than places: %+v, want that it is done", outcome)
	}
}

// TestPrunedPlacesAreNotGivenAgain: an entry that outlives its place, because the retention was
// longer again, does not come a second time.
func TestPrunedPlacesAreNotGivenAgain(t *testing.T) {
	w := newWorld(t)
	record := w.tenants["acme"]
	record.Settings.RetentionDays = 1
	w.tenants["acme"] = record
	old := w.entry(0, nil)
	w.arrive(old)
	w.now = w.now.AddDate(0, 0, 20)
	last := w.entry(0, nil)
	w.arrive(last)
	w.prune()
	record.Settings.RetentionDays = 365
	w.tenants["acme"] = record
	if found, _ := w.check(w.reconciler(), 0, 0); found.Repaired != 0 {
		t.Errorf("%d entries got places, want 0: theirs were pruned", found.Repaired)
	}
	w.now = w.now.Add(time.Hour)
	lost := w.entry(2*time.Hour, nil)
	w.store(lost)
	w.now = w.now.Add(time.Hour)
	tenant, today := w.tenants["acme"], w.now.Truncate(24*time.Hour)
	r := w.reconciler()
	if _, err := r.Check(t.Context(), &tenant, activity.Day{Tenant: "acme", Receipt: activity.Receipt{Received: today, Day: today}}); err != nil {
		t.Fatal(err)
	}
	segments, err := w.db.Arrivals().Read(t.Context(), "acme", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []audit.EntryID
	for _, s := range segments {
		got = append(got, s.IDs...)
	}
	if want := []audit.EntryID{last.ID, lost.ID}; !slices.Equal(got, want) {
		t.Errorf("the log has %v, want %v", got, want)
	}
}

// behind is a store that lists the ids of a secondary that is behind.
type behind struct{ search.IDLister }

func (behind) IDs(context.Context, audit.TenantID, time.Time, time.Time, audit.EntryID, int) ([]audit.EntryID, error) {
	return nil, nil
}

// TestReconcilerOverALaggingSecondary: the day is compared again.
func TestReconcilerOverALaggingSecondary(t *testing.T) {
	w := newWorld(t)
	bodies, ids := w.arrivals(3)
	w.order(bodies...)
	w.store(w.entry(0, nil))
	w.now = w.now.Add(time.Hour)
	r := w.reconciler()
	r.Store = behind{r.Store}
	if _, outcome := w.check(r, 0, 1); outcome != (activity.Outcome{Due: w.now.Add(time.Hour)}) {
		t.Errorf("entries that a secondary lacks: %+v, want that the day is due again", outcome)
	}
	w.wantDense(ids)
}

// TestRetriedEntriesHaveTheirPlace: an entry that was refused at first and stored later by a
// message without an id, as the quarantine sends it.
func TestRetriedEntriesHaveTheirPlace(t *testing.T) {
	w := newWorld(t)
	refused := w.entry(0, nil)
	w.arrive(w.entry(0, nil))
	w.now = w.now.AddDate(0, 0, 3)
	bodies, err := envelope.Pack("acme", []audit.Entry{refused})
	if err != nil {
		t.Fatal(err)
	}
	contents, err := envelope.Unpack(bodies[0])
	if err != nil {
		t.Fatal(err)
	}
	message := envelope.Message{Body: bodies[0], Contents: contents}
	refused.QueueMessage = message.ID()
	lost := w.store(refused)
	if found, _ := w.check(w.reconciler(), 0, 0); found.Repaired != 1 {
		t.Errorf("%d got places, want the one that was stored later", found.Repaired)
	}
	arrivals, err := envelope.PackArrivals("acme", []envelope.Arrival{{Message: refused.QueueMessage, Received: refused.ReceivedAt, IDs: []audit.EntryID{refused.ID}}})
	if err != nil {
		t.Fatal(err)
	}
	w.order(arrivals...)
	if page := w.read("", access.Scope{}); len(page.Entries) != 2 || page.Entries[1].ID != refused.ID || !lost[refused.ID] {
		t.Errorf("the feed has %s, want the entry once, at the end", names(page.Entries))
	}
}
