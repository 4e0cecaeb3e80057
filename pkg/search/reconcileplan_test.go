package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// world is a store, an index, a list of tenants and what was published.
type world struct {
	clock   time.Time
	tenants []audit.Tenant
	// stored has the entries of every tenant, in the order of their ids.
	stored []audit.Entry
	// list is asked before each list of ids.
	list func(ctx context.Context, tenant audit.TenantID) error

	register register

	mu        sync.Mutex
	published []search.Reconciliation
	log       strings.Builder
}

func (w *world) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	i := slices.IndexFunc(w.tenants, func(t audit.Tenant) bool { return t.ID == id })
	if i < 0 {
		return audit.Tenant{}, audit.ErrNotFound
	}
	return w.tenants[i], nil
}

func (w *world) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	if w.list != nil {
		if err := w.list(ctx, tenant); err != nil {
			return nil, err
		}
	}
	var ids []audit.EntryID
	for _, e := range w.stored {
		if !e.Timestamp.Before(from) && (to.IsZero() || e.Timestamp.Before(to)) && slices.Compare(e.ID[:], after[:]) > 0 && len(ids) < limit {
			ids = append(ids, e.ID)
		}
	}
	return ids, nil
}

func (w *world) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (n int64, err error) {
	if w.list != nil {
		err = w.list(ctx, tenant)
	}
	for _, e := range w.stored {
		if !e.Timestamp.Before(from) && e.Timestamp.Before(to) {
			n++
		}
	}
	return n, err
}

func (w *world) publish(r search.Reconciliation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.published = append(w.published, r)
	return nil
}

// register is the register of active days.
type register struct {
	mu   sync.Mutex
	days []registered
	err  error // of Check and Claim
}

type registered struct {
	activity.Day
	due time.Time // zero: none
}

func (r *register) TouchAll(context.Context, activity.Work, audit.TenantID, time.Time) error {
	panic("the reconciler touches no day")
}

func (r *register) Touch(context.Context, audit.TenantID, []activity.Receipt, time.Time) error {
	panic("the reconciler touches no day")
}

func (r *register) add(tenant audit.TenantID, ago int, due time.Time) {
	r.days = append(r.days, registered{activity.Day{Work: activity.Index, Tenant: tenant, Receipt: activity.Receipt{Day: now.Truncate(24*time.Hour).AddDate(0, 0, -ago)}, Touches: 1}, due})
}

func (r *register) DueDays(_ context.Context, _ activity.Work, at time.Time, limit int) ([]activity.Day, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.days, func(a, b registered) int { return a.due.Compare(b.due) })
	var due []activity.Day
	for _, d := range r.days {
		if !d.due.IsZero() && !d.due.After(at) && len(due) < min(limit, 3) {
			due = append(due, d.Day)
		}
	}
	return due, nil
}

func (r *register) Claim(ctx context.Context, days []activity.Day, until time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || ctx.Err() != nil {
		return errors.Join(r.err, ctx.Err())
	}
	for _, day := range days {
		for i := range r.days {
			if d := &r.days[i]; d.Tenant == day.Tenant && d.Receipt.Day.Equal(day.Day) && !d.due.IsZero() && d.due.Before(until) && d.Claimed.Equal(day.Claimed) {
				d.due, d.Claimed = until, until
			}
		}
	}
	return nil
}

func (r *register) DueAt(_ context.Context, day activity.Day) (due, claimed time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.days {
		if d.Tenant == day.Tenant && d.Receipt.Day.Equal(day.Day) {
			return d.due, d.Claimed, nil
		}
	}
	return time.Time{}, time.Time{}, nil
}

func (r *register) Check(ctx context.Context, day activity.Day, due time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || ctx.Err() != nil {
		return errors.Join(r.err, ctx.Err())
	}
	for i := range r.days {
		if d := &r.days[i]; d.Tenant == day.Tenant && d.Receipt.Day.Equal(day.Day) && d.Touches == day.Touches && d.Claimed.Equal(day.Claimed) {
			d.Checks, d.due, d.Claimed = day.Checks, due, time.Time{}
		}
	}
	return nil
}

