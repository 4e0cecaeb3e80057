package cleanup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

const (
	// storesShare is the progress of a cleanup of the archive that has removed everything from the stores.
	storesShare = 0.5
	// readAtOnce is how many stored entries are read at once. Each can have 384 KiB.
	readAtOnce = 100
)

// archivePlace says how far a cleanup is in the archive.
type archivePlace struct {
	// Archiving are the jobs that were archiving when the entries were gone from the stores. They can still have
	// some of them in memory.
	Archiving []string `json:"archiving,omitempty"`
	// Month is a time of the month that is being cleaned; zero: none yet. Its parts up to the number Part are done.
	Month time.Time `json:"month,omitzero"`
	Part  int       `json:"part,omitempty"`
	// Replacing is a part that the manifest may lack. Holds are the ids of the holds that were asked about it.
	Replacing *archive.Replacement `json:"replacing,omitempty"`
	Holds     []string             `json:"holds,omitempty"`
	Ended     bool                 `json:"ended,omitempty"`
}

// beginStored finds the time of the first stored entry, for the progress.
func (r *cleanupRun) beginStored(ctx context.Context) error {
	first, err := r.Store.Retained(ctx, r.Job.Tenant, r.span(), 1)
	if err != nil || len(first) == 0 {
		return err
	}
	_, r.at.Last = r.selection.Range()
	r.at.First = first[0].Timestamp
	return nil
}

// span returns the times of what is left to look at in the system of record.
func (r *cleanupRun) span() retention.Selection {
	from, to := r.selection.Range()
	return retention.Selection{From: from, To: to}
}

// storedPage reads the next entries of the system of record. The index lacks what has expired.
func (r *cleanupRun) storedPage(ctx context.Context) (page audit.Page, err error) {
	of := r.span()
	if r.at.Position != nil {
		if of.After, err = audit.ParseEntryID(r.at.Position.Tie); err != nil {
			return page, fmt.Errorf("read the position: %w", err)
		}
	}
	looked, err := r.Store.Retained(ctx, r.Job.Tenant, of, audit.MaxPageLimit)
	if err != nil || len(looked) == 0 {
		return page, err
	}
	size := 0
	for few := range slices.Chunk(looked, readAtOnce) {
		entries, err := r.Store.EntriesByID(ctx, r.Job.Tenant, idsOfLooked(few))
		if err != nil {
			return page, err
		}
		for i := range entries {
			if e := &entries[i]; r.selection.Has(*e) {
				page.Entries = append(page.Entries, *e)
				size += len(e.Message) + len(e.Before) + len(e.After) + len(e.Metadata)
			}
		}
		last := few[len(few)-1].ID
		page.Last, page.More = &audit.Position{Time: last.Time(), Tie: last.String()}, true
		if size > audit.MaxPageBytes {
			break
		}
	}
	return page, nil
}

func idsOfLooked(looked []retention.Entry) []audit.EntryID {
	ids := make([]audit.EntryID, len(looked))
	for i := range looked {
		ids[i] = looked[i].ID
	}
	return ids
}

// handOver has ArchiveRunner go on.
func (r *cleanupRun) handOver(ctx context.Context) error {
	if r.at.Archive == nil {
		place := &archivePlace{}
		_, err := jobs.Any(ctx, r.Jobs, r.Job.Tenant, jobs.Unfinished(jobs.KindArchive), func(j *jobs.Job) (bool, error) {
			place.Archiving = append(place.Archiving, j.ID)
			return false, nil // to the last one
		})
		if err != nil {
			return err
		}
		r.at.Archive = place
	}
	r.Job.Archive = true
	return r.Save(ctx, r.at)
}

// endReplacement ends the replacement that the canceled job had begun.
func (r *Runner) endReplacement(ctx context.Context, job *jobs.Job) error {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil || at.Archive == nil || at.Archive.Replacing == nil {
		return err
	}
	done, err := r.Archive.End(ctx, job.Tenant, at.Archive.Replacing)
	if err != nil {
		return err
	}
	at.endReplacement(job, done)
	job.Checkpoint, err = json.Marshal(at)
	return err
}

// endReplacement counts what a replacement has removed if it is done, and forgets it.
func (c *checkpoint) endReplacement(job *jobs.Job, done bool) {
	if done && job.ArchiveCount != nil {
		count := *job.ArchiveCount + c.Archive.Replacing.Removed
		job.ArchiveCount = &count
	}
	c.Archive.Replacing, c.Archive.Holds = nil, nil
}

// ArchiveRunner is the jobs.Runner of cleanups at the workers of the archive. It removes the entries from the
// archive that Runner has removed from the stores, one part after the other, and hands the job back. A worker that
// is killed costs the part that it was writing.
type ArchiveRunner struct {
	walk.Reader
	Holds    hold.Reader
	Jobs     jobs.Store
	Archive  *archive.Rewriter
	Register Register
}

// Register registers days that are to be looked at; see activity.Register.
type Register interface {
	Touch(ctx context.Context, tenant audit.TenantID, receipts []activity.Receipt, due time.Time) error
}

