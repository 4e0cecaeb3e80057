package conformance

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// crowd returns records over several days and two months, many in the same
// milliseconds, in no order.
func crowd(g *generator) []record {
	var records []record
	for _, at := range []time.Duration{0, time.Millisecond, time.Second, 24 * time.Hour, 3 * 24 * time.Hour, 4 * 24 * time.Hour} {
		for range 20 {
			records = append(records, g.plain(epoch.Add(at)))
		}
	}
	g.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	return records
}

// listsIDs tests a search.IDLister that has these records: their ids and their number.
func listsIDs(t *testing.T, lister search.IDLister, tenant audit.TenantID, records []record) {
	t.Helper()
	day := epoch.Truncate(24 * time.Hour)
	for name, window := range map[string]audit.Time{
		"everything":      {},
		"a day":           {From: day, To: day.Add(24 * time.Hour)},
		"over months":     {From: epoch.Add(24 * time.Hour), To: epoch.Add(4 * 24 * time.Hour)},
		"a millisecond":   {From: epoch, To: epoch.Add(time.Millisecond)},
		"up to":           {To: epoch.Add(24 * time.Hour)},
		"from on":         {From: epoch.Add(time.Second)},
		"nothing between": {From: epoch.Add(2 * time.Second), To: epoch.Add(24 * time.Hour)},
		"no time at all":  {From: epoch, To: epoch},
	} {
		var want []audit.EntryID
		for _, r := range records {
			if inTime(r.Timestamp, window.From, window.To) {
				want = append(want, r.ID)
			}
		}
		slices.SortFunc(want, byID)
		if n := must[int64](t)(lister.Count(t.Context(), tenant, window.From, window.To)); n != int64(len(want)) {
			t.Fatalf("%s: counted %d entries, want %d", name, n, len(want))
		}
		for _, limit := range []int{7, 100_000} {
			if got := walkIDs(t, lister, tenant, window, limit); !slices.Equal(got, want) {
				t.Fatalf("%s, %d at a time: %d ids %v, want %d %v", name, limit, len(got), got, len(want), want)
			}
		}
	}
}

// walkIDs lists the ids to the end.
func walkIDs(t *testing.T, lister search.IDLister, tenant audit.TenantID, window audit.Time, limit int) []audit.EntryID {
	t.Helper()
	var found []audit.EntryID
	var after audit.EntryID
	for {
		ids := must[[]audit.EntryID](t)(lister.IDs(t.Context(), tenant, window.From, window.To, after, limit))
		if len(ids) > limit {
			t.Fatalf("got %d ids, want at most %d", len(ids), limit)
		}
		if len(ids) == 0 {
			return found
		}
		found, after = append(found, ids...), ids[len(ids)-1]
	}
}

func storeListsIDs(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 13)
	if ids := walkIDs(t, s, g.tenant, audit.Time{}, 10); len(ids) > 0 {
		t.Fatalf("an unknown tenant has the ids %v, want none", ids)
	}
	records := crowd(g)
	other := records[0].like(g.tenant + "-2")
	appendAll(t, s, g.tenant, entriesOf(records))
	appendAll(t, s, other.Tenant, []audit.Entry{other.Entry})
	listsIDs(t, s, g.tenant, records)
	listsIDs(t, s, other.Tenant, []record{other})
	_, err := s.IDs(cancelled(t), g.tenant, epoch, epoch.Add(time.Hour), audit.EntryID{}, 10)
	wantError(t, err, context.Canceled)
}

func indexListsIDs(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 36)
	if ids := walkIDs(t, x.Index, g.tenant, audit.Time{}, 10); len(ids) > 0 {
		t.Fatalf("an unknown tenant has the ids %v, want none", ids)
	}
	records := crowd(g)
	other := records[0].like(g.tenant + "-2")
	if x.Store != nil { // what is stored only is not in the index
		appendAll(t, x.Store, g.tenant, []audit.Entry{g.plain(epoch).Entry, g.plain(epoch.Add(24 * time.Hour)).Entry})
	}
	x.put(t, g.tenant, records)
	x.put(t, other.Tenant, []record{other})
	listsIDs(t, x.Index, g.tenant, records)
	listsIDs(t, x.Index, other.Tenant, []record{other})
	_, err := x.Index.IDs(cancelled(t), g.tenant, epoch, epoch.Add(time.Hour), audit.EntryID{}, 10)
	wantError(t, err, context.Canceled)
}
