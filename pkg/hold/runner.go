package hold

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

const (
	storeWait   = 10 * time.Second // for a hold that is not stored yet
	removalWait = time.Minute      // for an erasure that is about to destroy its key, or a cleanup of the archive
)

// Runner is the jobs.Runner of jobs.KindLegalHold. It unmarks what the hold covers, at once and again
// after retention.SettleTime. Then the hold is in force. It goes through the marked entries alone, so that one that
// is due soon does not wait for those that are not.
type Runner struct {
	Holds    Store
	Store    retention.Store
	Jobs     jobs.Store
	Tenants  jobs.Tenants // tenants.Cache.Fresh if the process has a cache
	Recorder audit.Recorder
	// Retain has retention look at all days of a tenant: its workers unmark what the hold covers too, many days at once.
	Retain func(ctx context.Context, tenant audit.TenantID) error
	// Clock decides how long the job waits, and when its hold is in force.
	Clock  jobs.Clock
	Now    func() time.Time
	Random func([]byte)
}

// checkpoint says how far a hold's job is.
type checkpoint struct {
	// MissedAt is since when the job waits for its hold to be stored.
	MissedAt time.Time `json:"missed_at,omitzero"`
	Begun    bool      `json:"begun"`   // whether retention was told
	Settled  bool      `json:"settled"` // whether it is in its second pass
	// PassedAt is when the first pass ended, zero before.
	PassedAt time.Time `json:"passed_at,omitzero"`
	// Cleanups are those that were in the archive when the second pass began: the last that can go by a look at the
	// holds from before.
	Cleanups []string      `json:"cleanups,omitempty"`
	After    audit.EntryID `json:"after,omitzero"`
	// EntryID is that of the entry about the end, whose time is that of the hold's InForceAt. It is
	// random, so that no client can take it.
	EntryID audit.EntryID `json:"entry_id,omitzero"`
}

// Run implements jobs.Runner.
func (r *Runner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	run := &holdRun{Runner: r, Slice: s}
	if err := s.Read(&run.at); err != nil {
		return jobs.Result{}, err
	}
	result, err := run.all(ctx)
	if err != nil {
		return jobs.Result{}, fmt.Errorf("bring hold %s of %s into force: %w", s.Job.ID, s.Job.Tenant, err)
	}
	return result, nil
}

// holdRun is one slice of a hold's job.
type holdRun struct {
	*Runner
	*jobs.Slice
	at   checkpoint
	hold Hold
}

func (r *holdRun) all(ctx context.Context) (jobs.Result, error) {
	var err error
	r.hold, err = r.Holds.Hold(ctx, r.Job.Tenant, r.Job.ID)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return r.awaitHold(ctx)
	case err != nil:
		return jobs.Result{}, err
	case !r.hold.ReleasedAt.IsZero() && !r.hold.InForceAt.IsZero(): // a worker was killed before it could record that
		return r.bringIntoForce(ctx)
	case !r.hold.ReleasedAt.IsZero():
		return jobs.Result{}, &jobs.FailedError{Reason: "the hold was released before it was in force"}
	}
	if err := r.begin(ctx); err != nil {
		return jobs.Result{}, err
	}
	if !r.at.Settled {
		if done, err := r.unmark(ctx); err != nil || !done {
			return jobs.Result{}, err
		}
		if wait, err := r.wait(ctx, &r.at.PassedAt); err != nil || wait > 0 {
			return jobs.Result{Wait: wait}, err
		}
		if r.at.Cleanups, err = r.inArchive(ctx); err != nil {
			return jobs.Result{}, err
		}
		r.at.Settled, r.at.After = true, audit.EntryID{}
		r.Job.Progress = 0.5
		if err := r.Save(ctx, r.at); err != nil {
			return jobs.Result{}, err
		}
	}
	if done, err := r.unmark(ctx); err != nil || !done {
		return jobs.Result{}, err
	}
	if removing, err := r.removing(ctx); err != nil || removing {
		return jobs.Result{Wait: removalWait}, err
	}
	return r.bringIntoForce(ctx)
}

// begin tells retention of the hold, which is stored by now.
func (r *holdRun) begin(ctx context.Context) error {
	if r.at.Begun {
		return nil
	}
	if err := r.Retain(ctx, r.Job.Tenant); err != nil {
		return err
	}
	r.at.Begun = true
	return r.Save(ctx, r.at)
}

