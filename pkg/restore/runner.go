package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// turnPause is the time between two looks at an earlier restore or cleanup of the tenant.
	turnPause = 5 * time.Second
	// minLeft is how long before the end of its time a restore brings nothing back any more. A worker that
	// writes late is done by then.
	minLeft = time.Hour
	// checkShare is the progress of a restore that has compared all parts with the manifest.
	checkShare = 0.3
	// maxAttempts is how often a change of the tenant's record is tried, and a part that seems damaged read.
	maxAttempts = 8
	maxReads    = 3
)

// Entries is the system of record.
type Entries interface {
	search.EntryReader
	ingest.Store
	Keeper
}

// Keeper keeps restored entries.
type Keeper interface {
	// KeepRestored sets RestoredUntil of those of the entries that have none or an earlier one, and takes back
	// that they may be removed. Entries that the tenant does not have are no error.
	KeepRestored(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, until time.Time) error
}

// Tenants reads and writes the records of tenants; see tenants.Store.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
	// Update replaces the record if its stored Version is one less. It returns
	// audit.ErrPrecondition if it is another.
	Update(ctx context.Context, tenant audit.Tenant) error
}

// Days registers the days of entries that are about to be stored; see ingest.ActiveDays.
type Days interface {
	Touch(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error
}

// Runner is the jobs.Runner of jobs.KindRestore. It compares all parts of the time with their manifests
// first, so that a damaged archive changes nothing. Then it reads them again, and stores what is missing
// page by page. A worker that is killed costs the pages since the last save, which are then met as restored.
type Runner struct {
	Entries Entries
	Archive archive.Blobs
	Index   search.Queue
	Days    Days
	Jobs    jobs.Store
	Tenants Tenants // tenants.Cache.Fresh if the process has a cache
	// Clock decides what has expired, and when the time of the restore is over.
	Clock jobs.Clock
	Now   func() time.Time
}

const reasonDeleted = "the tenant is being deleted"

// Run implements jobs.Runner.
func (r *Runner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	run := &restoreRun{Runner: r, Slice: s}
	err := s.Read(&run.at)
	var result jobs.Result
	if err == nil {
		result, err = run.all(ctx)
	}
	if errors.Is(err, errWait) {
		return jobs.Result{Wait: turnPause}, nil
	}
	if err != nil {
		return jobs.Result{}, fmt.Errorf("restore entries of %s: %w", s.Job.Tenant, err)
	}
	return result, nil
}

// restoreRun is one slice of a restore.
type restoreRun struct {
	*Runner
	*jobs.Slice
	at      checkpoint
	tenant  audit.Tenant
	now     time.Time              // by Clock, at the last look at the tenant
	cleaned *archive.CleanedReader // of the part that is being read; nil: cleanups do not matter
	page    []audit.Entry
	bytes   int // of the page
}

var (
	// errWait ends a slice that has to wait for another job.
	errWait = errors.New("another job of the tenant comes first")
	// errTimeUp ends a slice whose time is up. All is saved.
	errTimeUp = errors.New("the time of the slice is up")
)

func (r *restoreRun) all(ctx context.Context) (jobs.Result, error) {
	if err := r.checkTenant(ctx); err != nil {
		return jobs.Result{}, err
	}
	waits, err := jobs.EarlierUnfinished(ctx, r.Jobs, &r.Job, jobs.KindRestore, jobs.KindCleanup)
	if err == nil && waits {
		err = errWait
	}
	if err == nil && !r.at.Checked {
		if err = r.eachPart(ctx, r.check); err == nil {
			err = r.announce(ctx)
		}
	}
	if err == nil {
		err = r.eachPart(ctx, r.restore)
	}
	if errors.Is(err, errTimeUp) {
		return jobs.Result{}, nil
	}
	if err != nil {
		return jobs.Result{}, err
	}
	return jobs.Result{Done: true}, r.finish(ctx)
}

// checkTenant reads the tenant's record and the time. It returns a *jobs.FailedError if the tenant is being deleted, or
// if the time of the restore is over.
func (r *restoreRun) checkTenant(ctx context.Context) error {
	tenant, err := r.Tenants.Tenant(ctx, r.Job.Tenant)
	if r.tenant, err = jobs.LiveTenant(tenant, err, reasonDeleted); err != nil {
		return err
	}
	if r.now, err = r.Clock.Now(ctx, r.Now); err != nil {
		return err
	}
	if r.now.After(r.at.Until.Add(-minLeft)) {
		return &jobs.FailedError{Reason: "its days were over before it could finish"}
	}
	return nil
}

// announce notes the restore in the tenant's record, before the first entry comes back: from then on lists
// show its entries, and retention looks for them.
func (r *restoreRun) announce(ctx context.Context) error {
	restored := audit.Restored{From: r.at.From, To: r.at.To, Until: r.at.Until}
	for range maxAttempts {
		changed, err := r.tenant.AddRestored(restored, r.now)
		if errors.Is(err, audit.ErrTooManyRestored) {
			err = &jobs.FailedError{Reason: fmt.Sprintf("the tenant has %d restores whose time is not over: restore a longer time at once, or wait for the end of one", audit.MaxRestored)}
		}
		if err == nil && changed {
			r.tenant.Version++
			err = r.Tenants.Update(ctx, r.tenant)
		}
		if err == nil {
			r.at.Checked, r.at.Month, r.at.Part = true, time.Time{}, 0
			r.Job.Progress = checkShare
			return r.Save(ctx, r.at)
		}
		if !errors.Is(err, audit.ErrPrecondition) {
			return err
		}
		if err := r.checkTenant(ctx); err != nil {
			return err
		}
	}
	return &audit.UnavailableError{Err: errors.New("the tenant changes too often")}
}

// eachPart calls use with the parts that can have entries of the restore, from the checkpoint on. It
// returns errTimeUp if the slice ends first.
func (r *restoreRun) eachPart(ctx context.Context, use func(ctx context.Context, m *archive.Manifest, f *archive.File) error) error {
	from, to := r.bounds()
	if r.at.Month.IsZero() {
		r.at.Month = from
	}
	for r.at.Month.Before(to) {
		if err := r.eachOfMonth(ctx, use); err != nil {
			return err
		}
		r.at.Month, r.at.Part, r.at.After = archive.NextMonth(r.at.Month), 0, audit.EntryID{}
		if err := r.SaveIfDue(ctx, r.at); err != nil {
			return err
		}
	}
	return nil
}

// bounds returns the times of the restore at which entries can be stored that have not expired.
func (r *restoreRun) bounds() (from, to time.Time) {
	from, to = r.at.From, r.at.To
	kept := r.tenant.Settings
	kept.SearchableDays = 0
	if first := kept.VisibleFrom(r.now); from.Before(first) {
		from = first
	}
	if from.UnixMilli() < 0 {
		from = time.UnixMilli(0).UTC()
	}
	if last := r.now.Add(audit.MaxLead); to.After(last) {
		to = last
	}
	return from, to
}

// eachOfMonth calls use with the parts of one month. Parts that are added meanwhile follow.
func (r *restoreRun) eachOfMonth(ctx context.Context, use func(ctx context.Context, m *archive.Manifest, f *archive.File) error) error {
	m, err := r.manifest(ctx)
	if err != nil {
		return err
	}
	for again := false; ; {
		f := m.PartAfter(r.at.Part, r.at.From, r.at.To)
		if f == nil && !again {
			return nil
		}
		if f == nil {
			if m, err = r.manifest(ctx); err != nil {
				return err
			}
			again = false
			continue
		}
		if err := r.usePart(ctx, m, f, use); err != nil {
			return err
		}
		r.at.Part, r.at.After, again = f.Number(), audit.EntryID{}, true
		if err := r.Save(ctx, r.at); err != nil {
			return err
		}
		if r.TimeUp() {
			return errTimeUp
		}
	}
}

// manifest returns the manifest of the current month. It is empty if nothing is archived.
func (r *restoreRun) manifest(ctx context.Context) (*archive.Manifest, error) {
	m, err := r.readManifest(ctx)
	if err != nil || m.IsStored() {
		return m, err
	}
	parts, err := archive.HasParts(ctx, r.Archive, r.Job.Tenant, r.at.Month)
	if err != nil || !parts {
		return m, err
	}
	if m, err = r.readManifest(ctx); err != nil || m.IsStored() { // it is stored before the first part
		return m, err
	}
	return nil, &jobs.FailedError{Reason: fmt.Sprintf("the manifest of %s is missing", m.Month)}
}

func (r *restoreRun) readManifest(ctx context.Context) (*archive.Manifest, error) {
	m, err := archive.ReadManifest(ctx, r.Archive, r.Job.Tenant, r.at.Month)
	if errors.Is(err, export.ErrContent) {
		err = &jobs.FailedError{Reason: fmt.Sprintf("the manifest of %s is damaged", archive.MonthName(r.at.Month))}
	}
	return m, err
}

// usePart calls use with a part. If the part is damaged or missing, it reads it again before the job
// fails. A part that the manifest does not list any more has ended.
func (r *restoreRun) usePart(ctx context.Context, m *archive.Manifest, f *archive.File, use func(ctx context.Context, m *archive.Manifest, f *archive.File) error) error {
	for read := 1; ; read++ {
		err := use(ctx, m, f)
		damaged, missing := errors.Is(err, export.ErrContent), errors.Is(err, audit.ErrNotFound)
		switch {
		case !damaged && !missing:
			return err
		case read < maxReads:
			continue
		}
		now, err := r.manifest(ctx)
		if err != nil {
			return err
		}
		if !now.Lists(f.Name) {
			return nil
		}
		what := "missing"
		if damaged {
			what = "damaged"
		}
		return &jobs.FailedError{Reason: fmt.Sprintf("%s of %s is %s: it is not what its manifest says", f.Name, m.Month, what)}
	}
}

// check compares a part with its manifest.
func (r *restoreRun) check(ctx context.Context, m *archive.Manifest, f *archive.File) error {
	var rows int64
	err := archive.ReadPart(ctx, r.Archive, r.Job.Tenant, m.Month, f, func(*audit.Entry) error {
		rows++
		return nil
	})
	if err == nil && rows != f.Rows {
		err = fmt.Errorf("%s has %d entries, want %d: %w", f.Name, rows, f.Rows, export.ErrContent)
	}
	if err != nil {
		return err
	}
	r.at.Rows += rows
	from, to := r.bounds()
	if whole := to.Sub(from); whole > 0 {
		r.Job.Progress = max(r.Job.Progress, min(1, max(0, float64(f.Last.Sub(from))/float64(whole)))*checkShare)
	}
	return nil
}

// restore brings back the entries of a part.
func (r *restoreRun) restore(ctx context.Context, m *archive.Manifest, f *archive.File) error {
	if r.cleaned = nil; !r.at.IncludeCleaned {
		r.cleaned = archive.NewCleanedReader(r.Archive, r.Job.Tenant)
	}
	r.page, r.bytes = r.page[:0], 0
	after := r.at.After
	err := archive.ReadPart(ctx, r.Archive, r.Job.Tenant, m.Month, f, func(e *audit.Entry) error {
		if bytes.Compare(e.ID[:], after[:]) <= 0 {
			return nil
		}
		r.page = append(r.page, *e)
		if r.bytes += archive.SizeOf(e); len(r.page) < pageSize && r.bytes < pageBytes {
			return nil
		}
		return r.endPage(ctx)
	})
	if err == nil && len(r.page) > 0 {
		err = r.endPage(ctx)
	}
	return err
}

// finish records the end. From then on the job cannot be canceled.
func (r *restoreRun) finish(ctx context.Context) error {
	r.Job.Count = r.at.Count
	if err := r.CommitEnd(ctx, &r.at, &r.at.EntryID); err != nil {
		return err
	}
	return r.ReportEnd(ctx, r.at.EntryID, r)
}

// Report implements jobs.Reporter.
func (*Runner) Report(job *jobs.Job, state jobs.State) (audit.Entry, error) {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return audit.Entry{}, err
	}
	about, err := json.Marshal(struct {
		State   jobs.State `json:"state"`
		Count   int64      `json:"count"`
		Expired int64      `json:"expired"`
		Cleaned int64      `json:"cleaned"`
	}{state, at.Count, at.Expired, at.Cleaned})
	return audit.Entry{Action: actionFinish, ResourceType: resourceRestore, Metadata: about}, err
}
