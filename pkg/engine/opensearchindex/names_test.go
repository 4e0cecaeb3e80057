package opensearchindex_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

type indexState struct {
	Settings struct {
		Index struct {
			Codec  string `json:"codec"`
			Shards string `json:"number_of_shards"`
		} `json:"index"`
	} `json:"settings"`
	Mappings struct {
		Dynamic    string         `json:"dynamic"`
		Properties map[string]any `json:"properties"`
	} `json:"mappings"`
}

func stateOf(t *testing.T, url, index string) indexState {
	t.Helper()
	var states map[string]indexState
	engineRequest(t, http.MethodGet, url+"/"+index, nil, &states)
	return states[index]
}

func indexesOf(t *testing.T, url, pattern string) []string {
	t.Helper()
	var resolved struct {
		Indices []struct{ Name string }
	}
	engineRequest(t, http.MethodGet, url+"/_resolve/index/"+pattern, nil, &resolved)
	var names []string
	for _, index := range resolved.Indices {
		names = append(names, index.Name)
	}
	slices.Sort(names)
	return names
}

func templatesOf(t *testing.T, url, pattern string) []string {
	t.Helper()
	var listed struct {
		Templates []struct{ Name string } `json:"index_templates"`
	}
	engineRequest(t, http.MethodGet, url+"/_index_template/"+pattern, nil, &listed)
	var names []string
	for _, template := range listed.Templates {
		names = append(names, template.Name)
	}
	slices.Sort(names)
	return names
}

// TestTenantsWithACommonPrefix: names of tenants stay separate if one id begins with another.
// OpenSearch refuses a partition as large as the index.
func TestRoutingPartition(t *testing.T) {
	for shards, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 10: 5} {
		if got := opensearchindex.RoutingPartition(shards); got != want {
			t.Errorf("of %d shards a tenant has %d, want %d", shards, got, want)
		}
	}
}

// Every field that can be filtered on is in the mapping, beside fourteen others.
func TestFieldCount(t *testing.T) {
	if got, want := opensearchindex.FieldCount(), len(audit.FilterFields())+14; got != want {
		t.Errorf("an index has %d fields, want %d", got, want)
	}
}

func TestTenantsWithACommonPrefix(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	others := []audit.TenantID{"acme-2", "acme-2026", "acme-2026-01", "acm"}
	for _, tenant := range append(others, acme) { // acme's name begins most of the others'
		march := newEntry(tenant, 0)
		march.Timestamp = time.Date(2026, 3, 31, 23, 59, 59, 999e6, time.UTC)
		march.ID = audit.DeriveEntryID(tenant, march.Timestamp, "march")
		put(t, x, tenant, newEntry(tenant, 0), march)
	}
	for _, tenant := range append(others, acme) {
		stem := prefix + "-t-" + string(tenant)
		indexes := []string{stem + ".2026.01", stem + ".2026.03"}
		for _, index := range indexes {
			state := stateOf(t, url, index)
			if got := state.Mappings.Dynamic; got != "false" {
				t.Errorf("index %s has the dynamic mapping %q, want the template's %q", index, got, "false")
			}
			if got := state.Settings.Index.Codec; got != "best_compression" {
				t.Errorf("index %s has the codec %q, want the template's %q", index, got, "best_compression")
			}
		}
		if n := total(t, x, tenant); n != 2 {
			t.Errorf("%s has %d entries, want 2", tenant, n)
		}
	}
	if n := purge(t, x, acme); n != 2 {
		t.Errorf("Purge removed %d entries, want 2", n)
	}
	for _, tenant := range others {
		if n := total(t, x, tenant); n != 2 {
			t.Errorf("after the purge of acme %s has %d entries, want 2", tenant, n)
		}
	}
	if names, want := templatesOf(t, url, prefix+"-*"), []string{prefix + "-own", prefix + "-pool"}; !slices.Equal(names, want) {
		t.Errorf("the templates are %v, want %v", names, want)
	}
	if names := indexesOf(t, url, prefix+"-*"); len(names) != 2*len(others) {
		t.Errorf("after the purge of acme the indexes are %v, want %d", names, 2*len(others))
	}
}

func purge(t *testing.T, x *opensearchindex.Index, tenant audit.TenantID) int {
	t.Helper()
	removed := 0
	for {
		n, err := x.Purge(t.Context(), tenant, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return removed
		}
		removed += n
	}
}

