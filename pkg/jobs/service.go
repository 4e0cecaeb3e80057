package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// MaxQueued is how many jobs of one tenant may be queued at the same time. Requests that
// start jobs at the same time can exceed it by their number.
const MaxQueued = 20

// ErrTooManyQueued says that the tenant has MaxQueued queued jobs. It is an audit.ErrConflict.
var ErrTooManyQueued = fmt.Errorf("the tenant has %d queued jobs: %w", MaxQueued, audit.ErrConflict)

// Service starts, shows and cancels jobs.
type Service struct {
	Store Store
	Queues
	Recorder audit.Recorder
	Now      func() time.Time
	// Definitions are the kinds of jobs; nil: those of Definitions.
	Definitions []Definition
}

func (s *Service) definitions() []Definition {
	if s.Definitions != nil {
		return s.Definitions
	}
	return Definitions()
}

// Full reports whether the tenant has as many unfinished jobs of a kind as it may have.
func (s *Service) Full(ctx context.Context, tenant audit.TenantID, kind Kind, most int) (bool, error) {
	open, _, err := s.Store.Jobs(ctx, tenant, Unfinished(kind), nil, most)
	return len(open) >= most, err
}

// Start adds a queued job and sends its message. The caller sets ID, Kind, Tenant, CreatedBy and
// the first Checkpoint. If the tenant has a job with this id, Start returns that one. It starts it
// again if it failed. It returns ErrTooManyQueued if the tenant has MaxQueued queued jobs.
// Jobs of a kind that cannot be canceled are the service's duty and are not limited.
func (s *Service) Start(ctx context.Context, job Job) (Job, error) {
	job.State, job.CreatedAt = StateQueued, now(s.Now)
	job.ResumeAt = job.CreatedAt.Add(idleTimeout)
	if err := s.checkQueued(ctx, &job); err != nil {
		return Job{}, err
	}
	err := s.Store.CreateJob(ctx, job)
	if errors.Is(err, audit.ErrConflict) {
		return s.startAgain(ctx, job)
	}
	if err != nil {
		return Job{}, err
	}
	// If this fails, Plan sends the message later. The caller still learns of the failure.
	return job, s.Continue(ctx, &job)
}

func (s *Service) checkQueued(ctx context.Context, job *Job) error {
	if !s.cancelable(job.Kind) {
		return nil
	}
	limited := Filter{States: []State{StateQueued}}
	for _, d := range s.definitions() {
		if d.Cancelable {
			limited.Kinds = append(limited.Kinds, d.Kind)
		}
	}
	queued, _, err := s.Store.Jobs(ctx, job.Tenant, limited, nil, MaxQueued)
	if err != nil {
		return fmt.Errorf("count the queued jobs of %s: %w", job.Tenant, err)
	}
	if len(queued) >= MaxQueued {
		return fmt.Errorf("start a job of %s: %w", job.Tenant, ErrTooManyQueued)
	}
	return nil
}

// startAgain returns the stored job, which it queues again if it failed. The message of a
// queued job may have been lost, and a second one does no harm.
func (s *Service) startAgain(ctx context.Context, job Job) (Job, error) {
	stored, err := s.Store.Job(ctx, job.Tenant, job.ID)
	switch {
	case err != nil:
		return Job{}, err
	case stored.State == StateQueued:
		return stored, s.Continue(ctx, &stored)
	case stored.State != StateFailed:
		return stored, nil
	}
	stored.State, stored.Error, stored.FinishedAt, stored.ResumeAt = StateQueued, "", time.Time{}, job.ResumeAt
	stored.ReportID, stored.Failures = audit.EntryID{}, 0
	err = Replace(ctx, s.Store, &stored)
	if errors.Is(err, audit.ErrPrecondition) { // another request has just started it again
		return s.Store.Job(ctx, job.Tenant, job.ID)
	}
	if err != nil {
		return Job{}, err
	}
	return stored, s.Continue(ctx, &stored)
}

func (s *Service) cancelable(kind Kind) bool {
	return slices.ContainsFunc(s.definitions(), func(d Definition) bool { return d.Kind == kind && d.Cancelable })
}

