package httpapi_test

import (
	"strings"
	"testing"
)

// TestMessagesSayWhatToDo: the answer to a usual mistake names the way out.
func TestMessagesSayWhatToDo(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		as, method, target, body string
		header                   map[string]string
		status                   int
		want, not                string
	}{
		{"admin", "GET", "/logs?cursor=", "", nil, 422, "leave it out for the first page", ""},
		{"admin", "GET", "/logs/feed?cursor=", "", nil, 422, "leave it out for the first page", ""},
		{"admin", "GET", "/logs/quarantine?cursor=", "", nil, 422, "leave it out for the first page", ""},
		{"admin", "POST", "/logs/search", `{"cursor":""}`, nil, 422, `"/cursor"`, ""},
		{"admin", "GET", "/logs?colour=red", "", nil, 422, "which has q, from, to, sort, limit, cursor, user_id", ""},
		{"admin", "GET", "/logs/stats?colour=red", "", nil, 422, "group_by, interval, time_zone, top, user_id", ""},
		{"admin", "GET", "/tenants/acme?colour=red", "", nil, 422, "which has none", ""},
		{"admin", "POST", "/logs", `{"colour":"red"}`, nil, 422, "The fields are id, tenant_id, user_id", ""},
		{"operator", "PATCH", "/tenants/acme", `{"colour":"red"}`, map[string]string{"Content-Type": "application/merge-patch+json", "If-Match": "*"}, 422, "which are", ""},
		{"admin", "POST", "/logs", `[]`, nil, 400, "The entry must be a JSON object.", `"pointer"`},
		{"admin", "POST", "/logs", `{`, nil, 400, "The entry must be valid JSON, at byte 1.", `"pointer"`},
		{"admin", "POST", "/logs/bulk", `[]`, nil, 422, "The body must hold at least one entry.", `"pointer"`},
		{"admin", "POST", "/logs/bulk", `[1]`, nil, 207, "The entry must be a JSON object.", `"pointer"`},
		{"admin", "POST", "/logs/bulk", `[`, nil, 400, "No entry was accepted.", ""},
		{"admin", "POST", "/logs/search", `{"q":`, nil, 400, "The body is not valid JSON, at byte 5.", "entry"},
		{"admin", "POST", "/logs/search", ` `, nil, 400, "The body is empty.", "entry"},
		{"admin", "POST", "/logs/search", `{"foo":1}`, nil, 422, "which has q, from, to, sort, limit, cursor, reveal, reason, match_encrypted, user_id", ""},
		{"admin", "POST", "/logs/exports", `{"foo":1}`, nil, 422, "reveal, reason, user_id", ""},
		{"admin", "GET", "/logs?ip_address=10.0.0.0/8", "", nil, 422, "must be an IPv4 or IPv6 address; the addresses of a network are found by q=ip_address:10.0.0.0/8", ""},
		{"admin", "GET", "/logs?q=colour:red", "", nil, 422, "there are user_id, session_id", ""},
		{"admin", "POST", "/logs/bulk", `[{"message":"` + strings.Repeat("x", 256<<10) + `"}]`, nil, 207, `"status":413`, ""},
		{"", "GET", "/logs", "", nil, 401, "Bearer <token>, or ApiKey <key>", ""},
		{"admin", "GET", "/logs", "", map[string]string{"X-Tenant-ID": "acmee"}, 403, "Check the tenant's id", ""},
		{"writer", "GET", "/logs", "", nil, 403, "does not have the permission logs:search in this tenant", ""},
		{"admin", "GET", "/logs", "", map[string]string{"X-Tenant-ID": "Acme Corp"}, 400, "lower-case letters, digits and hyphens", ""},
		{"admin", "GET", "/logs/stream", "", nil, 404, "WebSocket", ""},
		{"admin", "POST", "/logs/stream", "", nil, 405, "WebSocket", ""},
		{"admin", "POST", "/logs/search", `{"q":1,"colour":1,"limit":"many"}`, nil, 422, "3 values are invalid", ""},
		{"admin", "POST", "/logs", strings.Repeat("[", 100_000), nil, 400, "The entry must be a JSON object.", "pointer"},
		{"admin", "POST", "/logs", `{"metadata":` + strings.Repeat("[", 100_000), nil, 422, "/metadata must not be nested deeper than 64 levels", ""},
	} {
		got := w.call(c.as, c.method, c.target, c.body, c.header)
		if got.status != c.status {
			t.Errorf("%s %s %s: got status %d, want %d: %s", c.method, c.target, c.body, got.status, c.status, got.body)
		}
		if !strings.Contains(unescaped(got.body), c.want) {
			t.Errorf("%s %s %s: got %s, want %q in it", c.method, c.target, c.body, got.body, c.want)
		}
		if c.not != "" && strings.Contains(got.body, c.not) {
			t.Errorf("%s %s %s: got %s, want no %q in it", c.method, c.target, c.body, got.body, c.not)
		}
	}
}

// unescaped replaces the escapes of angle brackets, which are for browsers.
func unescaped(body string) string {
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(body)
}

// TestFaultsAreShort: a fault repeats no more than the beginning of a client's names.
func TestFaultsAreShort(t *testing.T) {
	w := newWorld(t)
	const maxAnswer = 4 << 10
	long := strings.Repeat("n", 50_000)
	bodies := map[string][]string{}
	for _, name := range []string{long, strings.Repeat("é", 3000), strings.Repeat("~/", 5000)} {
		bodies["/logs"] = append(bodies["/logs"], `{"`+name+`":1}`, `{"user_id":"u","metadata":{"`+name+`":1,"`+name+`":2}}`)
		bodies["/logs/search"] = append(bodies["/logs/search"],
			`{"`+name+`":1}`, `{"metadata.`+name+`":{}}`, `{"`+name+`":"1","`+name+`":"2"}`, `{"q":"`+name[:4000]+`:x"}`)
		bodies["/tenants/acme/api-keys"] = append(bodies["/tenants/acme/api-keys"], `{"`+name+`":1}`, `{"permissions":["`+name+`"]}`)
	}
	nested := strings.Repeat(`{"`+long[:200]+`":`, 500)
	for target, texts := range bodies {
		for _, text := range append(texts, nested, strings.Repeat("[", 100_000), `{"a":`+strings.Repeat("[", 100_000)) {
			got := w.call("admin", "POST", target, text, nil)
			if got.status < 400 || got.status > 499 {
				t.Errorf("POST %s %.40s: got status %d, want one of a fault", target, text, got.status)
			}
			if len(got.body) > maxAnswer {
				t.Errorf("POST %s %.40s: got an answer of %d bytes, want at most %d", target, text, len(got.body), maxAnswer)
			}
		}
	}
}
