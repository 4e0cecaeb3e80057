package retention

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const (
	// Grace is how long a marked entry is kept. It covers clocks that differ, and a retention that
	// is lengthened again.
	Grace = 7 * oneDay
	// indexLead is how long before that the entry leaves the index. So the index has only entries
	// that are stored, which comparing it by counts relies on.
	indexLead = 2 * oneDay
	// SettleTime is how long after a change of settings a worker may still go by the earlier ones,
	// and how long after its day was registered an entry may be stored.
	SettleTime = 20 * time.Minute
	// lastLook is how long after a change of settings all days are looked at once more, and how long after a look
	// what a legal hold covers is. A worker that was killed after it had slept can have marked entries by an earlier
	// look. They are unmarked before their Grace ends.
	lastLook = Grace - oneDay
	// archiveCheck is the time between two looks at a removable entry that is not archived yet.
	archiveCheck = oneDay
	oneDay       = 24 * time.Hour
)

// Result is what a check of a tenant's day did.
type Result struct {
	Tenant                    audit.TenantID
	Day                       time.Time // its beginning, UTC
	Marked, Unmarked, Removed int64     // entries
}

// Task marks, unmarks and removes the entries of the days that an activity.Plan for
// activity.Retain shares out.
type Task struct {
	Store   Store
	Index   Index
	Tenants Tenants // tenants.Cache.Fresh if the process has a cache
	// Held returns what reports whether a legal hold covers an entry; see hold.Reader. It reads no
	// older state than that of the call.
	Held func(ctx context.Context, tenant audit.TenantID) (covers func(*audit.Entry) bool, err error)
	// RemoveQuarantined removes the entries of a tenant from the quarantine that are to go, and returns
	// their number; see quarantine.RemoveIf. It begins after the item with the id last, and sets last as it goes.
	// It asks begin for what decides before each of a few entries, and stops at nil. nil: there is no quarantine.
	RemoveQuarantined func(ctx context.Context, tenant audit.TenantID, last *string, begin func(context.Context) (goes func(*audit.Entry) bool, err error)) (int, error)
	// Archived returns what tells which entries of a day are archived. It is asked in the rising order of
	// their ids, for each once; see archive.Reader.
	Archived func(ctx context.Context, tenant audit.TenantID, day time.Time) (Archived, error)
	// Publish gets the results of days on which something was done. It is called concurrently.
	Publish func(Result) error
	// Removed is called after entries of a tenant were removed; nil: nothing is left to do then.
	Removed func(ctx context.Context, tenant audit.TenantID) error
	// Clock decides when a restored entry leaves the index at its end, and when an entry leaves the quarantine: nothing
	// puts them back.
	Clock jobs.Clock
	Now   func() time.Time
}

// Check does what is due on one day. It is the Check of an activity.Task. Doing it twice, or at the
// same time, does no harm. If nobody can tell what is archived, it looks at all entries all the same.
func (t *Task) Check(ctx context.Context, tenant *audit.Tenant, day activity.Day) (activity.Outcome, error) {
	run := &dayRun{
		Task: t, tenant: *tenant, day: day.Day, until: day.Until, checks: day.Checks, at: day.Progress, found: Result{Tenant: tenant.ID, Day: day.Day},
	}
	if run.at.Began.IsZero() {
		run.at.Began = t.Now()
	}
	err := run.all(ctx)
	if publishErr := run.publish(ctx); err == nil {
		err = publishErr
	}
	if err != nil {
		err = fmt.Errorf("retain %s %s: %w", tenant.ID, day.Day.Format(time.DateOnly), err)
	}
	return run.outcome(), err
}

// dayRun is one step of the check of a day.
type dayRun struct {
	*Task
	tenant   audit.Tenant
	held     func(*audit.Entry) bool
	archived Archived // nil: nobody has asked yet
	unknown  error    // why nobody knows what is archived
	day      time.Time
	until    time.Time
	checks   int // since the day was touched
	at       activity.Progress
	look     activity.Look // at settings and holds
	stopped  bool
	found    Result
}

func (r *dayRun) timeUp() bool { return !r.Now().Before(r.until) }

