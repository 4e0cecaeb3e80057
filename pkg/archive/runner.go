package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// The service's own entries about the archive.
const (
	actionCreate    = "archive.create"
	actionFinish    = "archive.finish"
	resourceArchive = "archive"
)

// pageSize is how many entries are read at once. Each can have 256 KiB.
const pageSize = 250

const reasonDeleted = "the tenant is being deleted"

// Places tells the end of arrival logs; see arrival.Log.
type Places interface {
	Head(ctx context.Context, tenant audit.TenantID) (arrival.Head, error)
}

// Runner is the jobs.Runner of jobs.KindArchive. A job archives what is not archived yet of some days of
// one month. It writes one part after the other. A worker that is killed costs the part that it was
// writing.
type Runner struct {
	Store    Store
	Blobs    Blobs
	Holds    hold.Reader
	Tenants  Tenants // tenants.Cache.Fresh if the process has a cache
	Places   Places
	Recorder audit.Recorder
	Now      func() time.Time
	Random   func([]byte)
	// MaxRows is how many entries a part has at most; zero: the constant of this name.
	MaxRows int64
}

// checkpoint says how far a job is.
type checkpoint struct {
	Month string `json:"month"`
	// Days are those that are archived, in their order; none: the whole month.
	Days []string `json:"days,omitempty"`
	// CreateID and FinishID are those of the entries about the job. They are random, so that no client can
	// take them.
	CreateID audit.EntryID `json:"create_id,omitzero"`
	FinishID audit.EntryID `json:"finish_id,omitzero"`
	// Begun says that the job was recorded. Place is the end of the arrival log at that time.
	Begun bool  `json:"begun,omitempty"`
	Place int64 `json:"place,omitempty"`
	// After is the last id that is done.
	After audit.EntryID `json:"after,omitzero"`
	// Pending describes a part that the manifest may lack. Its ids end with PendingLast. Parts that the manifest
	// lists under a lower number than PendingNext have none of them: they were compared.
	Pending     *File         `json:"pending,omitempty"`
	PendingLast audit.EntryID `json:"pending_last,omitzero"`
	PendingNext int           `json:"pending_next,omitempty"`
	// Parts counts the parts of the job, Rows their entries, and Bytes their bytes.
	Parts int   `json:"parts,omitempty"`
	Rows  int64 `json:"rows,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
	// Ended says that no entries are left.
	Ended bool `json:"ended,omitempty"`
}

// span is the times with from ≤ time < to.
type span struct{ from, to time.Time }

// spans returns the times of the days, which do not overlap, in their order.
func (c *checkpoint) spans() (all []span, err error) {
	of, err := parseMonth(c.Month)
	if err != nil {
		return nil, err
	}
	if len(c.Days) == 0 {
		return []span{{of.Time, of.end()}}, nil
	}
	for _, name := range c.Days {
		day, err := time.Parse(time.DateOnly, name)
		if err != nil {
			return nil, fmt.Errorf("%q is not a day", name)
		}
		if n := len(all); n > 0 && all[n-1].to.Equal(day) {
			all[n-1].to = day.Add(oneDay)
		} else {
			all = append(all, span{day, day.Add(oneDay)})
		}
	}
	return all, nil
}

// Run implements jobs.Runner.
func (r *Runner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	run := &archiveRun{Runner: r, Slice: s}
	result, err := run.all(ctx)
	manifestLost := errors.Is(err, errLost)
	if manifestLost || errors.Is(err, audit.ErrPrecondition) { // nothing comes back to what a replaced worker has stored
		if deletedErr := run.checkTenant(ctx); deletedErr != nil {
			err = deletedErr
		} else if manifestLost {
			err = lost(run.month)
		}
	}
	if err != nil {
		return jobs.Result{}, fmt.Errorf("archive %s of %s: %w", run.at.Month, s.Job.Tenant, err)
	}
	return result, nil
}

// archiveRun is one slice of a job.
type archiveRun struct {
	*Runner
	*jobs.Slice
	at     checkpoint
	month  month
	spans  []span
	tenant audit.Tenant
}

// all does what is left of the job, or what the slice has time for.
func (r *archiveRun) all(ctx context.Context) (jobs.Result, error) {
	if err := r.open(ctx); err != nil {
		return jobs.Result{}, err
	}
	for r.at.Pending != nil || !r.at.Ended {
		if r.at.Pending != nil {
			if err := r.settle(ctx); err != nil {
				return jobs.Result{}, err
			}
		} else if err := r.next(ctx); err != nil {
			return jobs.Result{}, err
		}
		if r.at.Pending == nil && !r.at.Ended && r.TimeUp() {
			return jobs.Result{}, nil // the last step has saved
		}
	}
	return jobs.Result{Done: true}, r.finish(ctx)
}

// open reads the job and its tenant. At the first slice it records the job.
func (r *archiveRun) open(ctx context.Context) (err error) {
	if err = r.Read(&r.at); err != nil {
		return err
	}
	if r.month, err = parseMonth(r.at.Month); err != nil {
		return err
	}
	if r.spans, err = r.at.spans(); err != nil {
		return err
	}
	if err := r.checkTenant(ctx); err != nil {
		return err
	}
	if err := r.ensureManifest(ctx); err != nil {
		return err
	}
	if r.at.Begun {
		return nil
	}
	if r.at.CreateID.IsZero() {
		r.at.CreateID = audit.RandomEntryID(r.Now(), r.Random)
		if err := r.Save(ctx, r.at); err != nil {
			return err
		}
	}
	if err := r.record(ctx, r.at.CreateID, actionCreate); err != nil {
		return err
	}
	head, err := r.Places.Head(ctx, r.Job.Tenant) // before the first id is read
	if err != nil {
		return err
	}
	r.at.Begun, r.at.Place = true, head.Last
	return r.Save(ctx, r.at)
}

// checkTenant reads the tenant's record. If the tenant is being deleted, it removes what this job may
// have stored since the deletion began, unless a legal hold stands, and returns a *jobs.FailedError.
func (r *archiveRun) checkTenant(ctx context.Context) error {
	tenant, err := r.Tenants.Tenant(ctx, r.Job.Tenant)
	r.tenant, err = jobs.LiveTenant(tenant, err, reasonDeleted)
	if failed := (*jobs.FailedError)(nil); !errors.As(err, &failed) {
		return err
	}
	blobs := &timely{Blobs: r.Blobs, now: r.Now}
	fate, fateErr := fateOf(ctx, blobs, r.Holds, &r.tenant, r.Job.Tenant)
	switch {
	case fateErr != nil:
		return fateErr
	case fate == archiveGoes:
		return r.removeOwn(ctx, blobs, err)
	case fate == archiveHeld, r.at.Pending == nil:
		return err
	}
	if _, giveUpErr := giveUp(ctx, r.Blobs, r.Job.Tenant, r.month, r.Now, r.at.Pending.Number()); giveUpErr != nil && !errors.Is(giveUpErr, errLost) {
		return giveUpErr
	}
	return err
}

// removeOwn removes what this job may have stored of a tenant that is being deleted, and returns err.
func (r *archiveRun) removeOwn(ctx context.Context, blobs Blobs, err error) error {
	keys := []string{manifestName}
	if f := r.at.Pending; f != nil {
		keys = append(keys, f.Name, f.IDs.Name)
	}
	for _, key := range keys {
		if deleteErr := blobs.Delete(ctx, r.Job.Tenant, r.month.folder()+key); deleteErr != nil {
			return deleteErr // the next slice deletes again
		}
	}
	return err
}

// next writes the next part. It sets Ended if no entries are left, or if the tenant's entries are
// archived no more.
func (r *archiveRun) next(ctx context.Context) error {
	if !r.tenant.Settings.Archive {
		r.at.Ended = true
		return r.Save(ctx, r.at)
	}
	m, err := readManifest(ctx, r.Blobs, r.Job.Tenant, r.month)
	if err != nil {
		return err
	}
	begun := r.Now().UTC().Truncate(time.Millisecond) // before the first entry is read
	p, last, err := r.write(ctx, m)
	if err != nil || p == nil {
		return err
	}
	p.file.CreatedAt, p.file.Job = begun, r.Job.ID
	for n := m.Next; ; n++ {
		p.file.setNumber(n)
		r.at.Pending, r.at.PendingLast, r.at.PendingNext = &p.file, last, m.Next
		if err := r.Save(ctx, r.at); err != nil {
			return err
		}
		if err := r.checkTenant(ctx); err != nil {
			return err
		}
		err := p.store(ctx, r.Blobs, r.Job.Tenant, r.month)
		if !errors.Is(err, audit.ErrConflict) {
			return err
		}
	}
}

// write reads entries into a part until it is full, the slice's time is up, or none are left. It returns
// nil if there are none. While the part has no entry, it saves how far it has compared. Later it saves only that
// it is alive: the part begins there.
func (r *archiveRun) write(ctx context.Context, m *Manifest) (p *part, last audit.EntryID, err error) {
	if p, err = newPart(); err != nil {
		return nil, last, err
	}
	at := newScan(r.Store, r.Blobs, m, r.month, r.spans, r.at.After)
	for more := true; more && !p.isFull(r.maxRows()); {
		var ids []audit.EntryID
		if ids, more, err = at.next(ctx, min(pageSize, int(r.maxRows()-p.file.Rows))); err != nil {
			return nil, last, err
		}
		if err := r.read(ctx, p, ids); err != nil {
			return nil, last, err
		}
		if p.file.Rows == 0 {
			r.at.After = at.after
		}
		r.show(p.file.Rows, at.after.Time())
		if r.TimeUp() {
			break
		}
		if err := r.SaveIfDue(ctx, r.at); err != nil {
			return nil, last, err
		}
	}
	r.at.Ended = at.ended
	if p.file.Rows == 0 {
		return nil, last, r.Save(ctx, r.at)
	}
	p.end()
	return p, at.after, nil
}

func (r *archiveRun) maxRows() int64 {
	if r.MaxRows > 0 {
		return r.MaxRows
	}
	return MaxRows
}

// read adds the entries with the ids that the store still has.
func (r *archiveRun) read(ctx context.Context, p *part, ids []audit.EntryID) error {
	if len(ids) == 0 {
		return nil
	}
	entries, err := r.Store.EntriesByID(ctx, r.Job.Tenant, ids)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b audit.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for i := range entries {
		p.add(entries[i])
	}
	return nil
}

// show sets the job's progress. rows are those that are in no part yet.
func (r *archiveRun) show(rows int64, at time.Time) {
	first, last := r.spans[0].from, r.spans[len(r.spans)-1].to
	r.Job.Progress = max(r.Job.Progress, min(0.99, float64(at.Sub(first))/float64(last.Sub(first))))
	r.Job.Count = r.at.Rows + rows
}

// settle brings the pending part into the manifest, or removes what there is of it.
func (r *archiveRun) settle(ctx context.Context) error {
	f := r.at.Pending
	ids, err := verify(ctx, r.Blobs, r.Job.Tenant, r.month, f)
	damaged := errors.Is(err, export.ErrContent)
	switch {
	case errors.Is(err, audit.ErrNotFound): // a worker was killed before it had stored both files
		return r.drop(ctx)
	case damaged:
		if dropErr := r.drop(ctx); dropErr != nil {
			return errors.Join(err, dropErr)
		}
		return err // the slice is repeated after a while
	case err != nil:
		return err
	}
	listed := false
	_, err = update(ctx, r.Blobs, r.Job.Tenant, r.month, r.Now, func(m *Manifest) (bool, error) {
		listed = false
		if stored := m.file(f.Name); stored != nil {
			listed = stored.SHA256 == f.SHA256 && stored.Job == f.Job // else another job counts it
			return false, nil
		}
		if f.Number() < m.Next { // it was given up
			return false, nil
		}
		if meets, err := r.meets(ctx, m, f, ids); err != nil || meets {
			return false, err
		}
		m.Files = append(m.Files, *f)
		m.Next = f.Number() + 1
		listed = true
		return true, nil
	})
	if err != nil {
		return err
	}
	if !listed {
		return r.drop(ctx)
	}
	if err := r.checkTenant(ctx); err != nil { // its deletion may have passed the archive
		return err
	}
	r.at.Parts, r.at.Rows, r.at.Bytes = r.at.Parts+1, r.at.Rows+f.Rows, r.at.Bytes+f.Bytes
	r.at.After = r.at.PendingLast
	r.at.Pending, r.at.PendingLast, r.at.PendingNext = nil, audit.EntryID{}, 0
	r.show(0, r.at.After.Time())
	return r.Save(ctx, r.at)
}

// meets reports whether a part has one of the ids that the manifest lists since they were compared: another job
// has archived it.
func (r *archiveRun) meets(ctx context.Context, m *Manifest, f *File, ids packedIDs) (bool, error) {
	for i := range m.Files {
		if m.Files[i].Number() < r.at.PendingNext || !m.Files[i].overlaps(f.First, f.Last) {
			continue
		}
		other, err := readIDs(ctx, r.Blobs, r.Job.Tenant, r.month, &m.Files[i])
		if err != nil || other.meets(ids) {
			return true, err
		}
	}
	return false, nil
}

// drop gives the pending part up. The entries are read again.
func (r *archiveRun) drop(ctx context.Context) error {
	f := r.at.Pending
	if _, err := giveUp(ctx, r.Blobs, r.Job.Tenant, r.month, r.Now, f.Number()); err != nil {
		return err
	}
	r.at.Pending, r.at.PendingLast, r.at.PendingNext, r.at.Ended = nil, audit.EntryID{}, 0, false
	return r.Save(ctx, r.at)
}

// giveUp removes the files of a number unless the manifest, which it returns, lists them. From before their removal
// on, nobody brings them into the manifest.
func giveUp(ctx context.Context, blobs Blobs, tenant audit.TenantID, of month, now func() time.Time, number int) (*Manifest, error) {
	m, err := update(ctx, blobs, tenant, of, now, func(m *Manifest) (bool, error) {
		before := m.Next
		m.Next = max(m.Next, number+1)
		return m.Next > before, nil
	})
	if err != nil || m.file(partName(number)) != nil {
		return m, err
	}
	return m, removeFiles(ctx, blobs, tenant, of, number)
}

// removeFiles removes the files of a number.
func removeFiles(ctx context.Context, blobs Blobs, tenant audit.TenantID, of month, number int) error {
	for _, name := range []string{partName(number), idsName(number)} {
		if err := blobs.Delete(ctx, tenant, of.folder()+name); err != nil {
			return err
		}
	}
	return nil
}

// finish notes in the manifest which days are archived, and records the end of the job.
func (r *archiveRun) finish(ctx context.Context) error {
	if r.tenant.Settings.Archive {
		if _, err := update(ctx, r.Blobs, r.Job.Tenant, r.month, r.Now, r.noteDays); err != nil {
			return err
		}
	}
	if err := removeGivenUp(ctx, r.Blobs, r.Job.Tenant, r.month); err != nil {
		return err
	}
	if r.at.FinishID.IsZero() {
		r.at.FinishID = audit.RandomEntryID(r.Now(), r.Random)
		r.Job.Count = r.at.Rows
		if err := r.Save(ctx, r.at); err != nil {
			return err
		}
	}
	return r.record(ctx, r.at.FinishID, actionFinish)
}

// noteDays changes the manifest for finish.
func (r *archiveRun) noteDays(m *Manifest) (bool, error) {
	now := r.Now().UTC().Truncate(time.Millisecond)
	names := r.at.Days
	if len(names) == 0 {
		m.Complete = true
		for day := r.month.Time; day.Before(r.month.end()); day = day.Add(oneDay) {
			names = append(names, day.Format(time.DateOnly))
		}
	}
	for _, name := range names {
		if rows := m.rowsOn(name); rows > 0 {
			m.setDay(Day{Rows: Rows{name, rows}, ArchivedAt: now, Place: r.at.Place})
		}
	}
	return len(m.Files) > 0, nil
}

// record writes an entry about the job into the tenant's log. Repeating it has no effect.
func (r *archiveRun) record(ctx context.Context, id audit.EntryID, action string) error {
	about := struct {
		Month string   `json:"month"`
		Days  []string `json:"days,omitempty"`
		Parts *int     `json:"parts,omitempty"`
		Count *int64   `json:"count,omitempty"`
		Bytes *int64   `json:"bytes,omitempty"`
	}{Month: r.at.Month, Days: r.at.Days}
	if action == actionFinish {
		about.Parts, about.Count, about.Bytes = &r.at.Parts, &r.at.Rows, &r.at.Bytes
	}
	text, err := json.Marshal(about)
	if err != nil {
		return fmt.Errorf("record %s: %w", action, err)
	}
	return audit.Record(ctx, r.Recorder, r.tenant, audit.Entry{
		ID: id, Timestamp: id.Time(), UserID: r.Job.CreatedBy, Action: action, ResourceType: resourceArchive, ResourceID: r.Job.ID, Metadata: text,
	})
}
