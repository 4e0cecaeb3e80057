package conformance

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// EntryStore is a system of record.
type EntryStore interface {
	ingest.Store
	search.Reader
	search.IDLister
	arrival.Reader
	retention.Store
	cleanup.Marker
	restore.Keeper
	erasure.Entries
	jobs.CountedPurger
}

// Store tests an adapter of ingest.Store, search.Reader, search.IDLister, arrival.Reader,
// retention.Store, cleanup.Marker, restore.Keeper, erasure.Entries and jobs.CountedPurger.
func Store(t *testing.T, open func(t *testing.T) EntryStore) {
	for name, test := range map[string]func(t *testing.T, s EntryStore){
		"ReadsWhatWasAppended":            storeReadsBack,
		"AppendingAgainIsNoError":         storeIsIdempotent,
		"MessagesAreToldApart":            storeTellsMessagesApart,
		"OtherContentIsAConflict":         storeReportsConflicts,
		"ConflictsWithinOneCall":          storeReportsConflictsWithinOneCall,
		"TenantsAreApart":                 storeKeepsTenantsApart,
		"AbsentIsNotFound":                storeAbsent,
		"PurgeForgetsOneTenant":           storePurges,
		"HostileTextComesBack":            storeHostileText,
		"LargestEntriesComeBack":          storeLargeEntries,
		"ManyEntriesInOneMillisecond":     storeCrowdedMillisecond,
		"WritersAtOnceStoreEachOnce":      storeConcurrently,
		"CancelledCallsChangeNothingElse": storeCancelled,
		"IDsRiseWithoutGap":               storeListsIDs,
		"EntriesByIDLeavesOutWhatIsNot":   storeReadsMany,
		"EntriesAreMarkedAndUnmarked":     storeListsRetained,
		"EntriesAreMarkedAsTheyWereRead":  storeMarksRead,
		"DueEntriesAreRemoved":            storeRemovesDue,
		"RestoredEntriesAreKept":          storeKeepsRestored,
		"RestoredEntriesThatAreSentStay":  storeKeepsWhatIsSentAgain,
		"TokensOfAKeyAreDropped":          storeDropsTokens,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func appendAll(t *testing.T, s ingest.Store, tenant audit.TenantID, entries []audit.Entry) {
	t.Helper()
	appended, err := s.Append(t.Context(), tenant, entries)
	rejections := appended.Rejections
	noError(t, err)
	if len(rejections) > 0 {
		t.Fatalf("Append rejected %+v, want nothing rejected", rejections)
	}
}

func storeReadsBack(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 1)
	var records []record
	for range 100 {
		records = append(records, g.record())
	}
	appendAll(t, s, g.tenant, entriesOf(records))
	for _, r := range records {
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, r.ID))}, []audit.Entry{r.Entry})
	}
}

func storeIsIdempotent(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 2)
	first := g.record()
	appendAll(t, s, g.tenant, []audit.Entry{first.Entry, first.Entry})
	again := first.Entry
	again.ReceivedAt = again.ReceivedAt.Add(time.Hour) // a retry differs in the server's fields
	appended := must[ingest.Appended](t)(s.Append(t.Context(), g.tenant, []audit.Entry{g.record().Entry, again}))
	if len(appended.Rejections) > 0 {
		t.Fatalf("Append of a retry: got rejections %v, want none", appended.Rejections)
	}
	if !slices.Equal(appended.Repeated, []int{1}) {
		t.Fatalf("Append of a retry: repeated %v, want %v", appended.Repeated, []int{1})
	}
	appended = must[ingest.Appended](t)(s.Append(t.Context(), g.tenant, []audit.Entry{first.Entry, again, first.Entry}))
	if len(appended.Rejections) > 0 {
		t.Fatalf("Append of a message that comes again and a retry: got rejections %v, want none", appended.Rejections)
	}
	if !slices.Equal(appended.Repeated, []int{1}) {
		t.Fatalf("Append of a message that comes again and a retry: repeated %v, want %v", appended.Repeated, []int{1})
	}
	got := must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, first.ID))
	sameEntries(t, []audit.Entry{got}, []audit.Entry{first.Entry})
	if n := purgeWhole(t, s, g.tenant, 100); n != 2 {
		t.Fatalf("%d entries were stored, want 2", n)
	}
}

// storeTellsMessagesApart: two clients send the same entry in the same millisecond.
func storeTellsMessagesApart(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 3)
	first := g.record().Entry
	first.QueueMessage = audit.MessageID{15: 1}
	again := first
	again.QueueMessage = audit.MessageID{15: 2}
	unknown := first
	unknown.QueueMessage = audit.MessageID{}
	for step, want := range [][]int{{1}, {1}} { // the second time, the store has the entry already
		appended := must[ingest.Appended](t)(s.Append(t.Context(), g.tenant, []audit.Entry{first, again, first, unknown}))
		if len(appended.Rejections) > 0 {
			t.Fatalf("step %d: got rejections %v, want none", step, appended.Rejections)
		}
		if !slices.Equal(appended.Repeated, want) {
			t.Fatalf("step %d: repeated %v, want %v", step, appended.Repeated, want)
		}
	}
	unnamed := g.record().Entry
	appendAll(t, s, g.tenant, []audit.Entry{unnamed})
	unnamed.QueueMessage = audit.MessageID{15: 3}
	appended := must[ingest.Appended](t)(s.Append(t.Context(), g.tenant, []audit.Entry{unnamed}))
	if len(appended.Repeated) > 0 {
		t.Fatalf("an entry that was stored without a message: repeated %v, want none", appended.Repeated)
	}
}

