package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

var record = flag.Bool("record", false, "write the answers of TestExamples to examples.json")

// example is one exchange of the documentation.
type example struct {
	Function string          `json:"function"`
	Title    string          `json:"title"`
	Request  exampleRequest  `json:"request"`
	Response exampleResponse `json:"response"`
}

type exampleRequest struct {
	Method string      `json:"method"`
	Target string      `json:"target"`
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
}

type exampleResponse struct {
	Status int         `json:"status"`
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
}

// story makes the requests of the documentation, one after the other.
type story struct {
	*world
	told []example
}

// tell sends a request and keeps it with its answer. header holds more fields
// as name, value.
func (s *story) tell(function, title, as, method, target, body string, header ...string) reply {
	s.t.Helper()
	fields := map[string]string{}
	for i := 0; i < len(header); i += 2 {
		fields[header[i]] = header[i+1]
	}
	got := s.call(as, method, target, body, fields)
	request := exampleRequest{Method: method, Target: target, Header: http.Header{}, Body: body}
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
	response := exampleResponse{Status: got.status, Header: http.Header{}, Body: got.body}
	for _, name := range []string{"Content-Type", "ETag", "Location", "Retry-After", "WWW-Authenticate"} {
		if value := got.header.Get(name); value != "" {
			response.Header.Set(name, value)
		}
	}
	s.told = append(s.told, example{function, title, request, response})
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
	s.tell("create-log", "One entry", "writer", "POST", "/logs", firstExample).decode(s.t, &accepted)
	s.tell("get-log", "Asked for too early", "auditor", "GET", "/logs/"+accepted.ID, "")
	s.tell("create-log", "A faulty entry", "writer", "POST", "/logs", `{"user_id":"ann@acme.example","action":"2fast","colour":"red"}`)
	s.tell("create-log", "No credential", "", "POST", "/logs", `{}`)
	s.tell("create-logs-bulk", "NDJSON, all accepted", "writer", "POST", "/logs/bulk", bulkExample, "Content-Type", "application/x-ndjson")
	s.tell("create-logs-bulk", "A JSON array", "writer", "POST", "/logs/bulk", "["+strings.Replace(bulkExample, "\n", ",", 1)+"]")
	s.tell("create-logs-bulk", "A repeated, an old and a faulty entry", "writer", "POST", "/logs/bulk", mixedExample, "Content-Type", "application/x-ndjson")
	s.settle()
	page := struct{ Next string }{}
	s.tell("search-logs", "The newest two", "auditor", "GET", "/logs?limit=2", "").decode(s.t, &page)
	s.tell("search-logs", "The page after", "auditor", "GET", "/logs?limit=2&cursor="+page.Next, "")
	s.tell("search-logs", "Filters and full text", "auditor", "GET", "/logs?resource_type=order&metadata.plan=gold&q=paid%20-refunded&from=2026-03-02T00:00:00Z", "")
	s.tell("search-logs", "A query that breaks off", "auditor", "GET", "/logs?q=%22open", "")
	s.tell("get-stats", "By action and hour", "auditor", "GET", "/logs/stats?group_by=action,severity&interval=1h&top=3", "")
	s.tell("get-log", "An entry", "auditor", "GET", "/logs/"+accepted.ID, "")
	s.tell("search-logs", "A tenant that the credential does not open", "foreign", "GET", "/logs", "")
	s.tell("create-stream-ticket", "A ticket for a minute", "auditor", "POST", "/logs/stream/tickets", "")
	s.tell("create-stream-ticket", "No permission to listen", "writer", "POST", "/logs/stream/tickets", "")
}

func (s *story) quarantines() {
	conflict := strings.Replace(firstExample, "was paid", "was never paid", 1)
	s.call("writer", "POST", "/logs", conflict, nil).want(s.t, http.StatusAccepted, "")
	s.settle()
	var list struct{ Items []struct{ ID string } }
	s.tell("list-quarantine", "Other content under a used identity", "admin", "GET", "/logs/quarantine", "").decode(s.t, &list)
	if len(list.Items) != 1 {
		s.t.Fatalf("%d items are in quarantine", len(list.Items))
	}
	path := "/logs/quarantine/" + list.Items[0].ID
	s.tell("retry-quarantine", "Try again", "admin", "POST", path+"/retry", "")
	s.settle() // it comes back
	s.tell("delete-quarantine", "Discard it", "admin", "DELETE", path, "")
	s.tell("delete-quarantine", "It is gone", "admin", "DELETE", path, "")
}

