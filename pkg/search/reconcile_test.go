package search_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const acme = audit.TenantID("acme")

var (
	day = time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	now = day.Add(36 * time.Hour)

	theDay = activity.Day{Receipt: activity.Receipt{Day: day}} // with all the time that it needs
)

// entrySet is a store or an index with the entries of one tenant.
type entrySet struct {
	entries map[audit.EntryID]audit.Entry
	err     error
	page    int // ids; zero: 7
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
	return ids[:min(limit, cmp.Or(s.page, 7), len(ids))], s.err // shorter than what was asked for, as a lister may be
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

func (s *entrySet) Remove(_ context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	if tenant != acme {
		return errors.New("entries of another tenant were removed")
	}
	for _, id := range ids {
		delete(s.entries, id)
	}
	return s.err
}

// reader reads entries, of which some are gone since they were listed. It counts what is asked for together.
type reader struct {
	*entrySet
	gone map[audit.EntryID]bool
	most *int
}

func (r reader) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	if r.most != nil {
		*r.most = max(*r.most, len(ids))
	}
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
	return &search.Reconciler{Store: store, Index: index, Reader: store, Queue: q, Remover: index, Refused: refused{}, Grace: time.Hour, Now: func() time.Time { return now }}
}

// refused is a quarantine with entries that the index has refused.
type refused map[audit.EntryID]bool

func (r refused) HasAny(_ context.Context, tenant audit.TenantID) (bool, error) {
	return tenant == acme && len(r) > 0, nil
}

func (r refused) Contains(_ context.Context, tenant audit.TenantID, step string, entries []audit.Entry) ([]bool, error) {
	contained := make([]bool, len(entries))
	for i, e := range entries {
		contained[i] = tenant == acme && step == audit.StepIndex && r[e.ID]
	}
	return contained, nil
}

// TestReconcileSendsNothingAgainThatTheIndexRefused: it would be refused again, in every hour.
func TestReconcileSendsNothingAgainThatTheIndexRefused(t *testing.T) {
	entries := entriesOfDay()
	index, q := newEntrySet(entries[3:]...), &queue{}
	r := newReconciler(newEntrySet(entries...), index, q)
	r.Refused = refused{entries[0].ID: true, entries[1].ID: true}
	task := search.ReconcileTask{Reconciler: r, Publish: func(got search.Reconciliation) error {
		want := search.Reconciliation{Tenant: acme, Day: day, Stored: 1000, Indexed: int64(len(index.entries)), Refused: 2}
		if _, indexed := index.entries[entries[2].ID]; !indexed {
			want.Repaired, want.Lag = 1, now.Sub(entries[2].ReceivedAt)
		}
		if got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		return nil
	}}
	for range 2 {
		got, err := task.Check(t.Context(), &audit.Tenant{ID: acme}, theDay)
		if err != nil {
			t.Fatal(err)
		}
		if want := (activity.Outcome{Due: now.Add(time.Hour)}); got != want { // they may leave the quarantine meanwhile
			t.Errorf("got %+v, want %+v", got, want)
		}
		index.entries[entries[2].ID] = entries[2]
	}
	if sent := q.sent(t); !slices.Equal(sent, []audit.EntryID{entries[2].ID}) {
		t.Errorf("sent %v, want the one that the index has not refused", sent)
	}
}

// notAsked is a quarantine that must not be asked about an entry.
type notAsked struct{ refused }

func (notAsked) Contains(context.Context, audit.TenantID, string, []audit.Entry) ([]bool, error) {
	return nil, errors.New("an entry was looked for in quarantine")
}

// asked counts how often a quarantine is asked about entries.
type asked struct {
	refused
	times int
}

func (a *asked) Contains(ctx context.Context, tenant audit.TenantID, step string, entries []audit.Entry) ([]bool, error) {
	a.times++
	return a.refused.Contains(ctx, tenant, step, entries)
}

