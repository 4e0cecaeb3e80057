package archive_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// february is a world with some small days of a month that is about to end.
func february(t *testing.T) *world {
	w := newWorld(t)
	for _, day := range []int{1, 14, 15, 28} {
		w.Time = date(2, day, 12)
		w.store(date(2, day, 0), 20)
	}
	return w
}

func TestAMonthOfSmallDaysIsArchivedAfterItsEnd(t *testing.T) {
	w := february(t)
	w.until(date(3, 1, 2))
	w.wantJobs("before the end", 0)
	w.until(date(3, 1, 5))
	w.wantJobs("after the end", 1)
	w.wantArchived("after the end", []string{"2026-02"}, all)
	m := w.manifest("2026-02")
	if got := len(m.Files); got != 2 { // of 40 entries at most
		t.Errorf("%d parts, want 2", got)
	}
	if !m.Complete {
		t.Error("the month is not complete")
	}
	if got := len(m.Days); got != 4 {
		t.Errorf("%d days are archived, want 4", got)
	}
	for _, d := range m.Days {
		if d.Rows.Rows != 20 || d.Place != 80 {
			t.Errorf("%s has %d entries up to the place %d, want 20 up to 80", d.Day, d.Rows.Rows, d.Place)
		}
	}
	job := w.jobs()[0]
	w.WantJob(job.ID, jobs.StateSucceeded, 80)
	want := []string{"archive.create " + job.ID, "archive.finish " + job.ID}
	if diff := cmp.Diff(want, w.Actions()); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	w.until(date(3, 10, 0))
	w.wantJobs("later", 1)
	if got := w.manifest("2026-02"); !got.UpdatedAt.Equal(m.UpdatedAt) {
		t.Error("the manifest was replaced without need")
	}
}

// TestALargeDayIsArchivedOnceItHasEnded: the others of its month wait.
func TestALargeDayIsArchivedOnceItHasEnded(t *testing.T) {
	w := newWorld(t)
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), largeDay)
	w.store(date(3, 5, 0), largeDay) // a day ahead
	w.store(date(3, 3, 0), largeDay-1)
	w.until(date(3, 5, 2))
	w.wantJobs("before the day has settled", 0)
	large := func(at time.Time) bool { return at.Day() == 4 }
	w.until(date(3, 5, 5))
	w.wantArchived("after the day", []string{"2026-03"}, large)
	w.until(date(3, 6, 5))
	w.wantArchived("after the next", []string{"2026-03"}, func(at time.Time) bool { return at.Day() != 3 })
	w.wantJobs("after the next", 2)
	if w.manifest("2026-03").Complete {
		t.Error("the month is complete before its end")
	}
	w.until(date(4, 1, 6))
	w.wantArchived("after the month", []string{"2026-03"}, all)
	w.wantJobs("after the month", 3)
}

// TestLateEntriesFollowOnceADay: those of all days in one part.
func TestLateEntriesFollowOnceADay(t *testing.T) {
	w := february(t)
	w.until(date(3, 4, 9))
	for hour := range 30 { // on two days
		w.Time = date(3, 4, 10+hour)
		w.store(date(2, 14, 0), 1)
		w.store(date(2, 2, 0), 1)
		w.run()
	}
	w.until(date(3, 8, 0))
	w.wantArchived("after the late entries", []string{"2026-02"}, all)
	w.wantJobs("after the late entries", 3)
	m := w.manifest("2026-02")
	if got := len(m.Files); got != 4 {
		t.Errorf("%d parts, want two, and one for each day with late entries", got)
	}
	if late := m.Files[2]; len(late.Days) != 2 {
		t.Errorf("the late entries of one day are in a part with %v, want two days", late.Days)
	}
}

// TestAnEntryThatIsStoredLongAfterItsDayWasTouchedIsArchived: it comes when its day was archived already.
func TestAnEntryThatIsStoredLongAfterItsDayWasTouchedIsArchived(t *testing.T) {
	w := february(t)
	w.until(date(3, 1, 5))
	e := entry(9999, date(2, 20, 0))
	w.Put(acme, []audit.Entry{e})
	day, _, err := w.DB.Activity().DueAt(t.Context(), activity.Day{Work: activity.Archive, Tenant: acme, Receipt: activity.Receipt{Day: date(2, 20, 0)}})
	if err != nil || !day.IsZero() {
		t.Fatalf("the day is due at %v, %v", day, err)
	}
	e = entry(9998, date(2, 14, 5))
	w.Put(acme, []audit.Entry{e})
	stored, err := w.DB.Entries().EntriesByID(t.Context(), acme, []audit.EntryID{e.ID})
	if err != nil {
		t.Fatal(err)
	}
	w.want[e.ID] = archived(stored[0])
	w.until(date(3, 3, 12))
	w.wantArchived("two days later", []string{"2026-02"}, all)
}

