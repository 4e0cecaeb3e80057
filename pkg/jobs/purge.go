package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
)

// Certificates issues certificates; see certificate.Issuer.
type Certificates interface {
	Issue(ctx context.Context, s certificate.Statement) error
}

// ArchiveKeeper keeps the archive of a tenant that is deleted without it; see archive.Keeper.
type ArchiveKeeper interface {
	// Keep has workers of the archive remove nothing of it any more. Repeating it has no effect.
	Keep(ctx context.Context, job *Job) error
	// Size counts what there is.
	Size(ctx context.Context, tenant audit.TenantID) (certificate.KeptArchive, error)
}

// TenantPurge is the Runner of KindPurgeTenant. It removes the tenant from every store, in
// passes. The second begins when no consumer can write for the tenant any more. A pass that
// finds nothing is the last. Then the tenant is tombstoned, and a certificate says what was removed.
type TenantPurge struct {
	Tenants Tenants // tenants.Cache.Fresh if the process has a cache
	// Stores are purged in this order. The job counts the records of the first one, the
	// system of record.
	Stores []NamedPurger
	// FreeSpace erases what the removed records left in a file, at the end of each pass; nil if the engines have none.
	FreeSpace Space
	Archive   ArchiveKeeper
	// Certificates signs and keeps certificates. SettleTime is how long after its destruction another
	// process can use a key, MessageTime is how long a queue keeps a message, and BackupTime is how long
	// backups of the keys are kept.
	Certificates Certificates
	SettleTime   time.Duration
	MessageTime  time.Duration
	BackupTime   time.Duration
	Random       func([]byte) // fills its argument with random bytes
	// DrainPeriod is how long after the deletion a consumer may still write for the tenant. The second pass
	// begins so long after the first one, by Clock. So are the times in the certificate, but for that of the request.
	DrainPeriod time.Duration
	Clock       Clock
	// Held reports whether a legal hold stands in the tenant. It reads no older state than that of
	// the call.
	Held func(ctx context.Context, tenant audit.TenantID) (bool, error)
	Now  func() time.Time
	Log  *slog.Logger
}

const (
	// purgeStep is how many records one call of a store removes.
	purgeStep = 5000
	// minPasses is how often every store is purged at least. A pass that removes something
	// after the drain period is followed by another.
	minPasses = 2
	// countTimeout bounds counting the records of a store before the first is removed.
	countTimeout = 30 * time.Second
)

// purgeCheckpoint says how far a purge is.
type purgeCheckpoint struct {
	// BegunAt is when the job began to count the stores, zero before all are counted.
	BegunAt time.Time `json:"begun_at,omitzero"`
	Pass    int       `json:"pass"`
	Store   int       `json:"store"` // its position in Stores
	Dirty   bool      `json:"dirty"` // whether the pass has removed something
	// Erasing is the last removal of the pass while FreeSpace erases what is left.
	Erasing int64 `json:"erasing,omitempty"`
	// PassedAt is when the first pass had ended, zero before.
	PassedAt time.Time `json:"passed_at,omitzero"`
	// Places has a record for each of Stores.
	Places []purgedPlace `json:"places"`
	// KeepArchive is that of the tenant, and KeptArchive what stays.
	KeepArchive bool                     `json:"keep_archive,omitempty"`
	KeptArchive *certificate.KeptArchive `json:"kept_archive,omitempty"`
	// EmptiedAt is when the last pass had ended, zero before.
	EmptiedAt time.Time `json:"emptied_at,omitzero"`
	// Certificate is the id of the certificate that is issued at the end.
	Certificate certificate.ID `json:"certificate,omitzero"`
}

// purgedPlace counts the records of a store. Removed are those whose removal was saved. A worker that is killed
// does not save its last step. So the records are counted before the first is removed, and again before each
// later pass, when no consumer writes any more. Found are the most that were then removed or left, and all of them
// are gone once the store is empty. Both lack only what arrived during the first pass and was removed right before a
// kill. Found is zero if the store cannot count, or would have taken too long.
type purgedPlace struct {
	Found   int64 `json:"found"`
	Removed int64 `json:"removed"`
}

