package localcloud_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestEndToEndAnEntryIsStoredOnceAndFound(t *testing.T) { everyWay(t, anEntryIsStoredOnceAndFound) }

func anEntryIsStoredOnceAndFound(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	ann := admin.as(admin.roleToken("acme", access.RoleUser, "ann"), "acme") // whose address is taken
	const entry = `{"user_id":"ann","action":"DELETE","resource_type":"order","resource_id":"42","timestamp":"2026-01-02T03:04:05.678Z","idempotency_key":"k1","severity":"ERROR","message":"Order 42 was cancelled","metadata":{"region":"eu"},"before_state":{"a":1},"after_state":{"a":2}}`
	var id string
	for range 3 { // a retry repeats timestamp and key
		got := ann.do("POST", "/logs", entry, nil)
		var accepted struct{ ID, Status string }
		got.decode(t, &accepted)
		if got.status != http.StatusAccepted {
			t.Fatalf("got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
		}
		if accepted.Status != "accepted" {
			t.Fatalf("got status %q, want %q", accepted.Status, "accepted")
		}
		if id != "" && id != accepted.ID {
			t.Fatalf("got ID %q, want %q", accepted.ID, id)
		}
		id = accepted.ID
	}
	admin.eventually(1)
	got := admin.get("/logs/"+id, nil)
	var stored map[string]any
	got.decode(t, &stored)
	for name, want := range map[string]string{
		"id": id, "tenant_id": "acme", "user_id": "ann", "timestamp": "2026-01-02T03:04:05.678Z", "status": "indexed",
		"severity": "ERROR", "message": "Order 42 was cancelled", "ip_address": "127.0.0.1",
	} {
		if stored[name] != want {
			t.Errorf("%s is %v, want %s", name, stored[name], want)
		}
	}
	if fmt.Sprint(stored["changed"]) != "[a]" {
		t.Errorf("got changed fields %v, want [a]", stored["changed"])
	}
	for _, query := range []url.Values{
		{"user_id": {"ann"}}, {"user_id": {"bob", "ann"}}, {"action": {"DELETE"}}, {"severity": {"ERROR", "CRITICAL"}}, {"changed": {"a"}},
		{"metadata.region": {"eu"}}, {"q": {"cancelled"}}, {"q": {`"order 42" action:DELETE severity>=ERROR -paid`}}, {"ip_address": {"127.0.0.1"}},
		{"from": {"2026-01-02"}, "to": {"2026-01-03"}}, {"q": {"metadata.region:eu canc*"}},
	} {
		if list := admin.list(query); len(list.Items) != 1 {
			t.Errorf("%v: got %d entries, want 1", query, len(list.Items))
		}
	}
	for _, query := range []url.Values{
		{"user_id": {"Ann"}}, {"action": {"delete"}}, {"metadata.region": {"us"}}, {"q": {"paid"}}, {"q": {"-cancelled"}},
		{"from": {"2026-01-02T03:04:05.679Z"}}, {"to": {"2026-01-02T03:04:05.678Z"}}, {"q": {`"42 order"`}},
	} {
		if list := admin.list(query); len(list.Items) != 0 {
			t.Errorf("%v: got %d entries, want none", query, len(list.Items))
		}
	}
}

func TestEndToEndEntriesOfOneRequestKeepTheirOrder(t *testing.T) {
	everyWay(t, entriesOfOneRequestKeepTheirOrder)
}

func entriesOfOneRequestKeepTheirOrder(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	entries := make([]string, audit.MaxBulkEntries)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"user_id":"ann","action":"UPDATE","resource_type":"order","resource_id":"%d","timestamp":"2026-01-02T03:04:05.678Z"}`, i)
	}
	admin.bulk(entries)
	admin.eventually(len(entries))
	list := admin.list(url.Values{"sort": {"timestamp"}, "limit": {fmt.Sprint(len(entries))}})
	if len(list.Items) != len(entries) {
		t.Fatalf("got %d entries, want %d", len(list.Items), len(entries))
	}
	for i, item := range list.Items {
		if got, want := string(item["resource_id"]), fmt.Sprintf("%q", fmt.Sprint(i)); got != want {
			t.Fatalf("entry %d of the list is %s, want %s", i, got, want)
		}
	}
}

func TestEndToEndAnIdentityWithOtherContentGoesToQuarantine(t *testing.T) {
	everyWay(t, anIdentityWithOtherContentGoesToQuarantine)
}

func anIdentityWithOtherContentGoesToQuarantine(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	admin.do("POST", "/logs", entryText(1), nil)
	admin.eventually(1)
	admin.do("POST", "/logs", strings.Replace(entryText(1), "entry number", "forged entry", 1), nil)
	var held struct {
		Items []struct {
			ID, Step, Code, Reason string
			Entry                  map[string]any
		}
	}
	for deadline := time.Now().Add(20 * time.Second); len(held.Items) == 0; {
		admin.get("/logs/quarantine", nil).decode(t, &held)
		if time.Now().After(deadline) {
			t.Fatal("got no entry in quarantine, want one")
		}
	}
	switch item := held.Items[0]; {
	case item.Code != audit.CodeIdentityConflict:
		t.Errorf("got code %q, want %q", item.Code, audit.CodeIdentityConflict)
	case item.Step != "persist":
		t.Errorf("got step %q, want %q", item.Step, "persist")
	case item.Entry["message"] != "forged entry 1":
		t.Errorf("got message %v, want %v", item.Entry["message"], "forged entry 1")
	}
	if got := admin.list(nil); len(got.Items) != 1 {
		t.Errorf("the stored entry changed: got %d items, want 1", len(got.Items))
	} else if !bytes.Contains(got.Items[0]["message"], []byte("entry number 1")) {
		t.Errorf("the stored entry changed: got message %q, want it to contain %q", got.Items[0]["message"], []byte("entry number 1"))
	}
	path := "/logs/quarantine/" + held.Items[0].ID
	if got := admin.do("POST", path+"/retry", "", nil); got.status/100 != 2 {
		t.Errorf("retry: got status %d, want 2xx: %s", got.status, got.body)
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // it conflicts again
		admin.get("/logs/quarantine", nil).decode(t, &held)
		if len(held.Items) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the retried entry is not in quarantine, want it there again")
		}
	}
	if got := admin.do("DELETE", path, "", nil); got.status/100 != 2 {
		t.Errorf("delete: got status %d, want 2xx: %s", got.status, got.body)
	}
	if got := admin.do("DELETE", path, "", nil); got.status != http.StatusNotFound {
		t.Errorf("delete again: got status %d, want %d: %s", got.status, http.StatusNotFound, got.body)
	}
}

// sevenFaults are entries with one fault each, and the pointer and code of the fault.
var sevenFaults = []struct{ text, pointer, code string }{
	{`{"action":"A","resource_type":"r"}`, "/user_id", "required"},
	{`{"user_id":"u","action":"9 lives","resource_type":"r"}`, "/action", "invalid_action"},
	{`{"user_id":"u","action":"A","resource_type":"r","severity":"LOUD"}`, "/severity", "invalid_severity"},
	{`{"user_id":"u","action":"A","resource_type":"r","timestamp":"31.12.2025"}`, "/timestamp", "invalid_timestamp"},
	{`{"user_id":"u","action":"A","resource_type":"r","ip_address":"1.2.3"}`, "/ip_address", "invalid_ip_address"},
	{`{"user_id":"u","action":"A","resource_type":"r","metadata":{"a":{"b":1,"b":2}}}`, "/metadata/a/b", "duplicate_key"},
	{`{"user_id":"u","action":"A","resource_type":"r","colour":"red"}`, "/colour", "unknown_field"},
}

func TestEndToEndBulkWithSevenFaults(t *testing.T) { everyWay(t, bulkWithSevenFaults) }

func bulkWithSevenFaults(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	entries := make([]string, 1000)
	faults := map[int]int{}
	for i := range entries {
		entries[i] = entryText(i)
		if i%143 == 7 {
			faults[i] = len(faults)
			entries[i] = sevenFaults[faults[i]].text
		}
	}
	if len(faults) != 7 {
		t.Fatalf("got %d faults, want 7", len(faults))
	}
	got := admin.do("POST", "/logs/bulk", "["+strings.Join(entries, ",")+"]", nil)
	var answer bulkAnswer
	got.decode(t, &answer)
	if got.status != http.StatusMultiStatus {
		t.Fatalf("got status %d, want %d: %s", got.status, http.StatusMultiStatus, got.body)
	}
	if answer.Accepted != 993 {
		t.Fatalf("accepted %d, want 993", answer.Accepted)
	}
	if answer.Rejected != 7 {
		t.Fatalf("rejected %d, want 7", answer.Rejected)
	}
	if len(answer.Items) != 1000 {
		t.Fatalf("got %d items, want 1000", len(answer.Items))
	}
	for i, item := range answer.Items {
		n, faulty := faults[i]
		if !faulty {
			if item.Status != "accepted" {
				t.Errorf("item %d: %+v: got status %q, want %q", i, item, item.Status, "accepted")
			}
			if item.Index != i {
				t.Errorf("%+v: got index %d, want %d", item, item.Index, i)
			}
			continue
		}
		switch {
		case item.Status != "rejected":
			t.Errorf("item %d: %+v: got status %q, want %q", i, item, item.Status, "rejected")
		case item.Error == nil:
			t.Errorf("item %d: %+v: got no error, want one", i, item)
		case len(item.Error.Errors) != 1:
			t.Errorf("item %d: %+v: got %d errors, want 1", i, item, len(item.Error.Errors))
		case item.Error.Errors[0].Pointer != sevenFaults[n].pointer:
			t.Errorf("item %d: %+v: got pointer %q, want %q", i, item, item.Error.Errors[0].Pointer, sevenFaults[n].pointer)
		case item.Error.Errors[0].Code != sevenFaults[n].code:
			t.Errorf("item %d: %+v: got code %q, want %q", i, item, item.Error.Errors[0].Code, sevenFaults[n].code)
		}
	}
	admin.eventually(993)
}

func TestEndToEndBodyForms(t *testing.T) { everyWay(t, bodyForms) }

func bodyForms(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	lines := entryText(1) + "\n\n" + entryText(2) + "\r\n" + `{"broken` + "\n" + entryText(3)
	zip := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zst := func(text string) string { return string(encoder.EncodeAll([]byte(text), nil)) }
	padding := strings.Repeat(" ", 17<<20)
	for name, test := range map[string]struct {
		body, contentType, encoding string
		status                      int
	}{
		"ndjson":                {lines, "application/x-ndjson", "", 207},
		"ndjson gzip":           {zip(lines), "application/x-ndjson", "gzip", 207},
		"array zstd":            {zst("[" + entryText(4) + "]"), "application/json", "zstd", 202},
		"gzip bomb":             {zip("[" + padding + "]"), "application/json", "gzip", 413},
		"zstd bomb":             {zst("[" + padding + "]"), "application/json", "zstd", 413},
		"over 4 MiB":            {"[" + strings.Repeat(" ", 4<<20) + "]", "application/json", "", 413},
		"too many":              {"[" + strings.Repeat("{},", 1000) + "{}]", "application/json", "", 422},
		"not gzip":              {"[]", "application/json", "gzip", 400},
		"unknown encoding":      {"[]", "application/json", "br", 415},
		"unknown type":          {"[]", "text/plain", "", 415},
		"syntax":                {"[" + entryText(5) + ",", "application/json", "", 400},
		"no array":              {entryText(5), "application/json", "", 400},
		"empty":                 {"[]", "application/json", "", 422},
		"trailing":              {"[" + entryText(5) + "] x", "application/json", "", 400},
		"array with non-object": {"[" + entryText(6) + ",5]", "application/json", "", 207},
	} {
		t.Run(name, func(t *testing.T) {
			header := map[string]string{"Content-Type": test.contentType}
			if test.encoding != "" {
				header["Content-Encoding"] = test.encoding
			}
			if got := admin.do("POST", "/logs/bulk", test.body, header); got.status != test.status {
				t.Errorf("%d %.300s, want %d", got.status, got.body, test.status)
			}
		})
	}
	admin.eventually(5) // 1, 2, 3, 4 and 6: refused requests stored nothing
}

func TestEndToEndPagesWhileMoreIsWritten(t *testing.T) { everyWay(t, pagesWhileMoreIsWritten) }

func pagesWhileMoreIsWritten(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	const before = 700
	var entries []string
	for i := range before {
		entries = append(entries, entryText(i))
	}
	admin.bulk(entries)
	admin.eventually(before)
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range 20 {
			var more []string
			for j := range 10 { // newer than all of the others
				more = append(more, strings.Replace(entryText(10_000+10*i+j), "2026-01-02T03", "2026-01-02T04", 1))
			}
			admin.bulk(more)
		}
	})
	for _, query := range []url.Values{{}, {"action": {"UPDATE"}}, {"q": {"entry"}}} {
		for _, sort := range []string{"-timestamp", "+timestamp"} {
			query.Set("sort", sort)
			query.Set("limit", "37")
			query.Set("to", "2026-01-02T04:00:00Z")
			forwards, lastPrev := walk(t, admin, query, "")
			if len(forwards) != before {
				t.Fatalf("%v: got %d forwards, want %d", query, len(forwards), before)
			}
			if len(slices.Compact(slices.Sorted(slices.Values(forwards)))) != before {
				t.Fatalf("%v: got %d different forwards, want %d", query, len(slices.Compact(slices.Sorted(slices.Values(forwards)))), before)
			}
			backwards := walkBack(t, admin, query, lastPrev)
			slices.Reverse(backwards)
			if !slices.Equal(backwards, forwards[:len(backwards)]) {
				t.Errorf("%v: got backwards %q, want %q", query, backwards, forwards[:len(backwards)])
			} else if before-len(backwards) > 37 {
				t.Errorf("%v: backwards lacks %d entries, want at most 37", query, before-len(backwards))
			}
		}
	}
	writing.Wait()
}

