package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// retained lists what the store has of a selection, in small pages.
func retained(t *testing.T, s retention.Store, tenant audit.TenantID, of retention.Selection) (found []retention.Entry) {
	t.Helper()
	for {
		page := must[[]retention.Entry](t)(s.Retained(t.Context(), tenant, of, 7))
		if len(page) == 0 {
			return found
		}
		if len(page) > 7 {
			t.Fatalf("got a page of %d entries, want at most 7", len(page))
		}
		found, of.After = append(found, page...), page[len(page)-1].ID
	}
}

func idsOf(found []retention.Entry) []audit.EntryID {
	ids := make([]audit.EntryID, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	return ids
}

// sortedIDs returns the ids of the records in the order of lists.
func sortedIDs(records []record) []audit.EntryID {
	ids := make([]audit.EntryID, len(records))
	for i, r := range records {
		ids[i] = r.ID
	}
	slices.SortFunc(ids, byID)
	return ids
}

// storeListsRetained: entries over two months, some of them marked.
func storeListsRetained(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 15)
	same(t, retained(t, s, g.tenant, retention.Selection{}), nil)
	noError(t, s.Mark(t.Context(), g.tenant, []audit.EntryID{g.record().ID}, time.Hour)) // of a tenant that has nothing
	records := crowd(g)
	records[0].SubmittedBy, records[1].Severity, records[2].Action = audit.SubmittedByService, audit.SeverityCritical, "user.login"
	records[3].Encrypted = []audit.Encrypted{{Paths: []string{"/message"}, Key: "00112233445566778899aabbccddeeff", Generation: 3, Data: []byte{4}}}
	other := records[0].like(g.tenant + "-2")
	appendAll(t, s, g.tenant, entriesOf(records))
	appendAll(t, s, other.Tenant, []audit.Entry{other.Entry})
	all := sortedIDs(records)
	found := retained(t, s, g.tenant, retention.Selection{})
	same(t, idsOf(found), all)
	for _, r := range records {
		e := found[slices.Index(all, r.ID)]
		sameEntries(t, []audit.Entry{e.Entry}, []audit.Entry{{ID: r.ID, Timestamp: r.Timestamp, UserID: r.UserID, Action: r.Action, Severity: r.Severity, SubmittedBy: r.SubmittedBy, ReceivedAt: r.ReceivedAt}})
		if !e.DeletableAt.IsZero() {
			t.Errorf("an entry that was not marked is deletable at %v, want never", e.DeletableAt)
		}
	}
	for i, e := range retained(t, s, g.tenant, retention.Selection{Encrypted: true}) {
		if i >= len(all) || e.ID != all[i] {
			t.Fatalf("with what is encrypted, entry %d is %s, want the same list", i, e.ID)
		}
		same(t, e.Encrypted, records[slices.IndexFunc(records, func(r record) bool { return r.ID == e.ID })].Encrypted)
	}
	marked := []audit.EntryID{all[1], all[40], all[len(all)-1]}
	before := time.Now()
	noError(t, s.Mark(t.Context(), g.tenant, marked, time.Hour))
	noError(t, s.Mark(t.Context(), g.tenant, marked, 9*time.Hour)) // changes nothing
	only := retained(t, s, g.tenant, retention.Selection{Marked: true})
	same(t, idsOf(only), marked)
	for _, e := range only {
		if late := e.DeletableAt.Sub(before); late < 59*time.Minute || late > 61*time.Minute {
			t.Errorf("a marked entry is deletable after %v, want an hour", late)
		}
	}
	at := all[40].Time()
	same(t, idsOf(retained(t, s, g.tenant, retention.Selection{From: at, To: at.Add(time.Millisecond), Marked: true})), marked[1:2])
	same(t, idsOf(retained(t, s, g.tenant, retention.Selection{From: at, After: all[40]})), all[41:])
	same(t, retained(t, s, other.Tenant, retention.Selection{Marked: true}), nil)
	noError(t, s.Unmark(t.Context(), g.tenant, []audit.EntryID{all[0], marked[0], other.ID}))
	same(t, idsOf(retained(t, s, g.tenant, retention.Selection{Marked: true})), marked[1:])
	_, err := s.Retained(cancelled(t), g.tenant, retention.Selection{}, 1)
	wantError(t, err, cancelled(t).Err())
}