// Run implements jobs.Runner.
func (r *ArchiveRunner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	run := &archiveRun{ArchiveRunner: r, Slice: s, touched: map[time.Time]bool{}}
	err := s.Read(&run.at)
	var result jobs.Result
	if err == nil {
		result, err = run.all(ctx)
	}
	if errors.Is(err, errTimeUp) {
		return jobs.Result{}, nil
	}
	if failed := (*jobs.FailedError)(nil); errors.As(err, &failed) || errors.Is(err, audit.ErrPrecondition) { // the last slice of this worker
		if discardErr := run.discard(ctx); discardErr != nil {
			err = discardErr // if it could not end it, the next slice tries again
		}
	}
	if err != nil {
		return jobs.Result{}, fmt.Errorf("clean up the archive of %s: %w", s.Job.Tenant, err)
	}
	return result, nil
}

// Clean implements jobs.Cleaner for messages that come late, or twice. Only the workers of Runner end what a finished
// cleanup left, as its message says. It returns an audit.ErrPrecondition.
func (r *ArchiveRunner) Clean(_ context.Context, job *jobs.Job) error {
	return fmt.Errorf("end cleanup %s of %s: %w: other workers do", job.ID, job.Tenant, audit.ErrPrecondition)
}

// Report implements jobs.Reporter.
func (r *ArchiveRunner) Report(job *jobs.Job, state jobs.State) (audit.Entry, error) {
	return report(job, state)
}

// discard ends the replacement if the tenant is being deleted, and returns that as a *jobs.FailedError.
func (r *archiveRun) discard(ctx context.Context) error {
	if r.at.Archive == nil || r.at.Archive.Replacing == nil {
		return nil
	}
	tenant, err := r.CheckTenant(ctx, r.Job.Tenant)
	if failed := (*jobs.FailedError)(nil); errors.As(err, &failed) {
		if err := r.Archive.Discard(ctx, tenant, r.Job.Tenant, r.at.Archive.Replacing); err != nil {
			return err
		}
	}
	return err
}

// errTimeUp ends a slice whose time is up. All is saved.
var errTimeUp = errors.New("the time of the slice is up")

// archiveRun is one slice of a cleanup of the archive.
type archiveRun struct {
	*ArchiveRunner
	*jobs.Slice
	at        checkpoint
	selection search.Selection
	touched   map[time.Time]bool // the days that this slice has registered
}

// all does what is left in the archive, or what the slice has time for.
func (r *archiveRun) all(ctx context.Context) (jobs.Result, error) {
	if !r.Job.Archive || r.at.Archive == nil { // an old message: Runner has the job
		return jobs.Result{}, nil
	}
	if err := r.open(ctx); err != nil {
		return jobs.Result{}, err
	}
	if waits, err := r.waits(ctx); err != nil || waits {
		return jobs.Result{Wait: turnPause}, err
	}
	from, to := r.selection.Range()
	months, err := r.Archive.Months(ctx, r.Job.Tenant, from, to)
	if err != nil {
		return jobs.Result{}, err
	}
	for i, month := range months {
		if month.Before(r.at.Archive.Month) {
			continue
		}
		if month.After(r.at.Archive.Month) {
			r.at.Archive.Month, r.at.Archive.Part = month, 0
		}
		if err := r.month(ctx); err != nil {
			return jobs.Result{}, err
		}
		r.Job.Progress = max(r.Job.Progress, min(0.99, storesShare+(1-storesShare)*float64(i+1)/float64(len(months))))
	}
	r.at.Archive.Ended, r.Job.Archive = true, false
	return jobs.Result{}, r.Save(ctx, r.at)
}

// waits reports whether a job is to end first: one that archives what is gone, an earlier cleanup, which would count
// the same entries, or a restore, which would bring them back.
func (r *archiveRun) waits(ctx context.Context) (bool, error) {
	archiving, err := jobs.Any(ctx, r.Jobs, r.Job.Tenant, jobs.Unfinished(jobs.KindArchive), func(j *jobs.Job) (bool, error) {
		return slices.Contains(r.at.Archive.Archiving, j.ID), nil
	})
	if err != nil || archiving {
		return archiving, err
	}
	// Earlier cleanups too: one whose creation took long can appear after this one has begun.
	return jobs.EarlierUnfinished(ctx, r.Jobs, &r.Job, jobs.KindCleanup, jobs.KindRestore)
}

// open reads the tenant and what the cleanup selects.
func (r *archiveRun) open(ctx context.Context) error {
	tenant, err := r.CheckTenant(ctx, r.Job.Tenant)
	if err != nil {
		return err
	}
	if r.Job.Scope == nil {
		return errors.New("the job has no scope")
	}
	query, err := r.Filters(ctx, &r.Job, r.at.Filters)
	if err != nil {
		return err
	}
	r.selection, err = selectsStored(r.Entries, tenant, *r.Job.Scope, query)
	return walk.Unknown(err)
}