// all looks at the entries of the day page by page, with the settings and holds of that time.
func (r *dayRun) all(ctx context.Context) error {
	for {
		if deleting, err := r.refresh(ctx); err != nil || deleting {
			return err
		}
		now := r.Now()
		selection := Selection{From: r.day, To: r.day.Add(oneDay), After: r.at.After}
		// If no entry can leave, and none was restored, only those that are marked matter.
		selection.Marked = now.Before(r.firstEnd(r.tenant.Settings.LeaveDays())) && !r.tenant.HasRestored(r.day, r.day.Add(oneDay))
		entries, err := r.Store.Retained(ctx, r.tenant.ID, selection, MaxEntries)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return errors.Join(r.unknown, r.removeQuarantined(ctx))
		}
		err = r.apply(ctx, entries, now)
		switch {
		case errors.Is(err, errOldLook): // the same entries again
			r.archived = nil // which is asked for each id once
		case err != nil:
			return err
		default:
			r.at.After = entries[len(entries)-1].ID
		}
		if r.stopped = r.timeUp(); r.stopped {
			return r.unknown
		}
	}
}

// refresh reads the settings and the holds again. It reports whether the tenant is being deleted.
func (r *dayRun) refresh(ctx context.Context) (deleting bool, err error) {
	r.look = activity.NewLook(r.Now())
	if r.tenant, err = r.Tenants.Tenant(ctx, r.tenant.ID); err != nil || r.tenant.Status == audit.TenantDeleting {
		return true, err
	}
	r.held, err = r.Held(ctx, r.tenant.ID)
	return false, err
}

// errOldLook says that the look at settings and holds is old: the worker slept since then. Nothing is marked by them,
// and nothing leaves the index. A look is old before SettleTime, after which nobody looks for what a worker that slept has
// marked.
var errOldLook = errors.New("settings and holds were read too long ago")

func (r *dayRun) isOld() bool { return r.look.IsOld(r.Now()) }

// mark marks entries. It takes that back if the worker slept meanwhile. It returns errOldLook then.
func (r *dayRun) mark(ctx context.Context, ids []audit.EntryID) error {
	if r.isOld() {
		return errOldLook
	}
	if err := r.Store.Mark(ctx, r.tenant.ID, ids, Grace); err != nil {
		return err
	}
	if r.isOld() {
		return cmp.Or(r.Store.Unmark(ctx, r.tenant.ID, ids), errOldLook)
	}
	r.found.Marked += int64(len(ids))
	return nil
}

// removable reports whether an entry may be removed once it was marked for Grace. Every reason
// to keep an entry that has expired, or is not searchable any more, belongs here.
func (r *dayRun) removable(ctx context.Context, e *Entry, now time.Time) bool {
	if !r.tenant.Settings.LeavesStores(&e.Entry, now) {
		return false
	}
	if r.held(&e.Entry) {
		r.wakeAt(now.Add(lastLook)) // also in case nobody could be told of the release
		return false
	}
	expired := r.tenant.Settings.IsExpired(&e.Entry, now)
	if expired && !r.tenant.Settings.Archive || r.isArchived(ctx, &e.Entry, expired) {
		return true
	}
	r.wakeAt(now.Add(archiveCheck))
	return false
}

// isArchived reports whether an entry of the day is known to be archived. Of one that has expired the identity
// is enough. Others are owed until their end: the archive has to have their content. If that cannot be asked,
// marked entries are unmarked: the store would remove them by itself.
func (r *dayRun) isArchived(ctx context.Context, e *audit.Entry, expired bool) bool {
	return r.ask(ctx, func(a Archived) (bool, error) {
		if expired {
			return a.HasID(ctx, e.ID)
		}
		return a.HasEntry(ctx, e)
	})
}

// outlivesRestore reports whether a restored entry stays after its time: it is searchable by its own age, and
// no cleanup had removed it. It may never have been away.
func (r *dayRun) outlivesRestore(ctx context.Context, e *audit.Entry, now time.Time) bool {
	s := &r.tenant.Settings
	if !e.RestoreEnded(now) || s.IsExpired(e, now) || e.Timestamp.Before(s.SearchableFrom(now)) {
		return false
	}
	return r.ask(ctx, func(a Archived) (bool, error) {
		cleaned, err := a.Cleaned(ctx, e.ID)
		return !cleaned, err
	})
}

// ask asks the archive of the day. The answer is false if that fails, from then on always.
func (r *dayRun) ask(ctx context.Context, question func(Archived) (bool, error)) (answer bool) {
	if r.unknown == nil && r.archived == nil {
		r.archived, r.unknown = r.Archived(ctx, r.tenant.ID, r.day)
	}
	if r.unknown == nil {
		answer, r.unknown = question(r.archived)
	}
	return answer && r.unknown == nil
}