func (p purgedPlace) count() int64 { return max(p.Found, p.Removed) }

// The reasons of purges that fail.
const (
	reasonNotGone = "the tenant is not being deleted"
	reasonHeld    = "a legal hold stands: release it, and delete the tenant again"
)

// Run implements Runner.
func (p *TenantPurge) Run(ctx context.Context, s *Slice) (Result, error) {
	run := &purgeRun{TenantPurge: p, Slice: s}
	if err := s.Read(&run.at); err != nil {
		return Result{}, err
	}
	if more := len(p.Stores) - len(run.at.Places); more > 0 { // all, or those that a later release has
		run.at.Places = append(run.at.Places, make([]purgedPlace, more)...)
	}
	result, err := run.all(ctx)
	if err != nil {
		return result, fmt.Errorf("purge tenant %s: %w", s.Job.Tenant, err)
	}
	return result, nil
}

// purgeRun is one slice of a purge.
type purgeRun struct {
	*TenantPurge
	*Slice
	at purgeCheckpoint
}

func (r *purgeRun) all(ctx context.Context) (Result, error) {
	tenant, err := r.check(ctx)
	if errors.Is(err, audit.ErrNotFound) {
		return r.certify(ctx) // an earlier worker was killed after the tombstone
	}
	if err == nil && r.at.BegunAt.IsZero() {
		err = r.begin(ctx, &tenant)
	}
	if err != nil {
		return Result{}, err
	}
	for again := true; again; {
		wait, err := r.drainTime(ctx)
		if err != nil {
			return Result{}, err
		}
		if wait > 0 {
			return Result{Wait: wait}, r.save(ctx)
		}
		for ; r.at.Store < len(r.Stores); r.at.Store++ {
			if r.stays(&r.Stores[r.at.Store]) {
				continue
			}
			if empty, err := r.empty(ctx); err != nil || !empty {
				return Result{}, err
			}
		}
		if erased, err := r.erase(ctx); err != nil || !erased {
			return Result{}, err
		}
		r.at.Pass++
		again = r.at.Pass < minPasses || r.at.Dirty
		r.at.Store, r.at.Dirty = 0, false
	}
	if err := r.measure(ctx); err != nil {
		return Result{}, err
	}
	if r.at.EmptiedAt, err = r.Clock.Now(ctx, r.Now); err != nil {
		return Result{}, err
	}
	if r.at.Certificate == (certificate.ID{}) {
		r.Random(r.at.Certificate[:])
	}
	if err := r.save(ctx); err != nil { // another worker, if there is one, finds nothing to do
		return Result{}, err
	}
	return r.tombstone(ctx)
}

// begin notes what is to be removed, before anything is.
func (r *purgeRun) begin(ctx context.Context, tenant *audit.Tenant) error {
	err := r.checkHolds(ctx)
	if err == nil && tenant.KeepArchive {
		err = r.Archive.Keep(ctx, &r.Job)
	}
	if err != nil {
		return err
	}
	at, err := r.Clock.Now(ctx, r.Now)
	if err != nil {
		return err
	}
	r.at.KeepArchive = tenant.KeepArchive
	if err := r.countStores(ctx); err != nil {
		return err
	}
	r.at.BegunAt = at
	return r.save(ctx)
}

// checkHolds returns a *FailedError if a legal hold stands: one that was set while the tenant was just being deleted. It
// is asked before each step.
func (r *purgeRun) checkHolds(ctx context.Context) error {
	held, err := r.Held(ctx, r.Job.Tenant)
	if err == nil && held {
		err = &FailedError{Reason: reasonHeld}
	}
	return err
}

