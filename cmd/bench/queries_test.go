package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// sampleEntry is an entry as the query times have it.
func sampleEntry(t *testing.T) *audit.Entry {
	t.Helper()
	entries, err := acceptEntries(t.Context(), bigTenant, newCorpus(5).entries(1))
	if err != nil {
		t.Fatal(err)
	}
	return &entries[0]
}

func TestQueriesAskForEveryField(t *testing.T) {
	var filters, groups []string
	for _, q := range listQueries() {
		filters = append(filters, q.name)
	}
	for _, q := range countQueries() {
		groups = append(groups, q.name)
	}
	for _, field := range audit.FilterFields() {
		if name := "`" + string(field) + "`"; !slices.Contains(filters, name) {
			t.Errorf("no list has the filter %s", name)
		}
		if name := "by `" + string(field) + "`"; !slices.Contains(groups, name) {
			t.Errorf("no count is %s", name)
		}
	}
}

// A query without its value would measure another one.
func TestQueriesSelectTheSample(t *testing.T) {
	sample := sampleEntry(t)
	for _, q := range listQueries() {
		for name, values := range q.values(sample) {
			if len(values) == 0 || values[0] == "" {
				t.Errorf("%s: %s has no value", q.name, name)
			}
		}
	}
}

// Every query is one that the index takes: SQLite answers all of them over a few entries.
func TestEnginesAnswerEveryQuery(t *testing.T) {
	b := &bench{folder: t.TempDir()}
	sqlite, err := b.querySQLite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sqlite.end(context.Background()); err != nil {
			t.Error(err)
		}
	})
	m := &queryMeasurement{
		engines: []*queryEngine{sqlite}, samples: map[audit.TenantID]*audit.Entry{},
		cursors: cursor.NewSigner([]byte(strings.Repeat("k", 32))), now: time.Now(),
	}
	for _, tenant := range []audit.TenantID{bigTenant, smallTenant} {
		entries, err := acceptEntries(t.Context(), tenant, newCorpus(5).entries(100))
		if err != nil {
			t.Fatal(err)
		}
		if err := sqlite.put(t.Context(), tenant, entries); err != nil {
			t.Fatal(err)
		}
		m.samples[tenant] = &entries[50]
	}
	for _, q := range listQueries() {
		checkMeasured(t, q.name, m.list(t.Context(), sqlite, bigTenant, q))
	}
	for _, q := range countQueries() {
		checkMeasured(t, q.name, m.count(t.Context(), sqlite, smallTenant, q))
	}
	if m.err != nil {
		t.Errorf("got error %v, want none", m.err)
	}
}

func checkMeasured(t *testing.T, query, cell string) {
	t.Helper()
	if cell == "" || strings.Trim(cell, "0123456789. ·") != "" {
		t.Errorf("%s: the cell is %q, want a time", query, cell)
	}
}

