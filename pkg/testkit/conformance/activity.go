package conformance

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// ActivityRegister is an adapter of activity.Register and cleanup.DayRegister.
type ActivityRegister interface {
	activity.Register
	cleanup.DayRegister
	jobs.CountedPurger
}

// Activity tests an adapter of activity.Register, cleanup.DayRegister and jobs.CountedPurger. The register that open
// returns must be empty.
func Activity(t *testing.T, open func(t *testing.T) ActivityRegister) {
	t.Run("DaysAreDueOnceTouched", func(t *testing.T) { daysAreDue(t, open(t)) })
	t.Run("ACheckedDayIsDueAgainWhenTouched", func(t *testing.T) { checkedDaysReturn(t, open(t)) })
	t.Run("ATouchDuringACheckWins", func(t *testing.T) { touchesWin(t, open(t)) })
	t.Run("AClaimedDayWaits", func(t *testing.T) { claimedDaysWait(t, open(t)) })
	t.Run("AClaimIsToldFromAnother", func(t *testing.T) { claimsAreTold(t, open(t)) })
	t.Run("TouchesAtOnce", func(t *testing.T) { touchesAtOnce(t, open(t)) })
	t.Run("EachKindOfWorkHasItsRecords", func(t *testing.T) { kindsAreApart(t, open(t)) })
	t.Run("ATouchDoesNotMakePruningDue", func(t *testing.T) { pruningStays(t, open(t)) })
	t.Run("AllDaysOfATenantReturn", func(t *testing.T) { allDaysReturn(t, open(t)) })
	t.Run("SomeDaysOfOneWorkReturn", func(t *testing.T) { someDaysReturn(t, open(t)) })
	t.Run("FreshDaysWaitForRetention", func(t *testing.T) { freshDaysWait(t, open(t)) })
	t.Run("DaysAreArchivedOnceADay", func(t *testing.T) { archivedDaysWait(t, open(t)) })
	t.Run("PurgeForgetsOneTenant", func(t *testing.T) { activityPurges(t, open(t)) })
}

// activityDay is the first day of the suites, activityDue when it is due.
var (
	activityDay = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	activityDue = time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
)

func touch(t *testing.T, a activity.Register, tenant audit.TenantID, due time.Time, days ...int) {
	t.Helper()
	var all []activity.Receipt
	for _, n := range days {
		all = append(all, activity.Receipt{Received: activityDay, Day: activityDay.AddDate(0, 0, n)})
	}
	noError(t, a.Touch(t.Context(), tenant, all, due))
}

func dueAt(t *testing.T, a activity.Register, at time.Time, limit int) []activity.Day {
	t.Helper()
	return must[[]activity.Day](t)(a.DueDays(t.Context(), activity.Index, at, limit))
}

// whenDue returns when a day is due.
func whenDue(t *testing.T, a activity.Register, day activity.Day) time.Time {
	t.Helper()
	due, _, err := a.DueAt(t.Context(), day)
	noError(t, err)
	return due
}

func activeDay(tenant audit.TenantID, day int, touches int64) activity.Day {
	return activity.Day{Work: activity.Index, Tenant: tenant, Receipt: activity.Receipt{Day: activityDay.AddDate(0, 0, day)}, Touches: touches}
}

func daysAreDue(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	other := tenant + "-2"
	same(t, dueAt(t, a, activityDue, 10), nil)
	touch(t, a, tenant, activityDue.Add(time.Millisecond), 0, -20_000, 400)
	touch(t, a, other, activityDue, 0)
	same(t, dueAt(t, a, activityDue.Add(-time.Millisecond), 10), nil)
	same(t, dueAt(t, a, activityDue, 10), []activity.Day{activeDay(other, 0, 1)})
	same(t, whenDue(t, a, activeDay(other, 0, 0)), activityDue)
	same(t, whenDue(t, a, activeDay(other, 1, 0)), time.Time{})
	if got := len(dueAt(t, a, activityDue.Add(time.Millisecond), 10)); got != 4 {
		t.Errorf("%d days are due, want 4", got)
	}
	same(t, dueAt(t, a, activityDue.Add(time.Hour), 1), []activity.Day{activeDay(other, 0, 1)}) // the one that waits longest
	touch(t, a, other, activityDue.Add(time.Hour), 0)
	same(t, dueAt(t, a, activityDue, 10), []activity.Day{activeDay(other, 0, 2)}) // a touch does not put it off
}

