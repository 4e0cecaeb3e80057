package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

var (
	epoch    = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	errDown  = errors.New("down")
	operator = access.Principal{Subject: "op", Grants: map[audit.TenantID][]access.Permission{access.AnyTenant: access.RoleOperator.Permissions()}}
)

// records is a store to purge: the number of records of each tenant.
type records struct {
	byTenant    map[audit.TenantID]int
	err         error
	beforeChunk func()
	afterChunk  func()
	chunks      int // calls of Purge that did not fail
}

func (r *records) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if r.beforeChunk != nil {
		r.beforeChunk()
	}
	if r.err != nil || ctx.Err() != nil {
		return 0, errors.Join(r.err, ctx.Err())
	}
	n := min(limit, r.byTenant[tenant])
	r.byTenant[tenant] -= n
	r.chunks++
	if r.afterChunk != nil {
		r.afterChunk()
	}
	return n, nil
}

// queue stores the messages that are sent.
type queue struct {
	bodies []string
	delays []time.Duration
	err    error
}

func (q *queue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	for _, body := range bodies {
		q.bodies, q.delays = append(q.bodies, body), append(q.delays, 0)
	}
	return q.err
}

func (q *queue) SendAfter(_ context.Context, _ audit.TenantID, delay time.Duration, body string) error {
	q.bodies, q.delays = append(q.bodies, body), append(q.delays, delay)
	return q.err
}

// discard drops the entries that tenants.Service records.
type discard struct{}

func (discard) Record(context.Context, audit.Tenant, audit.Entry) error { return nil }

// purge is a worker over two fake stores and the embedded engine's keys, with
// one deleted tenant, acme.
type purge struct {
	*jobs.Worker
	*jobs.TenantPurge
	jobs           *jobs.Service
	db             *sqlite.DB
	service        *tenants.Service
	queue          *queue
	now            time.Time
	log            bytes.Buffer
	entries, index *records
	held           bool
	certificates   certificates
	job            jobs.Job // as Delete returned it
}

// certificates keeps what it is to certify.
type certificates struct {
	issued []certificate.Statement
	err    error
}

func (c *certificates) Issue(_ context.Context, s certificate.Statement) error {
	if c.err == nil {
		c.issued = append(c.issued, s)
	}
	return c.err
}

const (
	settleTime  = 5 * time.Minute
	messageTime = 14 * 24 * time.Hour
	backupTime  = 35 * 24 * time.Hour
)

func newPurge(t *testing.T) *purge {
	t.Helper()
	p := &purge{
		queue: &queue{}, now: epoch,
		entries: &records{byTenant: map[audit.TenantID]int{"acme": 12_500, "globex": 7}},
		index:   &records{byTenant: map[audit.TenantID]int{"acme": 5000, "globex": 7}},
	}
	clock := func() time.Time { return p.now }
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.WithClock(clock))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	p.db = db
	log := slog.New(slog.NewTextHandler(&p.log, nil))
	p.jobs = &jobs.Service{Store: db.Jobs(), Queues: jobs.Queues{Jobs: p.queue, Archive: p.queue}, Now: clock}
	p.service = &tenants.Service{
		Tenants: db.Tenants(), Keys: db.Keys(), Jobs: p.jobs, Recorder: discard{},
		Holds: db.Holds(), Now: clock, Random: func(b []byte) { copy(b, "not random") },
	}
	p.TenantPurge = &jobs.TenantPurge{
		Tenants: db.Tenants(), Now: clock, Log: log, Held: func(context.Context, audit.TenantID) (bool, error) { return p.held, nil },
		Stores:       []jobs.NamedPurger{{Name: "entries", Purger: p.entries}, {Name: "index", Purger: p.index}, {Name: "keys", Purger: db.Keys()}},
		Certificates: &p.certificates, SettleTime: settleTime, MessageTime: messageTime, BackupTime: backupTime,
		Random: func(b []byte) { copy(b, "not random") },
	}
	p.Worker = &jobs.Worker{
		Store: db.Jobs(), Queues: jobs.Queues{Jobs: p.queue, Archive: p.queue}, Runners: map[jobs.Kind]jobs.Runner{jobs.KindPurgeTenant: p.TenantPurge}, Now: clock, Log: log,
		Recorder: discard{}, Tenants: db.Tenants(), Random: p.TenantPurge.Random,
	}
	p.create(t, "acme")
	if _, _, err := p.service.CreateKey(t.Context(), operator, tenants.Key{Tenant: "acme", Name: "k", Permissions: []string{"logs:write"}}); err != nil {
		t.Fatal(err)
	}
	if p.job, err = p.service.Delete(t.Context(), operator, "acme", tenants.Deletion{}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *purge) create(t *testing.T, id audit.TenantID) {
	t.Helper()
	if _, err := p.service.Create(t.Context(), operator, audit.Tenant{ID: id, Name: "A tenant", Settings: audit.DefaultSettings()}); err != nil {
		t.Fatal(err)
	}
}

