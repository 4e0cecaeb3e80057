package retention_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestArchivedEntriesLeaveAfterTheSearchableDays: only what is archived, with the same grace as what expired.
func TestArchivedEntriesLeaveAfterTheSearchableDays(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 365, SearchableDays: 30, Archive: true})
	w.archived = map[audit.EntryID]bool{}
	n := 0
	for id := range w.stored {
		if n++; n%2 == 0 {
			w.archived[id] = true
		}
	}
	w.until(t, day.AddDate(0, 0, 31).Add(-time.Minute))
	w.wantMarked(t, 0)
	w.until(t, day.AddDate(0, 0, 37))
	w.wantStored(t, total)
	w.wantMarked(t, total/2)
	w.until(t, day.AddDate(0, 0, 60))
	w.wantStored(t, total/2)
	w.wantMarked(t, 0)
	for id := range w.stored {
		w.archived[id] = true
	}
	w.until(t, day.AddDate(0, 0, 70))
	w.wantStored(t, 0)
}

// TestOtherContentThanTheArchivedStaysUntilItsEnd: an identity that is archived is not enough before that.
func TestOtherContentThanTheArchivedStaysUntilItsEnd(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 100, SearchableDays: 30, Archive: true})
	w.archived, w.others = map[audit.EntryID]bool{}, map[audit.EntryID]bool{}
	n := 0
	for id := range w.stored {
		w.archived[id] = true
		if n++; n%3 == 0 {
			w.others[id] = true
		}
	}
	w.until(t, day.AddDate(0, 0, 99))
	w.wantStored(t, total/3)
	w.wantMarked(t, 0)
	w.until(t, day.AddDate(0, 0, 110))
	w.wantStored(t, 0)
}

// TestWhatWasRestoredLeavesOnlyIfItIsArchived, also without the setting archive.
func TestWhatWasRestoredLeavesOnlyIfItIsArchived(t *testing.T) {
	for _, archive := range []bool{false, true} {
		w := newWorld(total, audit.Settings{SearchableDays: 30, Archive: archive})
		w.archived = map[audit.EntryID]bool{}
		until := day.AddDate(0, 0, 50)
		w.tenant.Restored = []audit.Restored{{From: day, To: day.Add(oneDay), Until: until}}
		n := 0
		for id, e := range w.stored {
			e.RestoredUntil = until
			if n++; n%3 > 0 {
				w.archived[id] = true
			}
		}
		w.until(t, until.Add(-time.Minute))
		w.wantMarked(t, 0)
		w.until(t, until.AddDate(0, 0, 10))
		w.wantStored(t, total/3)
		w.wantMarked(t, 0)
	}
}

// TestWhatIsSearchableOutlivesItsRestore, if it is so by the settings of that time, and no cleanup removed it.
func TestWhatIsSearchableOutlivesItsRestore(t *testing.T) {
	w := newWorld(total, audit.Settings{SearchableDays: 30, Archive: true})
	w.archived, w.cleaned = map[audit.EntryID]bool{}, map[audit.EntryID]bool{}
	until := day.AddDate(0, 0, 50)
	w.tenant.Restored = []audit.Restored{{From: day, To: day.Add(oneDay), Until: until}}
	n := 0
	for id, e := range w.stored {
		e.RestoredUntil, w.archived[id] = until, true
		if n++; n%3 == 0 {
			w.cleaned[id] = true
		}
	}
	w.until(t, until.AddDate(0, 0, 2))
	w.wantMarked(t, total)
	w.tenant.Settings.SearchableDays, w.tenant.UpdatedAt = 90, w.now
	if _, err := w.check(); err != nil { // as retention.Again has it done
		t.Fatal(err)
	}
	w.wantMarked(t, total/3)
	w.until(t, until.AddDate(0, 0, 10))
	w.wantStored(t, total-total/3)
	for id, e := range w.stored {
		if !e.RestoredUntil.IsZero() {
			t.Fatalf("entry %s is restored until %v, want it as one that was never away", id, e.RestoredUntil)
		}
	}
	w.until(t, day.AddDate(0, 0, 100))
	w.wantStored(t, 0)
}

