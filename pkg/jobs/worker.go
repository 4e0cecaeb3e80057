package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// Runner does the jobs of one kind.
type Runner interface {
	// Run continues the job of the slice from its checkpoint. It returns when the job is
	// done, when the slice's time is up, or when the job has to wait. It saves its progress
	// with Slice.Save, and repeats after a kill what it did since the last save.
	//
	// A *FailedError ends the job. After any other error the slice is repeated later.
	Run(ctx context.Context, s *Slice) (Result, error)
}

// Cleaner is a Runner whose jobs leave something behind.
type Cleaner interface {
	// Clean removes what the finished job left. It is called once or more often after the job's
	// CleanAt. After a cancellation, that is perhaps while a worker has not noticed it yet.
	Clean(ctx context.Context, job *Job) error
}

// Reporter is a Runner whose jobs have changed something also if they fail or are canceled.
type Reporter interface {
	// Report returns the entry about what a job has done that ends in a state: its Action, ResourceType and Metadata. A
	// worker records it in the tenant's log: of a job that fails before its end, of a canceled one after Cleaner.Clean.
	Report(job *Job, state State) (audit.Entry, error)
}

// Settler is a Reporter whose worker can still write after its job was canceled, until it notices that.
type Settler interface {
	Reporter
	// SettleTime is longer than the time from a save to the last effect of what a worker writes before the next one. For
	// that long a canceled job counts as unfinished; see EarlierUnfinished.
	SettleTime() time.Duration
}

// Result says how a slice ended.
type Result struct {
	// Done says that the job succeeded.
	Done bool
	// Wait is how long the next slice is to wait if the job is not done; zero: not at all.
	// The slice can come earlier, and it does after MaxDelay.
	Wait time.Duration
	// KeepFor is how long what a job leaves is kept after it is done. Then Cleaner.Clean removes it.
	// Zero: the job leaves nothing.
	KeepFor time.Duration
}

// FailedError is a failure that repeating does not change. Reason is shown to callers.
type FailedError struct{ Reason string }

func (e *FailedError) Error() string { return e.Reason }

const (
	// SliceTime is how long a slice works, and so how long the jobs of others wait while long ones have all
	// workers. A save and a message for each slice are little work beside it.
	SliceTime = 30 * time.Second
	// archiveSliceTime is that of the workers of the archive. What they begin with, such as finding their
	// place in its files, takes longer. It is well below the timeout of the workers.
	archiveSliceTime = 4 * time.Minute
	// saveInterval is the time between two saves of a slice that is asked to save more often.
	saveInterval = time.Second
	// finalTimeout bounds the calls at the end of a slice, also if its context has ended.
	finalTimeout = 5 * time.Second
	// idleTimeout is the time without a save after which Plan takes a job for abandoned. It
	// is longer than the longest step between two saves, a deletion by query of two minutes.
	idleTimeout = 3 * time.Minute
)

// Worker runs jobs, one slice for each message.
type Worker struct {
	Store Store
	Queues
	Runners map[Kind]Runner
	Tasks   map[TaskName]Task
	// SliceTime is how long a slice works; zero: the constants decide.
	SliceTime time.Duration
	// Recorder records in the logs of the Tenants which jobs failed.
	Recorder audit.Recorder
	Tenants  TenantReader // tenants.Cache.Fresh if the process has a cache
	Random   func([]byte) // fills its argument with random bytes
	// Failing is called at the start of each slice of a job that has failed many times in a row, and before what such a
	// job left is removed; nil: nobody is told.
	Failing func(ctx context.Context, job *Job)
	// Clock decides when a job ended in the tenant's log, and how long what a job left is kept.
	Clock Clock
	Now   func() time.Time
	Log   *slog.Logger
}