// visible returns the kinds of jobs that the caller may see in the tenant: all with
// access.JobsRead, otherwise those that the caller may start. A caller that is restricted to
// resources sees no kind that is about entries of any resource.
func (s *Service) visible(by access.Principal, tenant audit.TenantID) []Kind {
	kinds := []Kind{}
	all := by.Has(tenant, access.JobsRead)
	for _, d := range s.definitions() {
		if d.AnyResource && by.Unrestricted() != nil {
			continue
		}
		if all || by.Has(tenant, d.Permission) {
			kinds = append(kinds, d.Kind)
		}
	}
	return kinds
}

// List returns up to limit jobs of the tenant that the caller may see, the newest first,
// and whether more follow. They lack their Checkpoint.
func (s *Service) List(ctx context.Context, by access.Principal, tenant audit.TenantID, filter Filter, after *Position, limit int) (list []Job, more bool, err error) {
	kinds := s.visible(by, tenant)
	if len(filter.Kinds) > 0 {
		kinds = slices.DeleteFunc(kinds, func(k Kind) bool { return !slices.Contains(filter.Kinds, k) })
	}
	if len(kinds) == 0 {
		return nil, false, nil
	}
	for stored := true; stored && len(list) <= limit; { // one more tells whether others follow
		var page []Job
		if page, stored, err = s.Store.Jobs(ctx, tenant, Filter{Kinds: kinds, States: filter.States}, after, max(limit+1, searchPage)); err != nil {
			return nil, false, err
		}
		for _, job := range page {
			if job.inScopeOf(by) {
				list = append(list, job)
			}
			after = &Position{CreatedAt: job.CreatedAt, ID: job.ID}
		}
	}
	if more = len(list) > limit; more {
		list = list[:limit]
	}
	return list, more, nil
}

// inScopeOf reports whether what the job reads is within the caller's scope.
func (j *Job) inScopeOf(by access.Principal) bool {
	return j.Scope == nil || access.Scope{Resources: by.Resources}.Covers(*j.Scope)
}

// Job returns a job of the tenant. It returns audit.ErrNotFound if none exists or if the
// caller may not see it.
func (s *Service) Job(ctx context.Context, by access.Principal, tenant audit.TenantID, id string) (Job, error) {
	job, err := s.Store.Job(ctx, tenant, id)
	if err == nil && (!slices.Contains(s.visible(by, tenant), job.Kind) || !job.inScopeOf(by)) {
		err = fmt.Errorf("job %s of %s: %w", id, tenant, audit.ErrNotFound)
	}
	if err != nil {
		return Job{}, err
	}
	return job, nil
}

// Errors of Cancel. Each is an audit.ErrConflict.
var (
	ErrFinished      = fmt.Errorf("the job is finished: %w", audit.ErrConflict)
	ErrNotCancelable = fmt.Errorf("a job of this kind cannot be canceled: %w", audit.ErrConflict)
	ErrCommitted     = fmt.Errorf("the job cannot be canceled any more: %w", audit.ErrConflict)
)

// maxCancels is how often Cancel tries while a worker saves the job.
const maxCancels = 8

// Cancel ends a job. A worker notices it at its next save; what it did until then remains.
// Canceling a canceled job is not an error. Cancel returns audit.ErrNotFound if the caller
// may not see the job, audit.ErrForbidden if the caller may not start jobs of its kind,
// ErrFinished, ErrCommitted, or ErrNotCancelable. It records the cancellation first, so the log can
// have one that came too late.
func (s *Service) Cancel(ctx context.Context, by access.Principal, tenant audit.Tenant, id string) (Job, error) {
	for attempt := range maxCancels {
		job, err := s.Job(ctx, by, tenant.ID, id)
		if err != nil {
			return Job{}, err
		}
		if err := s.mayCancel(by, &job); err != nil {
			return job, err
		}
		if job.State == StateCanceled {
			return job, s.clean(ctx, &job)
		}
		if attempt == 0 {
			if err := s.recordCancel(ctx, by, tenant, &job); err != nil {
				return Job{}, err
			}
		}
		job.State, job.FinishedAt, job.ResumeAt = StateCanceled, now(s.Now), time.Time{}
		if s.cleaned(job.Kind) {
			job.CleanAt, job.ResumeAt = job.FinishedAt, job.FinishedAt.Add(idleTimeout)
		}
		switch err = Replace(ctx, s.Store, &job); {
		case err == nil:
			return job, s.clean(ctx, &job)
		case !errors.Is(err, audit.ErrPrecondition):
			return job, err
		}
	}
	return Job{}, &audit.UnavailableError{Err: fmt.Errorf("cancel job %s of %s: it changes too often", id, tenant.ID)}
}

