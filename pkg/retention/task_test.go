package retention_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

const (
	acme   = audit.TenantID("acme")
	oneDay = 24 * time.Hour
)

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// world is a store and an index with one tenant. Its ports fail when it has made as many writes
// as mayWrite.
type world struct {
	now       time.Time     // of the worker
	ahead     time.Duration // of the store's clock
	tenant    audit.Tenant
	stored    map[audit.EntryID]*retention.Entry
	indexed   map[audit.EntryID]bool
	mayWrite  int
	published []retention.Result
	spaceAsks int
	covers    func(*audit.Entry) bool // what a legal hold covers; nil: there is none
	refused   []audit.Entry           // in quarantine
	archived  map[audit.EntryID]bool
	others    map[audit.EntryID]bool // of which the archive has other content
	cleaned   map[audit.EntryID]bool
	noArchive error         // of looks at the archive
	step      time.Duration // > 0: the time of a check is up after each page, and the next step begins this much later
	pages     int
	onPage    func() // nil: nothing
	// looked and marking, if they are set, are called once: after a worker has looked at settings and holds, and
	// while it marks.
	looked, marking func()
}

// once calls what is set, and not again.
func once(f *func()) {
	if do := *f; do != nil {
		*f = nil
		do()
	}
}

var errKilled = errors.New("killed")

func newWorld(entries int, settings audit.Settings) *world {
	w := &world{
		now: day.AddDate(0, 0, 2), stored: map[audit.EntryID]*retention.Entry{}, indexed: map[audit.EntryID]bool{}, mayWrite: 1 << 30,
		tenant: audit.Tenant{ID: acme, Status: audit.TenantActive, Settings: settings},
	}
	for i := range entries {
		w.add(i, day.Add(time.Duration(i)*oneDay/time.Duration(entries)))
	}
	return w
}

// add stores an entry. Every third is a login, every tenth is the service's own.
func (w *world) add(n int, at time.Time) {
	var random [10]byte
	binary.BigEndian.PutUint32(random[6:], uint32(n))
	e := audit.Entry{ID: audit.NewEntryID(at, random), Timestamp: audit.NewEntryID(at, random).Time(), Action: "VIEW"}
	if n%3 == 0 {
		e.Action = "user.login"
	}
	if n%10 == 0 {
		e.SubmittedBy = audit.SubmittedByService
	}
	w.stored[e.ID], w.indexed[e.ID] = &retention.Entry{Entry: e}, true
}

func (w *world) storeNow() time.Time { return w.now.Add(w.ahead) }

func (w *world) write() error {
	if w.mayWrite--; w.mayWrite < 0 {
		return errKilled
	}
	return nil
}

func (w *world) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) { return w.tenant, nil }

func (w *world) Retained(_ context.Context, _ audit.TenantID, of retention.Selection, limit int) (found []retention.Entry, err error) {
	w.pages++
	if w.onPage != nil {
		w.onPage()
	}
	once(&w.looked)
	ids := slices.SortedFunc(maps.Keys(w.stored), func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		e := *w.stored[id]
		if e.Timestamp.Before(of.From) || !e.Timestamp.Before(of.To) || slices.Compare(id[:], of.After[:]) <= 0 || of.Marked && e.DeletableAt.IsZero() {
			continue
		}
		if !e.DeletableAt.IsZero() {
			e.DeletableAt = e.DeletableAt.Add(-w.ahead)
		}
		if found = append(found, e); len(found) == min(limit, 50) {
			break
		}
	}
	return found, nil
}

func (w *world) Mark(_ context.Context, _ audit.TenantID, ids []audit.EntryID, after time.Duration) error {
	once(&w.marking)
	for _, id := range ids {
		if err := w.write(); err != nil {
			return err
		}
		if e := w.stored[id]; e != nil && e.DeletableAt.IsZero() {
			e.DeletableAt = w.storeNow().Add(after)
		}
	}
	return nil
}

func (w *world) Unmark(_ context.Context, _ audit.TenantID, ids []audit.EntryID) error {
	for _, id := range ids {
		if err := w.write(); err != nil {
			return err
		}
		if e := w.stored[id]; e != nil {
			e.DeletableAt = time.Time{}
		}
	}
	return nil
}

