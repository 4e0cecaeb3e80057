package export

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/parquet"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

const (
	// partSize is at which size a part is stored. It is above MinPart. With MaxParts, a file has up
	// to 80 GB.
	partSize = 8 << 20
	// maxUploads is how often a job begins its file again because the store lost an upload.
	maxUploads = 5
)

// The reasons of exports that fail, for callers.
const (
	reasonTooLarge      = "the file would have more than 80 GB: narrow it, for example to a shorter time by from and to"
	reasonTooManyGroups = "the Parquet file would have too many row groups: narrow it, for example to a shorter time by from and to, or name fewer fields"
	reasonLost          = "the store of files lost the unfinished file several times"
)

// Files stores the files of exports.
type Files interface {
	Uploads
	// Delete removes a file. A missing one is not an error.
	Delete(ctx context.Context, tenant audit.TenantID, key string) error
	// Erase is that of RevealedFiles.
	Erase(ctx context.Context, tenant audit.TenantID, key string) error
}

// Runner is the jobs.Runner of jobs.KindExport. It writes a file in parts, with a checkpoint after each
// and at the end of each slice. A worker that is killed costs the work since then.
type Runner struct {
	walk.Reader
	Holds HoldReader
	Held  HeldStore
	// Archived reads what is archived of a tenant, with from ≤ timestamp < to; a zero bound is open. nil: the
	// process cannot, and hands exports by a hold over to the workers of the archive.
	Archived func(tenant audit.TenantID, from, to time.Time) ArchivedEntries
	Revealer Revealer
	Sealer   walk.Sealer // for what Reader.Texts opens
	Files    Files
	Recorder audit.Recorder
	Random   func([]byte)
}

// checkpoint says how far an export is.
type checkpoint struct {
	Request Request `json:"request"`
	// SearchableFrom is that of Export. If the settings change meanwhile, it is the latest one.
	SearchableFrom time.Time `json:"searchable_from,omitzero"`
	// The position is that of the last entry in the parts.
	walk.Place
	// Rest is a part that is not full: the slice ended before that. It has fewer bytes than MinPart.
	Rest []byte `json:"rest,omitempty"`
	// Uploads counts the files that were begun.
	Uploads int    `json:"uploads,omitempty"`
	Upload  Upload `json:"upload,omitzero"`
	digests
	// Digests are the digests of a revealed export, sealed.
	Digests []byte `json:"digests,omitempty"`
	// Written counts the entries in the parts and in Rest. Sum is the state of the SHA-256 of the parts and
	// Rest, and has up to 63 of their last bytes.
	Written int64  `json:"written,omitempty"`
	Sum     []byte `json:"sum,omitempty"`
	// Revealed is what was revealed in the parts.
	Revealed protect.Revelation `json:"revealed,omitzero"`
	// RemovedBy is the erasure that removed the file; "": none has.
	RemovedBy string `json:"removed_by,omitempty"`
	// Table is how far a Parquet file is. It has the lowest value of each column and the highest.
	Table parquet.State `json:"table,omitzero"`
	// EntryID is that of the entry about the end. It is random, so that no client can take it.
	EntryID audit.EntryID `json:"entry_id,omitzero"`
	EndedAt time.Time     `json:"ended_at,omitzero"`
}

// digests are what follows from the content of the parts. With them, guesses of a value in a revealed file
// can be tested.
type digests struct {
	Parts []Part `json:"parts,omitempty"`
	Bytes int64  `json:"bytes,omitempty"` // of the parts
	// SHA256 is set once every part is stored.
	SHA256 string `json:"sha256,omitempty"`
}

// restart forgets the file that was begun.
func (c *checkpoint) restart() {
	again := walk.Place{Indexed: c.Indexed, First: c.First, Last: c.Last}
	*c = checkpoint{Request: c.Request, SearchableFrom: c.SearchableFrom, Place: again, Uploads: c.Uploads}
}

// Run implements jobs.Runner.
func (r *Runner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	run := &exportRun{Runner: r, Slice: s}
	err := s.Read(&run.at)
	var result jobs.Result
	if err == nil {
		result, err = run.all(ctx)
	}
	if errors.Is(err, ErrUploadLost) {
		result, err = jobs.Result{}, run.again(ctx)
	}
	if failed := (*jobs.FailedError)(nil); errors.As(err, &failed) {
		if removeErr := run.fail(ctx); removeErr != nil {
			err = removeErr // the next slice fails and removes again
		}
	}
	if err != nil {
		return result, fmt.Errorf("export entries of %s: %w", s.Job.Tenant, err)
	}
	return result, nil
}