// TestAKilledWorkerLosesNothingAndRepeatsNothing kills the worker at each of its writes, before it and
// after it.
func TestAKilledWorkerLosesNothingAndRepeatsNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at, killed := 1, true; killed; at++ {
			t.Run(fmt.Sprintf("%d %t", at, after), func(t *testing.T) {
				w := february(t)
				w.until(date(3, 1, 2))
				w.Calls, w.KillAt, w.After = 0, at, after
				w.until(date(3, 1, 6))
				if killed = w.Calls >= at; !killed {
					return
				}
				w.until(date(3, 3, 12))
				w.wantArchived("at the end", []string{"2026-02"}, all)
				w.wantJobs("at the end", 1)
				if got := len(w.Recorded); got != 2 {
					t.Errorf("%d entries were recorded, want 2: %v", got, w.Actions())
				}
			})
		}
	}
}

// TestTwoJobsAtOnceArchiveEachEntryOnce runs a second job of the month in the middle of the first, before
// each of its writes.
func TestTwoJobsAtOnceArchiveEachEntryOnce(t *testing.T) {
	for at, reached := 1, true; reached; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			w := february(t)
			w.Time = date(3, 1, 5)
			writes := 0
			reached = false
			w.blobs.before = func() {
				if writes++; writes != at {
					return
				}
				reached = true
				waiting := w.Messages
				w.Messages = nil
				w.start("second")
				w.Work()
				w.Messages = waiting
			}
			w.start("first")
			w.Work()
			w.wantArchived("at the end", []string{"2026-02"}, all)
			if reached {
				w.wantJobs("at the end", 2)
			}
		})
	}
}

// TestJobsOfOneMonthCountTheirOwnEntries kills a job before each of its writes, and runs another one of the month. Then
// the first continues. Both write the same entries into parts of the same numbers.
func TestJobsOfOneMonthCountTheirOwnEntries(t *testing.T) {
	for at, killed := 1, true; killed; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			w := february(t)
			w.Time = date(3, 1, 5)
			w.start("first")
			w.KillAt = at
			w.Deliver(1)
			if killed = w.Calls >= at; !killed {
				return
			}
			w.start("second")
			w.Work()
			w.wantArchived("at the end", []string{"2026-02"}, all)
			w.wantJobs("at the end", 2)
			if got, want := w.Job("first").Count+w.Job("second").Count, int64(len(w.want)); got != want {
				t.Errorf("the jobs count %d entries, want %d", got, want)
			}
		})
	}
}

// TestADamagedPartDoesNotCount cuts each new file short, or changes it, once.
func TestADamagedPartDoesNotCount(t *testing.T) {
	for _, name := range []string{"part-000001.parquet", "part-000002.parquet", "_ids-000001", "_ids-000002"} {
		for how, damage := range map[string]func(text []byte) []byte{
			"cut":     func(text []byte) []byte { return text[:len(text)-9] },
			"changed": func(text []byte) []byte { text[len(text)/2] ^= 1; return text },
			"empty":   func([]byte) []byte { return nil },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				w := february(t)
				damaged := 0
				w.blobs.created = func(key string) {
					if key != "month=2026-02/"+name || damaged > 0 {
						return
					}
					damaged++
					text := damage(w.read(key))
					if err := w.blobs.Put(t.Context(), acme, key, export.ContentOf(text, "")); err != nil {
						t.Error(err)
					}
				}
				w.until(date(3, 1, 6))
				if damaged != 1 {
					t.Fatalf("%d files were damaged, want 1", damaged)
				}
				w.wantArchived("at the end", []string{"2026-02"}, all)
				w.wantJobs("at the end", 1)
			})
		}
	}
}

// TestTheSettingTurnsTheArchiveOnAndOff: what was archived stays.
func TestTheSettingTurnsTheArchiveOnAndOff(t *testing.T) {
	w := february(t)
	w.Owner.Settings.Archive = false
	w.until(date(3, 2, 0))
	w.wantJobs("off", 0)
	w.wantArchived("off", []string{"2026-02"}, func(time.Time) bool { return false })
	w.Owner.Settings.Archive = true
	if err := w.DB.Activity().TouchAll(t.Context(), activity.Archive, acme, w.Time); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.wantArchived("on", []string{"2026-02"}, all)
	w.Owner.Settings.Archive = false
	w.store(date(2, 3, 0), 5)
	w.until(date(3, 5, 0))
	w.wantArchived("off again", []string{"2026-02"}, func(at time.Time) bool { return at.Day() != 3 })
}

// TestTheSettingIsTurnedOffDuringAJob: the part that is being written still counts.
func TestTheSettingIsTurnedOffDuringAJob(t *testing.T) {
	w := february(t)
	w.blobs.created = func(key string) {
		if strings.HasSuffix(key, "part-000001.parquet") {
			w.Owner.Settings.Archive = false
		}
	}
	w.until(date(3, 1, 6))
	w.wantJobs("off", 1)
	w.wantArchived("off", []string{"2026-02"}, func(at time.Time) bool { return at.Day() <= 14 }) // 40 entries
}