func (w *world) EndRestore(_ context.Context, _ audit.TenantID, ids []audit.EntryID) error {
	for _, id := range ids {
		if err := w.write(); err != nil {
			return err
		}
		if e := w.stored[id]; e != nil && !e.RestoredUntil.IsZero() {
			e.RestoredUntil, e.DeletableAt = time.Time{}, time.Time{}
		}
	}
	return nil
}

func (w *world) RemoveDue(_ context.Context, _ audit.TenantID, ids []audit.EntryID) (n int, err error) {
	for _, id := range ids {
		if err := w.write(); err != nil {
			return n, err
		}
		if e := w.stored[id]; e != nil && !e.DeletableAt.IsZero() && !e.DeletableAt.After(w.storeNow()) {
			delete(w.stored, id)
			n++
		}
	}
	return n, nil
}

func (w *world) Remove(_ context.Context, _ audit.TenantID, ids []audit.EntryID) error {
	for _, id := range ids {
		if err := w.write(); err != nil {
			return err
		}
		delete(w.indexed, id)
	}
	return nil
}

func (w *world) held(context.Context, audit.TenantID) (func(*audit.Entry) bool, error) {
	if w.covers == nil {
		return func(*audit.Entry) bool { return false }, nil
	}
	return w.covers, nil
}

func (w *world) archive(context.Context, audit.TenantID, time.Time) (retention.Archived, error) {
	return &archivedDay{w: w}, nil
}

// archivedDay is the archive of the day. It fails unless it is asked for ids in their order.
type archivedDay struct {
	w    *world
	last audit.EntryID
}

func (d *archivedDay) HasID(_ context.Context, id audit.EntryID) (bool, error) {
	if slices.Compare(id[:], d.last[:]) <= 0 {
		return false, fmt.Errorf("asked for %s after %s", id, d.last)
	}
	d.last = id
	return d.w.archived[id], d.w.noArchive
}

func (d *archivedDay) Cleaned(_ context.Context, id audit.EntryID) (bool, error) {
	return d.w.cleaned[id], d.w.noArchive
}

func (d *archivedDay) HasEntry(ctx context.Context, e *audit.Entry) (bool, error) {
	has, err := d.HasID(ctx, e.ID)
	return has && !d.w.others[e.ID], err
}

func (w *world) task() *retention.Task {
	return &retention.Task{
		Store: w, Index: w, Tenants: w, Held: w.held, Clock: func(context.Context) (time.Time, error) { return w.storeNow(), nil }, Now: func() time.Time { return w.now }, RemoveQuarantined: w.removeQuarantined, Archived: w.archive,
		Publish: func(r retention.Result) error { w.published = append(w.published, r); return nil },
		Removed: func(context.Context, audit.TenantID) error { w.spaceAsks++; return nil },
	}
}

// removeQuarantined has pages of one item, in the order of their users.
func (w *world) removeQuarantined(ctx context.Context, _ audit.TenantID, last *string, begin func(context.Context) (func(*audit.Entry) bool, error)) (removed int, err error) {
	items := slices.SortedFunc(slices.Values(w.refused), func(a, b audit.Entry) int { return strings.Compare(a.UserID, b.UserID) })
	for i := range items {
		if items[i].UserID <= *last {
			continue
		}
		goes, err := begin(ctx)
		once(&w.looked)
		if err != nil || goes == nil {
			return removed, err
		}
		if goes(&items[i]) {
			if err := w.write(); err != nil {
				return removed, err
			}
			w.refused = slices.DeleteFunc(w.refused, func(e audit.Entry) bool { return e.UserID == items[i].UserID })
			removed++
		}
		*last = items[i].UserID
	}
	return removed, nil
}

// check checks the day once.
func (w *world) check() (activity.Outcome, error) {
	return w.checkAgain(0)
}

// checkAgain checks the day after a number of checks since it was touched. An error of a step that stopped has no
// effect.
func (w *world) checkAgain(checks int) (activity.Outcome, error) {
	d := activity.Day{Work: activity.Retain, Tenant: acme, Receipt: activity.Receipt{Day: day}, Checks: checks, Until: w.now.Add(time.Minute)}
	if w.step > 0 {
		d.Until = w.now
	}
	for range 1000 {
		found, err := w.task().Check(context.Background(), &w.tenant, d)
		if !found.Stopped {
			return found, err
		}
		text, err := json.Marshal(found.Progress)
		if err == nil {
			d.Progress = activity.Progress{}
			err = json.Unmarshal(text, &d.Progress)
		}
		if err != nil {
			return found, err
		}
		w.now = w.now.Add(w.step)
		d.Until = w.now
	}
	return activity.Outcome{}, errors.New("the check has 1,000 steps, want an end")
}

