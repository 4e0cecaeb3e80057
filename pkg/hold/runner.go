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
// after retention.SettleTime. Then the hold is in force.
type Runner struct {
	Holds    Store
	Store    retention.Store
	Jobs     jobs.Store
	Tenants  jobs.Tenants // tenants.Cache.Fresh if the process has a cache
	Recorder audit.Recorder
	Now      func() time.Time
	Random   func([]byte)
}

// checkpoint says how far a hold's job is.
type checkpoint struct {
	Settled bool `json:"settled"` // whether it is in its second pass
	// PassedAt is when the first pass ended, by the clock of the worker that then waits.
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
	case errors.Is(err, audit.ErrNotFound) && r.Now().Before(r.Job.CreatedAt.Add(retention.SettleTime)): // it is stored after its job
		return jobs.Result{Wait: storeWait}, nil
	case errors.Is(err, audit.ErrNotFound): // it never was, or went with its tenant
		return jobs.Result{}, &jobs.FailedError{Reason: "the hold does not exist"}
	case err != nil:
		return jobs.Result{}, err
	case !r.hold.ReleasedAt.IsZero():
		return jobs.Result{}, &jobs.FailedError{Reason: "the hold was released before it was in force"}
	}
	if !r.at.Settled {
		if done, err := r.unmark(ctx); err != nil || !done {
			return jobs.Result{}, err
		}
		if r.at.PassedAt.IsZero() {
			r.at.PassedAt = r.Now().UTC().Truncate(time.Millisecond)
			if err := r.Save(ctx, r.at); err != nil {
				return jobs.Result{}, err
			}
		}
		if wait := r.at.PassedAt.Add(retention.SettleTime).Sub(r.Now()); wait > 0 {
			return jobs.Result{Wait: wait}, nil
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

// removing reports whether an erasure of the tenant has looked at the holds for the last time, and has not
// destroyed its key for sure, or whether one of the Cleanups is in the archive, where nothing can be unmarked.
func (r *holdRun) removing(ctx context.Context) (bool, error) {
	return jobs.Any(ctx, r.Jobs, r.Job.Tenant, jobs.Unfinished(jobs.KindErasure, jobs.KindCleanup), func(j *jobs.Job) (bool, error) {
		return j.Kind == jobs.KindErasure && j.Committed || j.Archive && slices.Contains(r.at.Cleanups, j.ID), nil
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
	// It reads entries that are not marked too: to look for the next marked one could take longer than
	// a slice, and nothing of it would be saved.
	selection := retention.Selection{From: r.hold.From, To: r.hold.To, After: r.at.After}
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
			if !entries[i].DeletableAt.IsZero() && r.hold.Covers(&entries[i].Entry) {
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
		var random [10]byte
		r.Random(random[:])
		r.at.EntryID = audit.NewEntryID(r.Now(), random)
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