// TestPutRestoresAnIndex: Put creates a removed index again, with its mapping.
func TestPutRestoresAnIndex(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	index := prefix + "-t-acme.2026.01"
	put(t, x, acme, newEntries(acme, 5)...)
	engineRequest(t, http.MethodDelete, url+"/"+index, nil, nil)
	if n := total(t, x, acme); n != 0 {
		t.Fatalf("the removed index has %d entries, want 0", n)
	}
	put(t, x, acme, newEntries(acme, 5)...)
	if n := total(t, x, acme); n != 5 {
		t.Fatalf("the index has %d entries, want 5", n)
	}
	got := slices.Sorted(maps.Keys(stateOf(t, url, index).Mappings.Properties))
	want := slices.Sorted(maps.Keys(opensearchindex.Mapping()["properties"].(map[string]any)))
	if !slices.Equal(got, want) {
		t.Fatalf("the index maps %v, want %v", got, want)
	}
}

// TestOldMonthsShareAnIndex: an entry must belong to the same index in every release.
func TestOldMonthsShareAnIndex(t *testing.T) {
	for at, want := range map[string]string{
		"1970-01-01T00:00:00Z": "1999.12", "1999-12-31T23:59:59.999Z": "1999.12",
		"2000-01-01T00:00:00Z": "2000.12", "2007-05-06T00:00:00Z": "2007.12", "2019-12-31T23:59:59.999Z": "2019.12",
		"2020-01-01T00:00:00Z": "2020.01", "2026-11-30T23:59:59.999Z": "2026.11", "2026-12-01T00:00:00Z": "2026.12", "2100-02-01T00:00:00Z": "2100.02",
	} {
		timestamp, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := opensearchindex.MonthOf(audit.NewEntryID(timestamp, [10]byte{})); got != want {
			t.Errorf("an entry of %s is in %s, want %s", at, got, want)
		}
	}
}

func TestOldEntries(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	var entries []audit.Entry
	for year := 1970; year < 2020; year++ {
		for month := time.January; month <= time.December; month++ {
			e := newEntry(acme, year)
			e.Timestamp = time.Date(year, month, 7, 0, 0, 0, 0, time.UTC)
			e.ID = audit.DeriveEntryID(acme, e.Timestamp, "old")
			entries = append(entries, e)
		}
	}
	put(t, x, acme, entries[len(entries)-36:]...)
	put(t, x, acme, entries[:370]...)
	put(t, x, acme, entries[:10]...) // again
	if names := indexesOf(t, url, prefix+"-*"); len(names) != 5 {
		t.Errorf("the indexes are %v, want those of 1999, 2000, 2017, 2018 and 2019", names)
	}
	if found := find(t, x, nil); len(found) != 406 {
		t.Errorf("found %d entries, want 406", len(found))
	}
	for _, e := range []audit.Entry{entries[0], entries[len(entries)-1]} {
		contained, err := x.Contains(t.Context(), acme, e.ID)
		if err != nil {
			t.Error(err)
		}
		if !contained {
			t.Errorf("the entry of %v is not indexed, want it to be", e.Timestamp)
		}
	}
	if n := purge(t, x, acme); n != 406 {
		t.Errorf("Purge removed %d entries, want 406", n)
	}
}

func TestNoTenantIsAWildcard(t *testing.T) {
	x := open(t, "http://127.0.0.1:1", "test")
	for _, tenant := range []audit.TenantID{"*", "", "a/b", "a,b", "_all", "a.b", "-a"} {
		_, putErr := search.PutEntries(t.Context(), x, tenant, newEntries(tenant, 1))
		_, findErr := x.Find(t.Context(), tenant, audit.Filter{}, audit.PageRequest{Limit: 1})
		_, statsErr := x.Stats(t.Context(), tenant, audit.Filter{}, audit.StatsRequest{})
		_, containsErr := x.Contains(t.Context(), tenant, newEntry(acme, 1).ID)
		_, purgeErr := x.Purge(t.Context(), tenant, 1)
		_, idsErr := x.IDs(t.Context(), tenant, begin, begin, audit.EntryID{}, 1)
		for _, err := range []error{putErr, findErr, statsErr, containsErr, purgeErr, idsErr} {
			if err == nil || !strings.Contains(err.Error(), "must match") {
				t.Errorf("tenant %q: error = %v, want one about its form", tenant, err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, config := range map[string]opensearchindex.Config{
		"no URL":          {},
		"URL":             {URLs: []string{"http://ann:secret@[::1"}},
		"prefix":          {URLs: []string{"http://localhost"}, Prefix: "ocelot-dev"},
		"negative number": {URLs: []string{"http://localhost"}, Replicas: -1},
		"negative time":   {URLs: []string{"http://localhost"}, Timeouts: opensearchindex.Timeouts{Write: -1}},
	} {
		_, err := opensearchindex.Open(config)
		if err == nil {
			t.Errorf("%s: got no error from Open, want one", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got error %v, want it without the password", name, err)
		}
	}
}
