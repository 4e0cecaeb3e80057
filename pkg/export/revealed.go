package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/parquet"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// revealedPrefix begins the keys of files with encrypted values in plain.
const revealedPrefix = "revealed/"

// reasonErased is the reason of revealed exports that an erasure ends, for callers.
const reasonErased = "an erasure removed what was written, because it can have values of the erased person: create the export again"

// Revealer decrypts the values of a page of entries. Unlike a page of a list, a file is to have no masks
// because keys cannot be had now; see protect.Revealer.
type Revealer interface {
	Open(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) ([]protect.Revealed, error)
}

// reveals reports whether the file has encrypted values in plain.
func (r *Request) reveals() bool { return r.Reason != "" }

// further returns the members of entries in the file that those of other exports do not have.
func (r *Request) further() []string {
	if r.reveals() {
		return revealedFields()
	}
	return nil
}

// read returns the options of the request.
func (r *Request) read() (Options, error) { return parseOptions(r.Options, r.further()) }

// fileKey is the key of a job's file.
func fileKey(job *jobs.Job, r *Request) string {
	if r.reveals() {
		return revealedPrefix + job.ID
	}
	return "exports/" + job.ID
}

// addRevealed writes entries with their values.
func (r *exportRun) addRevealed(ctx context.Context, f *file, entries []audit.Entry) error {
	revealed, err := r.Revealer.Open(ctx, r.Job.Tenant, entries)
	if err != nil {
		return fmt.Errorf("reveal %d entries: %w", len(entries), err)
	}
	for i := range revealed {
		if err := f.writer.AddRevealed(&revealed[i]); err != nil {
			return err
		}
		f.revealed.Add(&revealed[i])
	}
	return nil
}

// state returns what of the checkpoint can have values of the file: the end of what was written, the
// bounds of columns, and a part that is not full.
func (c *checkpoint) state() []*[]byte { return []*[]byte{&c.Sum, &c.Table.Metadata, &c.Rest} }

// forget removes what only the continuation of the file takes.
func (c *checkpoint) forget() { c.Sum, c.Table, c.Rest = nil, parquet.State{}, nil }

// forgetDigests removes the digests.
func (c *checkpoint) forgetDigests() { c.digests, c.Digests = digests{}, nil }

// end forgets the state in the checkpoint of a job that is finished, and the digests of a revealed file,
// which is removed.
func (c *checkpoint) end(job *jobs.Job) error {
	c.forget()
	if c.Request.reveals() {
		c.forgetDigests()
	}
	return c.keepIn(job)
}

// keepIn sets the checkpoint of a finished job. It has no filters: they can be large, and the record stays
// for jobs.Retention.
func (c *checkpoint) keepIn(job *jobs.Job) error {
	c.Request.Filters = nil
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	job.Checkpoint = text
	return nil
}

// statePlaces name the texts of state to a walk.Sealer.
var statePlaces = []string{"sum", "bounds", "rest"}

func (r *exportRun) statePlace(i int) string { return "export " + r.Job.ID + " " + statePlaces[i] }

// sealState encrypts the state of a revealed export, since the records of jobs are no place for values in
// plain.
func (r *exportRun) sealState(ctx context.Context, at *checkpoint) (err error) {
	for i, text := range at.state() {
		if !at.Request.reveals() || len(*text) == 0 {
			continue
		}
		if *text, err = r.Sealer.SealText(ctx, r.Job.Tenant, r.statePlace(i), *text); err != nil {
			return fmt.Errorf("encrypt the checkpoint: %w", err)
		}
	}
	return nil
}

// unsealed returns the checkpoint as it was before sealState. It returns ErrUploadLost if the state is
// not readable.
func (r *exportRun) unsealed(ctx context.Context) (checkpoint, error) {
	at := r.at
	for i, text := range at.state() {
		if !at.Request.reveals() || len(*text) == 0 {
			continue
		}
		opened, err := r.Texts.OpenText(ctx, r.Job.Tenant, r.statePlace(i), *text)
		if errors.Is(err, protect.ErrUnreadable) {
			err = ErrUploadLost
		}
		if err != nil {
			return checkpoint{}, fmt.Errorf("decrypt the checkpoint: %w", err)
		}
		*text = opened
	}
	return at, nil
}

// digestsPlace names the digests of an export to a walk.Sealer.
func digestsPlace(job *jobs.Job) string { return "export " + job.ID + " digests" }

// save saves the checkpoint.
func (r *exportRun) save(ctx context.Context) error {
	sealed, err := r.sealed(ctx)
	if err != nil {
		return err
	}
	return r.Save(ctx, sealed)
}

