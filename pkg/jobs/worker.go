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
	Now       func() time.Time
	Log       *slog.Logger
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
	case job.Generation != m.Generation:
		return nil
	}
	runner, known := w.Runners[job.Kind]
	if job.State.Finished() {
		return ignoreStale(w.clean(ctx, runner, job))
	}
	if !known { // a later release wrote it
		return fmt.Errorf("job %s of %s: no runner of kind %q", job.ID, job.Tenant, job.Kind)
	}
	s := &Slice{Job: job, worker: w, endsAt: w.Now().Add(w.sliceTime(&job))}
	if err := s.claim(ctx); err != nil {
		return ignoreStale(err)
	}
	return ignoreStale(w.run(ctx, s, runner))
}

// clean removes what a finished job left, if it is time to.
func (w *Worker) clean(ctx context.Context, runner Runner, job Job) error {
	cleaner, leaves := runner.(Cleaner)
	if !leaves || job.CleanAt.IsZero() || job.CleanAt.After(w.Now()) {
		return nil
	}
	err := cleaner.Clean(ctx, &job)
	if err == nil {
		job.CleanAt, job.ResumeAt = time.Time{}, time.Time{}
		err = w.Store.UpdateJob(ctx, job, job.Generation)
	}
	if err != nil {
		return fmt.Errorf("remove what job %s of %s left: %w", job.ID, job.Tenant, err)
	}
	return nil
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
		return s.finish(ctx, StateFailed, failed.Reason, 0)
	case err != nil:
		return w.retryLater(ctx, s, err)
	case result.Done:
		s.Job.Progress = 1
		return s.finish(ctx, StateSucceeded, "", result.KeepFor)
	}
	s.Job.Failures = 0
	return s.requeue(ctx, result.Wait)
}

// retries are the delays after slices that failed.
var retries = backoff.Policy{First: 2 * time.Second, Max: 5 * time.Minute, Jitter: backoff.EqualJitter}

// retryLater schedules the slice after one that failed. If it cannot be scheduled, Plan
// does so later.
func (w *Worker) retryLater(ctx context.Context, s *Slice, failure error) error {
	s.Job.Failures++
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
	return s.store(ctx, s.Job.Generation)
}

// Commit is Save for a step that must not be taken once the job is canceled. After it, the job
// cannot be canceled.
func (s *Slice) Commit(ctx context.Context, checkpoint any) error {
	if err := s.keep(checkpoint); err != nil {
		return err
	}
	read := s.Job.Generation
	s.Job.Generation++ // so that a Cancel that has read the job before fails
	s.Job.Committed = true
	return s.store(ctx, read)
}

// CommitEnd is Commit of a job that has done its work. It gives the entry about the end, which is a part of the
// checkpoint, a random id, so that no client can take it. It has no effect if the entry has one.
func (s *Slice) CommitEnd(ctx context.Context, checkpoint any, entry *audit.EntryID, now time.Time, random func([]byte)) error {
	if !entry.IsZero() {
		return nil
	}
	var b [10]byte
	random(b[:])
	*entry = audit.NewEntryID(now, b)
	return s.Commit(ctx, checkpoint)
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

// store replaces the stored job, whose generation is the given one.
func (s *Slice) store(ctx context.Context, generation int64) error {
	s.Job.ResumeAt = now(s.worker.Now).Add(idleTimeout + s.wait)
	if s.Job.State.Finished() {
		s.Job.ResumeAt = s.Job.CleanAt
	}
	if err := s.worker.Store.UpdateJob(ctx, s.Job, generation); err != nil {
		return fmt.Errorf("save job %s of %s: %w", s.Job.ID, s.Job.Tenant, err)
	}
	s.savedAt = s.worker.Now()
	return nil
}

// claim raises the job's generation, which makes all other messages and workers stale.
func (s *Slice) claim(ctx context.Context) error {
	read := s.Job.Generation
	s.Job.Generation++
	s.Job.State, s.Job.Resent = StateRunning, 0
	if s.Job.StartedAt.IsZero() {
		s.Job.StartedAt = now(s.worker.Now)
	}
	return s.store(ctx, read)
}

func (s *Slice) finish(ctx context.Context, state State, reason string, keepFor time.Duration) error {
	s.Job.State, s.Job.Error, s.Job.FinishedAt = state, reason, now(s.worker.Now)
	if keepFor > 0 {
		s.Job.CleanAt = s.Job.FinishedAt.Add(keepFor)
	}
	return s.store(ctx, s.Job.Generation)
}

// requeue saves the job and sends the message of its next slice.
func (s *Slice) requeue(ctx context.Context, wait time.Duration) error {
	s.wait = min(wait, MaxDelay)
	if err := s.store(ctx, s.Job.Generation); err != nil {
		return err
	}
	return send(ctx, s.worker.of(&s.Job), &s.Job, s.wait)
}

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