// awaitHold waits for the hold, which is stored after its job was started. It returns a *jobs.FailedError if it
// never was, or went with its tenant.
func (r *holdRun) awaitHold(ctx context.Context) (jobs.Result, error) {
	wait, err := r.wait(ctx, &r.at.MissedAt)
	if err == nil && wait <= 0 {
		err = &jobs.FailedError{Reason: "the hold does not exist"}
	}
	return jobs.Result{Wait: min(wait, storeWait)}, err
}

// wait returns how much of retention.SettleTime is left, and saves since when it runs. The times of the job
// and of its hold are those of other clocks.
func (r *holdRun) wait(ctx context.Context, since *time.Time) (time.Duration, error) {
	left, err := r.Clock.WaitLeft(ctx, r.Now, since, retention.SettleTime)
	if err != nil || left <= 0 {
		return left, err
	}
	return left, r.Save(ctx, r.at)
}

// removing reports whether an erasure of the tenant has looked at the holds for the last time, and has not
// destroyed its key for sure, which its Count says, or whether one of the Cleanups is in the archive, where nothing can be unmarked.
func (r *holdRun) removing(ctx context.Context) (bool, error) {
	return jobs.Any(ctx, r.Jobs, r.Job.Tenant, jobs.Unfinished(jobs.KindErasure, jobs.KindCleanup), func(j *jobs.Job) (bool, error) {
		return j.Kind == jobs.KindErasure && j.Committed && j.Count == 0 || j.Archive && slices.Contains(r.at.Cleanups, j.ID), nil
	})
}

// inArchive returns the ids of the tenant's cleanups that are in the archive.
func (r *holdRun) inArchive(ctx context.Context) (ids []string, err error) {
	_, err = jobs.Any(ctx, r.Jobs, r.Job.Tenant, jobs.Unfinished(jobs.KindCleanup), func(j *jobs.Job) (bool, error) {
		if j.Archive {
			ids = append(ids, j.ID)
		}
		return false, nil // to the last one
	})
	return ids, err
}

// unmark keeps what the hold covers and was to be removed. It reports false if the slice ended first.
func (r *holdRun) unmark(ctx context.Context) (bool, error) {
	selection := retention.Selection{From: r.hold.From, To: r.hold.To, After: r.at.After, Marked: true}
	for {
		entries, err := r.Store.Retained(ctx, r.Job.Tenant, selection, retention.MaxEntries)
		if err != nil {
			return false, err
		}
		if len(entries) == 0 {
			return true, nil
		}
		var ids []audit.EntryID
		for i := range entries {
			if r.hold.Covers(&entries[i].Entry) {
				ids = append(ids, entries[i].ID)
			}
		}
		if len(ids) > 0 {
			if err := r.Store.Unmark(ctx, r.Job.Tenant, ids); err != nil {
				return false, err
			}
		}
		r.Job.Count += int64(len(ids))
		selection.After = entries[len(entries)-1].ID
		r.at.After = selection.After
		if err := r.Save(ctx, r.at); err != nil {
			return false, err
		}
		if r.TimeUp() {
			return false, nil
		}
	}
}

// bringIntoForce notes that the hold is in force, and records it in the tenant's log.
func (r *holdRun) bringIntoForce(ctx context.Context) (jobs.Result, error) {
	tenant, err := r.Tenants.Tenant(ctx, r.Job.Tenant)
	if err != nil {
		return jobs.Result{}, err
	}
	if r.at.EntryID.IsZero() {
		now, err := r.Clock.Now(ctx, r.Now)
		if err != nil {
			return jobs.Result{}, err
		}
		r.at.EntryID = audit.RandomEntryID(now, r.Random)
		if err := r.Save(ctx, r.at); err != nil {
			return jobs.Result{}, err
		}
	}
	if r.hold.InForceAt.IsZero() {
		r.hold.InForceAt = r.at.EntryID.Time()
		r.hold.Version++
		err := r.Holds.UpdateHold(ctx, r.hold)
		if errors.Is(err, audit.ErrPrecondition) { // released meanwhile: the next slice sees it
			return jobs.Result{}, nil
		}
		if err != nil {
			return jobs.Result{}, err
		}
	}
	return jobs.Result{Done: true}, audit.Record(ctx, r.Recorder, tenant, audit.Entry{
		ID: r.at.EntryID, Timestamp: r.at.EntryID.Time(), UserID: r.Job.CreatedBy, Action: actionInForce,
		ResourceType: resourceHold, ResourceID: r.Job.ID,
	})
}
