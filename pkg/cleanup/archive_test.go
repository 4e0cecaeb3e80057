package cleanup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

// month is that of all entries.
const month = "month=2026-03/"

// eitherRunner is that of the workers of the archive for what they are to do.
type eitherRunner struct {
	*cleanup.Runner
	archive *cleanup.ArchiveRunner
}

func (r eitherRunner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	if s.Job.Archive {
		return r.archive.Run(ctx, s)
	}
	return r.Runner.Run(ctx, s)
}

// blobs are the files of a worker that can be killed at each of its writes.
type blobs struct {
	*fileblob.Blobs
	w *jobtest.World
	// created, if it is set, is called after each file that is new.
	created func(key string)
}

func (b *blobs) Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	return b.w.Call(func() error {
		err := b.Blobs.Create(ctx, tenant, key, c)
		if err == nil && b.created != nil {
			b.created(key)
		}
		return err
	})
}

func (b *blobs) Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c export.Content) error {
	return b.w.Call(func() error { return b.Blobs.Replace(ctx, tenant, key, etag, c) })
}

func (b *blobs) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	return b.w.Call(func() error { return b.Blobs.Delete(ctx, tenant, key) })
}

// Head implements archive.Places.
func (w *world) Head(context.Context, audit.TenantID) (arrival.Head, error) {
	return arrival.Head{}, nil
}

// archive archives what is stored and not archived yet, in parts of 100 entries.
func (w *world) archive(id string) {
	w.T.Helper()
	w.Owner.Settings.Archive = true
	w.Worker.Runners[jobs.KindArchive] = &archive.Runner{
		Store: w.DB.Entries(), Blobs: w.blobs.Blobs, Holds: w.DB.Holds(), Tenants: w, Places: w, Recorder: w, Now: w.Clock, Random: jobtest.Random, MaxRows: 100,
	}
	job := jobs.Job{ID: id, Kind: jobs.KindArchive, Tenant: "acme", CreatedBy: "service", Checkpoint: json.RawMessage(`{"month":"2026-03"}`)}
	if _, err := w.Service.Start(w.T.Context(), job); err != nil {
		w.T.Fatal(err)
	}
	w.Work()
	if job := w.Job(id); job.State != jobs.StateSucceeded {
		w.T.Fatalf("the job that archives is %s (%s)", job.State, job.Error)
	}
}

// leave removes the stored entries up to a number, as retention does.
func (w *world) leave(to int) {
	w.T.Helper()
	var ids []audit.EntryID
	for n := range to {
		ids = append(ids, w.entry("acme", n).ID)
	}
	ctx := w.T.Context()
	if err := w.DB.Entries().Mark(ctx, "acme", ids, -time.Second); err != nil {
		w.T.Fatal(err)
	}
	if err := w.DB.Index().Remove(ctx, "acme", ids); err != nil {
		w.T.Fatal(err)
	}
	if _, err := w.DB.Entries().RemoveDue(ctx, "acme", ids); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) createInArchive(query url.Values) jobs.Job {
	w.T.Helper()
	job, err := w.service.Create(w.T.Context(), admin, jobtest.Acme, access.Scope{}, query, true)
	if err != nil {
		w.T.Fatal(err)
	}
	return job
}

func (w *world) manifest() *archive.Manifest {
	w.T.Helper()
	m, err := archive.ReadManifest(w.T.Context(), w.blobs, "acme", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		w.T.Fatal(err)
	}
	return m
}

// wantArchived checks that the archive has exactly the entries for whose numbers is is true, each once, with totals
// that are right and no file that the manifest does not list.
func (w *world) wantArchived(when string, total int, is func(n int) bool) {
	w.T.Helper()
	want := map[audit.EntryID]bool{}
	for n := range total {
		if is(n) {
			want[w.entry("acme", n).ID] = true
		}
	}
	m, names, rows := w.manifest(), []string{month + "_manifest.json"}, int64(0)
	got := map[audit.EntryID]bool{}
	for i := range m.Files {
		f := &m.Files[i]
		names, rows = append(names, month+f.Name, month+f.IDs.Name), rows+f.Rows
		err := archive.ReadPart(w.T.Context(), w.blobs, "acme", "2026-03", f, func(e *audit.Entry) error {
			if got[e.ID] {
				w.T.Errorf("%s: entry %s is archived twice", when, e.ID)
			}
			if !want[e.ID] {
				w.T.Errorf("%s: entry %s of %s is archived, want it removed", when, e.ID, e.UserID)
			}
			got[e.ID] = true
			return nil
		})
		if err != nil {
			w.T.Error(err)
		}
	}
	if len(got) != len(want) || rows != int64(len(want)) {
		w.T.Errorf("%s: %d entries are archived, %d by the manifest, want %d", when, len(got), rows, len(want))
	}
	var ofDays int64
	for _, d := range m.Days {
		ofDays += d.Rows.Rows
	}
	if ofDays != rows {
		w.T.Errorf("%s: the days of the manifest have %d entries, want %d", when, ofDays, rows)
	}
	slices.Sort(names)
	list, err := w.blobs.List(w.T.Context(), "acme", month, "", export.MaxList)
	if err != nil {
		w.T.Fatal(err)
	}
	var files []string
	for _, file := range list {
		files = append(files, file.Key)
	}
	if !slices.Equal(files, names) {
		w.T.Errorf("%s: the files are %q, want %q", when, files, names)
	}
}