// storeMarksRead: some entries were removed since they were read, and are there again.
func storeMarksRead(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 21)
	noError(t, s.MarkRead(t.Context(), g.tenant, []audit.Entry{g.record().Entry})) // of a tenant that has nothing
	records := crowd(g)[:40]
	for i := range 20 { // half of those that return were restored before
		records[i].RestoredUntil = epoch.Add(24 * time.Hour)
	}
	appendAll(t, s, g.tenant, entriesOf(records))
	ids := audit.IDsOf(entriesOf(records))
	read := must[[]audit.Entry](t)(s.EntriesByID(t.Context(), g.tenant, ids))
	again := entriesOf(records[10:30])
	noError(t, s.Mark(t.Context(), g.tenant, audit.IDsOf(again), -time.Second))
	must[int](t)(s.RemoveDue(t.Context(), g.tenant, audit.IDsOf(again)))
	var others []audit.EntryID
	for i := range again[:18] { // two do not return
		switch i % 3 {
		case 0: // a client sends it again
			again[i].ReceivedAt, again[i].RestoredUntil = again[i].ReceivedAt.Add(time.Hour), time.Time{}
		case 1: // another restore brings it back
			again[i].RestoredUntil = epoch.Add(48 * time.Hour)
		case 2: // its message is delivered again
			continue
		}
		others = append(others, again[i].ID)
	}
	slices.SortFunc(others, byID)
	appendAll(t, s, g.tenant, again[:18])
	for range 2 {
		noError(t, s.MarkRead(t.Context(), g.tenant, read))
		must[int](t)(s.RemoveDue(t.Context(), g.tenant, ids)) // the store may be about to remove them itself
		same(t, idsOf(retained(t, s, g.tenant, retention.Selection{})), others)
		same(t, retained(t, s, g.tenant, retention.Selection{Marked: true}), nil)
	}
	left := must[[]audit.Entry](t)(s.EntriesByID(t.Context(), g.tenant, ids))
	noError(t, s.Mark(t.Context(), g.tenant, others[1:], time.Hour))
	noError(t, s.MarkRead(t.Context(), g.tenant, left)) // changes only the one that is not marked
	must[int](t)(s.RemoveDue(t.Context(), g.tenant, ids))
	same(t, idsOf(retained(t, s, g.tenant, retention.Selection{})), others[1:])
	wantError(t, s.MarkRead(cancelled(t), g.tenant, left), cancelled(t).Err())
}

