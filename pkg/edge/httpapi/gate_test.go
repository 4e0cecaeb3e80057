package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestGateRefuses(t *testing.T) {
	w := newWorld(t)
	none := map[string]string{}
	for name, test := range map[string]struct {
		as, method, target string
		header             map[string]string
		status             int
		code               string
	}{
		"no credential":                {"", "GET", "/logs", none, 401, "unauthenticated"},
		"unknown credential":           {"stranger", "GET", "/logs", none, 401, "unauthenticated"},
		"401 before a missing tenant":  {"", "GET", "/logs", map[string]string{"X-Tenant-ID": ""}, 401, "unauthenticated"},
		"no tenant, of two":            {"both", "GET", "/logs", map[string]string{"X-Tenant-ID": ""}, 400, "malformed_request"},
		"no tenant, of two, to write":  {"both", "POST", "/logs", map[string]string{"X-Tenant-ID": ""}, 400, "malformed_request"},
		"no tenant, of all":            {"operator", "GET", "/logs", map[string]string{"X-Tenant-ID": ""}, 400, "malformed_request"},
		"no tenant, of none":           {"nobody", "GET", "/logs", map[string]string{"X-Tenant-ID": ""}, 400, "malformed_request"},
		"no tenant, of one":            {"admin", "GET", "/logs", map[string]string{"X-Tenant-ID": ""}, 200, ""},
		"another tenant, of two":       {"both", "GET", "/logs", map[string]string{"X-Tenant-ID": "sleepy"}, 403, "forbidden"},
		"no permission, of one tenant": {"writer", "GET", "/logs", map[string]string{"X-Tenant-ID": ""}, 403, "forbidden"},
		"malformed tenant":             {"admin", "GET", "/logs", map[string]string{"X-Tenant-ID": "ACME!"}, 400, "malformed_request"},
		"foreign tenant":               {"admin", "GET", "/logs", map[string]string{"X-Tenant-ID": "globex"}, 403, "forbidden"},
		"unknown tenant":               {"admin", "GET", "/logs", map[string]string{"X-Tenant-ID": "no-such"}, 403, "forbidden"},
		"unknown tenant, operator":     {"operator", "GET", "/logs", map[string]string{"X-Tenant-ID": "no-such"}, 403, "forbidden"},
		"deleting tenant, operator":    {"operator", "GET", "/logs", map[string]string{"X-Tenant-ID": "leaving"}, 403, "forbidden"},
		"permission not held":          {"auditor", "POST", "/logs/quarantine/x/retry", none, 403, "forbidden"},
		"quarantine by an auditor":     {"auditor", "GET", "/logs/quarantine", none, 200, ""},
		"write to a suspended tenant":  {"operator", "POST", "/logs", map[string]string{"X-Tenant-ID": "sleepy"}, 403, "tenant_suspended"},
		"retry in a suspended tenant":  {"operator", "POST", "/logs/quarantine/x/retry", map[string]string{"X-Tenant-ID": "sleepy"}, 403, "tenant_suspended"},
		"read of a suspended tenant":   {"operator", "GET", "/logs", map[string]string{"X-Tenant-ID": "sleepy"}, 200, ""},
		"read of one's own":            {"sleeper", "GET", "/logs", map[string]string{"X-Tenant-ID": "sleepy"}, 403, "tenant_suspended"},
		"list of one's own":            {"sleeper", "GET", "/tenants", none, 200, ""},
		"record of a deleting tenant":  {"operator", "GET", "/tenants/leaving", none, 200, ""},
		"keys of a deleting tenant":    {"operator", "GET", "/tenants/leaving/api-keys", none, 404, "not_found"},
		"unknown path tenant":          {"admin", "GET", "/tenants/no-such", none, 403, "forbidden"},
		"malformed path tenant":        {"admin", "GET", "/tenants/N%20o", none, 403, "forbidden"},
		"unknown path tenant, op":      {"operator", "GET", "/tenants/no-such", none, 404, "not_found"},
		"malformed path tenant, op":    {"operator", "GET", "/tenants/N%20o", none, 404, "not_found"},
		"header disagrees with path":   {"admin", "GET", "/tenants/acme", map[string]string{"X-Tenant-ID": "globex"}, 400, "malformed_request"},
		"header agrees with path":      {"admin", "GET", "/tenants/acme", map[string]string{"X-Tenant-ID": "acme"}, 200, ""},
		"tenants of nobody":            {"nobody", "GET", "/tenants", none, 403, "forbidden"},
		"tenants without tenants:read": {"writer", "GET", "/tenants", none, 403, "forbidden"},
		"create-tenant by an admin":    {"admin", "POST", "/tenants", none, 403, "forbidden"},
		"unknown parameter":            {"admin", "GET", "/logs?colour=red", none, 422, "invalid"},
		"unknown parameter elsewhere":  {"admin", "GET", "/tenants/acme?x=1", none, 422, "invalid"},
		"unknown parameter, public":    {"", "GET", "/health?x", none, 422, "invalid"},
		"repeated limit":               {"admin", "GET", "/tenants?limit=1&limit=2", none, 422, "invalid"},
		"repeated sort":                {"admin", "GET", "/logs?sort=timestamp&sort=timestamp", none, 422, "invalid"},
		"damaged query":                {"admin", "GET", "/logs?q=%zz", none, 400, "malformed_request"},
		"damaged query, public":        {"", "GET", "/docs?a;b", none, 400, "malformed_request"},
		"limit too small":              {"admin", "GET", "/tenants?limit=0", none, 422, "invalid"},
		"limit too large":              {"admin", "GET", "/logs/quarantine?limit=1001", none, 422, "invalid"},
		"forged cursor":                {"admin", "GET", "/tenants?cursor=AAAA", none, 422, "invalid"},
		"401 for an unknown parameter": {"", "GET", "/logs?colour=red", none, 401, "unauthenticated"},
		"403 for an unknown parameter": {"foreign", "GET", "/logs?colour=red", none, 403, "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.call(test.as, test.method, test.target, "", test.header).want(t, test.status, test.code)
		})
	}
	w.t = t
}

