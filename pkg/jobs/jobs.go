// Package jobs does what takes longer than a request, such as the deletion of a tenant.
// Service starts, shows and cancels jobs. Worker runs them in slices of a few minutes, so
// that no job is bounded by the time of one invocation. Plan resumes those that stand still.
//
// A job has a generation, which each save raises: that of a worker that begins a slice too. A worker saves only
// while the stored generation is that of its last save. So a worker that slept, or whose message was delivered
// twice, does no harm, whatever its clock says.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
)

// Kind is what a job does.
type Kind string

// The kinds of jobs.
const (
	// KindPurgeTenant removes a deleted tenant from every store.
	KindPurgeTenant Kind = "purge_tenant"
	// KindErasure destroys the key of a subject; see package erasure.
	KindErasure Kind = "erasure"
	// KindLegalHold brings a legal hold into force; see package hold.
	KindLegalHold Kind = "legal_hold"
	// KindExport writes entries to a file; see package export.
	KindExport Kind = "export"
	// KindCleanup removes entries that a caller has selected; see package cleanup.
	KindCleanup Kind = "cleanup"
	// KindRestore brings archived entries back; see package restore.
	KindRestore Kind = "restore"
	// KindArchive copies entries to files that outlive the database; see package archive.
	KindArchive Kind = "archive"
)

// Definition describes a kind of job.
type Definition struct {
	Kind Kind
	// Permission is what a caller needs to start, see and cancel jobs of this kind.
	Permission access.Permission
	// AnyResource says that a job of this kind is about entries of any resource. A caller whose
	// credential is restricted to resources may not start, see or cancel it.
	AnyResource bool
	// Cancelable says that a job of this kind may be canceled before its end.
	Cancelable bool
	// Cleaned says that a worker removes what a job of this kind left, or records what a canceled one has done; see
	// Cleaner and Reporter.
	Cleaned bool
}

// Definitions returns every kind of job.
func Definitions() []Definition {
	return []Definition{
		{Kind: KindPurgeTenant, Permission: access.TenantsDelete, AnyResource: true},
		{Kind: KindErasure, Permission: access.SubjectsErase, AnyResource: true, Cancelable: true},
		{Kind: KindLegalHold, Permission: access.HoldsManage, AnyResource: true}, // a release ends it
		{Kind: KindExport, Permission: access.LogsExport, Cancelable: true, Cleaned: true},
		{Kind: KindCleanup, Permission: access.LogsCleanup, Cancelable: true, Cleaned: true},
		{Kind: KindRestore, Permission: access.ArchiveRestore, AnyResource: true, Cancelable: true, Cleaned: true},
		{Kind: KindArchive, Permission: access.JobsRead, AnyResource: true}, // a setting starts it
	}
}

// State is the state of a job.
type State string

// The states of a job. The last three are final, but for a failed deletion of a tenant,
// which can be started again.
const (
	StateQueued    State = "queued"
	StateRunning   State = "running"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateCanceled  State = "cancelled" // the spelling of the HTTP API
)

// States returns every state.
func States() []State {
	return []State{StateQueued, StateRunning, StateSucceeded, StateFailed, StateCanceled}
}

// Finished reports whether no worker works on a job in this state.
func (s State) Finished() bool { return s != StateQueued && s != StateRunning }

// Job is work that continues after the request that started it. Times have whole
// milliseconds. The JSON form is that of the embedded engine's file.
type Job struct {
	ID        string         `json:"id"` // unique within the tenant
	Kind      Kind           `json:"kind"`
	Tenant    audit.TenantID `json:"tenant_id"`
	State     State          `json:"state"`
	Progress  float64        `json:"progress"`   // 0 to 1
	Count     int64          `json:"count"`      // records handled so far
	CreatedBy string         `json:"created_by"` // the subject of who started it
	CreatedAt time.Time      `json:"created_at"`
	// ArchiveCount counts the entries that a cleanup has removed from the archive; nil: it leaves that as it is.
	ArchiveCount *int64 `json:"archive_count,omitempty"`
	// Scope is set for a job that reads entries for who started it. Only callers whose own scope
	// covers it see the job.
	Scope *access.Scope `json:"scope,omitempty"`
	// StartedAt is when a worker first took the job, FinishedAt when it reached a final
	// state. They are zero before.
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	Error      string    `json:"error,omitempty"` // why it failed, for the caller
	// Certificate is the id of the job's certificate, zero before the job succeeds, and for kinds that
	// have none.
	Certificate certificate.ID `json:"certificate,omitzero"`

	// Checkpoint is how far the job is, in the form of its kind; nil: it has not begun.
	Checkpoint json.RawMessage `json:"checkpoint,omitempty"`
	// Generation counts the saves of the job. Each makes stale what was read of the job before, and the messages that
	// were sent before.
	Generation int64 `json:"generation"`
	// Committed says that the job cannot be canceled any more; see Slice.Commit.
	Committed bool `json:"committed,omitempty"`
	// Failing is set once a worker has found that the job fails, until StateFailed is saved. Nothing continues or
	// cancels the job any more.
	Failing *Failure `json:"failing,omitempty"`
	// ReportID is the id of the entry about what the job has done, if it fails or was canceled; see Reporter. It is random,
	// so that no client can take it. It is saved first, so that the log has one entry, whenever a worker is killed.
	ReportID audit.EntryID `json:"report_id,omitzero"`
	// Archive says that the next slice reads the archive. The workers of the archive do it.
	Archive bool `json:"archive,omitempty"`
	// Failures counts the slices that failed, or whose worker was killed, since the last that did not. During a slice it
	// counts that one too. Of a finished job it counts on with the calls of Cleaner.Clean that failed.
	Failures int `json:"failures,omitempty"`
	// ResumeAt is when Plan sends the job's message again unless the job is saved before. By
	// then its message was lost or its worker killed. It is zero for a finished job without CleanAt.
	ResumeAt time.Time `json:"resume_at,omitzero"`
	// CleanAt is when a worker removes what the job left that succeeded; see Cleaner. After another end a worker removes
	// it at once. CleanAt is zero if nothing is left.
	CleanAt time.Time `json:"clean_at,omitzero"`
	// Resent counts how often Plan has sent the message since a worker last took the job.
	Resent int `json:"resent,omitempty"`
}

