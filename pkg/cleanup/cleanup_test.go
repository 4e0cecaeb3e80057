package cleanup_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

var (
	admin = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsCleanup}}}
	// before is later than every entry.
	before = url.Values{"before": {"2026-03-02"}}
)

// world is cleanups and a worker over the embedded engine.
type world struct {
	*jobtest.World
	service *cleanup.Service
	runner  *cleanup.Runner
	freed   int                    // how often the space of removed entries was given back
	noted   map[audit.EntryID]bool // for restores

	blobs    *blobs // of the archive
	archiver *cleanup.ArchiveRunner
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: jobtest.New(t), noted: map[audit.EntryID]bool{}}
	find := &search.Service{Index: w.DB.Index(), Now: w.Clock}
	w.service = &cleanup.Service{
		Jobs: w.Service, Entries: find, Holds: w.DB.Holds(), Texts: jobtest.Texts{}, Recorder: w, Now: w.Clock, Random: jobtest.Random,
	}
	w.runner = &cleanup.Runner{
		Reader: walk.Reader{Entries: find, Tenants: w, Texts: jobtest.Texts{}, Now: w.Clock},
		Store:  &store{Store: w.DB.Entries(), w: w.World}, Index: mortalIndex{w.DB.Index(), w.World}, Holds: w.DB.Holds(), Jobs: w.DB.Jobs(), Cleaned: w,
		Removed: func(context.Context, audit.TenantID) error { w.freed++; return nil },
	}
	files, err := fileblob.OpenPlain(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	w.blobs = &blobs{Blobs: files, w: w.World}
	w.runner.Archive = &archive.Rewriter{Blobs: w.blobs, Holds: w.DB.Holds(), Now: w.Clock}
	w.archiver = &cleanup.ArchiveRunner{Reader: w.runner.Reader, Holds: w.DB.Holds(), Jobs: w.DB.Jobs(), Archive: w.runner.Archive, Register: w.DB.Activity()}
	w.Worker.Runners[jobs.KindCleanup] = eitherRunner{w.runner, w.archiver}
	return w
}

// Note implements cleanup.CleanedLog.
func (w *world) Note(_ context.Context, _ audit.TenantID, ids []audit.EntryID) error {
	return w.Call(func() error {
		for _, id := range ids {
			w.noted[id] = true
		}
		return nil
	})
}

// Discard implements cleanup.CleanedLog.
func (w *world) Discard(context.Context, audit.Tenant, audit.TenantID) error {
	return w.Call(func() error { clear(w.noted); return nil })
}

// wantNoted checks that exactly so many entries were noted, none of which is stored.
func (w *world) wantNoted(want int64) {
	w.T.Helper()
	if got := int64(len(w.noted)); got != want {
		w.T.Errorf("noted %d entries as cleaned up, want %d", got, want)
	}
	stored, err := w.DB.Entries().EntriesByID(w.T.Context(), "acme", slices.Collect(maps.Keys(w.noted)))
	if err != nil || len(stored) > 0 {
		w.T.Errorf("%d of the noted entries are stored, %v, want none", len(stored), err)
	}
}

// store is the system of record of a worker that can be killed.
type store struct {
	cleanup.Store
	w *jobtest.World
	// marked, if it is set, is called after each page was marked.
	marked func()
	// removed is the number of the last call at the last removal.
	removed int
}

func (s *store) MarkRead(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
	return s.w.Call(func() error {
		err := s.Store.MarkRead(ctx, tenant, entries)
		if s.marked != nil {
			s.marked()
		}
		return err
	})
}

func (s *store) RemoveDue(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (n int, err error) {
	err = s.w.Call(func() error { n, err = s.Store.RemoveDue(ctx, tenant, ids); return err })
	s.removed = s.w.Calls
	return n, err
}

// mortalIndex is the index of a worker that can be killed.
type mortalIndex struct {
	retention.Index
	w *jobtest.World
}

func (m mortalIndex) Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	return m.w.Call(func() error { return m.Index.Remove(ctx, tenant, ids) })
}

