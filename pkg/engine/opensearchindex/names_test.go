package opensearchindex_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

type indexState struct {
	Aliases  map[string]any `json:"aliases"`
	Settings struct {
		Index struct {
			Codec string `json:"codec"`
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
	ask(t, http.MethodGet, url+"/"+index, nil, &states)
	return states[index]
}

func indexesOf(t *testing.T, url, pattern string) []string {
	t.Helper()
	var resolved struct {
		Indices []struct{ Name string }
	}
	ask(t, http.MethodGet, url+"/_resolve/index/"+pattern, nil, &resolved)
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
	ask(t, http.MethodGet, url+"/_index_template/"+pattern, nil, &listed)
	var names []string
	for _, template := range listed.Templates {
		names = append(names, template.Name)
	}
	slices.Sort(names)
	return names
}

// A tenant whose id begins with another's must stay its own in every name.
func TestFamilies(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	others := []audit.TenantID{"acme-2", "acme-2026", "acme-2026-01", "acm"}
	for _, tenant := range append(others, acme) { // acme's pattern matches most of the others
		march := newEntry(tenant, 0)
		march.Timestamp = time.Date(2026, 3, 31, 23, 59, 59, 999e6, time.UTC)
		march.ID = audit.DeriveEntryID(tenant, march.Timestamp, "march")
		put(t, x, tenant, newEntry(tenant, 0), march)
	}
	for _, tenant := range append(others, acme) {
		alias := prefix + "-" + string(tenant)
		indexes := []string{alias + "-2026.01", alias + "-2026.03"}
		for _, index := range indexes {
			state := stateOf(t, url, index)
			if len(state.Aliases) != 2 || state.Aliases[alias] == nil || state.Aliases[index+"-write"] == nil {
				t.Errorf("index %s has the aliases %v", index, state.Aliases)
			}
			if state.Mappings.Dynamic != "false" || state.Settings.Index.Codec != "best_compression" {
				t.Errorf("index %s was not made from its template: %+v", index, state)
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
	if names := templatesOf(t, url, prefix+"-*"); len(names) != len(others) || slices.Contains(names, prefix+"-acme") {
		t.Errorf("after the purge of acme there are the templates %v", names)
	}
	if names := indexesOf(t, url, prefix+"-*"); len(names) != 2*len(others) {
		t.Errorf("after the purge of acme there are the indexes %v", names)
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

// An index that was removed, or made by someone else, is no end of writing.
func TestPutMendsTheFamily(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	index := prefix + "-acme-2026.01"
	put(t, x, acme, newEntries(acme, 5)...)
	ask(t, http.MethodDelete, url+"/"+index, nil, nil)
	if n := total(t, x, acme); n != 0 {
		t.Fatalf("%d entries are in no index", n)
	}
	put(t, x, acme, newEntries(acme, 5)...)
	ask(t, http.MethodPost, url+"/_aliases", map[string]any{"actions": []any{
		map[string]any{"remove": map[string]any{"index": index, "aliases": []string{prefix + "-acme", index + "-write"}}},
	}}, nil)
	put(t, x, acme, newEntry(acme, 7))
	if n := total(t, x, acme); n != 6 {
		t.Fatalf("%d entries, want 6", n)
	}
	if mappings := stateOf(t, url, index).Mappings; len(mappings.Properties) != len(opensearchindex.Mapping()["properties"].(map[string]any)) {
		t.Fatalf("the index has the mapping %v", mappings)
	}
}

// An entry that is indexed again must come to the same index, in every release.
func TestMonthsOfLongAgoShareAnIndex(t *testing.T) {
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

func TestEntriesOfLongAgo(t *testing.T) {
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
		t.Errorf("%d entries are found, want 406", len(found))
	}
	for _, e := range []audit.Entry{entries[0], entries[len(entries)-1]} {
		if there, err := x.Contains(t.Context(), acme, e.ID); err != nil || !there {
			t.Errorf("the entry of %v: %t, %v", e.Timestamp, there, err)
		}
	}
	if n := purge(t, x, acme); n != 406 {
		t.Errorf("Purge removed %d entries, want 406", n)
	}
}

func TestNoTenantIsAWildcard(t *testing.T) {
	x := open(t, "http://127.0.0.1:1", "test")
	for _, tenant := range []audit.TenantID{"*", "", "a/b", "a,b", "_all", "a.b", "-a"} {
		_, putErr := x.Put(t.Context(), tenant, newEntries(tenant, 1))
		_, findErr := x.Find(t.Context(), tenant, audit.Filter{}, audit.PageRequest{Limit: 1})
		_, statsErr := x.Stats(t.Context(), tenant, audit.Filter{}, audit.StatsRequest{})
		_, containsErr := x.Contains(t.Context(), tenant, newEntry(acme, 1).ID)
		_, purgeErr := x.Purge(t.Context(), tenant, 1)
		_, idsErr := x.IDs(t.Context(), tenant, begin, begin, audit.EntryID{}, 1)
		for _, err := range []error{putErr, findErr, statsErr, containsErr, purgeErr, idsErr} {
			if err == nil || !strings.Contains(err.Error(), "must match") {
				t.Errorf("tenant %q: %v", tenant, err)
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
		if _, err := opensearchindex.Open(config); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
