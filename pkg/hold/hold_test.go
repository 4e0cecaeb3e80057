package hold_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

var (
	acme   = audit.Tenant{ID: "acme", Status: audit.TenantActive}
	admin  = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.HoldsManage}}}
	scoped = access.Principal{Subject: "bob", Resources: []access.Resource{{}}, Grants: admin.Grants}
	monday = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
)

// world is a service and a worker over the embedded engine, with the time and the messages.
type world struct {
	*hold.Service
	t        *testing.T
	worker   *jobs.Worker
	runner   *hold.Runner
	db       *sqlite.DB
	now      time.Time
	ahead    time.Duration // of the clock of the worker
	tenant   audit.Tenant
	messages []string
	recorded []audit.Entry
	released int
	retained int // how often retention was told of a hold
	// conflicts is how many changes of the tenant's record still come too late.
	conflicts int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: monday, tenant: acme}
	var err error
	if w.db, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.WithClock(w.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Service = &hold.Service{
		Store: w.db.Holds(), Tenants: w, Jobs: &jobs.Service{Store: w.db.Jobs(), Queues: jobs.Queues{Jobs: w, Archive: w}, Recorder: w, Now: w.clock},
		Recorder: w, Released: func(context.Context, audit.TenantID) error { w.released++; return nil }, Now: w.clock, Random: random,
	}
	shared := func(context.Context) (time.Time, error) { return w.now, nil }
	ofWorker := func() time.Time { return w.now.Add(w.ahead) }
	w.runner = &hold.Runner{Holds: w.db.Holds(), Store: w.db.Entries(), Jobs: w.db.Jobs(), Tenants: w, Recorder: w, Retain: w.retain, Clock: shared, Now: ofWorker, Random: random}
	w.worker = &jobs.Worker{
		Store: w.db.Jobs(), Queues: jobs.Queues{Jobs: w, Archive: w}, Runners: map[jobs.Kind]jobs.Runner{jobs.KindLegalHold: w.runner}, Now: ofWorker,
		Recorder: w, Tenants: w, Random: random, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return w
}

func random(b []byte) { _, _ = rand.Read(b) }

func (w *world) clock() time.Time { return w.now }

func (w *world) retain(context.Context, audit.TenantID) error {
	w.retained++
	return nil
}

// Send implements jobs.Queue.
func (w *world) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	w.messages = append(w.messages, bodies...)
	return nil
}

// SendAfter implements jobs.Queue. The delay passes at once: a message can come earlier.
func (w *world) SendAfter(ctx context.Context, tenant audit.TenantID, _ time.Duration, body string) error {
	return w.Send(ctx, tenant, []string{body})
}

// Record implements audit.Recorder. As stores do, it drops what has a known id.
func (w *world) Record(_ context.Context, _ audit.Tenant, entry audit.Entry) error {
	for _, e := range w.recorded {
		if !entry.ID.IsZero() && e.ID == entry.ID {
			return nil
		}
	}
	w.recorded = append(w.recorded, entry)
	return nil
}

// Tenant implements jobs.Tenants.
func (w *world) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) { return w.tenant, nil }

// Update implements hold.Tenants.
func (w *world) Update(_ context.Context, tenant audit.Tenant) error {
	if w.conflicts > 0 {
		w.conflicts--
		return audit.ErrPrecondition
	}
	w.tenant = tenant
	return nil
}

// Tombstone implements jobs.Tenants.
func (w *world) Tombstone(context.Context, audit.TenantID, int64) error {
	return errors.New("nothing deletes the tenant here")
}

func newEntry(user string, at time.Time) audit.Entry {
	var tail [10]byte
	random(tail[:])
	return audit.Entry{ID: audit.NewEntryID(at, tail), Tenant: "acme", UserID: user, Action: "VIEW", ResourceType: "order", Timestamp: at, ReceivedAt: at}
}