// fail removes what the export has written, which can be a whole file: a worker was killed after it had
// completed it. It saves first, so that a worker that slept removes nothing of another.
func (r *exportRun) fail(ctx context.Context) error {
	if r.at.Request.reveals() {
		r.at.forgetDigests() // to seal them takes a key, which can be gone
	}
	if err := r.save(ctx); err != nil {
		return err
	}
	return r.remove(ctx, &r.Job, &r.at)
}

// Clean implements jobs.Cleaner. It removes the file, or what was written of it.
func (r *Runner) Clean(ctx context.Context, job *jobs.Job) error {
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return fmt.Errorf("read export %s of %s: %w", job.ID, job.Tenant, err)
	}
	return r.remove(ctx, job, &at)
}

// remove removes what a job has written, and from its checkpoint what only the next part takes. No version
// of a revealed file is left.
func (r *Runner) remove(ctx context.Context, job *jobs.Job, at *checkpoint) error {
	remove := r.Files.Delete
	if at.Request.reveals() {
		remove = r.Files.Erase
	}
	if err := r.abort(ctx, job.Tenant, at.Upload); err != nil {
		return err
	}
	if err := remove(ctx, job.Tenant, fileKey(job, &at.Request)); err != nil {
		return err
	}
	return at.end(job)
}

func (r *Runner) abort(ctx context.Context, tenant audit.TenantID, u Upload) error {
	if u.ID == "" {
		return nil
	}
	return r.Files.AbortUpload(ctx, tenant, u)
}

// exportRun is one slice of an export.
type exportRun struct {
	*Runner
	*jobs.Slice
	at        checkpoint
	tenant    audit.Tenant
	options   Options
	selection search.Selection
	source    source // nil: this process cannot read it
}

// all does what is left of the export, or what the slice has time for.
func (r *exportRun) all(ctx context.Context) (jobs.Result, error) {
	if err := r.open(ctx); err != nil {
		return jobs.Result{}, err
	}
	if r.source == nil {
		r.Job.Archive = true
		return jobs.Result{}, nil
	}
	wait, err := r.source.wait(ctx)
	if err != nil || wait > 0 {
		return jobs.Result{Wait: wait}, err
	}
	if err := r.openDigests(ctx); err != nil {
		return jobs.Result{}, err
	}
	if r.at.SHA256 == "" {
		if done, err := r.write(ctx); err != nil || !done {
			return jobs.Result{}, err
		}
	}
	if err := r.complete(ctx); err != nil {
		return jobs.Result{}, err
	}
	var stored checkpoint // its digests are sealed
	if err := r.Read(&stored); err != nil {
		return jobs.Result{}, err
	}
	return jobs.Result{Done: true, KeepFor: FileAge}, stored.keepIn(&r.Job)
}

// open reads the tenant and what the export selects.
func (r *exportRun) open(ctx context.Context) error {
	if err := r.checkTenant(ctx); err != nil {
		return err
	}
	if r.Job.Scope == nil {
		return errors.New("the job has no scope")
	}
	filters, err := r.Filters(ctx, &r.Job, r.at.Request.Filters)
	if err != nil {
		return err
	}
	if r.options, err = r.at.Request.read(); err != nil {
		return walk.Unknown(err)
	}
	if r.options.Hold != "" {
		if r.selection, err = r.Entries.SelectStored(r.tenant, *r.Job.Scope, filters, search.ParamSort); err != nil {
			return walk.Unknown(err)
		}
		return r.openHold(ctx)
	}
	r.source = indexed{r}
	r.selection, err = r.Entries.SelectAt(r.Job.CreatedAt, r.tenant, *r.Job.Scope, filters, search.ParamSort)
	if from := r.selection.SearchableFrom(); from.After(r.at.SearchableFrom) {
		r.at.SearchableFrom = from
	}
	return walk.Unknown(err)
}

// checkTenant reads the tenant's record. It returns a *jobs.FailedError if the tenant is being deleted.
func (r *exportRun) checkTenant(ctx context.Context) (err error) {
	r.tenant, err = r.CheckTenant(ctx, r.Job.Tenant)
	return err
}

// write writes parts until the file is whole. It reports false if the slice ended before that.
func (r *exportRun) write(ctx context.Context) (bool, error) {
	if err := r.begin(ctx); err != nil {
		return false, err
	}
	file, err := r.newFile(ctx)
	if err != nil {
		return false, err
	}
	for first := true; !r.at.Ended; first = false { // each slice reads a page
		if !first && r.TimeUp() {
			return false, nil
		}
		if stored, err := r.writePart(ctx, file); err != nil || !stored {
			return false, err
		}
	}
	return true, nil
}