// entry is the n-th entry of a tenant: one a minute, of ten users in turn.
func (w *world) entry(tenant audit.TenantID, n int) audit.Entry {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
	var unique [10]byte
	copy(unique[:], fmt.Sprintf("%010d", n))
	return audit.Entry{
		ID: audit.NewEntryID(at, unique), Tenant: tenant, UserID: fmt.Sprintf("u%d", n%10), Action: "VIEW", ResourceType: "order",
		ResourceID: fmt.Sprint(n % 100), Timestamp: at, ReceivedAt: w.Time,
	}
}

// store stores and indexes entries that are received now.
func (w *world) store(tenant audit.TenantID, from, to int) {
	w.T.Helper()
	var entries []audit.Entry
	for n := from; n < to; n++ {
		entries = append(entries, w.entry(tenant, n))
	}
	w.Put(tenant, entries)
	w.Time = w.Time.Add(time.Second)
}

func (w *world) create(query url.Values) jobs.Job {
	w.T.Helper()
	job, err := w.service.Create(w.T.Context(), admin, jobtest.Acme, access.Scope{}, query, false)
	if err != nil {
		w.T.Fatal(err)
	}
	return job
}

func (w *world) preview(query url.Values) cleanup.Preview {
	w.T.Helper()
	preview, err := w.service.Preview(w.T.Context(), jobtest.Acme, access.Scope{}, query)
	if err != nil {
		w.T.Fatal(err)
	}
	return preview
}

// hold sets a hold on entries of users.
func (w *world) hold(h hold.Hold) {
	w.T.Helper()
	h.Tenant, h.CreatedAt, h.Version = "acme", w.Time, 1
	if err := w.DB.Holds().CreateHold(w.T.Context(), h); err != nil {
		w.T.Fatal(err)
	}
}

// wantLeft checks how many entries the store and the index have, and that none is marked.
func (w *world) wantLeft(tenant audit.TenantID, want int64) {
	w.T.Helper()
	for name, lister := range map[string]search.IDLister{"store": w.DB.Entries(), "index": w.DB.Index()} {
		got, err := lister.Count(w.T.Context(), tenant, time.Time{}, time.Time{})
		if err != nil {
			w.T.Fatal(err)
		}
		if got != want {
			w.T.Errorf("the %s has %d entries of %s, want %d", name, got, tenant, want)
		}
	}
	marked, err := w.DB.Entries().Retained(w.T.Context(), tenant, retention.Selection{Marked: true}, retention.MaxEntries)
	if err != nil {
		w.T.Fatal(err)
	}
	if len(marked) != 0 {
		w.T.Errorf("%d entries of %s are marked, want 0", len(marked), tenant)
	}
}

func TestACleanupRemovesWhatItsPreviewCounts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		query url.Values
		want  int64
	}{
		"everything":       {url.Values{}, 2500},
		"an earlier bound": {url.Values{"before": {"2026-03-01T00:10:00Z"}}, 600},
		"a time":           {url.Values{"from": {"2026-03-01T00:01:00Z"}, "to": {"2026-03-01T00:02:00Z"}}, 60},
		"a user":           {url.Values{"user_id": {"u3"}}, 250},
		"a query":          {url.Values{"q": {"user_id:(u3 OR u4) resource_id:13"}}, 25},
		"nothing":          {url.Values{"action": {"DELETE"}}, 0},
	} {
		w := newWorld(t)
		w.store("acme", 0, 2500)
		w.store("globex", 0, 10)
		query := url.Values{"before": {"2026-03-02"}}
		for name, values := range test.query {
			query[name] = values
		}
		if got := w.preview(query).Count; got != test.want {
			t.Errorf("%s: the preview counts %d, want %d", name, got, test.want)
		}
		job := w.create(query)
		w.Work()
		w.WantJob(job.ID, jobs.StateSucceeded, test.want)
		w.wantLeft("acme", 2500-test.want)
		w.wantLeft("globex", 10)
		if got, want := w.Actions(), []string{"cleanup.create " + job.ID, "cleanup.finish " + job.ID}; !slices.Equal(got, want) {
			t.Errorf("%s: recorded %q, want %q", name, got, want)
		}
		if got, want := string(w.Recorded[1].Metadata), fmt.Sprintf(`{"state":"succeeded","count":%d,"held":0}`, test.want); got != want {
			t.Errorf("%s: recorded %s at the end, want %s", name, got, want)
		}
		if got, want := w.freed > 0, test.want > 0; got != want {
			t.Errorf("%s: the space was given back: %t, want %t", name, got, want)
		}
	}
}