func (w *world) wantArchiveCount(when, id string, want int64) {
	w.T.Helper()
	job := w.Job(id)
	if job.ArchiveCount == nil || *job.ArchiveCount != want {
		got := int64(-1)
		if job.ArchiveCount != nil {
			got = *job.ArchiveCount
		}
		w.T.Errorf("%s: the job counts %d entries of the archive, want %d", when, got, want)
	}
}

// A cleanup of the archive removes what it selects there, whether the database has it or not, and all that the
// database has of it, also what no list shows.
func TestACleanupOfTheArchive(t *testing.T) {
	t.Parallel()
	const total = 1000
	for name, test := range map[string]struct {
		query url.Values
		goes  func(n int) bool
	}{
		"a user":     {url.Values{"user_id": {"u3"}}, func(n int) bool { return n%10 == 3 }},
		"everything": {url.Values{}, func(int) bool { return true }},
		"a time":     {url.Values{"from": {"2026-03-01T00:01:00Z"}, "to": {"2026-03-01T00:07:00Z"}}, func(n int) bool { return n >= 60 && n < 420 }},
		"a bound":    {url.Values{"before": {"2026-03-01T00:10:30Z"}}, func(n int) bool { return n < 630 }},
		"a query":    {url.Values{"q": {"user_id:(u3 OR u4) -resource_id:13"}}, func(n int) bool { return (n%10 == 3 || n%10 == 4) && n%100 != 13 }},
		"nothing":    {url.Values{"action": {"DELETE"}}, func(int) bool { return false }},
	} {
		for _, left := range []int{0, 450, total} { // in the archive alone
			name := fmt.Sprintf("%s, %d have left", name, left)
			w := newWorld(t)
			w.store("acme", 0, total)
			w.archive("a")
			w.leave(left)
			query := url.Values{"before": {"2026-03-02"}}
			for name, values := range test.query {
				query[name] = values
			}
			job := w.createInArchive(query)
			w.Work()
			var inArchive, stored, kept int64
			for n := range total {
				if test.goes(n) {
					inArchive++
				}
				if n >= left {
					if test.goes(n) {
						stored++
					} else {
						kept++
					}
				}
			}
			w.WantJob(job.ID, jobs.StateSucceeded, stored)
			w.wantArchiveCount(name, job.ID, inArchive)
			w.wantLeft("acme", kept)
			w.wantArchived(name, total, func(n int) bool { return !test.goes(n) })
			last := w.Recorded[len(w.Recorded)-1]
			if want := fmt.Sprintf(`{"state":"succeeded","count":%d,"held":0,"archive_count":%d}`, stored, inArchive); string(last.Metadata) != want {
				t.Errorf("%s: recorded %s, want %s", name, last.Metadata, want)
			}
			w.archive("b")
			w.wantArchived(name+", archived again", total, func(n int) bool { return !test.goes(n) })
		}
	}
}

// A credential that is restricted to resources removes those alone from the archive.
func TestACleanupOfTheArchiveKeepsToItsScope(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 500)
	w.archive("a")
	w.leave(250)
	scope := access.Scope{Resources: []access.Resource{{Type: "order", ID: "13"}, {Type: "user"}}}
	job, err := w.service.Create(t.Context(), admin, jobtest.Acme, scope, before, true)
	if err != nil {
		t.Fatal(err)
	}
	w.Work()
	w.wantArchiveCount("within a scope", job.ID, 5)
	w.wantArchived("within a scope", 500, func(n int) bool { return n%100 != 13 })
	w.wantLeft("acme", 248)
}

