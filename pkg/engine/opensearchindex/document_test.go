package opensearchindex_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func find(t *testing.T, x *opensearchindex.Index, where audit.Expr) []audit.Entry {
	t.Helper()
	page, err := x.Find(t.Context(), acme, audit.Filter{Where: where}, audit.PageRequest{Order: audit.OldestFirst, Limit: audit.MaxPageLimit})
	if err != nil {
		t.Fatal(err)
	}
	return page.Entries
}

func wantOnly(t *testing.T, what string, found []audit.Entry, want audit.Entry) {
	t.Helper()
	if len(found) != 1 {
		t.Errorf("%s: found %d entries, want only %s", what, len(found), want.ID)
	} else if got := found[0].ID; got != want.ID {
		t.Errorf("%s: found entry %s, want %s", what, got, want.ID)
	}
}

func TestManyKeysDoNotGrowTheMapping(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	const keys, perEntry = 10_000, 100
	entries := newEntries(acme, keys/perEntry)
	for i := range entries {
		object := map[string]any{}
		for k := range perEntry {
			object[fmt.Sprintf("key%d", i*perEntry+k)] = map[string]any{"n": k, "text": "t"}
		}
		entries[i].Metadata, _ = json.Marshal(object)
		entries[i].After = entries[i].Metadata
	}
	put(t, x, acme, entries[0])
	before := stateOf(t, url, prefix+"-t-acme.2026.01").Mappings
	put(t, x, acme, entries...)
	if after := stateOf(t, url, prefix+"-t-acme.2026.01").Mappings; !reflect.DeepEqual(before, after) {
		t.Errorf("the mapping is %v, want it unchanged: %v", after, before)
	}
	for _, key := range []int{0, 4321, keys - 1} {
		where := audit.Equals{Field: audit.MetadataField(fmt.Sprintf("key%d.n", key)), Values: []string{fmt.Sprint(key % perEntry)}}
		wantOnly(t, fmt.Sprintf("key%d", key), find(t, x, where), entries[key/perEntry])
	}
}

// TestNoFormIsRefused indexes objects that OpenSearch would refuse or change as
// parts of a document.
func TestNoFormIsRefused(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	long := strings.Repeat("x", 200<<10)
	objects := []string{
		`{"leaf":"` + long + `"}`,
		`{"` + long + `":1}`,
		`{"number":` + strings.Repeat("7", 5000) + `}`,
		`{"numbers":[1.0,1e21,-0,0.10,123456789012345678901234567890,1e400]}`,
		`{"":1,".":2,"..":3,"a.":4,".a":5," ":6,"a..b":7,"_id":8,"$x":9,"\u0000":10}`,
		`{"z":1,"a":{"z":null,"a":[[],{},[[1]]]}}`,
		`{"tenant_id":"other","entry":"x","tokens":["y"]}`,
		`{"text":"\u2028\ud83d\ude00\\\"\/é"}`,
		`{"` + strings.Repeat("k", 900) + `":[` + strings.TrimSuffix(strings.Repeat(`"v",`, 30_000), ",") + `]}`,
		`{"` + strings.Repeat("p", 1000) + `":[` + numbers(40_000) + `]}`,
	}
	entries := newEntries(acme, len(objects))
	for i := range entries {
		entries[i].Metadata, entries[i].Before, entries[i].After = audit.Object(objects[i]), audit.Object(objects[i]), audit.Object(`{}`)
		entries[i].Changed = []string{long}
		entries[i].Message = long[:audit.MaxMessage]
	}
	put(t, x, acme, entries...)
	found := find(t, x, nil)
	if len(found) != len(entries) {
		t.Fatalf("found %d entries, want %d", len(found), len(entries))
	}
	for i := range entries {
		got, want := string(entryjson.AppendStored(nil, &found[i])), string(entryjson.AppendStored(nil, &entries[i]))
		if got != want {
			t.Fatalf("entry %d is returned as %.200q, want %.200q", i, got, want)
		}
	}
	for i, where := range []audit.Expr{
		0: audit.Equals{Field: "metadata.leaf", Values: []string{long}},
		2: audit.Equals{Field: "metadata.number", Values: []string{strings.Repeat("7", 5000)}},
		3: audit.Equals{Field: "metadata.numbers", Values: []string{"1"}},
		8: audit.Equals{Field: audit.MetadataField(strings.Repeat("k", 900)), Values: []string{"v"}},
		9: audit.Equals{Field: audit.MetadataField(strings.Repeat("p", 1000)), Values: []string{"39999"}},
	} {
		if where == nil {
			continue
		}
		wantOnly(t, fmt.Sprintf("the condition on entry %d", i), find(t, x, where), entries[i])
	}
	want := audit.Shorten(long, audit.MaxGroupValue)
	for _, field := range []audit.Field{"metadata.leaf", audit.FieldChanged} {
		stats, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{field}, Top: 10})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(stats.Groups, func(g audit.Group) bool { return g.Values[0] == want }) {
			t.Errorf("got groups %.200v of %s, want one with the shortened value", stats.Groups, field)
		}
	}
}