// setStatus writes another status into acme's record, as a database restored from a copy does.
func (p *purge) setStatus(t *testing.T, to audit.TenantStatus) {
	t.Helper()
	tenant, err := p.db.Tenants().Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	tenant.Status = to
	tenant.Version++
	if err := p.db.Tenants().Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
}

// last returns the message that was sent last.
func (p *purge) last() string { return p.queue.bodies[len(p.queue.bodies)-1] }

// handle has the worker handle the last message.
func (p *purge) handle(t *testing.T) {
	t.Helper()
	if err := p.Handle(t.Context(), p.last()); err != nil {
		t.Fatal(err)
	}
}

// finish has the worker handle messages until no more is sent.
func (p *purge) finish(t *testing.T) {
	t.Helper()
	for sent := 0; sent < len(p.queue.bodies); {
		sent = len(p.queue.bodies)
		p.handle(t)
	}
}

// checkJob compares the stored job with what it should be.
func (p *purge) checkJob(t *testing.T, state jobs.State, count int64) jobs.Job {
	t.Helper()
	job := p.stored(t)
	if job.State != state {
		t.Errorf("the job is %s, want %s", job.State, state)
	}
	if job.Count != count {
		t.Errorf("the job counts %d entries, want %d", job.Count, count)
	}
	return job
}