func TestUnknownParametersAreNamed(t *testing.T) {
	p := newWorld(t).call("admin", "GET", "/tenants?limit=1&limit=2&colour=red&"+strings.Repeat("ä", 50)+"=1", "", nil).want(t, 422, "invalid").problem(t)
	want := []audit.FieldError{
		{Pointer: "?colour", Code: "unknown_parameter", Detail: "is not a parameter of this endpoint, which has limit, cursor"},
		{Pointer: "?limit", Code: "repeated", Detail: "must be given once"},
		{Pointer: "?" + strings.Repeat("ä", 32) + "…", Code: "unknown_parameter", Detail: "is not a parameter of this endpoint, which has limit, cursor"},
	}
	if fmt.Sprint(p.Errors) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", p.Errors, want)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	w := newWorld(t)
	query := url.Values{}
	for i := range 500 {
		query.Set(fmt.Sprint("colour", i), "red")
	}
	for _, target := range []string{"/logs", "/logs/feed", "/logs/export", "/logs/stats", "/tenants"} {
		if p := w.call("admin", "GET", target+"?"+query.Encode(), "", nil).want(t, 422, "invalid").problem(t); len(p.Errors) != audit.MaxFaults {
			t.Errorf("%s tells %d faults, want %d", target, len(p.Errors), audit.MaxFaults)
		}
	}
}

func TestUnauthenticatedTellsTheSchemes(t *testing.T) {
	got := newWorld(t).call("", "GET", "/logs", "", nil).want(t, 401, "")
	if got, want := got.header.Get("WWW-Authenticate"), `Bearer realm="ocelot", ApiKey realm="ocelot"`; got != want {
		t.Errorf("WWW-Authenticate is %q, want %q", got, want)
	}
}

