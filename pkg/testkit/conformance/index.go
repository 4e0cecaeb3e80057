package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/words"
)

// SearchIndex is a search index with its writing side.
type SearchIndex interface {
	search.Index
	search.IndexWriter
	search.IDLister
	retention.Index
	jobs.CountedPurger
}

// IndexUnderTest has the ports that the Index suite calls.
type IndexUnderTest struct {
	Index SearchIndex
	// Store gets every entry before the index does. It is nil if the index needs no store.
	Store ingest.Store
}

// Index tests an adapter of search.Index, search.IndexWriter, search.IDLister, retention.Index
// and jobs.CountedPurger.
func Index(t *testing.T, open func(t *testing.T) IndexUnderTest) {
	for name, test := range map[string]func(t *testing.T, x IndexUnderTest){
		"EveryFilterInEveryDirection":        indexFindsWhatTheOracleFinds,
		"EntriesOfOneRequestKeepTheirOrder":  indexKeepsRequestOrder,
		"StatsCountWhatTheOracleCounts":      indexCountsWhatTheOracleCounts,
		"NumbersByValueTextsBySpelling":      indexFindsNumbersByValue,
		"AddressesByEitherSpelling":          indexFindsAddressesByEitherSpelling,
		"PrefixesOfLongValues":               indexFindsLongPrefixes,
		"NamesWithAnyCharacters":             indexFindsAnyNames,
		"StatsFollowTheClockOfATimeZone":     indexCountsByTimeZone,
		"StatsAreChecked":                    indexChecksStats,
		"StatsRefuseManyPairs":               indexRefusesManyPairs,
		"StatsShortenLongValues":             indexShortensValues,
		"PuttingAgainChangesNothing":         indexIsIdempotent,
		"TenantsAreApart":                    indexKeepsTenantsApart,
		"TenantsShareABatch":                 indexBatches,
		"PurgeForgetsOneTenant":              indexPurges,
		"PagesHaveNoGapWhileWriting":         indexPagesWhileWriting,
		"PagesEndAtMaxBytes":                 indexEndsPagesAtMaxBytes,
		"PositionsSurviveAsText":             indexPositionsAreText,
		"HostileTextIsFoundExactly":          indexHostileText,
		"HostileEntriesAreIndexed":           indexHostileEntries,
		"ComplexFiltersAreAnsweredOrRefused": indexComplexFilters,
		"WritersAtOnceIndexEachOnce":         indexConcurrently,
		"CancelledCallsDoNoHarm":             indexCancelled,
		"IDsRiseWithoutGap":                  indexListsIDs,
		"RemovedEntriesAreNotCounted":        indexRemoves,
		"EntriesAreFoundByKeyAndReplaced":    indexReplacesByKey,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// put stores and indexes the records and waits until they are found.
func (x IndexUnderTest) put(t *testing.T, tenant audit.TenantID, records []record) {
	t.Helper()
	x.Put(t, tenant, entriesOf(records))
}

// Put stores and indexes the entries and waits until they are found.
func (x IndexUnderTest) Put(t *testing.T, tenant audit.TenantID, entries []audit.Entry) {
	t.Helper()
	if x.Store != nil {
		appendAll(t, x.Store, tenant, entries)
	}
	for part := range slices.Chunk(entries, 100) {
		if rejections := must[[]audit.Rejection](t)(search.PutEntries(t.Context(), x.Index, tenant, part)); len(rejections) > 0 {
			t.Fatalf("Put rejected %+v, want nothing rejected", rejections)
		}
	}
	ids := map[audit.EntryID]bool{}
	for _, e := range entries {
		ids[e.ID] = true
	}
	eventually(t, "finding what was put", func() bool {
		for id := range ids {
			if !must[bool](t)(x.Index.Contains(t.Context(), tenant, id)) {
				return false
			}
		}
		return true
	})
}

func (x IndexUnderTest) find(t *testing.T, tenant audit.TenantID, f audit.Filter, request audit.PageRequest) audit.Page {
	t.Helper()
	page := must[audit.Page](t)(x.Index.Find(t.Context(), tenant, f, request))
	if len(page.Entries) > request.Limit {
		t.Fatalf("got a page of %d entries, want at most %d", len(page.Entries), request.Limit)
	}
	if (page.First == nil) != (len(page.Entries) == 0) {
		t.Fatalf("a page's positions: got first %v of %d entries, want one only if there are entries", page.First, len(page.Entries))
	}
	if (page.Last == nil) != (len(page.Entries) == 0) {
		t.Fatalf("a page's positions: got last %v of %d entries, want one only if there are entries", page.Last, len(page.Entries))
	}
	if len(page.Entries) == 0 {
		return page
	}
	if want := page.Entries[0].Timestamp; !page.First.Time.Equal(want) {
		t.Fatalf("a page's first position: got time %v, want %v", page.First.Time, want)
	}
	if want := page.Entries[len(page.Entries)-1].Timestamp; !page.Last.Time.Equal(want) {
		t.Fatalf("a page's last position: got time %v, want %v", page.Last.Time, want)
	}
	return page
}

// walk pages to the end of the list, in its order. With backwards it walks to
// the list's end first and returns what it finds on the way back.
func (x IndexUnderTest) walk(t *testing.T, tenant audit.TenantID, f audit.Filter, request audit.PageRequest, backwards bool) []audit.Entry {
	t.Helper()
	var found []audit.Entry
	var end *audit.Position
	for pages := 1; ; pages++ {
		page := x.find(t, tenant, f, request)
		found = append(found, page.Entries...)
		if pages > 10_000 {
			t.Fatal("got more than 10,000 pages, want an end of the list")
		}
		if page.Last != nil {
			end = page.Last
		}
		if !page.More {
			break
		}
		if page.Last == nil {
			t.Fatal("an empty page has more, want the end of the list")
		}
		request.From = page.Last
	}
	if !backwards || end == nil {
		return found
	}
	found = found[len(found)-1:] // the end itself is not part of any page before it
	request.From, request.Backwards = end, true
	for pages := 1; ; pages++ {
		page := x.find(t, tenant, f, request)
		if pages > 10_000 {
			t.Fatal("got more than 10,000 pages, want a beginning of the list")
		}
		found = append(slices.Clone(page.Entries), found...)
		if !page.More {
			return found
		}
		request.From = page.First
	}
}

func corpusOf(g *generator, n int) []record {
	records := make([]record, n)
	for i := range records {
		records[i] = g.record()
	}
	return records
}

// wantChosen fails the test unless found is exactly what the reference implementation
// chooses, in the order.
func wantChosen(t *testing.T, records []record, f audit.Filter, order audit.Order, found []audit.Entry) {
	t.Helper()
	var want []audit.Entry
	for _, r := range records {
		if r.chosen(f) {
			want = append(want, r.Entry)
		}
	}
	for i := 1; i < len(found); i++ {
		step := found[i].Timestamp.Compare(found[i-1].Timestamp)
		if order == audit.NewestFirst && step > 0 {
			t.Fatalf("filter %+v: entry %d is newer than the one before it, want the newest first", f, i)
		}
		if order == audit.OldestFirst && step < 0 {
			t.Fatalf("filter %+v: entry %d is older than the one before it, want the oldest first", f, i)
		}
	}
	byID := func(a, b audit.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) }
	sorted := slices.SortedFunc(slices.Values(found), byID)
	slices.SortFunc(want, byID)
	if len(want) != len(sorted) {
		t.Fatalf("filter %+v finds %d entries, want %d", f, len(found), len(want))
	}
	sameEntries(t, sorted, want)
}

func indexFindsWhatTheOracleFinds(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 20)
	records := corpusOf(g, 300)
	x.put(t, g.tenant, records)
	rank := map[audit.EntryID]int{} // the one order that all lists must keep
	for i, id := range audit.IDsOf(x.walk(t, g.tenant, audit.Filter{}, audit.PageRequest{Order: audit.OldestFirst, Limit: 1000}, false)) {
		rank[id] = i
	}
	for range 300 {
		f := g.filter()
		request := audit.PageRequest{Order: pick(g, audit.NewestFirst, audit.OldestFirst), Limit: pick(g, 1, 7, 50, 1000)}
		if request.Limit == 1 && g.IntN(5) > 0 {
			request.Limit = 13
		}
		found := x.walk(t, g.tenant, f, request, g.IntN(2) == 0)
		wantChosen(t, records, f, request.Order, found)
		for i := 1; i < len(found); i++ {
			if rising := rank[found[i-1].ID] < rank[found[i].ID]; rising != (request.Order == audit.OldestFirst) {
				t.Fatalf("filter %+v: got entries of one millisecond in another order than the complete list, want the same", f)
			}
		}
	}
}

