package localcloud_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// work handles one message of each queue of jobs. It reports whether there was one. A message is handled again later if
// the worker was killed or got no answer.
func (m *mortal) work(t *testing.T, r *retained) (worked bool) {
	handlers := localcloud.QueueFunctions(m.services)
	for _, name := range []manifest.QueueName{manifest.QueueJobs, manifest.QueueArchive} {
		queue := embedded.Queue(r.db, name)
		messages, err := queue.Receive(t.Context(), 1, 0)
		if err != nil {
			t.Error(err)
		}
		for _, message := range messages {
			worked = true
			m.working.Store(true)
			err := handlers[consumerOf[name]](t.Context(), []string{message.Body})[0]
			killed, unanswered := m.revive()
			again := killed || err != nil && unanswered || audit.IsUnavailable(err) // an engine that is slow now
			if !again && err == nil {
				err = queue.Delete(t.Context(), []string{message.Receipt})
			}
			m.working.Store(false)
			if !again && err != nil {
				t.Errorf("%s: %v", consumerOf[name], err)
			}
		}
	}
	return worked
}

// overdueInFile has jobs and messages wait no longer, as after some minutes.
func overdueInFile(t *testing.T, path string) {
	t.Helper()
	changeFile(t, path, `UPDATE messages SET visible = 1 WHERE visible > 1`)
	changeFile(t, path, `UPDATE jobs SET resume = 1, doc = json_set(doc, '$.resume_at', '1970-01-01T00:00:00.001Z') WHERE resume > 1 AND finished IS NULL`)
}