// begin begins the file and finds its first entry and its last.
func (r *exportRun) begin(ctx context.Context) error {
	if r.at.Upload.ID != "" {
		return nil
	}
	err := r.source.begin(ctx)
	if err != nil {
		return err
	}
	if r.at.Upload, err = r.Files.BeginUpload(ctx, r.Job.Tenant, fileKey(&r.Job, &r.at.Request), r.options.MediaType()); err != nil {
		return err
	}
	r.at.Uploads++
	if err := r.save(ctx); err != nil {
		return errors.Join(err, r.abort(ctx, r.Job.Tenant, r.at.Upload))
	}
	return nil
}

// newFile returns the file after the parts that are stored.
func (r *exportRun) newFile(ctx context.Context) (*file, error) {
	writer, err := NewWriter(r.options, &r.tenant.Settings)
	if err != nil {
		return nil, err
	}
	f := &file{writer: writer, sum: sha256.New(), revealed: r.at.Revealed}
	f.revealed.IDs = slices.Clone(f.revealed.IDs) // the checkpoint's do not grow before the part is stored
	if len(r.at.Sum) == 0 {
		return f, nil
	}
	at, err := r.unsealed(ctx)
	if err == nil {
		err = writer.resume(&at)
	}
	if err != nil {
		return nil, err
	}
	f.part = at.Rest
	resumed, is := f.sum.(encoding.BinaryUnmarshaler)
	if !is {
		return nil, errors.New("the state of a SHA-256 cannot be restored")
	}
	if err := resumed.UnmarshalBinary(at.Sum); err != nil {
		return nil, fmt.Errorf("restore the state of the SHA-256: %w", err)
	}
	return f, nil
}

// writePart writes entries until a part is full, or the last entry is written, and stores the part. It
// reports false if the slice ended before that.
func (r *exportRun) writePart(ctx context.Context, f *file) (stored bool, err error) {
	position, ended := r.at.Position, false
	for len(f.part) < partSize && !ended {
		page, err := r.source.page(ctx, position)
		if err == nil {
			err = r.add(ctx, f, page.Entries)
		}
		if err != nil {
			return false, err
		}
		if page.Last != nil {
			position = page.Last
			r.Job.Count = f.writer.written
			r.at.Show(&r.Job, position.Time)
		}
		if ended = !page.More; ended {
			continue
		}
		if r.TimeUp() {
			return r.pause(ctx, f, position)
		}
		if r.Unsaved() >= r.saveInterval() { // shows the progress, and notices a cancellation
			if err := r.save(ctx); err != nil {
				return false, err
			}
		}
	}
	rest := f.writer.Flush
	if ended {
		rest = f.writer.End
	}
	if err := f.append(rest); err != nil {
		return false, err
	}
	return true, r.putPart(ctx, f, position, ended)
}

// saveInterval is the time between two saves within a part. A large checkpoint is saved more rarely.
func (r *exportRun) saveInterval() time.Duration {
	return time.Duration(1+(len(r.at.Rest)+len(r.at.Table.Metadata))>>18) * time.Second
}

// pause keeps what the slice has written since the last part. It stores it as a part, and reports true, if
// it is large enough.
func (r *exportRun) pause(ctx context.Context, f *file, position *audit.Position) (stored bool, err error) {
	if err := f.append(f.writer.Flush); err != nil {
		return false, err
	}
	if len(f.part) >= MinPart {
		return true, r.putPart(ctx, f, position, false)
	}
	if err := r.keep(ctx, f, position); err != nil {
		return false, err
	}
	return false, r.save(ctx)
}

// putPart stores the part.
func (r *exportRun) putPart(ctx context.Context, f *file, position *audit.Position, ended bool) error {
	if len(r.at.Parts) == MaxParts {
		return &jobs.FailedError{Reason: reasonTooLarge}
	}
	if err := r.checkTenant(ctx); err != nil {
		return err
	}
	if len(f.part) > 0 || len(r.at.Parts) == 0 {
		part, err := r.Files.PutPart(ctx, r.Job.Tenant, r.at.Upload, len(r.at.Parts)+1, f.part)
		if err != nil {
			return err
		}
		r.at.Parts = append(r.at.Parts, part)
	}
	r.at.Bytes += int64(len(f.part))
	f.part = f.part[:0]
	if err := r.keep(ctx, f, position); err != nil {
		return err
	}
	if r.at.Ended = ended; !ended {
		return r.save(ctx)
	}
	return r.seal(ctx, hex.EncodeToString(f.sum.Sum(nil)))
}