func walk(t *testing.T, c caller, query url.Values, cursor string) (ids []string, lastPrev string) {
	t.Helper()
	for {
		if query.Del("cursor"); cursor != "" {
			query.Set("cursor", cursor)
		}
		page := c.list(query)
		for _, item := range page.Items {
			ids = append(ids, string(item["id"]))
		}
		if page.Prev != nil {
			lastPrev = *page.Prev
		}
		if page.Next == nil {
			query.Del("cursor")
			return ids, lastPrev
		}
		cursor = *page.Next
	}
}

// walkBack returns the ids of all pages before a cursor, the nearest first.
func walkBack(t *testing.T, c caller, query url.Values, cursor string) (ids []string) {
	t.Helper()
	defer query.Del("cursor")
	for cursor != "" {
		query.Set("cursor", cursor)
		page := c.list(query)
		for _, item := range slices.Backward(page.Items) {
			ids = append(ids, string(item["id"]))
		}
		if cursor = ""; page.Prev != nil {
			cursor = *page.Prev
		}
	}
	return ids
}

// hostileObjects come back byte for byte.
var hostileObjects = []string{
	`{}`, `{"":""}`, `{"a":[],"b":{}}`, `{"n":1.0,"m":1e21,"o":12345678901234567890,"p":-0,"q":0.10,"r":1E+2,"s":1e400}`,
	`{"a.b":1,"a":{"b":2}}`, `{"$set":{"x":1},"_id":"y"}`, `{"nul\u0000":"\u0000"}`, `{"鍵":"値","🔑":"\ud83d\udca5","rtl":"\u202e"}`,
	`{"html":"<script>&'\"\\\/\u2028","sql":"'; DROP TABLE entries;--"}`, `{"a":[[[]],[1,[2,{"b":[null,true,false]}]]]}`,
	strings.Repeat(`{"d":`, 62) + `[]` + strings.Repeat(`}`, 62), `{"long":"` + strings.Repeat("ä", 30_000) + `"}`,
}

