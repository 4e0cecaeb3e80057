package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
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
	return n, nil
}

// queue stores the messages that are sent.
type queue struct{ bodies []string }

func (q *queue) Send(_ context.Context, bodies []string) error {
	q.bodies = append(q.bodies, bodies...)
	return nil
}

// discard drops the entries that tenants.Service records.
type discard struct{}

func (discard) Record(context.Context, audit.Tenant, audit.Entry) error { return nil }

// purge is a worker over two fake stores and the embedded engine's keys, with
// one deleted tenant, acme.
type purge struct {
	*jobs.PurgeWorker
	db             *sqlite.DB
	service        *tenants.Service
	queue          *queue
	now            time.Time
	entries, index *records
	job            audit.Job // as Delete returned it
}

func newPurge(t *testing.T) *purge {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &purge{
		db: db, queue: &queue{}, now: epoch,
		entries: &records{byTenant: map[audit.TenantID]int{"acme": 2500, "globex": 7}},
		index:   &records{byTenant: map[audit.TenantID]int{"acme": 1000, "globex": 7}},
	}
	clock := func() time.Time { return p.now }
	p.service = &tenants.Service{
		Tenants: db.Tenants(), Keys: db.Keys(), Jobs: db.Jobs(), Purge: p.queue, Recorder: discard{},
		Now: clock, Random: func(b []byte) { copy(b, "not random") },
	}
	p.PurgeWorker = &jobs.PurgeWorker{
		Tenants: db.Tenants(), Jobs: db.Jobs(), Now: clock,
		Stores: []jobs.NamedPurger{{Name: "entries", Purger: p.entries}, {Name: "index", Purger: p.index}, {Name: "keys", Purger: db.Keys()}},
	}
	p.create(t, "acme")
	if _, _, err := p.service.CreateKey(t.Context(), operator, tenants.Key{Tenant: "acme", Name: "k", Permissions: []string{"logs:write"}}); err != nil {
		t.Fatal(err)
	}
	if p.job, err = p.service.Delete(t.Context(), operator, "acme"); err != nil {
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

// setLegalHold puts acme under legal hold or releases it.
func (p *purge) setLegalHold(t *testing.T, on bool) {
	t.Helper()
	settings := audit.DefaultSettings()
	settings.LegalHold = on
	if _, err := p.service.Update(t.Context(), operator, "acme", "Acme", settings, 0); err != nil {
		t.Fatal(err)
	}
}

// handle has the worker handle the last message that was sent.
func (p *purge) handle(ctx context.Context) error {
	return p.Handle(ctx, p.queue.bodies[len(p.queue.bodies)-1])
}

// mustHandle fails the test if handle does.
func (p *purge) mustHandle(t *testing.T) {
	t.Helper()
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// checkJob compares the stored job with what it should be.
func (p *purge) checkJob(t *testing.T, state audit.JobState, count int64) audit.Job {
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

func (p *purge) stored(t *testing.T) audit.Job {
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
	job := p.checkJob(t, audit.JobSucceeded, count)
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
	keys, err := p.db.Keys().Keys(t.Context(), "acme")
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
	p.mustHandle(t)
	p.checkPurged(t, 2500)
	if !slices.IsSorted(progress) {
		t.Errorf("progress %v, want it to rise", progress)
	}
	if first, last := progress[0], progress[len(progress)-1]; last <= first {
		t.Errorf("progress went from %v to %v, want it to rise", first, last)
	}
	if most := slices.Max(progress); most >= 1 {
		t.Errorf("progress %v before the end, want less than 1", most)
	}
	chunks := p.entries.chunks
	p.mustHandle(t) // the message is delivered again
	if p.entries.chunks != chunks {
		t.Errorf("the second delivery purged %d chunks, want 0", p.entries.chunks-chunks)
	}
	p.checkPurged(t, 2500)
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
	p.mustHandle(t)
	p.checkPurged(t, 2530)
}

func TestPurgeWaitsForDrainPeriod(t *testing.T) {
	p := newPurge(t)
	p.DrainPeriod = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.handle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("before the drain period ended: %v, want DeadlineExceeded", err)
	}
	p.checkJob(t, audit.JobRunning, 2500)
	p.now = p.now.Add(time.Hour)
	p.entries.byTenant["acme"] = 5
	p.mustHandle(t)
	p.checkPurged(t, 2505)
}

// TestPurgeResumes stops the worker at every chunk, by an error or by the end of its time.
func TestPurgeResumes(t *testing.T) {
	for _, stop := range []string{"error", "end of time"} {
		for at := range 8 { // every chunk of a complete run
			t.Run(fmt.Sprint(stop, " at ", at), func(t *testing.T) {
				p := newPurge(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n := 0
				stopAt := func(store *records) func() {
					return func() {
						store.err = nil
						if n++; n == at+1 && stop == "error" {
							store.err = errDown
						} else if n == at+1 {
							cancel()
						}
					}
				}
				p.entries.beforeChunk, p.index.beforeChunk = stopAt(p.entries), stopAt(p.index)
				if err := p.handle(ctx); err == nil {
					t.Fatal("the run was not stopped")
				}
				p.checkJob(t, audit.JobRunning, int64(2500-p.entries.byTenant["acme"]))
				p.mustHandle(t)
				p.checkPurged(t, 2500)
			})
		}
	}
}

func TestLegalHoldStopsPurge(t *testing.T) {
	p := newPurge(t)
	n := 0
	p.entries.beforeChunk = func() {
		if n++; n == 2 {
			p.setLegalHold(t, true)
		}
	}
	p.mustHandle(t)
	if job := p.checkJob(t, audit.JobFailed, 2000); !strings.Contains(job.Error, "legal hold") {
		t.Errorf("the job's error is %q, want one about the legal hold", job.Error)
	}
	p.mustHandle(t) // the message is delivered again
	if left := p.entries.byTenant["acme"]; left != 500 {
		t.Errorf("%d entries are left, want 500", left)
	}
	if _, err := p.service.Delete(t.Context(), operator, "acme"); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("delete under legal hold: %v, want ErrConflict", err)
	}
	p.setLegalHold(t, false)
	job, err := p.service.Delete(t.Context(), operator, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if job.ID != p.job.ID {
		t.Errorf("deleting again started job %s, want %s", job.ID, p.job.ID)
	}
	p.mustHandle(t)
	p.checkPurged(t, 2500)
}

func TestConcurrentPurges(t *testing.T) {
	p := newPurge(t)
	p.index.beforeChunk = func() {
		p.index.beforeChunk = nil
		p.mustHandle(t) // another worker does the whole job meanwhile
	}
	p.mustHandle(t)
	if job := p.stored(t); job.State != audit.JobSucceeded {
		t.Errorf("the job is %s, want %s", job.State, audit.JobSucceeded)
	}
}

// TestPurgeAfterTombstone: a worker died between the tombstone and the end of its job.
func TestPurgeAfterTombstone(t *testing.T) {
	p := newPurge(t)
	p.entries.byTenant["acme"], p.index.byTenant["acme"] = 0, 0
	if _, err := p.db.Keys().Purge(t.Context(), "acme", 10); err != nil {
		t.Fatal(err)
	}
	if err := p.db.Tenants().Tombstone(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	p.mustHandle(t)
	p.checkPurged(t, 0)
}

func TestPurgeRejects(t *testing.T) {
	p := newPurge(t)
	p.create(t, "globex")
	job := audit.Job{ID: "j", Kind: audit.JobPurgeTenant, Tenant: "globex", State: audit.JobQueued}
	if err := p.db.Jobs().CreateJob(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"not JSON":             "purge acme",
		"empty":                "",
		"no version":           `{"tenant":"acme","job":"` + p.job.ID + `"}`,
		"newer version":        `{"v":2,"tenant":"acme","job":"` + p.job.ID + `"}`,
		"unknown job":          `{"v":1,"tenant":"acme","job":"x"}`,
		"another tenant's job": `{"v":1,"tenant":"globex","job":"` + p.job.ID + `"}`,
		"an active tenant":     `{"v":1,"tenant":"globex","job":"j"}`,
	} {
		if err := p.Handle(t.Context(), body); err == nil {
			t.Errorf("%s: no error, want one", name)
		}
	}
	if n := p.entries.byTenant["globex"]; n != 7 {
		t.Errorf("globex has %d entries, want 7", n)
	}
	if n := p.entries.byTenant["acme"]; n != 2500 {
		t.Errorf("acme has %d entries, want 2500", n)
	}
}