// Handle runs the next slice of a message's job, or its task. After nil the message may be
// deleted. A
// stale message, and one whose job no longer exists, has no effect.
func (w *Worker) Handle(ctx context.Context, body string) error {
	m, err := ParseMessage(body)
	if err != nil {
		return err
	}
	if m.Task != "" {
		return w.do(ctx, m)
	}
	job, err := w.Store.Job(ctx, m.Tenant, m.Job)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return nil
	case err != nil:
		return err
	case job.Generation != m.Generation && (!job.State.Finished() || job.CleanAt.IsZero()):
		return nil // what a finished job left is removed by any message: that does no harm twice
	}
	runner, known := w.Runners[job.Kind]
	if job.State.Finished() {
		return ignoreStale(w.clean(ctx, runner, job))
	}
	if !known { // a later release wrote it
		return fmt.Errorf("job %s of %s: no runner of kind %q", job.ID, job.Tenant, job.Kind)
	}
	s := &Slice{Job: job, worker: w, endsAt: w.Now().Add(w.sliceTime(&job))}
	failures := job.Failures
	if err := s.claim(ctx); err != nil {
		return ignoreStale(err)
	}
	if failures >= manyFailures && w.Failing != nil {
		w.Failing(ctx, &s.Job)
	}
	if s.Job.Failing != nil { // the worker that found it was killed, or could not record it
		return ignoreStale(w.endFailed(ctx, s, runner))
	}
	return ignoreStale(w.run(ctx, s, runner))
}