// until checks the day, which was touched, whenever it is due, until a time. It fails if the index has
// an entry that is not stored.
func (w *world) until(t *testing.T, end time.Time) {
	t.Helper()
	checks := 0
	for range 1000 {
		found, err := w.checkAgain(checks)
		if err != nil {
			t.Fatal(err)
		}
		for id := range w.indexed {
			if w.stored[id] == nil {
				t.Fatalf("at %v entry %s is indexed and not stored", w.now, id)
			}
		}
		if found.Due.IsZero() || found.Due.After(end) {
			w.now = end
			return
		}
		if found.Due.Before(w.now) && w.step == 0 {
			t.Fatalf("due again at %v, want not before %v", found.Due, w.now)
		}
		if found.Due.After(w.now) {
			w.now = found.Due
		}
		w.now, checks = w.now.Add(time.Minute), found.Checks
	}
	t.Fatal("the day was checked 1,000 times, want fewer")
}

func (w *world) wantStored(t *testing.T, want int) {
	t.Helper()
	if got := len(w.stored); got != want {
		t.Errorf("at %v: %d entries are stored, want %d", w.now, got, want)
	}
}

func (w *world) wantMarked(t *testing.T, want int) {
	t.Helper()
	got := 0
	for _, e := range w.stored {
		if !e.DeletableAt.IsZero() {
			got++
		}
	}
	if got != want {
		t.Errorf("at %v: %d entries are marked, want %d", w.now, got, want)
	}
}

const total = 300

// TestAHoldKeepsWhatItCovers sets a hold before and after entries were marked, and releases it.
func TestAHoldKeepsWhatItCovers(t *testing.T) {
	logins := func(e *audit.Entry) bool { return e.Action == "user.login" }
	for name, set := range map[string]time.Time{"before": day.AddDate(0, 0, 30), "after": day.AddDate(0, 0, 32)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(total, audit.Settings{RetentionDays: 30})
			w.until(t, set)
			w.covers = logins
			w.until(t, day.AddDate(0, 0, 50))
			w.wantStored(t, total/3)
			w.wantMarked(t, 0)
			w.covers = nil
			w.until(t, day.AddDate(0, 0, 56))
			w.wantStored(t, total/3) // the grace begins anew
			w.until(t, day.AddDate(0, 0, 60))
			w.wantStored(t, 0)
		})
	}
}

// TestQuarantinedEntriesAreRemovedAfterTheGrace has no stored entry, so only the quarantine makes the
// day due again. A longer retention and a hold come in between.
func TestQuarantinedEntriesAreRemovedAfterTheGrace(t *testing.T) {
	w := newWorld(0, audit.Settings{RetentionDays: 30})
	w.refused = []audit.Entry{
		{UserID: "ann", Timestamp: day.Add(time.Hour)}, {UserID: "bob", Timestamp: day.Add(23 * time.Hour)},
		{UserID: "the day before", Timestamp: day.Add(-time.Millisecond)}, {UserID: "the day after", Timestamp: day.Add(oneDay)},
	}
	want := func(users ...string) {
		t.Helper()
		var got []string
		for _, e := range w.refused {
			got = append(got, e.UserID)
		}
		if diff := cmp.Diff(users, got); diff != "" {
			t.Errorf("at %v (-want +got):\n%s", w.now, diff)
		}
	}
	w.until(t, day.AddDate(0, 0, 37))
	want("ann", "bob", "the day before", "the day after")
	w.tenant.Settings.RetentionDays, w.tenant.UpdatedAt = 40, w.now
	w.until(t, day.AddDate(0, 0, 47))
	want("ann", "bob", "the day before", "the day after")
	w.covers = func(e *audit.Entry) bool { return e.UserID == "ann" }
	w.until(t, day.AddDate(0, 0, 60))
	want("ann", "the day before", "the day after")
	w.covers = nil
	w.until(t, day.AddDate(0, 0, 70))
	want("the day before", "the day after")
}

