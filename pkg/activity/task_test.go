package activity_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const sliceTime = 30 * time.Second

// workers do the tasks of a backlog, one after the other.
type workers struct {
	*backlog
	task    activity.Task
	queue   []message
	mu      sync.Mutex
	checked map[string]int // by tenant and day
	takes   time.Duration  // a check of a day
	fails   func(day activity.Day) error
}

type message struct {
	tenant audit.TenantID
	input  json.RawMessage
}

func newWorkers(t *testing.T, days int) *workers {
	t.Helper()
	w := &workers{backlog: newBacklog(t, 1, days), checked: map[string]int{}, takes: 8 * time.Second}
	w.plan.Share = w.send
	w.task = activity.Task{
		Work: activity.Index, Register: w.plan.Register, Tenants: active{}, Check: w.check, AtOnce: 1,
		SliceTime: sliceTime, Continue: w.send, Now: w.now, Log: slog.New(slog.DiscardHandler),
	}
	w.plan.Now = w.now
	return w
}

// active has every tenant.
type active struct{}

func (active) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	return audit.Tenant{ID: id, Status: audit.TenantActive}, nil
}

func (w *workers) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *workers) send(_ context.Context, tenant audit.TenantID, days []activity.DueDay) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	input, err := json.Marshal(days)
	w.queue = append(w.queue, message{tenant, input})
	return err
}

func (w *workers) check(_ context.Context, tenant *audit.Tenant, day activity.Day) (activity.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(w.takes)
	if w.fails != nil {
		if err := w.fails(day); err != nil {
			return activity.Outcome{}, err
		}
	}
	w.checked[string(tenant.ID)+" "+day.Day.Format(time.DateOnly)]++
	return activity.Outcome{Checks: day.Checks + 1}, nil
}

// work does all tasks, and returns the longest time of one.
func (w *workers) work(t *testing.T, each func(message)) (longest time.Duration) {
	t.Helper()
	for range 1000 {
		if len(w.queue) == 0 {
			return longest
		}
		m := w.queue[0]
		w.queue = w.queue[1:]
		began := w.now()
		each(m)
		if err := w.task.Do(t.Context(), m.tenant, m.input); err != nil && w.fails == nil {
			t.Fatal(err)
		}
		longest = max(longest, w.now().Sub(began))
	}
	t.Fatal("1,000 tasks were done, want an end")
	return 0
}

func (w *workers) wantChecked(t *testing.T, days int) {
	t.Helper()
	if got := len(w.checked); got != days {
		t.Errorf("%d days were checked, want %d", got, days)
	}
	for day, n := range w.checked {
		if n != 1 {
			t.Errorf("%s was checked %d times, want once", day, n)
		}
	}
}

