package search_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// world is a store, an index, a list of tenants and what was published.
type world struct {
	clock   time.Time
	tenants []audit.Tenant
	// stored has the entries of every tenant, in the order of their ids.
	stored []audit.Entry
	// list is asked before each list of ids.
	list func(ctx context.Context, tenant audit.TenantID) error

	mu        sync.Mutex
	published []search.Reconciliation
	log       strings.Builder
}

func (w *world) List(_ context.Context, only []audit.TenantID, after audit.TenantID, limit int) ([]audit.Tenant, bool, error) {
	from := slices.IndexFunc(w.tenants, func(t audit.Tenant) bool { return t.ID > after })
	if from < 0 || only != nil {
		return nil, false, nil
	}
	page := w.tenants[from:min(from+min(limit, 3), len(w.tenants))]
	return page, from+len(page) < len(w.tenants), nil
}

func (w *world) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	if w.list != nil {
		if err := w.list(ctx, tenant); err != nil {
			return nil, err
		}
	}
	var ids []audit.EntryID
	for _, e := range w.stored {
		if !e.Timestamp.Before(from) && (to.IsZero() || e.Timestamp.Before(to)) && slices.Compare(e.ID[:], after[:]) > 0 && len(ids) < limit {
			ids = append(ids, e.ID)
		}
	}
	return ids, nil
}

func (w *world) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (n int64, err error) {
	if w.list != nil {
		err = w.list(ctx, tenant)
	}
	for _, e := range w.stored {
		if !e.Timestamp.Before(from) && e.Timestamp.Before(to) {
			n++
		}
	}
	return n, err
}

func (w *world) publish(r search.Reconciliation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.published = append(w.published, r)
	return nil
}

const every = 15 * time.Minute

func (w *world) reconcileRun() *search.ReconcileRun {
	return &search.ReconcileRun{
		Reconciler: &search.Reconciler{Store: w, Index: w, Now: func() time.Time { return w.clock }},
		Tenants:    w, Every: every, Publish: w.publish, Log: slog.New(slog.NewJSONHandler(&w.log, nil)),
	}
}

// days returns the days that were published of a tenant, as how long ago they were.
func (w *world) days(tenant audit.TenantID) []int {
	var ago []int
	for _, r := range w.published {
		if r.Tenant == tenant {
			ago = append(ago, int(w.clock.Truncate(24*time.Hour).Sub(r.Day)/(24*time.Hour)))
		}
	}
	return ago
}

func tenant(id audit.TenantID, status audit.TenantStatus, retention int) audit.Tenant {
	t := audit.Tenant{ID: id, Status: status, Settings: audit.DefaultSettings()}
	t.Settings.RetentionDays = retention
	return t
}

// oneEachDay returns an entry for each of the n days before.
func oneEachDay(n int) []audit.Entry {
	var entries []audit.Entry
	for i := n; i >= 0; i-- {
		at := now.AddDate(0, 0, -i)
		entries = append(entries, storedEntry(i, at, at))
	}
	return entries
}

func TestReconcileRunReconcilesEveryTenant(t *testing.T) {
	w := &world{clock: now, stored: oneEachDay(2), tenants: []audit.Tenant{
		tenant("a", audit.TenantActive, 0), tenant("b", audit.TenantSuspended, 365), tenant("c", audit.TenantDeleting, 0),
		tenant("d", audit.TenantActive, 1), tenant("e", audit.TenantActive, 2),
	}}
	if err := w.reconcileRun().Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[audit.TenantID][]int{"a": {0, 1, 2}, "b": {0, 1, 2}, "c": nil, "d": {0, 1}, "e": {0, 1, 2}} {
		if got := w.days(id); !slices.Equal(got, want) {
			t.Errorf("of %s the days %v ago were reconciled, want %v", id, got, want)
		}
	}
	for _, r := range w.published {
		if r.Stored != 1 || r.Indexed != 1 {
			t.Errorf("%+v, want one entry, stored and indexed", r)
		}
	}
	if w.log.Len() > 0 {
		t.Errorf("logged %s", &w.log)
	}
}