// indexKeepsRequestOrder: the entries of a bulk request that have one timestamp come back
// in their order, among entries of other requests.
func indexKeepsRequestOrder(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 22)
	var (
		entries, bulk []audit.Entry
		sequence      = audit.NewIDSequence([4]byte{0, 1, 2, 3})
	)
	for i := range audit.MaxBulkEntries {
		e := g.plain(epoch).Entry
		if i%100 == 50 { // the number of an entry that is yet to come
			ahead := sequence
			for range 10 {
				e.ID = ahead.NewEntryID(epoch, [10]byte{9: byte(g.IntN(256))})
			}
			entries = append(entries, e)
			e = g.plain(epoch).Entry
		}
		e.ID = sequence.NewEntryID(epoch, [10]byte{9: byte(g.IntN(256))})
		e.UserID = "bulk"
		e.Digest.Sum = sha256.Sum256(e.ID[:])
		bulk = append(bulk, e)
		entries = append(entries, e)
	}
	x.Put(t, g.tenant, entries)
	ofBulk := audit.Filter{Where: audit.Equals{Field: audit.FieldUserID, Values: []string{"bulk"}}}
	want := audit.IDsOf(bulk)
	found := x.walk(t, g.tenant, ofBulk, audit.PageRequest{Order: audit.OldestFirst, Limit: 300}, false)
	if got := audit.IDsOf(found); !slices.Equal(got, want) {
		t.Errorf("oldest first: got %d entries of a bulk in another order, want its %d in their order", len(got), len(want))
	}
	slices.Reverse(want)
	found = x.walk(t, g.tenant, ofBulk, audit.PageRequest{Order: audit.NewestFirst, Limit: 300}, false)
	if got := audit.IDsOf(found); !slices.Equal(got, want) {
		t.Errorf("newest first: got %d entries of a bulk in another order, want its %d in reverse order", len(got), len(want))
	}
}

