package conformance

import (
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// ActivityRegister is an adapter of search.Activity.
type ActivityRegister interface {
	search.Activity
	jobs.Purger
}

// Activity tests an adapter of search.Activity and jobs.Purger. The register that open
// returns must be empty.
func Activity(t *testing.T, open func(t *testing.T) ActivityRegister) {
	t.Run("DaysAreDueOnceTouched", func(t *testing.T) { daysAreDue(t, open(t)) })
	t.Run("ACheckedDayIsDueAgainWhenTouched", func(t *testing.T) { checkedDaysReturn(t, open(t)) })
	t.Run("ATouchDuringACheckWins", func(t *testing.T) { touchesWin(t, open(t)) })
	t.Run("TouchesAtOnce", func(t *testing.T) { touchesAtOnce(t, open(t)) })
	t.Run("PurgeForgetsOneTenant", func(t *testing.T) { activityPurges(t, open(t)) })
}

// activityDay is the first day of the suites, activityDue when it is due.
var (
	activityDay = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	activityDue = time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
)

func touch(t *testing.T, a search.Activity, tenant audit.TenantID, due time.Time, days ...int) {
	t.Helper()
	var all []time.Time
	for _, n := range days {
		all = append(all, activityDay.AddDate(0, 0, n))
	}
	noError(t, a.Touch(t.Context(), tenant, all, due))
}

func dueAt(t *testing.T, a search.Activity, at time.Time, limit int) []search.ActiveDay {
	t.Helper()
	return must[[]search.ActiveDay](t)(a.DueDays(t.Context(), at, limit))
}

func activeDay(tenant audit.TenantID, day int, touches int64) search.ActiveDay {
	return search.ActiveDay{Tenant: tenant, Day: activityDay.AddDate(0, 0, day), Touches: touches}
}

func daysAreDue(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	other := tenant + "-2"
	same(t, dueAt(t, a, activityDue, 10), nil)
	touch(t, a, tenant, activityDue.Add(time.Millisecond), 0, -20_000, 400)
	touch(t, a, other, activityDue, 0)
	same(t, dueAt(t, a, activityDue.Add(-time.Millisecond), 10), nil)
	same(t, dueAt(t, a, activityDue, 10), []search.ActiveDay{activeDay(other, 0, 1)})
	same(t, must[time.Time](t)(a.DueAt(t.Context(), other, activityDay)), activityDue)
	same(t, must[time.Time](t)(a.DueAt(t.Context(), other, activityDay.AddDate(0, 0, 1))), time.Time{})
	if got := len(dueAt(t, a, activityDue.Add(time.Millisecond), 10)); got != 4 {
		t.Errorf("%d days are due, want 4", got)
	}
	same(t, dueAt(t, a, activityDue.Add(time.Hour), 1), []search.ActiveDay{activeDay(other, 0, 1)}) // the one that waits longest
	touch(t, a, other, activityDue.Add(time.Hour), 0)
	same(t, dueAt(t, a, activityDue, 10), []search.ActiveDay{activeDay(other, 0, 2)}) // a touch does not put it off
}

func checkedDaysReturn(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0)
	day := dueAt(t, a, activityDue, 10)[0]
	day.Checks = 1
	noError(t, a.Check(t.Context(), day, activityDue.Add(time.Hour)))
	same(t, dueAt(t, a, activityDue, 10), nil)
	same(t, dueAt(t, a, activityDue.Add(time.Hour), 10), []search.ActiveDay{day})
	day.Checks = 2
	noError(t, a.Check(t.Context(), day, time.Time{}))
	same(t, dueAt(t, a, activityDue.AddDate(10, 0, 0), 10), nil)
	touch(t, a, tenant, activityDue.Add(2*time.Hour), 0)
	same(t, dueAt(t, a, activityDue.Add(time.Hour), 10), nil)
	same(t, dueAt(t, a, activityDue.Add(2*time.Hour), 10), []search.ActiveDay{activeDay(tenant, 0, 2)})
	day = dueAt(t, a, activityDue.Add(2*time.Hour), 10)[0]
	day.Checks = 1
	noError(t, a.Check(t.Context(), day, activityDue.Add(9*time.Hour)))
	touch(t, a, tenant, activityDue.Add(3*time.Hour), 0) // its first check was too early
	same(t, dueAt(t, a, activityDue.Add(3*time.Hour), 10), []search.ActiveDay{activeDay(tenant, 0, 3)})
}

func touchesWin(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0)
	day := dueAt(t, a, activityDue, 10)[0]
	touch(t, a, tenant, activityDue, 0)
	day.Checks = 2
	noError(t, a.Check(t.Context(), day, time.Time{})) // it saw the entries before the touch only
	same(t, dueAt(t, a, activityDue, 10), []search.ActiveDay{activeDay(tenant, 0, 2)})
	noError(t, a.Check(t.Context(), activeDay(tenant, 7, 1), activityDue)) // a day that is not registered
	same(t, dueAt(t, a, activityDue, 10), []search.ActiveDay{activeDay(tenant, 0, 2)})
}

func touchesAtOnce(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	const writers = 8
	errs := make(chan error, writers)
	for range writers {
		go func() { errs <- a.Touch(t.Context(), tenant, []time.Time{activityDay}, activityDue) }()
	}
	for range writers {
		noError(t, <-errs)
	}
	same(t, dueAt(t, a, activityDue, 10), []search.ActiveDay{activeDay(tenant, 0, writers)})
}

func activityPurges(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	other := tenant + "-2"
	touch(t, a, tenant, activityDue, 0, 1, 2, 3, 4)
	touch(t, a, other, activityDue, 0)
	if n := purgeAll(t, a, tenant, 2); n != 5 {
		t.Errorf("Purge removed %d days, want 5", n)
	}
	same(t, dueAt(t, a, activityDue, 10), []search.ActiveDay{activeDay(other, 0, 1)})
}