// sealed returns the checkpoint as the record of the job has it: without the digests of a revealed export
// in plain.
func (r *exportRun) sealed(ctx context.Context) (checkpoint, error) {
	at := r.at
	if !at.Request.reveals() || len(at.Parts) == 0 {
		return at, nil
	}
	text, err := json.Marshal(at.digests)
	if err == nil {
		at.Digests, err = r.Sealer.SealText(ctx, r.Job.Tenant, digestsPlace(&r.Job), text)
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("encrypt the checkpoint: %w", err)
	}
	at.digests = digests{}
	return at, nil
}

// openDigests decrypts the digests of a revealed export. It returns ErrUploadLost if they are not readable.
func (r *exportRun) openDigests(ctx context.Context) error {
	err := r.at.openDigests(ctx, r.Texts, &r.Job)
	if errors.Is(err, protect.ErrUnreadable) {
		err = ErrUploadLost
	}
	return err
}

func (c *checkpoint) openDigests(ctx context.Context, texts walk.Opener, job *jobs.Job) error {
	if len(c.Digests) == 0 {
		return nil
	}
	text, err := texts.OpenText(ctx, job.Tenant, digestsPlace(job), c.Digests)
	if err == nil {
		err = json.Unmarshal(text, &c.digests)
	}
	if err != nil {
		return fmt.Errorf("decrypt the digests: %w", err)
	}
	c.Digests = nil
	return nil
}

// eraseIfRemoved erases a revealed file that an erasure has removed before it was complete: a store that
// has begun to make the parts a file can go on after an abort of the upload.
func (r *exportRun) eraseIfRemoved(ctx context.Context) error {
	if !r.at.Request.reveals() {
		return nil
	}
	job, err := r.Stored(ctx)
	if err != nil {
		return err
	}
	var at checkpoint
	if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	if job.Failing == nil && at.RemovedBy == "" {
		return nil
	}
	return errors.Join(audit.ErrPrecondition, r.Files.Erase(ctx, job.Tenant, fileKey(&job, &at.Request)))
}

// RevealedFiles are the files of exports, with what their removal by an erasure takes.
type RevealedFiles interface {
	AbortUpload(ctx context.Context, tenant audit.TenantID, u Upload) error
	// Erase is Delete of a file and of every earlier version of it that the store keeps.
	Erase(ctx context.Context, tenant audit.TenantID, key string) error
	// List is that of Blobs.
	List(ctx context.Context, tenant audit.TenantID, prefix, after string, limit int) ([]Listed, error)
}

// Remover removes the files of revealed exports because a person was erased. Which of them have values of
// that person is not known, so all of the tenant go.
type Remover struct {
	Jobs jobs.Store
	jobs.Queues
	Files RevealedFiles
	// Clock decides when an export failed.
	Clock  jobs.Clock
	Now    func() time.Time
	Random func([]byte)
}

// removePage is how many exports are looked at together.
const removePage = 100

// Removal says how far RemoveRevealed is. It is part of the checkpoint of the erasure.
type Removal struct {
	// Removed is how many files the erasure has removed.
	Removed int64 `json:"removed,omitempty"`
	// Last is the last export that was looked at; nil: none was.
	Last *jobs.Position `json:"last,omitempty"`
}

// RemoveRevealed removes the files of the tenant's revealed exports, complete or not. Exports that are
// writing one fail. It is called when no process can use the erased key any more: what is begun later has
// none of the values. erasure names what removes them, so that a call that is repeated counts each file
// once. It begins where at says, and changes at as it goes, also before an error. It returns false if stop
// was true before the end.
func (r *Remover) RemoveRevealed(ctx context.Context, tenant audit.TenantID, erasure string, at *Removal, stop func() bool) (done bool, err error) {
	filter := jobs.Filter{Kinds: []jobs.Kind{jobs.KindExport}}
	for more := true; more; {
		var list []jobs.Job
		if list, more, err = r.Jobs.Jobs(ctx, tenant, filter, at.Last, removePage); err != nil {
			return false, fmt.Errorf("list the exports of %s: %w", tenant, err)
		}
		for i := range list {
			if stop() {
				return false, nil
			}
			by, err := r.remove(ctx, tenant, list[i].ID, erasure)
			if err != nil {
				return false, fmt.Errorf("remove revealed export %s of %s: %w", list[i].ID, tenant, err)
			}
			if by == erasure {
				at.Removed++
			}
			at.Last = &jobs.Position{CreatedAt: list[i].CreatedAt, ID: list[i].ID}
		}
	}
	err = r.removeOrphans(ctx, tenant, at, stop)
	if errors.Is(err, errStopped) {
		return false, nil
	}
	return err == nil, err
}

// maxRemovals is how often an export is removed while its worker saves it.
const maxRemovals = 8