func wantConflict(t *testing.T, rejections []audit.Rejection, index int) {
	t.Helper()
	if len(rejections) != 1 {
		t.Fatalf("got %d rejections, want 1", len(rejections))
	}
	if rejections[0].Index != index {
		t.Fatalf("got index %d, want %d", rejections[0].Index, index)
	}
	if rejections[0].Code != audit.CodeIdentityConflict {
		t.Fatalf("got code %q, want %q", rejections[0].Code, audit.CodeIdentityConflict)
	}
	if rejections[0].Reason == "" {
		t.Fatal("got an empty reason, want a value")
	}
	if strings.Contains(rejections[0].Reason, "secret-user") {
		t.Fatalf("got reason %q, want it without %q", rejections[0].Reason, "secret-user")
	}
}

func storeReportsConflicts(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 3)
	stored, before, after := g.record(), g.record(), g.record()
	appendAll(t, s, g.tenant, []audit.Entry{stored.Entry})
	other := stored.Entry
	other.UserID, other.Digest = "secret-user", audit.Digest{Sum: [32]byte{1}}
	rejections := must[ingest.Appended](t)(s.Append(t.Context(), g.tenant, []audit.Entry{before.Entry, other, after.Entry})).Rejections
	wantConflict(t, rejections, 1)
	for _, want := range []record{stored, before, after} {
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, want.ID))}, []audit.Entry{want.Entry})
	}
}

func storeReportsConflictsWithinOneCall(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 4)
	first := g.record().Entry
	other := first
	other.UserID, other.Digest = "secret-user", audit.Digest{Sum: [32]byte{1}}
	rejections := must[ingest.Appended](t)(s.Append(t.Context(), g.tenant, []audit.Entry{first, first, other, first})).Rejections
	wantConflict(t, rejections, 2)
	sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, first.ID))}, []audit.Entry{first})
}

func storeKeepsTenantsApart(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 5)
	mine := g.record()
	yours := mine.like(g.tenant + "-2")
	yours.Digest = audit.Digest{Sum: [32]byte{7}} // the same id with other content is not a conflict between tenants
	appendAll(t, s, mine.Tenant, []audit.Entry{mine.Entry})
	_, err := s.Entry(t.Context(), yours.Tenant, mine.ID)
	wantError(t, err, audit.ErrNotFound)
	appendAll(t, s, yours.Tenant, []audit.Entry{yours.Entry})
	sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), mine.Tenant, mine.ID))}, []audit.Entry{mine.Entry})
	sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), yours.Tenant, mine.ID))}, []audit.Entry{yours.Entry})
}

func storeAbsent(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 6)
	_, err := s.Entry(t.Context(), g.tenant, g.record().ID)
	wantError(t, err, audit.ErrNotFound)
	appendAll(t, s, g.tenant, []audit.Entry{g.record().Entry})
	_, err = s.Entry(t.Context(), g.tenant, g.record().ID)
	wantError(t, err, audit.ErrNotFound)
	_, err = s.Entry(t.Context(), g.tenant, audit.EntryID{})
	wantError(t, err, audit.ErrNotFound)
	appendAll(t, s, g.tenant, nil)
}

func storePurges(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 7)
	other := g.tenant + "-2"
	var records []record
	for range 25 {
		records = append(records, g.record())
	}
	appendAll(t, s, g.tenant, entriesOf(records))
	kept := records[0].like(other)
	appendAll(t, s, other, []audit.Entry{kept.Entry})
	if n := purgeWhole(t, s, g.tenant, 10); n != 25 {
		t.Fatalf("Purge removed %d entries, want 25", n)
	}
	_, err := s.Entry(t.Context(), g.tenant, records[0].ID)
	wantError(t, err, audit.ErrNotFound)
	sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), other, kept.ID))}, []audit.Entry{kept.Entry})
	// After the deletion, entries are stored as if nothing had been there.
	replaced := records[0].Entry
	replaced.Digest = audit.Digest{Sum: [32]byte{9}}
	appendAll(t, s, g.tenant, []audit.Entry{replaced})
	sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, replaced.ID))}, []audit.Entry{replaced})
}

func storeHostileText(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 8)
	var entries []audit.Entry
	for i, text := range hostile {
		e := hostileEntry(t, g, i, text)
		entries = append(entries, e)
	}
	appendAll(t, s, g.tenant, entries)
	for _, e := range entries {
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, e.ID))}, []audit.Entry{e})
	}
}

