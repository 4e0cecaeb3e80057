package search_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const acme = audit.TenantID("acme")

var (
	day = time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	now = day.Add(36 * time.Hour)
)

// entrySet is a store or an index with the entries of one tenant.
type entrySet struct {
	entries map[audit.EntryID]audit.Entry
	err     error
}

func newEntrySet(entries ...audit.Entry) *entrySet {
	s := &entrySet{entries: map[audit.EntryID]audit.Entry{}}
	for _, e := range entries {
		s.entries[e.ID] = e
	}
	return s
}

func (s *entrySet) IDs(_ context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	if tenant != acme {
		return nil, errors.New("another tenant was asked for")
	}
	var ids []audit.EntryID
	for id, e := range s.entries {
		if !e.Timestamp.Before(from) && e.Timestamp.Before(to) && bytes.Compare(id[:], after[:]) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b audit.EntryID) int { return bytes.Compare(a[:], b[:]) })
	return ids[:min(limit, 7, len(ids))], s.err // shorter than what was asked for, as a lister may be
}

func (s *entrySet) Count(_ context.Context, _ audit.TenantID, from, to time.Time) (n int64, err error) {
	for _, e := range s.entries {
		if !e.Timestamp.Before(from) && e.Timestamp.Before(to) {
			n++
		}
	}
	return n, s.err
}

func (s *entrySet) EntriesByID(_ context.Context, _ audit.TenantID, ids []audit.EntryID) (found []audit.Entry, err error) {
	for _, id := range ids {
		if e, has := s.entries[id]; has {
			found = append(found, e)
		}
	}
	return found, nil
}

// reader reads entries, of which some are gone since they were listed.
type reader struct {
	*entrySet
	gone map[audit.EntryID]bool
}

func (r reader) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	left := slices.DeleteFunc(slices.Clone(ids), func(id audit.EntryID) bool { return r.gone[id] })
	return r.entrySet.EntriesByID(ctx, tenant, left)
}

type queue struct {
	bodies []string
	err    error
}

func (q *queue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	q.bodies = append(q.bodies, bodies...)
	return q.err
}

