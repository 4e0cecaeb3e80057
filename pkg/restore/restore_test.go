package restore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

func readBlob(ctx context.Context, blobs *fileblob.Blobs, key string) ([]byte, error) {
	body, _, err := blobs.Get(ctx, acme, key)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(body)
	return text, errors.Join(err, body.Close())
}

// january asks for everything that worlds archive.
func january() restore.Request { return restore.Request{From: first, To: last, Days: 14} }

// TestWhatIsMissingComesBack: what is stored stays as it is, but for what is about to leave.
func TestWhatIsMissingComesBack(t *testing.T) {
	w := newWorld(t, 1500)
	from := w.Time.AddDate(0, 0, -20) // of what is searchable
	back := slices.IndexFunc(w.all, func(e audit.Entry) bool { return !e.Timestamp.Before(from) })
	if back < 100 || len(w.all)-back < 100 {
		w.Owner.Settings.SearchableDays = 45
		from = w.Time.AddDate(0, 0, -45)
		back = slices.IndexFunc(w.all, func(e audit.Entry) bool { return !e.Timestamp.Before(from) })
	}
	w.remove(w.all[:back-50]) // 50 are to leave and still stored
	r := w.create(january())
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, int64(back))
	w.wantBack("after the restore", r.Until, w.all[:back], w.all[back:])
	if want := w.Time.Add(14 * oneDay); r.Until.After(want) || r.Until.Before(want.Add(-time.Hour)) {
		t.Errorf("restored until %v, want about %v", r.Until, want)
	}
	wantActions := []string{"archive.create", "archive.finish", "restore.create " + r.ID, "restore.finish " + r.ID}
	for i, action := range w.Actions() {
		if i >= len(wantActions) || !strings.HasPrefix(action, wantActions[i]) {
			t.Errorf("recorded %q, want %q", w.Actions(), wantActions)
			break
		}
	}
	if got, want := string(w.Recorded[3].Metadata), fmt.Sprintf(`{"state":"succeeded","count":%d,"expired":0,"cleaned":0}`, back); got != want {
		t.Errorf("the end was recorded with %s, want %s", got, want)
	}
	if want := []audit.Restored{{From: first, To: last, Until: r.Until}}; cmp.Diff(want, w.Owner.Restored) != "" {
		t.Errorf("the record of the tenant has the restores %v, want %v", w.Owner.Restored, want)
	}

	again := w.create(restore.Request{From: first, To: last, Days: 20})
	w.Work()
	w.WantJob(again.ID, jobs.StateSucceeded, int64(back))
	w.wantBack("after a longer one", again.Until, w.all[:back], w.all[back:])
	shorter := w.create(restore.Request{From: first, To: last, Days: 2})
	w.Work()
	w.WantJob(shorter.ID, jobs.StateSucceeded, 0)
	w.wantBack("after a shorter one", again.Until, w.all[:back], w.all[back:])
}

// TestBoundsAreThoseOfTimestamps to the millisecond.
func TestBoundsAreThoseOfTimestamps(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	r := w.create(restore.Request{From: w.all[300].Timestamp.Add(-1), To: w.all[1000].Timestamp, Days: 1})
	if !r.From.Equal(w.all[300].Timestamp) { // timestamps have whole milliseconds
		t.Errorf("it restores from %v, want %v", r.From, w.all[300].Timestamp)
	}
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, 700)
	w.wantBack("after the restore", r.Until, w.all[300:1000], nil)
}