// due returns when a day is due.
func (r *register) due(tenant audit.TenantID, ago int) time.Time {
	for _, d := range r.days {
		if d.Tenant == tenant && d.Receipt.Day.Equal(now.Truncate(24*time.Hour).AddDate(0, 0, -ago)) {
			return d.due
		}
	}
	return time.Time{}
}

const grace = time.Hour

// reconcileRun is a run of the plan, and the tasks that it sends.
type reconcileRun struct {
	plan      activity.Plan
	reconcile search.ReconcileTask
	task      activity.Task
	tasks     []sharedDays
}

type sharedDays struct {
	tenant audit.TenantID
	input  json.RawMessage
}

func (w *world) reconcileRun() *reconcileRun {
	log, clock := slog.New(slog.NewJSONHandler(&w.log, nil)), func() time.Time { return w.clock }
	r := &reconcileRun{reconcile: search.ReconcileTask{Reconciler: &search.Reconciler{Store: w, Index: w, Grace: grace, Now: clock}, Publish: w.publish}}
	r.task = activity.Task{Work: activity.Index, Register: &w.register, Tenants: w, Check: r.reconcile.Check, SliceTime: time.Minute, Now: clock, Log: log}
	r.plan = activity.Plan{Work: activity.Index, Register: &w.register, Now: clock, Log: log, Share: func(_ context.Context, tenant audit.TenantID, days []activity.DueDay) error {
		input, err := json.Marshal(days)
		w.mu.Lock()
		defer w.mu.Unlock()
		r.tasks = append(r.tasks, sharedDays{tenant, input})
		return err
	}}
	return r
}

// Run plans and does every task.
func (r *reconcileRun) Run(ctx context.Context) error {
	errs := []error{r.plan.Run(ctx)}
	for _, task := range r.tasks {
		errs = append(errs, r.task.Do(ctx, task.tenant, task.input))
	}
	return errors.Join(errs...)
}

// days returns the days that were published of a tenant, as how long ago they were.
func (w *world) days(tenant audit.TenantID) []int {
	var ago []int
	for _, r := range w.published {
		if r.Tenant == tenant {
			ago = append(ago, int(w.clock.Truncate(24*time.Hour).Sub(r.Day)/(24*time.Hour)))
		}
	}
	return ago
}

func tenant(id audit.TenantID, status audit.TenantStatus, retention int) audit.Tenant {
	t := audit.Tenant{ID: id, Status: status, Settings: audit.DefaultSettings()}
	t.Settings.RetentionDays = retention
	return t
}

// oneEachDay returns an entry for each of the n days before.
func oneEachDay(n int) []audit.Entry {
	var entries []audit.Entry
	for i := n; i >= 0; i-- {
		at := now.AddDate(0, 0, -i)
		entries = append(entries, storedEntry(i, at, at))
	}
	return entries
}

func TestReconcileRunComparesTheDaysThatAreDue(t *testing.T) {
	w := &world{clock: now, stored: oneEachDay(9), tenants: []audit.Tenant{
		tenant("a", audit.TenantActive, 0), tenant("b", audit.TenantSuspended, 365), tenant("c", audit.TenantDeleting, 0), tenant("d", audit.TenantActive, 5),
	}}
	for _, id := range []audit.TenantID{"a", "b", "c", "d", "gone"} {
		for ago := range 8 {
			w.register.add(id, ago, now.Add(-time.Duration(ago)*time.Minute))
		}
	}
	w.register.add("a", 8, now.Add(time.Millisecond)) // later
	if err := w.reconcileRun().Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for id, want := range map[audit.TenantID][]int{"a": all, "b": all, "c": nil, "d": all[:6], "gone": nil} {
		got := w.days(id)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("of %s the days %v ago were compared, want %v", id, got, want)
		}
	}
	for _, r := range w.published {
		if r.Stored != 1 {
			t.Errorf("%+v: %d entries are stored, want 1", r, r.Stored)
		}
	}
	if w.log.Len() > 0 {
		t.Errorf("logged %s, want nothing", &w.log)
	}
	if due := w.register.due("a", 3); !due.Equal(now.Add(grace)) {
		t.Errorf("a day without a difference is due at %v, want %v", due, now.Add(grace))
	}
	for _, c := range []struct {
		tenant audit.TenantID
		ago    int
	}{{"c", 3}, {"gone", 3}} {
		if due := w.register.due(c.tenant, c.ago); !due.IsZero() {
			t.Errorf("the day %d ago of %s is due at %v, want never: the tenant is gone", c.ago, c.tenant, due)
		}
	}
	if due, want := w.register.due("d", 7), now.AddDate(0, 0, 360); !due.Equal(want) { // until the settings change
		t.Errorf("a day that nobody sees is due at %v, want %v", due, want)
	}
	w.clock = now.Add(grace) // the second check
	if err := w.reconcileRun().Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if due, want := w.register.due("a", 3), w.clock.AddDate(0, 0, 30); !due.Equal(want) {
		t.Errorf("a day with two checks is due at %v, want %v", due, want)
	}
}

