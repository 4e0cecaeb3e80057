package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

// wrote accepts an entry, processes the queues and returns its id.
func (w *world) wrote(more string) string {
	w.t.Helper()
	var accepted struct{ ID string }
	w.call("admin", "POST", "/logs", entry(more), map[string]string{"User-Agent": "test"}).want(w.t, 202, "").decode(w.t, &accepted)
	w.processQueues()
	return accepted.ID
}

func TestGetLogAddsTheStatus(t *testing.T) {
	w := newWorld(t)
	id := w.wrote(`,"timestamp":"2026-03-02T10:00:00.5+01:00","ip_address":null,"message":"<b>&","metadata":{"n": 1.0, "u":"\u00e4"}`)
	w.call("admin", "GET", "/logs/"+id, "", nil).want(t, 200, "").is(t,
		`{"id":"`+id+`","tenant_id":"acme","user_id":"ann","action":"UPDATE","resource_type":"order","timestamp":"2026-03-02T09:00:00.500Z",`+
			`"metadata":{"n":1.0,"u":"\u00e4"},"severity":"INFO","message":"<b>&","received_at":"2026-03-02T09:30:00.000Z",`+
			`"submitted_by":"sub:admin","expires_at":"2027-03-02T09:00:00.500Z","status":"indexed"}`)
}

func TestGetLogThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	young := audit.NewEntryID(start.Add(-time.Minute), [10]byte{1})
	old := audit.NewEntryID(start.Add(-time.Hour), [10]byte{1})
	if got := w.call("admin", "GET", "/logs/"+young.String(), "", nil).want(t, 404, "not_stored_yet").header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q, want %q", got, "1")
	}
	for _, id := range []string{old.String(), "nope", "c2f5a3e0-1111-4111-8111-111111111111", "%00"} {
		if got := w.call("admin", "GET", "/logs/"+id, "", nil).want(t, 404, "not_found").header.Get("Retry-After"); got != "" {
			t.Errorf("%s: Retry-After is %q, want none", id, got)
		}
	}
}

func TestScopesNarrowSingleEntriesListsAndStats(t *testing.T) {
	w := newWorld(t)
	mine, others := w.wrote(""), w.wrote(`,"session_id":"s"`)
	foreign := strings.Replace(entry(""), `"ann"`, `"bob"`, 1)
	var accepted struct{ ID string }
	w.call("admin", "POST", "/logs", foreign, nil).want(t, 202, "").decode(t, &accepted)
	w.processQueues()
	for _, id := range []string{mine, others} {
		w.call("user", "GET", "/logs/"+id, "", nil).want(t, 200, "")
	}
	w.advance(time.Hour)
	w.call("user", "GET", "/logs/"+accepted.ID, "", nil).want(t, 404, "not_found")
	var list struct{ Items []struct{ ID string } }
	w.call("user", "GET", "/logs", "", nil).want(t, 200, "").decode(t, &list)
	if len(list.Items) != 2 {
		t.Errorf("ann lists %v, want 2 entries", list.Items)
	}
	w.call("user", "GET", "/logs/feed", "", nil).want(t, 200, "").decode(t, &list)
	if len(list.Items) != 2 {
		t.Errorf("ann's feed has %v, want 2 entries", list.Items)
	}
	w.call("user", "GET", "/logs/stats", "", nil).want(t, 200, "").is(t, `{"total":2,"groups":[],"histogram":[],"distinct_users":1}`)
}

