package localcloud_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// Like API Gateway, the runner caches a policy for a minute by credential, method and route, and applies
// it to each tenant. A policy in the cache opens no other tenant.
func TestLambdaCachesPolicies(t *testing.T) {
	processes := &environments{Handler: slog.DiscardHandler, pids: map[string][]int{}}
	s := startWith(t, localcloud.Options{Data: t.TempDir(), Log: slog.New(processes), Lambda: lambda(t, config.Engines{})})
	s.tenantAdmin("acme")
	credential := s.roleToken("acme", access.RoleAuditor, "a")
	inTenant := func(tenant audit.TenantID) caller { return s.as(credential, tenant) }
	s.tenantAdmin("globex")
	two := s.token(access.Claims{Subject: "two", Tenants: []string{"acme", "globex"}, Roles: map[string]access.Role{"acme": access.RoleAdmin, "globex": access.RoleAuditor}})
	key := s.as(s.key("acme", access.LogsWrite, access.LogsSearch), "")
	for _, test := range []struct {
		name    string
		caller  caller
		method  string
		path    string
		status  int
		invoked bool
	}{
		{"first", inTenant("acme"), "GET", "/logs", 200, true},
		{"again", inTenant("acme"), "GET", "/logs", 200, false},
		{"another route that is allowed", inTenant("acme"), "GET", "/logs/stats", 200, true},
		{"another method that is not", inTenant("acme"), "POST", "/logs", 403, true},
		{"another method that is not, again", inTenant("acme"), "POST", "/logs", 403, false},
		{"another tenant", inTenant("other"), "GET", "/logs", 403, false},
		{"another tenant that exists", inTenant("globex"), "GET", "/logs", 403, false},
		{"no tenant in the header", inTenant(""), "GET", "/tenants/acme", 200, true},
		{"another tenant in the path", inTenant(""), "GET", "/tenants/globex", 403, false},
		{"a tenant in the header, which the path names too", inTenant("acme"), "GET", "/tenants/acme", 200, false},
		{"another credential", s.as(s.roleToken("acme", access.RoleAuditor, "b"), "acme"), "GET", "/logs", 200, true},
		{"no tenant for a credential of one", inTenant(""), "GET", "/logs", 200, false},
		{"a write in the first of two tenants", s.as(two, "acme"), "POST", "/logs", 202, true},
		{"a write in the second, where it may only read", s.as(two, "globex"), "POST", "/logs", 403, false},
		{"a read in the second", s.as(two, "globex"), "GET", "/logs", 200, true},
		{"a third tenant", s.as(two, "other"), "GET", "/logs", 403, false},
		{"no tenant for a credential of two", s.as(two, ""), "GET", "/logs", 400, false},
		{"a key without a tenant writes", key, "POST", "/logs", 202, true},
		{"a key without a tenant reads", key, "GET", "/logs", 200, true},
		{"a key in another tenant", s.as(key.authorization, "globex"), "GET", "/logs", 403, false},
	} {
		processes.endAll(t, "authorize-request") // an invocation must then start one
		body := ""
		if test.method == "POST" {
			body = entryText(1)
		}
		got := test.caller.do(test.method, test.path, body, nil)
		processes.mu.Lock()
		invoked := len(processes.pids["authorize-request"]) > 0
		processes.mu.Unlock()
		if got.status != test.status {
			t.Errorf("%s: got status %d, want %d: %s", test.name, got.status, test.status, got.body)
		}
		if invoked != test.invoked {
			t.Errorf("%s: the authorizer is invoked %v, want %v", test.name, invoked, test.invoked)
		}
	}
}

// key returns the Authorization of a new API key.
func (s *service) key(tenant audit.TenantID, permissions ...access.Permission) string {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"name": "k", "permissions": permissions})
	if err != nil {
		s.t.Fatal(err)
	}
	got := s.as(s.roleToken(tenant, access.RoleAdmin, "admin"), "").do("POST", "/tenants/"+string(tenant)+"/api-keys", string(body), nil)
	if got.status != http.StatusCreated {
		s.t.Fatalf("create a key: got status %d, want %d: %s", got.status, http.StatusCreated, got.body)
	}
	var created struct{ Secret string }
	got.decode(s.t, &created)
	return "ApiKey " + created.Secret
}