// What has expired is in no list, and is archived again if the database keeps it.
func TestACleanupOfTheArchiveRemovesWhatHasExpired(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 500)
	w.archive("a")
	w.Owner.Settings.RetentionRules = []audit.RetentionRule{{Action: "VIEW", Days: 1}}
	w.Time = w.Time.AddDate(0, 0, 3)
	job := w.createInArchive(url.Values{"before": {"2026-03-02"}, "user_id": {"u3"}})
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 50)
	w.wantArchiveCount("expired", job.ID, 50)
	w.archive("b")
	w.wantArchived("expired", 500, func(n int) bool { return n%10 != 3 })
}

// Holds and the service's own entries stay, and what is received later.
func TestACleanupOfTheArchiveKeepsWhatIsHeld(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 600)
	own := w.entry("acme", 600)
	own.SubmittedBy = audit.SubmittedByService
	w.Put("acme", []audit.Entry{own})
	w.archive("a")
	w.leave(300)
	w.hold(hold.Hold{ID: "h", UserIDs: []string{"u3", "u4"}})
	job := w.createInArchive(before)
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 240)
	w.wantArchiveCount("held", job.ID, 480)
	w.wantArchived("held", 601, func(n int) bool { return n%10 == 3 || n%10 == 4 || n == 600 })
}

// A hold is released after it has kept entries in the database. They go from the archive, and their day is looked at
// again, so that they are archived again.
func TestACleanupHasWhatTheDatabaseKeepsArchivedAgain(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 150)
	w.archive("a")
	w.leave(50)
	w.hold(hold.Hold{ID: "h", UserIDs: []string{"u3"}})
	job := w.createInArchive(url.Values{"before": {"2026-03-02"}, "q": {"user_id:u3 OR user_id:u4"}})
	for !w.Job(job.ID).Archive {
		w.Deliver(1)
	}
	h, err := w.DB.Holds().Hold(t.Context(), "acme", "h")
	if err != nil {
		t.Fatal(err)
	}
	h.ReleasedAt, h.Version = w.Time, h.Version+1
	if err := w.DB.Holds().UpdateHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	w.Work()
	w.wantArchiveCount("released", job.ID, 30)
	w.wantArchived("released", 150, func(n int) bool { return n%10 != 3 && n%10 != 4 })
	day := activity.Day{Work: activity.Archive, Tenant: "acme", Receipt: activity.Receipt{Day: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}}
	due, _, err := w.DB.Activity().DueAt(t.Context(), day)
	if want := activity.NextArchive(w.Time); err != nil || !due.Equal(want) {
		t.Errorf("the day is due at %s, %v, want %s", due, err, want)
	}
	w.archive("b")
	w.wantArchived("archived again", 150, func(n int) bool { return n%10 != 4 && (n%10 != 3 || n >= 50) })
}

// A hold is set after a part was written that lacks what it covers, and before the manifest has it.
func TestAHoldThatIsSetMeanwhileKeepsArchivedEntries(t *testing.T) {
	for _, at := range []int{1, 3, 6} {
		w := newWorld(t)
		w.store("acme", 0, 300)
		w.archive("a")
		w.leave(300)
		files := 0
		w.blobs.created = func(string) {
			if files++; files == at {
				w.hold(hold.Hold{ID: "h", UserIDs: []string{"u3"}})
			}
		}
		job := w.createInArchive(url.Values{"before": {"2026-03-02"}, "q": {"-user_id:u9"}})
		w.Work()
		w.WantJob(job.ID, jobs.StateSucceeded, 0)
		done := (at - 1) / 2 // a part and its ids are two files
		w.wantArchived(fmt.Sprintf("set at file %d", at), 300, func(n int) bool { return n%10 == 9 || n%10 == 3 && n >= 100*done })
		w.wantArchiveCount(fmt.Sprintf("set at file %d", at), job.ID, int64(270-30+10*done))
	}
}

