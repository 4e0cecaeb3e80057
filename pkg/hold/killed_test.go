package hold_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

var errKilled = errors.New("killed")

// mortal is a worker that is killed at one of its writes, before it or after it.
type mortal struct {
	writes, killAt int
	after          bool
	dead           bool
	// sleep, if it is set, is called instead of the kill.
	sleep func()
}

func (m *mortal) write(do func() error) error {
	m.writes++
	switch {
	case m.dead:
		return errKilled
	case m.writes != m.killAt:
		return do()
	case m.sleep != nil:
		m.sleep()
		return do()
	}
	m.dead = true
	if m.after {
		if err := do(); err != nil {
			return err
		}
	}
	return errKilled
}

type mortalJobs struct {
	jobs.Store
	m *mortal
}

func (s mortalJobs) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	return s.m.write(func() error { return s.Store.UpdateJob(ctx, job, generation) })
}

type mortalHolds struct {
	hold.Store
	m *mortal
}

func (s mortalHolds) UpdateHold(ctx context.Context, h hold.Hold) error {
	return s.m.write(func() error { return s.Store.UpdateHold(ctx, h) })
}

type mortalEntries struct {
	retention.Store
	m *mortal
}

func (s mortalEntries) Unmark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	return s.m.write(func() error { return s.Store.Unmark(ctx, tenant, ids) })
}

type mortalQueue struct {
	*world
	m *mortal
}

func (q mortalQueue) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	return q.m.write(func() error { return q.world.SendAfter(ctx, tenant, delay, body) })
}

type mortalRecorder struct {
	*world
	m *mortal
}

func (r mortalRecorder) Record(ctx context.Context, tenant audit.Tenant, entry audit.Entry) error {
	return r.m.write(func() error { return r.world.Record(ctx, tenant, entry) })
}

// mortal puts a worker in the place of that of the world. It returns what is to be called for the next one.
func (w *world) mortal(m *mortal) (next func()) {
	whole, runner := *w.worker, *w.runner
	queue := mortalQueue{w, m}
	w.worker.Store, w.worker.Queues = mortalJobs{whole.Store, m}, jobs.Queues{Jobs: queue, Archive: queue}
	w.runner.Holds, w.runner.Store, w.runner.Recorder = mortalHolds{runner.Holds, m}, mortalEntries{runner.Store, m}, mortalRecorder{w, m}
	return func() { *w.worker, *w.runner = whole, runner }
}

// settle has the time pass that a hold waits for, and its job done.
func (w *world) settle(id string) {
	w.t.Helper()
	for range 6 {
		w.now = w.now.Add(retention.SettleTime)
		if _, err := w.Jobs.Plan(w.t.Context()); err != nil { // a killed worker has sent no message
			w.t.Fatal(err)
		}
		w.work(1)
	}
	w.wantJob(id, jobs.StateSucceeded, "")
}

// held is a world with a hold, and the entries that are marked for removal: so many that it covers, and one of another user.
func held(t *testing.T, n int) (w *world, h hold.Hold, covered []audit.EntryID, other audit.EntryID) {
	t.Helper()
	w = newWorld(t)
	old := monday.AddDate(-1, 0, 0)
	for i := range n {
		covered = append(covered, w.store("u", old.Add(time.Duration(i)*time.Minute)))
	}
	other = w.store("v", old)
	return w, w.set(hold.Hold{UserIDs: []string{"u"}}), covered, other
}

func (w *world) wantInForce(h hold.Hold, covered []audit.EntryID, other audit.EntryID) {
	w.t.Helper()
	got, err := w.Hold(w.t.Context(), admin, "acme", h.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if got.InForceAt.IsZero() {
		w.t.Error("the hold is not in force, want it to be")
	}
	for _, id := range covered {
		w.wantMarked(id, false)
	}
	w.wantMarked(other, true)
	w.wantRecorded("legal_hold.create", "legal_hold.in_force")
}

// TestAKilledHoldComesIntoForce kills the worker at each of its writes, in both passes, before it and after it. A retention
// that had not seen the hold marks again meanwhile.
func TestAKilledHoldComesIntoForce(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at, killed := 1, true; killed; at++ {
			t.Run(fmt.Sprintf("%d %t", at, after), func(t *testing.T) {
				w, h, covered, other := held(t, 3)
				m := &mortal{killAt: at, after: after}
				next := w.mortal(m)
				for step := 0; step < 3 && !m.dead; step++ {
					if err := w.worker.Handle(t.Context(), w.messages[len(w.messages)-1]); err != nil && !errors.Is(err, errKilled) {
						t.Fatal(err)
					}
					if step == 0 {
						if err := w.db.Entries().Mark(t.Context(), "acme", covered[:1], time.Hour); err != nil {
							t.Fatal(err)
						}
					}
					w.now = w.now.Add(retention.SettleTime)
				}
				next()
				if killed = m.dead; !killed {
					return
				}
				w.settle(h.ID)
				w.wantInForce(h, covered, other)
			})
		}
	}
}

// TestTwoWorkersOfAHold: a worker sleeps at each of its writes, while another one brings the hold into force. Then it goes on.
func TestTwoWorkersOfAHold(t *testing.T) {
	for at, slept := 1, true; slept; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			w, h, covered, other := held(t, 3)
			slept = false
			m := &mortal{killAt: at}
			next := w.mortal(m)
			worker := *w.worker // with its runner
			m.sleep = func() {
				slept = true
				next()
				w.settle(h.ID)
			}
			for range 2 {
				if err := worker.Handle(t.Context(), w.messages[len(w.messages)-1]); err != nil {
					t.Fatal(err)
				}
				if slept {
					break
				}
				w.now = w.now.Add(retention.SettleTime)
			}
			if !slept {
				return
			}
			w.wantInForce(h, covered, other)
		})
	}
}

// TestAHoldThatIsReleasedAfterAKill: its worker is killed at each of its writes. A hold that was in force by then is
// recorded as such, and its job does not fail.
func TestAHoldThatIsReleasedAfterAKill(t *testing.T) {
	inForce := 0
	for at, killed := 1, true; killed; at++ {
		w, h, _, _ := held(t, 3)
		m := &mortal{killAt: at}
		next := w.mortal(m)
		for step := 0; step < 3 && !m.dead; step++ {
			if err := w.worker.Handle(t.Context(), w.messages[len(w.messages)-1]); err != nil && !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			w.now = w.now.Add(retention.SettleTime)
		}
		next()
		if killed = m.dead; !killed {
			break
		}
		released, err := w.Release(t.Context(), admin, acme, h.ID, "closed")
		if err != nil {
			t.Fatal(err)
		}
		if released.InForceAt.IsZero() {
			continue
		}
		inForce++
		w.settle(h.ID)
		var actions []string
		for i := range w.recorded {
			actions = append(actions, w.recorded[i].Action)
		}
		slices.Sort(actions)
		if want := []string{"legal_hold.create", "legal_hold.in_force", "legal_hold.release"}; !slices.Equal(actions, want) {
			t.Errorf("killed at write %d: recorded %v, want %v", at, actions, want)
		}
	}
	if inForce < 2 { // before the entry about it, and before the job's end
		t.Errorf("%d kills came once the hold was in force, want more", inForce)
	}
}