func TestThePreviewTellsTimesAndWhatIsHeld(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	w.hold(hold.Hold{ID: "1", UserIDs: []string{"u0", "u1"}})
	w.hold(hold.Hold{ID: "2", UserIDs: []string{"u1", "u9"}, From: w.entry("acme", 50).Timestamp})
	want := cleanup.Preview{Count: 75, Oldest: w.entry("acme", 2).Timestamp, Newest: w.entry("acme", 98).Timestamp, Held: 25}
	if diff := cmp.Diff(want, w.preview(before)); diff != "" {
		t.Errorf("the preview (-want +got):\n%s", diff)
	}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, want.Count)
	w.wantLeft("acme", want.Held)
	if got, want := string(w.Recorded[1].Metadata), `{"state":"succeeded","count":75,"held":25}`; got != want {
		t.Errorf("recorded %s at the end, want %s", got, want)
	}
	if diff := cmp.Diff(cleanup.Preview{Held: 25}, w.preview(before)); diff != "" {
		t.Errorf("the preview afterwards (-want +got):\n%s", diff)
	}
}

func TestTheServicesOwnEntriesStay(t *testing.T) {
	w := newWorld(t)
	own := w.entry("acme", 0)
	own.SubmittedBy = audit.SubmittedByService
	w.Put("acme", []audit.Entry{own})
	w.store("acme", 1, 10)
	if got := w.preview(before).Count; got != 9 {
		t.Errorf("the preview counts %d, want 9", got)
	}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 9)
	w.wantLeft("acme", 1)
}

func TestACleanupIsWithinTheScope(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 1000)
	scope := access.Scope{Resources: []access.Resource{{Type: "order", ID: "7"}}}
	preview, err := w.service.Preview(t.Context(), jobtest.Acme, scope, before)
	if err != nil {
		t.Fatal(err)
	}
	if preview.Count != 10 {
		t.Errorf("the preview counts %d, want 10", preview.Count)
	}
	job, err := w.service.Create(t.Context(), admin, jobtest.Acme, scope, before, false)
	if err != nil {
		t.Fatal(err)
	}
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 10)
	w.wantLeft("acme", 990)
}

func TestWhatIsReceivedLaterStays(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 1500)
	job := w.create(before)
	w.Time = w.Time.Add(time.Second)
	w.store("acme", 1500, 1600)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 1500)
	w.wantLeft("acme", 100)
}

func TestACleanupWaitsForTheIndex(t *testing.T) {
	w := newWorld(t)
	behind := &jobtest.Lag{Looks: 3}
	w.runner.Lag = behind
	w.store("acme", 0, 10)
	created := w.Time
	job := w.create(before)
	w.Work()
	if waited := w.Job(job.ID).FinishedAt.Sub(created); waited < 15*time.Second {
		t.Errorf("the job finished after %s, want after three looks", waited)
	}
	w.WantJob(job.ID, jobs.StateSucceeded, 10)
}

