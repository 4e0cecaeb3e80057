package activity

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
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
	// due again as if it had not been called. It is called concurrently, unless AtOnce is 1.
	Check func(ctx context.Context, tenant *audit.Tenant, day Day) (Outcome, error)
	// AtOnce is how many days are checked at the same time; zero: maxConcurrentDays.
	AtOnce int
	Log    *slog.Logger
}

// Outcome is what a check of a day found: how many checks the day has now, and when it is due
// again. A zero Due means: not before it is touched.
type Outcome struct {
	Checks int
	Due    time.Time
	// Claimed leaves the day as Plan shared it out: it is due again within an hour.
	Claimed bool
}

// maxConcurrentDays are checked at the same time, so that a day with many entries does not
// delay all others.
const maxConcurrentDays = 4

// Do does the work of the days of one task, which are a JSON list of DueDay. It logs the
// failure of a day and continues with the others: that day is due again later. It returns an
// error if all days failed, or if the time was too short, so that the task is repeated.
func (t *Task) Do(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error {
	var days []DueDay
	if err := json.Unmarshal(input, &days); err != nil {
		return fmt.Errorf("check days of %s: %w: they are not their JSON form", tenant, audit.ErrUnreadable)
	}
	var working errgroup.Group
	working.SetLimit(cmp.Or(t.AtOnce, maxConcurrentDays))
	failures := make([]error, len(days))
	for i, d := range days {
		working.Go(func() error {
			if failures[i] = panics.Recovered(ctx, func() error { return t.day(ctx, tenant, d) }); failures[i] != nil && ctx.Err() == nil {
				t.Log.ErrorContext(ctx, "a day was not checked", "work", string(t.Work), "tenant", string(tenant),
					"day", d.Day.Format(time.DateOnly), "error", failures[i])
			}
			return nil
		})
	}
	_ = working.Wait() // the errors are in failures
	failed := 0
	for _, err := range failures {
		if err != nil {
			failed++
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%d of %d days of %s were checked before the time ran out: %w", len(days)-failed, len(days), tenant, ctx.Err())
	case failed > 0 && failed == len(days):
		return fmt.Errorf("check %d days of %s: %w", failed, tenant, failures[0])
	}
	return nil
}

// day checks one day and notes when it is due again.
func (t *Task) day(ctx context.Context, id audit.TenantID, d DueDay) error {
	day := Day{Work: t.Work, Tenant: id, Receipt: Receipt{Received: d.Received, Day: d.Day}, Touches: d.Touches, Checks: d.Checks}
	due, err := t.Register.DueAt(ctx, day)
	if err != nil || due.IsZero() || due.After(d.Due) {
		return err // without an error: an old task
	}
	tenant, err := t.Tenants.Tenant(ctx, id)
	deleted, err := audit.IsDeleted(tenant, err)
	if err != nil {
		return err
	}
	if deleted {
		return t.Register.Check(ctx, day, time.Time{})
	}
	found, err := t.Check(ctx, &tenant, day)
	if err != nil || found.Claimed {
		return err
	}
	day.Checks = found.Checks
	return t.Register.Check(ctx, day, found.Due)
}