// TestWhatIsNotArchivedIsNotRemoved: every second entry is archived late.
func TestWhatIsNotArchivedIsNotRemoved(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30, Archive: true})
	w.archived = map[audit.EntryID]bool{}
	w.until(t, day.AddDate(0, 0, 60))
	w.wantStored(t, total)
	w.wantMarked(t, 0)
	n := 0
	for id := range w.stored {
		if n++; n%2 == 0 {
			w.archived[id] = true
		}
	}
	w.until(t, day.AddDate(0, 0, 70))
	w.wantStored(t, total/2)
	w.wantMarked(t, 0)
	for id := range w.stored {
		w.archived[id] = true
	}
	w.until(t, day.AddDate(0, 0, 80))
	w.wantStored(t, 0)
}

// TestAnArchiveThatFailsRemovesNothing: the day is checked again later.
func TestAnArchiveThatFailsRemovesNothing(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30, Archive: true})
	w.now, w.noArchive = day.AddDate(0, 0, 40), errors.New("the archive is unavailable")
	if _, err := w.checkAgain(0); !errors.Is(err, w.noArchive) {
		t.Errorf("got %v, want %v", err, w.noArchive)
	}
	w.wantMarked(t, 0)
}

// TestMarksAreTakenBackWhileNobodyKnowsWhatIsArchived: the store would remove marked entries by itself.
func TestMarksAreTakenBackWhileNobodyKnowsWhatIsArchived(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30})
	w.until(t, day.AddDate(0, 0, 32))
	w.wantMarked(t, total)
	w.tenant.Settings.Archive, w.noArchive = true, errors.New("the archive is unavailable")
	if _, err := w.checkAgain(0); !errors.Is(err, w.noArchive) {
		t.Errorf("got %v, want %v", err, w.noArchive)
	}
	w.wantMarked(t, 0)
	w.wantStored(t, total)
}

// TestTheArchiveIsTurnedOnAndOff: marks of what is not archived are taken back. Without an archive nothing
// is owed.
func TestTheArchiveIsTurnedOnAndOff(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30})
	w.until(t, day.AddDate(0, 0, 32))
	w.wantMarked(t, total)
	w.tenant.Settings.Archive = true
	w.until(t, day.AddDate(0, 0, 50))
	w.wantStored(t, total)
	w.wantMarked(t, 0)
	w.tenant.Settings.Archive = false
	w.until(t, day.AddDate(0, 0, 60))
	w.wantStored(t, 0)
}

func TestExpiredEntriesAreRemovedAfterTheGrace(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30})
	w.until(t, day.AddDate(0, 0, 31).Add(-time.Minute))
	w.wantMarked(t, 0)
	w.now = w.now.Add(2 * time.Minute)
	w.until(t, day.AddDate(0, 0, 38))
	w.wantStored(t, total)
	w.wantMarked(t, total)
	if got := len(w.indexed); got != 0 {
		t.Errorf("%d entries are indexed, want 0 before the store removes them", got)
	}
	w.until(t, day.AddDate(0, 0, 40))
	w.wantStored(t, 0)
	want := []retention.Result{
		{Tenant: acme, Day: day, Marked: total}, {Tenant: acme, Day: day, Removed: total},
	}
	if diff := cmp.Diff(want, w.published); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if w.spaceAsks != 1 {
		t.Errorf("free space was asked for %d times, want once", w.spaceAsks)
	}
	found, err := w.checkAgain(1)
	if err != nil {
		t.Fatal(err)
	}
	if !found.Due.IsZero() {
		t.Errorf("an empty day is due at %v, want not before it is touched", found.Due)
	}
}

func TestRulesDoNotTouchTheServicesOwnEntries(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionRules: []audit.RetentionRule{{Action: "user.login", Days: 10}, {Action: "VIEW", Days: 0}}})
	w.until(t, day.AddDate(1, 0, 0))
	w.wantStored(t, total-total/3+total/30) // logins, but those of the service
	w.wantMarked(t, 0)
}

func TestEachRuleHasItsTime(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 40, RetentionRules: []audit.RetentionRule{{Action: "user.login", Days: 10}}})
	w.until(t, day.AddDate(0, 0, 30))
	w.wantStored(t, total-total/3+total/30)
	w.until(t, day.AddDate(0, 0, 50))
	w.wantStored(t, 0)
}