// A worker is killed at each of its calls in turn, before its effect and after it. Nothing is lost or counted twice,
// and no file is left.
func TestAKilledCleanupOfTheArchiveResumes(t *testing.T) {
	t.Parallel()
	goes := func(n int) bool { return n%10 == 3 || n >= 100 && n < 200 } // a part goes as a whole
	query := url.Values{"before": {"2026-03-02"}, "q": {"user_id:u3 OR (timestamp>=2026-03-01T00:01:40Z timestamp<2026-03-01T00:03:20Z)"}}
	run := func(killAt int, after bool) (calls int) {
		w := newWorld(t)
		w.store("acme", 0, 350)
		w.archive("a")
		w.leave(150)
		w.Calls, w.KillAt, w.After = 0, killAt, after
		job := w.createInArchive(query)
		w.Work()
		calls = w.Calls
		name := fmt.Sprintf("killed at call %d, after its effect %t", killAt, after)
		if job := w.Job(job.ID); job.State != jobs.StateSucceeded {
			t.Fatalf("%s: the job is %s (%s)", name, job.State, job.Error)
		}
		var inArchive int64
		for n := range 350 {
			if goes(n) {
				inArchive++
			}
		}
		w.wantArchiveCount(name, job.ID, inArchive)
		w.wantArchived(name, 350, func(n int) bool { return !goes(n) })
		return calls
	}
	total := run(0, false)
	for at := 1; at <= total; at++ {
		run(at, false)
		run(at, true)
	}
}

// A canceled cleanup leaves no file that the manifest does not list, and counts what is gone.
func TestACanceledCleanupOfTheArchiveEndsItsPart(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 14; at++ {
		for _, after := range []bool{false, true} {
			w := newWorld(t)
			w.store("acme", 0, 250)
			w.archive("a")
			w.leave(250)
			job := w.createInArchive(url.Values{"before": {"2026-03-02"}, "user_id": {"u3"}})
			for w.Job(job.ID).ArchiveCount != nil && !w.Job(job.ID).Archive {
				w.Deliver(1)
			}
			w.Calls, w.KillAt, w.After = 0, at, after
			w.Deliver(1)
			if w.Job(job.ID).State.Finished() {
				continue
			}
			w.Messages, w.KillAt = nil, 0
			if _, err := w.Service.Cancel(t.Context(), admin, w.Owner, job.ID); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("canceled at call %d, after its effect %t", at, after)
			w.wantUnended(name, job.ID)
			w.Work()
			count := *w.Job(job.ID).ArchiveCount
			var rows int64
			m := w.manifest()
			for i := range m.Files {
				rows += m.Files[i].Rows
			}
			if rows+count != 250 {
				t.Errorf("%s: %d entries are archived and %d counted as removed, want 250 together", name, rows, count)
			}
			w.wantArchived(name, 250, func(n int) bool { return n%10 != 3 || int64(n/100) >= count/10 })
			w.wantFinish(fmt.Sprintf(`{"state":"cancelled","count":0,"held":0,"archive_count":%d}`, count))
		}
	}
}

// wantUnended hands the messages to a worker of the archive, which has no runner that can end what the canceled cleanup left:
// it leaves that to others.
func (w *world) wantUnended(name, id string) {
	w.T.Helper()
	worker := *w.Worker
	worker.Runners = map[jobs.Kind]jobs.Runner{jobs.KindCleanup: w.Worker.Runners[jobs.KindCleanup].(eitherRunner).archive}
	for _, body := range w.Messages {
		if err := worker.Handle(w.T.Context(), body); err != nil {
			w.T.Errorf("%s: a worker of the archive: %v", name, err)
		}
	}
	if w.Job(id).CleanAt.IsZero() {
		w.T.Errorf("%s: a worker of the archive has ended the cleanup, want it to leave that to others", name)
	}
}

// TestTheEndOfACanceledCleanupOfTheArchiveIsRecordedOnce: the worker that ends its part is killed at each of its calls.
func TestTheEndOfACanceledCleanupOfTheArchiveIsRecordedOnce(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for at, calls := 1, 1; at <= calls; at++ {
			w := newWorld(t)
			job := w.cleanTwoParts(byParts["a user"])
			w.Calls, w.KillAt = 0, 3 // while it replaces a part
			w.Deliver(1)
			if _, err := w.Service.Cancel(t.Context(), admin, w.Owner, job); err != nil {
				t.Fatal(err)
			}
			w.Calls, w.KillAt, w.After = 0, at, after
			w.Work()
			calls = w.Calls
			count := *w.Job(job).ArchiveCount
			if got := w.archivedRows() + count; got != 150 {
				t.Errorf("killed at call %d: %d entries are archived or counted, want 150", at, got)
			}
			w.wantFinish(fmt.Sprintf(`{"state":"cancelled","count":0,"held":0,"archive_count":%d}`, count))
		}
	}
}

// archivedRows returns how many entries the manifest has.
func (w *world) archivedRows() (rows int64) {
	m := w.manifest()
	for i := range m.Files {
		rows += m.Files[i].Rows
	}
	return rows
}