// indexFindsNumbersByValue: 1 and 1.0 are one number, "1" and "1.0" are two texts.
func indexFindsNumbersByValue(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 38)
	const long = `12345678901234567890123` // more digits than comparisons take into account
	var entries []audit.Entry
	for i, value := range []string{`1`, `1.0`, `"1"`, `"1.0"`, `[2,"1.0"]`, `{"y":1}`, `1e0`, `true`, long + `4`, long + `5.0`, `1.0` + long} {
		e := g.plain(epoch.Add(time.Duration(i) * time.Second)).Entry
		e.RequestID, e.Metadata = value, []byte(`{"x":`+value+`}`)
		entries = append(entries, e)
	}
	x.Put(t, g.tenant, entries)
	x.findAsTheStream(t, g.tenant, entries, map[string][]string{
		`metadata.x:1`:               {`1`, `1.0`, `"1"`, `1e0`},
		`metadata.x:1.0`:             {`1`, `1.0`, `"1.0"`, `[2,"1.0"]`, `1e0`},
		`metadata.x:"1.0"`:           {`1`, `1.0`, `"1.0"`, `[2,"1.0"]`, `1e0`},
		`metadata.x:100e-2`:          {`1`, `1.0`, `1e0`},
		`metadata.x:2.00`:            {`[2,"1.0"]`},
		`-metadata.x:1.00`:           {`"1"`, `"1.0"`, `[2,"1.0"]`, `{"y":1}`, `true`, long + `4`, long + `5.0`, `1.0` + long},
		`metadata.x:` + long + `4.0`: {long + `4`},
		`metadata.x:` + long + `5`:   {long + `5.0`},
		`metadata.x:(` + long + `4.0 OR 1.0` + long + `0)`: {long + `4`, `1.0` + long},
		`metadata.x>=` + long + `4.5`:                      {long + `4`, long + `5.0`},
		`metadata.x:(2 OR 3)`:                              {`[2,"1.0"]`},
		`metadata.x>=1`:                                    {`1`, `1.0`, `[2,"1.0"]`, `1e0`, long + `4`, long + `5.0`, `1.0` + long},
	})
}

// indexFindsAddressesByEitherSpelling: an IPv4 address has two spellings, by whatever one it was
// sent.
func indexFindsAddressesByEitherSpelling(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 39)
	var entries []audit.Entry
	for i, address := range []string{"203.0.113.9", "::ffff:203.0.113.9", "20.3.0.1", "2030::1", "::ffff", "::fffe:203.0.113.9"} {
		e := g.plain(epoch.Add(time.Duration(i) * time.Second)).Entry
		e.RequestID, e.IPAddress = address, netip.MustParseAddr(address)
		entries = append(entries, e)
	}
	x.Put(t, g.tenant, entries)
	ipv4 := []string{"203.0.113.9", "::ffff:203.0.113.9", "20.3.0.1"}
	x.findAsTheStream(t, g.tenant, entries, map[string][]string{
		`ip_address:203.0.113.9`:        ipv4[:2],
		`ip_address:::ffff:203.0.113.9`: ipv4[:2],
		`ip_address:203*`:               {"203.0.113.9", "::ffff:203.0.113.9", "2030::1"},
		`ip_address:::ffff:203*`:        ipv4[:2],
		`ip_address:::FFFF:203.0.113.*`: ipv4[:2],
		`ip_address:::ffff:20*`:         ipv4,
		`ip_address:::ffff:*`:           ipv4,
		`ip_address:::ffff*`:            {"203.0.113.9", "::ffff:203.0.113.9", "20.3.0.1", "::ffff"},
		`ip_address:::fffe*`:            {"::fffe:203.0.113.9"},
		`-ip_address:::ffff:203*`:       {"20.3.0.1", "2030::1", "::ffff", "::fffe:203.0.113.9"},
	})
}