// TestAKilledRestoreLosesNothingAndRepeatsNothing kills the worker at each of its writes, before it and
// after it.
func TestAKilledRestoreLosesNothingAndRepeatsNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at, killed := 1, true; killed; at++ {
			t.Run(fmt.Sprintf("%d %t", at, after), func(t *testing.T) {
				w := newWorld(t, 600)
				w.remove(w.all[:570])
				w.Owner.Settings.SearchableDays = 1 // the others are to leave
				r := w.create(january())
				w.Tick = time.Second // so that each page is saved
				w.Calls, w.KillAt, w.After = 0, at, after
				w.Work()
				killed = w.Calls >= at
				w.WantJob(r.ID, jobs.StateSucceeded, 600)
				w.wantBack("at the end", r.Until, w.all, nil)
				finished := 0
				for _, action := range w.Actions() {
					if strings.HasPrefix(action, "restore.finish") {
						finished++
					}
				}
				if finished != 1 {
					t.Errorf("the end was recorded %d times, want once", finished)
				}
			})
		}
	}
}

// TestSlicesOfASecond: the job goes on where it was.
func TestSlicesOfASecond(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	w.Worker.SliceTime = time.Nanosecond
	r := w.create(january())
	w.Tick = time.Millisecond
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, 1500)
	w.wantBack("at the end", r.Until, w.all, nil)
}

// TestTwoAtOnceTakeTurns: the later one begins when the earlier one has ended.
func TestTwoAtOnceTakeTurns(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	earlier := w.create(january())
	w.Time = w.Time.Add(time.Second)
	later := w.create(restore.Request{From: w.all[100].Timestamp, To: last, Days: 15})
	w.Messages[0], w.Messages[1] = w.Messages[1], w.Messages[0]
	w.Work()
	w.WantJob(earlier.ID, jobs.StateSucceeded, 1500)
	w.WantJob(later.ID, jobs.StateSucceeded, 1400)
	got := w.stored()
	for i, e := range w.all {
		want := earlier.Until
		if i >= 100 {
			want = later.Until
		}
		if until := got[e.ID].RestoredUntil; !until.Equal(want) {
			t.Fatalf("entry %d is restored until %v, want %v", i, until, want)
		}
	}
}

// TestADamagedArchiveChangesNothing: the job fails and names what is wrong.
func TestADamagedArchiveChangesNothing(t *testing.T) {
	const folder = "month=2026-01/"
	cut := func(text []byte) []byte { return text[:len(text)-9] }
	changed := func(text []byte) []byte { text[len(text)/2] ^= 1; return text }
	gone := func([]byte) []byte { return nil }
	for name, test := range map[string]struct {
		key    string
		damage func(text []byte) []byte
		want   string
	}{
		"a cut part":         {folder + "part-000002.parquet", cut, "part-000002.parquet of 2026-01 is damaged"},
		"a changed part":     {folder + "part-000003.parquet", changed, "part-000003.parquet of 2026-01 is damaged"},
		"a missing part":     {folder + "part-000001.parquet", gone, "part-000001.parquet of 2026-01 is missing"},
		"a cut manifest":     {folder + "_manifest.json", cut, "the manifest of 2026-01 is damaged"},
		"a missing manifest": {folder + "_manifest.json", gone, "the manifest of 2026-01 is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1500)
			w.remove(w.all)
			w.damage(test.key, test.damage)
			r := w.create(january())
			w.Work()
			w.WantJob(r.ID, jobs.StateFailed, 0)
			if got := w.Job(r.ID).Error; !strings.HasPrefix(got, test.want) {
				t.Errorf("the job failed with %q, want %q", got, test.want)
			}
			w.wantBack("after the failure", r.Until, nil, nil)
			if len(w.Owner.Restored) > 0 {
				t.Errorf("the record of the tenant has %v, want no restore", w.Owner.Restored)
			}
		})
	}
}

// TestOnlyThePartsOfTheTimeAreChecked: damage elsewhere does no harm.
func TestOnlyThePartsOfTheTimeAreChecked(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	w.damage("month=2026-01/part-000003.parquet", func([]byte) []byte { return nil })
	r := w.create(restore.Request{From: first, To: w.all[maxRows].Timestamp, Days: 14})
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, maxRows)
	w.wantBack("at the end", r.Until, w.all[:maxRows], nil)
}