// TestReconcileAsksTheQuarantineAboutManyAtOnce: the index can have lost a million entries.
func TestReconcileAsksTheQuarantineAboutManyAtOnce(t *testing.T) {
	entries := entriesOfDay()
	q, in := &queue{}, &asked{refused: refused{entries[1].ID: true, entries[999].ID: true}}
	r := newReconciler(newEntrySet(entries...), newEntrySet(), q)
	r.Refused = in
	got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay)
	if err != nil {
		t.Fatal(err)
	}
	want := search.Reconciliation{Tenant: acme, Day: day, Stored: 1000, Repaired: 998, Refused: 2, Lag: now.Sub(entries[0].ReceivedAt)}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if sent := len(q.sent(t)); sent != 998 {
		t.Errorf("sent %d entries, want the 998 that the index has not refused", sent)
	}
	if in.times != 10 {
		t.Errorf("asked the quarantine %d times, want 10", in.times)
	}
}

// TestReconcileAsksNoQuarantineAboutABacklog: what waits in the index queue is not asked about.
func TestReconcileAsksNoQuarantineAboutABacklog(t *testing.T) {
	entries := entriesOfDay()
	r := newReconciler(newEntrySet(entries...), newEntrySet(), &queue{})
	r.Refused = notAsked{refused{entries[0].ID: true}}
	r.Now = func() time.Time { return day.Add(time.Minute) }
	got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay)
	if err != nil {
		t.Fatal(err)
	}
	if want := (search.Reconciliation{Tenant: acme, Day: day, Stored: 1000, Pending: 1000, Lag: 59 * time.Second}); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestReconcileRemovesWhatIsNotStored: a message under way has put entries back into the index. Others are stored, but
// the list does not have them yet.
func TestReconcileRemovesWhatIsNotStored(t *testing.T) {
	entries := entriesOfDay()
	listed, primary := newEntrySet(entries...), newEntrySet(entries...)
	index, q := newEntrySet(entries...), &queue{}
	for n := range 1000 {
		at := day.Add(time.Duration(n) * time.Minute)
		e := storedEntry(5000+n, at, at.Add(time.Second))
		index.entries[e.ID] = e
		if n%100 == 0 {
			primary.entries[e.ID] = e
		}
	}
	missing := entries[500].ID
	delete(index.entries, missing)
	r, most := newReconciler(listed, index, q), 0
	r.Reader = reader{entrySet: primary, most: &most}
	got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay)
	if err != nil {
		t.Fatal(err)
	}
	if got.Extra != 990 {
		t.Errorf("counted %d entries that only the index has, want 990", got.Extra)
	}
	if sent := q.sent(t); !slices.Equal(sent, []audit.EntryID{missing}) {
		t.Errorf("sent %v, want the one that is missing", sent)
	}
	if most != 100 {
		t.Errorf("read up to %d entries together, want 100: they can be large", most)
	}
	if left := len(index.entries); left != len(primary.entries)-1 {
		t.Errorf("the index has %d entries, want %d", left, len(primary.entries)-1)
	}
	for id := range index.entries {
		if _, stored := primary.entries[id]; !stored {
			t.Fatalf("the index has %s, which is not stored", id)
		}
	}
}

// larger has more entries in the first hour of the day, which are not listed.
type larger struct {
	*entrySet
	more int
}

func (l larger) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error) {
	n, err := l.entrySet.Count(ctx, tenant, from, to)
	if from.Equal(day) {
		n += int64(l.more)
	}
	return n, err
}

// TestReconcileKeepsWhatTheStoreMayHaveLost: after a restore of the database, the index has the last copies of what was
// stored since.
func TestReconcileKeepsWhatTheStoreMayHaveLost(t *testing.T) {
	for _, c := range []struct {
		stored, extra int
		removed       bool
	}{
		{0, 1000, true}, {0, 1001, false}, {50_000, 1001, false}, {110_000, 1100, true}, {110_000, 1101, false},
		{2_000_000, 10_000, true}, {2_000_000, 10_001, false},
	} {
		store, index := newEntrySet(), newEntrySet()
		for n := range c.extra {
			e := storedEntry(n, day.Add(time.Duration(1+n%20)*time.Hour), day)
			index.entries[e.ID] = e
		}
		r := newReconciler(store, index, &queue{})
		store.page, index.page = 1000, 1000
		r.Store, r.Index = larger{store, c.stored}, larger{index, c.stored}
		var published search.Reconciliation
		task := search.ReconcileTask{Reconciler: r, Publish: func(got search.Reconciliation) error {
			published = got
			return nil
		}}
		want := search.Reconciliation{Tenant: acme, Day: day, Stored: int64(c.stored), Indexed: int64(c.stored), Kept: int64(c.extra)}
		checks, left := 1, c.extra // what is kept stays the same
		if c.removed {
			want.Extra, want.Kept, checks, left = want.Kept, 0, 0, 0
		}
		got, err := task.Check(t.Context(), &audit.Tenant{ID: acme}, theDay)
		if err != nil {
			t.Fatal(err)
		}
		if published != want {
			t.Errorf("%d stored, %d others: got %+v\nwant %+v", c.stored, c.extra, published, want)
		}
		if got.Checks != checks {
			t.Errorf("%d stored, %d others: %d checks are noted, want %d", c.stored, c.extra, got.Checks, checks)
		}
		if len(index.entries) != left {
			t.Errorf("%d stored, %d others: the index has %d entries, want %d", c.stored, c.extra, len(index.entries), left)
		}
	}
}