func TestSearchLogsPages(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i := range 5 {
		ids = append([]string{w.wrote(fmt.Sprintf(`,"timestamp":"2026-03-02T09:00:0%dZ","message":"number %d"`, i, i))}, ids...)
	}
	type page struct {
		Items      []struct{ ID string }
		Next, Prev *string
	}
	get := func(query string) (p page) {
		t.Helper()
		w.call("auditor", "GET", "/logs?limit=2"+query, "", nil).want(t, 200, "").decode(t, &p)
		return p
	}
	first := get("")
	second := get("&cursor=" + *first.Next)
	third := get("&cursor=" + *second.Next)
	switch {
	case first.Prev != nil:
		t.Errorf("first page: got prev %v, want none", first.Prev)
	case third.Next != nil:
		t.Errorf("third page: got next %v, want none", third.Next)
	case len(third.Items) != 1:
		t.Errorf("third page: got %d items, want 1", len(third.Items))
	case first.Items[0].ID != ids[0]:
		t.Errorf("first page: got ID %q, want %q", first.Items[0].ID, ids[0])
	case second.Items[1].ID != ids[3]:
		t.Errorf("second page: got ID %q, want %q", second.Items[1].ID, ids[3])
	case third.Items[0].ID != ids[4]:
		t.Errorf("third page: got ID %q, want %q", third.Items[0].ID, ids[4])
	}
	if back := get("&cursor=" + *third.Prev); fmt.Sprint(back.Items) != fmt.Sprint(second.Items) {
		t.Errorf("back from the third page: got %+v, want %+v", back.Items, second.Items)
	}
	w.call("auditor", "GET", "/logs?user_id=ann&cursor="+*first.Next, "", nil).want(t, 422, "invalid")
	w.call("auditor", "GET", "/logs?q=nothing", "", nil).want(t, 200, "").is(t, `{"items":[],"next":null,"prev":null}`)
	w.call("auditor", "GET", "/logs?q=number+3&metadata.x=y", "", nil).want(t, 200, "").is(t, `{"items":[],"next":null,"prev":null}`)
	w.call("auditor", "GET", `/logs?q=%22open`, "", nil).want(t, 422, "invalid")
}

func TestStatsShape(t *testing.T) {
	w := newWorld(t)
	w.wrote(`,"timestamp":"2026-03-02T07:10:00Z","metadata":{"plan":"go\"ld","count":"x"}`)
	w.wrote(`,"timestamp":"2026-03-02T09:10:00Z","severity":"ERROR","metadata":{"plan":"go\"ld","count":"x"}`)
	w.call("auditor", "GET", "/logs/stats?group_by=metadata.plan,severity&interval=1h&top=10", "", nil).want(t, 200, "").is(t,
		`{"total":2,"groups":[{"metadata.plan":"go\"ld","severity":"ERROR","count":1},{"metadata.plan":"go\"ld","severity":"INFO","count":1}],`+
			`"histogram":[{"start":"2026-03-02T07:00:00.000Z","count":1},{"start":"2026-03-02T08:00:00.000Z","count":0},{"start":"2026-03-02T09:00:00.000Z","count":1}],"distinct_users":1}`)
	w.call("auditor", "GET", "/logs/stats?group_by=metadata.count", "", nil).want(t, 200, "").is(t,
		`{"total":2,"groups":[{"metadata.count":"x","count":2}],"histogram":[],"distinct_users":1}`)
	w.call("auditor", "GET", "/logs/stats?interval=1d&time_zone=Asia/Kolkata&from=2026-03-02&to=2026-03-03", "", nil).want(t, 200, "").is(t,
		`{"total":2,"groups":[],"histogram":[{"start":"2026-03-02T00:00:00.000+05:30","count":2}],"distinct_users":1}`)
	w.call("auditor", "GET", "/logs/stats?time_zone=Asia/Nowhere", "", nil).want(t, 422, "invalid")
	w.call("auditor", "GET", "/logs/stats?limit=1", "", nil).want(t, 422, "invalid")
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	health := func(entries, search, overall string) string {
		return `{"dependencies":[{"name":"entries","status":"` + entries + `"},{"name":"search","status":"` + search + `"}],"status":"` + overall + `","version":"v1.4.0"}`
	}
	w.call("", "GET", "/health", "", nil).want(t, 200, "").is(t, health("ok", "ok", "ok"))
	w.dependencyDown = true
	w.call("", "GET", "/health", "", nil).want(t, 200, "").is(t, health("ok", "unavailable", "degraded"))
	w.essentialsDown = true
	w.call("", "GET", "/health", "", nil).want(t, 503, "").is(t, health("unavailable", "unavailable", "unavailable"))
	if want := `"dependency":"entries","error":"dial`; !strings.Contains(w.logs.String(), want) {
		t.Errorf("got log %s, want it to contain %s", w.logs, want)
	}
}