// TestLateEntriesOfALaterPartComeBackToo: their times are among those of the earlier parts.
func TestLateEntriesOfALaterPartComeBackToo(t *testing.T) {
	w := newWorld(t, 1000)
	w.add(300)
	w.remove(w.all)
	r := w.create(january())
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, 1300)
	w.wantBack("at the end", r.Until, w.all, nil)
}

// TestWhatHasExpiredStaysAway by the settings of the time of the restore.
func TestWhatHasExpiredStaysAway(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	w.Owner.Settings.RetentionRules = []audit.RetentionRule{{Action: "VIEW", Days: 45}}
	r := w.create(january())
	w.Work()
	var kept []audit.Entry
	for _, e := range w.all {
		if e.SubmittedBy == audit.SubmittedByService || w.Time.Before(e.Timestamp.AddDate(0, 0, 45)) { // no rule for the service's own
			kept = append(kept, e)
		}
	}
	w.WantJob(r.ID, jobs.StateSucceeded, int64(len(kept)))
	w.wantBack("at the end", r.Until, kept, nil)
	if got, want := w.get(r.ID).Expired, int64(1500-len(kept)); got != want {
		t.Errorf("%d entries had expired, want %d", got, want)
	}
}

// TestARestoreWaitsForAnEarlierCleanup: one that is not finished, or was canceled and still ends what it has begun.
// Otherwise what it removes would come back, or go right after it came back.
func TestARestoreWaitsForAnEarlierCleanup(t *testing.T) {
	for _, state := range []jobs.State{jobs.StateRunning, jobs.StateCanceled} {
		t.Run(string(state), func(t *testing.T) {
			w := newWorld(t, 100)
			w.remove(w.all)
			earlier := jobs.Job{ID: "earlier", Kind: jobs.KindCleanup, Tenant: acme, State: state, CreatedAt: w.Time.Add(-time.Second), Generation: 1}
			if state.Finished() {
				earlier.FinishedAt, earlier.CleanAt = w.Time, w.Time
			}
			if err := w.DB.Jobs().CreateJob(t.Context(), earlier); err != nil {
				t.Fatal(err)
			}
			job := w.create(january())
			for range 5 {
				w.Deliver(1)
			}
			w.WantJob(job.ID, jobs.StateRunning, 0)
			if got := len(w.stored()); got != 0 {
				t.Errorf("%d entries came back while the cleanup works, want none", got)
			}
			if earlier.CleanAt = (time.Time{}); state == jobs.StateRunning {
				earlier.State, earlier.FinishedAt = jobs.StateSucceeded, w.Time
			}
			if err := w.DB.Jobs().UpdateJob(t.Context(), earlier, 1); err != nil {
				t.Fatal(err)
			}
			w.Work()
			w.WantJob(job.ID, jobs.StateSucceeded, 100)
		})
	}
}