func TestReconcileRunOfNothing(t *testing.T) {
	if err := (&world{clock: now}).reconcileRun().Run(t.Context()); err != nil {
		t.Error(err)
	}
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
	if err := w.reconcileRun().Run(t.Context()); err != nil {
		t.Error(err)
	} else if !slices.Equal(w.days("a"), []int{0, 1}) {
		t.Errorf("reconciled %v", w.published)
	}
}

// TestReconcileRunTakesTurnsWithTheOlderDays: however many there are, no day waits
// longer than promised, midnights included.
func TestReconcileRunTakesTurnsWithTheOlderDays(t *testing.T) {
	for _, kept := range []int{2, 3, 4, 5, 9, 33, 100, 365} {
		w := &world{clock: now, stored: oneEachDay(kept), tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
		s := w.reconcileRun()
		oldest := now.Truncate(24*time.Hour).AddDate(0, 0, -kept)
		seen := map[time.Time]int{} // the run
		for run := range 6*kept + 200 {
			w.published = nil
			if err := s.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(w.published) != 3 {
				t.Fatalf("%d days were reconciled, want 3", len(w.published))
			}
			seen[w.published[2].Day] = run
			today := w.clock.Truncate(24 * time.Hour)
			for day := oldest; day.Before(today.AddDate(0, 0, -1)); day = day.AddDate(0, 0, 1) {
				older := int(today.Sub(oldest)/(24*time.Hour)) - 1
				// A day that has just become an older one has not been waiting before.
				became := int(day.AddDate(0, 0, 2).Sub(now) / every)
				if waits := run - max(seen[day], became); waits > 2*older {
					t.Fatalf("of %d older days, that of %s waits for %d runs", older, day.Format(time.DateOnly), waits)
				}
			}
			w.clock = w.clock.Add(every)
		}
	}
}

func TestReconcileRunGoesOnWhereOneTenantFails(t *testing.T) {
	w := &world{clock: now, stored: oneEachDay(2)}
	for i := range 20 {
		w.tenants = append(w.tenants, tenant(audit.TenantID(fmt.Sprintf("t%02d", i)), audit.TenantActive, 0))
	}
	w.list = func(_ context.Context, tenant audit.TenantID) error {
		if tenant == "t03" || tenant == "t04" {
			return errors.New("the store is down")
		}
		return nil
	}
	err := w.reconcileRun().Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "2 of 20 tenants failed") {
		t.Errorf("error %v", err)
	}
	if len(w.published) != 18*3 {
		t.Errorf("%d days were reconciled, want %d", len(w.published), 18*3)
	}
	if log := w.log.String(); strings.Count(log, "\n") != 2 || !strings.Contains(log, `"tenant":"t03"`) || !strings.Contains(log, "the store is down") {
		t.Errorf("logged %s", log)
	}
}

func TestReconcileRunSaysThatItsResultIsNotPublished(t *testing.T) {
	w := &world{clock: now, tenants: []audit.Tenant{tenant("a", audit.TenantActive, 0)}}
	s := w.reconcileRun()
	s.Publish = func(search.Reconciliation) error { return errors.New("closed") }
	if err := s.Run(t.Context()); err == nil || !strings.Contains(w.log.String(), "closed") {
		t.Errorf("%v, logged %s", err, &w.log)
	}
}

// TestReconcileRunGivesEveryTenantATurn: one tenant takes all the time of a run, and
// the time is too short for the others; still each is reconciled after a few runs.
func TestReconcileRunGivesEveryTenantATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{clock: now}
		const tenants = 40
		for i := range tenants {
			w.tenants = append(w.tenants, tenant(audit.TenantID(fmt.Sprintf("t%02d", i)), audit.TenantActive, 0))
		}
		w.list = func(ctx context.Context, tenant audit.TenantID) error {
			wait := 12 * time.Second // five lists for each
			if tenant == "t07" {
				wait = time.Hour
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
				return nil
			}
		}
		for range tenants {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			if err := w.reconcileRun().Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v, want that the time ran out", err)
			}
			cancel()
			w.clock = w.clock.Add(every)
		}
		for i := range tenants {
			id := audit.TenantID(fmt.Sprintf("t%02d", i))
			if n := len(w.days(id)); (n < 2*tenants/2) != (id == "t07") {
				t.Errorf("%s was reconciled for %d days in %d runs", id, n, tenants)
			}
		}
		if w.log.Len() > 0 {
			t.Errorf("logged %s", &w.log)
		}
	})
}