// TestALongerRetentionWins at any time before an entry is gone.
func TestALongerRetentionWins(t *testing.T) {
	for days := 31; days < 38; days++ {
		w := newWorld(total, audit.Settings{RetentionDays: 30})
		w.keptBy(t, days, 365, &w.tenant.Settings.RetentionDays)
	}
}

// keptBy raises a setting to more days, some days after the day. Its entries stay for as long.
func (w *world) keptBy(t *testing.T, after, longer int, setting *int) {
	t.Helper()
	w.until(t, day.AddDate(0, 0, after).Add(5*time.Minute))
	*setting, w.tenant.UpdatedAt = longer, w.now
	found, err := w.check() // as retention.Again has it done
	if err != nil {
		t.Fatal(err)
	}
	w.wantMarked(t, 0)
	if want := w.now.Add(20 * time.Minute); !found.Due.Equal(want) {
		t.Errorf("after the change the day is due at %v, want %v", found.Due, want)
	}
	w.until(t, day.AddDate(0, 0, longer))
	w.wantStored(t, total)
	w.until(t, day.AddDate(0, 0, longer+10))
	w.wantStored(t, 0)
}

// TestAStaleWorkerDoesNoHarm: it marks by the settings from before a change, after a worker has done
// what the change asks for. The clocks of the workers are up to a day off.
func TestAStaleWorkerDoesNoHarm(t *testing.T) {
	for _, off := range []time.Duration{-oneDay, 0, oneDay} {
		w := newWorld(total, audit.Settings{RetentionDays: 30})
		w.now = day.AddDate(0, 0, 33).Add(off)
		before, changed := w.tenant, w.tenant
		changed.Settings.RetentionDays, changed.UpdatedAt = 90, day.AddDate(0, 0, 33)
		w.tenant = changed
		found, err := w.check()
		if err != nil {
			t.Fatal(err)
		}
		w.tenant = before
		if _, err := w.check(); err != nil {
			t.Fatal(err)
		}
		w.wantMarked(t, total)
		w.tenant, w.now = changed, w.now.Add(20*time.Minute)
		if found.Due.After(w.now) {
			t.Errorf("by a clock that is %v off the day is due after %v, want at most 20 minutes", off, found.Due.Sub(w.now)+20*time.Minute)
		}
		if _, err := w.checkAgain(found.Checks); err != nil {
			t.Fatal(err)
		}
		w.wantMarked(t, 0)
	}
}

// TestAnEntryStoredAfterTheCheckOfItsTouch is found by the next check.
func TestAnEntryStoredAfterTheCheckOfItsTouch(t *testing.T) {
	w := newWorld(0, audit.Settings{RetentionDays: 30})
	w.now = day.AddDate(0, 0, 33)
	found, err := w.check()
	if err != nil {
		t.Fatal(err)
	}
	w.add(1, day.Add(time.Hour))
	if want := w.now.Add(20 * time.Minute); !found.Due.Equal(want) {
		t.Errorf("the day is due again at %v, want %v", found.Due, want)
	}
	w.now = found.Due
	if _, err := w.checkAgain(found.Checks); err != nil {
		t.Fatal(err)
	}
	w.wantMarked(t, 1)
}

func TestAShorterRetentionStillHasTheGrace(t *testing.T) {
	w := newWorld(total, audit.Settings{})
	w.now = day.AddDate(0, 0, 100)
	w.tenant.Settings.RetentionDays = 30
	w.until(t, day.AddDate(0, 0, 107).Add(-time.Minute))
	w.wantStored(t, total)
	w.until(t, day.AddDate(0, 0, 108))
	w.wantStored(t, 0)
}

func TestLateEntriesAreRemovedToo(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30})
	w.until(t, day.AddDate(0, 0, 34))
	w.add(7000, day.Add(time.Hour))
	w.until(t, day.AddDate(0, 0, 39)) // its day was touched
	w.wantStored(t, 1)
	w.until(t, day.AddDate(0, 0, 42))
	w.wantStored(t, 0)
}