// TestWhatCleanupsRemovedStaysAway unless the restore asks for it.
func TestWhatCleanupsRemovedStaysAway(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	var cleaned, others []audit.Entry
	for i, e := range w.all {
		if i%3 == 0 || i < 200 {
			cleaned = append(cleaned, e)
		} else {
			others = append(others, e)
		}
	}
	for page := range slices.Chunk(cleaned, 90) { // many of a day
		for range 2 { // a worker that was killed repeats it
			if err := w.log.Note(t.Context(), acme, audit.IDsOf(page)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := w.create(january())
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, int64(len(others)))
	w.wantBack("without what was cleaned up", r.Until, others, nil)
	if got := w.get(r.ID).Cleaned; got != int64(len(cleaned)) {
		t.Errorf("%d entries were cleaned up, want %d", got, len(cleaned))
	}
	with := january()
	with.Days, with.IncludeCleaned = 15, true
	r = w.create(with)
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, 1500)
	w.wantBack("with what was cleaned up", r.Until, w.all, nil)
}

func TestTheTenantIsDeleted(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	r := w.create(january())
	w.Owner.Status = audit.TenantDeleting
	w.Work()
	w.WantJob(r.ID, jobs.StateFailed, 0)
	w.wantBack("at the end", r.Until, nil, nil)
}

// TestARestoreThatComesTooLate has an hour left.
func TestARestoreThatComesTooLate(t *testing.T) {
	w := newWorld(t, 100)
	w.remove(w.all)
	r := w.create(restore.Request{From: first, To: last, Days: 1})
	w.Time = w.Time.Add(23*time.Hour + time.Minute)
	w.Work()
	w.WantJob(r.ID, jobs.StateFailed, 0)
	w.wantBack("at the end", r.Until, nil, nil)
}

// TestARestoreGoesByTheSharedClock: the clocks of the request and of the worker are a day ahead.
func TestARestoreGoesByTheSharedClock(t *testing.T) {
	w := newWorld(t, 100)
	w.remove(w.all)
	shared := func(context.Context) (time.Time, error) { return w.Time, nil }
	ahead := func() time.Time { return w.Time.Add(24 * time.Hour) }
	w.service.Clock, w.service.Now = shared, ahead
	w.runner.Clock, w.runner.Now = shared, ahead
	w.Worker.Clock, w.Worker.Now = shared, ahead
	w.Owner.Settings.RetentionDays = 60 // some are to expire within a day
	asked := w.Time
	r := w.create(restore.Request{From: first, To: last, Days: 1})
	if want := asked.Add(24 * time.Hour); !r.Until.Equal(want) {
		t.Errorf("it ends at %v, want %v", r.Until, want)
	}
	var back int64
	for i := range w.all {
		if !w.Owner.Settings.IsExpired(&w.all[i], w.Time) {
			back++
		}
	}
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, back)
	if e := w.Recorded[len(w.Recorded)-1]; e.Action != "restore.finish" || e.Timestamp.After(w.Time) {
		t.Errorf("recorded %s at %v, want restore.finish before %v", e.Action, e.Timestamp, w.Time)
	}
}

func TestARestoreIsCanceled(t *testing.T) {
	w := newWorld(t, 1500)
	w.remove(w.all)
	r := w.create(january())
	canceled, err := w.service.Cancel(t.Context(), admin, w.Owner, r.ID)
	if err != nil || canceled.State != jobs.StateCanceled {
		t.Errorf("the restore is %s, %v, want it canceled", canceled.State, err)
	}
	w.Work()
	w.wantBack("at the end", r.Until, nil, nil)
	w.wantFinish(`{"state":"cancelled","count":0,"expired":0,"cleaned":0}`)
}

// wantFinish checks that the log has one entry about what the restore has done.
func (w *world) wantFinish(want string) {
	w.T.Helper()
	var got []string
	for i := range w.Recorded {
		if e := &w.Recorded[i]; e.Action == "restore.finish" {
			got = append(got, string(e.Metadata))
		}
	}
	if !slices.Equal(got, []string{want}) {
		w.T.Errorf("recorded %q at the end, want %q once", got, want)
	}
}

// TestARestoreThatStopsHalfWay is canceled or fails between two pages, and the worker that records it is killed at each
// of its calls. The log says what came back.
func TestARestoreThatStopsHalfWay(t *testing.T) {
	for _, fails := range []bool{false, true} {
		for at, calls := 1, 1; at <= calls; at++ {
			w := newWorld(t, 1500)
			w.remove(w.all)
			w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond
			r := w.create(january())
			for w.Job(r.ID).Count == 0 {
				w.Deliver(1)
			}
			state := jobs.StateCanceled
			if fails {
				state = jobs.StateFailed
				w.Time = r.Until
			} else if _, err := w.service.Cancel(t.Context(), admin, w.Owner, r.ID); err != nil {
				t.Fatal(err)
			}
			w.Calls, w.KillAt = 0, at
			w.Work()
			calls = w.Calls
			count := w.Job(r.ID).Count
			w.WantJob(r.ID, state, count)
			if count == 0 || count == 1500 {
				t.Errorf("%d entries came back, want some", count)
			}
			w.wantFinish(fmt.Sprintf(`{"state":%q,"count":%d,"expired":0,"cleaned":0}`, state, count))
			if t.Failed() {
				t.Fatalf("fails %t, killed at call %d", fails, at)
			}
		}
	}
}