// clean removes what a finished job left, if it is time to. After a job that did not succeed it always is.
func (w *Worker) clean(ctx context.Context, runner Runner, job Job) error {
	cleaner, leaves := runner.(Cleaner)
	_, reports := runner.(Reporter)
	if !leaves && !reports || job.CleanAt.IsZero() {
		return nil
	}
	if job.State == StateSucceeded {
		if at, err := w.Clock.Now(ctx, w.Now); err != nil || job.CleanAt.After(at) {
			return err
		}
	}
	if job.Failures >= manyFailures && w.Failing != nil {
		w.Failing(ctx, &job)
	}
	var err error
	if read := job; leaves {
		if err = cleaner.Clean(ctx, &job); ignoreStale(err) != nil {
			return w.cleanLater(ctx, read, err)
		}
	}
	if err == nil && job.State == StateCanceled {
		err = w.reportCanceled(ctx, runner, &job)
	}
	if err == nil {
		err = w.endClean(ctx, runner, &job)
	}
	if err != nil {
		return fmt.Errorf("remove what job %s of %s left: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// cleanLater has Plan send the message again of a job after Cleaner.Clean failed. If that cannot be saved, the message
// comes again.
func (w *Worker) cleanLater(ctx context.Context, job Job, failure error) error {
	job.Failures++
	w.Log.ErrorContext(ctx, "what a job left was not removed", "job", job.ID, "kind", job.Kind, "tenant", job.Tenant,
		"failures", job.Failures, "error", failure)
	job.ResumeAt = now(w.Now).Add(retries.Delay(job.Failures))
	if err := ignoreStale(Replace(ctx, w.Store, &job)); err != nil {
		return errors.Join(fmt.Errorf("remove what job %s of %s left: %w", job.ID, job.Tenant, failure), err)
	}
	return nil
}

// endClean saves that the finished job leaves nothing any more, or sends its message again if it has not settled.
func (w *Worker) endClean(ctx context.Context, runner Runner, job *Job) error {
	left, err := w.settleLeft(ctx, runner, job)
	if err != nil {
		return err
	}
	if left > 0 {
		return send(ctx, w.of(job), job, min(left, MaxDelay))
	}
	job.CleanAt, job.ResumeAt, job.Failures = time.Time{}, time.Time{}, 0
	return Replace(ctx, w.Store, job)
}

// settleLeft returns how much is left of a canceled job's SettleTime. It begins with the report, which has the shared
// time.
func (w *Worker) settleLeft(ctx context.Context, runner Runner, job *Job) (time.Duration, error) {
	settler, settles := runner.(Settler)
	if !settles || job.State != StateCanceled {
		return 0, nil
	}
	at, err := w.Clock.Now(ctx, w.Now)
	return job.ReportID.Time().Add(settler.SettleTime()).Sub(at), err
}

func (w *Worker) do(ctx context.Context, m Message) error {
	task, known := w.Tasks[m.Task]
	if !known { // a later release wrote it
		return fmt.Errorf("task of %s: no task %q", m.Tenant, m.Task)
	}
	if err := task(ctx, m.Tenant, m.Input); err != nil {
		return fmt.Errorf("task %s of %s: %w", m.Task, m.Tenant, err)
	}
	return nil
}

func (w *Worker) sliceTime(job *Job) time.Duration {
	switch {
	case w.SliceTime > 0:
		return w.SliceTime
	case job.ofArchive():
		return archiveSliceTime
	}
	return SliceTime
}

// ignoreStale returns nil for the error of a worker that another one has replaced, or whose
// job was canceled.
func ignoreStale(err error) error {
	if errors.Is(err, audit.ErrPrecondition) || errors.Is(err, audit.ErrNotFound) {
		return nil
	}
	return err
}

// run runs a slice and saves how it ended.
func (w *Worker) run(ctx context.Context, s *Slice, runner Runner) error {
	var result Result
	err := panics.Recovered(ctx, func() (err error) {
		result, err = runner.Run(ctx, s)
		return err
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalTimeout)
	defer cancel()
	var failed *FailedError
	switch {
	case errors.Is(err, audit.ErrPrecondition):
		return err
	case errors.As(err, &failed):
		if err := s.fail(ctx, failed.Reason); err != nil {
			return err
		}
		return w.endFailed(ctx, s, runner)
	case err != nil:
		return w.retryLater(ctx, s, err)
	case result.Done:
		s.Job.Progress = 1
		return s.finish(ctx, StateSucceeded, result.KeepFor)
	}
	s.Job.Failures = 0
	return s.requeue(ctx, result.Wait)
}

// endFailed records why a job fails and what it has done, and ends it. If that cannot be recorded, the next slice tries
// again.
func (w *Worker) endFailed(ctx context.Context, s *Slice, runner Runner) error {
	err := w.recordFailure(ctx, &s.Job)
	if err == nil {
		err = w.report(ctx, runner, &s.Job, StateFailed)
	}
	if err != nil {
		return w.retryLater(ctx, s, err)
	}
	s.Job.Error, s.Job.Failing = s.Job.Failing.Reason, nil
	return s.finish(ctx, StateFailed, 0)
}

// recordFailure writes into the tenant's log why the job fails.
func (w *Worker) recordFailure(ctx context.Context, job *Job) error {
	entry, err := job.entry(actionFail, job.CreatedBy, job.Failing.Reason)
	if err != nil {
		return err
	}
	entry.ID, entry.Severity = job.Failing.EntryID, audit.SeverityError
	return w.record(ctx, job, entry)
}

// record writes an entry about the job into the tenant's log. The log of a deleted tenant goes with it.
func (w *Worker) record(ctx context.Context, job *Job, entry audit.Entry) error {
	tenant, err := w.Tenants.Tenant(ctx, job.Tenant)
	if deleted, err := audit.IsDeleted(tenant, err); err != nil || deleted {
		return err
	}
	entry.Timestamp = entry.ID.Time()
	return audit.Record(ctx, w.Recorder, tenant, entry)
}

// report records what a job has done that ends in the state; see Reporter.
func (w *Worker) report(ctx context.Context, runner Runner, job *Job, state State) error {
	reporter, reports := runner.(Reporter)
	if !reports {
		return nil
	}
	return w.reportAs(ctx, job.ReportID, reporter, job, state)
}

// reportAs records what a job has done that ends in the state as the entry with an id.
func (w *Worker) reportAs(ctx context.Context, id audit.EntryID, reporter Reporter, job *Job, state State) error {
	entry, err := reporter.Report(job, state)
	if err != nil {
		return fmt.Errorf("report what job %s of %s has done: %w", job.ID, job.Tenant, err)
	}
	entry.ID, entry.UserID, entry.ResourceID = id, job.CreatedBy, job.ID
	return w.record(ctx, job, entry)
}

// reportCanceled is report for a canceled job. It saves the id of the entry first, together with what Cleaner.Clean has
// changed. Of several workers, one can do so.
func (w *Worker) reportCanceled(ctx context.Context, runner Runner, job *Job) error {
	if _, reports := runner.(Reporter); !reports {
		return nil
	}
	if job.ReportID.IsZero() {
		at, err := w.Clock.Now(ctx, w.Now)
		if err != nil {
			return err
		}
		job.ReportID = audit.RandomEntryID(at, w.Random)
		if err := Replace(ctx, w.Store, job); err != nil {
			return err
		}
	}
	return w.report(ctx, runner, job, StateCanceled)
}

// retries are the delays after slices that failed.
var retries = backoff.Policy{First: 2 * time.Second, Max: 5 * time.Minute, Jitter: backoff.EqualJitter}

// manyFailures is how many slices fail in a row before Failing is called. With the retries that takes 10 to 20 minutes.
const manyFailures = 10

// retryLater schedules the slice after one that failed. If it cannot be scheduled, Plan
// does so later.
func (w *Worker) retryLater(ctx context.Context, s *Slice, failure error) error {
	w.Log.ErrorContext(ctx, "a slice of a job failed", "job", s.Job.ID, "kind", s.Job.Kind, "tenant", s.Job.Tenant,
		"failures", s.Job.Failures, "error", failure)
	if err := s.requeue(ctx, retries.Delay(s.Job.Failures)); err != nil {
		return errors.Join(fmt.Errorf("job %s of %s: %w", s.Job.ID, s.Job.Tenant, failure), err)
	}
	return nil
}

// Slice is the part of a job that one delivery of its message does.
type Slice struct {
	Job     Job // as it was saved last, with the changes since then
	worker  *Worker
	endsAt  time.Time
	savedAt time.Time
	wait    time.Duration // of the next slice
}

// TimeUp reports whether the slice has to end.
func (s *Slice) TimeUp() bool { return !s.worker.Now().Before(s.endsAt) }

// Read decodes the job's checkpoint into the value. It leaves the value as it is if the job
// has not begun.
func (s *Slice) Read(checkpoint any) error {
	if s.Job.Checkpoint == nil {
		return nil
	}
	if err := json.Unmarshal(s.Job.Checkpoint, checkpoint); err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	return nil
}

// Save stores the checkpoint with the job's Progress and Count. It returns
// audit.ErrPrecondition if another worker has the job or the job was canceled: the runner
// must then return the error without a further step.
func (s *Slice) Save(ctx context.Context, checkpoint any) error {
	if err := s.keep(checkpoint); err != nil {
		return err
	}
	return s.store(ctx)
}

// Commit is Save for a step that must not be taken once the job is canceled. After it, the job
// cannot be canceled.
func (s *Slice) Commit(ctx context.Context, checkpoint any) error {
	if err := s.keep(checkpoint); err != nil {
		return err
	}
	s.Job.Committed = true
	return s.store(ctx)
}

// CommitEnd is Commit of a job that has done its work. It gives the entry about the end, which is a part of the
// checkpoint, a random id of the shared time, so that no client can take it. It has no effect if the entry has one.
func (s *Slice) CommitEnd(ctx context.Context, checkpoint any, entry *audit.EntryID) error {
	if !entry.IsZero() {
		return nil
	}
	at, err := s.worker.Clock.Now(ctx, s.worker.Now)
	if err != nil {
		return err
	}
	*entry = audit.RandomEntryID(at, s.worker.Random)
	return s.Commit(ctx, checkpoint)
}

// ReportEnd records what a job has done that succeeds, as the entry to which CommitEnd gave the id.
func (s *Slice) ReportEnd(ctx context.Context, id audit.EntryID, reporter Reporter) error {
	return s.worker.reportAs(ctx, id, reporter, &s.Job, StateSucceeded)
}

// Stored returns the job as the store has it now: another process can have changed it since the slice saved it.
func (s *Slice) Stored(ctx context.Context) (Job, error) {
	return s.worker.Store.Job(ctx, s.Job.Tenant, s.Job.ID)
}

// fail saves why the job fails. From then on nothing continues or cancels it, so that its end is what is recorded.
func (s *Slice) fail(ctx context.Context, reason string) error {
	at, err := s.worker.Clock.Now(ctx, s.worker.Now)
	if err != nil {
		return err
	}
	s.Job.Fail(reason, at, s.worker.Random)
	return s.store(ctx)
}

// Unsaved returns how long ago the last save was.
func (s *Slice) Unsaved() time.Duration { return s.worker.Now().Sub(s.savedAt) }

// SaveIfDue is Save if the last was a second ago or longer. Otherwise it only keeps the
// checkpoint for the next save.
func (s *Slice) SaveIfDue(ctx context.Context, checkpoint any) error {
	if s.Unsaved() >= saveInterval {
		return s.Save(ctx, checkpoint)
	}
	return s.keep(checkpoint)
}

func (s *Slice) keep(checkpoint any) error {
	text, err := json.Marshal(checkpoint)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	s.Job.Checkpoint = text
	return nil
}

// store replaces the stored job and raises its generation. So whoever has read the job before, to claim or to cancel it,
// cannot put an older checkpoint in the place of this one.
func (s *Slice) store(ctx context.Context) error {
	s.Job.ResumeAt = now(s.worker.Now).Add(idleTimeout + s.wait)
	if s.Job.State.Finished() {
		s.Job.ResumeAt = s.Job.CleanAt
	}
	if err := Replace(ctx, s.worker.Store, &s.Job); err != nil {
		return fmt.Errorf("save job %s of %s: %w", s.Job.ID, s.Job.Tenant, err)
	}
	s.savedAt = s.worker.Now()
	return nil
}

// claim saves that the slice has the job, which makes all other messages and workers stale.
func (s *Slice) claim(ctx context.Context) error {
	s.Job.State, s.Job.Resent = StateRunning, 0
	s.Job.Failures++ // until the slice has ended well: its worker can be killed
	if s.Job.StartedAt.IsZero() {
		s.Job.StartedAt = now(s.worker.Now)
	}
	return s.store(ctx)
}

func (s *Slice) finish(ctx context.Context, state State, keepFor time.Duration) error {
	s.Job.State, s.Job.FinishedAt = state, now(s.worker.Now)
	s.Job.Failures-- // this slice has not failed
	if keepFor > 0 {
		at, err := s.worker.Clock.Now(ctx, s.worker.Now)
		if err != nil {
			return err
		}
		s.Job.CleanAt = at.Add(keepFor)
	}
	return s.store(ctx)
}

// requeue saves the job and sends the message of its next slice.
func (s *Slice) requeue(ctx context.Context, wait time.Duration) error {
	s.wait = min(wait, MaxDelay)
	if err := s.store(ctx); err != nil {
		return err
	}
	return send(ctx, s.worker.of(&s.Job), &s.Job, s.wait)
}

// Continue sends the message that continues the job.
func (q Queues) Continue(ctx context.Context, job *Job) error { return send(ctx, q.of(job), job, 0) }

// send sends the message that continues the job. wait is at most MaxDelay.
func send(ctx context.Context, q Queue, job *Job, wait time.Duration) error {
	body, err := messageOf(job)
	if err == nil {
		err = deliver(ctx, q, job.Tenant, wait, body)
	}
	if err != nil {
		return fmt.Errorf("queue job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// deliver sends a message, with a delay unless that is 0.
func deliver(ctx context.Context, q Queue, tenant audit.TenantID, delay time.Duration, body string) error {
	if delay > 0 {
		return q.SendAfter(ctx, tenant, delay, body)
	}
	return q.Send(ctx, tenant, []string{body})
}

// now returns the time as jobs have it.
func now(clock func() time.Time) time.Time { return clock().UTC().Truncate(time.Millisecond) }