// cleanTwoParts starts a cleanup of the two parts of an archive with 150 entries, up to its work there.
func (w *world) cleanTwoParts(query url.Values) (job string) {
	w.T.Helper()
	w.store("acme", 0, 150)
	w.archive("a")
	w.leave(150)
	job = w.createInArchive(query).ID
	for w.Job(job).ArchiveCount != nil && !w.Job(job).Archive {
		w.Deliver(1)
	}
	return job
}

// byParts are cleanups that remove whole parts, and those that replace them.
var byParts = map[string]url.Values{"whole parts": before, "a user": {"before": {"2026-03-02"}, "user_id": {"u3"}}}

// A cleanup is canceled while its worker sleeps before one of its calls. Once that is recorded, the worker removes
// nothing any more.
func TestACleanupOfTheArchiveThatSleptWhenItWasCanceled(t *testing.T) {
	t.Parallel()
	for query, parameters := range byParts {
		for at, reached := 1, true; reached; at++ {
			w := newWorld(t)
			var rows, count int64
			job := w.cleanTwoParts(parameters)
			reached = false
			w.Calls, w.InterruptAt = 0, at
			w.Interrupt = func() {
				w.Interrupt = nil
				if w.Job(job).Committed {
					return
				}
				if _, err := w.Service.Cancel(t.Context(), admin, w.Owner, job); err != nil {
					t.Fatal(err)
				}
				w.Work()
				reached, rows, count = true, w.archivedRows(), *w.Job(job).ArchiveCount
			}
			w.Work()
			if !reached {
				continue
			}
			name := fmt.Sprintf("%s, canceled at call %d", query, at)
			if got := w.archivedRows(); got != rows {
				t.Errorf("%s: %d entries are archived, want %d as when it was canceled", name, got, rows)
			}
			if rows+count != 150 {
				t.Errorf("%s: %d entries are archived and %d counted as removed, want 150 together", name, rows, count)
			}
			w.wantArchiveCount(name, job, count)
			w.wantArchived(name, 150, func(n int) bool {
				if query == "a user" {
					return n%10 != 3 || int64(n/100) >= (count+9)/10
				}
				return int64(n) >= count
			})
		}
	}
}

// slowHolds are holds whose reader sleeps after one of its looks.
type slowHolds struct {
	hold.Reader
	looks, sleepAt int
	sleep          func()
}

func (s *slowHolds) Standing(ctx context.Context, tenant audit.TenantID) (hold.Standing, error) {
	standing, err := s.Reader.Standing(ctx, tenant)
	if s.looks++; s.looks == s.sleepAt {
		s.sleep()
	}
	return standing, err
}

// A hold of everything comes into force while the worker of a cleanup sleeps after it has read the holds.
func TestACleanupOfTheArchiveThatSleptRemovesNothingHeld(t *testing.T) {
	t.Parallel()
	for query, parameters := range byParts {
		for at := 1; at <= 4; at++ { // two looks for each part
			w := newWorld(t)
			job := w.cleanTwoParts(parameters)
			rows := int64(-1)
			w.archiver.Holds = &slowHolds{Reader: w.DB.Holds(), sleepAt: at, sleep: func() {
				rows = w.archivedRows()
				w.hold(hold.Hold{ID: "h"})
				w.Time = w.Time.Add(30 * time.Minute)
			}}
			w.Work()
			name := fmt.Sprintf("%s, held after look %d", query, at)
			if got := w.archivedRows(); got != rows {
				t.Errorf("%s: %d entries are archived, want %d as when the hold was set", name, got, rows)
			}
			w.wantArchiveCount(name, job, 150-rows)
		}
	}
}

