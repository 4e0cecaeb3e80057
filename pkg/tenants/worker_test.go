package tenants_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// heap is a store to purge: so many records of each tenant.
type heap struct {
	records map[audit.TenantID]int
	err     error
	before  func() // called before a chunk is removed
	chunks  int
}

func (h *heap) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if h.before != nil {
		h.before()
	}
	if h.err != nil || ctx.Err() != nil {
		return 0, errors.Join(h.err, ctx.Err())
	}
	n := min(limit, h.records[tenant])
	h.records[tenant] -= n
	h.chunks++
	return n, nil
}

// purge is a worker over two heaps and the real keys, with one deleted tenant.
type purge struct {
	*fixture
	*tenants.Worker
	entries, index *heap
	job            audit.Job
}

func newPurge(t *testing.T) *purge {
	t.Helper()
	p := &purge{
		fixture: newFixture(t),
		entries: &heap{records: map[audit.TenantID]int{"acme": 2500, "globex": 7}},
		index:   &heap{records: map[audit.TenantID]int{"acme": 1000, "globex": 7}},
	}
	p.acme(t, nil)
	if _, _, err := p.CreateKey(t.Context(), admin, tenants.Key{Tenant: "acme", Name: "k", Permissions: []string{"logs:write"}}); err != nil {
		t.Fatal(err)
	}
	p.Worker = &tenants.Worker{
		Tenants: p.store, Jobs: p.db.Jobs(), Now: p.clock,
		Stores: []tenants.NamedPurger{{Name: "entries", Purger: p.entries}, {Name: "index", Purger: p.index}, {Name: "keys", Purger: p.db.Keys()}},
	}
	var err error
	if p.job, err = p.Delete(t.Context(), operator, "acme"); err != nil {
		t.Fatal(err)
	}
	return p
}

// handle has the worker do the last message that was sent.
func (p *purge) handle(ctx context.Context) error {
	return p.Handle(ctx, p.queue.bodies[len(p.queue.bodies)-1])
}

func (p *purge) stored(t *testing.T) audit.Job {
	t.Helper()
	job, err := p.db.Jobs().Job(t.Context(), "acme", p.job.ID)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// gone checks that the tenant is purged, and only it.
func (p *purge) gone(t *testing.T, count int64) {
	t.Helper()
	if job := p.stored(t); job.State != audit.JobSucceeded || job.Progress != 1 || job.Count != count || job.Error != "" {
		t.Errorf("job %+v, want %d entries", job, count)
	}
	if _, err := p.db.Tenants().Tenant(t.Context(), "acme"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("the tenant is there: %v", err)
	}
	if _, err := p.Create(t.Context(), operator, audit.Tenant{ID: "acme", Name: "Acme", Settings: audit.DefaultSettings()}); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("its id is free: %v", err)
	}
	if keys, err := p.db.Keys().Keys(t.Context(), "acme"); err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for name, h := range map[string]*heap{"entries": p.entries, "index": p.index} {
		if h.records["acme"] != 0 || h.records["globex"] != 7 {
			t.Errorf("%s left: %v", name, h.records)
		}
	}
}

func TestPurge(t *testing.T) {
	p := newPurge(t)
	var progress []float64
	p.index.before = func() {
		p.now = p.now.Add(2 * time.Second)
		progress = append(progress, p.stored(t).Progress)
	}
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.gone(t, 2500)
	if !slices.IsSorted(progress) || progress[len(progress)-1] <= progress[0] || slices.Max(progress) >= 1 {
		t.Errorf("progress %v", progress)
	}
	chunks := p.entries.chunks
	if err := p.handle(t.Context()); err != nil || p.entries.chunks != chunks { // delivered again
		t.Errorf("again: %v, %d chunks", err, p.entries.chunks-chunks)
	}
	p.gone(t, 2500)
}

// TestPurgeTakesLateWrites: what consumers wrote behind the first pass goes too.
func TestPurgeTakesLateWrites(t *testing.T) {
	p := newPurge(t)
	late := 3
	p.index.before = func() {
		if p.index.records["acme"] == 0 && late > 0 {
			late--
			p.entries.records["acme"] += 10
		}
	}
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.gone(t, 2530)
}

func TestPurgeSettles(t *testing.T) {
	p := newPurge(t)
	p.DrainPeriod = time.Hour
	var passes int
	p.entries.before = func() { passes++ }
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.handle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v: the purge ended before in-flight writes could", err)
	}
	if job := p.stored(t); job.State != audit.JobRunning || job.Count != 2500 {
		t.Errorf("job %+v", job)
	}
	p.now = p.now.Add(time.Hour)
	p.entries.records["acme"] = 5
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.gone(t, 2505)
}

