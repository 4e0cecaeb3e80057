package activity

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// DueDay is a Day that is due, without its tenant and work. Its JSON form is the input of a
// task; see jobs.TaskName.
type DueDay struct {
	Received time.Time `json:"received,omitzero"`
	Day      time.Time `json:"day,omitzero"`
	Touches  int64     `json:"touches"`
	Checks   int       `json:"checks"`
	// Due is when the day is due again unless it is checked before. If the register has a later
	// time, the task is an old one: the day was checked or shared out again.
	Due time.Time `json:"due"`
}

// Plan shares out the days that are due, those that wait longest first. Task does their work.
type Plan struct {
	Work     Work
	Register Register
	// Share sends days of one tenant to the workers that compare them.
	Share func(ctx context.Context, tenant audit.TenantID, days []DueDay) error
	Now   func() time.Time
	Log   *slog.Logger
}

const (
	// claimTime is how long a day that was shared out is not due for another run. It is longer
	// than its task waits and works. A day that fails, or whose task is lost, is due after it.
	claimTime = time.Hour
	// maxShared bounds the days of one run. A longer backlog waits for the next one, so that
	// lost time does not fill the queue.
	maxShared   = 10_000
	daysPerPage = 500
	// daysPerTask bounds the days of one task. They are checked within a few minutes, even if
	// each takes some seconds.
	daysPerTask = 20
)

// Run does one run. It logs the failure of a day and continues with the others. The error
// says how many days failed, or that the time was too short for all of them.
func (p *Plan) Run(ctx context.Context) error {
	at := p.Now()
	shared, failed := 0, 0
	for shared+failed < maxShared {
		page, err := p.Register.DueDays(ctx, p.Work, at, daysPerPage)
		if err != nil {
			return fmt.Errorf("plan %s: %w", p.Work, err)
		}
		claimed, err := p.share(ctx, page)
		shared, failed = shared+claimed, failed+len(page)-claimed
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("plan %s: %d days were shared out before the time ran out: %w", p.Work, shared, ctx.Err())
		case claimed == 0 && len(page) > 0:
			return fmt.Errorf("plan %s: none of %d days could be shared out: %w", p.Work, len(page), err)
		case len(page) == 0 && failed > 0:
			return fmt.Errorf("plan %s: %d of %d days could not be shared out", p.Work, failed, shared+failed)
		case len(page) == 0:
			return nil
		}
	}
	return nil
}

// share claims the days, so that no later page and no other run has them, and sends them. It
// returns the number of those that it could send, and the last failure.
func (p *Plan) share(ctx context.Context, page []Day) (shared int, failure error) {
	report := func(tenant audit.TenantID, err error) {
		failure = err
		if ctx.Err() == nil { // Run reports the end of ctx, once for all days
			p.Log.ErrorContext(ctx, "days were not shared out", "work", string(p.Work), "tenant", string(tenant), "error", err)
		}
	}
	for tenant, days := range byTenant(page) {
		claimed := make([]DueDay, 0, len(days))
		for _, day := range days {
			due := p.Now().Add(claimTime).UTC().Truncate(time.Millisecond) // as registers keep it
			if err := p.Register.Check(ctx, day, due); err != nil {
				report(tenant, err)
				continue
			}
			claimed = append(claimed, DueDay{Received: day.Received, Day: day.Day, Touches: day.Touches, Checks: day.Checks, Due: due})
		}
		for len(claimed) > 0 {
			n := min(len(claimed), daysPerTask)
			if err := p.Share(ctx, tenant, claimed[:n]); err != nil {
				report(tenant, err)
			} else {
				shared += n
			}
			claimed = claimed[n:]
		}
	}
	return shared, failure
}

func byTenant(page []Day) map[audit.TenantID][]Day {
	days := map[audit.TenantID][]Day{}
	for _, day := range page {
		days[day.Tenant] = append(days[day.Tenant], day)
	}
	return days
}