// indexFindsAnyNames: members of the metadata can have any name, and none.
func indexFindsAnyNames(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 43)
	var entries []audit.Entry
	for i, metadata := range []string{`{"":"x"}`, `{"":{"":7}}`, `{"a":{"":"x"}}`, `{"a,b":"x"}`, `{"say \"a\"":"x"}`, `{"a":"x"}`, `{"":["x","y"]}`, `{"":{"b":"x"}}`} {
		e := g.plain(epoch.Add(time.Duration(i) * time.Second)).Entry
		e.RequestID, e.Metadata = metadata, []byte(metadata)
		entries = append(entries, e)
	}
	x.Put(t, g.tenant, entries)
	x.findAsTheStream(t, g.tenant, entries, map[string][]string{
		`metadata."":x`:                 {`{"":"x"}`, `{"":["x","y"]}`},
		`metadata."":"y"*`:              {`{"":["x","y"]}`},
		`metadata."">=7`:                {`{"":{"":7}}`},
		`has:metadata.""`:               {`{"":"x"}`, `{"":{"":7}}`, `{"":["x","y"]}`},
		`metadata.b:x`:                  {`{"":{"b":"x"}}`},
		`metadata.a."":x`:               {`{"a":{"":"x"}}`},
		`metadata."a,b":x`:              {`{"a,b":"x"}`},
		`metadata."say \"a\"":(x OR y)`: {`{"say \"a\"":"x"}`},
	})
	for list, want := range map[string]int64{`metadata.""`: 2, `metadata."a,b"`: 1, `metadata."say \"a\""`: 1, `metadata.a.""`: 1} {
		stats := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, audit.Filter{}, audit.StatsRequest{GroupBy: must[[]audit.Field](t)(audit.SplitFields(list)), Top: 10}))
		at := slices.IndexFunc(stats.Groups, func(group audit.Group) bool { return group.Values[0] == "x" })
		if at < 0 || stats.Groups[at].Count != want {
			t.Errorf("by %s: got %+v, want x %d times", list, stats.Groups, want)
		}
	}
}

// findAsTheStream checks which entries, named by their request ids, a query selects in the index
// and among those of the live stream. The oldest comes first.
func (x IndexUnderTest) findAsTheStream(t *testing.T, tenant audit.TenantID, entries []audit.Entry, queries map[string][]string) {
	t.Helper()
	for query, want := range queries {
		where := must[audit.Expr](t)(search.ParseQuery(query))
		page := x.find(t, tenant, audit.Filter{Where: where}, audit.PageRequest{Order: audit.OldestFirst, Limit: 100})
		var got, live []string
		for _, e := range page.Entries {
			got = append(got, e.RequestID)
		}
		for _, e := range entries {
			if search.NewCandidate(e).Matches(audit.Filter{Where: where}) {
				live = append(live, e.RequestID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", query, got, want)
		}
		if !slices.Equal(live, want) {
			t.Errorf("%s: the stream chose %q, want %q", query, live, want)
		}
	}
}

func indexCountsWhatTheOracleCounts(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 21)
	records := corpusOf(g, 300)
	x.put(t, g.tenant, records)
	for range 200 {
		f := g.filter()
		request := audit.StatsRequest{Top: pick(g, 1, 3, 1000), Interval: pick(g, 0, time.Second, time.Minute, 7*time.Hour), Distinct: g.IntN(2) == 0}
		for range g.IntN(audit.MaxGroupBy + 1) {
			request.GroupBy = append(request.GroupBy, g.field())
		}
		if request.Interval == time.Second {
			f.From, f.To = epoch, epoch.Add(time.Hour) // or there would be too many buckets
		}
		got := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, f, request))
		want := countAll(records, f, request)
		if !sameStats(got, want) {
			t.Fatalf("filter %+v, request %+v:\n got %+v\nwant %+v", f, request, got, want)
		}
	}
}