// month cleans up what is left of a month. Parts that are added meanwhile have none of the entries.
func (r *archiveRun) month(ctx context.Context) error {
	if r.at.Archive.Replacing != nil { // of a worker that was killed
		if err := r.swap(ctx); err != nil {
			return err
		}
	}
	m, err := r.Archive.Manifest(ctx, r.Job.Tenant, r.at.Archive.Month)
	if err != nil {
		return err
	}
	from, to := r.selection.Range()
	for _, number := range m.Numbers(r.Job.ID, from, to) {
		for number > r.at.Archive.Part {
			if err := r.part(ctx, number); err != nil {
				return err
			}
			if r.TimeUp() {
				if err := r.Save(ctx, r.at); err != nil {
					return err
				}
				return errTimeUp
			}
		}
	}
	return nil
}

// part cleans up a part. If that could not be replaced, it is not done.
func (r *archiveRun) part(ctx context.Context, number int) error {
	m, err := r.Archive.Manifest(ctx, r.Job.Tenant, r.at.Archive.Month) // others change it meanwhile
	if err != nil {
		return err
	}
	f := m.Part(number)
	if f == nil { // it has ended
		r.at.Archive.Part = number
		return r.SaveIfDue(ctx, r.at)
	}
	standing, err := r.Holds.Standing(ctx, r.Job.Tenant)
	if err != nil {
		return err
	}
	replacement, err := r.Archive.Without(ctx, m, f, r.Job.ID, func(e *audit.Entry) bool {
		return r.selection.Has(*e) && e.ReceivedAt.Before(r.Job.CreatedAt) && !standing.Cover(e)
	})
	if err != nil {
		return err
	}
	if replacement == nil {
		r.at.Archive.Part = number
		return r.SaveIfDue(ctx, r.at)
	}
	r.at.Archive.Replacing, r.at.Archive.Holds = replacement, idsOf(standing)
	if err := r.store(ctx, m.Next); err != nil {
		return err
	}
	return r.swap(ctx)
}

// store stores the replacement under the next number that is free.
func (r *archiveRun) store(ctx context.Context, number int) error {
	for ; ; number++ {
		r.at.Archive.Replacing.Name(number)
		if err := r.Save(ctx, r.at); err != nil {
			return err
		}
		if _, err := r.CheckTenant(ctx, r.Job.Tenant); err != nil {
			return err
		}
		if err := r.Archive.Store(ctx, r.Job.Tenant, r.at.Archive.Replacing); !errors.Is(err, audit.ErrConflict) {
			return err
		}
	}
}

// errHeldMeanwhile says that a hold was set after the entries were selected.
var errHeldMeanwhile = errors.New("a legal hold was set meanwhile")

// swap brings the replacement into the manifest, or gives it up. It saves which.
func (r *archiveRun) swap(ctx context.Context) error {
	replacing := r.at.Archive.Replacing
	done, err := r.Archive.Swap(ctx, r.Job.Tenant, replacing, r.mayRemove)
	if failed := (*jobs.FailedError)(nil); errors.Is(err, errHeldMeanwhile) || errors.As(err, &failed) {
		var endErr error
		if done, endErr = r.Archive.End(ctx, r.Job.Tenant, replacing); endErr != nil {
			return endErr
		}
		if failed != nil {
			return err
		}
		err = nil
	}
	if err != nil {
		return err
	}
	if done {
		r.at.Archive.Part = replacing.Number()
	}
	r.at.endReplacement(&r.Job, done)
	return r.Save(ctx, r.at)
}

// mayRemove prepares that entries are removed. It returns errHeldMeanwhile if a hold stands that was not asked about the replacement, and a
// *jobs.FailedError if the tenant is being deleted.
func (r *archiveRun) mayRemove(ctx context.Context) error {
	if _, err := r.CheckTenant(ctx, r.Job.Tenant); err != nil {
		return err
	}
	standing, err := r.Holds.Standing(ctx, r.Job.Tenant)
	if err != nil {
		return err
	}
	for _, id := range idsOf(standing) {
		if !slices.Contains(r.at.Archive.Holds, id) {
			return errHeldMeanwhile
		}
	}
	return r.touch(ctx)
}

// touch has the days looked at again of which the replacement removes entries, after the end of today. The stores can
// still have some of these: a hold covered them until it was released meanwhile, or they were sent again. Those are
// archived again.
func (r *archiveRun) touch(ctx context.Context) error {
	now := r.Now()
	var receipts []activity.Receipt
	for _, day := range r.at.Archive.Replacing.Days {
		if !r.touched[day] {
			receipts = append(receipts, activity.Receipt{Received: now.UTC().Truncate(24 * time.Hour), Day: day})
		}
	}
	if len(receipts) == 0 {
		return nil
	}
	if err := r.Register.Touch(ctx, r.Job.Tenant, receipts, now); err != nil {
		return err
	}
	for _, receipt := range receipts {
		r.touched[receipt.Day] = true
	}
	return nil
}

func idsOf(standing hold.Standing) []string {
	ids := make([]string, len(standing))
	for i := range standing {
		ids[i] = standing[i].ID
	}
	return ids
}