// store stores an entry of a user and marks it for removal.
func (w *world) store(user string, at time.Time) audit.EntryID {
	w.t.Helper()
	e := newEntry(user, at)
	_, err := w.db.Entries().Append(w.t.Context(), "acme", []audit.Entry{e})
	if err == nil {
		err = w.db.Entries().Mark(w.t.Context(), "acme", []audit.EntryID{e.ID}, time.Hour)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return e.ID
}

// marked returns the ids that are marked for removal.
func (w *world) marked() map[audit.EntryID]bool {
	w.t.Helper()
	found, err := w.db.Entries().Retained(w.t.Context(), "acme", retention.Selection{Marked: true}, retention.MaxEntries)
	if err != nil {
		w.t.Fatal(err)
	}
	ids := map[audit.EntryID]bool{}
	for i := range found {
		ids[found[i].ID] = true
	}
	return ids
}

func (w *world) wantMarked(id audit.EntryID, want bool) {
	w.t.Helper()
	if got := w.marked()[id]; got != want {
		w.t.Errorf("entry %s is marked: %t, want %t", id, got, want)
	}
}

func (w *world) set(h hold.Hold) hold.Hold {
	w.t.Helper()
	h.Matter, h.Reason = "Case 17", "letter"
	h, err := w.Create(w.t.Context(), admin, acme, h)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// work handles the newest message n times.
func (w *world) work(n int) {
	w.t.Helper()
	for range n {
		if err := w.worker.Handle(w.t.Context(), w.messages[len(w.messages)-1]); err != nil {
			w.t.Errorf("handle a message: %v", err)
		}
	}
}

func (w *world) wantJob(id string, state jobs.State, text string) {
	w.t.Helper()
	job, err := w.db.Jobs().Job(w.t.Context(), "acme", id)
	if err != nil {
		w.t.Fatal(err)
	}
	if job.State != state || job.Error != text {
		w.t.Errorf("the job is %s with the error %q, want %s with %q", job.State, job.Error, state, text)
	}
}

func TestCovers(t *testing.T) {
	entry := audit.Entry{UserID: "u", Timestamp: monday}
	for name, test := range map[string]struct {
		hold hold.Hold
		want bool
	}{
		"everything":          {hold.Hold{}, true},
		"the user":            {hold.Hold{UserIDs: []string{"v", "u"}}, true},
		"another user":        {hold.Hold{UserIDs: []string{"v", "U"}}, false},
		"from the same time":  {hold.Hold{From: monday}, true},
		"from a later time":   {hold.Hold{From: monday.Add(time.Millisecond)}, false},
		"to the same time":    {hold.Hold{To: monday}, false},
		"to a later time":     {hold.Hold{To: monday.Add(time.Millisecond)}, true},
		"another user, in it": {hold.Hold{UserIDs: []string{"v"}, From: monday, To: monday.Add(time.Hour)}, false},
	} {
		if got := test.hold.Covers(&entry); got != test.want {
			t.Errorf("%s: covers is %t, want %t", name, got, test.want)
		}
	}
}

func TestTheConditionIsWhatTheHoldsCover(t *testing.T) {
	early, late := monday.Add(-time.Hour), monday.Add(time.Hour)
	for name, standing := range map[string]hold.Standing{
		"none":                   {},
		"everything":             {{}},
		"a user":                 {{UserIDs: []string{"u"}}},
		"users of several holds": {{UserIDs: []string{"v", "u"}}, {UserIDs: []string{"u", "w"}}},
		"a user, and everything": {{UserIDs: []string{"u"}}, {}},
		"times":                  {{From: monday}, {To: monday, UserIDs: []string{"w"}}, {From: early, To: monday, UserIDs: []string{"v"}}},
		"times, open":            {{From: late, UserIDs: []string{"u"}}, {UserIDs: []string{"w"}}, {From: late, UserIDs: []string{"w"}}},
	} {
		for _, user := range []string{"u", "v", "w", "x"} {
			for _, at := range []time.Time{early.Add(-1), early, monday.Add(-1), monday, late.Add(-1), late} {
				e := audit.Entry{UserID: user, Timestamp: at}
				got := search.NewCandidate(e).Matches(audit.Filter{Where: standing.Expr()})
				if want := standing.Cover(&e); got != want {
					t.Errorf("%s: an entry of %s at %s meets the condition: %t, want %t", name, user, at, got, want)
				}
			}
		}
	}
}

func TestAHoldUnmarksAtOnceAndAgain(t *testing.T) {
	w := newWorld(t)
	old := monday.AddDate(-1, 0, 0)
	early, mine, other := w.store("u", old.Add(-time.Hour)), w.store("u", old), w.store("v", old)
	h := w.set(hold.Hold{UserIDs: []string{"u"}, From: old})
	w.work(3)
	w.wantMarked(mine, false)
	w.wantMarked(other, true)
	w.wantMarked(early, true)
	if got, err := w.Hold(t.Context(), admin, "acme", h.ID); err != nil || !got.InForceAt.IsZero() {
		t.Errorf("got the hold %+v and error %v, want it not in force", got, err)
	}
	late := w.store("u", old.Add(time.Minute)) // by a worker that did not know of the hold
	w.now = monday.Add(retention.SettleTime - time.Millisecond)
	w.work(1)
	w.wantJob(h.ID, jobs.StateRunning, "")
	w.now = monday.Add(retention.SettleTime)
	w.work(1)
	w.wantJob(h.ID, jobs.StateSucceeded, "")
	w.wantMarked(mine, false)
	w.wantMarked(late, false)
	w.wantMarked(other, true)
	got, err := w.Hold(t.Context(), admin, "acme", h.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !got.InForceAt.Equal(w.now) {
		t.Errorf("it is in force since %s, want %s", got.InForceAt, w.now)
	}
	w.wantRecorded("legal_hold.create", "legal_hold.in_force")
}

func (w *world) wantRecorded(actions ...string) {
	w.t.Helper()
	var got []string
	for i := range w.recorded {
		got = append(got, w.recorded[i].Action)
		if text := string(w.recorded[i].Metadata); strings.Contains(text, "letter") || strings.Contains(text, "Case") {
			w.t.Errorf("recorded %s, want it without the matter and the reason", text)
		}
	}
	if strings.Join(got, " ") != strings.Join(actions, " ") {
		w.t.Errorf("recorded %v, want %v", got, actions)
	}
}

// TestAHoldWaitsForRemovals: an erasure that has looked at the holds for the last time can still destroy a key, and a
// cleanup in the archive replace a part.
func TestAHoldWaitsForRemovals(t *testing.T) {
	for _, removal := range []jobs.Job{{Kind: jobs.KindErasure, Committed: true}, {Kind: jobs.KindCleanup, Archive: true}} {
		w := newWorld(t)
		h := w.set(hold.Hold{})
		removal.ID, removal.Tenant, removal.State, removal.CreatedAt, removal.ResumeAt = "r", "acme", jobs.StateRunning, monday, monday
		if err := w.db.Jobs().CreateJob(t.Context(), removal); err != nil {
			t.Fatal(err)
		}
		w.work(1)
		w.now = w.now.Add(retention.SettleTime)
		w.work(2)
		w.wantJob(h.ID, jobs.StateRunning, "")
		removal.State, removal.FinishedAt = jobs.StateSucceeded, w.now
		if err := w.db.Jobs().UpdateJob(t.Context(), removal, 0); err != nil {
			t.Fatal(err)
		}
		w.work(1)
		w.wantJob(h.ID, jobs.StateSucceeded, "")
	}
}

// TestAHoldDoesNotWaitForTheRestOfAnErasure: once its key is destroyed, an erasure removes nothing that a hold keeps. It
// can wait for the index for hours.
func TestAHoldDoesNotWaitForTheRestOfAnErasure(t *testing.T) {
	w := newWorld(t)
	h := w.set(hold.Hold{})
	erasure := jobs.Job{ID: "e", Kind: jobs.KindErasure, Committed: true, Tenant: "acme", State: jobs.StateRunning, CreatedAt: monday, ResumeAt: monday}
	if err := w.db.Jobs().CreateJob(t.Context(), erasure); err != nil {
		t.Fatal(err)
	}
	w.work(1)
	w.now = w.now.Add(retention.SettleTime)
	w.work(2)
	w.wantJob(h.ID, jobs.StateRunning, "")
	erasure.Count = 1 // the key is destroyed
	if err := w.db.Jobs().UpdateJob(t.Context(), erasure, 0); err != nil {
		t.Fatal(err)
	}
	w.work(1)
	w.wantJob(h.ID, jobs.StateSucceeded, "")
}

// TestAHoldDoesNotWaitForLaterCleanups: they look at it before they remove anything. So cleanups one after the other do
// not keep a hold from coming into force.
func TestAHoldDoesNotWaitForLaterCleanups(t *testing.T) {
	w := newWorld(t)
	h := w.set(hold.Hold{})
	w.work(1)
	w.now = w.now.Add(retention.SettleTime)
	erasure := jobs.Job{ID: "e", Kind: jobs.KindErasure, Committed: true, Tenant: "acme", State: jobs.StateRunning, CreatedAt: monday, ResumeAt: monday}
	if err := w.db.Jobs().CreateJob(t.Context(), erasure); err != nil {
		t.Fatal(err)
	}
	w.work(2)
	w.wantJob(h.ID, jobs.StateRunning, "")
	later := jobs.Job{ID: "c", Kind: jobs.KindCleanup, Archive: true, Tenant: "acme", State: jobs.StateRunning, CreatedAt: w.now, ResumeAt: w.now}
	if err := w.db.Jobs().CreateJob(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	erasure.State, erasure.FinishedAt = jobs.StateSucceeded, w.now
	if err := w.db.Jobs().UpdateJob(t.Context(), erasure, 0); err != nil {
		t.Fatal(err)
	}
	w.work(1)
	w.wantJob(h.ID, jobs.StateSucceeded, "")
}

// TestAWrongClockDoesNotShortenTheWait: the service's clock is a day behind the worker's.
func TestAWrongClockDoesNotShortenTheWait(t *testing.T) {
	w := newWorld(t)
	h := w.set(hold.Hold{})
	w.now = monday.AddDate(0, 0, 1)
	w.work(2)
	w.wantJob(h.ID, jobs.StateRunning, "")
	w.now = w.now.Add(retention.SettleTime)
	w.work(1)
	w.wantJob(h.ID, jobs.StateSucceeded, "")
}

// TestAHoldComesIntoForceByTheSharedClock: workers whose clocks are a day off neither shorten the wait nor
// lengthen it.
func TestAHoldComesIntoForceByTheSharedClock(t *testing.T) {
	const day = 24 * time.Hour
	for _, off := range [][]time.Duration{{day, 0}, {0, day}, {-day, 0}, {0, -day}, {day, -day}} {
		w := newWorld(t)
		h := w.set(hold.Hold{})
		w.ahead = off[0]
		w.work(1)
		w.ahead = off[1]
		w.now = monday.Add(retention.SettleTime - time.Millisecond)
		w.work(1)
		w.wantJob(h.ID, jobs.StateRunning, "")
		w.now = monday.Add(retention.SettleTime)
		w.work(1)
		w.wantJob(h.ID, jobs.StateSucceeded, "")
		got, err := w.Hold(t.Context(), admin, "acme", h.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !got.InForceAt.Equal(w.now) {
			t.Errorf("clocks are off by %v: it is in force since %s, want %s", off, got.InForceAt, w.now)
		}
	}
}

// TestAJobMeetsNoHoldByAWrongClock: the worker's clock is a day ahead, and the hold is stored a moment later.
func TestAJobMeetsNoHoldByAWrongClock(t *testing.T) {
	w := newWorld(t)
	w.ahead = 24 * time.Hour
	job, err := w.Jobs.Start(t.Context(), jobs.Job{ID: "j", Kind: jobs.KindLegalHold, Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	w.work(2)
	w.wantJob(job.ID, jobs.StateRunning, "")
	if err := w.db.Holds().CreateHold(t.Context(), hold.Hold{ID: "j", Tenant: "acme", CreatedAt: monday}); err != nil {
		t.Fatal(err)
	}
	w.work(1)
	w.now = monday.Add(retention.SettleTime)
	w.work(1)
	w.wantJob(job.ID, jobs.StateSucceeded, "")
}

// TestAJobWaitsForItsHold: it is started before the hold is stored, and a killed process stores none.
func TestAJobWaitsForItsHold(t *testing.T) {
	w := newWorld(t)
	job, err := w.Jobs.Start(t.Context(), jobs.Job{ID: "j", Kind: jobs.KindLegalHold, Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	w.work(1)
	w.wantJob(job.ID, jobs.StateRunning, "")
	w.now = monday.Add(retention.SettleTime)
	w.work(1)
	w.wantJob(job.ID, jobs.StateFailed, "the hold does not exist")
}

// TestAHoldRaisesTheVersionOfTheTenant, so that a deletion that has not seen it begins again.
func TestAHoldRaisesTheVersionOfTheTenant(t *testing.T) {
	w := newWorld(t)
	w.conflicts = 3
	w.set(hold.Hold{})
	if got := w.tenant.Version; got != 1 {
		t.Errorf("the version is %d, want 1", got)
	}
}

func TestARestrictedCredentialSeesNoHold(t *testing.T) {
	w := newWorld(t)
	h := w.set(hold.Hold{})
	if _, err := w.Hold(t.Context(), scoped, "acme", h.ID); !errors.Is(err, audit.ErrForbidden) {
		t.Errorf("a hold: got error %v, want %v", err, audit.ErrForbidden)
	}
	if _, _, err := w.List(t.Context(), scoped, "acme", nil, 10); !errors.Is(err, audit.ErrForbidden) {
		t.Errorf("the list: got error %v, want %v", err, audit.ErrForbidden)
	}
}

func TestSelection(t *testing.T) {
	early, late := monday.Add(-time.Hour), monday.Add(time.Hour)
	for name, test := range map[string]struct {
		holds    hold.Standing
		from, to time.Time
	}{
		"one":             {hold.Standing{{From: early, To: late}}, early, late},
		"two":             {hold.Standing{{From: monday, To: late}, {From: early, To: monday}}, early, late},
		"open at the end": {hold.Standing{{From: monday, To: late}, {From: early}}, early, time.Time{}},
		"open":            {hold.Standing{{To: late}, {From: early}}, time.Time{}, time.Time{}},
	} {
		of := test.holds.Selection()
		if !of.From.Equal(test.from) {
			t.Errorf("%s: it begins at %v, want %v", name, of.From, test.from)
		}
		if !of.To.Equal(test.to) {
			t.Errorf("%s: it ends at %v, want %v", name, of.To, test.to)
		}
	}
}

func TestManyMarkedEntriesTakeSlices(t *testing.T) {
	w := newWorld(t)
	const n = retention.MaxEntries + 1
	for i := range n {
		w.store("u", monday.AddDate(-1, 0, 0).Add(time.Duration(i)*time.Second))
	}
	w.worker.SliceTime = time.Nanosecond
	w.set(hold.Hold{})
	for range 10 {
		w.now = w.now.Add(time.Second)
		w.work(1)
	}
	if got := len(w.marked()); got != 0 {
		t.Errorf("%d entries are marked, want 0", got)
	}
}

// TestAHoldUnmarksWhatIsDueSoon: the marked entries lie behind more of others than some slices can read, and the store
// removes them an hour later.
func TestAHoldUnmarksWhatIsDueSoon(t *testing.T) {
	w := newWorld(t)
	old := monday.AddDate(-1, 0, 0)
	others := make([]audit.Entry, 5*retention.MaxEntries)
	for i := range others {
		others[i] = newEntry("u", old.Add(time.Duration(i)*time.Second))
	}
	if _, err := w.db.Entries().Append(t.Context(), "acme", others); err != nil {
		t.Fatal(err)
	}
	const n = retention.MaxEntries + 1
	var due []audit.EntryID
	for i := range n {
		due = append(due, w.store("u", monday.AddDate(0, 0, -1).Add(time.Duration(i)*time.Second)))
	}
	looks := 0
	w.worker.SliceTime, w.worker.Now = time.Nanosecond, func() time.Time { looks++; return w.now.Add(time.Duration(looks)) } // one page
	w.set(hold.Hold{})
	w.work(2)
	if w.retained != 1 {
		t.Errorf("retention was told %d times, want once", w.retained)
	}
	w.now = w.now.Add(time.Hour)
	removed := 0
	for page := range slices.Chunk(due, retention.MaxEntries) {
		n, err := w.db.Entries().RemoveDue(t.Context(), "acme", page)
		if err != nil {
			t.Fatal(err)
		}
		removed += n
	}
	if removed > 0 {
		t.Errorf("%d entries went after two slices, want none", removed)
	}
}

func TestAHoldIsReleasedOnce(t *testing.T) {
	w := newWorld(t)
	h := w.set(hold.Hold{})
	_, err := w.Release(t.Context(), admin, acme, h.ID, "")
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Errorf("without a reason: got error %v, want a ValidationError", err)
	}
	if _, err := w.Release(t.Context(), scoped, acme, h.ID, "r"); !errors.Is(err, audit.ErrForbidden) {
		t.Errorf("restricted to resources: got error %v, want %v", err, audit.ErrForbidden)
	}
	if _, err := w.Release(t.Context(), admin, acme, "none", "r"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("unknown: got error %v, want %v", err, audit.ErrNotFound)
	}
	released, err := w.Release(t.Context(), admin, acme, h.ID, "closed")
	if err != nil {
		t.Fatal(err)
	}
	if !released.ReleasedAt.Equal(monday) || released.ReleaseReason != "closed" || released.ReleasedBy != "ann" {
		t.Errorf("got %+v, want it released by ann", released)
	}
	if _, err := w.Release(t.Context(), admin, acme, h.ID, "closed"); !errors.Is(err, hold.ErrReleased) {
		t.Errorf("again: got error %v, want %v", err, hold.ErrReleased)
	}
	if w.released != 2 { // the first time it may not have been told
		t.Errorf("retention was told %d times, want twice", w.released)
	}
	w.work(1)
	w.wantJob(h.ID, jobs.StateFailed, "the hold was released before it was in force")
	w.wantRecorded("legal_hold.create", "legal_hold.release", "job.fail")
}

// deletedSoon has a tenant whose deletion begins after it was read once.
type deletedSoon struct {
	hold.Tenants
	reads int
}

func (d *deletedSoon) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	tenant, err := d.Tenants.Tenant(ctx, id)
	if d.reads++; d.reads > 1 {
		tenant.Status = audit.TenantDeleting
	}
	return tenant, err
}

func TestHoldsThatCannotBeSet(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", hold.MaxReason+1)
	_, err := w.Create(t.Context(), admin, acme, hold.Hold{Reason: long, UserIDs: []string{"u", ""}, From: monday, To: monday})
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Fatalf("got error %v, want a ValidationError", err)
	}
	var got []string
	for _, f := range invalid.Fields {
		got = append(got, f.Pointer+" "+f.Code)
	}
	if want := "/matter required, /reason too_long, /user_ids/1 required, /to out_of_range"; strings.Join(got, ", ") != want {
		t.Errorf("got the faults %v, want %s", got, want)
	}
	if _, err := w.Create(t.Context(), scoped, acme, hold.Hold{Matter: "m", Reason: "r"}); !errors.Is(err, audit.ErrForbidden) {
		t.Errorf("restricted to resources: got error %v, want %v", err, audit.ErrForbidden)
	}
	w.tenant.Status = audit.TenantDeleting
	if _, err := w.Create(t.Context(), admin, acme, hold.Hold{Matter: "m", Reason: "r"}); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("being deleted: got error %v, want %v", err, audit.ErrConflict)
	}
	w.wantRecorded() // nothing stood, not even for a moment: a deletion that asks then would end
	w.tenant.Status = audit.TenantActive
	tenants := w.Tenants
	w.Tenants = &deletedSoon{Tenants: tenants}
	if _, err := w.Create(t.Context(), admin, acme, hold.Hold{Matter: "m", Reason: "r"}); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("being deleted from now on: got error %v, want %v", err, audit.ErrConflict)
	}
	w.Tenants = tenants
	standing, err := w.Store.Standing(t.Context(), "acme")
	if err != nil || len(standing) != 0 {
		t.Errorf("got %d holds and error %v, want none to stand", len(standing), err)
	}
	for i := range hold.MaxStanding {
		if err := w.db.Holds().CreateHold(t.Context(), hold.Hold{ID: fmt.Sprint(i), Tenant: "acme"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Create(t.Context(), admin, acme, hold.Hold{Matter: "m", Reason: "r"}); !errors.Is(err, hold.ErrTooManyStanding) {
		t.Errorf("too many: got error %v, want %v", err, hold.ErrTooManyStanding)
	}
}