// measure counts what stays of the archive.
func (r *purgeRun) measure(ctx context.Context) error {
	if !r.at.KeepArchive {
		return nil
	}
	size, err := r.Archive.Size(ctx, r.Job.Tenant)
	r.at.KeptArchive = &size
	return err
}

// stays reports whether a store keeps its records.
func (r *purgeRun) stays(store *NamedPurger) bool { return store.Archive && r.at.KeepArchive }

// tombstone removes the tenant's record, unless the record has changed since the last check:
// then the next slice checks it again.
func (r *purgeRun) tombstone(ctx context.Context) (Result, error) {
	tenant, err := r.check(ctx)
	if err != nil {
		return Result{}, err
	}
	err = r.Tenants.Tombstone(ctx, tenant.ID, tenant.Version)
	if errors.Is(err, audit.ErrPrecondition) {
		return Result{}, nil
	}
	if err != nil {
		return Result{}, err
	}
	return r.certify(ctx)
}

// What a certificate says beside the facts of its deletion.
var (
	purged       = []string{"the records of the tenant in each of places", "the key that encrypts the keys of the tenant's subjects"}
	purgeRemains = []string{
		"the tenant's id, which is never given again, this certificate, those of its erasures, the tombstones of its keys, and its jobs for a while",
		"messages under way until messages_until, which are dropped when they are consumed",
		"backups of the database, until they are removed",
		"answers and files that were downloaded before",
		"earlier versions of the files of exports, for 1 day, but for those with encrypted values in plain",
	}
	archiveRemoved = "earlier versions of the files of the archive, for 30 days"
	archiveKept    = "the archive, whose files kept_archive counts, until an operator removes it; nobody can decrypt the encrypted values in it"
)

// certify issues the certificate. It needs nothing of the tenant's records, which are gone.
func (r *purgeRun) certify(ctx context.Context) (Result, error) {
	if r.at.Certificate == (certificate.ID{}) { // another job has deleted the tenant
		return Result{Done: true}, nil
	}
	var places []certificate.Place
	for i, store := range r.Stores {
		if !r.stays(&store) {
			places = append(places, certificate.Place{Name: store.Name, Removed: r.at.Places[i].count()})
		}
	}
	messages := r.at.BegunAt.Add(r.DrainPeriod + r.MessageTime) // the tenant was deleted before
	if r.at.EmptiedAt.After(messages) {
		messages = r.at.EmptiedAt
	}
	archive := archiveRemoved
	if r.at.KeepArchive {
		archive = archiveKept
	}
	err := r.Certificates.Issue(ctx, certificate.Statement{
		ID: r.at.Certificate, Kind: certificate.KindDeletion, Tenant: r.Job.Tenant, RequestedBy: r.Job.CreatedBy, RequestedAt: r.Job.CreatedAt,
		Deletion:    &certificate.Deletion{Job: r.Job.ID, Places: places, KeptArchive: r.at.KeptArchive, MessagesUntil: messages},
		DestroyedAt: r.at.EmptiedAt, GoneAt: r.at.EmptiedAt.Add(r.SettleTime), BackupsUntil: r.at.EmptiedAt.Add(r.BackupTime),
		Destroyed: purged, Remains: append([]string{archive}, purgeRemains...),
	})
	if err != nil {
		return Result{}, err
	}
	r.Job.Certificate = r.at.Certificate
	return Result{Done: true}, nil
}

// countStores counts the records of each store. It saves after each, so that a count that takes long is not taken for
// a killed worker.
func (r *purgeRun) countStores(ctx context.Context) error {
	for i := range r.Stores {
		if r.stays(&r.Stores[i]) {
			continue
		}
		r.count(ctx, i)
		if err := r.SaveIfDue(ctx, r.at); err != nil {
			return err
		}
	}
	return nil
}