func sameStats(a, b audit.Stats) bool {
	return a.Total == b.Total && a.DistinctUsers == b.DistinctUsers &&
		slices.EqualFunc(a.Groups, b.Groups, func(x, y audit.Group) bool { return x.Count == y.Count && slices.Equal(x.Values, y.Values) }) &&
		slices.EqualFunc(a.Histogram, b.Histogram, func(x, y audit.Bucket) bool { return x.Count == y.Count && x.Start.Equal(y.Start) })
}

// countAll is the reference implementation of statistics.
func countAll(records []record, f audit.Filter, request audit.StatsRequest) audit.Stats {
	var stats audit.Stats
	users := map[string]bool{}
	groups := map[string]*audit.Group{}
	buckets := map[int64]int64{}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for _, r := range records {
		if !r.chosen(f) {
			continue
		}
		stats.Total++
		users[r.UserID] = true
		if request.Interval > 0 {
			bucket := r.Timestamp.Unix() / int64(request.Interval/time.Second)
			buckets[bucket]++
			first, last = min(first, bucket), max(last, bucket)
		}
		for _, values := range combinations(&r, request.GroupBy) {
			name := fmt.Sprintf("%q", values)
			if groups[name] == nil {
				groups[name] = &audit.Group{Values: values}
			}
			groups[name].Count++
		}
	}
	if request.Distinct {
		stats.DistinctUsers = int64(len(users))
	}
	for b := first; b <= last && len(buckets) > 0; b++ {
		start := time.Unix(b*int64(request.Interval/time.Second), 0).UTC()
		stats.Histogram = append(stats.Histogram, audit.Bucket{Start: start, Count: buckets[b]})
	}
	for _, g := range groups {
		stats.Groups = append(stats.Groups, *g)
	}
	slices.SortFunc(stats.Groups, func(a, b audit.Group) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return slices.Compare(a.Values, b.Values)
	})
	stats.Groups = stats.Groups[:min(request.Top, len(stats.Groups))]
	return stats
}

// combinations returns the groups that a record counts under.
func combinations(r *record, by []audit.Field) [][]string {
	if len(by) == 0 {
		return nil
	}
	all := [][]string{nil}
	for _, field := range by {
		var values []string
		for _, value := range r.values(field) {
			values = append(values, audit.Shorten(value, audit.MaxGroupValue))
		}
		slices.Sort(values)
		values = slices.Compact(values)
		if len(values) == 0 {
			values = []string{""}
		}
		var longer [][]string
		for _, prefix := range all {
			for _, v := range values {
				longer = append(longer, append(slices.Clone(prefix), v))
			}
		}
		all = longer
	}
	return all
}

func wantInvalid(t *testing.T, err error, pointer string) {
	t.Helper()
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Fatalf("got error %v, want one of type %T", err, invalid)
	}
	if invalid.Fields[0].Pointer != pointer {
		t.Fatalf("got pointer %q, want %q", invalid.Fields[0].Pointer, pointer)
	}
}

func indexChecksStats(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 22)
	early, late := g.plain(epoch), g.plain(epoch.Add(audit.MaxBuckets*time.Second))
	x.put(t, g.tenant, []record{early, late})
	_, err := x.Index.Stats(t.Context(), g.tenant, audit.Filter{}, audit.StatsRequest{Interval: time.Second, Top: 1})
	wantInvalid(t, err, "?interval")
	// With one bucket less, the request is answered.
	f := audit.Filter{To: late.Timestamp}
	just := g.plain(late.Timestamp.Add(-time.Second))
	x.put(t, g.tenant, []record{just})
	stats := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, f, audit.StatsRequest{Interval: time.Second, Top: 1}))
	if len(stats.Histogram) != audit.MaxBuckets {
		t.Fatalf("%d buckets, want %d", len(stats.Histogram), audit.MaxBuckets)
	}
	nothing := must[audit.Stats](t)(x.Index.Stats(t.Context(), newTenant(t), audit.Filter{}, audit.StatsRequest{Interval: time.Second, Top: 1, Distinct: true}))
	if !sameStats(nothing, audit.Stats{}) {
		t.Fatalf("an unknown tenant: got stats %+v, want none", nothing)
	}
}

func indexIsIdempotent(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 23)
	records := corpusOf(g, 20)
	x.put(t, g.tenant, records)
	x.put(t, g.tenant, append(slices.Clone(records), records[3]))
	x.put(t, g.tenant, nil)
	f := audit.Filter{}
	wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 3}, false))
	f.Where = audit.Equals{Field: audit.FieldResourceType, Values: []string{"order", "invoice"}}
	wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 3}, false))
	if stats := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, f, audit.StatsRequest{})); stats.Total != 20 {
		t.Fatalf("total is %d, want 20", stats.Total)
	}
}

