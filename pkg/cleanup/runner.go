package cleanup

import (
	"cmp"
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
	// turnPause is the time between two looks at an earlier cleanup or restore of the tenant.
	turnPause = 5 * time.Second
	// markPause is the time until entries are tried again that could not be removed.
	markPause = time.Second
	// maxMarks is how often a slice marks entries that could not be removed.
	maxMarks = 3
)

// Store is the system of record.
type Store interface {
	retention.Store
	search.EntryReader
	Marker
}

// Marker marks entries as they were read.
type Marker interface {
	// MarkRead lets those of the entries be removed at once that are still the ones that were read from the store. It
	// does not change those that are marked already. An entry that was removed since, and was sent again or restored,
	// is another one: it has another ReceivedAt or RestoredUntil.
	MarkRead(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error
}

// CleanedLog notes which entries cleanups have removed; see archive.CleanedLog.
type CleanedLog interface {
	Note(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error
	// Discard removes what was noted of a tenant that is being deleted. The tenant's record is empty if it is gone.
	Discard(ctx context.Context, tenant audit.Tenant, id audit.TenantID) error
}

// DayRegister registers days that are to be looked at.
type DayRegister interface {
	// TouchDays is the Touch of activity.Register for records of one kind of work. They are due at the given time, or at
	// an earlier time that they have.
	TouchDays(ctx context.Context, days []activity.Day, due time.Time) error
}

// Runner is the jobs.Runner of jobs.KindCleanup. It removes entries page by page. Before each page it
// saves which entries go, so that each is counted once however often the worker is killed.
type Runner struct {
	walk.Reader
	Store Store
	Index retention.Index
	Holds hold.Reader
	Jobs  jobs.Store
	// Cleaned notes what was removed, for restores of the archive.
	Cleaned CleanedLog
	// Compared registers the days whose index is to be compared with the store; nil: both are one. A message that is
	// under way puts entries back into the index that are not stored any more.
	Compared DayRegister
	// Grace is how long after a removal that is compared: such a message has been handled by then.
	Grace time.Duration
	// Archive ends what a canceled cleanup of the archive has begun.
	Archive *archive.Rewriter
	// Removed is called after entries of a tenant were removed; nil: nothing is left to do then.
	Removed func(ctx context.Context, tenant audit.TenantID) error
}

// checkpoint says how far a cleanup is.
type checkpoint struct {
	// Filters are the parameters, sealed.
	Filters []byte `json:"filters,omitempty"`
	walk.Place
	// Count counts the entries that were removed, Held those that a hold kept. Pending are not
	// counted: they are about to go. The position is behind them.
	Count   int64           `json:"count,omitempty"`
	Held    int64           `json:"held,omitempty"`
	Pending []audit.EntryID `json:"pending,omitempty"`
	// InArchive says that the entries are removed from the archive too, once they are removed from the stores.
	InArchive bool          `json:"in_archive,omitempty"`
	Archive   *archivePlace `json:"archive,omitempty"`
	// EntryID is that of the entry about the end. It is random, so that no client can take it.
	EntryID audit.EntryID `json:"entry_id,omitzero"`
}

// Run implements jobs.Runner.
func (r *Runner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	run := &cleanupRun{Runner: r, Slice: s, touched: map[time.Time]bool{}}
	err := s.Read(&run.at)
	var result jobs.Result
	if err == nil {
		result, err = run.all(ctx)
	}
	if failed := (*jobs.FailedError)(nil); errors.As(err, &failed) || errors.Is(err, audit.ErrPrecondition) { // the last slice of this worker
		if deletedErr := r.discard(ctx, s.Job.Tenant, &run.at); deletedErr != nil {
			err = deletedErr
		} else if failed != nil {
			err = cmp.Or(run.endPending(ctx), err)
		}
	}
	if err != nil {
		return jobs.Result{}, fmt.Errorf("clean up entries of %s: %w", s.Job.Tenant, err)
	}
	return result, nil
}

// Clean implements jobs.Cleaner. It ends the page that the canceled job was removing, so that the job
// counts exactly what is gone.
func (r *Runner) Clean(ctx context.Context, job *jobs.Job) error {
	var at checkpoint
	err := json.Unmarshal(job.Checkpoint, &at)
	if err == nil {
		err = r.discard(ctx, job.Tenant, &at)
	}
	if err == nil {
		err = r.endPage(ctx, job)
	}
	if err == nil {
		err = r.endReplacement(ctx, job)
	}
	if err == nil {
		err = r.discard(ctx, job.Tenant, &at) // its deletion may have passed the archive meanwhile
	}
	if failed := (*jobs.FailedError)(nil); errors.As(err, &failed) {
		return nil // its deletion removes everything else
	}
	if err != nil {
		return fmt.Errorf("end cleanup %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// discard removes what a cleanup may have stored in the archive after the deletion of its tenant had passed that. It
// returns a *jobs.FailedError if the tenant is being deleted.
func (r *Runner) discard(ctx context.Context, id audit.TenantID, at *checkpoint) error {
	tenant, deletedErr := r.CheckTenant(ctx, id)
	if failed := (*jobs.FailedError)(nil); !errors.As(deletedErr, &failed) {
		return deletedErr
	}
	if err := r.Cleaned.Discard(ctx, tenant, id); err != nil {
		return err
	}
	if at.Archive != nil && at.Archive.Replacing != nil {
		if err := r.Archive.Discard(ctx, tenant, id, at.Archive.Replacing); err != nil {
			return err
		}
	}
	return deletedErr
}

func (r *Runner) endPage(ctx context.Context, job *jobs.Job) error {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return err
	}
	mine := func() error { return r.checkUncleaned(ctx, job) }
	entries, err := r.Store.EntriesByID(ctx, job.Tenant, at.Pending)
	if err == nil {
		err = mine()
	}
	if err != nil {
		return err
	}
	done, err := r.removePage(ctx, job, &at, entries, mine)
	if err == nil && !done {
		err = errNotRemoved
	}
	if err != nil {
		return err
	}
	job.Count = at.Count
	if job.Checkpoint, err = json.Marshal(at); err != nil {
		return err
	}
	return r.freeSpace(ctx, job.Tenant, &at)
}

// checkUncleaned returns audit.ErrPrecondition if another worker has cleaned up after the job.
func (r *Runner) checkUncleaned(ctx context.Context, job *jobs.Job) error {
	stored, err := r.Jobs.Job(ctx, job.Tenant, job.ID)
	if err == nil && (stored.Generation != job.Generation || stored.CleanAt.IsZero()) {
		err = audit.ErrPrecondition
	}
	return err
}

// freeSpace follows the last removal of a job.
func (r *Runner) freeSpace(ctx context.Context, tenant audit.TenantID, at *checkpoint) error {
	if r.Removed == nil || at.Count == 0 {
		return nil
	}
	return r.Removed(ctx, tenant)
}

// cleanupRun is one slice of a cleanup.
type cleanupRun struct {
	*Runner
	*jobs.Slice
	at        checkpoint
	tenant    audit.Tenant
	selection search.Selection
	touched   map[time.Time]bool // the days that this slice has registered
}

// all does what is left of the cleanup, or what the slice has time for.
func (r *cleanupRun) all(ctx context.Context) (jobs.Result, error) {
	if wait, err := r.prepare(ctx); err != nil || wait > 0 {
		return jobs.Result{Wait: wait}, err
	}
	for !r.at.Ended || len(r.at.Pending) > 0 {
		entries, err := r.nextPage(ctx)
		if err != nil {
			return jobs.Result{}, err
		}
		done, err := r.removePage(ctx, &r.Job, &r.at, entries, func() error { return r.Save(ctx, r.at) })
		if err != nil || !done {
			return jobs.Result{Wait: markPause}, err
		}
		r.Job.Count = r.at.Count
		if !r.at.Ended && r.TimeUp() {
			return jobs.Result{}, r.Save(ctx, r.at)
		}
	}
	if r.at.InArchive && (r.at.Archive == nil || !r.at.Archive.Ended) {
		return jobs.Result{}, r.handOver(ctx)
	}
	return jobs.Result{Done: true}, r.finish(ctx)
}

// prepare reads what the cleanup selects. It returns how long to wait before it can begin.
func (r *cleanupRun) prepare(ctx context.Context) (time.Duration, error) {
	if r.Job.Archive { // an old message: ArchiveRunner has the job
		return turnPause, nil
	}
	if err := r.open(ctx); err != nil {
		return 0, err
	}
	// Two that select the same entries would count them twice, and a restore would bring back what goes.
	waits, err := jobs.EarlierUnfinished(ctx, r.Jobs, &r.Job, jobs.KindCleanup, jobs.KindRestore)
	if err != nil || waits {
		return turnPause, err
	}
	wait, err := r.Wait(ctx, &r.Job, &r.tenant, r.selection, &r.at.Place, func() error { return r.Save(ctx, r.at) })
	if err != nil || wait > 0 || !r.at.First.IsZero() {
		return wait, err
	}
	if r.at.InArchive {
		return 0, r.beginStored(ctx)
	}
	return 0, r.Begin(ctx, r.selection, &r.at.Place)
}

// open reads the tenant and what the cleanup selects.
func (r *cleanupRun) open(ctx context.Context) (err error) {
	if r.tenant, err = r.CheckTenant(ctx, r.Job.Tenant); err != nil {
		return err
	}
	if r.Job.Scope == nil {
		return errors.New("the job has no scope")
	}
	query, err := r.Filters(ctx, &r.Job, r.at.Filters)
	if err != nil {
		return err
	}
	if r.at.InArchive {
		r.selection, err = selectsStored(r.Entries, r.tenant, *r.Job.Scope, query)
	} else {
		r.selection, err = selects(r.Entries, r.Job.CreatedAt, r.tenant, *r.Job.Scope, query)
	}
	return walk.Unknown(err)
}

// nextPage decides which entries go next, and saves it. If there are pending ones, it returns those of
// them that are left. It always saves after it has read them; see removePage.
func (r *cleanupRun) nextPage(ctx context.Context) ([]audit.Entry, error) {
	if len(r.at.Pending) > 0 {
		left, err := r.Store.EntriesByID(ctx, r.Job.Tenant, r.at.Pending)
		if err != nil {
			return nil, err
		}
		return left, r.Save(ctx, r.at)
	}
	page, err := r.page(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := r.CheckTenant(ctx, r.Job.Tenant); err != nil {
		return nil, err
	}
	for i := range page.Entries {
		if e := &page.Entries[i]; e.ReceivedAt.Before(r.Job.CreatedAt) {
			r.at.Pending = append(r.at.Pending, e.ID)
		}
	}
	if page.Last != nil {
		r.at.Position = page.Last
		r.show(page.Last.Time)
	}
	r.at.Ended = !page.More
	return r.keepStored(ctx)
}

// show sets the job's progress.
func (r *cleanupRun) show(at time.Time) {
	if !r.at.InArchive {
		r.at.Show(&r.Job, at)
		return
	}
	stores := r.Job
	stores.Progress = 0
	r.at.Show(&stores, at)
	r.Job.Progress = max(r.Job.Progress, storesShare*stores.Progress)
}

// page reads the next entries that are selected.
func (r *cleanupRun) page(ctx context.Context) (audit.Page, error) {
	if r.at.InArchive {
		return r.storedPage(ctx)
	}
	page, err := r.Entries.Page(ctx, r.selection, r.at.Position, audit.MaxPageLimit)
	page.More = page.More && len(page.Entries) > 0
	return page, err
}

// touch has the index of the pending entries' days compared with the store, some time after they are removed.
func (r *cleanupRun) touch(ctx context.Context) error {
	if r.Compared == nil {
		return nil
	}
	var days []activity.Day
	for _, id := range r.at.Pending {
		if day := id.Time().UTC().Truncate(24 * time.Hour); !r.touched[day] {
			r.touched[day] = true
			days = append(days, activity.Day{Work: activity.Index, Tenant: r.Job.Tenant, Receipt: activity.Receipt{Day: day}})
		}
	}
	if len(days) == 0 {
		return nil
	}
	return r.Compared.TouchDays(ctx, days, r.Now().Add(r.Grace))
}

// keepStored saves those of the pending entries that are stored, and returns them. It removes the
// others from the index: they were removed before.
func (r *cleanupRun) keepStored(ctx context.Context) ([]audit.Entry, error) {
	if err := r.touch(ctx); err != nil { // before any is removed, so that a kill or a cancellation leaves no day out
		return nil, err
	}
	stored, err := r.Store.EntriesByID(ctx, r.Job.Tenant, r.at.Pending)
	if err != nil {
		return nil, err
	}
	if gone := without(r.at.Pending, stored); len(gone) > 0 {
		if err := r.Index.Remove(ctx, r.Job.Tenant, gone); err != nil {
			return nil, err
		}
	}
	r.at.Pending = audit.IDsOf(stored)
	return stored, r.Save(ctx, r.at)
}

// removePage removes what is left of the pending entries, but for those that a hold covers. It reports
// false if some of them could not be removed yet.
//
// mine returns an error if another worker has the job. It is asked after each reading of the entries, and they
// are marked as they were read. It is asked before they leave the index too. So a worker that slept removes none that
// was sent again, or restored, after another worker has removed it.
func (r *Runner) removePage(ctx context.Context, job *jobs.Job, at *checkpoint, left []audit.Entry, mine func() error) (done bool, err error) {
	var held, again []audit.Entry
	for marks := 0; len(left) > 0; marks++ {
		if marks == maxMarks {
			return false, nil
		}
		later := func(e audit.Entry) bool { return !e.ReceivedAt.Before(job.CreatedAt) } // sent again since its removal
		again = append(again, slices.DeleteFunc(slices.Clone(left), func(e audit.Entry) bool { return !later(e) })...)
		left = slices.DeleteFunc(left, later)
		var kept []audit.Entry
		if left, kept, err = r.remove(ctx, job.Tenant, left, mine); err != nil {
			return false, err
		}
		held = append(held, kept...)
	}
	removed := without(at.Pending, held)
	if gone := without(removed, again); len(gone) > 0 {
		if err := mine(); err != nil {
			return false, err
		}
		if err := r.Index.Remove(ctx, job.Tenant, gone); err != nil { // after the store: else the reconciler puts them back
			return false, err
		}
		if err := r.Cleaned.Note(ctx, job.Tenant, gone); err != nil {
			return false, err
		}
	}
	at.Count += int64(len(removed))
	at.Held += int64(len(held))
	at.Pending = nil
	return true, nil
}

// remove removes entries from the store, but for those that a hold covers. It returns these, and those
// that are left though no hold covers them.
//
// It marks none by an old look at the holds: a database can remove what is marked by itself. It looks at the holds again before it removes the entries. A hold that is set later unmarks
// them by its own job, and the store removes only marked ones. So a worker that slept in between does
// no harm.
func (r *Runner) remove(ctx context.Context, tenant audit.TenantID, entries []audit.Entry, mine func() error) (left, held []audit.Entry, err error) {
	look := activity.NewLook(r.Now())
	free, held, err := r.unheld(ctx, tenant, entries)
	if err != nil || len(free) == 0 {
		return nil, held, err
	}
	if look.IsOld(r.Now()) {
		return free, held, mine()
	}
	if err := r.Store.MarkRead(ctx, tenant, free); err != nil {
		return nil, nil, err
	}
	free, kept, err := r.unheld(ctx, tenant, free)
	if err == nil && len(kept) > 0 {
		held = append(held, kept...)
		err = r.Store.Unmark(ctx, tenant, audit.IDsOf(kept))
	}
	if err != nil || len(free) == 0 {
		return nil, held, err
	}
	n, err := r.Store.RemoveDue(ctx, tenant, audit.IDsOf(free))
	if err != nil || n == len(free) {
		return nil, held, err
	}
	if left, err = r.Store.EntriesByID(ctx, tenant, audit.IDsOf(free)); err == nil {
		err = mine()
	}
	if err != nil || len(left) == 0 {
		return nil, held, err
	}
	return left, held, r.Store.Unmark(ctx, tenant, audit.IDsOf(left)) // they were marked before, for a later time
}

// unheld divides entries by whether a hold covers them now.
func (r *Runner) unheld(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (free, held []audit.Entry, err error) {
	standing, err := r.Holds.Standing(ctx, tenant)
	for i := range entries {
		if e := entries[i]; standing.Cover(&e) {
			held = append(held, e)
		} else {
			free = append(free, e)
		}
	}
	return free, held, err
}

// without returns the ids of which none of the entries is.
func without(ids []audit.EntryID, entries []audit.Entry) []audit.EntryID {
	found := make(map[audit.EntryID]bool, len(entries))
	for i := range entries {
		found[entries[i].ID] = true
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id audit.EntryID) bool { return found[id] })
}

// endPending ends the page that an earlier slice has begun, so that the job that fails counts exactly what is gone.
func (r *cleanupRun) endPending(ctx context.Context) error {
	if len(r.at.Pending) == 0 {
		return nil
	}
	entries, err := r.nextPage(ctx)
	if err != nil {
		return err
	}
	done, err := r.removePage(ctx, &r.Job, &r.at, entries, func() error { return r.Save(ctx, r.at) })
	if err == nil && !done {
		err = errNotRemoved
	}
	if err != nil {
		return err
	}
	r.Job.Count = r.at.Count
	if err := r.freeSpace(ctx, r.Job.Tenant, &r.at); err != nil {
		return err
	}
	return r.Save(ctx, r.at)
}

// errNotRemoved says that a page could not be ended yet.
var errNotRemoved = errors.New("some entries could not be removed yet")

// Report implements jobs.Reporter.
func (r *Runner) Report(job *jobs.Job, state jobs.State) (audit.Entry, error) {
	return report(job, state)
}

// report returns the entry about what a cleanup has done that ends in a state.
func report(job *jobs.Job, state jobs.State) (audit.Entry, error) {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return audit.Entry{}, err
	}
	about, err := json.Marshal(struct {
		State   jobs.State `json:"state"`
		Count   int64      `json:"count"`
		Held    int64      `json:"held"`
		Archive *int64     `json:"archive_count,omitempty"`
	}{state, at.Count, at.Held, job.ArchiveCount})
	return audit.Entry{Action: actionFinish, ResourceType: resourceCleanup, Metadata: about}, err
}

// finish records the end. From then on the job cannot be canceled.
func (r *cleanupRun) finish(ctx context.Context) error {
	if _, err := r.CheckTenant(ctx, r.Job.Tenant); err != nil { // its deletion may have passed what was noted
		return err
	}
	if err := r.freeSpace(ctx, r.Job.Tenant, &r.at); err != nil {
		return err
	}
	if err := r.CommitEnd(ctx, &r.at, &r.at.EntryID); err != nil {
		return err
	}
	return r.ReportEnd(ctx, r.at.EntryID, r)
}
