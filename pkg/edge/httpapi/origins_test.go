package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// A browser shows a page's script an answer only if the answer names the page's origin.
func TestAnswersNameTheOriginOfKnownPagesOnly(t *testing.T) {
	const known = "https://console.example.com"
	w := newWorld(t)
	for _, test := range []struct {
		origins []string // that the gate knows
		origin  string   // of the request
		target  string
		want    string
	}{
		{[]string{"https://other.example.com", known}, known, "/health", known},
		{[]string{known}, known, "/no-such-path", known},
		{[]string{known}, known, "/logs", known}, // no credential: 401
		{[]string{known}, "https://console.example.com.evil.test", "/health", ""},
		{[]string{known}, "null", "/health", ""},
		{nil, known, "/health", ""},
	} {
		w.gate.Origins = test.origins
		got := w.call("", "GET", test.target, "", map[string]string{"Origin": test.origin})
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != test.want {
			t.Errorf("%s for %s with %v: got the allowed origin %q, want %q", test.target, test.origin, test.origins, allowed, test.want)
		}
		if vary, want := got.header.Get("Vary") == "Origin", len(test.origins) > 0; vary != want {
			t.Errorf("%s with %v: the answer varies by origin: got %t, want %t", test.target, test.origins, vary, want)
		}
		if got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: got an answer that allows cookies, want none", test.target)
		}
	}
}

// A browser sends a request only if the answer to its preflight request allows page, method and
// header fields. It has no credential for that request.
func TestPreflightRequests(t *testing.T) {
	const known = "https://console.example.com"
	w := newWorld(t)
	for _, test := range []struct {
		name    string
		origins []string // that the gate knows
		origin  string   // of the request
		target  string
		status  int
		allowed string // origin
		methods string
	}{
		{"a known page", []string{"https://other.example.com", known}, known, "/logs", 204, known, "GET, HEAD, OPTIONS, POST"},
		{"a path with a parameter", []string{known}, known, "/tenants/acme", 204, known, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"},
		{"a path of writes alone", []string{known}, known, "/logs/bulk", 204, known, "OPTIONS, POST"},
		{"another page", []string{known}, "https://evil.test", "/logs", 204, "", "GET, HEAD, OPTIONS, POST"},
		{"a page whose address begins alike", []string{known}, known + ".evil.test", "/logs", 204, "", "GET, HEAD, OPTIONS, POST"},
		{"a page of another scheme", []string{known}, "http://console.example.com", "/logs", 204, "", "GET, HEAD, OPTIONS, POST"},
		{"a sandboxed page", []string{known}, "null", "/logs", 204, "", "GET, HEAD, OPTIONS, POST"},
		{"no page", []string{known}, "", "/logs", 204, "", "GET, HEAD, OPTIONS, POST"},
		{"an unknown path", []string{known}, known, "/no-such-path", 404, known, ""},
		{"no pages are known", nil, known, "/logs", 405, "", ""},
	} {
		w.gate.Origins = test.origins
		got := w.call("", "OPTIONS", test.target, "", map[string]string{
			"Origin": test.origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,x-tenant-id",
		})
		if got.status != test.status {
			t.Errorf("%s: got status %d, want %d: %s", test.name, got.status, test.status, got.body)
		}
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != test.allowed {
			t.Errorf("%s: got the allowed origin %q, want %q", test.name, allowed, test.allowed)
		}
		if methods := got.header.Get("Access-Control-Allow-Methods"); methods != test.methods {
			t.Errorf("%s: got the allowed methods %q, want %q", test.name, methods, test.methods)
		}
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Expose-Headers"} {
			if strings.Contains(got.header.Get(name), "*") {
				t.Errorf("%s: got %s %q, want no wildcard", test.name, name, got.header.Get(name))
			}
		}
		if got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: got an answer that allows cookies, want none", test.name)
		}
	}
}

// The header fields that clients need can be sent and read.
func TestPagesMaySendAndReadHeaders(t *testing.T) {
	const known = "https://console.example.com"
	w := newWorld(t)
	w.gate.Origins = []string{known}
	preflight := w.call("", "OPTIONS", "/logs", "", map[string]string{"Origin": known}).header.Get("Access-Control-Allow-Headers")
	for _, name := range []string{
		"Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key", "If-Match", "If-None-Match", "X-Tenant-ID", "X-Request-Id", "X-Amzn-Trace-Id", "Traceparent",
	} {
		if !strings.Contains(", "+preflight+",", ", "+name+",") {
			t.Errorf("a page may send %q, want %s in it", preflight, name)
		}
	}
	exposed := w.call("admin", "GET", "/tenants/acme", "", map[string]string{"Origin": known}).want(t, 200, "").header.Get("Access-Control-Expose-Headers")
	for _, name := range []string{"ETag", "Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id", "X-Amzn-Trace-Id"} {
		if !strings.Contains(", "+exposed+",", ", "+name+",") {
			t.Errorf("a page may read %q, want %s in it", exposed, name)
		}
	}
}

// On AWS, template.yaml sends the preflight requests of a path to one of its functions.
func TestAFunctionAnswersThePreflightRequestsOfItsPath(t *testing.T) {
	const known = "https://console.example.com"
	w := newWorld(t)
	w.gate.Origins = []string{known}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, manifest.BasePath+"/logs/stream/tickets", nil)
	r.Header.Set("Origin", known)
	recorder := httptest.NewRecorder()
	httpapi.CreateStreamTicket(w.gate, w.stream, "").ServeHTTP(recorder, r)
	if got, want := recorder.Code, http.StatusNoContent; got != want {
		t.Errorf("got status %d, want %d: %s", got, want, recorder.Body)
	}
	if got, want := recorder.Header().Get("Access-Control-Allow-Methods"), "OPTIONS, POST"; got != want {
		t.Errorf("got the allowed methods %q, want %q", got, want)
	}
	if got := recorder.Header().Get("Access-Control-Allow-Origin"); got != known {
		t.Errorf("got the allowed origin %q, want %q", got, known)
	}
}
