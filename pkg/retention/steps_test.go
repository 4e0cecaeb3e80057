package retention_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// pagesOfDay are those of a whole day. The last one tells the end.
const pagesOfDay = total/50 + 1

// TestALargeDayIsCheckedInSteps: a rule has ended, so that each check passes entries that stay. Those that leave are
// everywhere in the day.
func TestALargeDayIsCheckedInSteps(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 365, RetentionRules: []audit.RetentionRule{{Action: "VIEW", Days: 30}}})
	w.step = 4 * time.Minute
	w.now = day.AddDate(0, 0, 35)
	began := w.now
	found, err := w.checkAgain(1)
	if err != nil {
		t.Fatal(err)
	}
	const views = total - total/3 - total/10 + total/30 // without those of the service
	w.wantMarked(t, views)
	if w.pages != pagesOfDay {
		t.Errorf("%d pages were read, want %d", w.pages, pagesOfDay)
	}
	if want := began.AddDate(0, 0, 5); !found.Due.Equal(want) {
		t.Errorf("the day is due at %v, want %v: then the first of them leave the index", found.Due, want)
	}
	w.until(t, day.AddDate(0, 0, 50))
	w.wantStored(t, total-views)
	w.until(t, day.AddDate(0, 0, 380))
	w.wantStored(t, 0)
}

// TestQuarantineIsLookedAtInSteps: none of the items that stay is looked at twice.
func TestQuarantineIsLookedAtInSteps(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30})
	w.step = time.Minute
	for i := range 26 {
		e := audit.Entry{UserID: string(rune('a' + i)), Timestamp: day.Add(oneDay)} // of the next day
		if i%2 == 0 {
			e.Timestamp = day
		}
		w.refused = append(w.refused, e)
	}
	w.until(t, day.AddDate(0, 0, 50))
	w.wantStored(t, 0)
	if got, want := len(w.refused), 13; got != want {
		t.Errorf("%d items are left, want the %d of another day", got, want)
	}
}

// TestAChangeDuringACheckOfHours: a worker that goes by the earlier settings marks entries that the check has passed.
func TestAChangeDuringACheckOfHours(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30, RetentionRules: []audit.RetentionRule{{Action: "rare", Days: 10}}})
	w.now = day.AddDate(0, 0, 33)
	before, changed := w.tenant, w.tenant
	changed.Settings.RetentionDays, changed.UpdatedAt = 90, w.now
	w.tenant, w.step = changed, 10*time.Minute
	w.onPage = func() {
		if w.pages != 2 { // the first page is done
			return
		}
		w.tenant, w.step = before, 0
		if _, err := w.checkAgain(1); err != nil {
			t.Error(err)
		}
		w.wantMarked(t, total)
		w.tenant, w.step = changed, 10*time.Minute
	}
	found, err := w.checkAgain(1)
	if err != nil {
		t.Fatal(err)
	}
	w.wantMarked(t, 50)
	if found.Due.After(w.now) {
		t.Errorf("the day is due at %v, want at once: it is %v", found.Due, w.now)
	}
	if _, err := w.checkAgain(found.Checks); err != nil {
		t.Fatal(err)
	}
	w.wantMarked(t, 0)
}

// TestMarksAreTakenBackInSteps: the archive is unavailable during all of them.
func TestMarksAreTakenBackInSteps(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30})
	w.until(t, day.AddDate(0, 0, 32))
	w.wantMarked(t, total)
	w.tenant.Settings.Archive, w.noArchive, w.step = true, errors.New("the archive is unavailable"), time.Minute
	found, err := w.checkAgain(1)
	if err != nil {
		t.Fatal(err)
	}
	w.wantMarked(t, 0)
	w.wantStored(t, total)
	if latest := w.now.Add(oneDay); found.Due.IsZero() || found.Due.After(latest) {
		t.Errorf("the day is due at %v, want at %v at the latest", found.Due, latest)
	}
}

// TestWhatAWorkerThatSleptPassedIsLookedAtAgain: in the quarantine, where nothing else has the day checked again.
func TestWhatAWorkerThatSleptPassedIsLookedAtAgain(t *testing.T) {
	w := newWorld(0, audit.Settings{RetentionDays: 30})
	w.now = day.AddDate(0, 0, 40)
	w.refused = []audit.Entry{{UserID: "ann", Timestamp: day.Add(time.Hour)}, {UserID: "bob", Timestamp: day.Add(2 * time.Hour)}}
	w.looked = func() { // the look at the stored entries, of which there are none
		w.looked = func() { w.now = w.now.Add(time.Hour) }
	}
	found, err := w.checkAgain(1)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.refused) == 0 {
		t.Fatal("an entry was removed by an old look")
	}
	if found.Due.IsZero() || found.Due.After(w.now) {
		t.Errorf("the day is due at %v, want at once: it is %v", found.Due, w.now)
	}
	if _, err := w.checkAgain(found.Checks); err != nil {
		t.Fatal(err)
	}
	if len(w.refused) > 0 {
		t.Errorf("%d entries are left, want none", len(w.refused))
	}
}