// workKilled has two workers do jobs and tasks at the same time until none are left, while the faults befall them. Some
// are taken over while their worker still works.
func (r *retained) workKilled(f faults) {
	r.t.Helper()
	state := &fate{faults: f, kills: f.kills, silent: f.kills, writes: map[string]int{}}
	workers := []*mortal{r.newMortal(state, f.skew), r.newMortal(state, -f.skew)}
	ctx, stop := context.WithCancel(r.t.Context())
	var group sync.WaitGroup
	for _, m := range workers {
		group.Go(func() {
			for ctx.Err() == nil {
				if !m.work(r.t, r) {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	defer func() { stop(); group.Wait(); state.check(r.t) }()
	idle := func() bool { return !workers[0].working.Load() && !workers[1].working.Load() }
	const takeovers = 4 // more could leave no worker the time for a step
	for n, quiet, deadline := 0, 0, time.Now().Add(5*time.Minute); quiet < 3; time.Sleep(150 * time.Millisecond) {
		if f.each != nil {
			f.each()
		}
		if !idle() && n >= takeovers {
			quiet = 0
			continue
		}
		n++
		if idle() && !r.jobsLeft() && !r.messagesLeft() {
			quiet++
		} else {
			quiet = 0
		}
		r.overdue()
		if err := localcloud.ScheduleFunctions(r.services)["plan-jobs"](r.t.Context()); err != nil && !audit.IsUnavailable(err) {
			r.t.Fatal(err)
		}
		if time.Now().After(deadline) {
			r.t.Fatal("the jobs have not ended after some minutes, want them to")
		}
	}
}

// check fails the test if something did not befall the workers.
func (f *fate) check(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.faults.kills > 0 && f.kills == f.faults.kills {
		t.Error("no worker was killed, want some")
	}
	for write := range f.before {
		if begun := f.writes[write.name]; begun < write.number {
			t.Errorf("the workers began the write %s %d times, want %d at least", write.name, begun, write.number)
		}
	}
}

// messagesLeft reports whether the queues of the workers have messages.
func (r *retained) messagesLeft() bool {
	r.t.Helper()
	n := 0
	inFile(r.t, r.path, func(file *sql.DB) error {
		return file.QueryRowContext(r.t.Context(), `SELECT count(*) FROM messages WHERE queue IN (?, ?)`, embedded.Named(manifest.QueueJobs), embedded.Named(manifest.QueueArchive)).Scan(&n)
	})
	return n > 0
}

// midHold is a legal hold that is set in the middle of the work of others.
type midHold struct {
	r       *retained
	users   []string
	id      atomic.Pointer[string]
	inForce map[audit.EntryID]bool // what it covered when it was seen in force; nil: it was not
}

// holdOn returns a hold on the entries of users that is not set yet.
func (r *retained) holdOn(users ...string) *midHold { return &midHold{r: r, users: users} }

func (h *midHold) path() string { return "/tenants/" + string(h.r.admin.tenant) + "/legal-holds" }

// set sets the hold.
func (h *midHold) set() {
	body, err := json.Marshal(map[string]any{"matter": "Case 17", "reason": "letter", "user_ids": h.users})
	if err != nil {
		h.r.t.Error(err)
	}
	got := h.r.admin.do("POST", h.path(), string(body), nil)
	if got.status != http.StatusAccepted {
		h.r.t.Errorf("set a hold: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	var set struct{ ID string }
	got.decode(h.r.t, &set)
	h.id.Store(&set.ID)
}

// look puts the clock that the workers share forward until the hold is in force, and notes what it covers then.
func (h *midHold) look() {
	id := h.id.Load()
	if id == nil || h.inForce != nil {
		return
	}
	var hold struct{ State string }
	h.r.admin.get(h.path()+"/"+*id, nil).decode(h.r.t, &hold)
	if hold.State == "in_force" {
		h.inForce = h.covered()
	}
	h.r.ahead.Add(int64(5 * time.Minute))
}

// covered returns what is stored that the hold covers.
func (h *midHold) covered() map[audit.EntryID]bool {
	h.r.t.Helper()
	stored := h.r.stored(time.Time{})
	return h.r.acknowledgedIf(func(id audit.EntryID, user string) bool { return stored[id] && slices.Contains(h.users, user) })
}

// wantKept checks that all that was stored when the hold came into force is stored, and returns how many entries that are.
func (h *midHold) wantKept() int {
	h.r.t.Helper()
	now := h.covered()
	if len(h.inForce) == 0 {
		h.r.t.Error("the hold covered no entries when it came into force, want some")
	}
	lost := 0
	for id := range h.inForce {
		if !now[id] {
			lost++
		}
	}
	if lost > 0 {
		h.r.t.Errorf("%d of %d entries are gone that a hold covers, want none", lost, len(h.inForce))
	}
	return len(now)
}

// release ends the hold.
func (h *midHold) release() {
	h.r.t.Helper()
	id := h.id.Load()
	if id == nil {
		h.r.t.Fatal("the hold was not set, want it to be")
	}
	got := h.r.admin.do("DELETE", h.path()+"/"+*id+"?reason=closed", "", nil)
	if got.status != http.StatusOK {
		h.r.t.Fatalf("release the hold: got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}
	h.r.handle()
}

// jobsLeft reports whether a job of the tenant has not ended.
func (r *retained) jobsLeft() bool {
	r.t.Helper()
	found, err := jobs.Any(r.t.Context(), r.stores.Jobs, r.admin.tenant, jobs.Filter{}, func(job *jobs.Job) (bool, error) {
		return !job.State.Finished(), nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// archiveKilled is archive by two workers that are killed. As soon as there is a job, another one is started that archives
// the same days.
func (r *retained) archiveKilled() {
	r.t.Helper()
	before := r.archiveJobs()
	if err := localcloud.ScheduleFunctions(r.services)["archive-logs"](r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	second := false
	r.workKilled(faults{kills: 10, apart: 12, each: func() {
		for id, job := range r.archiveJobs() {
			if second || before[id].ID != "" {
				continue
			}
			second = true
			full, err := r.stores.Jobs.Job(r.t.Context(), r.admin.tenant, job.ID)
			if err != nil {
				r.t.Fatal(err)
			}
			var days struct {
				Month string   `json:"month"`
				Days  []string `json:"days,omitempty"`
			}
			decode(r.t, full.Checkpoint, &days)
			same, err := json.Marshal(days)
			if err != nil {
				r.t.Fatal(err)
			}
			other := jobs.Job{ID: "second", Kind: jobs.KindArchive, Tenant: r.admin.tenant, CreatedBy: "service", Checkpoint: same}
			if _, err := r.services.Jobs().Start(r.t.Context(), other); err != nil {
				r.t.Fatal(err)
			}
		}
	}})
	if !second {
		r.t.Error("no archive was begun, want some")
	}
	r.handle()
}

// archiveJobs returns the archive jobs of the tenant.
func (r *retained) archiveJobs() map[string]jobs.Job {
	r.t.Helper()
	all := map[string]jobs.Job{}
	_, err := jobs.Any(r.t.Context(), r.stores.Jobs, r.admin.tenant, jobs.Filter{Kinds: []jobs.Kind{jobs.KindArchive}}, func(job *jobs.Job) (bool, error) {
		all[job.ID] = *job
		return false, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// wantArchiveJobs checks that every archive has succeeded and was recorded once, and how many entries they count together.
func (r *retained) wantArchiveJobs(when string, want int) {
	r.t.Helper()
	got := 0
	for id, job := range r.archiveJobs() {
		if job.State != jobs.StateSucceeded {
			r.t.Errorf("%s: the archive %s is %s (%s), want it to succeed", when, id, job.State, job.Error)
		}
		got += int(job.Count)
		for _, action := range []string{"archive.create", "archive.finish"} {
			query := map[string][]string{"action": {action}, "resource_id": {id}}
			var stats statsAnswer
			for deadline := time.Now().Add(10 * time.Second); stats.Total == 0 && time.Now().Before(deadline); { // an index shows it after a second
				r.admin.get("/logs/stats", query).decode(r.t, &stats)
			}
			if stats.Total != 1 {
				r.t.Errorf("%s: %s of %s was recorded %d times, want once", when, action, id, stats.Total)
			}
		}
	}
	if got != want {
		r.t.Errorf("%s: the archives count %d entries, want %d", when, got, want)
	}
}