// TestPurgeRepeats stops the worker at every chunk, by an error or by the end of its time.
func TestPurgeRepeats(t *testing.T) {
	for _, stop := range []string{"error", "end of time"} {
		for at := range 8 { // every call of a whole run
			t.Run(fmt.Sprint(stop, " at ", at), func(t *testing.T) {
				p := newPurge(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n := 0
				before := func(h *heap) func() {
					return func() {
						h.err = nil
						if n++; n == at+1 && stop == "error" {
							h.err = errDown
						} else if n == at+1 {
							cancel()
						}
					}
				}
				p.entries.before, p.index.before = before(p.entries), before(p.index)
				if err := p.handle(ctx); err == nil {
					t.Fatal("not stopped")
				}
				if job := p.stored(t); job.State != audit.JobRunning || job.Count != int64(2500-p.entries.records["acme"]) {
					t.Errorf("job %+v, %d entries left", job, p.entries.records["acme"])
				}
				if err := p.handle(t.Context()); err != nil {
					t.Fatal(err)
				}
				p.gone(t, 2500)
			})
		}
	}
}

func TestPurgeIsHeld(t *testing.T) {
	p := newPurge(t)
	n := 0
	p.entries.before = func() {
		if n++; n == 2 {
			settings := audit.DefaultSettings()
			settings.LegalHold = true
			if _, err := p.Update(t.Context(), operator, "acme", "Acme", settings, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if job := p.stored(t); job.State != audit.JobFailed || !strings.Contains(job.Error, "legal hold") || job.Count != 2000 || p.entries.records["acme"] != 500 {
		t.Errorf("job %+v, %v", job, p.entries.records)
	}
	if err := p.handle(t.Context()); err != nil || p.entries.records["acme"] != 500 {
		t.Errorf("delivered again: %v, %v", err, p.entries.records)
	}
	if _, err := p.Delete(t.Context(), operator, "acme"); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("deleting again: %v, want ErrConflict", err)
	}
	if _, err := p.Update(t.Context(), operator, "acme", "Acme", audit.DefaultSettings(), 0); err != nil {
		t.Fatal(err)
	}
	if job, err := p.Delete(t.Context(), operator, "acme"); err != nil || job.ID != p.job.ID {
		t.Fatalf("%+v, %v", job, err)
	}
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.gone(t, 2500)
}

func TestPurgeBesideAnother(t *testing.T) {
	p := newPurge(t)
	p.index.before = func() {
		p.index.before = nil
		if err := p.handle(t.Context()); err != nil { // another worker does it all meanwhile
			t.Error(err)
		}
	}
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if job := p.stored(t); job.State != audit.JobSucceeded {
		t.Errorf("job %+v", job)
	}
}

// TestPurgeDiesBehindTheBurial: the job ends although its tenant is gone.
func TestPurgeDiesBehindTheBurial(t *testing.T) {
	p := newPurge(t)
	p.entries.records["acme"], p.index.records["acme"] = 0, 0
	if _, err := p.db.Keys().Purge(t.Context(), "acme", 10); err != nil {
		t.Fatal(err)
	}
	if err := p.db.Tenants().Tombstone(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if err := p.handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.gone(t, 0)
}

func TestPurgeRefuses(t *testing.T) {
	p := newPurge(t)
	living, err := p.Create(t.Context(), operator, audit.Tenant{ID: "globex", Name: "Globex", Settings: audit.DefaultSettings()})
	if err != nil {
		t.Fatal(err)
	}
	job := audit.Job{ID: "j", Kind: audit.JobPurgeTenant, Tenant: living.ID, State: audit.JobQueued}
	if err := p.db.Jobs().CreateJob(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"not JSON":        "purge acme",
		"empty":           "",
		"no version":      `{"tenant":"acme","job":"` + p.job.ID + `"}`,
		"newer version":   `{"v":2,"tenant":"acme","job":"` + p.job.ID + `"}`,
		"unknown job":     `{"v":1,"tenant":"acme","job":"x"}`,
		"another's job":   `{"v":1,"tenant":"globex","job":"` + p.job.ID + `"}`,
		"a living tenant": `{"v":1,"tenant":"globex","job":"j"}`,
	} {
		if err := p.Handle(t.Context(), body); err == nil {
			t.Errorf("%s was done", name)
		}
	}
	if p.entries.records["globex"] != 7 || p.entries.records["acme"] != 2500 {
		t.Errorf("removed: %v", p.entries.records)
	}
}
