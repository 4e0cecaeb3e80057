package search

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// ReconcileTask compares the days that an activity.Plan for activity.Index shares out. A day is
// due again some time after entries were added to it, once more after as long, and then ever
// more rarely. So an index that lost entries later is repaired too.
type ReconcileTask struct {
	Reconciler *Reconciler
	// Publish gets each result. It is called concurrently.
	Publish func(Reconciliation) error
}

const (
	oneDay = 24 * time.Hour
	// enoughChecks is how many comparisons without a difference a day needs after its last
	// entry. They are the grace apart. A process that stores entries touches their day more
	// often than that, so the second comparison sees all of them.
	enoughChecks = 2
	// recheckAfter is when a day that has had its checks is compared again. The time doubles
	// with each comparison without a difference, up to maxRecheck. So the days of seven years
	// cost less than those of the last months.
	recheckAfter = 30 * oneDay
	maxRecheck   = 360 * oneDay
)

// Check compares one day, one with many entries in several steps. It is the Check of an activity.Task.
func (s *ReconcileTask) Check(ctx context.Context, tenant *audit.Tenant, day activity.Day) (activity.Outcome, error) {
	at := s.Reconciler.Now()
	if day.Day.Add(oneDay).Before(tenant.VisibleFrom(at)) {
		// Nobody reads the day any more, unless the settings change.
		return activity.Outcome{Checks: day.Checks, Due: at.Add(maxRecheck)}, nil
	}
	found, rest, err := s.Reconciler.Reconcile(ctx, tenant, day)
	if err == nil && rest != (activity.Progress{}) {
		return activity.Outcome{Stopped: true, Progress: rest}, nil
	}
	if err == nil {
		err = s.Publish(found)
	}
	if err != nil {
		return activity.Outcome{}, err
	}
	checks := day.Checks + 1
	// Whether what the index refused is still in quarantine is looked at again: exports wait for an entry whose retry
	// was killed before it had sent it.
	if found.Pending > 0 || found.Repaired > 0 || found.Extra > 0 || found.Refused > 0 {
		checks = 0
	}
	return activity.Outcome{Checks: checks, Due: s.Reconciler.Now().Add(s.nextCheck(checks))}, nil
}

// nextCheck returns the time until a day is due that had this many comparisons without a
// difference.
func (s *ReconcileTask) nextCheck(checks int) time.Duration {
	if checks < enoughChecks {
		return s.Reconciler.Grace
	}
	return recheckWait(checks)
}

// ChecksAfter returns how often a day is compared after its last entry, if it stays visible for
// so long.
func ChecksAfter(visible time.Duration) int {
	checks := enoughChecks
	for at := recheckWait(checks); at <= visible; at += recheckWait(checks) {
		checks++
	}
	return checks
}

// recheckWait returns the time until a day is compared again that had enough comparisons.
func recheckWait(checks int) time.Duration {
	wait := recheckAfter
	for ; checks > enoughChecks && wait < maxRecheck; checks-- {
		wait *= 2
	}
	return min(wait, maxRecheck)
}