// storeKeepsRestored: restored entries beside living ones, some of them marked.
func storeKeepsRestored(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 17)
	until := epoch.Add(24 * time.Hour)
	noError(t, s.KeepRestored(t.Context(), g.tenant, []audit.EntryID{g.record().ID}, until)) // of a tenant that has nothing
	records := crowd(g)
	restored := records[:20]
	for i := range restored {
		restored[i].RestoredUntil = until
	}
	other := records[0].like(g.tenant + "-2")
	appendAll(t, s, g.tenant, entriesOf(records))
	appendAll(t, s, g.tenant, entriesOf(records)) // again
	appendAll(t, s, other.Tenant, []audit.Entry{other.Entry})
	wantStored := func() {
		t.Helper()
		for _, r := range append(slices.Clone(records[:40]), other) {
			sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), r.Tenant, r.ID))}, []audit.Entry{r.Entry})
		}
		for _, e := range retained(t, s, g.tenant, retention.Selection{}) {
			want := records[slices.IndexFunc(records, func(r record) bool { return r.ID == e.ID })].RestoredUntil
			if !e.RestoredUntil.Equal(want) {
				t.Errorf("Retained says that %s was restored until %v, want %v", e.ID, e.RestoredUntil, want)
			}
		}
	}
	wantStored()
	ids := audit.IDsOf(entriesOf(records))
	noError(t, s.Mark(t.Context(), g.tenant, ids[5:30], time.Hour))
	noError(t, s.KeepRestored(t.Context(), g.tenant, ids[:25], until.Add(-time.Hour))) // changes only those that were not restored
	for i := 20; i < 25; i++ {
		records[i].RestoredUntil = until.Add(-time.Hour)
	}
	wantStored()
	marked := func() (marked []audit.EntryID) {
		return idsOf(retained(t, s, g.tenant, retention.Selection{Marked: true}))
	}
	inOrder := func(ids ...audit.EntryID) []audit.EntryID {
		slices.SortFunc(ids, byID)
		return ids
	}
	same(t, marked(), inOrder(slices.Concat(ids[5:20], ids[25:30])...))
	noError(t, s.KeepRestored(t.Context(), g.tenant, append(slices.Clone(ids[:10]), other.ID, g.record().ID), until.Add(time.Hour)))
	for i := range 10 {
		records[i].RestoredUntil = until.Add(time.Hour)
	}
	wantStored()
	same(t, marked(), inOrder(slices.Concat(ids[10:20], ids[25:30])...))
	if n := must[int](t)(s.RemoveDue(t.Context(), g.tenant, ids[:10])); n > 0 {
		t.Errorf("removed %d entries that are kept, want 0", n)
	}
	wantError(t, s.KeepRestored(cancelled(t), g.tenant, ids, until.Add(9*time.Hour)), cancelled(t).Err())
}

// storeKeepsWhatIsSentAgain: a restored entry stays if a client sends it again, and not if it is another.
func storeKeepsWhatIsSentAgain(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 19)
	records := crowd(g)
	until := epoch.Add(24 * time.Hour)
	for i := range 30 {
		records[i].RestoredUntil = until
	}
	appendAll(t, s, g.tenant, entriesOf(records))
	ids := audit.IDsOf(entriesOf(records))
	noError(t, s.Mark(t.Context(), g.tenant, ids[:40], time.Hour))
	appendAll(t, s, g.tenant, entriesOf(records)) // the restore repeats it
	sent := entriesOf(records[:20])
	for i := range sent {
		sent[i].RestoredUntil = time.Time{}
		if i >= 5 { // the first have the times of the message that brought them at first
			sent[i].ReceivedAt = sent[i].ReceivedAt.Add(time.Hour)
		}
		if i >= 10 {
			sent[i].Digest.Sum[0] ^= 1
		}
	}
	for step := range 2 {
		appended := must[ingest.Appended](t)(s.Append(t.Context(), g.tenant, sent))
		if !slices.Equal(appended.Repeated, []int{5, 6, 7, 8, 9}) || len(appended.Rejections) != 10 {
			t.Errorf("step %d: repeated %v and rejected %d, want 5 to 9 and 10", step, appended.Repeated, len(appended.Rejections))
		}
	}
	for i := range 10 {
		records[i].RestoredUntil = time.Time{}
	}
	for _, r := range records[:40] {
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), r.Tenant, r.ID))}, []audit.Entry{r.Entry})
	}
	marked := func() []audit.EntryID {
		return idsOf(retained(t, s, g.tenant, retention.Selection{Marked: true}))
	}
	inOrder := func(ids []audit.EntryID) []audit.EntryID {
		ids = slices.Clone(ids)
		slices.SortFunc(ids, byID)
		return ids
	}
	same(t, marked(), inOrder(ids[10:40]))
	noError(t, s.EndRestore(t.Context(), g.tenant, append(slices.Clone(ids[25:35]), g.record().ID))) // some were not restored
	for i := 25; i < 30; i++ {
		records[i].RestoredUntil = time.Time{}
	}
	for _, r := range records[:40] {
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), r.Tenant, r.ID))}, []audit.Entry{r.Entry})
	}
	same(t, marked(), inOrder(slices.Concat(ids[10:25], ids[30:40])))
	noError(t, s.EndRestore(t.Context(), g.tenant+"-2", ids[:1])) // of a tenant that has nothing
	wantError(t, s.EndRestore(cancelled(t), g.tenant, ids), cancelled(t).Err())
}