// TestAWorkerThatSleptWhenItsRestoreWasCanceled, after it had looked at the stores: it brings nothing back and keeps
// nothing for longer.
func TestAWorkerThatSleptWhenItsRestoreWasCanceled(t *testing.T) {
	w := newWorld(t, 600)
	w.Owner.Settings.SearchableDays = 1 // what is still stored is to leave
	w.remove(w.all[:300])
	r := w.create(january())
	w.runner.Entries = &seenBefore{Entries: w.runner.Entries, then: func() {
		if _, err := w.service.Cancel(t.Context(), admin, w.Owner, r.ID); err != nil {
			t.Error(err)
		}
	}}
	w.Work()
	w.WantJob(r.ID, jobs.StateCanceled, 0)
	w.wantBack("at the end", r.Until, nil, w.all[300:])
	w.wantFinish(`{"state":"cancelled","count":0,"expired":0,"cleaned":0}`)
}

func TestFaultyRequests(t *testing.T) {
	w := newWorld(t, 1)
	for name, test := range map[string]struct {
		r    restore.Request
		want []string
	}{
		"nothing":        {restore.Request{}, []string{"/from", "/to", "/days"}},
		"no days":        {restore.Request{From: first, To: last}, []string{"/days"}},
		"too many days":  {restore.Request{From: first, To: last, Days: 366}, []string{"/days"}},
		"an empty range": {restore.Request{From: first, To: first, Days: 1}, []string{"/to"}},
	} {
		_, err := w.service.Create(t.Context(), admin, w.Owner, test.r)
		var invalid *audit.ValidationError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %v, want a validation error", name, err)
			continue
		}
		var got []string
		for _, f := range invalid.Fields {
			got = append(got, f.Pointer)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: faults (-want +got):\n%s", name, diff)
		}
	}
	scoped := admin
	scoped.Resources = []access.Resource{{Type: "order"}}
	if _, err := w.service.Create(t.Context(), scoped, w.Owner, january()); !errors.Is(err, audit.ErrForbidden) {
		t.Errorf("a credential that is restricted to resources: got %v, want %v", err, audit.ErrForbidden)
	}
}