func (p *purge) stored(t *testing.T) jobs.Job {
	t.Helper()
	job, err := p.db.Jobs().Job(t.Context(), "acme", p.job.ID)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// checkPurged checks that acme is purged, that the job counted its entries, and
// that no other tenant lost a record.
func (p *purge) checkPurged(t *testing.T, count int64) {
	t.Helper()
	job := p.checkJob(t, jobs.StateSucceeded, count)
	if job.Progress != 1 {
		t.Errorf("progress %v, want 1", job.Progress)
	}
	if job.Error != "" {
		t.Errorf("the job's error is %q, want none", job.Error)
	}
	if _, err := p.db.Tenants().Tenant(t.Context(), "acme"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("read the tenant: %v, want ErrNotFound", err)
	}
	if _, err := p.service.Create(t.Context(), operator, audit.Tenant{ID: "acme", Name: "Acme", Settings: audit.DefaultSettings()}); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("create a tenant with the same id: %v, want ErrConflict", err)
	}
	keys, _, err := p.db.Keys().Keys(t.Context(), "acme", nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 0 {
		t.Errorf("%d keys are left, want 0", len(keys))
	}
	for name, store := range map[string]*records{"entries": p.entries, "index": p.index} {
		if n := store.byTenant["acme"]; n != 0 {
			t.Errorf("%s has %d records of acme, want 0", name, n)
		}
		if n := store.byTenant["globex"]; n != 7 {
			t.Errorf("%s has %d records of globex, want 7", name, n)
		}
	}
}

func TestPurge(t *testing.T) {
	p := newPurge(t)
	var progress []float64
	p.index.beforeChunk = func() {
		p.now = p.now.Add(2 * time.Second)
		progress = append(progress, p.stored(t).Progress)
	}
	p.finish(t)
	p.checkPurged(t, 12_500)
	if !slices.IsSorted(progress) {
		t.Errorf("progress %v, want it to rise", progress)
	}
	if first, last := progress[0], progress[len(progress)-1]; last <= first {
		t.Errorf("progress went from %v to %v, want it to rise", first, last)
	}
	if most := slices.Max(progress); most >= 1 {
		t.Errorf("progress %v before the end, want less than 1", most)
	}
	job := p.stored(t)
	if !job.StartedAt.Equal(epoch.Truncate(time.Millisecond)) {
		t.Errorf("started at %v, want %v", job.StartedAt, epoch)
	}
	if job.FinishedAt.Before(job.StartedAt) {
		t.Errorf("finished at %v, want it after the start at %v", job.FinishedAt, job.StartedAt)
	}
	if job.CreatedBy != "op" {
		t.Errorf("created by %q, want op", job.CreatedBy)
	}
	chunks := p.entries.chunks
	p.finish(t) // the message is delivered again
	if p.entries.chunks != chunks {
		t.Errorf("the second delivery purged %d chunks, want 0", p.entries.chunks-chunks)
	}
	p.checkPurged(t, 12_500)
}

func TestPurgeEndsInACertificate(t *testing.T) {
	p := newPurge(t)
	p.DrainPeriod = time.Minute
	left := &space{removed: 3}
	p.FreeSpace = left
	p.handle(t)
	p.now = p.now.Add(2 * time.Minute)
	emptied := p.now.Truncate(time.Millisecond)
	p.finish(t)
	p.checkPurged(t, 12_500)
	if left.erased != 3 {
		t.Errorf("erased up to removal %d, want 3", left.erased)
	}
	job := p.stored(t)
	want := []certificate.Statement{{
		ID: job.Certificate, Kind: certificate.KindDeletion, Tenant: "acme", RequestedBy: "op", RequestedAt: job.CreatedAt,
		Deletion: &certificate.Deletion{
			Job: job.ID, MessagesUntil: job.CreatedAt.Add(time.Minute + messageTime),
			Places: []certificate.Place{{Name: "entries", Removed: 12_500}, {Name: "index", Removed: 5000}, {Name: "keys", Removed: 1}},
		},
		DestroyedAt: emptied, GoneAt: emptied.Add(settleTime), BackupsUntil: emptied.Add(backupTime),
	}}
	if len(p.certificates.issued) != 1 {
		t.Fatalf("got %d certificates, want 1", len(p.certificates.issued))
	}
	want[0].Destroyed, want[0].Remains = p.certificates.issued[0].Destroyed, p.certificates.issued[0].Remains
	if diff := cmp.Diff(want, p.certificates.issued); diff != "" {
		t.Errorf("the certificate (-want +got):\n%s", diff)
	}
	if job.Certificate == (certificate.ID{}) {
		t.Error("the job has no certificate, want one")
	}
}

// keeper is an archive that is kept. Each call fails once.
type keeper struct {
	calls []string
	fails map[string]bool
}

func (k *keeper) call(name string) error {
	k.calls = append(k.calls, name)
	if k.fails[name] {
		k.fails[name] = false
		return errDown
	}
	return nil
}

func (k *keeper) Keep(_ context.Context, job *jobs.Job) error { return k.call("keep " + job.ID) }

func (k *keeper) Size(_ context.Context, tenant audit.TenantID) (certificate.KeptArchive, error) {
	return certificate.KeptArchive{Files: 3, Bytes: 1000}, k.call("size of " + string(tenant))
}

func TestPurgeKeepsTheArchive(t *testing.T) {
	for _, keep := range []bool{false, true} {
		p := newPurge(t)
		kept := &records{byTenant: map[audit.TenantID]int{"acme": 9}}
		keeper := &keeper{fails: map[string]bool{"keep " + p.job.ID: true, "size of acme": true}}
		p.Stores, p.Archive = append(p.Stores, jobs.NamedPurger{Name: "archive", Purger: kept, Archive: true}), keeper
		tenant, err := p.db.Tenants().Tenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		tenant.KeepArchive, tenant.Version = keep, tenant.Version+1
		if err := p.db.Tenants().Update(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		p.finish(t)
		p.checkPurged(t, 12_500)
		wantLeft, wantCalls := 0, []string(nil)
		var want *certificate.KeptArchive
		if keep {
			wantLeft, want = 9, &certificate.KeptArchive{Files: 3, Bytes: 1000}
			wantCalls = []string{"keep " + p.job.ID, "keep " + p.job.ID, "size of acme", "size of acme"}
		}
		if got := kept.byTenant["acme"]; got != wantLeft {
			t.Errorf("keep is %t: %d records of the archive are left, want %d", keep, got, wantLeft)
		}
		if !slices.Equal(keeper.calls, wantCalls) {
			t.Errorf("keep is %t: got the calls %q, want %q", keep, keeper.calls, wantCalls)
		}
		issued := p.certificates.issued[0]
		if diff := cmp.Diff(want, issued.KeptArchive); diff != "" {
			t.Errorf("keep is %t: the archive of the certificate (-want +got):\n%s", keep, diff)
		}
		counted := slices.ContainsFunc(issued.Places, func(p certificate.Place) bool { return p.Name == "archive" })
		if counted == keep {
			t.Errorf("keep is %t: the certificate counts the archive as removed: %t, want %t", keep, counted, !keep)
		}
		if got := strings.Contains(strings.Join(issued.Remains, "\n"), "kept_archive"); got != keep {
			t.Errorf("keep is %t: what remains is %q, want the archive among it: %t", keep, issued.Remains, keep)
		}
	}
}

func TestPurgeIsCertifiedAfterAFailure(t *testing.T) {
	p := newPurge(t)
	p.certificates.err = errDown
	p.handle(t)
	if _, err := p.db.Tenants().Tenant(t.Context(), "acme"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("read the tenant: %v, want ErrNotFound", err)
	}
	if got := p.stored(t); got.Certificate != (certificate.ID{}) {
		t.Errorf("the job names the certificate %s, which was not issued", got.Certificate)
	}
	p.certificates.err = nil
	p.plan(t)
	p.finish(t)
	p.checkPurged(t, 12_500)
	if n := len(p.certificates.issued); n != 1 {
		t.Errorf("got %d certificates, want 1", n)
	}
}

// TestPurgeRemovesLateWrites: a consumer writes after the first pass.
func TestPurgeRemovesLateWrites(t *testing.T) {
	p := newPurge(t)
	late := 3
	p.index.beforeChunk = func() {
		if p.index.byTenant["acme"] == 0 && late > 0 {
			late--
			p.entries.byTenant["acme"] += 10
		}
	}
	p.finish(t)
	p.checkPurged(t, 12_530)
}

func TestPurgeWaitsForTheDrainPeriod(t *testing.T) {
	p := newPurge(t)
	p.DrainPeriod = time.Hour
	p.handle(t)
	p.checkJob(t, jobs.StateRunning, 12_500)
	if got := p.queue.delays[len(p.queue.delays)-1]; got != jobs.MaxDelay {
		t.Errorf("the next slice comes after %v, want %v", got, jobs.MaxDelay)
	}
	p.now = p.now.Add(59 * time.Minute)
	p.handle(t)
	p.checkJob(t, jobs.StateRunning, 12_500)
	if got, want := p.queue.delays[len(p.queue.delays)-1], time.Minute+time.Millisecond; got > want {
		t.Errorf("the next slice comes after %v, want at most %v", got, want)
	}
	p.now = p.now.Add(time.Minute)
	p.entries.byTenant["acme"] = 5
	p.finish(t)
	p.checkPurged(t, 12_505)
}

// TestPurgeDrainsByTheClockOfItsWorker: the clock of the deletion was a day behind it. A consumer writes
// after the first pass.
func TestPurgeDrainsByTheClockOfItsWorker(t *testing.T) {
	p := newPurge(t)
	p.DrainPeriod = time.Minute
	p.now = p.now.Add(24 * time.Hour)
	p.handle(t)
	p.checkJob(t, jobs.StateRunning, 12_500)
	p.entries.byTenant["acme"] = 5
	p.now = p.now.Add(-48 * time.Hour) // another worker's clock is a day behind
	p.handle(t)
	p.checkJob(t, jobs.StateRunning, 12_500)
	p.now = p.now.Add(time.Minute)
	p.finish(t)
	p.checkPurged(t, 12_505)
}

// TestPurgeDrainsByTheSharedClock: the clock of the worker that continues is a day ahead. A consumer writes
// after the first pass.
func TestPurgeDrainsByTheSharedClock(t *testing.T) {
	p := newPurge(t)
	p.DrainPeriod = time.Minute
	shared := p.now
	p.TenantPurge.Clock = func(context.Context) (time.Time, error) { return shared, nil }
	p.handle(t)
	p.now = p.now.Add(24 * time.Hour)
	p.handle(t)
	p.checkJob(t, jobs.StateRunning, 12_500)
	p.entries.byTenant["acme"] = 5
	shared = shared.Add(time.Minute)
	p.finish(t)
	p.checkPurged(t, 12_505)
}

// TestTheCertificateHasTheSharedTimes: the clock of the worker is a day ahead, and that of the request was, too.
func TestTheCertificateHasTheSharedTimes(t *testing.T) {
	p := newPurge(t)
	p.DrainPeriod = time.Minute
	shared := p.now.Truncate(time.Millisecond).Add(-24 * time.Hour)
	begun := shared
	p.TenantPurge.Clock = func(context.Context) (time.Time, error) { return shared, nil }
	p.handle(t)
	shared = shared.Add(time.Minute)
	p.finish(t)
	if len(p.certificates.issued) != 1 {
		t.Fatalf("got %d certificates, want 1", len(p.certificates.issued))
	}
	got := p.certificates.issued[0]
	for name, times := range map[string][2]time.Time{
		"destroyed_at": {got.DestroyedAt, shared}, "gone_from_memory_at": {got.GoneAt, shared.Add(settleTime)}, "backups_until": {got.BackupsUntil, shared.Add(backupTime)},
		"messages_until": {got.MessagesUntil, begun.Add(time.Minute + messageTime)},
	} {
		if !times[0].Equal(times[1]) {
			t.Errorf("%s is %v, want %v", name, times[0], times[1])
		}
	}
}

// TestPurgeIsDoneInSlices: a slice ends when its time is up, and the next continues.
func TestPurgeIsDoneInSlices(t *testing.T) {
	p := newPurge(t)
	p.SliceTime = time.Second
	p.entries.beforeChunk = func() { p.now = p.now.Add(time.Second) }
	p.handle(t)
	if left := p.entries.byTenant["acme"]; left != 7500 {
		t.Errorf("the first slice left %d entries, want 7500", left)
	}
	p.checkJob(t, jobs.StateRunning, 5000)
	p.finish(t)
	p.checkPurged(t, 12_500)
}

// TestPurgeWaitsForNoLaterRemoval: others remove something during each step of erasing what the purge left. A slice has
// time for one step.
func TestPurgeWaitsForNoLaterRemoval(t *testing.T) {
	p := newPurge(t)
	left := &space{removed: 3}
	left.beforeStep = func() {
		p.now = p.now.Add(jobs.SliceTime)
		left.removed++
	}
	p.FreeSpace = left
	for range 20 { // each pass erases what there is at its end
		p.handle(t)
	}
	p.checkPurged(t, 12_500)
}

// TestPurgeResumesAfterAFailure: a store fails at each of the steps.
func TestPurgeResumesAfterAFailure(t *testing.T) {
	for at := range 8 { // every step of a complete run
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			p := newPurge(t)
			n := 0
			failAt := func(store *records) func() {
				return func() {
					store.err = nil
					if n++; n == at+1 {
						store.err = errDown
					}
				}
			}
			p.entries.beforeChunk, p.index.beforeChunk = failAt(p.entries), failAt(p.index)
			p.handle(t)
			p.checkJob(t, jobs.StateRunning, int64(12_500-p.entries.byTenant["acme"]))
			if got := p.queue.delays[len(p.queue.delays)-1]; got == 0 {
				t.Error("the slice is repeated at once, want a delay")
			}
			if !strings.Contains(p.log.String(), "down") {
				t.Errorf("got log %q, want it to contain %q", p.log.String(), "down")
			}
			p.finish(t)
			p.checkPurged(t, 12_500)
			if got := p.stored(t).Failures; got != 1 {
				t.Errorf("%d failures in a row, want 1", got)
			}
		})
	}
}