// A key without X-Tenant-ID writes and reads its tenant, and no other.
func TestAKeyNeedsNoTenant(t *testing.T) {
	embeddedWays(t, func(t *testing.T, start starter) {
		s := start(t, t.TempDir())
		acme, globex := s.tenantAdmin("acme"), s.tenantAdmin("globex")
		globex.bulk([]string{entryText(1)})
		key := s.as(s.key("acme", access.LogsWrite, access.LogsSearch, access.LogsStats), "")
		key.bulk([]string{entryText(2), entryText(3)})
		key.eventually(3) // with the entry about the key
		acme.eventually(3)
		globex.eventually(1)
		got := s.as(s.token(access.Claims{Subject: "two", Tenants: []string{"acme", "globex"}, Role: access.RoleAdmin}), "").get("/logs", nil)
		checkProblem(t, got, 400, "malformed_request",
			"The header X-Tenant-ID is required, because the credential is not for exactly one tenant: it names the tenant, such as acme.")
	})
}

func TestAllowsLikeIAM(t *testing.T) {
	statement := func(effect, action string, resources ...string) events.IAMPolicyStatement {
		return events.IAMPolicyStatement{Effect: effect, Action: []string{action}, Resource: resources}
	}
	const invoke = "execute-api:Invoke"
	for _, test := range []struct {
		name       string
		statements []events.IAMPolicyStatement
		method     string
		want       bool
	}{
		{"no statement", nil, "a/GET/x", false},
		{"equal", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x")}, "a/GET/x", true},
		{"another", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x")}, "a/GET/xy", false},
		{"second resource", []events.IAMPolicyStatement{statement("Allow", invoke, "b", "a/GET/x")}, "a/GET/x", true},
		{"star over slashes", []events.IAMPolicyStatement{statement("Allow", invoke, "a/*/y")}, "a/GET/x/y", true},
		{"star for nothing", []events.IAMPolicyStatement{statement("Allow", invoke, "a/*GET/*")}, "a/GET/", true},
		{"stars that go back", []events.IAMPolicyStatement{statement("Allow", invoke, "*ab*abc")}, "ababxabababc", true},
		{"stars without an end", []events.IAMPolicyStatement{statement("Allow", invoke, "*ab*abd")}, "ababxabababc", false},
		{"question mark", []events.IAMPolicyStatement{statement("Allow", invoke, "a/?ET/x")}, "a/GET/x", true},
		{"question mark for nothing", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x?")}, "a/GET/x", false},
		{"a star in the call is no wildcard", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x")}, "a/GET/*", false},
		{"another action", []events.IAMPolicyStatement{statement("Allow", "s3:*", "*")}, "a/GET/x", false},
		{"any action", []events.IAMPolicyStatement{statement("Allow", "*", "*")}, "a/GET/x", true},
		{"deny wins", []events.IAMPolicyStatement{statement("Allow", invoke, "*"), statement("Deny", invoke, "a/GET/*")}, "a/GET/x", false},
		{"deny wins in any order", []events.IAMPolicyStatement{statement("Deny", invoke, "a/GET/*"), statement("Allow", invoke, "*")}, "a/GET/x", false},
		{"deny of another method", []events.IAMPolicyStatement{statement("Deny", invoke, "a/PUT/*"), statement("Allow", invoke, "*")}, "a/GET/x", true},
	} {
		policy := events.APIGatewayCustomAuthorizerPolicy{Version: "2012-10-17", Statement: test.statements}
		if got := localcloud.Allows(policy, test.method); got != test.want {
			t.Errorf("%s: got allowed %t, want %t", test.name, got, test.want)
		}
	}
}
