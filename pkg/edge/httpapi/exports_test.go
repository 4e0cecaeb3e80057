package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const exportText = "what was exported"

// addExport adds an export that has succeeded, with its file.
func (w *world) addExport(tenant audit.TenantID, id string, scope access.Scope) {
	w.t.Helper()
	w.addExportOf(tenant, id, scope, map[string]any{})
}

// addExportOf is addExport with the request as the job keeps it.
func (w *world) addExportOf(tenant audit.TenantID, id string, scope access.Scope, request map[string]any) {
	w.t.Helper()
	content := export.ContentOf([]byte(exportText), "application/x-ndjson")
	w.addExportJob(tenant, id, scope, map[string]any{"request": request, "bytes": content.Size, "sha256": strings.Repeat("ab", 32)})
	if err := w.files.Put(w.t.Context(), tenant, "exports/"+id, content); err != nil {
		w.t.Fatal(err)
	}
}

// revealedSum is the SHA-256 of the files of addRevealed.
var revealedSum = strings.Repeat("cd", 32)

// addRevealed adds an export of everything with encrypted values in plain that has succeeded. Its record has
// the digests of the file as the runner leaves them.
func (w *world) addRevealed(tenant audit.TenantID, id string) {
	w.t.Helper()
	digests, err := w.keys.SealText(w.t.Context(), tenant, "export "+id+" digests", []byte(`{"bytes":1234,"sha256":"`+revealedSum+`"}`))
	if err != nil {
		w.t.Fatal(err)
	}
	w.addExportJob(tenant, id, access.Scope{}, map[string]any{"request": map[string]any{"reason": "Case 17"}, "digests": digests})
	if err := w.files.Put(w.t.Context(), tenant, "revealed/"+id, export.ContentOf([]byte(exportText), "application/x-ndjson")); err != nil {
		w.t.Fatal(err)
	}
}

// addExportJob adds an export that has succeeded, with its checkpoint.
func (w *world) addExportJob(tenant audit.TenantID, id string, scope access.Scope, at map[string]any) {
	w.t.Helper()
	checkpoint, err := json.Marshal(at)
	if err != nil {
		w.t.Fatal(err)
	}
	job := jobs.Job{
		ID: id, Kind: jobs.KindExport, Tenant: tenant, State: jobs.StateSucceeded, Progress: 1, CreatedBy: "ann", CreatedAt: w.now, StartedAt: w.now,
		FinishedAt: w.now, Scope: &scope, Checkpoint: checkpoint,
	}
	if err := w.db.Jobs().CreateJob(w.t.Context(), job); err != nil {
		w.t.Fatal(err)
	}
}

// exportAnswer is an answer about an export.
type exportAnswer struct {
	ID, State, URL, SHA256 string
	Bytes                  int64
	Expired                bool
	URLExpiresAt           time.Time `json:"url_expires_at"`
	URLRequires            []string  `json:"url_requires"`
	FileExpiresAt          time.Time `json:"file_expires_at"`
}