// counted is a store that counts its records.
type counted struct{ *records }

func (c counted) CountRecords(_ context.Context, tenant audit.TenantID) (int64, error) {
	return int64(c.byTenant[tenant]), nil
}

// TestPurgeResumesAfterAKill: the worker is killed before and after each of its steps.
// The planner sends the message again, and the count is right.
func TestPurgeResumesAfterAKill(t *testing.T) {
	for at := range 20 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			p := newPurge(t)
			p.Stores[0].Purger = counted{p.entries}
			kill := &killed{Store: p.db.Jobs()}
			p.Store = kill
			n := 0
			p.entries.beforeChunk = func() {
				if n++; n == at/2+1 {
					kill.dead = at%2 == 0 // before the step
				}
			}
			p.entries.afterChunk = func() {
				if n == at/2+1 {
					kill.dead = true
				}
			}
			_ = p.Handle(t.Context(), p.last()) // what a killed worker returns goes nowhere
			p.Store, p.entries.beforeChunk, p.entries.afterChunk = kill.Store, nil, nil
			old := p.last()
			p.plan(t)
			p.finish(t)
			p.checkPurged(t, 12_500)
			if got := p.certificates.issued[len(p.certificates.issued)-1].Places[0].Removed; got != 12_500 {
				t.Errorf("the certificate counts %d entries, want 12500", got)
			}
			if err := p.Handle(t.Context(), old); err != nil {
				t.Errorf("the stale message: %v", err)
			}
			p.checkPurged(t, 12_500)
		})
	}
}