// An archive job that has read entries before they were removed can still bring them into the archive: the cleanup
// waits for it.
func TestACleanupOfTheArchiveWaitsForJobsThatArchive(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	w.Owner.Settings.Archive = true
	running := jobs.Job{ID: "running", Kind: jobs.KindArchive, Tenant: "acme", State: jobs.StateRunning, CreatedAt: w.Time, Generation: 1}
	if err := w.DB.Jobs().CreateJob(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	job := w.createInArchive(before)
	for range 20 {
		w.Deliver(1)
	}
	if got := w.Job(job.ID); !got.Archive || got.State.Finished() {
		t.Errorf("the cleanup is %s, at the workers of the archive: %t, want it to wait there", got.State, got.Archive)
	}
	running.State = jobs.StateSucceeded
	if err := w.DB.Jobs().UpdateJob(t.Context(), running, 1); err != nil {
		t.Fatal(err)
	}
	w.Work()
	w.WantJob(job.ID, jobs.StateSucceeded, 100)
}

// An earlier cleanup appears after this one has begun: its creation took long. Both would count the same entries.
func TestACleanupOfTheArchiveWaitsForAnEarlierOne(t *testing.T) {
	w := newWorld(t)
	job := w.cleanTwoParts(before)
	earlier := jobs.Job{
		ID: "earlier", Kind: jobs.KindCleanup, Tenant: "acme", State: jobs.StateRunning, CreatedAt: w.Job(job).CreatedAt.Add(-time.Second), Generation: 1,
	}
	if err := w.DB.Jobs().CreateJob(t.Context(), earlier); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		w.Deliver(1)
	}
	w.wantArchiveCount("while an earlier one is not finished", job, 0)
	earlier.State = jobs.StateSucceeded
	if err := w.DB.Jobs().UpdateJob(t.Context(), earlier, 1); err != nil {
		t.Fatal(err)
	}
	w.Work()
	w.WantJob(job, jobs.StateSucceeded, 0)
	w.wantArchiveCount("after it", job, 150)
}

// TestADamagedManifestStopsNoCleanupOfTheStores: a cleanup of the archive is canceled while it replaces a part, and
// cannot tell whether the damaged manifest has the replacement. Other cleanups of the archive wait until it can.
func TestADamagedManifestStopsNoCleanupOfTheStores(t *testing.T) {
	w := newWorld(t)
	canceled := w.cleanTwoParts(byParts["a user"])
	w.store("acme", 150, 200)
	w.Calls, w.KillAt = 0, 3 // while it replaces a part
	w.Deliver(1)
	w.KillAt = 0
	key := month + "_manifest.json"
	body, _, err := w.blobs.Get(t.Context(), "acme", key)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
	put := func(text []byte) {
		t.Helper()
		if err := w.blobs.Put(t.Context(), "acme", key, export.ContentOf(text, "")); err != nil {
			t.Fatal(err)
		}
	}
	put(whole[:len(whole)-9])
	if _, err := w.Service.Cancel(t.Context(), admin, w.Owner, canceled); err != nil {
		t.Fatal(err)
	}
	w.Time = w.Time.Add(time.Second)
	stores := w.create(url.Values{"before": {"2026-03-02"}, "user_id": {"u4"}})
	w.Time = w.Time.Add(time.Second)
	inArchive := w.createInArchive(before)
	work := func() {
		t.Helper()
		for handled := 0; handled < 300 && !w.Job(inArchive.ID).State.Finished(); handled++ {
			if len(w.Messages) == 0 {
				w.Time = w.Time.Add(4 * time.Minute)
			}
			if _, err := w.Service.Plan(t.Context()); err != nil { // a job that waits always has a message
				t.Fatal(err)
			}
			w.Deliver(min(1, len(w.Messages)))
		}
	}
	work()
	w.WantJob(stores.ID, jobs.StateSucceeded, 5)
	w.WantJob(inArchive.ID, jobs.StateRunning, 0)
	if w.Job(canceled).Failures == 0 {
		t.Error("the canceled cleanup counts no failure, want some")
	}
	put(whole)
	work()
	w.WantJob(inArchive.ID, jobs.StateSucceeded, 45)
	w.wantArchived("at the end", 200, func(int) bool { return false })
}

// slowRestore has the entries of a restore whose store is slow.
type slowRestore struct {
	restore.Entries
	before func() // is called before entries are stored
}

func (s slowRestore) Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (ingest.Appended, error) {
	s.before()
	return s.Entries.Append(ctx, tenant, entries)
}

// restoring is what a restore needs beside the stores.
type restoring struct{ *world }

func (r restoring) Update(_ context.Context, tenant audit.Tenant) error {
	r.Owner = tenant
	return nil
}

func (restoring) Touch(context.Context, audit.TenantID, []audit.Entry) error { return nil }