// apply does what is due for some entries.
func (r *dayRun) apply(ctx context.Context, entries []Entry, now time.Time) error {
	shared, err := r.Clock.Now(ctx, r.Now)
	if err != nil {
		return err
	}
	var stay, mark, unmark, unindex, remove []audit.EntryID
	for i := range entries {
		e := &entries[i]
		if r.outlivesRestore(ctx, &e.Entry, now) {
			stay = append(stay, e.ID)
			continue
		}
		removable, marked := r.removable(ctx, e, now), !e.DeletableAt.IsZero()
		leavesIndex := false
		if e.RestoreEnded(now) && (removable || r.unknown == nil) { // also if a hold keeps it: no filter by time hides it
			if leavesIndex = e.RestoreEnded(shared); !leavesIndex {
				r.wakeAt(e.RestoredUntil)
			}
		}
		switch {
		case removable && !marked:
			mark = append(mark, e.ID)
			r.wakeAt(now.Add(Grace - indexLead))
		case marked && !removable:
			unmark = append(unmark, e.ID)
		case marked && !e.DeletableAt.After(now):
			leavesIndex, remove = true, append(remove, e.ID)
		case marked && !e.DeletableAt.After(now.Add(indexLead)):
			leavesIndex = true
			r.wakeAt(e.DeletableAt)
		case marked:
			r.wakeAt(e.DeletableAt.Add(-indexLead))
		}
		if leavesIndex {
			unindex = append(unindex, e.ID)
		}
	}
	tenant := r.tenant.ID
	if len(stay) > 0 {
		if err := r.Store.EndRestore(ctx, tenant, stay); err != nil {
			return err
		}
	}
	if len(unmark) > 0 {
		if err := r.Store.Unmark(ctx, tenant, unmark); err != nil {
			return err
		}
		r.found.Unmarked += int64(len(unmark))
	}
	if len(mark) > 0 {
		if err := r.mark(ctx, mark); err != nil {
			return err
		}
	}
	if len(unindex) > 0 { // before the store removes them
		if r.isOld() {
			return errOldLook
		}
		if err := r.Index.Remove(ctx, tenant, unindex); err != nil {
			return err
		}
	}
	if len(remove) == 0 {
		return nil
	}
	n, err := r.Store.RemoveDue(ctx, tenant, remove)
	if r.found.Removed += int64(n); n < len(remove) { // the clocks differ, or the store removed them itself
		r.wakeAt(now.Add(SettleTime))
	}
	return err
}

func (r *dayRun) wakeAt(at time.Time) {
	r.at.Wake = earliest(r.at.Wake, at)
}

// publish reports what was done, also before a failure.
func (r *dayRun) publish(ctx context.Context) error {
	if r.found.Removed > 0 && r.Removed != nil {
		if err := r.Removed(ctx, r.tenant.ID); err != nil {
			return err
		}
	}
	if r.found.Marked+r.found.Unmarked+r.found.Removed == 0 {
		return nil
	}
	return r.Publish(r.found)
}

// outcome says when the day is due again. A touched day is checked again after SettleTime, whatever
// the clocks say of when it was touched. What came while the day was checked, such as the end of entries, has it
// checked again at once: the first steps could not know it.
func (r *dayRun) outcome() activity.Outcome {
	if r.stopped {
		return activity.Outcome{Stopped: true, Progress: r.at}
	}
	now := r.Now()
	began := earliest(r.at.Began, now) // the steps can have clocks that differ
	due := earliest(r.at.Wake, r.nextEnd(began))
	for _, look := range []time.Duration{SettleTime, lastLook} {
		if at := r.tenant.UpdatedAt.Add(look); at.After(began) {
			due = earliest(due, at)
		}
	}
	due = earliest(due, r.tenant.NextRestoredEnd(r.day, r.day.Add(oneDay), began))
	if r.checks == 0 {
		due = earliest(due, now.Add(SettleTime))
	}
	return activity.Outcome{Checks: r.checks + 1, Due: due}
}

// earliest returns the earlier of two times. Zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// firstEnd returns a time before which no entry of the day reaches one of some ages in days.
func (r *dayRun) firstEnd(ages []int) time.Time {
	first := r.day.AddDate(1000, 0, 0)
	for _, days := range ages {
		if end := r.day.Add(time.Duration(days) * oneDay); end.Before(first) {
			first = end
		}
	}
	return first
}

// nextEnd returns the next time after a given one at which all entries of the day leave the stores that are kept for
// as long as some of them; zero: that has passed for all.
func (r *dayRun) nextEnd(at time.Time) (next time.Time) {
	for _, days := range r.tenant.Settings.LeaveDays() {
		if end := r.day.Add(time.Duration(days+1) * oneDay); end.After(at) {
			next = earliest(next, end)
		}
	}
	return next
}