// TestNothingIsLeftOfADeletedTenant deletes the tenant before each write of a job, with its archive. Perhaps
// another worker has replaced the one that writes.
func TestNothingIsLeftOfADeletedTenant(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		for at, reached := 1, true; reached; at++ {
			t.Run(fmt.Sprintf("%d %t", at, replaced), func(t *testing.T) {
				w := february(t)
				writes := 0
				reached = false
				w.blobs.before = func() {
					if writes++; writes != at {
						return
					}
					reached, w.Owner.Status = true, audit.TenantDeleting
					if _, err := w.blobs.Purge(t.Context(), acme, 1000); err != nil {
						t.Error(err)
					}
					if replaced {
						w.failJobs()
					}
				}
				w.until(date(3, 1, 6))
				if got := w.files("2026-02"); reached && len(got) > 0 {
					t.Errorf("left: %v, want none", got)
				}
			})
		}
	}
}

// TestAHoldKeepsTheArchiveOfADeletedTenant deletes the tenant before each write of a job while a legal hold stands,
// which stops the deletion. Or the hold is set while the worker sleeps, which has just read that none stands.
func TestAHoldKeepsTheArchiveOfADeletedTenant(t *testing.T) {
	for _, asleep := range []bool{false, true} {
		for at, reached := 1, true; reached; at++ {
			t.Run(fmt.Sprintf("%d %t", at, asleep), func(t *testing.T) {
				w := february(t)
				w.until(date(3, 1, 6))
				before := w.files("2026-02")
				w.store(date(2, 14, 0), 10)
				writes, set := 0, false
				reached = false
				setOnce := func() {
					if !set {
						set = true
						w.hold(hold.Hold{})
					}
				}
				w.blobs.before = func() {
					if writes++; writes != at {
						return
					}
					reached, w.Owner.Status = true, audit.TenantDeleting
					if !asleep {
						setOnce()
						return
					}
					w.runner.Holds = slowHolds{w.DB.Holds(), func() {
						setOnce()
						w.Time = w.Time.Add(30 * time.Minute)
					}}
				}
				w.until(date(3, 3, 12))
				for _, name := range before {
					if w.read("month=2026-02/"+name) == nil {
						t.Errorf("%s is gone", name)
					}
				}
				m, rows := w.manifest("2026-02"), int64(0)
				for i := range m.Files {
					rows += m.Files[i].Rows
					if err := archive.ReadPart(t.Context(), w.blobs, acme, m.Month, &m.Files[i], func(*audit.Entry) error { return nil }); err != nil {
						t.Error(err)
					}
				}
				if rows < 80 {
					t.Errorf("%d entries are archived, want 80 at least", rows)
				}
			})
		}
	}
}

// hold sets a legal hold.
func (w *world) hold(h hold.Hold) {
	w.T.Helper()
	h.ID, h.Tenant, h.Matter, h.Reason, h.CreatedAt, h.Version = "h", acme, "m", "r", w.Time, 1
	if err := w.DB.Holds().CreateHold(w.T.Context(), h); err != nil {
		w.T.Fatal(err)
	}
}

// failJobs ends the jobs that run, as another worker does that finds the tenant deleted.
func (w *world) failJobs() {
	w.T.Helper()
	list, _, err := w.DB.Jobs().Jobs(w.T.Context(), acme, jobs.Unfinished(jobs.KindArchive), nil, 100)
	errs := []error{err}
	for i := range list {
		job := w.Job(list[i].ID)
		job.Generation++
		job.State, job.FinishedAt, job.ResumeAt = jobs.StateFailed, w.Time, time.Time{}
		errs = append(errs, w.DB.Jobs().UpdateJob(w.T.Context(), job, list[i].Generation))
	}
	if err := errors.Join(errs...); err != nil {
		w.T.Fatal(err)
	}
}