func (r restoring) Send(ctx context.Context, tenant audit.TenantID, bodies []string) error {
	for _, body := range bodies {
		contents, err := envelope.Unpack(body)
		if err == nil {
			_, err = search.PutEntries(ctx, r.DB.Index(), tenant, contents.Entries)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestACleanupWaitsForWhatACanceledRestoreStillWrites: the worker of the restore has not noticed the cancellation. What it
// brings back goes too.
func TestACleanupWaitsForWhatACanceledRestoreStillWrites(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 100)
	w.archive("a")
	w.leave(100)
	with := restoring{w}
	restores := &restore.Service{Jobs: w.Service, Recorder: w, Now: w.Clock, Random: jobtest.Random}
	by := access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.ArchiveRestore}}}
	r, err := restores.Create(t.Context(), by, w.Owner, restore.Request{From: w.Time.AddDate(0, 0, -9), To: w.Time, Days: 9})
	if err != nil {
		t.Fatal(err)
	}
	w.Time = w.Time.Add(time.Second)
	var job jobs.Job
	w.Worker.Runners[jobs.KindRestore] = &restore.Runner{
		Entries: slowRestore{w.DB.Entries(), func() {
			if _, err := restores.Cancel(t.Context(), by, w.Owner, r.ID); err != nil {
				t.Error(err)
			}
			job = w.createInArchive(before)
			for end := w.Time.Add(20 * time.Second); w.Time.Before(end) && len(w.Messages) > 0; {
				w.Deliver(1)
			}
		}},
		Archive: w.blobs.Blobs, Index: with, Days: with, Jobs: w.DB.Jobs(), Tenants: with, Now: w.Clock,
	}
	w.Work()
	if job.ID == "" {
		t.Fatal("the restore has stored nothing")
	}
	w.WantJob(job.ID, jobs.StateSucceeded, 100)
	w.wantArchiveCount("at the end", job.ID, 100)
	w.wantLeft("acme", 0)
	w.wantArchived("at the end", 100, func(int) bool { return false })
}

// A tenant is deleted while a worker stores a part. Nothing of it is left, and a kept archive is as it was.
func TestACleanupOfTheArchiveLeavesNothingOfADeletedTenant(t *testing.T) {
	for _, kept := range []bool{false, true} {
		for at := 1; at <= 2; at++ { // a part and its ids are two files
			w := newWorld(t)
			job := w.cleanTwoParts(byParts["a user"])
			files := 0
			w.blobs.created = func(string) {
				if files++; files == at {
					w.Owner.Status, w.Owner.KeepArchive = audit.TenantDeleting, kept
					if !kept {
						w.removeArchive()
					}
				}
			}
			w.Work()
			if got := w.Job(job); got.State != jobs.StateFailed || files != 2 {
				t.Errorf("deleted at file %d of %d: the job is %s, want it failed", at, files, got.State)
			}
			if kept {
				w.wantArchived("kept", 150, func(int) bool { return true })
			} else if left := w.removeArchive(); len(left) > 0 {
				t.Errorf("deleted at file %d: %q are left", at, left)
			}
		}
	}
}

// TestACanceledCleanupLeavesNothingOfADeletedTenant: a cleanup of the archive is canceled and its tenant deleted while a
// worker stores a part. The worker is killed once it has stored the ids.
func TestACanceledCleanupLeavesNothingOfADeletedTenant(t *testing.T) {
	for _, kept := range []bool{false, true} {
		w := newWorld(t)
		job := w.cleanTwoParts(byParts["a user"])
		w.After = true
		w.blobs.created = func(string) {
			w.blobs.created = nil
			if _, err := w.Service.Cancel(t.Context(), admin, w.Owner, job); err != nil {
				t.Error(err)
			}
			w.Owner.Status, w.Owner.KeepArchive = audit.TenantDeleting, kept
			if !kept {
				w.removeArchive()
			}
			w.KillAt = w.Calls + 1
		}
		w.Work()
		if got := w.Job(job); got.State != jobs.StateCanceled || !got.CleanAt.IsZero() {
			t.Errorf("the job is %s and is cleaned at %v, want it canceled and cleaned", got.State, got.CleanAt)
		}
		if kept {
			w.wantArchived("kept", 150, func(int) bool { return true })
		} else if left := w.removeArchive(); len(left) > 0 {
			t.Errorf("%q are left, want nothing", left)
		}
	}
}