// storeRemovesDue removes entries among many, most of them stored together.
func storeRemovesDue(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 16)
	var records []record
	for i := range 2500 {
		records = append(records, g.plain(epoch.Add(time.Duration(i/3)*time.Minute)))
	}
	other := records[5].like(g.tenant + "-2")
	for part := range slices.Chunk(records, 100) {
		appendAll(t, s, g.tenant, entriesOf(part))
	}
	appendAll(t, s, other.Tenant, []audit.Entry{other.Entry})
	ids := sortedIDs(records)
	remove := func(ids []audit.EntryID) int {
		t.Helper()
		return must[int](t)(s.RemoveDue(t.Context(), g.tenant, ids))
	}
	if n := remove(ids[:10]); n > 0 {
		t.Fatalf("removed %d entries that are not marked, want 0", n)
	}
	noError(t, s.Mark(t.Context(), g.tenant, slices.Concat(ids[500:600], ids[1000:1200]), time.Hour))
	noError(t, s.Mark(t.Context(), g.tenant, ids[:1000], -time.Second))
	noError(t, s.Mark(t.Context(), other.Tenant, []audit.EntryID{other.ID}, -time.Second))
	noError(t, s.Unmark(t.Context(), g.tenant, ids[500:600]))
	// The store may be about to remove the others itself.
	remove(ids[:retention.MaxEntries])
	gone := append(slices.Clone(ids[:500]), ids[600:1000]...)
	left := append(slices.Clone(ids[500:600]), ids[1000:]...)
	same(t, walkIDs(t, s, g.tenant, audit.Time{}, 1000), left)
	if n := remove(gone); n > 0 {
		t.Fatalf("removed %d entries that are gone, want 0", n)
	}
	for _, r := range records {
		if slices.Contains(left, r.ID) {
			sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, r.ID))}, []audit.Entry{r.Entry})
		}
	}
	_, err := s.Entry(t.Context(), g.tenant, gone[0])
	wantError(t, err, audit.ErrNotFound)
	again := records[slices.IndexFunc(records, func(r record) bool { return r.ID == gone[0] })]
	appendAll(t, s, g.tenant, []audit.Entry{again.Entry}) // it is stored as a new one, and is not marked
	same(t, idsOf(retained(t, s, g.tenant, retention.Selection{Marked: true})), ids[1000:1200])
	if n := purgeWhole(t, s, g.tenant, 1000); n != len(left)+1 {
		t.Fatalf("%d entries were left, want %d", n, len(left)+1)
	}
	same(t, retained(t, s, g.tenant, retention.Selection{}), nil)
}