// TestTasksAreShort: a tenant's tasks of many minutes are in the queue before the one of another tenant.
func TestTasksAreShort(t *testing.T) {
	w := newWorkers(t, 40)
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	const tasks = 40 / 20
	if got := len(w.queue); got != tasks {
		t.Fatalf("the days are in %d tasks, want %d", got, tasks)
	}
	w.queue = append(w.queue, message{tenant: "globex", input: json.RawMessage("[]")})
	asked, began := w.now(), time.Time{}
	longest := w.work(t, func(m message) {
		if m.tenant == "globex" {
			began = w.now()
		}
	})
	if most := sliceTime + w.takes; longest > most {
		t.Errorf("a task took %s, want at most %s", longest, most)
	}
	if waited, most := began.Sub(asked), tasks*(sliceTime+w.takes); waited > most {
		t.Errorf("the other tenant waited for %s, want at most %s", waited, most)
	}
	w.wantChecked(t, 40)
	due, err := w.plan.Register.DueDays(t.Context(), activity.Index, w.now().AddDate(1, 0, 0), 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(due) > 0 {
		t.Errorf("%v is due, want none: all were checked", due)
	}
}

// TestEachTaskChecksADay: each takes longer than a task may.
func TestEachTaskChecksADay(t *testing.T) {
	w := newWorkers(t, 20)
	w.takes = 4 * time.Minute
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if longest := w.work(t, func(message) {}); longest > w.takes {
		t.Errorf("a task took %s, want at most %s", longest, w.takes)
	}
	w.wantChecked(t, 20)
}

// TestDaysAreLeftWhileOthersFail: those that failed are due again when their claims end.
func TestDaysAreLeftWhileOthersFail(t *testing.T) {
	w := newWorkers(t, 20)
	w.task.AtOnce = 0 // several at once
	w.fails = func(day activity.Day) error {
		if day.Day.Day()%2 == 0 {
			return errors.New("down")
		}
		return nil
	}
	failed := 0
	w.task.Failed = func(_ context.Context, tenant audit.TenantID, days int) {
		if tenant != "t0" {
			t.Errorf("days of %q failed, want t0", tenant)
		}
		failed += days
	}
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.work(t, func(message) {})
	odd := len(w.checked)
	if failed != 20-odd {
		t.Errorf("told of %d days that failed, want %d", failed, 20-odd)
	}
	if odd < 9 || odd > 11 {
		t.Errorf("%d days were checked, want every second of 20", odd)
	}
	w.mu.Lock()
	w.time, w.fails = w.time.Add(time.Hour), nil
	w.mu.Unlock()
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.work(t, func(message) {})
	w.wantChecked(t, 20)
}

// TestACheckGoesOn: it gets what its earlier steps have left, and the day is not shared out meanwhile. One of the
// steps fails in a way that does not stop the check.
func TestACheckGoesOn(t *testing.T) {
	w := newWorkers(t, 1)
	want := activity.Progress{Began: start, After: audit.NewEntryID(start, [10]byte{1}), AfterItem: "item", Wake: start.Add(time.Hour)}
	steps := 0
	w.task.Check = func(_ context.Context, _ *audit.Tenant, day activity.Day) (activity.Outcome, error) {
		w.time = w.time.Add(10 * time.Minute)
		if err := w.plan.Run(t.Context()); err != nil {
			t.Error(err)
		}
		if steps++; steps == 1 {
			if day.Progress != (activity.Progress{}) {
				t.Errorf("the first step got %+v, want nothing", day.Progress)
			}
			if want := start.Add(sliceTime); !day.Until.Equal(want) {
				t.Errorf("the step has time until %s, want %s", day.Until, want)
			}
		} else if diff := cmp.Diff(want, day.Progress); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", steps, diff)
		}
		switch steps {
		case 9:
			return activity.Outcome{Checks: 7, Due: w.time.Add(5 * time.Hour)}, nil
		case 5:
			return activity.Outcome{Stopped: true, Progress: want}, errors.New("not all was known")
		}
		return activity.Outcome{Stopped: true, Progress: want}, nil
	}
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	tasks := 0
	w.work(t, func(message) { tasks++ })
	if steps != 9 || tasks != steps {
		t.Errorf("%d steps in %d tasks, want 9 in as many", steps, tasks)
	}
	w.wantDue(t, w.time.Add(5*time.Hour))
}

// firstDay is the day of a backlog of one.
var firstDay = activity.Day{Work: activity.Index, Tenant: "t0", Receipt: activity.Receipt{Day: start.Truncate(24 * time.Hour)}}

func (w *workers) wantDue(t *testing.T, want time.Time) {
	t.Helper()
	if due, _, err := w.plan.Register.DueAt(t.Context(), firstDay); err != nil || !due.Equal(want) {
		t.Errorf("the day is due at %s, want %s (%v)", due, want, err)
	}
}

// TestAnOldTaskPutsNothingOff: a worker sleeps until the claim of its day has ended. Meanwhile the day is shared out
// again, and checked or not. Then the check of the worker stops, or comes to its end.
func TestAnOldTaskPutsNothingOff(t *testing.T) {
	for name, stops := range map[string]bool{"stops": true, "ends": false} {
		for when, checked := range map[string]bool{"checked": true, "shared out": false} {
			t.Run(name+" after the day was "+when, func(t *testing.T) {
				w := newWorkers(t, 1)
				var want time.Time
				steps := 0
				w.task.Check = func(ctx context.Context, _ *audit.Tenant, _ activity.Day) (activity.Outcome, error) {
					if steps++; steps > 1 {
						want = w.time.Add(20 * time.Minute)
						return activity.Outcome{Checks: 1, Due: want}, nil
					}
					w.time = w.time.Add(61 * time.Minute)
					if err := w.plan.Run(ctx); err != nil {
						t.Error(err)
					}
					want = w.time.Add(time.Hour) // of the new claim
					if checked {
						m := w.queue[0]
						w.queue = nil
						if err := w.task.Do(ctx, m.tenant, m.input); err != nil {
							t.Error(err)
						}
					}
					w.time = w.time.Add(time.Minute)
					return activity.Outcome{Stopped: stops, Due: w.time.Add(30 * 24 * time.Hour)}, nil
				}
				if err := w.plan.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				m := w.queue[0]
				w.queue = nil
				if err := w.task.Do(t.Context(), m.tenant, m.input); err != nil {
					t.Fatal(err)
				}
				w.wantDue(t, want)
				w.work(t, func(message) {})
				if steps != 2 {
					t.Errorf("the day was checked %d times, want twice: the task that the old one sent is old too", steps)
				}
				w.wantDue(t, want)
			})
		}
	}
}

