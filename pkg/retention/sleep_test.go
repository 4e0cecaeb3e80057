package retention_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// changes are what keeps entries that a worker was about to mark.
func changes() map[string]func(w *world) {
	return map[string]func(w *world){
		"a longer retention": func(w *world) { w.tenant.Settings.RetentionDays, w.tenant.UpdatedAt = 3650, w.now },
		"a legal hold":       func(w *world) { w.covers = func(*audit.Entry) bool { return true } },
	}
}

// removeByItself removes what is marked, as MongoDB does.
func (w *world) removeByItself() {
	for id, e := range w.stored {
		if !e.DeletableAt.IsZero() && !e.DeletableAt.After(w.storeNow()) {
			delete(w.stored, id)
			delete(w.indexed, id)
		}
	}
}

// TestAWorkerThatSleptMarksNothing: it looks, sleeps, and goes on when others have looked for the last time.
func TestAWorkerThatSleptMarksNothing(t *testing.T) {
	for name, change := range changes() {
		for where, at := range map[string]func(w *world) *func(){
			"before it marks":  func(w *world) *func() { return &w.looked },
			"while it marks":   func(w *world) *func() { return &w.marking },
			"by another clock": func(w *world) *func() { return &w.looked },
		} {
			t.Run(name+" "+where, func(t *testing.T) {
				w := newWorld(total, audit.Settings{RetentionDays: 30})
				w.now = day.AddDate(0, 0, 40)
				*at(w) = func() {
					w.now = w.now.Add(time.Minute)
					change(w)
					sleep := retention.SettleTime + time.Minute
					if where == "by another clock" {
						sleep = -sleep // it was put right meanwhile
					}
					w.now = w.now.Add(sleep)
				}
				if _, err := w.check(); err != nil {
					t.Fatal(err)
				}
				w.wantMarked(t, 0)
				w.wantStored(t, total)
			})
		}
	}
}

// TestAWorkerThatSleptTakesNothingFromTheIndex: what was marked days ago is about to leave it, and is kept meanwhile.
func TestAWorkerThatSleptTakesNothingFromTheIndex(t *testing.T) {
	for name, change := range changes() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(total, audit.Settings{RetentionDays: 30})
			w.now = day.AddDate(0, 0, 40)
			if _, err := w.check(); err != nil {
				t.Fatal(err)
			}
			w.wantMarked(t, total)
			w.now = w.now.Add(retention.Grace - oneDay)
			w.looked = func() {
				change(w)
				w.now = w.now.Add(retention.SettleTime)
			}
			if _, err := w.check(); err != nil {
				t.Fatal(err)
			}
			w.wantMarked(t, 0)
			if got := len(w.indexed); got != total {
				t.Errorf("%d entries are in the index, want %d", got, total)
			}
		})
	}
}

// TestWhatAKilledWorkerHasMarkedStays: it looked before the change, slept, marked, and was killed before it could take
// that back. Others looked meanwhile, and the store removes what is marked by itself.
func TestWhatAKilledWorkerHasMarkedStays(t *testing.T) {
	for name, change := range changes() {
		for _, slept := range []time.Duration{time.Minute, 21 * time.Minute, time.Hour, 3 * time.Hour, 5 * oneDay} {
			t.Run(name+" "+slept.String(), func(t *testing.T) {
				w := newWorld(total, audit.Settings{RetentionDays: 30})
				w.now = day.AddDate(0, 0, 40)
				change(w)
				marked, end := w.now.Add(slept), w.now.AddDate(0, 1, 0)
				for checks, killed := 0, false; w.now.Before(end); {
					found, err := w.checkAgain(checks)
					if err != nil {
						t.Fatal(err)
					}
					next := end
					if !found.Due.IsZero() && found.Due.Before(end) {
						next = found.Due.Add(90 * time.Minute) // until the next run, and its task's turn
					}
					if !killed && next.After(marked) {
						killed, w.now = true, marked
						if err := w.Mark(t.Context(), acme, slices.Collect(maps.Keys(w.stored)), retention.Grace); err != nil {
							t.Fatal(err)
						}
					}
					w.now, checks = next, found.Checks
					w.removeByItself()
				}
				w.wantStored(t, total)
				w.wantMarked(t, 0)
			})
		}
	}
}

// TestAWorkerThatSleptRemovesNothingFromTheQuarantine: nothing marks what is there.
func TestAWorkerThatSleptRemovesNothingFromTheQuarantine(t *testing.T) {
	for name, change := range changes() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(0, audit.Settings{RetentionDays: 30})
			w.now = day.AddDate(0, 0, 40)
			w.refused = []audit.Entry{{UserID: "ann", Timestamp: day.Add(time.Hour)}, {UserID: "bob", Timestamp: day.Add(2 * time.Hour)}}
			first := true
			w.looked = func() { // the look at the stored entries, of which there are none
				w.looked = func() {
					first = false
					change(w)
					w.now = w.now.Add(retention.SettleTime + time.Minute)
				}
			}
			if _, err := w.check(); err != nil {
				t.Fatal(err)
			}
			if first {
				t.Fatal("nobody has looked at the quarantine")
			}
			if len(w.refused) != 2 {
				t.Errorf("%d entries are left, want 2", len(w.refused))
			}
		})
	}
}
