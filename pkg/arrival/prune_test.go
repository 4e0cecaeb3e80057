package arrival_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// prune prunes the log of acme and returns when it is due again.
func (w *world) prune() time.Time {
	w.t.Helper()
	tenant := w.tenants["acme"]
	held := func(_ context.Context, _ audit.TenantID, upTo time.Time) (bool, error) {
		if look := w.onHeld; look != nil {
			defer look()
		}
		return !w.heldFrom.IsZero() && !w.heldFrom.After(upTo), nil
	}
	p := &arrival.Pruner{Log: w.db.Arrivals(), Tenants: w.tenants, Held: held, Now: func() time.Time { return w.now }}
	p.Clock = func(context.Context) (time.Time, error) { return w.now.Add(-w.ahead), nil }
	found, err := p.Check(w.t.Context(), &tenant, activity.Day{Work: activity.Prune, Tenant: "acme"})
	if err != nil {
		w.t.Fatal(err)
	}
	return found.Due
}

// TestPruning: by the longest retention and eight days, and never the last segment.
func TestPruning(t *testing.T) {
	for name, test := range map[string]struct {
		settings func(*audit.Settings)
		age      int // days of the first segment when the last one arrives
		want     int64
	}{
		"not yet": {func(s *audit.Settings) { s.RetentionDays = 30 }, 38, 1},
		"due":     {func(s *audit.Settings) { s.RetentionDays = 30 }, 39, 4},
		"a rule": {func(s *audit.Settings) {
			s.RetentionDays, s.RetentionRules = 30, []audit.RetentionRule{{Action: "A", Days: 60}}
		}, 39, 1},
		"for ever": {func(s *audit.Settings) { s.RetentionDays = 0 }, 4000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			record := w.tenants["acme"]
			test.settings(&record.Settings)
			w.tenants["acme"] = record
			w.arrive(w.entry(0, nil), w.entry(0, nil), w.entry(0, nil))
			w.now = w.now.AddDate(0, 0, test.age)
			w.arrive(w.entry(0, nil))
			due := w.prune()
			if got := due.Sub(w.now); got < 24*time.Hour || got > 30*24*time.Hour {
				t.Errorf("the log is due after %s, want after one to 30 days", got)
			}
			w.wantOldest(test.want)
			if head, err := w.db.Arrivals().Head(t.Context(), "acme"); err != nil || head.Last != 4 {
				t.Errorf("head %d (%v), want 4", head.Last, err)
			}
		})
	}
}

// TestPruningGoesByTheSharedClock: that of the worker is a day ahead.
func TestPruningGoesByTheSharedClock(t *testing.T) {
	w := newWorld(t)
	record := w.tenants["acme"]
	record.Settings.RetentionDays = 30
	w.tenants["acme"] = record
	w.arrive(w.entry(0, nil))
	w.now = w.now.AddDate(0, 0, 38).Add(time.Minute)
	w.arrive(w.entry(0, nil))
	w.ahead = 24 * time.Hour
	w.prune()
	w.wantOldest(1)
	w.now = w.now.Add(w.ahead)
	w.prune()
	w.wantOldest(2)
}

// TestPruningWaitsForHolds: what a legal hold can cover keeps its place until a week after the release at most.
func TestPruningWaitsForHolds(t *testing.T) {
	for name, test := range map[string]struct {
		heldFrom time.Time
		want     int64 // the oldest place
	}{
		"of old entries":   {start.AddDate(-1, 0, 0), 1},
		"of later ones":    {start.Add(40 * 24 * time.Hour), 2},
		"of a day in lead": {start.Add(24 * time.Hour), 1}, // the timestamp of an entry can be as much later
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			record := w.tenants["acme"]
			record.Settings.RetentionDays = 30
			w.tenants["acme"] = record
			w.arrive(w.entry(0, nil))
			w.now = w.now.AddDate(0, 0, 38).Add(time.Minute)
			w.arrive(w.entry(0, nil))
			w.heldFrom = test.heldFrom
			due := w.prune()
			w.wantOldest(test.want)
			if test.want > 1 {
				return
			}
			if got, want := due, w.now.AddDate(0, 0, 7); !got.Equal(want) {
				t.Errorf("the log is due at %s, want %s", got, want)
			}
			w.now, w.heldFrom = due, time.Time{}
			w.prune()
			w.wantOldest(2)
		})
	}
}

func (w *world) wantOldest(place int64) {
	w.t.Helper()
	segments, err := w.db.Arrivals().Read(w.t.Context(), "acme", 0, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := segments[0].First; got != place {
		w.t.Errorf("the oldest place is %d, want %d", got, place)
	}
}

// TestPruningOfIdleTenants: a log that does not grow is pruned when its oldest segment is due,
// at the latest 30 days later, and keeps its last segment.
func TestPruningOfIdleTenants(t *testing.T) {
	w := newWorld(t)
	record := w.tenants["acme"]
	record.Settings.RetentionDays = 3
	w.tenants["acme"] = record
	for range 250 { // more than are pruned at once
		w.arrive(w.entry(0, nil))
	}
	w.now = w.now.Add(time.Hour)
	last := w.entry(0, nil)
	w.arrive(last)
	if got, want := w.prune(), start.AddDate(0, 0, 11); !got.Equal(want) {
		t.Errorf("the log is due at %s, want %s", got, want)
	}
	w.now = start.AddDate(0, 0, 11).Add(time.Minute)
	if got, want := w.prune(), w.now.AddDate(0, 0, 1); !got.Equal(want) { // the last one is due in an hour
		t.Errorf("the log is due at %s, want %s", got, want)
	}
	w.now = w.now.AddDate(0, 0, 1)
	if got, want := w.prune(), w.now.AddDate(0, 0, 30); !got.Equal(want) {
		t.Errorf("a log with one segment is due at %s, want %s", got, want)
	}
	segments, err := w.db.Arrivals().Read(t.Context(), "acme", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(segments) != 1 || segments[0].First != 251 {
		t.Errorf("the log is %v, want the segment of place 251 alone", segments)
	}
}

// TestPruningByAnOldLook: the worker sleeps after its first or its second look, and what the tenant keeps changes
// meanwhile.
func TestPruningByAnOldLook(t *testing.T) {
	for name, change := range map[string]func(w *world, s *audit.Settings){
		"a longer retention": func(_ *world, s *audit.Settings) { s.RetentionDays = 365 },
		"a legal hold":       func(w *world, _ *audit.Settings) { w.heldFrom = start.AddDate(-1, 0, 0) },
	} {
		for sleepAt, want := range map[int]int64{1: 1, 2: 101} { // the first round removes 100
			t.Run(fmt.Sprint(name, sleepAt), func(t *testing.T) {
				w := newWorld(t)
				record := w.tenants["acme"]
				record.Settings.RetentionDays = 3
				w.tenants["acme"] = record
				for range 250 {
					w.arrive(w.entry(0, nil))
				}
				w.now = w.now.AddDate(0, 0, 12)
				looks := 0
				w.onHeld = func() {
					if looks++; looks == sleepAt {
						change(w, &record.Settings)
						w.tenants["acme"], w.now = record, w.now.Add(21*time.Minute)
					}
				}
				w.prune()
				w.wantOldest(want)
			})
		}
	}
}