// TestATaskThatOvertakesItsClaim: it comes before the one that sent it has claimed the day.
func TestATaskThatOvertakesItsClaim(t *testing.T) {
	w := newWorkers(t, 1)
	w.task.Continue = func(ctx context.Context, tenant audit.TenantID, days []activity.DueDay) error {
		input, err := json.Marshal(days)
		if err == nil {
			err = w.task.Do(ctx, tenant, input)
		}
		return err
	}
	steps, want := 0, start.Add(5*time.Hour)
	w.task.Check = func(context.Context, *audit.Tenant, activity.Day) (activity.Outcome, error) {
		w.time = w.time.Add(time.Second)
		steps++
		return activity.Outcome{Checks: 1, Due: want, Stopped: steps < 4}, nil
	}
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.work(t, func(message) {})
	if steps != 4 {
		t.Errorf("the check took %d steps, want 4", steps)
	}
	w.wantDue(t, want)
}

// TestAClaimIsNeverShortened: the step of a worker whose clock is ahead, and that of a check of hours, claim for longer
// than the next one would.
func TestAClaimIsNeverShortened(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"of a check of hours": 0, "of a clock that is ahead": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			const days = 4
			w := newWorkers(t, days)
			steps, due := 0, start.Add(100*time.Hour)
			w.task.Check = func(context.Context, *audit.Tenant, activity.Day) (activity.Outcome, error) {
				steps++
				w.time = w.time.Add(2 * sliceTime) // no further day is begun
				switch steps {
				case 1:
					w.time = w.time.Add(ahead)
				case 2:
					w.time = w.time.Add(-ahead)
				}
				if steps < 3 {
					return activity.Outcome{Stopped: true, Progress: activity.Progress{Began: start}}, nil
				}
				return activity.Outcome{Checks: 1, Due: due}, nil
			}
			if err := w.plan.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.work(t, func(message) {})
			if steps < days+1 || steps > days+2 {
				t.Errorf("%d steps, want one for each day and those that went on", steps)
			}
			left, err := w.plan.Register.DueDays(t.Context(), activity.Index, due.Add(-time.Minute), 10)
			if err != nil || len(left) > 0 {
				t.Errorf("%d days are due before their checks said (%v), want none", len(left), err)
			}
			w.wantDue(t, due)
		})
	}
}

// TestTwoRunsShareADayOutOnce: both have read the same day. The task of one of them is old.
func TestTwoRunsShareADayOutOnce(t *testing.T) {
	w := newWorkers(t, 1)
	days, err := w.plan.Register.DueDays(t.Context(), activity.Index, start, 1)
	if err != nil {
		t.Fatal(err)
	}
	other := *w.plan
	other.Register = &staleRegister{w.plan.Register, days}
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.time = w.time.Add(time.Second)
	if err := other.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.work(t, func(message) {})
	w.wantChecked(t, 1)
}

// staleRegister lists the days as they were read before, once.
type staleRegister struct {
	activity.Register
	days []activity.Day
}

func (r *staleRegister) DueDays(context.Context, activity.Work, time.Time, int) ([]activity.Day, error) {
	days := r.days
	r.days = nil
	return days, nil
}

// TestAFailureKeepsThePlace: a day whose check has gone on fails while the other days of its task are done, then again
// alone, and then its worker is killed.
func TestAFailureKeepsThePlace(t *testing.T) {
	w := newWorkers(t, 3)
	place := activity.Progress{Began: start, After: audit.NewEntryID(start, [10]byte{1})}
	large := start.Truncate(24 * time.Hour)
	down := errors.New("down")
	steps := []activity.Outcome{{Stopped: true, Progress: place}, {}, {}, {Checks: 1}}
	failures := []error{nil, down, down, nil}
	var began []activity.Progress
	w.task.Check = func(_ context.Context, _ *audit.Tenant, day activity.Day) (activity.Outcome, error) {
		if !day.Day.Equal(large) {
			if day.Progress == (activity.Progress{}) {
				return activity.Outcome{Stopped: true, Progress: place}, nil
			}
			return activity.Outcome{Checks: 1}, nil
		}
		n := len(began)
		began = append(began, day.Progress)
		return steps[n], failures[n]
	}
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	do := func() error {
		t.Helper()
		if len(w.queue) != 1 {
			t.Fatalf("%d tasks are queued, want one", len(w.queue))
		}
		return w.task.Do(t.Context(), w.queue[0].tenant, w.queue[0].input)
	}
	for range 2 { // all days stop; the large one fails, and the others are done
		if err := do(); err != nil {
			t.Fatal(err)
		}
		w.queue = w.queue[1:]
	}
	if err := do(); !errors.Is(err, down) { // the message stays in the queue
		t.Errorf("the task of the day alone returned %v, want %v", err, down)
	}
	w.time = w.time.Add(115 * time.Minute) // a killed worker has had the message
	if err := w.plan.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := do(); err != nil {
		t.Fatal(err)
	}
	want := []activity.Progress{{}, place, place, place}
	if diff := cmp.Diff(want, began); diff != "" {
		t.Errorf("the steps began from (-want +got):\n%s", diff)
	}
}