// Failure is why a job fails, and the id of the entry about it in the tenant's log. The id is random, so that no
// client can take it. It is saved first, so that the log has one entry, whenever a worker is killed.
type Failure struct {
	Reason  string        `json:"reason"`
	EntryID audit.EntryID `json:"entry_id"`
}

// Replace stores a job that was read and then changed, and raises its generation: what others have read of it before is
// stale. It returns audit.ErrPrecondition if the stored job has another generation, and audit.ErrNotFound if there is
// none. After an error the generation is as it was.
func Replace(ctx context.Context, store Store, job *Job) error {
	read := job.Generation
	job.Generation++
	err := store.UpdateJob(ctx, *job, read)
	if err != nil {
		job.Generation = read
	}
	return err
}

// Fail sets why an unfinished job fails. The next message has a worker record and end it. at is the shared time.
func (j *Job) Fail(reason string, at time.Time, random func([]byte)) {
	j.Failing = &Failure{Reason: reason, EntryID: audit.RandomEntryID(at, random)}
	j.ReportID = audit.RandomEntryID(at, random)
}

// Retention is how long a finished job can be seen. Stores remove it afterwards.
const Retention = 90 * 24 * time.Hour

// Filter selects jobs. An empty list selects all.
type Filter struct {
	Kinds  []Kind
	States []State
}

// Unfinished selects the jobs of some kinds that have not reached a final state.
func Unfinished(kinds ...Kind) Filter {
	return Filter{Kinds: kinds, States: []State{StateQueued, StateRunning}}
}

// EarlierUnfinished reports whether an earlier job of the tenant that is of one of the kinds has not reached
// a final state, or was canceled and a worker has not removed yet what it left, or may still write: see Cleaner and
// Settler. A job that leaves the archive as it is does not wait for what a canceled one left there: a damaged archive
// does not stop it.
func EarlierUnfinished(ctx context.Context, store Store, job *Job, kinds ...Kind) (bool, error) {
	filter := Unfinished(kinds...)
	filter.States = append(filter.States, StateCanceled)
	own := &Position{CreatedAt: job.CreatedAt, ID: job.ID}
	return anyAfter(ctx, store, job.Tenant, filter, own, func(j *Job) (bool, error) {
		return !j.State.Finished() || !j.CleanAt.IsZero() && (!j.Archive || job.usesArchive()), nil
	})
}

// usesArchive reports whether the job reads or changes the archive.
func (j *Job) usesArchive() bool {
	return j.Kind == KindRestore || j.Kind == KindArchive || j.ArchiveCount != nil
}

// Position is a place in a tenant's list of jobs, or in another list that begins with the newest.
type Position struct {
	CreatedAt time.Time `json:"created_at"`
	ID        string    `json:"id"`
}

// Store stores jobs.
type Store interface {
	// CreateJob adds a job. It returns audit.ErrConflict if the tenant has one with this id.
	CreateJob(ctx context.Context, job Job) error
	// UpdateJob replaces a job whose stored generation is the given one. It returns
	// audit.ErrPrecondition if it is another, and audit.ErrNotFound if none exists.
	UpdateJob(ctx context.Context, job Job, generation int64) error
	// PostponeJob sets the ResumeAt of a job, as it was read or listed, and adds 1 to its Resent. It returns
	// audit.ErrPrecondition if the job has another Generation or ResumeAt, because it was saved since then, and
	// audit.ErrNotFound if none exists.
	PostponeJob(ctx context.Context, job Job, resumeAt time.Time) error
	// Job returns a job of the tenant. It returns audit.ErrNotFound if none exists.
	Job(ctx context.Context, tenant audit.TenantID, id string) (Job, error)
	// Jobs returns up to limit jobs of the tenant, the newest first, after a position
	// (nil: from the newest), and whether more follow. They lack their Checkpoint, which can be large.
	Jobs(ctx context.Context, tenant audit.TenantID, filter Filter, after *Position, limit int) (list []Job, more bool, err error)
	// OverdueJobs returns up to limit jobs of all tenants whose ResumeAt is set and not after at.
	// It also returns those that are not finished and whose ResumeAt is later than latest. Those
	// that are not finished come first, and of them the earliest. They lack their Checkpoint.
	OverdueJobs(ctx context.Context, at, latest time.Time, limit int) ([]Job, error)
}