// A worker is killed before and after each of its calls in turn. What is gone is counted once.
func TestAKilledCleanupCountsExactly(t *testing.T) {
	t.Parallel()
	calls := 1
	for at := 0; at <= calls; at++ {
		for _, after := range []bool{false, true} {
			w := newWorld(t)
			w.store("acme", 0, 1200)
			w.hold(hold.Hold{ID: "1", UserIDs: []string{"u5"}})
			w.KillAt, w.After = at, after
			job := w.create(before)
			w.Work()
			if at == 0 {
				calls = w.Calls
			}
			w.WantJob(job.ID, jobs.StateSucceeded, 1080)
			w.wantLeft("acme", 120)
			w.wantNoted(1080)
			if got, want := string(w.Recorded[len(w.Recorded)-1].Metadata), `{"state":"succeeded","count":1080,"held":120}`; got != want {
				t.Errorf("recorded %s at the end, want %s", got, want)
			}
			if t.Failed() {
				t.Fatalf("killed at call %d of %d, after its effect: %t", at, calls, after)
			}
		}
	}
	if calls < 10 {
		t.Errorf("the worker made %d calls, want several pages of several calls", calls)
	}
}

func TestASlicedCleanupIsWhole(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 5000)
	w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond
	job := w.create(before)
	w.Deliver(3)
	if got := w.Job(job.ID).Progress; got <= 0 || got >= 1 {
		t.Errorf("got progress %v in the middle, want more than 0 and less than 1", got)
	}
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 5000)
	if got := w.Job(job.ID).Generation; got < 5 {
		t.Errorf("the job had %d deliveries, want one for each page", got)
	}
	w.wantLeft("acme", 0)
}

// A worker is killed before and after each of its calls in turn, and the job is canceled then. What is
// gone is counted.
func TestACanceledCleanupCountsExactly(t *testing.T) {
	t.Parallel()
	for at := 2; ; at++ {
		for _, after := range []bool{false, true} {
			w := newWorld(t)
			w.store("acme", 0, 1200)
			w.KillAt, w.After = at, after
			job := w.create(before)
			w.Time = w.Time.Add(time.Minute)
			w.Deliver(1)
			if w.Job(job.ID).State.Finished() {
				return // it has no more calls
			}
			if _, err := w.Service.Cancel(t.Context(), admin, jobtest.Acme, job.ID); errors.Is(err, jobs.ErrCommitted) {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			w.Work()
			w.wantLeft("acme", 1200-w.Job(job.ID).Count)
			w.wantNoted(w.Job(job.ID).Count)
			if got := w.Job(job.ID); got.State != jobs.StateCanceled || got.Count%200 != 0 {
				t.Errorf("the job is %s with the count %d, want it canceled after whole pages", got.State, got.Count)
			}
			w.wantFinish(fmt.Sprintf(`{"state":"cancelled","count":%d,"held":0}`, w.Job(job.ID).Count))
			if t.Failed() {
				t.Fatalf("killed at call %d, after its effect: %t", at, after)
			}
		}
	}
}

// wantFinish checks that the log has one entry about what the cleanup has done.
func (w *world) wantFinish(want string) {
	w.T.Helper()
	var got []string
	for i := range w.Recorded {
		if e := &w.Recorded[i]; e.Action == "cleanup.finish" {
			got = append(got, string(e.Metadata))
		}
	}
	if !slices.Equal(got, []string{want}) {
		w.T.Errorf("recorded %q at the end, want %q once", got, want)
	}
}

// TestTheEndOfACanceledCleanupIsRecordedOnce: the worker that ends its page is killed at each of its calls.
func TestTheEndOfACanceledCleanupIsRecordedOnce(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for at, calls := 1, 1; at <= calls; at++ {
			w := newWorld(t)
			w.store("acme", 0, 1200)
			w.hold(hold.Hold{ID: "1", UserIDs: []string{"u5"}})
			job := w.create(before)
			w.Time = w.Time.Add(time.Minute)
			w.KillAt, w.After = 4, true // once it has removed the first page
			w.Deliver(1)
			if _, err := w.Service.Cancel(t.Context(), admin, jobtest.Acme, job.ID); err != nil {
				t.Fatal(err)
			}
			w.Calls, w.KillAt, w.After = 0, at, after
			w.Work()
			calls = w.Calls
			w.WantJob(job.ID, jobs.StateCanceled, 900)
			w.wantLeft("acme", 300)
			w.wantFinish(`{"state":"cancelled","count":900,"held":100}`)
			if t.Failed() {
				t.Fatalf("killed at call %d, after its effect: %t", at, after)
			}
		}
	}
}