// TestKilledAtEveryWrite: the next check continues, with the count as oracle.
func TestKilledAtEveryWrite(t *testing.T) {
	const few, kept = 12, 3              // logins are kept, but that of the service
	for kill := range 4 * (few - kept) { // the others are marked, leave the index twice, and are removed
		w := newWorld(few, audit.Settings{RetentionDays: 30, RetentionRules: []audit.RetentionRule{{Action: "user.login", Days: 60}}})
		w.now, w.mayWrite = day.AddDate(0, 0, 32), kill
		killed := false
		for w.now.Before(day.AddDate(0, 0, 50)) {
			if _, err := w.check(); errors.Is(err, errKilled) {
				killed, w.mayWrite = true, 1<<30
			} else if err != nil {
				t.Fatal(err)
			}
			w.now = w.now.Add(6 * time.Hour)
		}
		if !killed {
			t.Errorf("write %d was not made, want a kill there", kill)
		}
		w.wantStored(t, kept)
		if got := len(w.indexed); got != kept {
			t.Errorf("killed at write %d: %d entries are indexed, want %d", kill, got, kept)
		}
	}
}

// TestClocksADayOff: no entry goes before five days after its end, whatever worker and store believe.
func TestClocksADayOff(t *testing.T) {
	for _, off := range []time.Duration{-oneDay, 0, oneDay} {
		for _, ahead := range []time.Duration{-oneDay, 0, oneDay} {
			w := newWorld(total, audit.Settings{RetentionDays: 30})
			w.ahead = ahead
			w.until(t, day.AddDate(0, 0, 36).Add(off))
			w.wantStored(t, total)
			w.until(t, day.AddDate(0, 0, 42))
			w.wantStored(t, 0)
		}
	}
}

// TestTheQuarantineGoesByTheSharedClock: that of the worker is a day ahead, and nothing marks what goes.
func TestTheQuarantineGoesByTheSharedClock(t *testing.T) {
	w := newWorld(0, audit.Settings{RetentionDays: 30})
	w.ahead = -oneDay
	w.refused = []audit.Entry{{UserID: "ann", Timestamp: day.Add(time.Hour)}}
	w.until(t, day.AddDate(0, 0, 38).Add(time.Minute))
	if got := len(w.refused); got != 1 {
		t.Errorf("less than seven days after its end %d entries are in quarantine, want 1", got)
	}
	w.until(t, day.AddDate(0, 0, 47))
	if got := len(w.refused); got != 0 {
		t.Errorf("later %d entries are in quarantine, want none", got)
	}
}

func TestADeletedTenantIsLeftAlone(t *testing.T) {
	w := newWorld(total, audit.Settings{RetentionDays: 30})
	w.tenant.Status = audit.TenantDeleting
	w.until(t, day.AddDate(1, 0, 0))
	w.wantMarked(t, 0)
}

// register notes what is touched.
type register struct {
	activity.Register
	touched []activity.Work
	due     []activity.Day
}

func (r *register) TouchAll(_ context.Context, work activity.Work, _ audit.TenantID, _ time.Time) error {
	r.touched = append(r.touched, work)
	r.due = []activity.Day{{Work: activity.Retain, Tenant: acme, Receipt: activity.Receipt{Day: day}}}
	return nil
}

func (r *register) DueDays(context.Context, activity.Work, time.Time, int) ([]activity.Day, error) {
	return r.due, nil
}

func (r *register) Claim(context.Context, []activity.Day, time.Time) error {
	r.due = nil
	return nil
}

func TestAChangeSharesOutAtOnce(t *testing.T) {
	r, shared := &register{}, 0
	now := func() time.Time { return day }
	again := &retention.Again{Register: r, Now: now, Plan: &activity.Plan{
		Work: activity.Retain, Register: r, Now: now, Log: slog.New(slog.DiscardHandler),
		Share: func(_ context.Context, _ audit.TenantID, days []activity.DueDay) error {
			shared += len(days)
			return nil
		},
	}}
	if err := again.Do(t.Context(), acme, nil); err != nil {
		t.Fatal(err)
	}
	if want := []activity.Work{activity.Index, activity.Archive, activity.Retain}; !slices.Equal(r.touched, want) {
		t.Errorf("touched %v, want %v", r.touched, want)
	}
	if shared != 1 {
		t.Errorf("shared out %d days, want 1", shared)
	}
}