// TestAHoldKeepsTheArchiveOfADeletedTenant: the tenant of a cleanup of the archive is deleted after each call of its
// worker, while a legal hold stands that stops the deletion. Perhaps the cleanup was canceled. Nothing is removed any
// more.
func TestAHoldKeepsTheArchiveOfADeletedTenant(t *testing.T) {
	t.Parallel()
	for query, parameters := range byParts {
		for _, canceled := range []bool{false, true} {
			for at, reached := 1, true; reached; at++ {
				w := newWorld(t)
				job, rows := w.cleanTwoParts(parameters), int64(0)
				reached = false
				w.Calls, w.InterruptAt, w.After = 0, at, true
				w.Interrupt = func() {
					w.Interrupt, reached, rows = nil, true, w.archivedRows()
					if j := w.Job(job); canceled && !j.State.Finished() && !j.Committed {
						if _, err := w.Service.Cancel(t.Context(), admin, w.Owner, job); err != nil {
							t.Error(err)
						}
					}
					w.Owner.Status = audit.TenantDeleting
					w.hold(hold.Hold{ID: "h"})
				}
				w.Work()
				if !reached {
					continue
				}
				name := fmt.Sprintf("%s, deleted after call %d", query, at)
				if got := w.archivedRows(); got != rows {
					t.Errorf("%s: %d entries are archived, want %d as before", name, got, rows)
				}
				m := w.manifest()
				for i := range m.Files {
					if err := archive.ReadPart(t.Context(), w.blobs, "acme", m.Month, &m.Files[i], func(*audit.Entry) error { return nil }); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
	}
}

// TestNothingIsNotedOfADeletedTenant: a tenant is deleted while a cleanup notes what it has removed. Then the worker
// goes on, was killed, was replaced by another one, or the job was canceled.
func TestNothingIsNotedOfADeletedTenant(t *testing.T) {
	for _, then := range []string{"goes on", "killed", "replaced", "canceled"} {
		for _, stays := range []string{"", "kept", "held"} {
			w := newWorld(t)
			w.store("acme", 0, 20)
			w.runner.Cleaned = &archive.CleanedLog{Blobs: w.blobs, Holds: w.DB.Holds(), Tenants: w, Now: w.Clock}
			w.Owner.Settings.Archive = true
			job := w.create(before).ID
			w.blobs.created = func(string) {
				w.blobs.created = nil
				switch then {
				case "killed":
					w.KillAt = w.Calls + 1
				case "replaced":
					stored := w.Job(job)
					stored.Generation++
					if err := w.DB.Jobs().UpdateJob(t.Context(), stored, stored.Generation-1); err != nil {
						t.Error(err)
					}
				case "canceled":
					if _, err := w.Service.Cancel(t.Context(), admin, w.Owner, job); err != nil {
						t.Error(err)
					}
				}
				w.Owner.Status, w.Owner.KeepArchive = audit.TenantDeleting, stays == "kept"
				if stays == "held" {
					w.hold(hold.Hold{ID: "h"})
				}
			}
			w.Work()
			if w.blobs.created != nil {
				t.Error("nothing was noted")
			}
			if got, want := len(w.removeArchive()), stays != ""; got > 0 != want {
				t.Errorf("%s %s: %d files are left, want some: %t", then, stays, got, want)
			}
		}
	}
}

// removeArchive removes all files of the archive, and returns their names.
func (w *world) removeArchive() (names []string) {
	w.T.Helper()
	list, err := w.blobs.List(w.T.Context(), "acme", "", "", export.MaxList)
	for _, file := range list {
		names = append(names, file.Key)
		if err == nil {
			err = w.blobs.Blobs.Delete(w.T.Context(), "acme", file.Key)
		}
	}
	if err != nil {
		w.T.Fatal(err)
	}
	return names
}

// A damaged part fails the cleanup, which names it. The part stays as it is.
func TestADamagedPartFailsACleanupOfTheArchive(t *testing.T) {
	w := newWorld(t)
	w.store("acme", 0, 300)
	w.archive("a")
	w.leave(300)
	key := month + "part-000002.parquet"
	err := w.blobs.Blobs.Delete(t.Context(), "acme", key)
	if err == nil {
		err = w.blobs.Blobs.Create(t.Context(), "acme", key, export.ContentOf([]byte("PAR1"), ""))
	}
	if err != nil {
		t.Fatal(err)
	}
	job := w.createInArchive(before)
	w.Work()
	if got := w.Job(job.ID); got.State != jobs.StateFailed || !strings.Contains(got.Error, "part-000002.parquet of 2026-03 is damaged") {
		t.Errorf("the job is %s (%s), want it failed by the part", got.State, got.Error)
	}
	w.wantArchiveCount("damaged", job.ID, 100)
	w.wantFinish(`{"state":"failed","count":0,"held":0,"archive_count":100}`)
	if f := w.manifest().Part(2); f == nil {
		t.Error("the manifest lacks the damaged part, want it as before")
	}
}
