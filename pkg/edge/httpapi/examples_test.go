package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// examplesFile is where package apispec reads the examples.
const examplesFile = "../apispec/examples.json"

var writeExamples = flag.Bool("record", false, "write the answers of the documentation to examples.json")

// story makes the requests of the documentation, one after the other.
type story struct {
	*world
	examples []apispec.Example
}

// record sends a request and adds it to the examples. header holds more fields
// as name, value.
func (s *story) record(function, title, as, method, target, body string, header ...string) reply {
	s.t.Helper()
	fields := map[string]string{}
	for i := 0; i < len(header); i += 2 {
		fields[header[i]] = header[i+1]
	}
	got := s.call(as, method, target, body, fields)
	request := apispec.ExampleRequest{Method: method, Target: target, Header: http.Header{}, Body: body}
	if as != "" {
		request.Header.Set("Authorization", "Bearer …")
		if !strings.HasPrefix(target, "/tenants") {
			request.Header.Set("X-Tenant-ID", "acme")
		}
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range fields {
		request.Header.Set(name, value)
	}
	response := apispec.ExampleResponse{Status: got.status, Header: http.Header{}, Body: got.body}
	for _, name := range []string{"Content-Type", "ETag", "Location", "Retry-After", "WWW-Authenticate"} {
		if value := got.header.Get(name); value != "" {
			response.Header.Set(name, value)
		}
	}
	s.examples = append(s.examples, apispec.Example{Function: function, Title: title, Request: request, Response: response})
	return got
}

const (
	firstExample = `{"user_id":"ann@acme.example","action":"UPDATE","resource_type":"order","resource_id":"4711",` +
		`"timestamp":"2026-03-02T09:29:41.250Z","idempotency_key":"order-4711-v7","message":"Order 4711 was paid","severity":"INFO",` +
		`"before_state":{"status":"open","total":1299},"after_state":{"status":"paid","total":1299},"metadata":{"plan":"gold","region":"eu-central-1"}}`
	bulkExample = `{"user_id":"ann@acme.example","action":"VIEW","resource_type":"invoice","resource_id":"R-17","timestamp":"2026-03-02T09:28:00Z","idempotency_key":"v-1"}` + "\n" +
		`{"user_id":"bob@acme.example","action":"DELETE","resource_type":"user","resource_id":"42","timestamp":"2026-03-02T09:27:30Z","idempotency_key":"d-1","severity":"WARNING","message":"User 42 was deleted"}`
	mixedExample = `{"user_id":"ann@acme.example","action":"VIEW","resource_type":"invoice","timestamp":"2026-03-02T09:28:00Z","idempotency_key":"v-2"}` + "\n" +
		`{"user_id":"ann@acme.example","action":"VIEW","resource_type":"invoice","timestamp":"2026-03-02T09:28:00Z","idempotency_key":"v-2"}` + "\n" +
		`{"user_id":"ann@acme.example","action":"VIEW","resource_type":"invoice","timestamp":"2019-01-01T00:00:00Z"}` + "\n" +
		`{"user_id":"","action":"VIEW","resource_type":"invoice","colour":"red"}`
)

func (s *story) logs() {
	var accepted struct{ ID string }
	s.record("create-log", "One entry", "writer", "POST", "/logs", firstExample).decode(s.t, &accepted)
	s.record("get-log", "Asked for too early", "auditor", "GET", "/logs/"+accepted.ID, "")
	s.record("create-log", "A faulty entry", "writer", "POST", "/logs", `{"user_id":"ann@acme.example","action":"2fast","colour":"red"}`)
	s.record("create-log", "No credential", "", "POST", "/logs", `{}`)
	s.record("create-logs-bulk", "NDJSON, all accepted", "writer", "POST", "/logs/bulk", bulkExample, "Content-Type", "application/x-ndjson")
	s.record("create-logs-bulk", "A JSON array", "writer", "POST", "/logs/bulk", "["+strings.Replace(bulkExample, "\n", ",", 1)+"]")
	s.record("create-logs-bulk", "A repeated, an old and a faulty entry", "writer", "POST", "/logs/bulk", mixedExample, "Content-Type", "application/x-ndjson")
	s.processQueues()
	page := struct{ Next string }{}
	s.record("list-logs", "The newest two", "auditor", "GET", "/logs?limit=2", "").decode(s.t, &page)
	s.record("list-logs", "The page after", "auditor", "GET", "/logs?limit=2&cursor="+page.Next, "")
	s.record("list-logs", "Filters and full text", "auditor", "GET", "/logs?resource_type=order&metadata.plan=gold&q=paid%20-refunded&from=2026-03-02T00:00:00Z", "")
	s.record("list-logs", "A query that breaks off", "auditor", "GET", "/logs?q=%22open", "")
	s.record("search-logs", "Several values, and full text", "auditor", "POST", "/logs/search", `{"action":["UPDATE","DELETE"],"metadata.plan":"gold","q":"paid -refunded","limit":2}`).decode(s.t, &page)
	s.record("search-logs", "A value of the wrong type, and a time that is none", "auditor", "POST", "/logs/search", `{"user_id":null,"from":"yesterday"}`)
	s.record("feed-logs", "From the beginning", "auditor", "GET", "/logs/feed?limit=2", "").decode(s.t, &page)
	s.record("feed-logs", "What arrived after it", "auditor", "GET", "/logs/feed?limit=2&severity=WARNING&cursor="+page.Next, "")
	s.record("feed-logs", "Only what arrives from now on", "auditor", "GET", "/logs/feed?cursor=now", "")
	s.record("feed-logs", "A cursor of another list", "auditor", "GET", "/logs/feed?cursor=AAAA", "")
	s.record("get-stats", "By action and hour", "auditor", "GET", "/logs/stats?group_by=action,severity&interval=1h&top=3", "")
	s.record("export-logs", "Three fields of what one user did", "auditor", "GET", "/logs/export?format=json&user_id=ann@acme.example&fields=timestamp,action,metadata.plan", "")
	s.record("export-logs", "A format that there is not", "auditor", "GET", "/logs/export?format=xlsx", "")
	s.record("create-export", "What two actions did, as a compressed file", "auditor", "POST", "/logs/exports", `{"format":"csv","compress":"gzip","action":["UPDATE","DELETE"],"fields":["timestamp","user_id","metadata.plan"]}`)
	s.record("create-export", "A format that there is not", "auditor", "POST", "/logs/exports", `{"format":"xlsx"}`)
	s.record("list-exports", "The newest one", "auditor", "GET", "/logs/exports?limit=1", "")
	s.record("cleanup-logs", "What a cleanup would remove", "admin", "DELETE", "/logs/cleanup?before=2026-03-02T09:29:00Z&action=VIEW&dry_run=true", "")
	s.record("cleanup-logs", "A job that removes it", "admin", "DELETE", "/logs/cleanup?before=2026-03-02T09:29:00Z&action=VIEW", "")
	s.record("cleanup-logs", "Without a bound", "admin", "DELETE", "/logs/cleanup?action=VIEW", "")
	s.record("get-log", "An entry", "auditor", "GET", "/logs/"+accepted.ID, "")
	s.record("list-logs", "A tenant that the credential gives no access to", "foreign", "GET", "/logs", "")
	s.record("create-stream-ticket", "A ticket for a minute", "auditor", "POST", "/logs/stream/tickets", "")
	s.record("create-stream-ticket", "No permission to listen", "writer", "POST", "/logs/stream/tickets", "")
}

func (s *story) quarantines() {
	conflict := strings.Replace(firstExample, "was paid", "was never paid", 1)
	s.call("writer", "POST", "/logs", conflict, nil).want(s.t, http.StatusAccepted, "")
	s.processQueues()
	var list struct{ Items []struct{ ID string } }
	s.record("list-quarantine", "Other content under a used identity", "admin", "GET", "/logs/quarantine", "").decode(s.t, &list)
	if len(list.Items) != 1 {
		s.t.Fatalf("%d items are in quarantine, want 1", len(list.Items))
	}
	path := "/logs/quarantine/" + list.Items[0].ID
	s.record("retry-quarantine", "Try again", "admin", "POST", path+"/retry", "")
	s.processQueues() // it comes back
	s.record("delete-quarantine", "Discard it", "admin", "DELETE", path, "")
	s.record("delete-quarantine", "It is gone", "admin", "DELETE", path, "")
}

func (s *story) administration() {
	s.record("create-tenant", "A tenant", "operator", "POST", "/tenants", `{"id":"initech","name":"Initech","settings":{"retention_days":30}}`)
	s.record("create-tenant", "An id that is taken", "operator", "POST", "/tenants", `{"id":"initech","name":"Another"}`)
	s.record("list-tenants", "What an administrator sees", "admin", "GET", "/tenants", "")
	s.record("get-tenant", "A tenant", "operator", "GET", "/tenants/initech", "")
	s.record("update-tenant", "Keep entries for a year", "operator", "PUT", "/tenants/initech", `{"name":"Initech","settings":{"retention_days":365}}`, "If-Match", `"1"`)
	s.record("update-tenant", "Someone was faster", "operator", "PUT", "/tenants/initech", `{"name":"Initech Inc."}`, "If-Match", `"1"`)
	s.record("update-tenant", "Without If-Match", "operator", "PUT", "/tenants/initech", `{"name":"Initech Inc."}`)
	s.record("patch-tenant", "Rename it", "operator", "PATCH", "/tenants/initech", `{"name":"Initech Inc."}`, "If-Match", `"2"`)
	s.record("patch-tenant", "Suspend it", "operator", "PATCH", "/tenants/initech", `{"status":"suspended"}`, "If-Match", `"3"`)
	s.record("patch-tenant", "An administrator cannot", "admin", "PATCH", "/tenants/acme", `{"status":"suspended"}`, "If-Match", "*")
	var key struct{ ID string }
	s.record("create-key", "A key that only writes", "admin", "POST", "/tenants/acme/api-keys", `{"name":"checkout service","permissions":["logs:write"],"expires_at":"2027-03-02T00:00:00Z"}`).decode(s.t, &key)
	s.record("list-keys", "The keys", "admin", "GET", "/tenants/acme/api-keys", "")
	s.record("delete-key", "Revoke it", "admin", "DELETE", "/tenants/acme/api-keys/"+key.ID, "")
	s.erasures()
	s.restores()
	s.legalHolds()
	var job struct{ ID string }
	s.record("delete-tenant", "The job that purges it", "operator", "DELETE", "/tenants/initech", "").decode(s.t, &job)
	s.record("get-job", "How far it is", "operator", "GET", "/jobs/"+job.ID, "", "X-Tenant-ID", "initech")
	s.record("list-jobs", "The tenant's jobs", "operator", "GET", "/jobs?state=queued", "", "X-Tenant-ID", "initech")
	s.record("cancel-job", "A deletion goes on", "operator", "DELETE", "/jobs/"+job.ID, "", "X-Tenant-ID", "initech")
	s.record("get-health", "All is well", "", "GET", "/health", "")
}

func (s *story) erasures() {
	const path = "/tenants/acme/erasures"
	var started struct{ ID string }
	s.record("create-erasure", "After three days", "admin", "POST", path, `{"subject":"user-42","reason":"Request 17","delay_hours":72}`).decode(s.t, &started)
	s.record("create-erasure", "Oneself", "admin", "POST", path, `{"subject":"ann","reason":"Request 18"}`)
	s.record("list-erasures", "The tenant's erasures", "auditor", "GET", path, "")
	s.record("get-erasure", "How far it is", "auditor", "GET", path+"/"+started.ID, "")
	s.record("get-certificate", "An id that no certificate has", "", "GET", "/certificates/00112233445566778899aabbccddeeff", "")
	s.record("cancel-erasure", "Cancel it", "admin", "DELETE", path+"/"+started.ID, "")
}

func (s *story) restores() {
	const path = "/tenants/acme/restores"
	var started struct{ ID string }
	s.record("create-restore", "A quarter, for a week", "admin", "POST", path, `{"from":"2025-10-01T00:00:00Z","to":"2026-01-01T00:00:00Z","days":7}`).decode(s.t, &started)
	s.record("create-restore", "A time that ends before it begins", "admin", "POST", path, `{"from":"2026-01-01T00:00:00Z","to":"2025-10-01T00:00:00Z"}`)
	s.record("list-restores", "The tenant's restores", "auditor", "GET", path, "")
	s.record("get-restore", "How far it is", "auditor", "GET", path+"/"+started.ID, "")
	s.record("cancel-restore", "Cancel it", "admin", "DELETE", path+"/"+started.ID, "")
}

func (s *story) legalHolds() {
	const path = "/tenants/acme/legal-holds"
	var set struct{ ID string }
	s.record("create-legal-hold", "What a user did in a quarter", "admin", "POST", path,
		`{"matter":"Case 17","reason":"Letter of March 1","user_ids":["user-42"],"from":"2026-01-01T00:00:00Z","to":"2026-04-01T00:00:00Z"}`).decode(s.t, &set)
	s.record("create-erasure", "A legal hold stands", "admin", "POST", "/tenants/acme/erasures", `{"subject":"user-42","reason":"Request 19"}`)
	s.record("list-legal-holds", "The tenant's holds", "auditor", "GET", path, "")
	s.record("get-legal-hold", "One hold", "auditor", "GET", path+"/"+set.ID, "")
	s.record("release-legal-hold", "Release it", "admin", "DELETE", path+"/"+set.ID+"?reason=The+case+is+closed", "")
}

// TestExamplesAreCurrent makes the requests of the documentation again, so that
// its examples are real responses.
func TestExamplesAreCurrent(t *testing.T) {
	s := &story{world: newWorld(t)}
	s.gate.NewRequestID = func() string { return "5f0c9d3e-7a52-4a0b-9d0e-1c9f6b1f2a77" }
	for _, chapter := range []func(){s.logs, s.quarantines, s.administration} {
		chapter()
		s.advance(10 * time.Second)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s.examples); err != nil {
		t.Fatal(err)
	}
	if *writeExamples {
		if err := os.WriteFile(examplesFile, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	file, err := os.ReadFile(examplesFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, text.Bytes()) {
		t.Error("got a stale examples.json, want the responses of the handlers; run go generate ./pkg/edge/apispec")
	}
}

func TestQuarantine(t *testing.T) {
	w := newWorld(t)
	identity := `,"timestamp":"2026-03-02T09:00:00Z","idempotency_key":"k","metadata":{"a":1.0}`
	w.wrote(identity)
	w.wrote(identity + `,"message":"forged"`)
	var list struct {
		Items []struct {
			ID, Step, Code, Reason string
			Entry                  json.RawMessage
		}
		Next, Prev *string
	}
	w.call("admin", "GET", "/logs/quarantine", "", nil).want(t, 200, "").decode(t, &list)
	if len(list.Items) != 1 {
		t.Fatalf("the quarantine: got %d items, want 1", len(list.Items))
	}
	if list.Items[0].Step != "persist" {
		t.Fatalf("the quarantine: got step %q, want %q", list.Items[0].Step, "persist")
	}
	if list.Items[0].Code != audit.CodeIdentityConflict {
		t.Fatalf("the quarantine: got code %q, want %q", list.Items[0].Code, audit.CodeIdentityConflict)
	}
	if !strings.Contains(string(list.Items[0].Entry), `"metadata":{"a":1.0}`) {
		t.Fatalf("the quarantine: got entry %q, want it to contain %q", string(list.Items[0].Entry), `"metadata":{"a":1.0}`)
	}
	path := "/logs/quarantine/" + list.Items[0].ID
	w.call("user", "DELETE", path, "", nil).want(t, 403, "forbidden")
	w.call("scoped", "GET", "/logs/quarantine", "", nil).want(t, 200, "")
	w.call("admin", "POST", path+"/retry", "", nil).want(t, 202, "").is(t, `{"id":"`+list.Items[0].ID+`","status":"accepted"}`)
	w.call("admin", "POST", path+"/retry", "", nil).want(t, 404, "not_found")
	w.processQueues() // it conflicts as before and comes back
	var set struct{ ID string }
	w.call("admin", "POST", legalHolds, `{"matter":"Case 17","reason":"letter"}`, nil).want(t, 202, "").decode(t, &set)
	wantDetail(t, w.call("admin", "DELETE", path, "", nil), `A legal hold covers the entry. Its matter is "Case 17". GET /tenants/{id}/legal-holds lists the holds.`)
	w.call("admin", "DELETE", legalHolds+"/"+set.ID+"?reason=closed", "", nil).want(t, 200, "")
	w.call("admin", "DELETE", path, "", nil).want(t, 204, "")
	w.call("admin", "DELETE", path, "", nil).want(t, 404, "not_found")
	w.call("admin", "DELETE", "/logs/quarantine/nope", "", nil).want(t, 404, "not_found")
}

// TestQuarantinePagesOfAScopeAreFull: neither the length of a page nor its cursors tell of
// items outside the caller's scope.
func TestQuarantinePagesOfAScopeAreFull(t *testing.T) {
	w := newWorld(t)
	visible := map[string]bool{}
	var items []quarantine.Item
	for i := range 300 {
		item := quarantine.Item{ID: fmt.Sprintf("%032x", i), Step: audit.StepPersist, Code: audit.CodeUnstorable, QuarantinedAt: start, Entry: audit.Entry{
			ID: audit.NewEntryID(start, [10]byte{byte(i), byte(i >> 8)}), Tenant: "acme", UserID: "u", Action: "READ", ResourceType: "invoice", Timestamp: start, ReceivedAt: start,
		}}
		if i == 100 || i == 101 || i == 220 {
			item.Entry.ResourceType = "order"
			visible[item.ID] = true
		}
		items = append(items, item)
	}
	if err := w.db.Quarantine().Put(t.Context(), "acme", items); err != nil {
		t.Fatal(err)
	}
	target := "/logs/quarantine?limit=1"
	for pages := 1; ; pages++ {
		var page struct {
			Items      []struct{ ID string }
			Next, Prev *string
		}
		w.call("scoped", "GET", target, "", nil).want(t, 200, "").decode(t, &page)
		if len(page.Items) != 1 {
			t.Fatalf("page %d: got %d items, want 1", pages, len(page.Items))
		}
		for _, link := range []*string{page.Next, page.Prev} {
			if link == nil {
				continue
			}
			payload, err := w.cursors.Parse("quarantine of acme", *link)
			if err != nil {
				t.Fatal(err)
			}
			var path []string
			if err := json.Unmarshal(payload, &path); err != nil {
				t.Fatal(err)
			}
			for _, id := range path {
				if id != "" && !visible[id] {
					t.Errorf("page %d: a cursor names %s, want only ids that the caller may see", pages, id)
				}
			}
		}
		if page.Next == nil {
			if pages != len(visible) {
				t.Errorf("got %d pages, want %d", pages, len(visible))
			}
			return
		}
		target = "/logs/quarantine?limit=1&cursor=" + *page.Next
	}
}

func TestQuarantineShowsWhatTheScopeReaches(t *testing.T) {
	w := newWorld(t)
	held := func(resource string) string {
		text := strings.Replace(entry(`,"timestamp":"2026-03-02T09:00:00Z","idempotency_key":"`+resource+`"`), `"order"`, `"`+resource+`"`, 1)
		w.call("admin", "POST", "/logs", text, nil).want(t, 202, "")
		w.call("admin", "POST", "/logs", strings.Replace(text, "UPDATE", "DELETE", 1), nil).want(t, 202, "")
		w.processQueues()
		return resource
	}
	for _, resource := range []string{"order", "invoice", "user"} {
		held(resource)
	}
	type page struct {
		Items []struct {
			ID    string
			Entry struct {
				ResourceType string `json:"resource_type"`
			}
		}
		Next *string
	}
	var all, scoped page
	w.call("admin", "GET", "/logs/quarantine", "", nil).want(t, 200, "").decode(t, &all)
	w.call("scoped", "GET", "/logs/quarantine", "", nil).want(t, 200, "").decode(t, &scoped)
	if len(all.Items) != 3 {
		t.Fatalf("unscoped: got %d items, want 3", len(all.Items))
	}
	if len(scoped.Items) != 1 {
		t.Fatalf("scoped: got %d items, want 1", len(scoped.Items))
	}
	if scoped.Items[0].Entry.ResourceType != "order" {
		t.Fatalf("scoped: got resource type %q, want %q", scoped.Items[0].Entry.ResourceType, "order")
	}
	for _, item := range all.Items {
		if item.Entry.ResourceType == "order" {
			continue
		}
		w.call("scoped", "POST", "/logs/quarantine/"+item.ID+"/retry", "", nil).want(t, 404, "not_found")
		w.call("scoped", "DELETE", "/logs/quarantine/"+item.ID, "", nil).want(t, 404, "not_found")
	}
	w.call("scoped", "DELETE", "/logs/quarantine/"+scoped.Items[0].ID, "", nil).want(t, 204, "")
}

func TestQuarantinePagesEndBeforeTheyAreTooLarge(t *testing.T) {
	w := newWorld(t)
	const items = 20 // of a quarter of a megabyte each
	big := strings.Repeat("x", 250<<10)
	for i := range items {
		text := entry(`,"timestamp":"2026-03-02T09:00:00Z","idempotency_key":"` + strings.Repeat("k", i+1) + `","metadata":{"a":"` + big + `"}`)
		w.call("admin", "POST", "/logs", text, nil).want(t, 202, "")
		w.call("admin", "POST", "/logs", strings.Replace(text, "UPDATE", "DELETE", 1), nil).want(t, 202, "")
		w.processQueues()
	}
	seen, query := map[string]bool{}, ""
	for pages := 1; ; pages++ {
		var page struct {
			Items []struct{ ID string }
			Next  *string
		}
		got := w.call("admin", "GET", "/logs/quarantine?limit=1000"+query, "", nil).want(t, 200, "")
		if got.decode(t, &page); len(got.body) > audit.MaxPageBytes {
			t.Errorf("got a page of %d bytes, want at most %d", len(got.body), audit.MaxPageBytes)
		}
		for _, item := range page.Items {
			seen[item.ID] = true
		}
		if page.Next == nil {
			if pages < 2 {
				t.Errorf("got %d pages, want at least 2", pages)
			}
			if len(seen) != items {
				t.Errorf("pages %d: got %d items, want %d", pages, len(seen), items)
			}
			return
		}
		query = "&cursor=" + *page.Next
	}
}