func checkedDaysReturn(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0)
	day := dueAt(t, a, activityDue, 10)[0]
	day.Checks = 1
	noError(t, a.Check(t.Context(), day, activityDue.Add(time.Hour)))
	same(t, dueAt(t, a, activityDue, 10), nil)
	same(t, dueAt(t, a, activityDue.Add(time.Hour), 10), []activity.Day{day})
	day.Checks = 2
	noError(t, a.Check(t.Context(), day, time.Time{}))
	same(t, dueAt(t, a, activityDue.AddDate(10, 0, 0), 10), nil)
	touch(t, a, tenant, activityDue.Add(2*time.Hour), 0)
	same(t, dueAt(t, a, activityDue.Add(time.Hour), 10), nil)
	same(t, dueAt(t, a, activityDue.Add(2*time.Hour), 10), []activity.Day{activeDay(tenant, 0, 2)})
	day = dueAt(t, a, activityDue.Add(2*time.Hour), 10)[0]
	day.Checks = 1
	noError(t, a.Check(t.Context(), day, activityDue.Add(9*time.Hour)))
	touch(t, a, tenant, activityDue.Add(3*time.Hour), 0) // its first check was too early
	same(t, dueAt(t, a, activityDue.Add(3*time.Hour), 10), []activity.Day{activeDay(tenant, 0, 3)})
}

func touchesWin(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0)
	day := dueAt(t, a, activityDue, 10)[0]
	touch(t, a, tenant, activityDue, 0)
	day.Checks = 2
	noError(t, a.Check(t.Context(), day, time.Time{})) // it saw the entries before the touch only
	same(t, dueAt(t, a, activityDue, 10), []activity.Day{activeDay(tenant, 0, 2)})
	noError(t, a.Check(t.Context(), activeDay(tenant, 7, 1), activityDue)) // a day that is not registered
	same(t, dueAt(t, a, activityDue, 10), []activity.Day{activeDay(tenant, 0, 2)})
}

// claimedDaysWait: a claim only puts off what is due, and the touches before it and after it still count.
func claimedDaysWait(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0, 1, 2, 3)
	days := dueAt(t, a, activityDue, 10)
	slices.SortFunc(days, func(a, b activity.Day) int { return a.Day.Compare(b.Day) })
	noError(t, a.Check(t.Context(), days[1], activityDue.Add(9*time.Hour))) // meanwhile another process has checked it
	noError(t, a.Check(t.Context(), days[2], time.Time{}))
	touch(t, a, tenant, activityDue, 0)
	until := activityDue.Add(time.Hour)
	claimed := slices.Concat(days[:3], []activity.Day{activeDay(tenant, 9, 1)}) // which is not registered
	noError(t, a.Claim(t.Context(), claimed, until))
	noError(t, a.Claim(t.Context(), nil, until))
	for day, want := range []time.Time{until, activityDue.Add(9 * time.Hour), {}, activityDue} {
		same(t, whenDue(t, a, activeDay(tenant, day, 0)), want)
	}
	same(t, whenDue(t, a, claimed[3]), time.Time{})
	same(t, dueAt(t, a, activityDue, 10), days[3:])
	days[0].Claimed = until
	noError(t, a.Check(t.Context(), days[0], time.Time{})) // it has not seen the second touch
	again := activeDay(tenant, 0, 2)
	again.Claimed = until
	same(t, dueAt(t, a, until, 10), []activity.Day{days[3], again})
}