func indexKeepsTenantsApart(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 24)
	other := g.tenant + "-2"
	records := corpusOf(g, 60)
	x.put(t, g.tenant, records)
	if must[bool](t)(x.Index.Contains(t.Context(), other, records[0].ID)) {
		t.Fatal("got an entry of another tenant, want none")
	}
	if page := x.find(t, other, audit.Filter{}, audit.PageRequest{Limit: 5}); len(page.Entries) > 0 {
		t.Fatalf("a tenant without entries: got entries %v, want none", page.Entries)
	} else if page.More {
		t.Fatal("a tenant without entries: more is true, want false")
	}
	var theirs []record
	for _, r := range records[:30] {
		theirs = append(theirs, r.like(other))
	}
	x.put(t, other, theirs)
	for range 60 {
		f := g.filter()
		wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
		wantChosen(t, theirs, f, audit.NewestFirst, x.walk(t, other, f, audit.PageRequest{Limit: 50}, false))
		request := audit.StatsRequest{GroupBy: []audit.Field{g.field()}, Top: 10, Distinct: true}
		for tenant, own := range map[audit.TenantID][]record{g.tenant: records, other: theirs} {
			if got, want := must[audit.Stats](t)(x.Index.Stats(t.Context(), tenant, f, request)), countAll(own, f, request); !sameStats(got, want) {
				t.Fatalf("filter %+v of %s:\n got %+v\nwant %+v", f, tenant, got, want)
			}
		}
	}
}

func indexPurges(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 25)
	other := g.tenant + "-2"
	records := corpusOf(g, 25)
	kept := []record{records[0].like(other), records[1].like(other)}
	x.put(t, g.tenant, records)
	x.put(t, g.tenant, records[:10]) // putting again leaves nothing behind
	x.put(t, other, kept)
	if n := purgeWhole(t, x.Index, g.tenant, 10); n != 25 {
		t.Fatalf("Purge removed %d entries, want 25", n)
	}
	f := audit.Filter{Where: audit.Equals{Field: audit.FieldResourceType, Values: []string{"order", "invoice"}}}
	eventually(t, "forgetting the tenant", func() bool {
		return len(x.find(t, g.tenant, audit.Filter{}, audit.PageRequest{Limit: 5}).Entries) == 0 &&
			len(x.find(t, g.tenant, f, audit.PageRequest{Limit: 5}).Entries) == 0 &&
			!must[bool](t)(x.Index.Contains(t.Context(), g.tenant, records[0].ID))
	})
	wantChosen(t, kept, f, audit.NewestFirst, x.walk(t, other, f, audit.PageRequest{Limit: 5}, false))
	x.put(t, g.tenant, records[:5]) // and entries can be added again
	wantChosen(t, records[:5], f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 2}, true))
}

// indexPagesWhileWriting pages while others write. Entries that existed at the start must each
// occur once and in order.
func indexPagesWhileWriting(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 26)
	records := corpusOf(g, 200)
	x.put(t, g.tenant, records)
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		own := newGenerator(g.tenant, 27)
		for ctx.Err() == nil {
			entries := entriesOf(corpusOf(own, 5))
			if x.Store != nil {
				if _, err := x.Store.Append(t.Context(), g.tenant, entries); err != nil {
					t.Error(err)
					return
				}
			}
			if _, err := search.PutEntries(t.Context(), x.Index, g.tenant, entries); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 10 {
		f := audit.Filter{}
		if g.IntN(2) == 0 {
			f.Where = g.equals()
		}
		request := audit.PageRequest{Order: pick(g, audit.NewestFirst, audit.OldestFirst), Limit: 20}
		wantChosenOnce(t, records, f, x.walk(t, g.tenant, f, request, g.IntN(2) == 0))
	}
	stop()
	writer.Wait()
}

// wantChosenOnce allows found to have more than the records, but nothing twice.
func wantChosenOnce(t *testing.T, records []record, f audit.Filter, found []audit.Entry) {
	t.Helper()
	times := map[audit.EntryID]int{}
	for _, e := range found {
		if times[e.ID]++; times[e.ID] > 1 {
			t.Fatalf("filter %+v: entry %s is on two pages, want one", f, e.ID)
		}
	}
	for _, r := range records {
		if r.chosen(f) && times[r.ID] == 0 {
			t.Fatalf("filter %+v: entry %s is on no page, want one", f, r.ID)
		}
	}
}