func (s *story) administration() {
	s.tell("create-tenant", "A tenant", "operator", "POST", "/tenants", `{"id":"initech","name":"Initech","settings":{"retention_days":30}}`)
	s.tell("create-tenant", "An id that is taken", "operator", "POST", "/tenants", `{"id":"initech","name":"Another"}`)
	s.tell("list-tenants", "What an administrator sees", "admin", "GET", "/tenants", "")
	s.tell("get-tenant", "A tenant", "operator", "GET", "/tenants/initech", "")
	s.tell("update-tenant", "Keep entries for a year", "operator", "PUT", "/tenants/initech", `{"settings":{"retention_days":365}}`, "If-Match", `"1"`)
	s.tell("update-tenant", "Someone was faster", "operator", "PUT", "/tenants/initech", `{"name":"Initech Inc."}`, "If-Match", `"1"`)
	s.tell("update-tenant", "Without If-Match", "operator", "PUT", "/tenants/initech", `{"name":"Initech Inc."}`)
	var key struct{ ID string }
	s.tell("create-key", "A key that only writes", "admin", "POST", "/tenants/acme/keys", `{"name":"checkout service","permissions":["logs:write"],"expires_at":"2027-03-02T00:00:00Z"}`).decode(s.t, &key)
	s.tell("list-keys", "The keys", "admin", "GET", "/tenants/acme/keys", "")
	s.tell("delete-key", "Revoke it", "admin", "DELETE", "/tenants/acme/keys/"+key.ID, "")
	s.tell("delete-tenant", "The job that purges it", "operator", "DELETE", "/tenants/initech", "")
	s.tell("get-health", "All is well", "", "GET", "/health", "")
}

// TestExamples makes the requests of the documentation again: its examples are
// true answers.
func TestExamples(t *testing.T) {
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
	if err := encoder.Encode(s.told); err != nil {
		t.Fatal(err)
	}
	if *record {
		if err := os.WriteFile("examples.json", text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	file, err := os.ReadFile("examples.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, text.Bytes()) {
		t.Error("examples.json does not hold the answers of today; run go generate ./pkg/edge/httpapi")
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
	if len(list.Items) != 1 || list.Items[0].Step != "persist" || list.Items[0].Code != audit.CodeIdentityConflict || !strings.Contains(string(list.Items[0].Entry), `"metadata":{"a":1.0}`) {
		t.Fatalf("the quarantine holds %+v", list)
	}
	path := "/logs/quarantine/" + list.Items[0].ID
	w.call("user", "DELETE", path, "", nil).want(t, 403, "forbidden")
	w.call("scoped", "GET", "/logs/quarantine", "", nil).want(t, 200, "")
	w.call("admin", "POST", path+"/retry", "", nil).want(t, 202, "").is(t, `{"id":"`+list.Items[0].ID+`","status":"accepted"}`)
	w.call("admin", "POST", path+"/retry", "", nil).want(t, 404, "not_found")
	w.settle() // it conflicts as before and comes back
	w.call("admin", "DELETE", path, "", nil).want(t, 204, "")
	w.call("admin", "DELETE", path, "", nil).want(t, 404, "not_found")
	w.call("admin", "DELETE", "/logs/quarantine/nope", "", nil).want(t, 404, "not_found")
}

func TestQuarantineShowsWhatTheScopeReaches(t *testing.T) {
	w := newWorld(t)
	held := func(resource string) string {
		text := strings.Replace(entry(`,"timestamp":"2026-03-02T09:00:00Z","idempotency_key":"`+resource+`"`), `"order"`, `"`+resource+`"`, 1)
		w.call("admin", "POST", "/logs", text, nil).want(t, 202, "")
		w.call("admin", "POST", "/logs", strings.Replace(text, "UPDATE", "DELETE", 1), nil).want(t, 202, "")
		w.settle()
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
	if len(all.Items) != 3 || len(scoped.Items) != 1 || scoped.Items[0].Entry.ResourceType != "order" {
		t.Fatalf("all %+v, scoped %+v", all, scoped)
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
		w.settle()
	}
	seen, query := map[string]bool{}, ""
	for pages := 1; ; pages++ {
		var page struct {
			Items []struct{ ID string }
			Next  *string
		}
		got := w.call("admin", "GET", "/logs/quarantine?limit=1000"+query, "", nil).want(t, 200, "")
		if got.decode(t, &page); len(got.body) > audit.MaxPageBytes+8192 {
			t.Errorf("a page has %d bytes", len(got.body))
		}
		for _, item := range page.Items {
			seen[item.ID] = true
		}
		if page.Next == nil {
			if pages < 2 || len(seen) != items {
				t.Errorf("%d items on %d pages", len(seen), pages)
			}
			return
		}
		query = "&cursor=" + *page.Next
	}
}