// noParameters is a later release that does not take the parameters of a cleanup any more.
type noParameters struct{ walk.Pages }

func (noParameters) SelectAt(time.Time, audit.Tenant, access.Scope, url.Values, ...string) (search.Selection, error) {
	return search.Selection{}, audit.Invalid("?q", "invalid", "is not known")
}

// TestACleanupThatFailsCountsExactly: its worker is killed before and after each of its calls in turn, and then the job
// fails.
func TestACleanupThatFailsCountsExactly(t *testing.T) {
	t.Parallel()
	for at := 2; ; at++ {
		for _, after := range []bool{false, true} {
			w := newWorld(t)
			w.store("acme", 0, 300)
			w.KillAt, w.After = at, after
			job := w.create(before)
			w.Time = w.Time.Add(time.Minute)
			w.Deliver(1)
			if j := w.Job(job.ID); j.State.Finished() || j.Committed {
				return // it has no more calls
			}
			w.runner.Entries = noParameters{w.runner.Entries}
			w.Time = w.Time.Add(4 * time.Minute)
			if _, err := w.Service.Plan(t.Context()); err != nil { // the killed worker has sent no message
				t.Fatal(err)
			}
			w.Work()
			count := w.Job(job.ID).Count
			w.WantJob(job.ID, jobs.StateFailed, count)
			w.wantLeft("acme", 300-count)
			w.wantNoted(count)
			w.wantFinish(fmt.Sprintf(`{"state":"failed","count":%d,"held":0}`, count))
			if t.Failed() {
				t.Fatalf("killed at call %d, after its effect: %t", at, after)
			}
		}
	}
}

// TestAHoldWins: it is set after a page was marked, and keeps what it covers of that page and of the
// later ones.
func TestAHoldWins(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 3000)
	pages := 0
	w.runner.Store = &store{Store: w.DB.Entries(), w: w.World, marked: func() {
		if pages++; pages == 2 {
			w.hold(hold.Hold{ID: "1", UserIDs: []string{"u5"}})
		}
	}}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 2800)
	w.wantLeft("acme", 200)
}

// TestAHoldThatUnmarksWins: its job unmarks entries after the worker has looked at the holds.
// TestAWorkerThatSleptMarksNothingThatIsHeld: MongoDB removes what is marked by itself, so a worker that is
// killed after it has marked an entry must not have slept before.
func TestAWorkerThatSleptMarksNothingThatIsHeld(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	held := w.entry("acme", 42)
	asked := 0
	w.runner.Holds = holds{w.DB.Holds(), func() {
		if asked++; asked == 1 {
			w.hold(hold.Hold{ID: "1", UserIDs: []string{held.UserID}})
			w.Time = w.Time.Add(30 * time.Minute)
		}
	}}
	marked := false
	w.runner.Store = &store{Store: w.DB.Entries(), w: w.World, marked: func() {
		found, err := w.DB.Entries().Retained(t.Context(), "acme", retention.Selection{Marked: true}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		marked = marked || slices.ContainsFunc(found, func(e retention.Entry) bool { return e.ID == held.ID })
	}}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 90) // the user has ten
	w.wantLeft("acme", 10)
	if marked {
		t.Error("the held entry was marked, want it left alone")
	}
}