// claimsAreTold: of two that have read the same day, only the first claims it. What a worker does that had the day
// before has no effect.
func claimsAreTold(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0)
	read := dueAt(t, a, activityDue, 10)
	first, second, third := activityDue.Add(time.Hour), activityDue.Add(2*time.Hour), activityDue.Add(3*time.Hour)
	wantClaim := func(due, claimed time.Time) {
		t.Helper()
		gotDue, gotClaimed, err := a.DueAt(t.Context(), read[0])
		noError(t, err)
		same(t, []time.Time{gotDue, gotClaimed}, []time.Time{due, claimed})
	}
	wantClaim(activityDue, time.Time{})
	noError(t, a.Claim(t.Context(), read, first))
	noError(t, a.Claim(t.Context(), read, second)) // another run, which has read the day before
	wantClaim(first, first)
	claimed := dueAt(t, a, first, 10)
	same(t, claimed[0].Claimed, first)
	noError(t, a.Check(t.Context(), read[0], third)) // a worker that has no claim
	wantClaim(first, first)
	noError(t, a.TouchDays(t.Context(), read, activityDue))
	wantClaim(activityDue, first)
	claimed[0].Touches++
	noError(t, a.Claim(t.Context(), claimed, second))
	noError(t, a.Claim(t.Context(), claimed, third))    // by the claim from before
	noError(t, a.Check(t.Context(), claimed[0], third)) // likewise
	wantClaim(second, second)
	claimed[0].Claimed = second
	noError(t, a.Check(t.Context(), claimed[0], third))
	wantClaim(third, time.Time{})
	noError(t, a.Claim(t.Context(), claimed, third.Add(time.Hour))) // the day was checked
	wantClaim(third, time.Time{})
}

func touchesAtOnce(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	const writers = 8
	errs := make(chan error, writers)
	for range writers {
		go func() {
			errs <- a.Touch(t.Context(), tenant, []activity.Receipt{{Received: activityDay, Day: activityDay}}, activityDue)
		}()
	}
	for range writers {
		noError(t, <-errs)
	}
	same(t, dueAt(t, a, activityDue, 10), []activity.Day{activeDay(tenant, 0, writers)})
}

func activityPurges(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	other := tenant + "-2"
	touch(t, a, tenant, activityDue, 0, 1, 2, 3, 4)
	touch(t, a, other, activityDue, 0)
	if n := purgeAll(t, a, tenant, 2); n != 21 { // five for each kind that tells days apart, and one
		t.Errorf("Purge removed %d records, want 21", n)
	}
	same(t, dueAt(t, a, activityDue, 10), []activity.Day{activeDay(other, 0, 1)})
}

// kindsAreApart: days of receipt count for the work that tells them apart.
func kindsAreApart(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	yesterday, today := activityDay.AddDate(0, 0, -1), activityDay
	late := activity.Receipt{Received: today, Day: yesterday}
	noError(t, a.Touch(t.Context(), tenant, []activity.Receipt{{Received: yesterday, Day: yesterday}}, activityDue))
	noError(t, a.Touch(t.Context(), tenant, []activity.Receipt{late, {Received: today, Day: today}, late}, activityDue.Add(time.Minute)))
	record := func(work activity.Work, touches int64, received, day time.Time) activity.Day {
		return activity.Day{Work: work, Tenant: tenant, Receipt: activity.Receipt{Received: received, Day: day}, Touches: touches}
	}
	var none time.Time
	for work, want := range map[activity.Work][]activity.Day{
		activity.Index:  {record(activity.Index, 2, none, yesterday), record(activity.Index, 1, none, today)},
		activity.Places: {record(activity.Places, 1, yesterday, yesterday), record(activity.Places, 1, today, yesterday), record(activity.Places, 1, today, today)},
		activity.Prune:  {record(activity.Prune, 1, none, none)},
	} {
		due := must[[]activity.Day](t)(a.DueDays(t.Context(), work, activityDue.Add(time.Minute), 10))
		slices.SortFunc(due, func(a, b activity.Day) int { return cmp.Or(a.Received.Compare(b.Received), a.Day.Compare(b.Day)) })
		same(t, due, want)
	}
	checked := record(activity.Places, 1, today, yesterday)
	noError(t, a.Check(t.Context(), checked, time.Time{}))
	same(t, whenDue(t, a, checked), time.Time{})
	same(t, whenDue(t, a, record(activity.Places, 1, yesterday, yesterday)), activityDue)
	same(t, whenDue(t, a, record(activity.Index, 2, none, yesterday)), activityDue)
}