// sent returns the ids of what is in the queue.
func (q *queue) sent(t *testing.T) []audit.EntryID {
	t.Helper()
	var ids []audit.EntryID
	for _, body := range q.bodies {
		contents, err := envelope.Unpack(body)
		if err != nil {
			t.Fatal(err)
		} else if contents.Tenant != acme {
			t.Fatalf("got a message of %s, want one of %s", contents.Tenant, acme)
		}
		for _, e := range contents.Entries {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func storedEntry(n int, at, received time.Time) audit.Entry {
	var random [10]byte
	binary.BigEndian.PutUint32(random[6:], uint32(n))
	return audit.Entry{
		ID: audit.NewEntryID(at, random), Tenant: acme, UserID: "ann", Action: "CREATE", ResourceType: "order", Timestamp: at, ReceivedAt: received,
	}
}

// entriesOfDay are 1,000 entries of the day, four to a millisecond, received a second later.
func entriesOfDay() []audit.Entry {
	entries := make([]audit.Entry, 1000)
	for i := range entries {
		at := day.Add(time.Duration(i/4) * time.Millisecond)
		entries[i] = storedEntry(i, at, at.Add(time.Second))
	}
	return entries
}

func newReconciler(store, index *entrySet, q *queue) *search.Reconciler {
	return &search.Reconciler{Store: store, Index: index, Reader: store, Queue: q, Grace: time.Hour, Now: func() time.Time { return now }}
}

func TestReconcileRepairsWhatIsMissing(t *testing.T) {
	entries := entriesOfDay()
	store, index := newEntrySet(entries...), newEntrySet(entries...)
	var missing []audit.EntryID
	for i, e := range entries {
		if i%3 == 0 || i > 990 {
			missing = append(missing, e.ID)
			delete(index.entries, e.ID)
		}
	}
	q := &queue{}
	got, err := newReconciler(store, index, q).Reconcile(t.Context(), &audit.Tenant{ID: acme}, day.Add(17*time.Hour))
	want := search.Reconciliation{
		Tenant: acme, Day: day, Stored: 1000, Indexed: 1000 - int64(len(missing)), Repaired: int64(len(missing)),
		Lag: now.Sub(entries[0].ReceivedAt),
	}
	if err != nil {
		t.Fatal(err)
	} else if got != want {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
	if sent := q.sent(t); !slices.Equal(sent, missing) {
		t.Fatalf("%d entries were sent, want the %d that are missing", len(sent), len(missing))
	}
}

func TestReconcileCounts(t *testing.T) {
	early, late := storedEntry(1, day, day.Add(time.Second)), storedEntry(2, day.Add(24*time.Hour-time.Millisecond), now.Add(-time.Minute))
	before, after := storedEntry(3, day.Add(-time.Millisecond), day), storedEntry(4, day.Add(24*time.Hour), day)
	for name, c := range map[string]struct {
		store, index *entrySet
		gone         audit.EntryID
		want         search.Reconciliation
	}{
		"nothing":           {newEntrySet(), newEntrySet(), audit.EntryID{}, search.Reconciliation{}},
		"all there":         {newEntrySet(early, late), newEntrySet(early, late), audit.EntryID{}, search.Reconciliation{Stored: 2, Indexed: 2}},
		"on its way":        {newEntrySet(early, late), newEntrySet(early), audit.EntryID{}, search.Reconciliation{Stored: 2, Indexed: 1, Pending: 1, Lag: time.Minute}},
		"empty index":       {newEntrySet(early), newEntrySet(), audit.EntryID{}, search.Reconciliation{Stored: 1, Repaired: 1, Lag: 36*time.Hour - time.Second}},
		"only in the index": {newEntrySet(), newEntrySet(early, late), audit.EntryID{}, search.Reconciliation{Extra: 2}},
		"removed meanwhile": {newEntrySet(early, late), newEntrySet(late), early.ID, search.Reconciliation{Stored: 1, Indexed: 1}},
		"other days":        {newEntrySet(before, after), newEntrySet(), audit.EntryID{}, search.Reconciliation{}},
	} {
		r := newReconciler(c.store, c.index, &queue{})
		r.Reader = reader{c.store, map[audit.EntryID]bool{c.gone: true}}
		c.want.Tenant, c.want.Day = acme, day
		if got, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, day); err != nil {
			t.Error(err)
		} else if got != c.want {
			t.Errorf("%s: got %+v\nwant %+v", name, got, c.want)
		}
	}
}

// TestReconcileLeavesOutWhatIsAboutToBeRemoved: retention has removed entries from the index.
func TestReconcileLeavesOutWhatIsAboutToBeRemoved(t *testing.T) {
	entries := entriesOfDay()
	repaired := search.Reconciliation{Tenant: acme, Day: day, Stored: 1000, Indexed: 990, Repaired: 10, Lag: 36 * time.Hour}
	left := search.Reconciliation{Tenant: acme, Day: day, Stored: 1000, Indexed: 990, Expired: 10}
	for name, test := range map[string]struct {
		settings audit.Settings
		want     search.Reconciliation
	}{
		"kept":                              {audit.Settings{}, repaired},
		"expired":                           {audit.Settings{RetentionDays: 1}, left},
		"not searchable":                    {audit.Settings{SearchableDays: 1}, repaired},
		"not searchable, with an archive":   {audit.Settings{SearchableDays: 1, Archive: true}, left},
		"not searchable for less than that": {audit.Settings{SearchableDays: 2, Archive: true}, repaired},
	} {
		store, index, q := newEntrySet(entries...), newEntrySet(entries...), &queue{}
		for i := range 10 {
			delete(index.entries, entries[i].ID)
		}
		r := newReconciler(store, index, q)
		r.Now = func() time.Time { return day.AddDate(0, 0, 3).Add(time.Hour) }
		tenant := audit.Tenant{ID: acme, Settings: test.settings}
		got, err := r.Reconcile(t.Context(), &tenant, day)
		if err != nil {
			t.Fatal(err)
		}
		want := test.want
		if want.Lag > 0 {
			want.Lag = r.Now().Sub(entries[0].ReceivedAt)
		}
		if got != want {
			t.Errorf("%s: got %+v\nwant %+v", name, got, want)
		}
	}
}

func TestReconcileFails(t *testing.T) {
	entries := entriesOfDay()
	failure := errors.New("down")
	for name, harm := range map[string]func(store, index *entrySet, q *queue){
		"store": func(store, _ *entrySet, _ *queue) { store.err = failure },
		"index": func(_, index *entrySet, _ *queue) { index.err = failure },
		"queue": func(_, _ *entrySet, q *queue) { q.err = failure },
	} {
		store, index, q := newEntrySet(entries...), newEntrySet(entries[:10]...), &queue{}
		harm(store, index, q)
		got, err := newReconciler(store, index, q).Reconcile(t.Context(), &audit.Tenant{ID: acme}, day)
		if !errors.Is(err, failure) {
			t.Errorf("%s: got error %v, want %v", name, err, failure)
		}
		if got.Repaired > 0 {
			t.Errorf("%s: repaired %d entries, want 0", name, got.Repaired)
		}
	}
}

// listings counts the pages of ids that are asked for.
type listings struct {
	*entrySet
	pages int
}

func (l *listings) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	l.pages++
	if to.Sub(from) > time.Hour {
		return nil, errors.New("more than an hour was listed")
	}
	return l.entrySet.IDs(ctx, tenant, from, to, after, limit)
}

// TestReconcileListsOnlyWhatDiffers: a day with many entries of which one is missing. Ids are
// listed of its hour alone, and of no hour once it is indexed.
func TestReconcileListsOnlyWhatDiffers(t *testing.T) {
	const perHour = 500
	var entries []audit.Entry
	for i := range 24 * perHour {
		at := day.Add(time.Duration(i) * time.Hour / perHour)
		entries = append(entries, storedEntry(i, at, at.Add(time.Second)))
	}
	store, index, q := &listings{entrySet: newEntrySet(entries...)}, &listings{entrySet: newEntrySet(entries...)}, &queue{}
	missing := entries[13*perHour+7]
	delete(index.entries, missing.ID)
	r := &search.Reconciler{Store: store, Index: index, Reader: store, Queue: q, Grace: time.Hour, Now: func() time.Time { return now }}
	got, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, day)
	if err != nil {
		t.Fatal(err)
	}
	if got.Stored != int64(len(entries)) {
		t.Errorf("%d entries are stored, want %d", got.Stored, len(entries))
	}
	if got.Repaired != 1 {
		t.Errorf("%d entries are repaired, want 1", got.Repaired)
	}
	if sent := q.sent(t); !slices.Equal(sent, []audit.EntryID{missing.ID}) {
		t.Errorf("sent %v, want the one that is missing", sent)
	}
	if most := 2 * (perHour/7 + 2); store.pages+index.pages > most {
		t.Errorf("asked for %d pages of ids, want at most %d: those of one hour", store.pages+index.pages, most)
	}
	index.entries[missing.ID] = missing
	store.pages, index.pages = 0, 0
	if _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, day); err != nil {
		t.Fatal(err)
	}
	if pages := store.pages + index.pages; pages != 0 {
		t.Errorf("asked for %d pages of ids although the counts are equal, want 0", pages)
	}
}