func numbers(n int) string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	return strings.Join(texts, ",")
}

// TestTokensAreUnambiguous: different pairs of path and value have different tokens.
func TestTokensAreUnambiguous(t *testing.T) {
	url := enginetest.OpenSearch(t)
	x := open(t, url, newPrefix(t, url), waitForRefresh)
	leaves := []struct{ path, value string }{
		{"a", "b=c"}, {"a=b", "c"}, {`a\`, "b=c"}, {`a\=b`, "c"}, {`a\\`, "=b=c"}, {"a", ""}, {"a=", ""}, {"a", "="},
		{strings.Repeat("p", 64), "v"}, {strings.Repeat("p", 65), "v"}, {strings.Repeat("p", 66), "v"}, {strings.Repeat("é", 33), "v"}, {strings.Repeat("é", 34), "v"},
		{"v", strings.Repeat("x", 1024)}, {"v", strings.Repeat("x", 1025)}, {"v", strings.Repeat("x", 1026)}, {"v", strings.Repeat("日", 400)},
		{"a.*", "v"}, {"a.b", "v"}, {"aXb", "v"}, {"#@&<>~\"|()[]{}?+^$-", "v"}, {"line\nbreak", "v\nw"},
	}
	entries := newEntries(acme, len(leaves))
	for i, leaf := range leaves {
		entries[i].Metadata, _ = json.Marshal(map[string]string{leaf.path: leaf.value})
	}
	put(t, x, acme, entries...)
	for i, leaf := range leaves {
		field := audit.MetadataField(leaf.path)
		found := find(t, x, audit.Equals{Field: field, Values: []string{leaf.value}})
		wantOnly(t, fmt.Sprintf("%.80q = %.80q", leaf.path, leaf.value), found, entries[i])
		want := map[string]int64{"": int64(len(leaves))}
		for _, other := range leaves {
			if other.path == leaf.path && other.value != "" {
				want[""]--
				want[audit.Shorten(other.value, audit.MaxGroupValue)]++
			}
		}
		stats, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{field}, Top: 100})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, g := range stats.Groups {
			got[g.Values[0]] = g.Count
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("groups of %.80q differ (-want +got):\n%s", leaf.path, diff)
		}
	}
}

// TestRefusedDocumentIsRejectedAlone: Put rejects only the entry that OpenSearch refuses.
func TestRefusedDocumentIsRejectedAlone(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	index := prefix + "-t-acme.2026.01"
	engineRequest(t, http.MethodPut, url+"/"+index, map[string]any{"mappings": map[string]any{"properties": map[string]any{"session_id": map[string]any{"type": "integer"}}}}, nil)
	entries := newEntries(acme, 100)
	entries[42].SessionID = "a secret"
	rejections, err := search.PutEntries(t.Context(), x, acme, entries)
	if err != nil {
		t.Fatal(err)
	}
	want := []audit.Rejection{{Index: 42, Code: opensearchindex.CodeRefused}}
	if diff := cmp.Diff(want, rejections, cmpopts.IgnoreFields(audit.Rejection{}, "Reason")); diff != "" {
		t.Fatalf("rejections differ (-want +got):\n%s", diff)
	}
	if reason := rejections[0].Reason; reason == "" {
		t.Error("the rejection has no reason, want one")
	} else if strings.Contains(reason, "secret") {
		t.Errorf("got reason %q, want it without content of the entry", reason)
	}
	if n := total(t, x, acme); n != 99 {
		t.Errorf("the index has %d entries, want 99", n)
	}
}

func TestDocumentIsReadable(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	e := newEntry(acme, 0)
	e.Message, e.SubmittedBy, e.Metadata = "Payment FAILED, twice!", "key:7", audit.Object(`{"region":"eu"}`)
	put(t, x, acme, e)
	var document struct {
		Source map[string]any `json:"_source"`
	}
	engineRequest(t, http.MethodGet, url+"/"+prefix+"-t-acme.2026.01/_doc/acme:"+e.ID.String(), nil, &document)
	delete(document.Source, "entry")
	want := map[string]any{
		"id": e.ID.String(), "tenant_id": "acme", "user_id": "u1", "action": "CREATE", "resource_type": "order", "severity": "INFO",
		"timestamp": "2026-01-31T12:00:00.000Z", "received_at": "2026-01-31T12:00:00.000Z", "submitted_by": "key:7",
		"message": "payment failed twice", "tokens": []any{"region=eu"},
	}
	if diff := cmp.Diff(want, document.Source); diff != "" {
		t.Fatalf("the document differs (-want +got):\n%s", diff)
	}
}