// TestAHoldDoesNotShowWhatWasRestored: what a cleanup had removed leaves the index at the end of its restore, though a
// legal hold keeps it. It is removed after the release, also if other restores came since then.
func TestAHoldDoesNotShowWhatWasRestored(t *testing.T) {
	w := newWorld(total, audit.Settings{Archive: true})
	w.archived, w.cleaned = map[audit.EntryID]bool{}, map[audit.EntryID]bool{}
	until := day.AddDate(0, 0, 50)
	w.tenant.Restored = []audit.Restored{{From: day, To: day.Add(oneDay), Until: until}}
	for id, e := range w.stored {
		e.RestoredUntil, w.archived[id], w.cleaned[id] = until, true, true
	}
	w.covers = func(*audit.Entry) bool { return true }
	w.noArchive = errors.New("the archive is unavailable")
	w.now = until
	if _, err := w.checkAgain(1); !errors.Is(err, w.noArchive) {
		t.Errorf("got %v, want %v", err, w.noArchive)
	}
	if len(w.indexed) != total {
		t.Errorf("while nobody knows what was cleaned up %d entries are indexed, want %d", len(w.indexed), total)
	}
	w.noArchive = nil
	w.until(t, until.AddDate(0, 0, 40))
	w.wantStored(t, total)
	w.wantMarked(t, 0)
	if len(w.indexed) != 0 {
		t.Errorf("after the end %d entries are indexed, want none", len(w.indexed))
	}
	other := audit.Restored{From: day.AddDate(0, 0, -9), To: day.AddDate(0, 0, -8), Until: w.now.Add(oneDay)}
	if _, err := w.tenant.AddRestored(other, w.now); err != nil {
		t.Fatal(err)
	}
	w.covers = nil
	w.until(t, w.now.AddDate(0, 0, 10))
	w.wantStored(t, 0)
}

// TestRestoredEntriesStayInTheIndexUntilTheirEnd: the clock of one worker is a day ahead.
func TestRestoredEntriesStayInTheIndexUntilTheirEnd(t *testing.T) {
	w := newWorld(total, audit.Settings{SearchableDays: 30, Archive: true})
	w.archived = map[audit.EntryID]bool{}
	until := day.AddDate(0, 0, 50)
	w.tenant.Restored = []audit.Restored{{From: day, To: day.Add(oneDay), Until: until}}
	for id, e := range w.stored {
		e.RestoredUntil, w.archived[id] = until, true
	}
	w.now, w.ahead = until.AddDate(0, 0, 1).Add(-time.Minute), -oneDay
	found, err := w.checkAgain(1)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.indexed) != total {
		t.Errorf("before the end %d entries are indexed, want %d", len(w.indexed), total)
	}
	if !found.Due.Equal(until) {
		t.Errorf("the day is due at %s, want %s", found.Due, until)
	}
	w.now, w.ahead = until, 0
	if _, err := w.checkAgain(2); err != nil {
		t.Fatal(err)
	}
	w.wantMarked(t, total)
	if len(w.indexed) != 0 {
		t.Errorf("after the end %d entries are indexed, want none", len(w.indexed))
	}
}

// TestWithoutAnArchiveSearchableDaysRemoveNothing until retention does.
func TestWithoutAnArchiveSearchableDaysRemoveNothing(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 100, SearchableDays: 30})
	w.until(t, day.AddDate(0, 0, 100))
	w.wantStored(t, total)
	w.wantMarked(t, 0)
	w.until(t, day.AddDate(0, 0, 110))
	w.wantStored(t, 0)
}

// TestAHoldKeepsWhatIsNotSearchable, also what is archived.
func TestAHoldKeepsWhatIsNotSearchable(t *testing.T) {
	w := newWorld(total, audit.Settings{SearchableDays: 30, Archive: true})
	w.archived = map[audit.EntryID]bool{}
	for id := range w.stored {
		w.archived[id] = true
	}
	w.until(t, day.AddDate(0, 0, 33))
	w.wantMarked(t, total)
	w.covers = func(e *audit.Entry) bool { return e.Action == "user.login" }
	w.until(t, day.AddDate(0, 0, 60))
	w.wantStored(t, total/3)
	w.wantMarked(t, 0)
}

// TestMoreSearchableDaysWin at any time before an entry is gone.
func TestMoreSearchableDaysWin(t *testing.T) {
	for days := 31; days < 38; days++ {
		w := newWorld(total, audit.Settings{SearchableDays: 30, Archive: true})
		w.archived = map[audit.EntryID]bool{}
		for id := range w.stored {
			w.archived[id] = true
		}
		w.keptBy(t, days, 300, &w.tenant.Settings.SearchableDays)
	}
}