// refusedObjects cannot come back exactly.
var refusedObjects = map[string]string{
	`{"a":1,"a":2}`: "duplicate_key", `{"a":"\ud800"}`: "lone_surrogate", "{\"a\":\"\xc3\"}": "invalid_utf8",
	strings.Repeat(`{"d":`, 63) + `{}` + strings.Repeat(`}`, 63): "too_deep",
}

func TestEndToEndObjectsComeBackExactly(t *testing.T) { everyWay(t, objectsComeBackExactly) }

func objectsComeBackExactly(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	for i, object := range hostileObjects {
		text := fmt.Sprintf(`{"user_id":"u","action":"A","resource_type":"r","metadata":%s,"before_state":%s,"after_state":%s}`, object, object, object)
		got := admin.do("POST", "/logs", text, nil)
		var accepted struct{ ID string }
		got.decode(t, &accepted)
		if got.status != http.StatusAccepted {
			t.Errorf("%.80s: got status %d, want %d: %s", object, got.status, http.StatusAccepted, got.body)
			continue
		}
		admin.eventually(i + 1)
		for name, stored := range map[string]map[string]json.RawMessage{"list": admin.list(url.Values{"limit": {"1"}}).Items[0], "get": admin.entry(accepted.ID)} {
			for _, field := range []string{"metadata", "before_state", "after_state"} {
				if string(stored[field]) != object {
					t.Errorf("%s: %s: got %.100s, want %.100s", name, field, stored[field], object)
				}
			}
		}
	}
	for object, code := range refusedObjects {
		got := admin.do("POST", "/logs", `{"user_id":"u","action":"A","resource_type":"r","metadata":`+object+`}`, nil)
		var problem struct{ Errors []audit.FieldError }
		got.decode(t, &problem)
		switch {
		case got.status != http.StatusUnprocessableEntity:
			t.Errorf("%.80q: %s: got status %d, want %d: %s", object, code, got.status, http.StatusUnprocessableEntity, got.body)
		case len(problem.Errors) == 0:
			t.Errorf("%.80q: %s: got no errors, want some", object, code)
		case problem.Errors[0].Code != code:
			t.Errorf("%.80q: got code %q, want %q", object, problem.Errors[0].Code, code)
		}
	}
}