// lateStore is a system of record that has an entry from the second time on that it is asked for.
type lateStore struct {
	*entrySet
	entry audit.Entry
	asked int
}

func (s *lateStore) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	if slices.Contains(ids, s.entry.ID) {
		if s.asked++; s.asked > 1 {
			s.entries[s.entry.ID] = s.entry
		}
	}
	return s.entrySet.EntriesByID(ctx, tenant, ids)
}

// TestReconcileLeavesWhatIsStoredMeanwhile: a client has sent an entry again since the lists were compared.
func TestReconcileLeavesWhatIsStoredMeanwhile(t *testing.T) {
	entries := entriesOfDay()
	index := newEntrySet(entries...)
	r := newReconciler(newEntrySet(entries[2:]...), index, &queue{})
	r.Reader = &lateStore{entrySet: newEntrySet(entries[2:]...), entry: entries[0]}
	got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay)
	if err != nil {
		t.Fatal(err)
	}
	if got.Extra != 1 {
		t.Errorf("removed %d entries from the index, want 1", got.Extra)
	}
	if _, has := index.entries[entries[0].ID]; !has {
		t.Error("the index lacks an entry that was stored meanwhile")
	}
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
	got, _, err := newReconciler(store, index, q).Reconcile(t.Context(), &audit.Tenant{ID: acme}, activity.Day{Receipt: activity.Receipt{Day: day.Add(17 * time.Hour)}})
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

// TestADayIsComparedSoonAfterADifference: what came back once can come back again.
func TestADayIsComparedSoonAfterADifference(t *testing.T) {
	entries := entriesOfDay()
	for name, c := range map[string]struct {
		store, index *entrySet
		checks       int
		wait         time.Duration
	}{
		"no difference":     {newEntrySet(entries...), newEntrySet(entries...), 6, 360 * 24 * time.Hour},
		"one is missing":    {newEntrySet(entries...), newEntrySet(entries[1:]...), 0, time.Hour},
		"one is not stored": {newEntrySet(entries[1:]...), newEntrySet(entries...), 0, time.Hour},
	} {
		task := search.ReconcileTask{Reconciler: newReconciler(c.store, c.index, &queue{}), Publish: func(search.Reconciliation) error { return nil }}
		got, err := task.Check(t.Context(), &audit.Tenant{ID: acme}, activity.Day{Receipt: activity.Receipt{Day: day}, Checks: 5})
		if err != nil {
			t.Fatal(err)
		}
		if want := (activity.Outcome{Checks: c.checks, Due: now.Add(c.wait)}); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
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
		r.Reader = reader{entrySet: c.store, gone: map[audit.EntryID]bool{c.gone: true}}
		c.want.Tenant, c.want.Day = acme, day
		if got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay); err != nil {
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
		got, _, err := r.Reconcile(t.Context(), &tenant, theDay)
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
		got, _, err := newReconciler(store, index, q).Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay)
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
	r := &search.Reconciler{Store: store, Index: index, Reader: store, Queue: q, Remover: index, Refused: refused{}, Grace: time.Hour, Now: func() time.Time { return now }}
	got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay)
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
	if _, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, theDay); err != nil {
		t.Fatal(err)
	}
	if pages := store.pages + index.pages; pages != 0 {
		t.Errorf("asked for %d pages of ids although the counts are equal, want 0", pages)
	}
}
