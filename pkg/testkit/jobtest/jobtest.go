// Package jobtest runs jobs in tests: over the embedded engine, with a clock and messages that the test
// decides, and with workers that can be killed at each of their calls.
package jobtest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// Acme is the tenant of a new World.
var Acme = audit.Tenant{ID: "acme", Status: audit.TenantActive}

// ErrKilled is the error of the call at which a worker is killed.
var ErrKilled = errors.New("killed")

// World is a service and a worker of jobs, with the time and the messages.
type World struct {
	T        testing.TB
	DB       *sqlite.DB
	Service  *jobs.Service
	Worker   *jobs.Worker
	Time     time.Time
	Tick     time.Duration // by which each look at the clock moves it
	Messages []string
	Recorded []audit.Entry
	Owner    audit.Tenant // of the jobs

	// Calls counts the calls of a worker. It is killed at the call KillAt (0: at none), which has
	// its effect if After is set.
	Calls, KillAt int
	After         bool
	// Interrupt, if it is set, is called at the call InterruptAt, before its effect or after it as After
	// says: the worker sleeps meanwhile.
	Interrupt   func()
	InterruptAt int
	dead        bool // it was killed; the next message gets another one
}

// New returns a world without runners of jobs.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{T: t, Time: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), Owner: Acme}
	var err error
	if w.DB, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.WithClock(w.Clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.DB.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Service = &jobs.Service{Store: w.DB.Jobs(), Queues: jobs.Queues{Jobs: w, Archive: w}, Recorder: w, Now: w.Clock}
	w.Worker = &jobs.Worker{
		Store: mortalJobs{w.DB.Jobs(), w}, Queues: jobs.Queues{Jobs: w, Archive: w}, Runners: map[jobs.Kind]jobs.Runner{}, Now: w.Clock, Log: slog.New(slog.DiscardHandler),
		Recorder: mortalRecorder{w}, Tenants: w, Random: Random,
	}
	return w
}

// Random fills a slice.
func Random(b []byte) { _, _ = rand.Read(b) } // never fails, see crypto/rand

// Clock returns the time.
func (w *World) Clock() time.Time {
	w.Time = w.Time.Add(w.Tick)
	return w.Time
}

// Send implements jobs.Queue.
func (w *World) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	w.Messages = append(w.Messages, bodies...)
	return nil
}

// SendAfter implements jobs.Queue. The delay passes at once.
func (w *World) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	w.Time = w.Time.Add(delay)
	return w.Send(ctx, tenant, []string{body})
}

// Record implements audit.Recorder. As stores do, it drops what has a known id.
func (w *World) Record(_ context.Context, _ audit.Tenant, entry audit.Entry) error {
	known := func(e audit.Entry) bool { return !entry.ID.IsZero() && e.ID == entry.ID }
	if !slices.ContainsFunc(w.Recorded, known) {
		w.Recorded = append(w.Recorded, entry)
	}
	return nil
}

// Actions returns the actions and resource ids of what was recorded.
func (w *World) Actions() (actions []string) {
	for i := range w.Recorded {
		actions = append(actions, w.Recorded[i].Action+" "+w.Recorded[i].ResourceID)
	}
	return actions
}

// Tenant returns the tenant's record.
func (w *World) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) { return w.Owner, nil }

// Call counts a call of the worker. It fails if the worker is killed there, or was before.
func (w *World) Call(do func() error) error {
	w.Calls++
	if w.Interrupt != nil && w.Calls == w.InterruptAt {
		if w.After {
			defer w.Interrupt()
		} else {
			w.Interrupt()
		}
	}
	switch {
	case w.dead:
		return ErrKilled
	case w.Calls != w.KillAt:
		return do()
	}
	w.dead = true
	if w.After {
		if err := do(); err != nil {
			return err
		}
	}
	return ErrKilled
}

// mortalJobs are the jobs of a worker that can be killed.
type mortalJobs struct {
	jobs.Store
	w *World
}

func (m mortalJobs) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	return m.w.Call(func() error { return m.Store.UpdateJob(ctx, job, generation) })
}

// mortalRecorder is the recorder of a worker that can be killed.
type mortalRecorder struct{ w *World }

func (m mortalRecorder) Record(ctx context.Context, tenant audit.Tenant, entry audit.Entry) error {
	return m.w.Call(func() error { return m.w.Record(ctx, tenant, entry) })
}

// Put stores and indexes entries of a tenant.
func (w *World) Put(tenant audit.TenantID, entries []audit.Entry) {
	w.T.Helper()
	for page := range slices.Chunk(entries, 1000) {
		if _, err := w.DB.Entries().Append(w.T.Context(), tenant, page); err != nil {
			w.T.Fatal(err)
		}
		if _, err := search.PutEntries(w.T.Context(), w.DB.Index(), tenant, page); err != nil {
			w.T.Fatal(err)
		}
	}
}

// maxMessages is more than a test needs.
const maxMessages = 1000

// Work handles messages until there is none. A slice that was killed comes again.
func (w *World) Work() {
	w.T.Helper()
	for handled := 0; len(w.Messages) > 0; handled++ {
		if handled > maxMessages {
			w.T.Fatal("the job does not end")
		}
		w.Deliver(1)
		if len(w.Messages) > 0 {
			continue
		}
		w.Time = w.Time.Add(4 * time.Minute) // what stands still is sent again
		if _, err := w.Service.Plan(w.T.Context()); err != nil {
			w.T.Fatal(err)
		}
	}
}

// Deliver has the next messages handled. The worker of one can be killed.
func (w *World) Deliver(n int) {
	w.T.Helper()
	for range n {
		body := w.Messages[0]
		w.Messages = w.Messages[1:]
		w.dead = false
		if err := w.Worker.Handle(w.T.Context(), body); err != nil && !errors.Is(err, ErrKilled) {
			w.T.Fatal(err)
		}
	}
}

// Job returns a job of the tenant.
func (w *World) Job(id string) jobs.Job {
	w.T.Helper()
	job, err := w.DB.Jobs().Job(w.T.Context(), w.Owner.ID, id)
	if err != nil {
		w.T.Fatal(err)
	}
	return job
}

// WantJob checks the state of a job, and how many records it has handled.
func (w *World) WantJob(id string, state jobs.State, count int64) {
	w.T.Helper()
	job := w.Job(id)
	if job.State != state {
		w.T.Errorf("the job is %s (%s), want %s", job.State, job.Error, state)
	}
	if job.Count != count {
		w.T.Errorf("the job counts %d, want %d", job.Count, count)
	}
}

// Texts seals texts by their places alone.
type Texts struct{}

// SealText is that of protect.Keyring.
func (Texts) SealText(_ context.Context, tenant audit.TenantID, place string, text []byte) ([]byte, error) {
	return []byte(string(tenant) + " " + place + " " + base64.StdEncoding.EncodeToString(text)), nil
}

// OpenText is that of protect.Keyring.
func (Texts) OpenText(_ context.Context, tenant audit.TenantID, place string, sealed []byte) ([]byte, error) {
	text, is := strings.CutPrefix(string(sealed), string(tenant)+" "+place+" ")
	if !is {
		return nil, protect.ErrUnreadable
	}
	return base64.StdEncoding.DecodeString(text)
}

// Lag is an index that is behind for a number of looks.
type Lag struct {
	Looks    int
	Received time.Time // before which the last look asked
}

// Behind is that of search.Lag.
func (l *Lag) Behind(_ context.Context, _ *audit.Tenant, received, from, to time.Time) (time.Time, error) {
	l.Received = received
	if l.Looks--; l.Looks >= 0 {
		return from, nil
	}
	return to, nil
}