func TestHealthReportsAFullDisk(t *testing.T) {
	w := newWorld(t)
	full := httpapi.Dependency{Name: "embedded", Essential: true, Check: func(context.Context) error {
		return fmt.Errorf("ping: %w", &audit.UnavailableError{Err: audit.ErrStorageFull})
	}}
	answer := httptest.NewRecorder()
	httpapi.GetHealth(w.gate, testVersion, []httpapi.Dependency{full}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/health", http.NoBody))
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d, want 503", answer.Code)
	}
	want := `{"dependencies":[{"name":"embedded","status":"unavailable","reason":"storage_full"}],"status":"unavailable","version":"v1.4.0"}`
	if got := answer.Body.String(); got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
}

func TestHealthDoesNotWaitForASilentDependency(t *testing.T) {
	w := newWorld(t)
	w.silent = func(ctx context.Context) error {
		select {} // not even the context ends it
	}
	w.build()
	began := time.Now()
	w.call("", "GET", "/health", "", nil).want(t, 200, "")
	if took, most := time.Since(began), 5*time.Second; took > most {
		t.Errorf("the answer took %v, want at most %v", took, most)
	}
}

func TestHealthTellsOfOthersThanTheSilentDependency(t *testing.T) {
	w := newWorld(t)
	dependencies := []httpapi.Dependency{{Name: "silent", Check: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}}
	for i := range 10 {
		dependencies = append(dependencies, httpapi.Dependency{
			Name: fmt.Sprintf("good-%d", i), Essential: true, Check: func(context.Context) error { return nil },
		})
	}
	answer := httptest.NewRecorder()
	httpapi.GetHealth(w.gate, testVersion, dependencies).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/health", http.NoBody))
	switch body := answer.Body.String(); {
	case answer.Code != 200:
		t.Errorf("got code %d, want 200: %s", answer.Code, answer.Body)
	case strings.Count(body, `"ok"`) != 10:
		t.Errorf("got %d times %q in %q, want 10", strings.Count(body, `"ok"`), `"ok"`, body)
	case !strings.Contains(body, `"status":"degraded","version"`):
		t.Errorf("got body %q, want it to contain %q", body, `"status":"degraded","version"`)
	}
}

// TestSearchByBody: POST /logs/search gives the list of GET /logs, and each continues with the
// other's cursors.
func TestSearchByBody(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.call("admin", "POST", "/logs", entry(fmt.Sprintf(`,"metadata":{"n":%d.0}`, i)), nil).want(t, 202, "")
	}
	w.processQueues()
	type list struct {
		Items []struct{ ID string }
		Next  string
	}
	var byQuery, byBody, rest list
	w.call("auditor", "GET", "/logs?action=UPDATE&metadata.n=1&metadata.n=2&limit=1", "", nil).want(t, 200, "").decode(t, &byQuery)
	w.call("auditor", "POST", "/logs/search", `{"action":"UPDATE","metadata.n":[1,2],"limit":1}`, nil).want(t, 200, "").decode(t, &byBody)
	if diff := cmp.Diff(byQuery.Items, byBody.Items); diff != "" {
		t.Errorf("items by body (-by query +by body):\n%s", diff)
	}
	if len(byBody.Items) != 1 {
		t.Fatalf("got %d items, want 1", len(byBody.Items))
	}
	w.call("auditor", "POST", "/logs/search", fmt.Sprintf(`{"action":"UPDATE","metadata.n":[1,2],"limit":1,"cursor":%q}`, byQuery.Next), nil).want(t, 200, "").decode(t, &rest)
	if len(rest.Items) != 1 {
		t.Errorf("got %d items after the first, want 1", len(rest.Items))
	}
	w.call("operator", "POST", "/logs/search", `{}`, map[string]string{"X-Tenant-ID": "sleepy"}).want(t, 200, "")
	p := w.call("auditor", "POST", "/logs/search", `{"colour":"red","q":"\"open","from":"x"}`, nil).want(t, 422, "invalid").problem(t)
	var pointers []string
	for _, fault := range p.Errors {
		pointers = append(pointers, fault.Pointer)
	}
	slices.Sort(pointers)
	if want := []string{"/colour", "/from", "/q"}; !slices.Equal(pointers, want) {
		t.Errorf("got faults of %v, want %v", pointers, want)
	}
}