// TestAKeptArchiveStays deletes the tenant before each write of a job, but for its archive. What was listed
// stays, and no other file of a part does. The tenant's record goes before the job's next slice.
func TestAKeptArchiveStays(t *testing.T) {
	keeper := &jobs.Job{ID: "d", Tenant: acme, CreatedBy: "op", CreatedAt: date(3, 1, 0)}
	for _, gone := range []bool{false, true} {
		for at, reached := 1, true; reached; at++ {
			t.Run(fmt.Sprintf("%d %t", at, gone), func(t *testing.T) {
				w := february(t)
				writes, listed := 0, 0
				reached = false
				w.blobs.before = func() {
					if writes++; writes != at {
						return
					}
					reached, w.Owner.Status, w.Owner.KeepArchive, w.ownerGone = true, audit.TenantDeleting, true, gone
					if err := (&archive.Keeper{Blobs: w.blobs.Blobs}).Keep(t.Context(), keeper); err != nil {
						t.Error(err)
					}
					listed = len(w.manifest("2026-02").Files)
				}
				w.until(date(3, 1, 6))
				if !reached {
					return
				}
				m := w.manifest("2026-02")
				if got := len(m.Files); got != listed && got != listed+1 { // the write that was under way
					t.Errorf("the manifest lists %d parts, want %d or one more", got, listed)
				}
				want := []string{}
				for i := range m.Files {
					want = append(want, m.Files[i].Name, m.Files[i].IDs.Name)
				}
				if m.Version > 0 {
					want = append(want, "_manifest.json")
				}
				slices.Sort(want)
				if diff := cmp.Diff(want, w.files("2026-02"), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("the files (-want +got):\n%s", diff)
				}
				size, err := (&archive.Keeper{Blobs: w.blobs.Blobs}).Size(t.Context(), acme)
				if err != nil {
					t.Fatal(err)
				}
				if want := int64(len(want) + 1); size.Files != want { // and what says that it is kept
					t.Errorf("the archive has %d files, want %d", size.Files, want)
				}
			})
		}
	}
}

// TestPartsGoAfterTheirEnd: not before the longest retention of their entries, and not while a hold stands.
func TestPartsGoAfterTheirEnd(t *testing.T) {
	info, critical := audit.SeverityInfo, audit.SeverityCritical
	for name, test := range map[string]struct {
		rules []audit.RetentionRule
		days  int // 0: never
	}{
		"one retention":            {nil, 30},
		"shorter rule":             {[]audit.RetentionRule{{Action: "VIEW", Days: 10}}, 30},
		"longer rule":              {[]audit.RetentionRule{{Severity: &info, Days: 60}}, 60},
		"longer rule of others":    {[]audit.RetentionRule{{Action: "login", Days: 60}}, 30},
		"for ever":                 {[]audit.RetentionRule{{Severity: &critical}}, 0},
		"for ever, but for others": {[]audit.RetentionRule{{Action: "login"}}, 30},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Owner.Settings.RetentionDays, w.Owner.Settings.RetentionRules = 30, test.rules
			w.Time = date(3, 4, 12)
			w.store(date(3, 4, 0), 20)
			w.store(date(3, 4, 0), largeDay-20)
			last := date(3, 5, 0)
			w.until(last.AddDate(0, 0, 3))
			w.removeStored(date(3, 4, 0))
			w.until(last.AddDate(0, 0, 43))
			w.wantArchived("before the end of any", []string{"2026-03"}, all)
			if test.days == 0 {
				w.until(last.AddDate(0, 0, 120))
				w.wantArchived("much later", []string{"2026-03"}, all)
				return
			}
			w.until(last.AddDate(0, 0, test.days+13))
			w.wantArchived("before the end", []string{"2026-03"}, all)
			w.until(last.AddDate(0, 0, test.days+15))
			if got, want := w.files("2026-03"), []string{"_manifest.json"}; !slices.Equal(got, want) {
				t.Errorf("after the end: %v are left, want %v", got, want)
			}
		})
	}
}

// TestPartsGoByTheSharedClock: that of the worker is a day ahead.
func TestPartsGoByTheSharedClock(t *testing.T) {
	w := newWorld(t)
	w.planner.Clock = func(context.Context) (time.Time, error) { return w.Time.Add(-oneDay), nil }
	w.Owner.Settings.RetentionDays = 30
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), largeDay)
	w.until(date(3, 8, 0))
	w.removeStored(date(3, 4, 0))
	end := date(3, 5, 0).AddDate(0, 0, 44)
	w.until(end)
	w.wantArchived("before the end of any", []string{"2026-03"}, all)
	w.until(end.AddDate(0, 0, 3))
	if got, want := w.files("2026-03"), []string{"_manifest.json"}; !slices.Equal(got, want) {
		t.Errorf("after the end: %v are left, want %v", got, want)
	}
}

// TestFilesOfEndedPartsGoAlsoIfTheWorkerIsKilled kills it at each of its writes, before it and after it.
func TestFilesOfEndedPartsGoAlsoIfTheWorkerIsKilled(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at, killed := 1, true; killed; at++ {
			t.Run(fmt.Sprintf("%d %t", at, after), func(t *testing.T) {
				w := newWorld(t)
				w.Owner.Settings.RetentionDays = 30
				w.Time = date(3, 4, 12)
				w.store(date(3, 4, 0), largeDay)
				w.until(date(3, 8, 0))
				w.removeStored(date(3, 4, 0))
				if err := (&archive.CleanedLog{Blobs: w.blobs.Blobs, Holds: w.DB.Holds(), Tenants: w, Now: w.Clock}).Note(t.Context(), acme, []audit.EntryID{entry(0, date(3, 4, 0)).ID}); err != nil {
					t.Fatal(err)
				}
				w.Time = date(3, 5, 0).AddDate(0, 0, 36)
				w.Calls, w.KillAt, w.After = 0, at, after
				w.until(date(3, 5, 0).AddDate(0, 0, 45))
				if killed = w.Calls >= at; !killed {
					return
				}
				w.until(date(3, 5, 0).AddDate(0, 0, 47))
				if got, want := w.files("2026-03"), []string{"_manifest.json"}; !slices.Equal(got, want) {
					t.Errorf("%v are left, want %v", got, want)
				}
				if notes, err := w.blobs.List(t.Context(), acme, "_cleaned/", "", 1); err != nil || len(notes) > 0 {
					t.Errorf("of what cleanups removed %v are left, %v, want none", notes, err)
				}
			})
		}
	}
}