func TestClosedTenantsAnswerByteForByteTheSame(t *testing.T) {
	w := newWorld(t)
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil || route.TenantFrom != manifest.TenantFromHeader {
			continue
		}
		target := strings.Replace(route.Path, "{id}", "019cad3c-8a40-7000-8000-000000000000", 1)
		for _, as := range []string{"admin", "operator"} {
			if as == "operator" && route.Permission == access.JobsRead {
				continue // an operator sees the jobs of deleted tenants
			}
			bodies := map[string]string{}
			for _, tenant := range []string{"globex", "no-such", "leaving"} {
				if as == "operator" && tenant == "globex" {
					continue // open to operators
				}
				got := w.call(as, route.Method, target, "", map[string]string{"X-Tenant-ID": tenant}).want(t, 403, "forbidden")
				bodies[got.body+fmt.Sprint(got.header)] = tenant
			}
			if len(bodies) != 1 {
				t.Errorf("%s %s as %s: got %d different answers, want 1: %v", route.Method, target, as, len(bodies), bodies)
			}
		}
	}
}

func TestPrincipalOfTheContextIsTheCaller(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequestWithContext(access.WithPrincipal(t.Context(), principals()["admin"]), "GET", manifest.BasePath+"/tenants/acme", nil)
	w.send(r).want(t, 200, "")
	r.Header.Set("Authorization", "Bearer operator") // what the gateway verified counts
	r.URL.Path = manifest.BasePath + "/tenants/globex"
	w.send(r).want(t, 403, "forbidden")
}

// What the authorizer said is cached, beyond the end of what it verified.
func TestACredentialEndsBehindTheAuthorizer(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		ends   time.Time
		status int
		code   string
	}{
		{time.Time{}, 200, ""},
		{start.Add(time.Millisecond), 200, ""},
		{start, 401, "unauthenticated"},
		{start.Add(-time.Minute), 401, "unauthenticated"},
	} {
		p := principals()["admin"]
		p.ExpiresAt = tt.ends
		r := httptest.NewRequestWithContext(access.WithPrincipal(t.Context(), p), "GET", manifest.BasePath+"/tenants/acme", nil)
		w.send(r).want(t, tt.status, tt.code)
	}
}

func TestRepeatedCredentialsAndTenantsAreRefused(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequestWithContext(t.Context(), "GET", manifest.BasePath+"/logs", nil)
	r.Header["Authorization"] = []string{"Bearer admin", "Bearer admin"}
	r.Header["X-Tenant-Id"] = []string{"acme", "globex"}
	w.send(r).want(t, 401, "unauthenticated")
	r.Header["Authorization"] = []string{"Bearer admin"}
	w.send(r).want(t, 400, "malformed_request")
}