func indexEndsPagesAtMaxBytes(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 28)
	records := corpusOf(g, 30)
	for i := range records {
		records[i].After = audit.Object(`{"text":"` + strings.Repeat("x", 10_000) + `"}`)
	}
	x.put(t, g.tenant, records)
	for _, step := range []struct{ maxBytes, least, most int }{{1, 1, 1}, {35_000, 2, 3}, {10_000_000, 30, 30}} {
		for _, backwards := range []bool{false, true} {
			request := audit.PageRequest{Limit: 50, MaxBytes: step.maxBytes}
			wantChosen(t, records, audit.Filter{}, audit.NewestFirst, x.walk(t, g.tenant, audit.Filter{}, request, backwards))
		}
		page := x.find(t, g.tenant, audit.Filter{}, audit.PageRequest{Limit: 50, MaxBytes: step.maxBytes})
		if n := len(page.Entries); n < step.least || n > step.most {
			t.Fatalf("MaxBytes %d: got %d entries, want %d to %d", step.maxBytes, n, step.least, step.most)
		} else if page.More != (n < len(records)) {
			t.Fatalf("MaxBytes %d: more is %v, want %v", step.maxBytes, page.More, (n < len(records)))
		}
	}
}

func indexPositionsAreText(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 29)
	records := corpusOf(g, 30)
	x.put(t, g.tenant, records)
	request := audit.PageRequest{Limit: 4}
	var found []audit.Entry
	for more := true; more; {
		page := x.find(t, g.tenant, audit.Filter{}, request)
		found = append(found, page.Entries...)
		text := must[[]byte](t)(json.Marshal(page.Last))
		request.From = &audit.Position{}
		noError(t, json.Unmarshal(text, request.From))
		more = page.More
	}
	wantChosen(t, records, audit.Filter{}, audit.NewestFirst, found)
}

// hostileEntry has the text wherever text is allowed.
func hostileEntry(t *testing.T, g *generator, i int, text string) audit.Entry {
	t.Helper()
	e := g.plain(epoch.Add(time.Duration(i) * time.Millisecond)).Entry
	e.UserID, e.SessionID, e.RequestID, e.ResourceID, e.UserAgent, e.Message, e.IdempotencyKey = text, text, text, text, text, text, text
	e.Changed = []string{text}
	e.Metadata = must[[]byte](t)(json.Marshal(map[string]any{text: text, "nested": map[string]any{text: []any{text, "x"}}}))
	e.Before, e.After = e.Metadata, e.Metadata
	return e
}

func indexHostileText(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 30)
	var records []record
	for i, text := range hostile {
		records = append(records, record{Entry: hostileEntry(t, g, i, text), leaves: map[string][]string{text: {text}, "nested." + text: {text, "x"}}})
	}
	x.put(t, g.tenant, records)
	for _, text := range hostile {
		for _, field := range []audit.Field{
			audit.FieldUserID, audit.FieldSessionID, audit.FieldRequestID, audit.FieldResourceID, audit.FieldChanged,
			audit.MetadataField(text), audit.MetadataField("nested." + text),
		} {
			f := audit.Filter{Where: audit.Equals{Field: field, Values: []string{text}}}
			wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
			request := audit.StatsRequest{GroupBy: []audit.Field{field}, Top: 1000}
			if got, want := must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, f, request)), countAll(records, f, request); !sameStats(got, want) {
				t.Fatalf("stats of %q by %q:\n got %+v\nwant %+v", text, field, got, want)
			}
		}
		for _, prefix := range []bool{false, true} {
			phrase := words.Split(text)
			if len(phrase) == 0 {
				continue
			}
			f := audit.Filter{Where: audit.Text{Words: phrase, Prefix: prefix}}
			wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
		}
	}
}

// indexHostileEntries: entries at the limits of what is accepted can all be indexed.
func indexHostileEntries(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 31)
	wide, deep, wordy := g.record(), g.record(), g.record()
	var leaves []string
	for i := range 40_000 {
		leaves = append(leaves, fmt.Sprint(i%20_000))
	}
	wide.Metadata = audit.Object(`{"n":[` + strings.Join(leaves, ",") + `]}`)
	wide.leaves = map[string][]string{"n": leaves}
	deepPath := strings.TrimSuffix(strings.Repeat("level.", audit.MaxDepth-2), ".")
	deep.Metadata = audit.Object(strings.Repeat(`{"level":`, audit.MaxDepth-2) + `"x"` + strings.Repeat("}", audit.MaxDepth-2))
	deep.leaves = map[string][]string{deepPath: {"x"}}
	wordy.Message = strings.Repeat("x", 200) + strings.Repeat(" a", (audit.MaxMessage-200)/2)
	wordy.Metadata, wordy.leaves = audit.Object(`{"long":"`+strings.Repeat("z", 100_000)+`"}`), map[string][]string{"long": {strings.Repeat("z", 100_000)}}
	records := []record{wide, deep, wordy}
	x.put(t, g.tenant, records)
	for _, where := range []audit.Expr{
		nil, audit.Equals{Field: "metadata.n", Values: []string{"19999"}}, audit.Equals{Field: audit.MetadataField(deepPath), Values: []string{"x"}},
		audit.Equals{Field: "metadata.long", Values: wordy.leaves["long"]},
		audit.Text{Words: words.Split(strings.Repeat("x", 200))}, audit.Text{Words: words.Split(strings.Repeat("x", 300))},
		audit.Text{Words: []string{"a", "a", "a"}}, audit.Text{Words: []string{"xxx"}, Prefix: true},
	} {
		f := audit.Filter{Where: where}
		wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
	}
}

