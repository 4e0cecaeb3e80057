package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// noted keeps refused attempts.
type noted struct{ attempts []attempts.Attempt }

func (n *noted) Record(_ context.Context, a attempts.Attempt) { n.attempts = append(n.attempts, a) }

func (n *noted) take() []attempts.Attempt {
	list := n.attempts
	n.attempts = nil
	return list
}

// Whatever refuses a caller reaches the recorder: the route's permission, and what a handler asks for
// beyond it.
func TestRefusalsAreNoted(t *testing.T) {
	w := newWorld(t)
	n := &noted{}
	w.gate.Attempts = n
	const (
		nothing = "nothing"
		nobody  = " " // neither tenant nor subject
	)
	in := func(tenant string) map[string]string { return map[string]string{"X-Tenant-ID": tenant} }
	for _, c := range []struct {
		name, as, method, target, body string
		header                         map[string]string
		want                           string // tenant, subject, route and missing permission
	}{
		{"a missing permission", "auditor", "POST", "/logs", entry(""), nil, "acme auditor POST /logs logs:write"},
		{"with a query", "user", "DELETE", "/logs/cleanup?before=2000-01-01&user_id=secret", "", nil, "acme ann DELETE /logs/cleanup logs:cleanup"},
		{"by HEAD", "writer", "HEAD", "/logs?q=secret", "", nil, "acme key:1 GET /logs logs:search"},
		{"by path", "auditor", "GET", "/tenants/acme/api-keys", "", nil, "acme auditor GET /tenants/{id}/api-keys keys:read"},
		{"reveal", "auditor", "GET", "/logs/" + noSuchID + "?reveal=true&reason=r", "", nil, "acme auditor GET /logs/{id} logs:reveal"},
		{"reveal in a body", "auditor", "POST", "/logs/search", `{"reveal":true,"reason":"r"}`, nil, "acme auditor POST /logs/search logs:reveal"},
		{"match by value", "auditor", "POST", "/logs/search", `{"match_encrypted":{"metadata.a":"secret"}}`, nil, "acme auditor POST /logs/search logs:match_encrypted"},
		{"erasing oneself", "admin", "POST", "/tenants/acme/erasures", `{"subject":"admin","reason":"r"}`, nil, "acme admin POST /tenants/{id}/erasures "},
		{"with some resources", "scoped", "GET", "/tenants/acme/legal-holds", "", nil, "acme scoped GET /tenants/{id}/legal-holds "},
		{"suspending one's tenant", "admin", "PATCH", "/tenants/acme", `{"status":"suspended"}`, map[string]string{"If-Match": "*", "Content-Type": "application/merge-patch+json"}, "acme admin PATCH /tenants/{id} "},
		{"a key of more than its maker", "scoped", "POST", "/tenants/acme/api-keys", `{"name":"k","permissions":["logs:read"]}`, nil, "acme scoped POST /tenants/{id}/api-keys "},
		{"an operator", "operator", "POST", "/tenants/acme/erasures", `{"subject":"ann","reason":"r"}`, nil, "acme op POST /tenants/{id}/erasures subjects:erase"},
		{"another tenant", "foreign", "GET", "/logs", "", in("acme"), "acme eve GET /logs logs:search"},
		{"a tenant that does not exist", "foreign", "GET", "/logs", "", in("nowhere"), "nowhere eve GET /logs logs:search"},
		{"a tenant that is being deleted", "operator", "GET", "/logs", "", in("leaving"), "leaving op GET /logs logs:search"},
		{"the platform", "admin", "POST", "/tenants", `{"id":"initech","name":"Initech"}`, nil, " admin POST /tenants tenants:create"},
		{"a wrong credential", "mallory", "GET", "/logs", "", nil, nobody + "GET /logs "},
		{"no credential", "", "GET", "/logs", "", nil, nobody + "GET /logs "},
		{"a suspended tenant", "sleeper", "GET", "/logs", "", in("sleepy"), nothing},
		{"an id out of scope", "user", "GET", "/logs/" + noSuchID, "", nil, nothing},
		{"an id of no job", "auditor", "GET", "/jobs/none", "", nil, nothing},
		{"an invalid body", "admin", "POST", "/logs", "{", nil, nothing},
		{"an allowed request", "admin", "GET", "/logs", "", nil, nothing},
	} {
		w.call(c.as, c.method, c.target, c.body, c.header)
		list := n.take()
		got := nothing
		for _, a := range list {
			got = string(a.Tenant) + " " + a.Principal.Subject + " " + a.Route + " " + string(a.Missing)
			if a.Principal.Subject == "" && a.Tenant == "" {
				got = nobody + a.Route + " " + string(a.Missing)
			}
			if a.Reason == "" || a.RequestID == "" || !a.IPAddress.IsValid() {
				t.Errorf("%s: got reason %q, request %q and address %v, want all three", c.name, a.Reason, a.RequestID, a.IPAddress)
			}
		}
		if len(list) > 1 || got != c.want {
			t.Errorf("%s: noted %d attempts, the last %q, want %q", c.name, len(list), got, c.want)
		}
	}
}

func TestRefusedConnectionsAreNoted(t *testing.T) {
	w := newWorld(t)
	n := &noted{}
	w.gate.Attempts = n
	handler := httpapi.ConnectStream(w.gate, w.stream)
	connect := func(as, query string) int {
		r := httptest.NewRequestWithContext(stream.WithConnection(t.Context(), "c1"), http.MethodGet, manifest.BasePath+manifest.StreamPath+query, nil)
		r.Header.Set("Authorization", "Bearer "+as)
		r.Header.Set("X-Tenant-ID", "acme")
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, r)
		return recorder.Code
	}
	if got := connect("user", ""); got != http.StatusForbidden {
		t.Errorf("a user connects with status %d, want 403", got)
	}
	if list := n.take(); len(list) != 1 || list[0].Tenant != "acme" || list[0].Route != "GET /logs/stream" || list[0].Missing != access.LogsStream {
		t.Errorf("noted %+v, want one attempt at the stream of acme", list)
	}
	if got := connect("", "?ticket=none"); got != http.StatusUnauthorized {
		t.Errorf("a wrong ticket connects with status %d, want 401", got)
	}
	if list := n.take(); len(list) != 1 || list[0].Tenant != "" {
		t.Errorf("noted %+v, want one attempt from outside", list)
	}
}

// A refusal is answered as before while attempts cannot be recorded.
func TestRefusalsWithoutStores(t *testing.T) {
	w := newWorld(t)
	var failed []audit.TenantID
	w.gate.Attempts = attempts.New(attempts.Recorder{
		Tenants: faultyTenants{w.db.Tenants(), w.faults}, Claims: w.db.Attempts(), Log: w.ingest, Now: w.clock, Random: w.fill,
		Outside: func(context.Context) { t.Error("counted an attempt from outside, want none") },
		Failed:  func(_ context.Context, tenant audit.TenantID, _ error) { failed = append(failed, tenant) },
	})
	w.faults.set("queue", errors.New("the queue is down"))
	for range 2 {
		w.call("auditor", "POST", "/logs", entry(""), nil).want(t, 403, "forbidden")
	}
	w.faults.set("queue", nil)
	if diff := cmp.Diff([]audit.TenantID{"acme", "acme"}, failed); diff != "" {
		t.Errorf("attempts that were not recorded (-want +got):\n%s", diff)
	}
}