func storeLargeEntries(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 9)
	e := g.record().Entry
	e.Message = strings.Repeat("x", audit.MaxMessage)
	e.Before = audit.Object(`{"text":"` + strings.Repeat("y", 100<<10) + `"}`)
	e.Metadata = audit.Object(strings.Repeat(`{"a":`, audit.MaxDepth-2) + `{"leaf":1}` + strings.Repeat("}", audit.MaxDepth-2))
	appendAll(t, s, g.tenant, []audit.Entry{e})
	sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, e.ID))}, []audit.Entry{e})
}

// storeCrowdedMillisecond: ids of one millisecond that differ only in their last bits.
func storeCrowdedMillisecond(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 10)
	var entries []audit.Entry
	for i := range 500 {
		r := g.plain(epoch)
		r.ID = audit.NewEntryID(epoch, [10]byte{8: byte(i >> 8), 9: byte(i)})
		entries = append(entries, r.Entry)
	}
	appendAll(t, s, g.tenant, entries)
	appendAll(t, s, g.tenant, entries)
	for _, e := range entries {
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, e.ID))}, []audit.Entry{e})
	}
	if n := purgeWhole(t, s, g.tenant, 1000); n != len(entries) {
		t.Fatalf("%d entries were stored, want %d", n, len(entries))
	}
}

// storeConcurrently has many writers append overlapping batches.
func storeConcurrently(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 11)
	other := g.tenant + "-2"
	var records []record
	for range 200 {
		records = append(records, g.record())
	}
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			tenant := g.tenant
			if w%4 == 0 {
				tenant = other
			}
			for from := 0; from < len(records); from += 20 {
				batch := make([]audit.Entry, 0, 40)
				for i := range 40 {
					batch = append(batch, records[(from+i+w)%len(records)].like(tenant).Entry)
				}
				appended, err := s.Append(t.Context(), tenant, batch)
				rejections := appended.Rejections
				if err != nil {
					t.Errorf("Append: %v", err)
				} else if len(rejections) > 0 {
					t.Errorf("Append: got rejections %v, want none", rejections)
				}
			}
		})
	}
	writers.Wait()
	for _, tenant := range []audit.TenantID{g.tenant, other} {
		for _, r := range records {
			sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), tenant, r.ID))}, []audit.Entry{r.like(tenant).Entry})
		}
		if n := purgeWhole(t, s, tenant, 1000); n != len(records) {
			t.Fatalf("%s has %d entries, want %d", tenant, n, len(records))
		}
	}
}

// storeCancelled cancels calls at any time. Every acknowledged entry is stored, and the next call
// works.
func storeCancelled(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 12)
	if _, err := s.Append(cancelled(t), g.tenant, []audit.Entry{g.record().Entry}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Append with a cancelled context: %v, want context.Canceled", err)
	}
	var mu sync.Mutex
	var acknowledged []record
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			own := newGenerator(g.tenant, uint64(100+c))
			for i := range 40 {
				r := own.record()
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*own.IntN(100))*time.Microsecond)
				_, err := s.Append(ctx, g.tenant, []audit.Entry{r.Entry})
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, r)
					mu.Unlock()
				}
				_, _ = s.Entry(ctx, g.tenant, r.ID) // may be cancelled; must not do harm
				cancel()
			}
		})
	}
	callers.Wait()
	appendAll(t, s, g.tenant, []audit.Entry{g.record().Entry})
	for _, r := range acknowledged {
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, r.ID))}, []audit.Entry{r.Entry})
	}
}

// storeReadsMany asks for entries of several months, some of them twice, among
// ids that the tenant does not have.
func storeReadsMany(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 14)
	read := func(ids ...audit.EntryID) []audit.Entry {
		t.Helper()
		entries := must[[]audit.Entry](t)(s.EntriesByID(t.Context(), g.tenant, ids))
		slices.SortFunc(entries, func(a, b audit.Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		return entries
	}
	sameEntries(t, read(g.record().ID), []audit.Entry{}) // of a tenant that has nothing
	var records []record
	for month := range 4 {
		for range 30 {
			records = append(records, g.recordAt(epoch.AddDate(0, 5*month, 0)))
		}
	}
	appendAll(t, s, g.tenant, entriesOf(records))
	foreign := g.recordAt(epoch).like(g.tenant + "-2")
	mine, theirs := records[0], records[0].like(foreign.Tenant) // the same id in another tenant
	appendAll(t, s, foreign.Tenant, []audit.Entry{foreign.Entry, theirs.Entry})
	sameEntries(t, read(), []audit.Entry{})
	sameEntries(t, read(g.record().ID, foreign.ID, audit.EntryID{}, g.recordAt(epoch.AddDate(20, 0, 0)).ID), []audit.Entry{})
	sameEntries(t, read(mine.ID, mine.ID), []audit.Entry{mine.Entry})
	var ids []audit.EntryID
	var want []audit.Entry
	for i, r := range records {
		ids = append(ids, r.ID, g.record().ID)
		if i%3 == 0 {
			ids = append(ids, r.ID, foreign.ID)
		}
		want = append(want, r.Entry)
	}
	g.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	slices.SortFunc(want, func(a, b audit.Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	sameEntries(t, read(ids...), want)
	_, err := s.EntriesByID(cancelled(t), g.tenant, ids)
	wantError(t, err, context.Canceled)
}