// TestADamagedMonthDoesNotHoldUpOthers has the manifest of one month damaged, whose days are in the same
// task as those of another.
func TestADamagedMonthDoesNotHoldUpOthers(t *testing.T) {
	w := february(t)
	w.store(date(1, 20, 0), 10)
	if err := w.blobs.Put(t.Context(), acme, "month=2026-01/_manifest.json", export.ContentOf([]byte("{"), "")); err != nil {
		t.Fatal(err)
	}
	w.Time = date(3, 1, 5)
	w.run()
	w.wantArchived("beside a damaged month", []string{"2026-02"}, func(at time.Time) bool { return at.Month() == time.February })
}

// removeStored removes the entries of a day from the system of record, as retention does.
func (w *world) removeStored(day time.Time) {
	w.T.Helper()
	ids, err := w.DB.Entries().IDs(w.T.Context(), acme, day, day.Add(oneDay), audit.EntryID{}, 1000)
	if err == nil {
		err = w.DB.Entries().Mark(w.T.Context(), acme, ids, 0)
	}
	if err == nil {
		_, err = w.DB.Entries().RemoveDue(w.T.Context(), acme, ids)
	}
	if err != nil {
		w.T.Fatal(err)
	}
}

// TestEntriesOfManyPartsTakeLittleMemory: late entries have the times of others, so that all parts are read together.
func TestEntriesOfManyPartsTakeLittleMemory(t *testing.T) {
	w := newWorld(t)
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), 2*maxRows)
	for day := 5; day < 9; day++ {
		w.until(date(3, day, 13))
		w.store(date(3, 4, 0), maxRows-day)
	}
	w.until(date(3, 10, 12))
	w.wantArchived("with late entries", []string{"2026-03"}, all)
	size := 0
	for _, f := range w.manifest("2026-03").Files {
		size += int(f.Bytes)
	}
	for name, limit := range map[string]int{"all": 1 << 20, "their bytes alone": size, "one part": size / 6, "none": 0} {
		e := archive.NewEntries(w.blobs, acme, date(3, 1, 0), date(4, 1, 0))
		e.SetMaxLoaded(int64(limit))
		places, err := e.IDs(t.Context(), audit.EntryID{}, audit.EntryID{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(places) != len(w.want) {
			t.Fatalf("%s: %d places, want %d", name, len(places), len(w.want))
		}
		most := 0 // parts that are loaded at once
		for _, place := range places {
			read, err := e.Read(t.Context(), []export.Archived{place})
			if err != nil {
				t.Fatal(err)
			}
			if got := archived(read[0]); got != w.want[place.ID] {
				t.Fatalf("%s: got %s, want %s", name, got, w.want[place.ID])
			}
			parts, loaded := e.Loaded()
			if most = max(most, parts); loaded > int64(limit) {
				t.Fatalf("%s: %d bytes are loaded beside a part, want %d at most", name, loaded, limit)
			}
		}
		if kept := limit >= size; kept && most < 5 || limit == 0 && most != 1 {
			t.Errorf("%s: %d parts were loaded at once", name, most)
		}
	}
}

// TestAReplacedPartIsFoundAgain: a cleanup replaces parts after a reader has read the manifest.
func TestAReplacedPartIsFoundAgain(t *testing.T) {
	for looked := range 2*maxRows + 1 {
		if looked%maxRows > 1 { // the places around the parts
			continue
		}
		w := newWorld(t)
		w.Time = date(3, 4, 12)
		w.store(date(3, 4, 0), 2*maxRows)
		w.until(date(3, 5, 12))
		ids := slices.SortedFunc(maps.Keys(w.want), func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
		day, err := (&archive.Reader{Blobs: w.blobs}).On(t.Context(), acme, date(3, 4, 0))
		if err != nil {
			t.Fatal(err)
		}
		goes := func(e *audit.Entry) bool { return e.UserID == "u3" }
		for i, id := range ids {
			if i == looked {
				w.replaceParts(date(3, 4, 0), goes)
			}
			has, err := day.HasID(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			// A part whose ids were read counts as it was.
			if e := entry(i, id.Time()); has == goes(&e) && i >= maxRows && looked <= maxRows {
				t.Errorf("replaced at %d: entry %d is archived: %t, want %t", looked, i, has, !has)
			}
		}
	}
}

// replaceParts removes entries from all parts of a month.
func (w *world) replaceParts(at time.Time, goes func(*audit.Entry) bool) {
	w.T.Helper()
	r, ctx := &archive.Rewriter{Blobs: w.blobs, Holds: w.DB.Holds(), Now: w.Clock}, w.T.Context()
	m, err := r.Manifest(ctx, acme, at)
	if err != nil {
		w.T.Fatal(err)
	}
	for _, n := range m.Numbers("cleanup", time.Time{}, time.Time{}) {
		if m, err = r.Manifest(ctx, acme, at); err != nil {
			w.T.Fatal(err)
		}
		p, err := r.Without(ctx, m, m.Part(n), "cleanup", goes)
		if err != nil {
			w.T.Fatal(err)
		}
		p.Name(m.Next)
		if err := r.Store(ctx, acme, p); err != nil {
			w.T.Fatal(err)
		}
		if done, err := r.Swap(ctx, acme, p, func(context.Context) error { return nil }); err != nil || !done {
			w.T.Fatalf("part %d was replaced: %t, %v", n, done, err)
		}
	}
}

// TestAReplacementOfAnotherJobIsNotTakenForOnesOwn: a cleanup is killed before it has stored its new part, or before it
// has removed a whole part. Another one of the same entries does the same.
func TestAReplacementOfAnotherJobIsNotTakenForOnesOwn(t *testing.T) {
	for name, goes := range map[string]func(*audit.Entry) bool{
		"a part":       func(e *audit.Entry) bool { return e.UserID == "u3" },
		"a whole part": func(*audit.Entry) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Time = date(3, 4, 12)
			w.store(date(3, 4, 0), 2*maxRows)
			w.until(date(3, 5, 12))
			r, ctx := &archive.Rewriter{Blobs: w.blobs, Holds: w.DB.Holds(), Now: w.Clock}, t.Context()
			m, err := r.Manifest(ctx, acme, date(3, 4, 0))
			if err != nil {
				t.Fatal(err)
			}
			part := m.Part(m.Numbers("", time.Time{}, time.Time{})[0])
			without := func(job string) *archive.Replacement {
				p, err := r.Without(ctx, m, part, job, goes)
				if err != nil {
					t.Fatal(err)
				}
				p.Name(m.Next)
				return p
			}
			killed, late, other := without("killed"), without("late"), without("other")
			if err := r.Store(ctx, acme, other); err != nil {
				t.Fatal(err)
			}
			may := func(context.Context) error { return nil }
			if done, err := r.Swap(ctx, acme, other, may); err != nil || !done {
				t.Fatalf("the part was replaced: %t, %v, want true", done, err)
			}
			if done, err := r.Swap(ctx, acme, late, may); err != nil || done {
				t.Errorf("the late cleanup has replaced the part: %t, %v, want false", done, err)
			}
			if done, err := r.End(ctx, acme, killed); err != nil || done {
				t.Errorf("the killed cleanup has replaced the part: %t, %v, want false", done, err)
			}
			for range 2 {
				if done, err := r.Swap(ctx, acme, other, may); err != nil || !done {
					t.Errorf("the other cleanup has replaced the part: %t, %v, want true", done, err)
				}
			}
			if done, err := r.End(ctx, acme, other); err != nil || !done {
				t.Errorf("the other cleanup has replaced the part: %t, %v, want true", done, err)
			}
			if m, err = r.Manifest(ctx, acme, date(3, 4, 0)); err != nil {
				t.Fatal(err)
			}
			for i := range m.Files {
				if err := archive.ReadPart(ctx, w.blobs, acme, m.Month, &m.Files[i], func(*audit.Entry) error { return nil }); err != nil {
					t.Errorf("read %s: %v", m.Files[i].Name, err)
				}
			}
		})
	}
}

// slowHolds are holds whose reader sleeps after it has read them.
type slowHolds struct {
	hold.Reader
	sleep func()
}

func (s slowHolds) Standing(ctx context.Context, tenant audit.TenantID) (hold.Standing, error) {
	standing, err := s.Reader.Standing(ctx, tenant)
	s.sleep()
	return standing, err
}

// TestAPlannerThatSleptRemovesNoHeldPart: a hold comes into force after the planner has read the holds.
func TestAPlannerThatSleptRemovesNoHeldPart(t *testing.T) {
	w := newWorld(t)
	w.Owner.Settings.RetentionDays = 365
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), largeDay)
	w.until(date(6, 1, 0))
	w.removeStored(date(3, 4, 0))
	lowered := w.Time
	w.retain(30)
	w.until(lowered.AddDate(0, 0, 6))
	w.wantMarked("six days later", true)
	set := false
	w.planner.Holds = slowHolds{w.DB.Holds(), func() {
		if set || w.Time.Before(lowered.AddDate(0, 0, 7)) {
			return
		}
		set = true
		w.hold(hold.Hold{})
		w.Time = w.Time.Add(30 * time.Minute)
	}}
	w.until(lowered.AddDate(0, 0, 9))
	if !set {
		t.Fatal("nobody has read the holds at the end of the part")
	}
	w.wantArchived("held", []string{"2026-03"}, all)
	w.wantMarked("held", false)
}