// killed is a store of jobs that saves nothing more once its worker is dead.
type killed struct {
	jobs.Store
	dead bool
}

func (k *killed) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	if k.dead {
		return errDown
	}
	return k.Store.UpdateJob(ctx, job, generation)
}

// plan lets the time pass after which a job stands still, and runs the planner.
func (p *purge) plan(t *testing.T) int {
	t.Helper()
	p.now = p.now.Add(time.Hour)
	sent, err := p.jobs.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

// TestPurgeStopsWithoutDeletion: a tenant that is no longer being deleted keeps what is left.
func TestPurgeStopsWithoutDeletion(t *testing.T) {
	p := newPurge(t)
	n := 0
	p.entries.beforeChunk = func() {
		if n++; n == 2 {
			p.setStatus(t, audit.TenantActive)
		}
	}
	p.finish(t)
	if job := p.checkJob(t, jobs.StateFailed, 10_000); !strings.Contains(job.Error, "not being deleted") {
		t.Errorf("the job's error is %q, want one that says that the tenant is not being deleted", job.Error)
	}
	if left := p.entries.byTenant["acme"]; left != 2500 {
		t.Errorf("%d entries are left, want 2500", left)
	}
	if sent := p.plan(t); sent != 0 {
		t.Errorf("the planner resumed %d jobs, want 0: the job failed", sent)
	}
	job, err := p.service.Delete(t.Context(), operator, "acme", tenants.Deletion{})
	if err != nil {
		t.Fatal(err)
	}
	if job.ID != p.job.ID {
		t.Errorf("deleting again started job %s, want %s", job.ID, p.job.ID)
	}
	p.finish(t)
	p.checkPurged(t, 12_500)
}

// TestASleepingWorkerDoesNoHarm: while a worker sleeps in the middle of a step, another
// takes the job and finishes it. The clock of the sleeper is a day off.
func TestASleepingWorkerDoesNoHarm(t *testing.T) {
	for _, skew := range []time.Duration{-24 * time.Hour, 0, 24 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			p := newPurge(t)
			p.index.beforeChunk = func() {
				p.index.beforeChunk = nil
				p.plan(t)
				p.finish(t)
				p.checkPurged(t, 12_500)
				p.now = p.now.Add(skew)
			}
			before := p.last()
			if err := p.Handle(t.Context(), before); err != nil {
				t.Errorf("the sleeper: %v, want nil: its message is stale", err)
			}
			p.checkPurged(t, 12_500)
		})
	}
}