// A credential of one tenant needs no header. The answer to one of several says what to add.
func TestACredentialOfOneTenantNeedsNoHeader(t *testing.T) {
	w := newWorld(t)
	without := map[string]string{"X-Tenant-ID": ""}
	w.call("writer", "POST", "/logs", `{"user_id":"u-without-header","action":"VIEW","resource_type":"order"}`, without).want(t, 202, "")
	w.processQueues()
	if got := w.call("admin", "GET", "/logs?user_id=u-without-header", "", without).want(t, 200, ""); !strings.Contains(got.body, "u-without-header") {
		t.Errorf("got the list %s, want the entry in it", got.body)
	}
	got := w.call("both", "GET", "/logs", "", without).want(t, 400, "malformed_request")
	if want := "The header X-Tenant-ID is required, because the credential is not for exactly one tenant: it names the tenant, such as acme."; !strings.Contains(got.body, want) {
		t.Errorf("got %s, want the detail %q", got.body, want)
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", manifest.BasePath+"/logs", nil)
	r.Header["Authorization"], r.Header["X-Tenant-Id"] = []string{"Bearer admin"}, []string{""}
	w.send(r).want(t, 400, "malformed_request") // a script's variable that is not set
}

func TestRequestID(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct{ sent, want string }{
		{"", "req-1"},
		{"abc-123_X.y:z/1+2=@~", "abc-123_X.y:z/1+2=@~"},
		{strings.Repeat("a", 128), strings.Repeat("a", 128)},
		{strings.Repeat("a", 129), "req-1"},
		{"with space", "req-1"},
		{"quote\"", "req-1"},
		{"ümlaut", "req-1"},
	} {
		got := w.call("admin", "GET", "/logs/nope", "", map[string]string{"X-Request-Id": test.sent})
		if id := got.header.Get("X-Request-Id"); id != test.want {
			t.Errorf("%s: got id %q, want %q", test.sent, id, test.want)
		} else if got.problem(t).RequestID != test.want {
			t.Errorf("%s: got request ID %q, want %q", test.sent, got.problem(t).RequestID, test.want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", manifest.BasePath+"/health", nil)
	r.Header["X-Request-Id"] = []string{"a", "b"}
	if id := w.send(r).header.Get("X-Request-Id"); id != "req-1" {
		t.Errorf("two request ids became %q, want %q", id, "req-1")
	}
}

func TestRouterOutsideOfTheManifest(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/api/v1", 404, ""},
		{"GET", "/api/v1/", 404, ""},
		{"GET", "/api/v1/logs/", 404, ""},
		{"GET", "/api/v1//logs", 404, ""},
		{"GET", "/api/v1/logs/../health", 404, ""},
		{"GET", "/api/v1/logs/a/b", 404, ""},
		{"GET", "/api/v1/nothing?x=1", 404, ""},
		{"GET", "/API/V1/health", 404, ""},
		{"DELETE", "/api/v1/logs", 405, "GET, HEAD, POST"},
		{"GET", "/api/v1/logs/bulk", 405, "POST"},
		{"POST", "/api/v1/logs/stats", 405, "GET, HEAD"},
		{"POST", "/api/v1/logs/feed", 405, "GET, HEAD"},
		{"POST", "/api/v1/tenants/acme", 405, "DELETE, GET, HEAD, PATCH, PUT"},
		{"PATCH", "/api/v1/tenants", 405, "GET, HEAD, POST"},
		{"TRACE", "/api/v1/health", 405, "GET, HEAD"},
		{"OPTIONS", "/api/v1/logs", 405, "GET, HEAD, POST"},
		{"OPTIONS", "/api/v1/logs/quarantine/x", 405, "DELETE"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), test.method, "http://ocelot"+test.path, nil)
		got := w.send(r)
		if got.status != test.status {
			t.Errorf("%s: %s: got status %d, want %d: %s", test.method, test.path, got.status, test.status, got.body)
		}
		if got.header.Get("Allow") != test.allow {
			t.Errorf("%s: %s: got Allow %q, want %q", test.method, test.path, got.header.Get("Allow"), test.allow)
		}
		if got.header.Get("Location") != "" {
			t.Errorf("%s: %s: got Location %q, want none", test.method, test.path, got.header.Get("Location"))
		}
		got.problem(t)
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	w := newWorld(t)
	for _, target := range []string{"/health", "/docs", "/openapi.json", "/logs", "/tenants/acme", "/logs/nope"} {
		get, head := w.call("admin", "GET", target, "", nil), w.call("admin", "HEAD", target, "", nil)
		if head.body != "" {
			t.Errorf("%s: got body %q, want none", target, head.body)
		}
		if head.status != get.status {
			t.Errorf("%s: got status %d, want %d: %s", target, head.status, get.status, head.body)
		}
		if fmt.Sprint(head.header) != fmt.Sprint(get.header) {
			t.Errorf("%s: got header %q, want %q", target, fmt.Sprint(head.header), fmt.Sprint(get.header))
		}
	}
}

func TestAnswersAreCompressedWhereAccepted(t *testing.T) {
	w := newWorld(t)
	plain := w.call("", "GET", "/openapi.json", "", nil).want(t, 200, "")
	for _, test := range []struct {
		accept string
		target string
		gzip   bool
	}{
		{"", "/openapi.json", false},
		{"gzip", "/openapi.json", true},
		{"GZIP", "/openapi.json", true},
		{"x-gzip", "/openapi.json", true},
		{"br, gzip;q=0.5", "/openapi.json", true},
		{"*", "/openapi.json", true},
		{"gzip;q=0", "/openapi.json", false},
		{"*, gzip;q=0.0", "/openapi.json", false},
		{"*;q=0", "/openapi.json", false},
		{"gzip;q=NaN", "/openapi.json", false},
		{"gzip;level=1", "/openapi.json", false},
		{"br, identity", "/openapi.json", false},
		{"gzip", "/health", false}, // under 1 KiB
	} {
		got := w.call("", "GET", test.target, "", map[string]string{"Accept-Encoding": test.accept})
		if zipped := got.header.Get("Content-Encoding") == "gzip"; zipped != test.gzip {
			t.Errorf("%q: compressed is %v, want %v", test.accept, zipped, test.gzip)
		}
		if got, want := got.header.Get("Content-Length"), fmt.Sprint(len(got.body)); got != want {
			t.Errorf("%q: Content-Length is %q, want %q", test.accept, got, want)
		}
		if vary, want := got.header.Get("Vary"), test.target != "/health"; (vary == "Accept-Encoding") != want {
			t.Errorf("%s: Vary is %q, want %q: %t", test.target, vary, "Accept-Encoding", want)
		}
		if test.gzip {
			if text := gunzip(t, got.body); text != plain.body {
				t.Errorf("%q: after decompression (-want +got):\n%s", test.accept, cmp.Diff(plain.body, text))
			}
		}
	}
}

func gunzip(t *testing.T, body string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestErrorsBecomeProblems(t *testing.T) {
	secret := errors.New("pq: duplicate key (card)=(4111 1111)")
	for name, test := range map[string]struct {
		port       string
		err        error
		status     int
		code       string
		retryAfter string
	}{
		"index fails":              {"index", secret, 500, "internal", ""},
		"index unavailable":        {"index", &audit.UnavailableError{Err: secret}, 503, "unavailable", "1"},
		"index unavailable longer": {"index", fmt.Errorf("find: %w", &audit.UnavailableError{RetryAfter: 2500 * time.Millisecond, Err: audit.ErrNotFound}), 503, "unavailable", "3"},
		"deadline":                 {"index", fmt.Errorf("find: %w", context.DeadlineExceeded), 503, "unavailable", "1"},
		"validation":               {"index", audit.Invalid("?interval", "too_many_buckets", "must be wider"), 422, "invalid", ""},
		"conflict":                 {"index", audit.ErrConflict, 409, "conflict", ""},
		"precondition":             {"index", audit.ErrPrecondition, 412, "precondition_failed", ""},
		"too large":                {"index", audit.ErrTooLarge, 413, "too_large", ""},
		"tenants fail":             {"tenants", secret, 500, "internal", ""},
		"tenants unavailable":      {"tenants", &audit.UnavailableError{Err: secret}, 503, "unavailable", "1"},
		"keys unavailable":         {"authenticator", &audit.UnavailableError{Err: secret}, 503, "unavailable", "1"},
		"authenticator fails":      {"authenticator", secret, 500, "internal", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.faults.set(test.port, test.err)
			r := httptest.NewRequestWithContext(t.Context(), "GET", manifest.BasePath+"/logs", nil)
			r.Header.Set("Authorization", "Bearer admin")
			r.Header.Set("X-Tenant-ID", "acme")
			recorder := httptest.NewRecorder()
			w.handler.ServeHTTP(recorder, r)
			got := reply{recorder.Code, recorder.Header(), recorder.Body.String()}.want(t, test.status, test.code)
			if got.header.Get("Retry-After") != test.retryAfter {
				t.Errorf("Retry-After is %q, want %q", got.header.Get("Retry-After"), test.retryAfter)
			}
			if strings.Contains(got.body, "4111 1111") {
				t.Errorf("got body %q, want it without %q", got.body, "4111 1111")
			}
			if strings.Contains(got.body, "pq") {
				t.Errorf("got body %q, want it without %q", got.body, "pq")
			}
			want := test.status >= 500 && errors.Is(test.err, secret)
			if logged := strings.Contains(w.logs.String(), "4111 1111"); logged != want {
				t.Errorf("the log says %s, want it with %q: %t", w.logs, "4111 1111", want)
			}
		})
	}
}

func TestQueueDownIsARetryLater(t *testing.T) {
	w := newWorld(t)
	w.faults.set("queue", errors.New("sqs: throttled"))
	got := w.call("admin", "POST", "/logs", entry(""), nil).want(t, 503, "unavailable")
	if got := got.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q, want %q", got, "1")
	}
	w.call("admin", "POST", "/logs/bulk", "["+entry("")+"]", nil).want(t, 503, "unavailable")
}

func TestPanicsAreAnsweredAndLoggedWithoutContent(t *testing.T) {
	w := newWorld(t)
	w.faults.panic = true
	w.call("admin", "GET", "/logs", "", nil).want(t, 500, "internal")
	switch log := w.logs.String(); {
	case strings.Contains(log, "secret entry content"):
		t.Errorf("got log %q, want it without %q", log, "secret entry content")
	case !strings.Contains(log, "world_test.go"):
		t.Errorf("got log %q, want it to contain %q", log, "world_test.go")
	case !strings.Contains(log, `"level":"ERROR"`):
		t.Errorf("got log %q, want it to contain %q", log, `"level":"ERROR"`)
	}
}

func TestAccessLogHasNoContent(t *testing.T) {
	w := newWorld(t)
	w.call("admin", "POST", "/logs", entry(`,"message":"hunter2"`), map[string]string{"User-Agent": "hunter2"}).want(t, 202, "")
	w.call("admin", "GET", "/logs?q=hunter2&user_id=hunter2", "", nil).want(t, 200, "")
	w.call("admin", "POST", "/logs", `{"hunter2":1}`, map[string]string{"Idempotency-Key": "hunter2"}).want(t, 422, "invalid")
	w.call("hunter2", "GET", "/logs/hunter2", "", nil).want(t, 401, "")
	if strings.Contains(w.logs.String(), "hunter2") {
		t.Errorf("the log holds content, want it without %q: %s", "hunter2", w.logs)
	}
	lines := strings.Split(strings.TrimSpace(w.logs.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("got %d lines for 4 requests, want 4: %s", len(lines), w.logs)
	}
	decoder := json.NewDecoder(bytes.NewBufferString(lines[0]))
	var line struct {
		Level, Method, Route, Tenant string
		Status, Bytes                int
		RequestID                    string   `json:"request_id"`
		Duration                     *float64 `json:"duration_ms"`
	}
	if err := decoder.Decode(&line); err != nil {
		t.Fatal(err)
	}
	if line.Level != "INFO" {
		t.Errorf("got level %q, want %q", line.Level, "INFO")
	}
	if line.Method != "POST" {
		t.Errorf("got method %q, want %q", line.Method, "POST")
	}
	if line.Route != "/logs" {
		t.Errorf("got route %q, want %q", line.Route, "/logs")
	}
	if line.Tenant != "acme" {
		t.Errorf("got tenant %q, want %q", line.Tenant, "acme")
	}
	if line.Status != http.StatusAccepted {
		t.Errorf("got status %d, want %d", line.Status, http.StatusAccepted)
	}
	if line.RequestID != "req-1" {
		t.Errorf("got request ID %q, want %q", line.RequestID, "req-1")
	}
	if line.Duration == nil {
		t.Error("got no duration, want one")
	}
	if line.Bytes == 0 {
		t.Error("got 0 bytes, want more")
	}
}
