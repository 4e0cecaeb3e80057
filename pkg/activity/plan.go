package activity

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// DueDay is a Day that is due, without its tenant and work. Its JSON form is the input of a
// task; see jobs.TaskName.
type DueDay struct {
	Received time.Time `json:"received,omitzero"`
	Day      time.Time `json:"day,omitzero"`
	Touches  int64     `json:"touches"`
	Checks   int       `json:"checks"`
	// Due is when the day is due again unless it is checked before: until then it is claimed for the task. If the
	// register has another claim, the task is an old one: the day was checked or shared out again.
	Due time.Time `json:"due"`
	// Before is the claim of the task that has sent this one, zero if Plan has. That task claims the day next. If this
	// one comes first, or that one was killed, this one does.
	Before time.Time `json:"before,omitzero"`
	Progress
}

// of returns the day of a tenant for a kind of work.
func (d *DueDay) of(work Work, tenant audit.TenantID) Day {
	return Day{Work: work, Tenant: tenant, Receipt: Receipt{Received: d.Received, Day: d.Day}, Touches: d.Touches, Checks: d.Checks, Claimed: d.Due, Progress: d.Progress}
}

// claimUntil returns until when days are claimed at a time for a while, as registers keep it.
func claimUntil(at time.Time, claim time.Duration) time.Time {
	return at.Add(claim).UTC().Truncate(time.Millisecond)
}

// Plan shares out the days that are due, those that wait longest first. Task does their work.
type Plan struct {
	Work     Work
	Register Register
	// Share sends days of one tenant to the workers that compare them. It is called concurrently.
	Share func(ctx context.Context, tenant audit.TenantID, days []DueDay) error
	// More sends the input of a task to the same workers, behind the days of this run. Its name has them call
	// Do. The tenant is one of those of the days: the queue needs one. nil: the rest waits for the next Run.
	More func(ctx context.Context, tenant audit.TenantID, input any) error
	// MaxShared is how many days a run shares out at most; zero: the constant of this name.
	MaxShared int
	Now       func() time.Time
	Log       *slog.Logger
}

// moreTime is how long runs follow one that was scheduled: until the next one, which would begin a second row.
const moreTime = time.Hour

// morePlan is the input of Do.
type morePlan struct {
	Until time.Time `json:"until"`
}

const (
	// claimTime is how long a day that was shared out is not due for another run. It is longer
	// than its task waits and works. A day that fails, or whose task is lost, is due after it.
	claimTime = time.Hour
	// continueTime is the claimTime of a day whose check goes on. The task of a killed worker comes again after the
	// visibility timeout of its queue, up to 90 minutes. Until then nobody may begin the check again.
	continueTime = 2 * time.Hour
	// maxShared bounds the days of one run. A longer backlog waits for the next one, so that
	// lost time does not fill the queue.
	maxShared   = 10_000
	daysPerPage = 500
	// daysPerTask bounds the days of one task, which are checked one after the other if they have many entries.
	daysPerTask = 20
	// maxConcurrentSends are the tasks of a page that are sent at the same time.
	maxConcurrentSends = 8
)

// Run does one run, and has More do another one if days are left. It logs the failure of a day and continues
// with the others. The error says how many days failed, or that the time was too short for all of them.
func (p *Plan) Run(ctx context.Context) error { return p.until(ctx, p.Now().Add(moreTime)) }

// Do is the run that More has sent. It is a jobs.Task. After the time in its input it does nothing.
func (p *Plan) Do(ctx context.Context, _ audit.TenantID, input json.RawMessage) error {
	var in morePlan
	if err := json.Unmarshal(input, &in); err != nil {
		return fmt.Errorf("plan %s: %w: the input is not its JSON form", p.Work, audit.ErrUnreadable)
	}
	if !p.Now().Before(in.Until) {
		return nil
	}
	return p.until(ctx, in.Until)
}

// until does one run. Others follow it up to a time.
func (p *Plan) until(ctx context.Context, end time.Time) error {
	at, most := p.Now(), cmp.Or(p.MaxShared, maxShared)
	var last audit.TenantID
	shared, failed := 0, 0
	for shared+failed < most {
		page, err := p.Register.DueDays(ctx, p.Work, at, min(daysPerPage, most-shared-failed))
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
		last = page[len(page)-1].Tenant
	}
	if p.More == nil {
		return nil
	}
	if err := p.More(ctx, last, morePlan{end}); err != nil {
		return fmt.Errorf("plan %s: have more days shared out: %w", p.Work, err)
	}
	return nil
}

// share claims the days, so that no later page and no other run has them, and sends them. It
// returns the number of those that it could send, and the last failure. If another run has claimed a day meanwhile, the
// task of that run is valid, and not this one.
func (p *Plan) share(ctx context.Context, page []Day) (shared int, failure error) {
	if len(page) == 0 {
		return 0, nil
	}
	due := claimUntil(p.Now(), claimTime)
	if err := p.Register.Claim(ctx, page, due); err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var sending errgroup.Group
	sending.SetLimit(maxConcurrentSends)
	for tenant, days := range byTenant(page) {
		for task := range slices.Chunk(days, daysPerTask) {
			sending.Go(func() error {
				err := p.send(ctx, tenant, task, due)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					shared += len(task)
					return nil
				}
				failure = err
				if ctx.Err() == nil { // until reports the end of ctx, once for all days
					p.Log.ErrorContext(ctx, "days were not shared out", "work", string(p.Work), "tenant", string(tenant), "error", err)
				}
				return nil
			})
		}
	}
	_ = sending.Wait() // the last error is in failure
	return shared, failure
}

// send sends a task with claimed days of a tenant.
func (p *Plan) send(ctx context.Context, tenant audit.TenantID, days []Day, due time.Time) error {
	task := make([]DueDay, len(days))
	for i, day := range days {
		task[i] = DueDay{Received: day.Received, Day: day.Day, Touches: day.Touches, Checks: day.Checks, Due: due}
	}
	return panics.Recovered(ctx, func() error { return p.Share(ctx, tenant, task) })
}

func byTenant(page []Day) map[audit.TenantID][]Day {
	days := map[audit.TenantID][]Day{}
	for _, day := range page {
		days[day.Tenant] = append(days[day.Tenant], day)
	}
	return days
}