// TestPurgeStopsAtAHoldBetweenTwoSteps: a request that had begun before the deletion sets it late.
func TestPurgeStopsAtAHoldBetweenTwoSteps(t *testing.T) {
	p := newPurge(t)
	p.entries.afterChunk = func() { p.held = true }
	p.finish(t)
	job := p.checkJob(t, jobs.StateFailed, 5000)
	if want := "a legal hold stands: release it, and delete the tenant again"; job.Error != want {
		t.Errorf("the job failed with %q, want %q", job.Error, want)
	}
	if got := p.entries.byTenant["acme"]; got != 7500 {
		t.Errorf("%d entries are left, want 7,500", got)
	}
	p.held, p.entries.afterChunk = false, nil
	if _, err := p.service.Delete(t.Context(), operator, "acme", tenants.Deletion{}); err != nil {
		t.Fatal(err)
	}
	p.finish(t)
	p.checkPurged(t, 12_500)
}

// TestPurgeStopsAtAHold: the hold was set when the tenant was just being deleted.
func TestPurgeStopsAtAHold(t *testing.T) {
	p := newPurge(t)
	p.held = true
	p.finish(t)
	job := p.checkJob(t, jobs.StateFailed, 0)
	if want := "a legal hold stands: release it, and delete the tenant again"; job.Error != want {
		t.Errorf("the job failed with %q, want %q", job.Error, want)
	}
	if got := p.entries.byTenant["acme"]; got != 12_500 {
		t.Errorf("%d entries are left, want all 12,500", got)
	}
	p.held = false
	if _, err := p.service.Delete(t.Context(), operator, "acme", tenants.Deletion{}); err != nil {
		t.Fatal(err)
	}
	p.finish(t)
	p.checkJob(t, jobs.StateSucceeded, 12_500)
}

