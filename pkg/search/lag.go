package search

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Rejected tells which entries the index will never have, because they are in quarantine.
type Rejected interface {
	// Contains reports for each of the entries whether it is in quarantine after a step.
	Contains(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry) ([]bool, error)
}

// Lag tells whether the index has what the system of record has.
type Lag struct {
	Store    IDLister
	Index    IDLister
	Reader   EntryReader
	Rejected Rejected
	Clock    jobs.Clock // see Indexer
	Now      func() time.Time
}

const (
	// lagTime bounds one call of Behind, so that its caller saves how far it is. The last window can exceed it.
	lagTime = 20 * time.Second
	// A call compares a window of minLagWindow first. The windows grow up to maxLagWindow while each takes
	// less than quickWindow, and become smaller if one takes longer.
	minLagWindow = time.Hour
	maxLagWindow = 30 * oneDay
	quickWindow  = 2 * time.Second
)

// errBehind ends a comparison at the first entry that the index lacks.
var errBehind = errors.New("the index lacks an entry")

// Behind looks for entries of a tenant that were received before a time and that the index does not
// have, among those with from ≤ timestamp < to. A zero from is open. It returns how far the index
// has everything: to, or an earlier time from which to look again. It returns after about lagTime.
func (l *Lag) Behind(ctx context.Context, tenant *audit.Tenant, received, from, to time.Time) (time.Time, error) {
	started := l.Now()
	first, err := l.Store.IDs(ctx, tenant.ID, from, to, audit.EntryID{}, 1)
	if err != nil {
		return from, fmt.Errorf("find the first entry of %s: %w", tenant.ID, err)
	}
	if len(first) == 0 {
		return to, nil
	}
	c := comparison{Store: l.Store, Index: l.Index, Reader: l.Reader, found: Reconciliation{Tenant: tenant.ID}}
	c.use = func(ctx context.Context, entries []audit.Entry) error { return l.check(ctx, tenant, received, entries) }
	begin := first[0].Time().UTC()
	if begin.Before(from) {
		begin = from
	}
	for window := minLagWindow; begin.Before(to); {
		windowStarted := l.Now()
		if windowStarted.Sub(started) >= lagTime {
			return begin, nil
		}
		end := begin.Add(window)
		if end.After(to) {
			end = to
		}
		switch _, err := c.all(ctx, begin, end, audit.EntryID{}); {
		case errors.Is(err, errBehind):
			return begin, nil
		case err != nil:
			return begin, fmt.Errorf("compare the index of %s: %w", tenant.ID, err)
		}
		if begin = end; l.Now().Sub(windowStarted) < quickWindow {
			window = min(2*window, maxLagWindow)
		} else {
			window = max(window/2, minLagWindow)
		}
	}
	return to, nil
}

// check returns errBehind if the index will have one of the entries.
func (l *Lag) check(ctx context.Context, tenant *audit.Tenant, received time.Time, entries []audit.Entry) error {
	leaves, err := leavesIndex(ctx, l.Clock, l.Now(), &tenant.Settings, entries)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return !e.ReceivedAt.Before(received) || leaves(&e) })
	if len(entries) == 0 {
		return nil
	}
	rejected, err := l.Rejected.Contains(ctx, tenant.ID, audit.StepIndex, entries)
	if err != nil {
		return err
	}
	if slices.Contains(rejected, false) {
		return errBehind
	}
	return nil
}
