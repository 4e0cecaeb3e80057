package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// maxPlanTime bounds one task. Days that it does not reach are due again when their claim ends.
const maxPlanTime = 4 * time.Minute

// Planner looks at the days that an activity.Plan for activity.Archive shares out. It starts the jobs that
// archive them, and removes parts after their end. Doing it twice, or at the same time, does no harm.
type Planner struct {
	Register activity.Register
	Tenants  Tenants // tenants.Cache.Fresh if the process has a cache
	Store    Store
	Blobs    Blobs
	Holds    hold.Reader
	Jobs     *jobs.Service
	Now      func() time.Time
	Log      *slog.Logger
	// LargeDay is how many entries a day has at least that does not wait for the end of its month; zero:
	// the constant of this name.
	LargeDay int64
}

// Do looks at the days of one task, which are a JSON list of activity.DueDay. It is a jobs.Task.
func (p *Planner) Do(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error {
	run := &planRun{Planner: p, manifests: map[month]*Manifest{}, wanted: map[month][]string{}, cleaned: map[month]bool{}, deadline: p.Now().Add(maxPlanTime)}
	days := &activity.Task{Work: activity.Archive, Register: p.Register, Tenants: p.Tenants, Check: run.check, AtOnce: 1, Log: p.Log}
	if err := errors.Join(days.Do(ctx, tenant, input), run.start(ctx)); err != nil {
		return fmt.Errorf("plan the archive of %s: %w", tenant, err)
	}
	return nil
}

// planRun is one task.
type planRun struct {
	*Planner
	tenant    audit.Tenant
	manifests map[month]*Manifest
	wanted    map[month][]string // the days that are to be archived, by month
	cleaned   map[month]bool     // whether what was given up is removed
	deadline  time.Time
}

func (r *planRun) timeUp() bool { return !r.Now().Before(r.deadline) }

// manifest returns the manifest of a month, which is read once for a task.
func (r *planRun) manifest(ctx context.Context, of month) (*Manifest, error) {
	if m := r.manifests[of]; m != nil {
		return m, nil
	}
	m, err := readManifest(ctx, r.Blobs, r.tenant.ID, of)
	if err == nil {
		r.manifests[of] = m
	}
	return m, err
}

// check decides what is due on a day, and when it is due again. A day for which a job is to be started stays
// claimed: it is looked at again when its job has worked.
func (r *planRun) check(ctx context.Context, tenant *audit.Tenant, day activity.Day) (activity.Outcome, error) {
	r.tenant = *tenant
	if r.timeUp() {
		return activity.Outcome{Claimed: true}, nil
	}
	of, now := monthOf(day.Day), r.Now()
	m, err := r.manifest(ctx, of)
	if err != nil {
		return activity.Outcome{}, err
	}
	if !r.tenant.Settings.Archive {
		return r.expire(ctx, m, day)
	}
	if ready := settled(day.Day.Add(oneDay)); now.Before(ready) {
		return activity.Outcome{Due: ready}, nil
	}
	archived := m.day(day.Day)
	if archived != nil {
		if next := activity.NextArchive(archived.ArchivedAt); now.Before(next) { // late entries follow once a day
			return activity.Outcome{Checks: day.Checks, Due: next}, nil
		}
	}
	at := newScan(r.Store, r.Blobs, m, of, []span{{day.Day, day.Day.Add(oneDay)}}, audit.EntryID{})
	missing, more, err := at.next(ctx, 1, r.timeUp)
	switch {
	case err != nil:
		return activity.Outcome{}, err
	case len(missing) == 0 && more: // the time is up
		return activity.Outcome{Claimed: true}, nil
	case len(missing) == 0:
		return r.expireOrFail(ctx, m, day)
	}
	if over := settled(of.end()); now.Before(over) && archived == nil {
		entries, err := r.Store.Count(ctx, r.tenant.ID, day.Day, day.Day.Add(oneDay))
		if err != nil {
			return activity.Outcome{}, err
		}
		if entries < r.largeDay() {
			return activity.Outcome{Due: over}, nil
		}
	}
	r.wanted[of] = append(r.wanted[of], day.Day.Format(time.DateOnly))
	return activity.Outcome{Claimed: true}, nil
}

// expireOrFail is expire for a tenant with an archive. If the manifest of the month is lost, a job is started
// all the same: it fails, and says so.
func (r *planRun) expireOrFail(ctx context.Context, m *Manifest, day activity.Day) (activity.Outcome, error) {
	of := monthOf(day.Day)
	is, err := isLost(ctx, r.Blobs, m, of, 0)
	if err != nil || !is {
		return r.expire(ctx, m, day)
	}
	r.wanted[of] = append(r.wanted[of], day.Day.Format(time.DateOnly))
	return activity.Outcome{Claimed: true}, nil
}

func (r *planRun) largeDay() int64 {
	if r.LargeDay > 0 {
		return r.LargeDay
	}
	return LargeDay
}

// expire decides about a day of which nothing is to be archived. It removes the parts of its month that
// have ended. The day is looked at again a day later if a part was removed, because the database may still
// have its entries, and after the first look, because an entry can be stored for some time after its day was
// touched.
func (r *planRun) expire(ctx context.Context, m *Manifest, day activity.Day) (activity.Outcome, error) {
	due, removed, err := r.removeEnded(ctx, m, day.Day)
	if err != nil {
		return activity.Outcome{}, err
	}
	again := activity.NextArchive(r.Now())
	if r.tenant.Settings.Archive && (removed || day.Checks == 0) && (due.IsZero() || again.Before(due)) {
		due = again
	}
	return activity.Outcome{Checks: day.Checks + 1, Due: due}, nil
}

// start starts a job for each month with days that are to be archived.
func (r *planRun) start(ctx context.Context) error {
	for of, days := range r.wanted {
		running, err := r.isRunning(ctx, of)
		if err != nil {
			return err
		}
		if running { // the days are due again within an hour
			continue
		}
		at := checkpoint{Month: of.String(), Days: days}
		if m := r.manifests[of]; !m.Complete && !r.Now().Before(settled(of.end())) {
			at.Days = nil
		}
		slices.Sort(at.Days)
		if err := r.startJob(ctx, at, r.manifests[of].etag); err != nil {
			return err
		}
	}
	return nil
}

// isRunning reports whether a job of the month is not finished.
func (r *planRun) isRunning(ctx context.Context, of month) (bool, error) {
	return jobs.Any(ctx, r.Jobs.Store, r.tenant.ID, jobs.Unfinished(jobs.KindArchive), func(listed *jobs.Job) (bool, error) {
		job, err := r.Jobs.Store.Job(ctx, listed.Tenant, listed.ID)
		if errors.Is(err, audit.ErrNotFound) {
			return false, nil
		}
		var at checkpoint
		if err == nil {
			err = json.Unmarshal(job.Checkpoint, &at)
		}
		return at.Month == of.String(), err
	})
}

// startJob starts a job. Its id follows from what it does, so that a task that is repeated starts no
// second one.
func (r *planRun) startJob(ctx context.Context, at checkpoint, etag string) error {
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	about := strings.Join([]string{string(r.tenant.ID), at.Month, strings.Join(at.Days, ","), etag, r.Now().UTC().Format(time.DateOnly)}, " ")
	sum := sha256.Sum256([]byte(about))
	_, err = r.Jobs.Start(ctx, jobs.Job{
		ID: hex.EncodeToString(sum[:16]), Kind: jobs.KindArchive, Tenant: r.tenant.ID, CreatedBy: audit.SubmittedByService, Checkpoint: text,
	})
	return err
}