// count counts what is left in a store. It returns 0 if the store cannot count its records in time, because the count
// is for people and the removal is owed.
func (r *purgeRun) count(ctx context.Context, store int) int64 {
	counter, ok := r.Stores[store].Purger.(Counter)
	if !ok {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	n, err := counter.CountRecords(ctx, r.Job.Tenant)
	if err != nil {
		r.Log.WarnContext(ctx, "the records of a deleted tenant could not be counted", "tenant", r.Job.Tenant, "store", r.Stores[store].Name, "error", err)
		return 0
	}
	place := &r.at.Places[store]
	place.Found = max(place.Found, place.Removed+n)
	return n
}

// drainTime returns how long to wait before a pass after the first one, because a consumer may still write
// for the tenant.
func (r *purgeRun) drainTime(ctx context.Context) (time.Duration, error) {
	if r.at.Pass == 0 {
		return 0, nil
	}
	return r.Clock.WaitLeft(ctx, r.Now, &r.at.PassedAt, r.DrainPeriod)
}

// check returns the tenant's record. It returns audit.ErrNotFound if the tenant is
// tombstoned, and a *FailedError if it must not be purged. If it is deleted again, the purge begins again: clients
// may have written meanwhile. It goes on counting.
func (r *purgeRun) check(ctx context.Context) (audit.Tenant, error) {
	tenant, err := r.Tenants.Tenant(ctx, r.Job.Tenant)
	if err == nil && tenant.Status != audit.TenantDeleting {
		r.at = purgeCheckpoint{Places: r.at.Places}
		err = errors.Join(&FailedError{Reason: reasonNotGone}, r.keep(r.at))
	}
	return tenant, err
}

// empty removes the tenant's records from one store. It reports false if the slice ended
// before that.
func (r *purgeRun) empty(ctx context.Context) (bool, error) {
	store, place := r.Stores[r.at.Store], &r.at.Places[r.at.Store]
	if r.at.Pass > 0 && r.count(ctx, r.at.Store) > 0 {
		if err := r.save(ctx); err != nil {
			return false, err
		}
	}
	for {
		if err := r.checkHolds(ctx); err != nil {
			return false, err
		}
		n, err := store.Purger.Purge(ctx, r.Job.Tenant, purgeStep)
		place.Removed += int64(n)
		r.at.Dirty = r.at.Dirty || n > 0
		if err != nil {
			r.advance()
			return false, errors.Join(fmt.Errorf("store %s: %w", store.Name, err), r.keep(r.at))
		}
		if n == 0 {
			place.Removed = place.count()
			return true, r.save(ctx)
		}
		r.advance()
		if err := r.SaveIfDue(ctx, r.at); err != nil {
			return false, err
		}
		if r.TimeUp() {
			return false, nil
		}
		if _, err := r.check(ctx); err != nil { // another status stops it at once
			return false, err
		}
	}
}

// erase erases what is left of the records that the pass has removed. It reports false if the slice ended before that.
func (r *purgeRun) erase(ctx context.Context) (bool, error) {
	if r.FreeSpace == nil {
		return true, nil
	}
	done, err := Scrub(ctx, r.FreeSpace, &r.at.Erasing, r.TimeUp)
	return done, errors.Join(err, r.keep(r.at))
}

// advance updates what the job shows.
func (r *purgeRun) advance() {
	steps := float64(minPasses * len(r.Stores))
	done := float64(r.at.Pass*len(r.Stores) + r.at.Store)
	entries := r.at.Places[0]
	if r.at.Pass == 0 && r.at.Store == 0 && entries.Found > 0 {
		done += min(1, float64(entries.Removed)/float64(entries.Found))
	}
	r.Job.Progress = max(r.Job.Progress, min(done, steps)/(steps+1))
	r.Job.Count = entries.Removed
	if r.at.Pass > 0 || r.at.Store > 0 {
		r.Job.Count = entries.count()
	}
}

func (r *purgeRun) save(ctx context.Context) error {
	r.advance()
	return r.Save(ctx, r.at)
}