func TestAHoldThatUnmarksWins(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	held := w.entry("acme", 42)
	asked := 0
	w.runner.Holds = holds{w.DB.Holds(), func() {
		if asked++; asked == 2 { // the hold is stored, and its job runs, while the worker sleeps
			defer w.hold(hold.Hold{ID: "1", UserIDs: []string{held.UserID}})
			if err := w.DB.Entries().Unmark(t.Context(), "acme", []audit.EntryID{held.ID}); err != nil {
				t.Fatal(err)
			}
		}
	}}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 99)
	w.wantLeft("acme", 1)
}

// holds calls something after each look.
type holds struct {
	hold.Reader
	after func()
}

func (h holds) Standing(ctx context.Context, tenant audit.TenantID) (hold.Standing, error) {
	standing, err := h.Reader.Standing(ctx, tenant)
	h.after()
	return standing, err
}

// TestWhatRetentionHasMarkedGoesToo: the store does not change the time of a marked entry.
func TestWhatRetentionHasMarkedGoesToo(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	marked := []audit.EntryID{w.entry("acme", 1).ID, w.entry("acme", 50).ID}
	if err := w.DB.Entries().Mark(t.Context(), "acme", marked, retention.Grace); err != nil {
		t.Fatal(err)
	}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 100)
	w.wantLeft("acme", 0)
}

// TestWhatIsSentAgainStays: it has the id of an entry that was removed before the worker was killed.
func TestWhatIsSentAgainStays(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	killed := false
	w.runner.Index = unindexing{w.DB.Index(), func() error {
		if killed {
			return nil
		}
		killed = true
		w.Time = w.Time.Add(time.Second)
		w.store("acme", 42, 43)
		return jobtest.ErrKilled
	}}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 100)
	w.wantLeft("acme", 1)
}

// TestAWorkerThatSleptRemovesNothingThatIsThereAgain: a worker sleeps before or after each of its calls in turn. Another
// one ends the job meanwhile. Then clients send what it removed again, and a restore brings some of it back.
func TestAWorkerThatSleptRemovesNothingThatIsThereAgain(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		for _, after := range []bool{false, true} {
			w := newWorld(t)
			entries := &store{Store: sleepy{w.DB.Entries(), w.World}, w: w.World}
			w.runner.Store = entries
			w.runner.Holds = holds{w.DB.Holds(), func() { _ = w.Call(func() error { return nil }) }}
			woke := -1
			w.runner.Index = unindexing{w.DB.Index(), func() error {
				if w.Calls == woke && entries.removed != woke { // it has just asked; the comparison of the index mends that
					return jobtest.ErrKilled
				}
				return nil
			}}
			w.store("acme", 0, 30)
			received := w.entry("acme", 0).ReceivedAt.Add(-time.Second)
			job := w.create(before)
			w.Time = w.Time.Add(time.Minute)
			w.InterruptAt, w.After = at, after
			slept := false
			w.Interrupt = func() {
				w.Interrupt, slept = nil, true
				w.Time = w.Time.Add(4 * time.Minute)
				if _, err := w.Service.Plan(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.Work()
				w.WantJob(job.ID, jobs.StateSucceeded, 30)
				var back []audit.Entry
				for n := range 20 {
					e := w.entry("acme", n)
					if n%2 == 0 {
						e.ReceivedAt, e.RestoredUntil = received, w.Time.Add(24*time.Hour)
					}
					back = append(back, e)
				}
				w.Put("acme", back)
				woke = w.Calls
			}
			w.Work()
			if !slept {
				if at < 10 {
					t.Errorf("the worker made %d calls, want more than 9", at-1)
				}
				return
			}
			w.WantJob(job.ID, jobs.StateSucceeded, 30)
			w.wantLeft("acme", 20) // those that are there again
			if t.Failed() {
				t.Fatalf("the worker slept at call %d, after its effect: %t", at, after)
			}
		}
	}
}