// state is what decides what may leave the store, since a time.
type state struct {
	since    time.Time
	settings audit.Settings
	held     bool // the logins
	archived map[audit.EntryID]bool
}

// mayLeave says by the rules, without the code under test, whether an entry may be marked at a time.
func (s *state) mayLeave(e *audit.Entry, at time.Time) bool {
	age := at.Sub(e.Timestamp)
	past := func(days int) bool { return days > 0 && age >= time.Duration(days)*oneDay }
	days := s.settings.RetentionDays
	for i := len(s.settings.RetentionRules) - 1; i >= 0; i-- { // the first one that matches wins
		if rule := s.settings.RetentionRules[i]; rule.Action == e.Action && e.SubmittedBy != audit.SubmittedByService {
			days = rule.Days
		}
	}
	switch {
	case s.held && e.Action == "user.login":
		return false
	case s.settings.Archive:
		return s.archived[e.ID] && (past(days) || past(s.settings.SearchableDays) && age > time.Duration(s.settings.SearchableDays)*oneDay)
	}
	return past(days)
}

// TestRandomHistories changes settings with rules, holds and the archive at random times. An entry that is gone could
// leave for the whole of its last days. One that could leave for longer than the grace is gone.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomHistory(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func randomHistory(t *testing.T, r *rand.Rand) {
	w := newWorld(60, audit.Settings{})
	w.archived = map[audit.EntryID]bool{}
	all := map[audit.EntryID]audit.Entry{}
	for id, e := range w.stored {
		all[id] = e.Entry
	}
	gone := map[audit.EntryID]bool{}
	var history []state
	archived := map[audit.EntryID]bool{}
	for range 40 {
		next := state{since: w.now, archived: map[audit.EntryID]bool{}, held: r.IntN(4) == 0}
		next.settings.RetentionDays = []int{0, 20, 40, 400}[r.IntN(4)]
		next.settings.SearchableDays = []int{0, 1, 10, 30, 60}[r.IntN(5)]
		next.settings.Archive = r.IntN(3) > 0
		for range r.IntN(4) {
			rule := audit.RetentionRule{Action: []string{"user.login", "VIEW", "none"}[r.IntN(3)], Days: []int{0, 10, 30, 90, 400}[r.IntN(5)]}
			next.settings.RetentionRules = append(next.settings.RetentionRules, rule)
		}
		for id := range all {
			if archived[id] = archived[id] || r.IntN(6) == 0; archived[id] {
				next.archived[id] = true
			}
		}
		w.tenant.Settings, w.tenant.UpdatedAt, w.archived = next.settings, w.now, next.archived
		w.covers = nil
		if next.held {
			w.covers = func(e *audit.Entry) bool { return e.Action == "user.login" }
		}
		history = append(history, next)
		w.until(t, w.now.Add(time.Duration(1+r.IntN(10*24))*time.Hour)) // the day was touched
		for id, e := range all {
			isGone := w.stored[id] == nil
			if isGone && !gone[id] {
				// It went since the last change, when it could have left for seven days.
				if !leftEver(history, &e, w.now) {
					t.Errorf("at %v entry %s is gone, want it kept", w.now, id)
				}
			}
			gone[id] = isGone
			if last := history[len(history)-1]; !isGone && w.now.Sub(last.since) > 9*oneDay && last.mayLeave(&e, w.now.Add(-9*oneDay)) {
				t.Errorf("at %v entry %s is stored, want it gone by %+v", w.now, id, last.settings)
			}
		}
	}
}

// leftEver reports whether at some time since the last change the entry could have left for the whole
// grace before.
func leftEver(history []state, e *audit.Entry, now time.Time) bool {
	const grace = 7 * oneDay
	last := history[len(history)-1]
	for at := last.since; !at.After(now); at = at.Add(time.Hour) {
		could := true
		for i := range history {
			end := at
			if i+1 < len(history) && history[i+1].since.Before(end) {
				end = history[i+1].since
			}
			begin := history[i].since
			if earliest := at.Add(-grace); begin.Before(earliest) {
				begin = earliest
			}
			if begin.Before(end) && !history[i].mayLeave(e, begin) {
				could = false
			}
		}
		if could && history[0].since.Before(at.Add(-grace)) {
			return true
		}
	}
	return false
}
