package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const (
	// planTime is how long a task works before it sends itself again, and so how long the jobs and tasks of others
	// wait for it.
	planTime = jobs.SliceTime
	// turns is the time over which the days of all tenants are due that wait for the same hour. Those of one tenant
	// come together.
	turns = time.Hour
)

// Planner looks at the days that an activity.Plan for activity.Archive shares out. It starts the jobs that
// archive them, and removes parts after their end. Doing it twice, or at the same time, does no harm.
type Planner struct {
	Register activity.Register
	Tenants  Tenants // tenants.Cache.Fresh if the process has a cache
	Store    Store
	Blobs    Blobs
	Holds    hold.Reader
	Jobs     *jobs.Service
	// Continue sends the days of a task that are left when its time is up.
	Continue func(ctx context.Context, tenant audit.TenantID, days []activity.DueDay) error
	// Failed is that of activity.Task.
	Failed func(ctx context.Context, tenant audit.TenantID, days int)
	// Clock decides which parts have ended.
	Clock jobs.Clock
	Now   func() time.Time
	Log   *slog.Logger
	// LargeDay is how many entries a day has at least that does not wait for the end of its month; zero:
	// the constant of this name.
	LargeDay int64
}

// Do looks at the days of one task, which are a JSON list of activity.DueDay. It is a jobs.Task.
func (p *Planner) Do(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error {
	run := &planRun{Planner: p, manifests: map[month]*Manifest{}, wanted: map[month][]string{}, cleaned: map[month]bool{}}
	days := &activity.Task{
		Work: activity.Archive, Register: p.Register, Tenants: p.Tenants, Check: run.check, AtOnce: 1,
		SliceTime: planTime, Continue: p.Continue, Failed: p.Failed, Now: p.Now, Log: p.Log,
	}
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
}

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
// claimed: it is looked at again when its job has worked. A day with many entries is compared in several steps.
func (r *planRun) check(ctx context.Context, tenant *audit.Tenant, day activity.Day) (activity.Outcome, error) {
	r.tenant = *tenant
	of, now := monthOf(day.Day), r.Now()
	m, err := r.manifest(ctx, of)
	if err != nil {
		return activity.Outcome{}, err
	}
	if !r.tenant.Settings.Archive {
		return r.expire(ctx, m, day)
	}
	if ready := settled(day.Day.Add(oneDay)); now.Before(ready) {
		return activity.Outcome{Due: r.turn(ready)}, nil
	}
	archived := m.day(day.Day)
	if archived != nil {
		if next := activity.NextArchive(archived.ArchivedAt); now.Before(next) { // late entries follow once a day
			return activity.Outcome{Checks: day.Checks, Due: r.turn(next)}, nil
		}
	}
	if len(r.wanted[of]) > 0 && r.isWhole(m, of) { // the job archives it too
		return r.want(of, day)
	}
	missing, after, err := r.compare(ctx, m, day)
	switch {
	case err != nil:
		return activity.Outcome{}, err
	case !missing && after.IsZero():
		return r.expireOrFail(ctx, m, day)
	case !missing:
		return activity.Outcome{Stopped: true, Progress: activity.Progress{After: after}}, nil
	}
	if over := settled(of.end()); now.Before(over) && archived == nil {
		entries, err := r.Store.Count(ctx, r.tenant.ID, day.Day, day.Day.Add(oneDay))
		if err != nil {
			return activity.Outcome{}, err
		}
		if entries < r.largeDay() {
			return activity.Outcome{Due: r.turn(over)}, nil
		}
	}
	return r.want(of, day)
}

// compare reports whether an entry of a day is not archived. If the time is up before it is known, it returns the
// last id that was compared.
func (r *planRun) compare(ctx context.Context, m *Manifest, day activity.Day) (missing bool, after audit.EntryID, err error) {
	at := newScan(r.Store, r.Blobs, m, monthOf(day.Day), []span{{day.Day, day.Day.Add(oneDay)}}, day.After)
	for {
		ids, more, err := at.next(ctx, 1)
		if err != nil || !more || len(ids) > 0 {
			return len(ids) > 0, audit.EntryID{}, err
		}
		if !r.Now().Before(day.Until) {
			return false, at.after, nil
		}
	}
}

// want has a day archived.
func (r *planRun) want(of month, day activity.Day) (activity.Outcome, error) {
	r.wanted[of] = append(r.wanted[of], day.Day.Format(time.DateOnly))
	return activity.Outcome{Claimed: true}, nil
}

// isWhole reports whether the next job of a month archives all of it.
func (r *planRun) isWhole(m *Manifest, of month) bool {
	return !m.Complete && !r.Now().Before(settled(of.end()))
}

// turn returns when a day is due that has something to wait for until a time. Many days of many tenants wait for the
// same hour: without their turns, a task would have one day of a tenant, and not all.
func (r *planRun) turn(at time.Time) time.Time {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(r.tenant.ID)) // never fails
	return at.Add(time.Duration(sum.Sum32()) % (turns / time.Millisecond) * time.Millisecond)
}

// expireOrFail is expire for a tenant with an archive. If the manifest of the month is lost, a job is started
// all the same: it fails, and says so.
func (r *planRun) expireOrFail(ctx context.Context, m *Manifest, day activity.Day) (activity.Outcome, error) {
	of := monthOf(day.Day)
	is, err := isLost(ctx, r.Blobs, m, of, 0)
	if err != nil || !is {
		return r.expire(ctx, m, day)
	}
	return r.want(of, day)
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
	again := r.turn(activity.NextArchive(r.Now()))
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
		if running { // the days are due again when their claims end
			continue
		}
		at := checkpoint{Month: of.String(), Days: days}
		if r.isWhole(r.manifests[of], of) {
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