// remove removes what a revealed export has written, and returns which erasure has done so; "": none has,
// because there is no file.
func (r *Remover) remove(ctx context.Context, tenant audit.TenantID, id, erasure string) (by string, err error) {
	for range maxRemovals {
		job, err := r.Jobs.Job(ctx, tenant, id)
		if errors.Is(err, audit.ErrNotFound) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		var at checkpoint
		if err := json.Unmarshal(job.Checkpoint, &at); err != nil {
			return "", fmt.Errorf("read the checkpoint: %w", err)
		}
		if at.RemovedBy != "" || !hasRevealed(&job, &at) {
			return at.RemovedBy, nil
		}
		err = r.removeFile(ctx, &job, &at, erasure)
		if err == nil || errors.Is(err, audit.ErrNotFound) {
			return erasure, nil
		}
		if !errors.Is(err, audit.ErrPrecondition) {
			return "", err
		}
	}
	return "", &audit.UnavailableError{Err: errors.New("it changes too often")}
}

// hasRevealed reports whether an export can have written values: they are read once the upload is saved.
func hasRevealed(job *jobs.Job, at *checkpoint) bool {
	return at.Request.reveals() && at.Upload.ID != "" && (!job.State.Finished() || !job.CleanAt.IsZero())
}

// removeFile has an export fail that is not finished, before it removes what was written: a worker that slept
// cannot complete an upload that was aborted. The export says last that an erasure removed its file, so
// that a call that was killed is repeated. A worker ends the export.
func (r *Remover) removeFile(ctx context.Context, job *jobs.Job, at *checkpoint, erasure string) error {
	unfinished := !job.State.Finished()
	if unfinished {
		if err := r.fail(ctx, job); err != nil {
			return err
		}
	}
	if at.Upload.ID != "" {
		if err := r.Files.AbortUpload(ctx, job.Tenant, at.Upload); err != nil {
			return err
		}
	}
	if err := r.Files.Erase(ctx, job.Tenant, fileKey(job, &at.Request)); err != nil {
		return err
	}
	at.RemovedBy = erasure
	if err := at.end(job); err != nil {
		return err
	}
	job.CleanAt = time.Time{}
	if !unfinished {
		job.ResumeAt = time.Time{}
		return jobs.Replace(ctx, r.Jobs, job)
	}
	if err := jobs.Replace(ctx, r.Jobs, job); err != nil {
		return err
	}
	return r.Continue(ctx, job)
}

// fail saves that an export fails. If this process is killed, a worker ends the export and removes the file.
func (r *Remover) fail(ctx context.Context, job *jobs.Job) error {
	at, err := r.Clock.Now(ctx, r.Now)
	if err != nil {
		return err
	}
	if job.Failing == nil {
		job.Fail(reasonErased, at, r.Random)
	}
	job.CleanAt, job.ResumeAt = at, r.Now().UTC().Truncate(time.Millisecond).Add(removeLater)
	return jobs.Replace(ctx, r.Jobs, job)
}

// Purger is the jobs.Purger of the files of exports of a deleted tenant.
type Purger struct {
	Files interface {
		RevealedFiles
		jobs.CountedPurger
	}
}

// Purge implements jobs.Purger. It leaves no version of a revealed file.
func (p *Purger) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	list, err := p.Files.List(ctx, tenant, revealedPrefix, "", min(limit, MaxList))
	if err != nil {
		return 0, err
	}
	for i, file := range list {
		if err := p.Files.Erase(ctx, tenant, file.Key); err != nil {
			return i, err
		}
	}
	if len(list) > 0 {
		return len(list), nil
	}
	return p.Files.Purge(ctx, tenant, limit)
}

// CountRecords implements jobs.Counter.
func (p *Purger) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return p.Files.CountRecords(ctx, tenant)
}

// removeLater is when a worker ends an export if the process that has it fail was killed.
const removeLater = 5 * time.Minute

// errStopped says that stop was true.
var errStopped = errors.New("stopped")

// removeOrphans removes files that no export has. The database was restored from before it was created, or
// from before its file was complete. It needs no position: few files stay, those of exports that are newer
// than the erasure. It returns errStopped if stop was true before the end.
func (r *Remover) removeOrphans(ctx context.Context, tenant audit.TenantID, at *Removal, stop func() bool) error {
	return EachListed(ctx, r.Files.List, tenant, revealedPrefix, func(file Listed) error {
		if stop() {
			return errStopped
		}
		job, err := r.Jobs.Job(ctx, tenant, file.Key[len(revealedPrefix):])
		if errors.Is(err, audit.ErrNotFound) || err == nil && job.State.Finished() && job.CleanAt.IsZero() {
			if err = r.Files.Erase(ctx, tenant, file.Key); err == nil {
				at.Removed++
			}
		}
		if err != nil {
			return fmt.Errorf("remove revealed export %s of %s: %w", file.Key, tenant, err)
		}
		return nil
	})
}