// Two comparisons follow the last entry of a day, and others after 30, 90, 210 and 450 days.
func TestChecksAfter(t *testing.T) {
	for visible, want := range map[time.Duration]int{0: 2, 30*24*time.Hour - 1: 2, 30 * 24 * time.Hour: 3, 365 * 24 * time.Hour: 5, 450 * 24 * time.Hour: 6} {
		if got := search.ChecksAfter(visible); got != want {
			t.Errorf("a day that is visible for %s is compared %d times, want %d", visible, got, want)
		}
	}
}

func TestReconcileRunOfNothing(t *testing.T) {
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
	if err := w.reconcileRun().Run(t.Context()); err != nil {
		t.Error(err)
	}
	if len(w.published) > 0 {
		t.Errorf("compared %v although no day is due, want nothing", w.published)
	}
}

func TestReconcileRunGoesOnWhereOneTenantFails(t *testing.T) {
	w := &world{clock: now, stored: oneEachDay(2)}
	for i := range 20 {
		id := audit.TenantID(fmt.Sprintf("t%02d", i))
		w.tenants = append(w.tenants, tenant(id, audit.TenantActive, 0))
		w.register.add(id, 0, now)
	}
	w.list = func(_ context.Context, tenant audit.TenantID) error {
		if tenant == "t03" || tenant == "t04" {
			return errors.New("the store is down")
		}
		return nil
	}
	err := w.reconcileRun().Run(t.Context())
	for _, want := range []string{"check 1 days of t03", "check 1 days of t04"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got the error %v, want %q in it: the task is to be repeated", err, want)
		}
	}
	if got := len(w.published); got != 18 {
		t.Errorf("%d days were compared, want 18", got)
	}
	log := w.log.String()
	if got := strings.Count(log, "\n"); got != 2 {
		t.Errorf("%d lines are logged, want 2", got)
	}
	for _, want := range []string{`"tenant":"t03"`, "the store is down"} {
		if !strings.Contains(log, want) {
			t.Errorf("logged %s, want %s in it", log, want)
		}
	}
	if due := w.register.due("t03", 0); !due.After(now) {
		t.Errorf("the day that failed is due at %v, want later than %v", due, now)
	}
}

func TestReconcileRunSaysThatItsResultIsNotPublished(t *testing.T) {
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
	w.register.add("a", 0, now)
	s := w.reconcileRun()
	s.reconcile.Publish = func(search.Reconciliation) error { return errors.New("closed") }
	if err := s.Run(t.Context()); err == nil {
		t.Error("a report that fails: got no error, want one")
	}
	if !strings.Contains(w.log.String(), "closed") {
		t.Errorf("logged %s, want the cause in it", &w.log)
	}
}

// TestReconcileRunEndsWhereNothingCanBeClaimed: the store of the register is down.
func TestReconcileRunEndsWhereNothingCanBeClaimed(t *testing.T) {
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
	w.register.add("a", 0, now)
	w.register.err = errors.New("down")
	if err := w.reconcileRun().Run(t.Context()); err == nil {
		t.Error("a register that is down: got no error, want one")
	}
	if len(w.published) > 0 {
		t.Errorf("compared %v, want nothing", w.published)
	}
}

