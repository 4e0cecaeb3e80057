package erasure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// Keys destroys keys of subjects; see protect.Keyring.
type Keys interface {
	NewestRef(ctx context.Context, tenant audit.TenantID, subject protect.SubjectID) (protect.KeyRef, error)
	Destroy(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error
}

// TombstoneWriter writes what outlives the restore of a database; see Tombstones.
type TombstoneWriter interface {
	Write(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error
}

// Exports removes the files of revealed exports; see export.Remover.
type Exports interface {
	RemoveRevealed(ctx context.Context, tenant audit.TenantID, erasure string, at *export.Removal, stop func() bool) (done bool, err error)
}

// Archive tells whether a tenant has an archive; see archive.Reader.
type Archive interface {
	Has(ctx context.Context, tenant audit.TenantID) (bool, error)
}

// Runner is the jobs.Runner of jobs.KindErasure. It waits for the end of the delay, destroys the key,
// and waits until no other process can use it. Then it removes the files that have values which the key
// encrypted.
type Runner struct {
	Keys       Keys
	Tombstones TombstoneWriter
	Holds      hold.Reader
	Store      retention.Store // the system of record
	Entries    Entries         // the same
	Index      Index
	// PutReplaces says that putting an entry into the index replaces what it has. Otherwise the entry is removed
	// first, and a reader can pass by in between.
	PutReplaces bool
	// Lag tells whether the index has what is stored; nil if entries are indexed as they are stored.
	Lag        walk.Lag
	Quarantine Quarantine
	Archive    Archive
	Exports    Exports
	Tenants    jobs.Tenants // tenants.Cache.Fresh if the process has a cache
	Recorder   audit.Recorder
	// FreeSpace erases what the destroyed key left in a file; nil if the engines have none.
	FreeSpace jobs.Space
	// SettleTime is how long after its destruction another process can use a key.
	SettleTime time.Duration
	// Certificates signs and keeps certificates. BackupTime is how long backups of the keys are kept.
	Certificates jobs.Certificates
	BackupTime   time.Duration
	// Clock decides when an erasure that can be canceled begins, when its key was destroyed, and when no process can
	// use it any more.
	Clock  jobs.Clock
	Now    func() time.Time
	Random func([]byte)
}

// reasonDeleted is the reason of erasures that fail.
const reasonDeleted = "the tenant is being deleted, which destroys all its keys"

// Run implements jobs.Runner.
func (r *Runner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	run := &erasureRun{Runner: r, Slice: s}
	if err := s.Read(&run.at); err != nil {
		return jobs.Result{}, err
	}
	if s.Job.Archive { // an old message: ArchiveCheck has the job
		return jobs.Result{}, nil
	}
	result, err := run.all(ctx)
	if err != nil {
		return jobs.Result{}, fmt.Errorf("erase a subject of %s: %w", s.Job.Tenant, err)
	}
	return result, nil
}

// erasureRun is one slice of an erasure.
type erasureRun struct {
	*Runner
	*jobs.Slice
	at checkpoint
}

// delay returns how long to wait until the erasure may begin. It asks the shared clock only once the worker's
// own has come so far.
func (r *erasureRun) delay(ctx context.Context) (time.Duration, error) {
	wait := r.at.ErasesAt.Sub(r.Now())
	if wait > 0 {
		return wait, nil
	}
	now, err := r.Clock.Now(ctx, r.Now)
	return r.at.ErasesAt.Sub(now), err
}

// settle returns how long another process can still use the key. The worker that destroyed it can be another one.
func (r *erasureRun) settle(ctx context.Context) (time.Duration, error) {
	now, err := r.Clock.Now(ctx, r.Now)
	return r.at.ErasedAt.Add(r.SettleTime).Sub(now), err
}

func (r *erasureRun) all(ctx context.Context) (jobs.Result, error) {
	tenant, err := r.tenant(ctx)
	if err != nil {
		return jobs.Result{}, err
	}
	if !r.Job.Committed {
		if wait, err := r.delay(ctx); err != nil || wait > 0 {
			return jobs.Result{Wait: wait}, err
		}
		if free, err := r.checkHolds(ctx); err != nil || !free {
			return jobs.Result{}, err
		}
		if err := r.commit(ctx); err != nil {
			return jobs.Result{}, err
		}
	}
	if r.at.ErasedAt.IsZero() {
		if erased, err := r.erase(ctx); err != nil || !erased {
			return jobs.Result{}, err
		}
	}
	if wait, err := r.settle(ctx); err != nil || wait > 0 {
		return jobs.Result{Wait: wait}, err
	}
	if removed, err := r.removeExports(ctx); err != nil || !removed {
		return jobs.Result{}, err
	}
	if wait, err := r.awaitIndex(ctx, &tenant); err != nil || wait > 0 {
		return jobs.Result{Wait: wait}, err
	}
	if dropped, err := r.dropTokens(ctx, &tenant); err != nil || !dropped {
		return jobs.Result{}, err
	}
	if err := r.certify(ctx, tenant); err != nil {
		return jobs.Result{}, err
	}
	r.Job.Certificate = r.at.Certificate
	return jobs.Result{Done: true}, r.record(ctx, tenant)
}

// tenant returns the job's tenant. It returns a *jobs.FailedError if it is being deleted.
func (r *erasureRun) tenant(ctx context.Context) (audit.Tenant, error) {
	tenant, err := r.Tenants.Tenant(ctx, r.Job.Tenant)
	return jobs.LiveTenant(tenant, err, reasonDeleted)
}

// reasonHeld is the reason of erasures that a legal hold stops.
const reasonHeld = "a legal hold covers an entry of the subject"

// checkHolds returns a *jobs.FailedError if a legal hold covers an entry with a value of the subject.
// It reports false if the slice ended before that was known. It begins again if a hold was set
// meanwhile. A hold that is set after its end comes into force only once the erasure is finished.
func (r *erasureRun) checkHolds(ctx context.Context) (bool, error) {
	for {
		standing, isNew, err := r.standing(ctx)
		if err != nil {
			return false, err
		}
		if isNew {
			r.at.Checked, r.at.ArchiveChecked, r.at.ArchivedUpTo = audit.EntryID{}, false, audit.EntryID{}
		}
		if len(standing) == 0 {
			return true, nil
		}
		selection := standing.Selection()
		selection.After, selection.Encrypted = r.at.Checked, true
		entries, err := r.Store.Retained(ctx, r.Job.Tenant, selection, retention.MaxEncrypted)
		if err != nil {
			return false, err
		}
		if len(entries) == 0 && !isNew {
			return r.checkArchive(ctx)
		}
		for i := range entries {
			if e := &entries[i].Entry; r.at.concerns(e) && standing.Cover(e) {
				return false, &jobs.FailedError{Reason: reasonHeld}
			}
			r.at.Checked = entries[i].ID
		}
		if err := r.Save(ctx, r.at); err != nil || r.TimeUp() {
			return false, err
		}
	}
}

// checkArchive reports whether the archive has been checked as well. If not, it hands the job over to
// ArchiveCheck: an entry that has left the system of record since the check of that is archived.
func (r *erasureRun) checkArchive(ctx context.Context) (bool, error) {
	if r.at.ArchiveChecked {
		return true, nil
	}
	if has, err := r.Archive.Has(ctx, r.Job.Tenant); err != nil || !has {
		return err == nil, err
	}
	r.Job.Archive = true
	return false, r.Save(ctx, r.at)
}

// standing returns the holds that stand now, and whether one of them has not been checked.
func (r *erasureRun) standing(ctx context.Context) (standing hold.Standing, isNew bool, err error) {
	standing, err = r.Holds.Standing(ctx, r.Job.Tenant)
	ids := make([]string, len(standing))
	for i := range standing {
		ids[i] = standing[i].ID
		isNew = isNew || !slices.Contains(r.at.Holds, ids[i])
	}
	r.at.Holds = ids
	return standing, isNew, err
}

// commit decides which generation to destroy. A slice that is repeated destroys the same one, and
// never the key that was made meanwhile.
func (r *erasureRun) commit(ctx context.Context) error {
	ref, err := r.Keys.NewestRef(ctx, r.Job.Tenant, r.at.Subject)
	if err != nil {
		return err
	}
	r.at.Generation = ref.Generation
	return r.Commit(ctx, r.at)
}

// erase destroys the key. It reports false if the slice ended before that.
func (r *erasureRun) erase(ctx context.Context) (bool, error) {
	if err := r.Tombstones.Write(ctx, r.Job.Tenant, r.at.ref()); err != nil {
		return false, err
	}
	if err := r.Keys.Destroy(ctx, r.Job.Tenant, r.at.ref()); err != nil {
		return false, err
	}
	if done, err := r.eraseSpace(ctx); err != nil || !done {
		return false, err
	}
	now, err := r.Clock.Now(ctx, r.Now)
	if err != nil {
		return false, err
	}
	r.at.ErasedAt, r.at.EntryID = now, audit.RandomEntryID(now, r.Random)
	r.Job.Progress, r.Job.Count = 0.5, 1 // from then on legal holds do not wait for it
	return true, r.Save(ctx, r.at)
}

// eraseSpace erases what is left in a file of what the step before has removed. It reports false if the slice ended
// before that.
func (r *erasureRun) eraseSpace(ctx context.Context) (bool, error) {
	if r.FreeSpace == nil {
		return true, nil
	}
	done, err := jobs.Scrub(ctx, r.FreeSpace, &r.at.Erasing, r.TimeUp)
	if !done {
		err = errors.Join(err, r.Save(ctx, r.at))
	}
	return done, err
}

// removeExports removes the files of revealed exports. No process has the key any more, so exports that
// begin later have none of the values. It reports false if the slice ended before that.
func (r *erasureRun) removeExports(ctx context.Context) (bool, error) {
	if r.at.Exports != nil {
		return true, nil
	}
	done, err := r.Exports.RemoveRevealed(ctx, r.Job.Tenant, r.Job.ID, &r.at.Removal, r.TimeUp)
	if err != nil || !done {
		return false, errors.Join(err, r.Save(ctx, r.at))
	}
	removed := r.at.Removal.Removed
	r.at.Exports, r.at.Removal = &removed, export.Removal{}
	return true, r.Save(ctx, r.at)
}

// What a certificate says beside the facts of its erasure.
var (
	destroyed = []string{
		"the key of this generation, which encrypted the values of the subject; if there was none, none is ever made",
		"the tokens by which these values could be matched, in the index and in the entries that it has",
		"the files of the tenant's revealed exports, which could have these values in plain; revealed_exports_removed counts them",
	}
	remains = []string{
		"the plain fields of entries, such as user_id, action and resource_id",
		"the masks of encrypted values",
		"tokens in entries that the index did not have then, for example in quarantine, which no search answers for: only the tenant's key makes one from a guess",
		"values in entries that were accepted before a rule covered them",
		"values in entries that were accepted after the destruction, which a later key of the subject encrypts",
		"values under the tenant's own key or under the keys of other subjects",
		"a tombstone with the tenant's id, subject_hmac and key_generation, which destroys the key again after a restore of the database",
		"answers and files that were downloaded before",
	}
)

// certify issues the certificate. It saves the id first, so that a slice that is repeated issues the
// same one.
func (r *erasureRun) certify(ctx context.Context, tenant audit.Tenant) error {
	if r.at.Certificate == (certificate.ID{}) {
		r.Random(r.at.Certificate[:])
		if err := r.Save(ctx, r.at); err != nil {
			return err
		}
	}
	masks := []certificate.Mask{}
	for _, rule := range tenant.Settings.SensitiveFields {
		masks = append(masks, certificate.Mask{Path: rule.Path, Mask: rule.Mask})
	}
	return r.Certificates.Issue(ctx, certificate.Statement{
		ID: r.at.Certificate, Kind: certificate.KindErasure, Tenant: tenant.ID, RequestedBy: r.Job.CreatedBy, RequestedAt: r.Job.CreatedAt,
		Erasure:     &certificate.Erasure{Job: r.Job.ID, Subject: r.at.Subject.String(), Generation: r.at.Generation, Exports: *r.at.Exports, Masks: masks},
		DestroyedAt: r.at.ErasedAt, GoneAt: r.at.ErasedAt.Add(r.SettleTime), BackupsUntil: r.at.ErasedAt.Add(r.BackupTime),
		Destroyed: destroyed, Remains: remains,
	})
}

// record writes into the tenant's log when the key was destroyed.
func (r *erasureRun) record(ctx context.Context, tenant audit.Tenant) error {
	about, err := json.Marshal(struct {
		Exports int64 `json:"revealed_exports_removed"`
	}{*r.at.Exports})
	if err != nil {
		return fmt.Errorf("record the end: %w", err)
	}
	return audit.Record(ctx, r.Recorder, tenant, audit.Entry{
		ID: r.at.EntryID, Timestamp: r.at.ErasedAt, UserID: r.Job.CreatedBy, Action: actionFinish,
		ResourceType: resourceErasure, ResourceID: r.Job.ID, Metadata: about,
	})
}