// indexRemoves removes some of many entries. What is counted and found is what is left.
func indexRemoves(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 37)
	var records []record
	for i := range 900 {
		r := g.plain(epoch.Add(time.Duration(i) * 2 * time.Hour)) // over three months
		r.Action = fmt.Sprintf("ACTION%d", i%3)
		records = append(records, r)
	}
	other := records[0].like(g.tenant + "-2")
	noError(t, x.Index.Remove(t.Context(), g.tenant, []audit.EntryID{other.ID})) // of a tenant that has nothing
	x.put(t, g.tenant, records)
	x.put(t, other.Tenant, []record{other})
	var ids []audit.EntryID
	var left []record
	for i, r := range records {
		if i%3 == 1 || i > 600 {
			ids = append(ids, r.ID)
		} else {
			left = append(left, r)
		}
	}
	for range 2 { // the second time there is nothing left to do
		noError(t, x.Index.Remove(t.Context(), g.tenant, ids))
	}
	noError(t, x.Index.Remove(t.Context(), g.tenant, nil))
	same(t, walkIDs(t, x.Index, g.tenant, audit.Time{}, search.MaxIDs), sortedIDs(left))
	same(t, walkIDs(t, x.Index, other.Tenant, audit.Time{}, 10), []audit.EntryID{other.ID})
	if found := must[bool](t)(x.Index.Contains(t.Context(), g.tenant, ids[0])); found {
		t.Error("an entry that was removed is in the index, want it not to be")
	}
	stats := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldAction}, Top: 10}))
	want := map[string]int64{}
	for _, r := range left {
		want[r.Action]++
	}
	if stats.Total != int64(len(left)) {
		t.Errorf("counted %d entries, want %d", stats.Total, len(left))
	}
	got := map[string]int64{}
	for _, group := range stats.Groups {
		got[group.Values[0]] = group.Count
	}
	same(t, got, want)
	x.put(t, g.tenant, records) // they can be indexed again
	listsIDs(t, x.Index, other.Tenant, []record{other})
	same(t, walkIDs(t, x.Index, g.tenant, audit.Time{}, search.MaxIDs), sortedIDs(records))
}

// allDaysReturn: a touch of all days of a tenant, and those of others stay.
func allDaysReturn(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	other := tenant + "-2"
	noError(t, a.TouchAll(t.Context(), activity.Index, tenant, activityDue)) // of a tenant that has none
	touch(t, a, tenant, activityDue, 0, 1, 2)
	touch(t, a, other, activityDue, 0)
	for i, day := range dueAt(t, a, activityDue, 10) {
		day.Checks = 3
		due := activityDue.AddDate(0, 0, 40)
		if i%2 == 0 {
			due = time.Time{}
		}
		noError(t, a.Check(t.Context(), day, due))
	}
	noError(t, a.TouchAll(t.Context(), activity.Index, tenant, activityDue.Add(time.Hour)))
	same(t, dueAt(t, a, activityDue.Add(time.Hour-time.Millisecond), 10), nil)
	due := dueAt(t, a, activityDue.Add(time.Hour), 10)
	slices.SortFunc(due, func(a, b activity.Day) int { return a.Day.Compare(b.Day) })
	same(t, due, []activity.Day{activeDay(tenant, 0, 2), activeDay(tenant, 1, 2), activeDay(tenant, 2, 2)})
	noError(t, a.TouchAll(t.Context(), activity.Index, tenant, activityDue.Add(2*time.Hour))) // does not put them off
	if got := len(dueAt(t, a, activityDue.Add(time.Hour), 10)); got != 3 {
		t.Errorf("%d days are due, want 3", got)
	}
}

// freshDaysWait: days are due for retention once all entries of them can have expired. Late entries
// make them due at once.
func freshDaysWait(t *testing.T, a ActivityRegister) {
	tenant := newTenant(t)
	touch(t, a, tenant, activityDue, 0)
	retain := activity.Day{Work: activity.Retain, Tenant: tenant, Receipt: activity.Receipt{Day: activityDay}, Touches: 1}
	dueIs := func(want time.Time) {
		t.Helper()
		same(t, whenDue(t, a, retain), want)
	}
	dueIs(activityDay.AddDate(0, 0, 2))
	noError(t, a.Check(t.Context(), retain, activityDay.AddDate(0, 0, 30)))
	dueIs(activityDay.AddDate(0, 0, 30))
	touch(t, a, tenant, activityDue.AddDate(0, 0, 9), 0)
	dueIs(activityDue.AddDate(0, 0, 9))
}