func (w *world) export(as, id string) (e exportAnswer) {
	w.t.Helper()
	answer := w.call(as, http.MethodGet, "/logs/exports/"+id, "", nil)
	if answer.status != http.StatusOK {
		w.t.Fatalf("got status %d, want %d: %s", answer.status, http.StatusOK, answer.body)
	}
	if err := json.Unmarshal([]byte(answer.body), &e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func TestAnExportHasANewURLForSevenDays(t *testing.T) {
	w := newWorld(t)
	w.now = time.Now().UTC().Truncate(time.Millisecond) // by which the files' URLs end
	w.addExport("acme", "e1", access.Scope{})
	e := w.export("admin", "e1")
	if e.Bytes != int64(len(exportText)) {
		t.Errorf("got %d bytes, want %d", e.Bytes, len(exportText))
	}
	if want := w.now.Truncate(time.Second).Add(15 * time.Minute); !e.URLExpiresAt.Equal(want) {
		t.Errorf("the URL ends at %s, want %s", e.URLExpiresAt, want)
	}
	if want := w.now.Add(7 * 24 * time.Hour); !e.FileExpiresAt.Equal(want) {
		t.Errorf("the file ends at %s, want %s", e.FileExpiresAt, want)
	}
	if !strings.HasPrefix(e.URL, "http://") {
		t.Errorf("got URL %q, want an absolute one", e.URL)
	}
	_, query, _ := strings.Cut(e.URL, "?")
	file := httptest.NewRecorder()
	w.files.ServeHTTP(file, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/downloads?"+query, nil))
	if file.Body.String() != exportText {
		t.Errorf("downloaded %q, want %q", file.Body, exportText)
	}
	w.now = w.now.Add(7*24*time.Hour - time.Minute)
	if e := w.export("admin", "e1"); !e.URLExpiresAt.Equal(e.FileExpiresAt.Truncate(time.Second)) {
		t.Errorf("the last URL ends at %s, want with the file at %s", e.URLExpiresAt, e.FileExpiresAt)
	}
	w.now = w.now.Add(time.Minute)
	e = w.export("admin", "e1")
	if e.URL != "" {
		t.Errorf("got URL %q after the end of the file, want none", e.URL)
	}
	if !e.Expired {
		t.Error("got expired false after the end of the file, want true")
	}
	if e.SHA256 == "" {
		t.Error("got no sha256 after the end of the file, want it")
	}
}

// A URL is for those who could have made the export.
func TestExportsAreForThoseWhoCouldHaveMadeThem(t *testing.T) {
	w := newWorld(t)
	w.addExport("acme", "everything", access.Scope{})
	w.addExport("acme", "orders", access.Scope{Resources: []access.Resource{{Type: "order"}}})
	w.addExport("acme", "users", access.Scope{Resources: []access.Resource{{Type: "user"}}})
	w.addExport("acme", "both", access.Scope{Resources: []access.Resource{{Type: "order"}, {Type: "user"}}})
	for as, want := range map[string][]string{
		"admin": {"both", "everything", "orders", "users"}, "auditor": {"both", "everything", "orders", "users"}, "scoped": {"orders"},
	} {
		for _, path := range []string{"/logs/exports", "/jobs"} {
			w.wantListed(as, path, want)
			for _, id := range []string{"both", "everything", "orders", "users"} {
				status := http.StatusNotFound
				if slices.Contains(want, id) {
					status = http.StatusOK
				}
				if got := w.call(as, http.MethodGet, path+"/"+id, "", nil).status; got != status {
					t.Errorf("%s gets %s/%s with status %d, want %d", as, path, id, got, status)
				}
			}
		}
	}
	for id, want := range map[string]int{"everything": http.StatusNotFound, "users": http.StatusNotFound, "both": http.StatusNotFound, "orders": http.StatusConflict} {
		if got := w.call("scoped", http.MethodDelete, "/jobs/"+id, "", nil).status; got != want {
			t.Errorf("scoped cancels %s with status %d, want %d", id, got, want)
		}
	}
	if got := w.call("user", http.MethodGet, "/logs/exports/orders", "", nil).status; got != http.StatusForbidden {
		t.Errorf("a user gets status %d, want %d", got, http.StatusForbidden)
	}
}

// wantListed checks the ids of a list of exports. No list has a URL.
func (w *world) wantListed(as, path string, want []string) {
	w.t.Helper()
	var ids []string
	for next := "?limit=1"; next != ""; {
		var page struct {
			Items []exportAnswer
			Next  string
		}
		w.call(as, http.MethodGet, path+next, "", nil).want(w.t, http.StatusOK, "").decode(w.t, &page)
		for _, e := range page.Items {
			ids = append(ids, e.ID)
			if e.URL != "" {
				w.t.Errorf("%s: %s has the URL %q, want none", as, path, e.URL)
			}
		}
		if next = page.Next; next != "" {
			next = "?limit=1&cursor=" + url.QueryEscape(next)
		}
	}
	if slices.Sort(ids); !slices.Equal(ids, want) {
		w.t.Errorf("%s lists %v at %s, want %v", as, ids, path, want)
	}
}

// The filters of an export can have the values of encrypted fields.
func TestTheRecordOfAnExportHasNoSearchedValue(t *testing.T) {
	w := newWorld(t)
	const value = "ann@example.com"
	for _, body := range []string{`{"metadata.email":"` + value + `"}`, `{"q":"\"` + value + `\""}`} {
		w.call("admin", http.MethodPost, "/logs/exports", body, nil).want(t, http.StatusAccepted, "")
	}
	list, _, err := w.db.Jobs().Jobs(t.Context(), "acme", jobs.Filter{Kinds: []jobs.Kind{jobs.KindExport}}, nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 {
		t.Fatalf("%d exports are stored, want 2", len(list))
	}
	for _, job := range list {
		text, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), value) || strings.Contains(string(text), base64.StdEncoding.EncodeToString([]byte(value))) {
			t.Errorf("the record is %s, want it without %s", text, value)
		}
	}
}

func TestAnExportBecomesAJob(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		method, path, body string
		status             int
	}{
		"at once":       {http.MethodGet, "/logs/export", "", 200},
		"async":         {http.MethodGet, "/logs/export?async=true&format=csv", "", 202},
		"a HEAD":        {http.MethodHead, "/logs/export?async=true", "", 422},
		"another async": {http.MethodGet, "/logs/export?async=1", "", 422},
		"by a body":     {http.MethodPost, "/logs/exports", `{"fields":["id","metadata.a"],"format":"csv","bom":true,"action":["A","B"]}`, 202},
		"an empty body": {http.MethodPost, "/logs/exports", `{}`, 202},
		"bom of ndjson": {http.MethodPost, "/logs/exports", `{"bom":true}`, 422},
		"no such field": {http.MethodPost, "/logs/exports", `{"fields":["nope"]}`, 422},
		"empty lines":   {http.MethodGet, "/logs/export?format=csv&fields=session_id", "", 422},
		"and by a body": {http.MethodPost, "/logs/exports", `{"format":"csv","fields":["metadata.a"]}`, 422},
		"two formats":   {http.MethodPost, "/logs/exports", `{"format":["csv","json"]}`, 422},
		"unknown":       {http.MethodPost, "/logs/exports", `{"limit":1}`, 422},
	} {
		answer := w.call("admin", test.method, test.path, test.body, nil)
		if answer.status != test.status {
			t.Errorf("%s: got status %d, want %d: %s", name, answer.status, test.status, answer.body)
		}
		location := answer.header.Get("Location")
		if got, want := strings.HasPrefix(location, "/api/v1/jobs/"), test.status == http.StatusAccepted; got != want {
			t.Errorf("%s: got Location %q, want one: %t", name, location, want)
		}
	}
	if got := w.work.bodies; len(got) != 3 {
		t.Errorf("sent %d messages to the workers, want 3", len(got))
	}
}

func TestAnExportByALegalHold(t *testing.T) {
	w := newWorld(t)
	for id, h := range map[string]hold.Hold{"standing": {}, "released": {ReleasedAt: start}} {
		h.ID, h.Tenant, h.CreatedAt, h.Version = id, "acme", start, 1
		if err := w.db.Holds().CreateHold(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		as, method, path, body string
		status                 int
	}{
		"by a query":             {"auditor", http.MethodGet, "/logs/export?hold=standing&sort=timestamp", "", 202},
		"a HEAD":                 {"auditor", http.MethodHead, "/logs/export?hold=standing", "", 422},
		"async":                  {"auditor", http.MethodGet, "/logs/export?hold=standing&async=true", "", 202},
		"by a body":              {"auditor", http.MethodPost, "/logs/exports", `{"hold":"standing"}`, 202},
		"unknown":                {"auditor", http.MethodGet, "/logs/export?hold=none", "", 404},
		"unknown, by a body":     {"auditor", http.MethodPost, "/logs/exports", `{"hold":"none"}`, 404},
		"released":               {"auditor", http.MethodGet, "/logs/export?hold=released", "", 409},
		"released, by a body":    {"auditor", http.MethodPost, "/logs/exports", `{"hold":"released"}`, 409},
		"empty":                  {"auditor", http.MethodGet, "/logs/export?hold=", "", 422},
		"empty, by a body":       {"auditor", http.MethodPost, "/logs/exports", `{"hold":""}`, 422},
		"two":                    {"auditor", http.MethodGet, "/logs/export?hold=standing&hold=released", "", 422},
		"too long":               {"auditor", http.MethodGet, "/logs/export?hold=" + strings.Repeat("a", 65), "", 422},
		"the newest first":       {"auditor", http.MethodGet, "/logs/export?hold=standing&sort=-timestamp", "", 422},
		"without holds:read":     {"exporter", http.MethodGet, "/logs/export?hold=standing", "", 403},
		"no body, no holds:read": {"exporter", http.MethodPost, "/logs/exports", `{"hold":"none"}`, 403},
		"in a list":              {"auditor", http.MethodGet, "/logs?hold=standing", "", 422},
	} {
		answer := w.call(test.as, test.method, test.path, test.body, nil)
		if answer.status != test.status {
			t.Errorf("%s: got status %d, want %d: %s", name, answer.status, test.status, answer.body)
		}
	}
}

// Who could not have made an export by a legal hold gets no URL of it.
func TestTheURLOfAHoldsExportNeedsHoldsRead(t *testing.T) {
	w := newWorld(t)
	w.addExportOf("acme", "by-hold", access.Scope{}, map[string]any{"options": url.Values{"hold": {"h"}}})
	if e := w.export("auditor", "by-hold"); e.URL == "" || e.URLRequires != nil {
		t.Errorf("an auditor gets URL %q, lacking %q, want one", e.URL, e.URLRequires)
	}
	e := w.export("exporter", "by-hold")
	if e.URL != "" {
		t.Errorf("got URL %q without holds:read, want none", e.URL)
	}
	if want := []string{"holds:read"}; !slices.Equal(e.URLRequires, want) {
		t.Errorf("got url_requires %q, want %q", e.URLRequires, want)
	}
}

func TestARevealedExportIsAskedForInABody(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		as, method, path, body string
		status                 int
	}{
		"an admin":          {"admin", http.MethodPost, "/logs/exports", `{"reveal":true,"reason":"Case 17","format":"csv","fields":["id","revealed","erased"]}`, 202},
		"no reason":         {"admin", http.MethodPost, "/logs/exports", `{"reveal":true}`, 422},
		"no reveal":         {"admin", http.MethodPost, "/logs/exports", `{"reason":"Case 17"}`, 422},
		"a field of it":     {"admin", http.MethodPost, "/logs/exports", `{"fields":["revealed"]}`, 422},
		"an auditor":        {"auditor", http.MethodPost, "/logs/exports", `{"reveal":true,"reason":"Case 17"}`, 403},
		"in a query string": {"admin", http.MethodGet, "/logs/export?reveal=true&reason=x", "", 422},
	} {
		answer := w.call(test.as, test.method, test.path, test.body, nil)
		if answer.status != test.status {
			t.Errorf("%s: got status %d, want %d: %s", name, answer.status, test.status, answer.body)
		}
	}
}

// The URL of a revealed export is for those who may reveal. Each is recorded with the reason.
func TestTheURLOfARevealedExport(t *testing.T) {
	w := newWorld(t)
	w.now = time.Now().UTC().Truncate(time.Millisecond) // by which the files' URLs end
	w.addRevealed("acme", "revealed")
	e := w.export("auditor", "revealed")
	if want := []string{"logs:reveal"}; e.URL != "" || !slices.Equal(e.URLRequires, want) {
		t.Errorf("an auditor gets URL %q, lacking %q, want none, lacking %q", e.URL, e.URLRequires, want)
	}
	if e := w.export("admin", "revealed"); e.URL == "" {
		t.Error("an admin gets no URL, want one")
	}
	w.processQueues()
	list := w.call("admin", http.MethodGet, "/logs?action=log.reveal", "", nil).want(t, http.StatusOK, "").body
	if n := strings.Count(list, `"reason":"Case 17"`); n != 1 {
		t.Errorf("%d entries log.reveal, want 1: %s", n, list)
	}
	w.faults.set("queue", &audit.UnavailableError{Err: errors.New("down")})
	w.call("admin", http.MethodGet, "/logs/exports/revealed", "", nil).want(t, http.StatusServiceUnavailable, "")
}