// searchPage is how many jobs are read at once, at least, to find some of them.
const searchPage = 100

// Any reports whether a job of the tenant is one that is searched for. Like those of a list, it lacks its
// Checkpoint.
func Any(ctx context.Context, store Store, tenant audit.TenantID, filter Filter, is func(*Job) (bool, error)) (bool, error) {
	return anyAfter(ctx, store, tenant, filter, nil, is)
}

// anyAfter is Any for the jobs after a position; nil: all.
func anyAfter(ctx context.Context, store Store, tenant audit.TenantID, filter Filter, after *Position, is func(*Job) (bool, error)) (bool, error) {
	for {
		list, more, err := store.Jobs(ctx, tenant, filter, after, searchPage)
		if err != nil {
			return false, err
		}
		for i := range list {
			if found, err := is(&list[i]); err != nil || found {
				return found, err
			}
		}
		if !more {
			return false, nil
		}
		last := &list[len(list)-1]
		after = &Position{CreatedAt: last.CreatedAt, ID: last.ID}
	}
}

// WithCheckpoints returns what a function makes of listed jobs with their checkpoints. It reads one after
// another, because the checkpoints of all could be too much for a process. It leaves out jobs that were
// removed since they were listed.
func WithCheckpoints[T any](ctx context.Context, store Store, list []Job, of func(Job) (T, error)) ([]T, error) {
	made := make([]T, 0, len(list))
	for i := range list {
		job, err := store.Job(ctx, list[i].Tenant, list[i].ID)
		if errors.Is(err, audit.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		one, err := of(job)
		if err != nil {
			return nil, err
		}
		made = append(made, one)
	}
	return made, nil
}

// Queue sends messages to the workers. Both calls return nil only once the message is
// durable in the queue. SendAfter delays its delivery by up to MaxDelay.
type Queue interface {
	Send(ctx context.Context, tenant audit.TenantID, bodies []string) error
	SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error
}

// Queues are the queues of the workers. Those of the archive have one of their own: archiving takes long, and
// only they can read what is archived.
type Queues struct {
	Jobs, Archive Queue
}

// of returns the queue of the job's next message. What a finished job left is removed by the other workers.
func (q Queues) of(job *Job) Queue {
	if job.ofArchive() {
		return q.Archive
	}
	return q.Jobs
}

// ofArchive reports whether the workers of the archive do the next slice.
func (j *Job) ofArchive() bool {
	return j.Kind == KindArchive || j.Kind == KindRestore || j.Archive && !j.State.Finished()
}

// MaxDelay is the longest delay of a message. SQS allows no longer one.
const MaxDelay = 15 * time.Minute

// Purger removes the records of a deleted tenant from one store, in steps. Purge removes
// about limit records and returns how many it removed. It returns 0 only if the tenant has
// none left. It may remove more than limit at once if that is one cheap operation, such as
// dropping an index. Several calls may run at the same time.
type Purger interface {
	Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error)
}

// Counter counts the records of the tenant that a Purger would remove now.
type Counter interface {
	CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error)
}

// CountedPurger is a Purger that can tell what it would remove.
type CountedPurger interface {
	Purger
	Counter
}

// NamedPurger is a store to purge. Name appears in errors and certificates. The count in the certificate can be too
// low after a kill if the Purger is no CountedPurger.
type NamedPurger struct {
	Name   string
	Purger Purger
	// Archive says that the store is the archive, which stays if audit.Tenant.KeepArchive says so.
	Archive bool
}

// LiveTenant takes what a store returned for the tenant of a job. It returns a *FailedError with the
// reason if the tenant is being deleted.
func LiveTenant(tenant audit.Tenant, err error, reason string) (audit.Tenant, error) {
	deleted, err := audit.IsDeleted(tenant, err)
	if deleted && err == nil {
		err = &FailedError{Reason: reason}
	}
	return tenant, err
}

// TenantReader finds tenants.
type TenantReader interface {
	// Tenant returns one tenant. It returns audit.ErrNotFound if none exists or if it was purged.
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Tenants finds and tombstones tenants; see tenants.Store.
type Tenants interface {
	TenantReader
	// Tombstone removes the record if its stored Version is the given one, and reserves the
	// id for ever. It returns audit.ErrPrecondition if the version is another. Repeating it
	// is not an error.
	Tombstone(ctx context.Context, id audit.TenantID, version int64) error
}