func TestAHoldKeepsParts(t *testing.T) {
	w := newWorld(t)
	w.Owner.Settings.RetentionDays = 30
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), largeDay)
	w.until(date(3, 6, 0))
	h := hold.Hold{ID: "h", Tenant: acme, Matter: "m", Reason: "r", UserIDs: []string{"u1"}, From: date(3, 4, 12), CreatedAt: w.Time, Version: 1}
	if err := w.DB.Holds().CreateHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	w.removeStored(date(3, 4, 0))
	w.until(date(5, 10, 0))
	w.wantArchived("held", []string{"2026-03"}, all)
	h.ReleasedAt, h.Version = w.Time, 2
	if err := w.DB.Holds().UpdateHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	w.until(date(5, 16, 23))
	w.wantArchived("released for less than seven days", []string{"2026-03"}, all)
	w.until(date(5, 25, 0))
	if got := w.files("2026-03"); len(got) != 1 {
		t.Errorf("released: %v are left, want the manifest", got)
	}
}

// TestWhatOutlivesItsPartIsArchivedAgain: what the database still has is archived again after the end of its part.
func TestWhatOutlivesItsPartIsArchivedAgain(t *testing.T) {
	w := newWorld(t)
	w.Owner.Settings.RetentionDays = 30
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), largeDay)
	w.until(date(4, 22, 0))
	w.wantArchived("after the end", []string{"2026-03"}, all)
}