// TestTheIndexIsComparedAfterARemoval: a message that is under way can put entries back into the index, also if the
// worker was killed and the job canceled.
func TestTheIndexIsComparedAfterARemoval(t *testing.T) {
	w := newWorld(t)
	w.runner.Compared, w.runner.Grace = w.DB.Activity(), time.Hour
	midnight := w.entry("acme", 0)
	midnight.Timestamp = midnight.Timestamp.Add(-time.Millisecond)
	midnight.ID = audit.NewEntryID(midnight.Timestamp, [10]byte{1})
	w.Put("acme", []audit.Entry{midnight})
	w.store("acme", 0, 1200)
	job := w.create(before)
	w.Time = w.Time.Add(time.Minute)
	removed := w.Time
	w.runner.Index = unindexing{w.DB.Index(), func() error { return jobtest.ErrKilled }}
	w.Deliver(1)
	if _, err := w.Service.Cancel(t.Context(), admin, jobtest.Acme, job.ID); err != nil {
		t.Fatal(err)
	}
	for _, day := range []int{-1, 0, 1} {
		record := activity.Day{Work: activity.Index, Tenant: "acme", Receipt: activity.Receipt{Day: time.Date(2026, 3, 1+day, 0, 0, 0, 0, time.UTC)}}
		got, _, err := w.DB.Activity().DueAt(t.Context(), record)
		if err != nil {
			t.Fatal(err)
		}
		want := removed.Add(time.Hour)
		if day == 1 {
			want = time.Time{} // nothing of it was removed
		}
		if !got.Equal(want) {
			t.Errorf("day %d is compared at %v, want %v", day, got, want)
		}
	}
}

// sleepy is the system of record of a worker that can sleep when it reads.
type sleepy struct {
	cleanup.Store
	w *jobtest.World
}

func (s sleepy) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (found []audit.Entry, err error) {
	return found, s.w.Call(func() error { found, err = s.Store.EntriesByID(ctx, tenant, ids); return err })
}

// unindexing calls something before each removal from the index.
type unindexing struct {
	retention.Index
	before func() error
}

func (u unindexing) Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	if err := u.before(); err != nil {
		return err
	}
	return u.Index.Remove(ctx, tenant, ids)
}

// TestWhatOnlyTheIndexHasIsNotCounted: it left the store before, and leaves the index too.
func TestWhatOnlyTheIndexHasIsNotCounted(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	ghost := w.entry("acme", 42).ID
	w.runner.Store = lacking{w.DB.Entries(), ghost}
	var unindexed []audit.EntryID
	w.runner.Index = recording{&unindexed}
	job := w.create(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 99)
	if len(unindexed) != 100 {
		t.Errorf("%d entries left the index, want 100", len(unindexed))
	}
	if !slices.Contains(unindexed, ghost) {
		t.Errorf("entry %s is not among those that left the index, want it there", ghost)
	}
}

// lacking is a store without one entry.
type lacking struct {
	cleanup.Store
	ghost audit.EntryID
}

func (l lacking) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	found, err := l.Store.EntriesByID(ctx, tenant, ids)
	return slices.DeleteFunc(found, func(e audit.Entry) bool { return e.ID == l.ghost }), err
}

// recording is an index that keeps what was removed.
type recording struct{ removed *[]audit.EntryID }

func (r recording) Remove(_ context.Context, _ audit.TenantID, ids []audit.EntryID) error {
	*r.removed = append(*r.removed, ids...)
	return nil
}

func TestCleanupsOfATenantRunOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 3000)
	w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond
	first := w.create(before)
	w.Time = w.Time.Add(time.Millisecond) // else their random ids decide
	second := w.create(before)
	w.Work()
	w.WantJob(first.ID, jobs.StateSucceeded, 3000)
	w.WantJob(second.ID, jobs.StateSucceeded, 0)
}

func TestUnfinishedCleanupsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 3000)
	w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond
	for range cleanup.MaxOpen {
		w.create(before)
	}
	w.Deliver(cleanup.MaxOpen) // one begins, the others wait: none is queued any more
	recorded := len(w.Recorded)
	if _, err := w.service.Create(t.Context(), admin, jobtest.Acme, access.Scope{}, before, false); !errors.Is(err, cleanup.ErrTooManyOpen) {
		t.Errorf("one more: got error %v, want ErrTooManyOpen", err)
	}
	if got := len(w.Recorded); got != recorded {
		t.Errorf("the refused one is recorded: got %d entries, want %d", got, recorded)
	}
	w.Work()
	w.create(before)
}

func TestACleanupOfADeletedTenantFails(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 10)
	job := w.create(before)
	w.Owner.Status = audit.TenantDeleting
	w.Work()
	w.WantJob(job.ID, jobs.StateFailed, 0)
}

func TestParametersOfACleanupAreBounded(t *testing.T) {
	w := newWorld(t)
	query := url.Values{"before": {"2026-03-02"}, "user_id": {strings.Repeat("x", 4000)}}
	for range 16 {
		query["resource_id"] = append(query["resource_id"], strings.Repeat("x", 4000))
	}
	_, err := w.service.Create(t.Context(), admin, jobtest.Acme, access.Scope{}, query, false)
	if invalid := (*audit.ValidationError)(nil); !errors.As(err, &invalid) {
		t.Errorf("more than 64 KiB of parameters: got error %v, want a fault of the request", err)
	}
}

func TestFaultyParameters(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		query url.Values
		want  string
	}{
		"no bound":           {url.Values{"action": {"VIEW"}}, "?before required"},
		"an empty bound":     {url.Values{"before": {""}}, "?before required"},
		"two bounds":         {url.Values{"before": {"2026-03-01", "2026-03-02"}}, "?before repeated"},
		"no time":            {url.Values{"before": {"soon"}}, "?before invalid_time"},
		"an unknown one":     {url.Values{"before": {"2026-03-02"}, "archive": {"true"}}, "?archive unknown_parameter"},
		"an order":           {url.Values{"before": {"2026-03-02"}, "sort": {"timestamp"}}, "?sort unknown_parameter"},
		"no bound, no query": {url.Values{"q": {"("}}, "?before required, ?q"},
	} {
		_, previewErr := w.service.Preview(t.Context(), jobtest.Acme, access.Scope{}, test.query)
		_, createErr := w.service.Create(t.Context(), admin, jobtest.Acme, access.Scope{}, test.query, false)
		for what, err := range map[string]error{"preview": previewErr, "create": createErr} {
			var invalid *audit.ValidationError
			if !errors.As(err, &invalid) {
				t.Errorf("%s: %s: got error %v, want a ValidationError", name, what, err)
				continue
			}
			var got []string
			for _, f := range invalid.Fields {
				got = append(got, f.Pointer+" "+f.Code)
			}
			if text := strings.Join(got, ", "); !strings.HasPrefix(text, test.want) {
				t.Errorf("%s: %s: got the faults %s, want %s", name, what, text, test.want)
			}
		}
	}
	if len(w.Recorded) != 0 {
		t.Errorf("recorded %q, want nothing", w.Actions())
	}
}

func TestAnEmptyParameterIsNotAsGoodAsNone(t *testing.T) {
	for name, want := range map[string]bool{"q": true, "from": true, "to": true, "dry_run": true, "archive": true, "user_id": false, "metadata.note": false} {
		for _, empty := range []string{"", " "} {
			err := cleanup.CheckValues(url.Values{"before": {"2026-03-02"}, name: {empty}})
			var invalid *audit.ValidationError
			if got := errors.As(err, &invalid); got != want {
				t.Errorf("%s=%q is refused: %t (%v), want %t", name, empty, got, err, want)
			}
		}
	}
	if err := cleanup.CheckValues(url.Values{"before": {"2026-03-02"}, "q": {"paid"}, "dry_run": {"true"}}); err != nil {
		t.Errorf("parameters with values: got error %v, want none", err)
	}
}