// TestWhatCameBackLeavesByItself: retention marks it when its time is over and takes it out of the index, and
// removes it a week later. What a hold covers stays stored.
func TestWhatCameBackLeavesByItself(t *testing.T) {
	w := newWorld(t, 300)
	w.remove(w.all)
	r := w.create(january())
	w.Work()
	held := false
	unindexed := map[audit.EntryID]bool{}
	task := &retention.Task{
		Store: w.DB.Entries(), Index: indexRemovals(unindexed), Tenants: w, Publish: func(retention.Result) error { return nil }, Now: w.Clock,
		Held: func(context.Context, audit.TenantID) (func(*audit.Entry) bool, error) {
			return func(e *audit.Entry) bool { return held && e.UserID == "u7" }, nil
		},
		Archived: func(ctx context.Context, tenant audit.TenantID, day time.Time) (retention.Archived, error) {
			return (&archive.Reader{Blobs: w.blobs}).On(ctx, tenant, day)
		},
	}
	check := func() (due time.Time) {
		t.Helper()
		for day := first; day.Before(last); day = day.Add(oneDay) {
			outcome, err := task.Check(t.Context(), &w.Owner, activity.Day{Receipt: activity.Receipt{Day: day}, Checks: 1, Until: w.Time.Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			due = outcome.Due
		}
		return due
	}
	w.Time = r.Until.Add(-time.Minute)
	if due := check(); !due.Equal(r.Until) {
		t.Errorf("before the end the last day is due at %v, want %v", due, r.Until)
	}
	w.wantBack("before the end", r.Until, w.all, nil)
	w.Time = r.Until
	held = true
	check()
	if got, want := len(unindexed), len(w.all); got != want {
		t.Errorf("at the end %d entries have left the index, want %d", got, want)
	}
	w.wantBack("at the end", r.Until, w.all, nil)
	w.Time = r.Until.Add(retention.Grace + time.Hour)
	check()
	if got, want := len(w.stored()), 30; got != want {
		t.Errorf("a week later %d entries are stored, want the %d that are held", got, want)
	}
	held = false
	check()
	w.Time = w.Time.Add(retention.Grace + time.Hour)
	check()
	w.wantBack("after the hold", r.Until, nil, nil)
}

// indexRemovals notes what leaves the index.
type indexRemovals map[audit.EntryID]bool

func (x indexRemovals) Remove(_ context.Context, _ audit.TenantID, ids []audit.EntryID) error {
	for _, id := range ids {
		x[id] = true
	}
	return nil
}

// TestStoredEntriesThatDoNotLeaveStayAsTheyAre: without an archive they are only hidden, and other content under an
// archived identity is no copy of it.
func TestStoredEntriesThatDoNotLeaveStayAsTheyAre(t *testing.T) {
	for _, archive := range []bool{false, true} {
		w := newWorld(t, 300)
		w.Owner.Settings.SearchableDays, w.Owner.Settings.Archive = 1, archive
		w.remove(w.all[:150])
		others := slices.Clone(w.all[:100])
		for i := range others {
			others[i].Message, others[i].Digest.Sum[2] = "other", 1
			others[i].ReceivedAt = w.Time
		}
		w.Put(acme, others)
		r := w.create(january())
		w.Work()
		if archive {
			w.WantJob(r.ID, jobs.StateSucceeded, 200)
			w.wantBack("with an archive", r.Until, w.all[100:], others)
		} else {
			w.WantJob(r.ID, jobs.StateSucceeded, 50)
			w.wantBack("without an archive", r.Until, w.all[100:150], append(others, w.all[150:]...))
		}
	}
}

// TestARestoreDuringARunOfRetention: what the run has just marked comes back, and stays.
func TestARestoreDuringARunOfRetention(t *testing.T) {
	w := newWorld(t, 600)
	w.Owner.Settings.SearchableDays = 1
	ids := audit.IDsOf(w.all)
	for _, after := range []time.Duration{-time.Second, time.Hour} { // to be removed now, and later
		if err := w.DB.Entries().Mark(t.Context(), acme, ids[:300], after); err != nil {
			t.Fatal(err)
		}
		ids = ids[300:]
		if len(ids) == 0 {
			break
		}
	}
	kept := &seenBefore{Entries: w.runner.Entries, then: func() {
		n, err := w.DB.Entries().RemoveDue(t.Context(), acme, audit.IDsOf(w.all)[:100])
		if err != nil || n != 100 {
			t.Errorf("removed %d entries, %v, want 100", n, err)
		}
	}}
	w.runner.Entries = kept
	r := w.create(january())
	w.Work()
	w.WantJob(r.ID, jobs.StateSucceeded, 600)
	w.wantBack("at the end", r.Until, w.all, nil)
	if n, err := w.DB.Entries().RemoveDue(t.Context(), acme, audit.IDsOf(w.all)); err != nil || n > 0 {
		t.Errorf("removed %d entries, %v, want 0: none is marked any more", n, err)
	}
}

// seenBefore calls then right after the restore has seen entries for the first time.
type seenBefore struct {
	restore.Entries
	then func()
}

func (s *seenBefore) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	found, err := s.Entries.EntriesByID(ctx, tenant, ids)
	if s.then != nil {
		s.then()
		s.then = nil
	}
	return found, err
}