// indexComplexFilters checks that a filter is either answered correctly or rejected as too
// complex.
func indexComplexFilters(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 32)
	records := corpusOf(g, 40)
	x.put(t, g.tenant, records)
	many := audit.Equals{Field: audit.FieldUserID, Values: []string{"ann"}}
	for i := range 1000 {
		many.Values = append(many.Values, fmt.Sprint(i))
	}
	var ranges audit.Or
	for i := range 20 {
		ranges = append(ranges, audit.Time{From: epoch.Add(time.Duration(2*i) * time.Millisecond), To: epoch.Add(time.Duration(2*i+1) * time.Millisecond)})
	}
	answered := []audit.Expr{many, audit.Not{Expr: many}, ranges, audit.Not{Expr: ranges}, audit.And{}, audit.Or{}, audit.Equals{Field: audit.FieldUserID}}
	for _, where := range answered {
		f := audit.Filter{Where: where}
		wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
	}
	for _, depth := range []int{5, 10, 20, 40, 100, 1000, 10_000} {
		var where audit.Expr = audit.Equals{Field: audit.FieldUserID, Values: []string{"ann"}}
		for i := range depth {
			equals := audit.Equals{Field: audit.FieldAction, Values: []string{"CREATE"}}
			switch i % 3 {
			case 0:
				where = audit.And{where, audit.Not{Expr: equals}}
			case 1:
				where = audit.Or{where, equals}
			default:
				where = audit.Not{Expr: where}
			}
		}
		f := audit.Filter{Where: where}
		page, err := x.Index.Find(t.Context(), g.tenant, f, audit.PageRequest{Limit: 1000})
		if err != nil && depth > 10 {
			wantInvalid(t, err, "?q")
			_, err = x.Index.Stats(t.Context(), g.tenant, f, audit.StatsRequest{})
			wantInvalid(t, err, "?q")
			continue
		}
		noError(t, err)
		wantChosen(t, records, f, audit.NewestFirst, page.Entries)
	}
}

func indexConcurrently(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 33)
	records := corpusOf(g, 200)
	if x.Store != nil {
		appendAll(t, x.Store, g.tenant, entriesOf(records))
	}
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for from := 0; from < len(records); from += 20 {
				var batch []audit.Entry
				for i := range 40 {
					batch = append(batch, records[(from+i+w)%len(records)].Entry)
				}
				if rejections, err := search.PutEntries(t.Context(), x.Index, g.tenant, batch); err != nil {
					t.Errorf("Put: %v", err)
				} else if len(rejections) > 0 {
					t.Errorf("Put: got rejections %v, want none", rejections)
				}
			}
		})
	}
	writers.Wait()
	eventually(t, "finding what was put", func() bool {
		return must[audit.Stats](t)(x.Index.Stats(t.Context(), g.tenant, audit.Filter{}, audit.StatsRequest{})).Total == int64(len(records))
	})
	for range 20 {
		f := g.filter()
		wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
	}
}

func indexCancelled(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 34)
	records := corpusOf(g, 100)
	x.put(t, g.tenant, records)
	if _, err := x.Index.Find(cancelled(t), g.tenant, audit.Filter{}, audit.PageRequest{Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Find with a cancelled context: %v, want context.Canceled", err)
	}
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			own := newGenerator(g.tenant, uint64(200+c))
			for i := range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*own.IntN(100))*time.Microsecond)
				// Whether each was in time does not matter, only what is left behind.
				_, _ = x.Index.Find(ctx, g.tenant, own.filter(), audit.PageRequest{Limit: 50})
				_, _ = x.Index.Stats(ctx, g.tenant, own.filter(), audit.StatsRequest{Top: 5, GroupBy: []audit.Field{own.field()}})
				_, _ = search.PutEntries(ctx, x.Index, g.tenant, entriesOf(records[:20]))
				cancel()
			}
		})
	}
	callers.Wait()
	for range 20 {
		f := g.filter()
		wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
	}
}