func (c caller) entry(id string) map[string]json.RawMessage {
	c.t.Helper()
	var entry map[string]json.RawMessage
	c.get("/logs/"+id, nil).decode(c.t, &entry)
	return entry
}

func TestEndToEndDeletingATenantRemovesItEverywhere(t *testing.T) {
	everySlowWay(t, deletingATenantRemovesItEverywhere)
}

func deletingATenantRemovesItEverywhere(t *testing.T, start starter) {
	s := start(t, t.TempDir())
	admin, other := s.tenantAdmin("acme"), s.tenantAdmin("other")
	admin.bulk([]string{entryText(1), entryText(2)})
	other.bulk([]string{entryText(1)})
	admin.eventually(2)
	operator := s.as(s.operator(), "")
	var job struct{ ID, State string }
	got := operator.do("DELETE", "/tenants/acme", "", nil)
	if got.status != http.StatusAccepted {
		t.Fatalf("delete: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	got.decode(t, &job)
	deadline := time.Now().Add(4 * time.Minute) // on servers a purge waits 100 seconds for consumers elsewhere
	for operator.get("/tenants/acme", nil).status != http.StatusNotFound {
		if time.Now().After(deadline) {
			t.Fatal("the tenant still exists, want it deleted")
		}
		time.Sleep(20 * time.Millisecond)
	}
	var done struct {
		State       string
		Count       int
		Certificate string
	}
	onDeleted := s.as(s.operator(), "acme")
	for done.State != "succeeded" && time.Now().Before(deadline) { // the job ends just after the tenant
		onDeleted.get("/jobs/"+job.ID, nil).decode(t, &done)
	}
	if done.State != "succeeded" {
		t.Errorf("the job is %s, want succeeded", done.State)
	}
	if done.Count < 2 {
		t.Errorf("the job removed %d entries, want 2 at least", done.Count) // the deletion itself is recorded too
	}
	var certificate struct {
		Statement struct {
			Kind   string
			Tenant string `json:"tenant_id"`
			Places []struct {
				Place   string
				Removed int
			}
		}
	}
	s.as("", "").get(strings.TrimPrefix(done.Certificate, manifest.BasePath), nil).decode(t, &certificate)
	if got := certificate.Statement; got.Kind != "deletion" || got.Tenant != "acme" || len(got.Places) == 0 || got.Places[0].Removed != done.Count {
		t.Errorf("got the certificate %+v, want one of the deletion of acme with %d entries", got, done.Count)
	}
	if got := admin.get("/logs", nil); got.status != http.StatusForbidden {
		t.Errorf("the deleted tenant's list: got status %d, want %d: %s", got.status, http.StatusForbidden, got.body)
	}
	if got := operator.do("POST", "/tenants", `{"id":"acme","name":"again"}`, nil); got.status != http.StatusConflict {
		t.Errorf("the id for a new tenant: got status %d, want %d: %s", got.status, http.StatusConflict, got.body)
	}
	other.eventually(1)
}

func TestEndToEndARestartKeepsEverything(t *testing.T) { everyWay(t, aRestartKeepsEverything) }

func aRestartKeepsEverything(t *testing.T, start starter) {
	data := t.TempDir()
	first := start(t, data)
	admin := first.tenantAdmin("acme")
	admin.bulk([]string{entryText(1), entryText(2)})
	first.stop() // drains the queues
	second := start(t, data)
	again := second.as(admin.authorization, "acme")
	again.eventually(2) // OpenSearch shows what it has within a second
}
