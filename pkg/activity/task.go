package activity

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// Tenants finds tenants. Tenant returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Task does the work of the days that Plan shares out, and notes in the register when they are
// due again.
type Task struct {
	Work     Work
	Register Register
	Tenants  Tenants
	// Check does the work of one day of a tenant that is not deleted. After an error the day is
	// due again as if it had not been called. With Stopped, the error is logged and the check goes on.
	// It is called concurrently, unless AtOnce is 1.
	Check func(ctx context.Context, tenant *audit.Tenant, day Day) (Outcome, error)
	// AtOnce is how many days are checked at the same time; zero: maxConcurrentDays.
	AtOnce int
	// SliceTime is how long a task works before it sends what is left as a task of its own, and so how long the
	// tasks and jobs of others wait for it.
	SliceTime time.Duration
	// Continue sends the days that are left, and those whose check goes on.
	Continue func(ctx context.Context, tenant audit.TenantID, days []DueDay) error
	// Failed is called after days of a task failed, with their number; nil: nobody is told.
	Failed func(ctx context.Context, tenant audit.TenantID, days int)
	Now    func() time.Time
	Log    *slog.Logger
}

// Outcome is what a check of a day found: how many checks the day has now, and when it is due
// again. A zero Due means: not before it is touched.
type Outcome struct {
	Checks int
	Due    time.Time
	// Claimed leaves the day as it was shared out: it is due again when its claim ends, within two hours.
	Claimed bool
	// Stopped says that the time was up. The check goes on from Progress, in a further task.
	Stopped bool
	Progress
}

// maxConcurrentDays are checked at the same time, so that a day with many entries does not
// delay all others.
const maxConcurrentDays = 4

// Do does the work of the days of one task, which are a JSON list of DueDay. It logs the
// failure of a day and continues with the others: that day is due again later. If its check has gone on
// from earlier steps, the day is sent as a task of its own, so that their work is not lost. It returns an
// error if all days failed, or if the time was too short, so that the task is repeated. After
// SliceTime it begins no further day.
func (t *Task) Do(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error {
	var days []DueDay
	if err := json.Unmarshal(input, &days); err != nil {
		return fmt.Errorf("check days of %s: %w: they are not their JSON form", tenant, audit.ErrUnreadable)
	}
	end := t.Now().Add(t.SliceTime)
	var working errgroup.Group
	working.SetLimit(cmp.Or(t.AtOnce, maxConcurrentDays))
	failures, stopped := make([]error, len(days)), make([]bool, len(days))
	for i := range days {
		working.Go(func() error {
			if i > 0 && !t.Now().Before(end) { // the first is begun in any case, so that each task does something
				stopped[i] = true
				return nil
			}
			failures[i] = panics.Recovered(ctx, func() (err error) {
				stopped[i], err = t.day(ctx, tenant, &days[i], end)
				return err
			})
			if failures[i] != nil && ctx.Err() == nil {
				t.Log.ErrorContext(ctx, "a day was not checked", "work", string(t.Work), "tenant", string(tenant),
					"day", days[i].Day.Format(time.DateOnly), "error", failures[i])
			}
			return nil
		})
	}
	_ = working.Wait() // the errors are in failures
	failed := 0
	var rest []DueDay
	var next [][]DueDay // the tasks that follow
	for i, err := range failures {
		switch {
		case stopped[i]:
			rest = append(rest, days[i])
		case err != nil:
			failed++
			if days[i].Progress != (Progress{}) {
				next = append(next, []DueDay{days[i]}) // alone, so that a further failure repeats it with its place
			}
		}
	}
	if len(rest) > 0 {
		next = append(next, rest)
	}
	if failed > 0 && ctx.Err() == nil && t.Failed != nil {
		t.Failed(ctx, tenant, failed)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%d of %d days of %s were checked before the time ran out: %w", len(days)-failed, len(days), tenant, ctx.Err())
	case failed > 0 && failed == len(days):
		return fmt.Errorf("check %d days of %s: %w", failed, tenant, failures[0])
	}
	for _, days := range next {
		if err := t.goOn(ctx, tenant, days); err != nil {
			return err
		}
	}
	return nil
}

// goOn sends the days whose check goes on. It claims them again, so that a check of hours is not begun again. It
// sends first: until one of the two tasks has claimed a day, both are valid.
func (t *Task) goOn(ctx context.Context, tenant audit.TenantID, rest []DueDay) error {
	claim := claimTime
	if slices.ContainsFunc(rest, func(d DueDay) bool { return d.Progress != Progress{} }) {
		claim = continueTime
	}
	due := claimUntil(t.Now(), claim)
	var mine []DueDay
	for _, d := range rest {
		// One that was not begun may still have the claim of the task before.
		is, err := t.isMine(ctx, d.of(t.Work, tenant), d.Before)
		switch {
		case err != nil:
			return fmt.Errorf("continue with %d days of %s: %w", len(rest), tenant, err)
		case !is:
			continue
		case !due.After(d.Due): // a claim is never shortened: the clock that made it may have been ahead
			due = d.Due.Add(time.Millisecond)
		}
		mine = append(mine, d)
	}
	if rest = mine; len(rest) == 0 {
		return nil
	}
	claimed := make([]Day, len(rest))
	for i := range rest {
		claimed[i] = rest[i].of(t.Work, tenant)
		rest[i].Before, rest[i].Due = rest[i].Due, due
	}
	err := t.Continue(ctx, tenant, rest)
	if err == nil {
		err = t.Register.Claim(ctx, claimed, due)
	}
	if err != nil {
		return fmt.Errorf("continue with %d days of %s: %w", len(rest), tenant, err)
	}
	return nil
}

// day checks one day until a time, and notes when it is due again. It reports whether the check goes on, and sets
// d.Progress.
func (t *Task) day(ctx context.Context, id audit.TenantID, d *DueDay, until time.Time) (stopped bool, err error) {
	day := d.of(t.Work, id)
	day.Until = until
	if mine, err := t.isMine(ctx, day, d.Before); err != nil || !mine {
		return false, err // without an error: an old task
	}
	tenant, err := t.Tenants.Tenant(ctx, id)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return false, err
	}
	if deleted {
		return false, t.Register.Check(ctx, day, time.Time{})
	}
	found, err := t.Check(ctx, &tenant, day)
	switch {
	case found.Stopped:
		d.Progress = found.Progress
		return true, err
	case err != nil || found.Claimed:
		return false, err
	}
	day.Checks = found.Checks
	return false, t.Register.Check(ctx, day, found.Due)
}

// isMine reports whether the day is claimed for the task, or for the one before it. Then it claims the day.
func (t *Task) isMine(ctx context.Context, day Day, before time.Time) (bool, error) {
	due, claimed, err := t.Register.DueAt(ctx, day)
	switch {
	case err != nil || due.IsZero():
		return false, err
	case claimed.Equal(day.Claimed):
		return true, nil
	case before.IsZero() || !claimed.Equal(before):
		return false, nil
	}
	until := day.Claimed
	day.Claimed = before
	if err := t.Register.Claim(ctx, []Day{day}, until); err != nil {
		return false, err
	}
	_, claimed, err = t.Register.DueAt(ctx, day) // another may have been faster
	return claimed.Equal(until), err
}