// clean has a worker remove what the canceled job left.
func (s *Service) clean(ctx context.Context, job *Job) error {
	if job.CleanAt.IsZero() {
		return nil
	}
	return s.Continue(ctx, job)
}

func (s *Service) cleaned(kind Kind) bool {
	return slices.ContainsFunc(s.definitions(), func(d Definition) bool { return d.Kind == kind && d.Cleaned })
}

func (s *Service) recordCancel(ctx context.Context, by access.Principal, tenant audit.Tenant, job *Job) error {
	entry, err := job.entry(actionCancel, by.Subject, "")
	if err != nil {
		return err
	}
	return audit.Record(ctx, s.Recorder, tenant, entry)
}

// The service's own entries about the ends of jobs. Runners record how a job succeeded.
const (
	actionCancel = "job.cancel"
	actionFail   = "job.fail"
	resourceJob  = "job"
)

// entry returns an entry about the job's end, which the user caused. The reason is that of a failure.
func (j *Job) entry(action, user, reason string) (audit.Entry, error) {
	metadata, err := json.Marshal(struct {
		Kind  Kind   `json:"kind"`
		Error string `json:"error,omitempty"`
	}{j.Kind, reason})
	if err != nil {
		return audit.Entry{}, fmt.Errorf("record the end of job %s of %s: %w", j.ID, j.Tenant, err)
	}
	return audit.Entry{UserID: user, Action: action, ResourceType: resourceJob, ResourceID: j.ID, Metadata: metadata}, nil
}

func (s *Service) mayCancel(by access.Principal, job *Job) error {
	i := slices.IndexFunc(s.definitions(), func(d Definition) bool { return d.Kind == job.Kind })
	switch d := s.definitions()[i]; {
	case !by.Has(job.Tenant, d.Permission):
		return fmt.Errorf("cancel job %s of %s: %w", job.ID, job.Tenant, audit.ErrForbidden)
	case job.State == StateCanceled:
		return nil
	case job.State.Finished():
		return ErrFinished
	case !d.Cancelable:
		return ErrNotCancelable
	case job.Committed, job.Failing != nil:
		return ErrCommitted
	}
	return nil
}

// planPage and planLimit bound one run of Plan.
const (
	planPage  = 100
	planLimit = 2000
)

// resends are the times until Plan sends the message of a waiting job once more. They grow,
// so that a long queue does not fill with copies.
var resends = backoff.Policy{First: idleTimeout, Max: 30 * time.Minute}

// maxResumeAhead is longer than any worker or Plan sets ResumeAt ahead. A later ResumeAt is
// that of a worker with a wrong clock.
const maxResumeAhead = time.Hour

// Plan sends again the messages of jobs that stand still: whose message was lost, or whose
// worker was killed. It also sends those of finished jobs that left something which is to be
// removed now. It handles those that wait longest first, up to 2,000 a run, and
// returns how many it sent. A job that only waits in the queue gets further messages, ever
// more rarely. They are stale once the first one was handled.
func (s *Service) Plan(ctx context.Context) (sent int, err error) {
	at := now(s.Now)
	for sent < planLimit {
		page, err := s.Store.OverdueJobs(ctx, at, at.Add(maxResumeAhead), planPage)
		if err != nil {
			return sent, fmt.Errorf("list the jobs that stand still: %w", err)
		}
		for i := range page {
			if err := s.resume(ctx, &page[i]); err != nil {
				return sent, err
			}
			sent++
		}
		if len(page) < planPage {
			return sent, nil
		}
	}
	return sent, nil
}

// resume sends the message of a listed job. It first moves ResumeAt, so that the next run of Plan
// does not send it again. A worker that has saved the job since then has it.
func (s *Service) resume(ctx context.Context, job *Job) error {
	err := s.Store.PostponeJob(ctx, *job, now(s.Now).Add(resends.Delay(job.Resent+1)))
	if errors.Is(err, audit.ErrPrecondition) || errors.Is(err, audit.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("resume job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return s.Continue(ctx, job)
}