// Without a server, MongoDB's column says what it is not asked.
func TestMongoIsNotAskedWhatItHasNoIndexFor(t *testing.T) {
	mongo, err := queryMongo(config.Engines{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mongo.end(context.Background()); err != nil {
			t.Error(err)
		}
	})
	m := &queryMeasurement{samples: map[audit.TenantID]*audit.Entry{bigTenant: sampleEntry(t)}, cursors: cursor.NewSigner([]byte(strings.Repeat("k", 32))), now: time.Now()}
	want := map[string]string{
		"no filter": cellAbsent, "`user_id`": cellAbsent, "`action`": cellAbsent, "`from` and `to`, a day": cellAbsent,
		"`session_id`": cellNotAsked, "`metadata.service`, all": cellNotAsked, "a phrase": cellNotAsked, "`changed`": cellNotAsked,
	}
	got := map[string]string{}
	for _, q := range listQueries() {
		if _, wanted := want[q.name]; wanted {
			got[q.name] = m.list(t.Context(), mongo, bigTenant, q)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the cells (-want +got):\n%s", diff)
	}
	for _, q := range countQueries() {
		if got := m.count(t.Context(), mongo, bigTenant, q); got != cellNotAsked {
			t.Errorf("%s: the cell is %q, want %q", q.name, got, cellNotAsked)
		}
	}
}

// An engine that is not there but would be asked everything has no times.
func TestOpenSearchIsAbsent(t *testing.T) {
	engine, err := queryOpenSearch(config.Engines{})
	if err != nil {
		t.Fatal(err)
	}
	if engine.measured() {
		t.Error("the engine is measured, want it absent")
	}
	m := &queryMeasurement{samples: map[audit.TenantID]*audit.Entry{bigTenant: sampleEntry(t)}, cursors: cursor.NewSigner([]byte(strings.Repeat("k", 32))), now: time.Now()}
	if got := m.count(t.Context(), engine, bigTenant, countQueries()[0]); got != cellAbsent {
		t.Errorf("the cell is %q, want %q", got, cellAbsent)
	}
}

// What an engine answers instead of a result is a cell, and any other failure ends the measurement.
func TestCellsOfErrors(t *testing.T) {
	for want, err := range map[string]error{
		cellRefused: audit.Invalid("?group_by", "too_many", "must be fewer"),
		cellTooSlow: &audit.UnavailableError{Err: context.DeadlineExceeded},
		cellNotAsked: func() error {
			_, err := mustMongo(t).Stats(t.Context(), bigTenant, audit.Filter{}, audit.StatsRequest{})
			return err
		}(),
	} {
		m := &queryMeasurement{}
		if got := m.unanswered(err); got != want {
			t.Errorf("the cell of %v is %q, want %q", err, got, want)
		}
		if m.err != nil {
			t.Errorf("%v: got error %v, want none", want, m.err)
		}
	}
	m := &queryMeasurement{}
	m.unanswered(errNotThere)
	if m.err == nil {
		t.Error("got no error for a failure that is no answer")
	}
}

func mustMongo(t *testing.T) interface {
	Stats(context.Context, audit.TenantID, audit.Filter, audit.StatsRequest) (audit.Stats, error)
} {
	t.Helper()
	engine, err := queryMongo(config.Engines{})
	if err != nil {
		t.Fatal(err)
	}
	return engine.index
}

// The batches give each tenant its part.
func TestTenantOfBatch(t *testing.T) {
	for _, all := range []int{quickEntries, largest} {
		sizes := querySizesOf(all)
		got := map[audit.TenantID]int{}
		for batch := range all / fillBatch {
			got[tenantOfBatch(batch, sizes)] += fillBatch
		}
		if got[bigTenant] != sizes.big {
			t.Errorf("the big tenant has %d entries of %d, want %d", got[bigTenant], all, sizes.big)
		}
		if got[smallTenant] != sizes.small {
			t.Errorf("the small tenant has %d entries of %d, want %d", got[smallTenant], all, sizes.small)
		}
		if want := 1 + smallOnes; len(got) != want {
			t.Errorf("there are %d tenants, want %d", len(got), want)
		}
	}
}

// The indexes are removed one by one, and nothing else is.
func TestOpenSearchAdmin(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		_, _ = w.Write([]byte(map[string]string{
			"/a-*/_settings":    `{"a-1":{},"a-2":{}}`,
			"/a-*/_stats/store": `{"_all":{"primaries":{"store":{"size_in_bytes":42}}}}`,
		}[r.URL.Path]))
	}))
	t.Cleanup(server.Close)
	admin := openSearchAdmin{address: server.URL, indexes: "a-*"}
	if size, err := admin.size(t.Context()); err != nil || size != 42 {
		t.Errorf("the size is %d, %v, want 42", size, err)
	}
	if err := admin.remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(asked)
	want := []string{"DELETE /a-1", "DELETE /a-2", "GET /a-*/_settings?filter_path=*.settings.index.uuid", "GET /a-*/_stats/store?filter_path=_all.primaries.store.size_in_bytes"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("the requests (-want +got):\n%s", diff)
	}
}

func TestChosen(t *testing.T) {
	measured, written, err := chosen("")
	if err != nil {
		t.Fatal(err)
	}
	if len(measured) != len(parts()) {
		t.Errorf("%d parts are measured, want all %d", len(measured), len(parts()))
	}
	if len(written) != 1 || written[0].name != "scale" {
		t.Errorf("the pages are %v, want scale alone: queries needs engines", written)
	}
	measured, written, err = chosen("sqs,queries")
	if err != nil {
		t.Fatal(err)
	}
	if len(measured) != 1 || measured[0].name != "sqs" {
		t.Errorf("the parts are %v, want sqs", measured)
	}
	if len(written) != 1 || written[0].name != "queries" {
		t.Errorf("the pages are %v, want queries", written)
	}
	if _, _, err := chosen("nothing"); err == nil {
		t.Error("got no error for a name that nothing has")
	}
}

func TestRenderQueries(t *testing.T) {
	engines := []*queryEngine{
		{name: "SQLite", put: func(context.Context, audit.TenantID, []audit.Entry) error { return nil }, took: time.Minute, bytes: 900 * largest},
		{name: "MongoDB", absent: "set MONGODB_URI"},
	}
	page := renderQueries("- Processor: none\n", time.Unix(0, 0), time.Minute, querySizesOf(largest), engines,
		[]queryRow{{"a list", []string{"1 · 2", "3", cellAbsent, cellNotAsked}}}, []queryRow{{"a count", []string{"4", "5", cellNotAsked, cellNotAsked}}})
	for _, want := range []string{
		"- Date: 1970-01-01, within 1m0s\n- Processor: none\n",
		"- SQLite: 1,000,000 entries stored and indexed in 1m0s, 900 bytes on disk for each\n",
		"- MongoDB: not measured; set MONGODB_URI\n",
		"\n| filter | SQLite, small | SQLite, big | MongoDB, small | MongoDB, big |\n|---|---|---|---|---|\n| a list | 1 · 2 | 3 | — | not asked |\n",
		"\n| a count | 4 | 5 | not asked | not asked |\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for line := range strings.Lines(page) {
		if utf8.RuneCountInString(line) > proseWidth+1 {
			t.Errorf("a line has %d columns, want at most %d: %s", utf8.RuneCountInString(line)-1, proseWidth, line)
		}
	}
}