func TestReaderTellsWhatIsArchived(t *testing.T) {
	w := february(t)
	w.until(date(3, 1, 6))
	w.store(date(2, 14, 0), 7)
	w.until(date(3, 3, 6))
	w.store(date(2, 14, 0), 3) // are not archived yet
	reader := &archive.Reader{Blobs: w.blobs}
	archived, err := reader.On(t.Context(), acme, date(2, 14, 0))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := w.DB.Entries().IDs(t.Context(), acme, date(2, 14, 0), date(2, 15, 0), audit.EntryID{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, id := range ids {
		has, err := archived.HasID(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if has {
			n++
		}
	}
	if len(ids) != 30 || n != 27 {
		t.Errorf("%d of %d entries are archived, want 27 of 30", n, len(ids))
	}
}

// TestAnEntryIsArchivedWhateverTheClocksSay: the clock that accepted it is a day ahead of that of the worker that
// archives it. A manifest that is older than last_received goes by created_at.
func TestAnEntryIsArchivedWhateverTheClocksSay(t *testing.T) {
	w := february(t)
	ahead := entry(w.put, date(2, 14, 12))
	ahead.ReceivedAt = date(3, 2, 4)
	w.Put(acme, []audit.Entry{ahead})
	w.until(date(3, 1, 6))
	created := w.manifest("2026-02").Files[0].CreatedAt
	if !created.Before(ahead.ReceivedAt) {
		t.Fatalf("the part was begun at %s, want it before %s", created, ahead.ReceivedAt)
	}
	wantArchived := func(what string, receivedAt time.Time, want bool) {
		t.Helper()
		archived, err := (&archive.Reader{Blobs: w.blobs}).On(t.Context(), acme, date(2, 14, 0))
		if err != nil {
			t.Fatal(err)
		}
		e := ahead
		e.ReceivedAt = receivedAt
		if got, err := archived.HasEntry(t.Context(), &e); err != nil || got != want {
			t.Errorf("%s: archived %t, %v, want %t", what, got, err, want)
		}
	}
	wantArchived("what was archived", ahead.ReceivedAt, true)
	wantArchived("received later", ahead.ReceivedAt.Add(time.Millisecond), false)
	const manifest = "month=2026-02/_manifest.json"
	old := regexp.MustCompile(`"last_received":"[^"]*",`).ReplaceAll(w.read(manifest), nil)
	if err := w.blobs.Put(t.Context(), acme, manifest, export.ContentOf(old, "")); err != nil {
		t.Fatal(err)
	}
	wantArchived("received before an older part was begun", created, true)
	wantArchived("received after an older part was begun", ahead.ReceivedAt, false)
}

// TestReaderTellsOtherContentFromTheArchived: it was received after all that the part has, or a cleanup has removed
// what was archived. What was restored is what was archived.
func TestReaderTellsOtherContentFromTheArchived(t *testing.T) {
	w := february(t)
	w.until(date(3, 1, 6))
	day := date(2, 14, 0)
	ids, err := w.DB.Entries().IDs(t.Context(), acme, day, day.Add(oneDay), audit.EntryID{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	m, err := archive.ReadManifest(t.Context(), w.blobs, acme, day)
	if err != nil {
		t.Fatal(err)
	}
	log := archive.CleanedLog{Blobs: w.blobs, Holds: w.DB.Holds(), Tenants: w, Now: w.Clock}
	if err := log.Note(t.Context(), acme, []audit.EntryID{ids[3], ids[5]}); err != nil {
		t.Fatal(err)
	}
	created, until := m.Files[0].CreatedAt, date(9, 1, 0)
	for i := range m.Files {
		if m.Files[i].CreatedAt.After(created) {
			created = m.Files[i].CreatedAt
		}
	}
	later := created.Add(time.Millisecond)
	archived, err := (&archive.Reader{Blobs: w.blobs}).On(t.Context(), acme, day)
	if err != nil {
		t.Fatal(err)
	}
	received := func(i int) time.Time { return ids[i].Time().Add(time.Second) } // as entry has it
	for i, test := range []struct {
		name string
		e    audit.Entry
		want bool
	}{
		{"what was archived", audit.Entry{ReceivedAt: received(0)}, true},
		{"received after that", audit.Entry{ReceivedAt: later}, false},
		{"received at an unknown time", audit.Entry{}, false},
		{"received before, after a cleanup", audit.Entry{ReceivedAt: received(3)}, false},
		{"restored", audit.Entry{ReceivedAt: received(4), RestoredUntil: until}, true},
		{"restored after a cleanup", audit.Entry{ReceivedAt: received(5), RestoredUntil: until}, true},
		{"received after that and taken for restored", audit.Entry{ReceivedAt: later, RestoredUntil: until}, false},
	} {
		test.e.ID = ids[i]
		if got, err := archived.HasEntry(t.Context(), &test.e); err != nil || got != test.want {
			t.Errorf("%s: archived %t, %v, want %t", test.name, got, err, test.want)
		}
	}
	unknown := entry(1_000_000, day.Add(oneDay-1))
	if got, err := archived.HasEntry(t.Context(), &unknown); err != nil || got {
		t.Errorf("not archived: archived %t, %v, want false", got, err)
	}
}

// TestDamagedFilesAreNoEntries: whoever asks gets an error.
func TestDamagedFilesAreNoEntries(t *testing.T) {
	for name, damage := range map[string]struct {
		file string
		text func([]byte) []byte
	}{
		"no manifest":       {"_manifest.json", func([]byte) []byte { return []byte("{") }},
		"of another tenant": {"_manifest.json", func(b []byte) []byte { return []byte(`{"version":1,"tenant_id":"other","month":"2026-02"}`) }},
		"a later version":   {"_manifest.json", func(b []byte) []byte { return []byte(`{"version":2,"tenant_id":"acme","month":"2026-02"}`) }},
		"a path": {"_manifest.json", func(b []byte) []byte {
			return []byte(`{"version":1,"tenant_id":"acme","month":"2026-02","next":9,"files":[{"name":"../../x","ids":{"name":"y"}}]}`)
		}},
		"ids of others": {"_ids-000001", func(b []byte) []byte { b[3] ^= 1; return b }},
		"fewer ids":     {"_ids-000001", func(b []byte) []byte { return b[16:] }},
	} {
		t.Run(name, func(t *testing.T) {
			w := february(t)
			w.until(date(3, 1, 6))
			key := "month=2026-02/" + damage.file
			if err := w.blobs.Put(t.Context(), acme, key, export.ContentOf(damage.text(w.read(key)), "")); err != nil {
				t.Fatal(err)
			}
			archived, err := (&archive.Reader{Blobs: w.blobs}).On(t.Context(), acme, date(2, 1, 0))
			if err == nil {
				_, err = archived.HasID(t.Context(), entry(0, date(2, 1, 0)).ID)
			}
			if err == nil {
				t.Error("got no error, want one")
			}
		})
	}
}

// TestFilesAreWhereOthersLookForThem: query engines pass over names that begin with an underscore.
func TestFilesAreWhereOthersLookForThem(t *testing.T) {
	w := february(t)
	w.until(date(3, 1, 6))
	want := []string{"_ids-000001", "_ids-000002", "_manifest.json", "part-000001.parquet", "part-000002.parquet"}
	if diff := cmp.Diff(want, w.files("2026-02")); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if text := w.read("month=2026-02/part-000001.parquet"); string(text[:4]) != "PAR1" {
		t.Errorf("the part begins with %q, want PAR1", text[:4])
	}
}

// TestAnUnreadableTaskIsRefused: its message goes to the dead-letter queue.
func TestAnUnreadableTaskIsRefused(t *testing.T) {
	w := newWorld(t)
	if err := w.planner.Do(t.Context(), acme, json.RawMessage(`{}`)); !errors.Is(err, audit.ErrUnreadable) {
		t.Errorf("got %v, want %v", err, audit.ErrUnreadable)
	}
}