// TestPurgeAfterTombstone: a worker died between the tombstone and the end of its job.
func TestPurgeAfterTombstone(t *testing.T) {
	p := newPurge(t)
	p.entries.byTenant["acme"], p.index.byTenant["acme"] = 0, 0
	if _, err := p.db.Keys().Purge(t.Context(), "acme", 10); err != nil {
		t.Fatal(err)
	}
	tenant, err := p.db.Tenants().Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.db.Tenants().Tombstone(t.Context(), "acme", tenant.Version); err != nil {
		t.Fatal(err)
	}
	p.finish(t)
	p.checkPurged(t, 0)
}

func TestPurgeOfAnActiveTenantFails(t *testing.T) {
	p := newPurge(t)
	p.create(t, "globex")
	if _, err := p.jobs.Start(t.Context(), jobs.Job{ID: "j", Kind: jobs.KindPurgeTenant, Tenant: "globex"}); err != nil {
		t.Fatal(err)
	}
	p.handle(t)
	job, err := p.db.Jobs().Job(t.Context(), "globex", "j")
	if err != nil {
		t.Fatal(err)
	}
	if job.State != jobs.StateFailed {
		t.Errorf("the job is %s, want %s", job.State, jobs.StateFailed)
	}
	if n := p.entries.byTenant["globex"]; n != 7 {
		t.Errorf("globex has %d entries, want 7", n)
	}
}