// keep sets in the checkpoint how far the file is. The part is what is not stored of it.
func (r *exportRun) keep(ctx context.Context, f *file, position *audit.Position) (err error) {
	state, is := f.sum.(encoding.BinaryMarshaler)
	if !is {
		return errors.New("the state of a SHA-256 cannot be saved")
	}
	at := r.at
	if at.Sum, err = state.MarshalBinary(); err != nil {
		return fmt.Errorf("save the state of the SHA-256: %w", err)
	}
	at.Revealed = f.revealed
	at.Revealed.IDs = slices.Clone(f.revealed.IDs)
	f.writer.save(&at)
	at.Position, at.Rest = position, slices.Clone(f.part)
	if len(at.Table.Metadata) > maxMetadata || len(at.Table.Metadata)+len(at.Rest) > maxState {
		return &jobs.FailedError{Reason: reasonTooManyGroups}
	}
	if err := r.sealState(ctx, &at); err != nil {
		return err
	}
	r.at = at
	return nil
}

// seal saves that every part is stored. From then on the job cannot be canceled.
func (r *exportRun) seal(ctx context.Context, sum string) error {
	r.at.forget()
	r.at.SHA256 = sum
	r.at.EndedAt = r.Now().UTC().Truncate(time.Millisecond)
	r.at.EntryID = audit.RandomEntryID(r.at.EndedAt, r.Random)
	r.Job.Count = r.at.Written
	sealed, err := r.sealed(ctx)
	if err != nil {
		return err
	}
	return r.Commit(ctx, sealed)
}

// complete makes the parts one file, and records it.
func (r *exportRun) complete(ctx context.Context) error {
	if err := r.checkTenant(ctx); err != nil {
		return err
	}
	sum, err := hex.DecodeString(r.at.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return errors.New("the checkpoint has no SHA-256")
	}
	if err := r.Files.CompleteUpload(ctx, r.Job.Tenant, r.at.Upload, r.at.Parts, r.at.Bytes, [sha256.Size]byte(sum)); err != nil {
		return err
	}
	if err := r.eraseIfRemoved(ctx); err != nil {
		return err
	}
	about, err := json.Marshal(r.at.result())
	if err != nil {
		return fmt.Errorf("record the end: %w", err)
	}
	return audit.Record(ctx, r.Recorder, r.tenant, audit.Entry{
		ID: r.at.EntryID, Timestamp: r.at.EndedAt, UserID: r.Job.CreatedBy, Action: actionFinish,
		ResourceType: resourceExport, ResourceID: r.Job.ID, Metadata: about,
	})
}

// finished is what the tenant's log has of a file.
type finished struct {
	Count  int64  `json:"count"`
	Bytes  *int64 `json:"bytes,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// result returns what may be recorded. The log outlives a revealed file and has none of its digests.
func (c *checkpoint) result() finished {
	if c.Request.reveals() {
		return finished{Count: c.Written}
	}
	return finished{c.Written, &c.Bytes, c.SHA256}
}

// again begins the file again, because the store lost the upload.
func (r *exportRun) again(ctx context.Context) error {
	if err := r.abort(ctx, r.Job.Tenant, r.at.Upload); err != nil {
		return err
	}
	if r.at.Uploads >= maxUploads {
		return &jobs.FailedError{Reason: reasonLost}
	}
	r.at.restart()
	return r.save(ctx)
}

// file is a file that is being written: the part that is not stored yet.
type file struct {
	writer *Writer
	part   []byte
	sum    hash.Hash // of all parts
	// revealed is what was revealed in all parts.
	revealed protect.Revelation
}

// add writes those entries that were received before the job was created.
func (r *exportRun) add(ctx context.Context, f *file, entries []audit.Entry) error {
	entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return !e.ReceivedAt.Before(r.Job.CreatedAt) })
	write := r.addMasked
	if r.at.Request.reveals() {
		write = r.addRevealed
	}
	if err := write(ctx, f, entries); err != nil {
		return err
	}
	if !f.writer.isFull() {
		return nil
	}
	return f.append(f.writer.Flush)
}

// addMasked writes entries as a list shows them.
func (*exportRun) addMasked(_ context.Context, f *file, entries []audit.Entry) error {
	for i := range entries {
		if err := f.writer.Add(&entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// append adds what a function of the writer appends to the part.
func (f *file) append(frames func(dst []byte) ([]byte, error)) (err error) {
	begin := len(f.part)
	if f.part, err = frames(f.part); err != nil {
		return err
	}
	_, _ = f.sum.Write(f.part[begin:]) // never fails
	return nil
}
