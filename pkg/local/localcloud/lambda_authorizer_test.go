package localcloud_test

import (
	"log/slog"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// Like API Gateway, the runner caches a policy for a minute by credential and tenant, and applies
// it to each method.
func TestLambdaCachesPolicies(t *testing.T) {
	processes := &environments{Handler: slog.DiscardHandler, pids: map[string][]int{}}
	s := startWith(t, localcloud.Options{Data: t.TempDir(), Log: slog.New(processes), Lambda: lambda(t, config.Engines{})})
	s.tenantAdmin("acme")
	credential := s.roleToken("acme", access.RoleAuditor, "a")
	inTenant := func(tenant audit.TenantID) caller { return s.as(credential, tenant) }
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
		{"another method that is allowed", inTenant("acme"), "GET", "/logs/stats", 200, false},
		{"another method that is not", inTenant("acme"), "POST", "/logs", 403, false},
		{"another tenant", inTenant("other"), "GET", "/logs", 403, true},
		{"no tenant in the header", inTenant(""), "GET", "/tenants/acme", 200, true},
		{"a tenant in the header, which the path names too", inTenant("acme"), "GET", "/tenants/acme", 200, false},
		{"another credential", s.as(s.roleToken("acme", access.RoleAuditor, "b"), "acme"), "GET", "/logs", 200, true},
		{"no tenant where one is needed", inTenant(""), "GET", "/logs", 400, true},
		{"the same without a tenant again", inTenant(""), "GET", "/logs", 400, true},
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