// TestReconcileTaskWhoseTimeIsUp: one day takes longer than the task may. The others are
// compared, and the task is repeated.
func TestReconcileTaskWhoseTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
		var days []activity.DueDay
		for ago := range 8 {
			w.register.add("a", ago, now)
			w.register.days[ago].Claimed = now
			days = append(days, activity.DueDay{Day: now.Truncate(24*time.Hour).AddDate(0, 0, -ago), Touches: 1, Due: now})
		}
		var counts atomic.Int64
		w.list = func(ctx context.Context, _ audit.TenantID) error {
			if counts.Add(1) > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		input, err := json.Marshal(days)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.reconcileRun().task.Do(ctx, "a", input); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got the error %v, want that the time ran out", err)
		}
		if got := len(w.days("a")); got != 7 {
			t.Errorf("%d days were compared, want 7", got)
		}
	})
}

// TestReconcileSharesOut: a tenant with many days gets several tasks, and no day is in two.
func TestReconcileSharesOut(t *testing.T) {
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0), tenant("b", audit.TenantActive, 0)}}
	for ago := range 70 {
		w.register.add("a", ago, now)
	}
	w.register.add("b", 0, now)
	r := w.reconcileRun()
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.reconcileRun().Run(t.Context()); err != nil { // no day is due again
		t.Fatal(err)
	}
	for id, want := range map[audit.TenantID]int{"a": 70, "b": 1} {
		got := w.days(id)
		slices.Sort(got)
		if unique := len(slices.Compact(got)); unique != want || len(w.days(id)) != want {
			t.Errorf("%d days of %s were compared %d times, want %d once each", unique, id, len(w.days(id)), want)
		}
	}
	for _, task := range r.tasks {
		if n := strings.Count(string(task.input), "day"); n > 20 {
			t.Errorf("a task has %d days, want at most 20", n)
		}
	}
}

// TestReconcileComparesEverMoreRarely: a day without a difference.
func TestReconcileComparesEverMoreRarely(t *testing.T) {
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
	w.register.add("a", 0, now)
	var waits []string
	for range 9 {
		if err := w.reconcileRun().Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		due := w.register.days[0].due
		waits = append(waits, fmt.Sprint(due.Sub(w.clock).Hours()))
		w.clock = due
	}
	if got, want := strings.Join(waits, " "), "1 720 1440 2880 5760 8640 8640 8640 8640"; got != want {
		t.Errorf("the hours until the next comparison are %s, want %s", got, want)
	}
}

func TestReconcileTaskThatCannotBeRead(t *testing.T) {
	if err := (&world{}).reconcileRun().task.Do(t.Context(), "a", json.RawMessage(`{}`)); !errors.Is(err, audit.ErrUnreadable) {
		t.Errorf("got %v, want ErrUnreadable", err)
	}
}

// TestReconcileRunOverTwentyThousandTenants counts the commands of a run: it reads pages of
// the register and counts the days that are due, whatever the number of tenants.
func TestReconcileRunOverTwentyThousandTenants(t *testing.T) {
	const tenants, active = 20_000, 300
	w := &world{clock: now}
	for i := range tenants {
		id := audit.TenantID(fmt.Sprintf("t%05d", i))
		w.tenants = append(w.tenants, tenant(id, audit.TenantActive, 0))
		if i < active {
			w.register.add(id, 0, now)
		} else {
			w.register.add(id, 0, now.AddDate(0, 0, 30))
		}
	}
	var commands atomic.Int64
	w.list = func(context.Context, audit.TenantID) error {
		commands.Add(1)
		return nil
	}
	if err := w.reconcileRun().Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := commands.Load(), int64(2*active); got != want {
		t.Errorf("%d commands were sent to store and index, want %d: two counts for each day that is due", got, want)
	}
	if got := len(w.published); got != active {
		t.Errorf("%d days were compared, want %d", got, active)
	}
}

// TestReconcileTaskThatIsOld: a task waited so long that its day was shared out again. Only the
// newer one compares, and doing it twice does nothing.
func TestReconcileTaskThatIsOld(t *testing.T) {
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
	w.register.add("a", 0, now)
	r := w.reconcileRun()
	for range 3 {
		if err := r.plan.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.clock = w.clock.Add(2 * time.Hour)
	}
	if got := len(r.tasks); got != 3 {
		t.Fatalf("%d tasks were sent, want 3", got)
	}
	for range 2 {
		for _, task := range r.tasks {
			if err := r.task.Do(t.Context(), task.tenant, task.input); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := len(w.days("a")); got != 1 {
		t.Errorf("the day was compared %d times, want once", got)
	}
}
