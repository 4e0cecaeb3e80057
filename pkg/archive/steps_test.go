package archive_test

import (
	"context"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// slowStore returns few ids at a time, and takes long for them. Meanwhile others work too.
type slowStore struct {
	archive.Store
	w         *world
	takes     time.Duration
	meanwhile func()
	calls     int
}

// slowPage is how many ids a slowStore returns.
const slowPage = 5

func (s *slowStore) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	s.calls++
	s.w.Time = s.w.Time.Add(s.takes)
	s.meanwhile()
	return s.Store.IDs(ctx, tenant, from, to, after, min(limit, slowPage))
}

// TestAJobSavesWhatItHasCompared: late entries follow to a day whose comparison takes several slices. The first is in
// the middle of the day, the second at its end.
func TestAJobSavesWhatItHasCompared(t *testing.T) {
	w := newWorld(t)
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), largeDay)
	w.until(date(3, 5, 12))
	w.wantJobs("before the late entries", 1)
	w.store(date(3, 4, 13), 1)
	w.store(date(3, 4, 23).Add(59*time.Minute), 1)
	resent := 0
	slow := &slowStore{Store: w.DB.Entries(), w: w, takes: time.Minute, meanwhile: func() {
		n, err := w.Service.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		resent += n
	}}
	w.runner.Store = slow
	w.until(date(3, 6, 12))
	w.wantJobs("after the late entries", 2)
	w.wantArchived("after the late entries", []string{"2026-03"}, all)
	if resent > 0 {
		t.Errorf("the job stood still %d times, want never", resent)
	}
	// All pages, one that tells the end, and a few again: from the last save before each part.
	if most := (largeDay+2)/slowPage + 8; slow.calls > most {
		t.Errorf("%d pages of ids were read, want %d at most", slow.calls, most)
	}
	if slow.calls < largeDay/slowPage {
		t.Errorf("%d pages of ids were read: the job was not slow", slow.calls)
	}
}

// TestADayIsComparedInSteps: comparing it takes longer than a task may, and longer than a day is claimed. Nobody begins
// with it a second time.
func TestADayIsComparedInSteps(t *testing.T) {
	for name, touched := range map[string]bool{"as it was": false, "touched meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Time = date(3, 4, 12)
			w.store(date(3, 4, 0), largeDay)
			w.until(date(3, 5, 12))
			w.wantJobs("before the comparison", 1)
			tasks := 0
			w.plan.Share = func(ctx context.Context, tenant audit.TenantID, days []activity.DueDay) error {
				tasks++
				return w.share(ctx, tenant, days)
			}
			slow := &slowStore{Store: w.DB.Entries(), w: w, takes: 10 * time.Minute}
			slow.meanwhile = func() {
				if slow.calls == 2 && touched {
					receipt := activity.Receipt{Received: w.Time.Truncate(oneDay), Day: date(3, 4, 0)}
					if err := w.DB.Activity().Touch(t.Context(), acme, []activity.Receipt{receipt}, w.Time); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.plan.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			w.planner.Store = slow
			for tasks == 0 {
				w.Time = w.Time.Add(time.Hour)
				w.run()
			}
			if tasks != 1 {
				t.Errorf("the day was shared out %d times, want once", tasks)
			}
			if want := largeDay/slowPage + 1; slow.calls != want { // the last finds the end
				t.Errorf("%d pages of ids were read, want %d", slow.calls, want)
			}
			due, _, err := w.DB.Activity().DueAt(t.Context(), activity.Day{Work: activity.Archive, Tenant: acme, Receipt: activity.Receipt{Day: date(3, 4, 0)}})
			if err != nil {
				t.Fatal(err)
			}
			// The check does not end the claim of a day that was touched. That of a check that goes on is two hours.
			if soon := due.Before(w.Time.Add(2 * time.Hour)); soon != touched {
				t.Errorf("the day is due at %s, it is %s: soon %t, want %t", due, w.Time, soon, touched)
			}
		})
	}
}

// TestEveryDayOfATaskGetsItsTurn: the time of a task is up after each page.
func TestEveryDayOfATaskGetsItsTurn(t *testing.T) {
	w := february(t)
	w.planner.Store = &slowStore{Store: w.DB.Entries(), w: w, takes: time.Minute, meanwhile: func() {}}
	w.until(date(3, 1, 6))
	w.wantJobs("after the month", 1)
	w.wantArchived("after the month", []string{"2026-02"}, all)
	w.until(date(3, 4, 0)) // two comparisons of each day find nothing
	for _, day := range []int{1, 14, 15, 28} {
		due, _, err := w.DB.Activity().DueAt(t.Context(), activity.Day{Work: activity.Archive, Tenant: acme, Receipt: activity.Receipt{Day: date(2, day, 0)}})
		if err != nil {
			t.Fatal(err)
		}
		if due.Before(date(5, 1, 0)) {
			t.Errorf("day %d is due at %s, want it to be due after its retention", day, due)
		}
	}
}

// TestMoreDaysThanARunSharesOut: the workers share out the rest, so that nothing waits for the next hour.
func TestMoreDaysThanARunSharesOut(t *testing.T) {
	w := february(t)
	w.plan.MaxShared = 1
	w.until(date(3, 1, 4))
	w.wantArchived("after the first run", []string{"2026-02"}, all)
	w.wantJobs("after the first run", 1)
}

// TestDaysThatWaitForTheirMonthAreDueTogether: a task has all of them.
func TestDaysThatWaitForTheirMonthAreDueTogether(t *testing.T) {
	w := february(t)
	w.until(date(3, 1, 2))
	var first time.Time
	for _, day := range []int{1, 14, 15} {
		due, _, err := w.DB.Activity().DueAt(t.Context(), activity.Day{Work: activity.Archive, Tenant: acme, Receipt: activity.Receipt{Day: date(2, day, 0)}})
		if err != nil {
			t.Fatal(err)
		}
		if first.IsZero() {
			first = due
		}
		if !due.Equal(first) || due.Before(date(3, 1, 3)) || !due.Before(date(3, 1, 4)) {
			t.Errorf("day %d is due at %s, want the time of the others, %s, in the hour after the month has settled", day, due, first)
		}
	}
}