func pruningStays(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0)
	prune := activity.Day{Work: activity.Prune, Tenant: tenant, Touches: 1}
	due := func(at time.Time) []activity.Day {
		return must[[]activity.Day](t)(a.DueDays(t.Context(), activity.Prune, at, 10))
	}
	same(t, due(activityDue), []activity.Day{prune})
	later := activityDue.AddDate(0, 0, 30)
	noError(t, a.Check(t.Context(), prune, later))
	touch(t, a, tenant, activityDue.Add(time.Hour), 0, 1)
	same(t, due(later.Add(-time.Millisecond)), nil)
	same(t, due(later), []activity.Day{prune})
}

// archivedDaysWait: days are due for the archive after their end, and after that of a day on which late
// entries come.
func archivedDaysWait(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	day := activity.Day{Work: activity.Archive, Tenant: tenant, Receipt: activity.Receipt{Day: activityDay}}
	dueIs := func(want time.Time) {
		t.Helper()
		same(t, whenDue(t, a, day), want)
	}
	touch(t, a, tenant, activityDue, 0)
	dueIs(activityDay.AddDate(0, 0, 1).Add(activity.ArchiveDelay))
	day.Touches = 1
	noError(t, a.Check(t.Context(), day, time.Time{}))
	touch(t, a, tenant, activityDue.AddDate(0, 0, 9), 0)
	dueIs(activityDay.AddDate(0, 0, 10).Add(activity.ArchiveDelay))
	touch(t, a, tenant, activityDue, 1) // a day ahead
	day.Day = activityDay.AddDate(0, 0, 1)
	dueIs(activityDay.AddDate(0, 0, 2).Add(activity.ArchiveDelay))
	noError(t, a.TouchAll(t.Context(), activity.Archive, tenant+"-2", activityDue)) // of a tenant that has none
	noError(t, a.TouchAll(t.Context(), activity.Archive, tenant, activityDue))
	dueIs(activityDue)
	day.Day = activityDay
	dueIs(activityDue)
}

// someDaysReturn: a touch of some days for one kind of work.
func someDaysReturn(t *testing.T, a ActivityRegister) {
	tenant, later := newTenant(t), activityDue.AddDate(0, 0, 9)
	touch(t, a, tenant, activityDue, 0, 1)
	for _, day := range dueAt(t, a, activityDue, 10) {
		noError(t, a.Check(t.Context(), day, time.Time{}))
	}
	retain := activity.Day{Work: activity.Retain, Tenant: tenant, Receipt: activity.Receipt{Day: activityDay}}
	wait := whenDue(t, a, retain)
	noError(t, a.TouchDays(t.Context(), nil, later))
	days := []activity.Day{activeDay(tenant, 0, 0), activeDay(tenant, 5, 0)} // one is not registered
	noError(t, a.TouchDays(t.Context(), days, later))
	noError(t, a.TouchDays(t.Context(), days[:1], later.Add(time.Hour))) // does not put it off
	same(t, dueAt(t, a, later.Add(-time.Millisecond), 10), nil)
	due := dueAt(t, a, later, 10)
	slices.SortFunc(due, func(a, b activity.Day) int { return a.Day.Compare(b.Day) })
	same(t, due, []activity.Day{activeDay(tenant, 0, 3), activeDay(tenant, 5, 1)})
	same(t, whenDue(t, a, retain), wait)
	wantError(t, a.TouchDays(cancelled(t), days, activityDue), cancelled(t).Err())
}
