package lambdaedge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const stageARN = "arn:aws:execute-api:eu-central-1:111122223333:gy415nuibc/prod/"

func knows(p access.Principal) func(context.Context, string) (access.Principal, error) {
	return func(context.Context, string) (access.Principal, error) { return p, nil }
}

// callers authenticates, and counts requests under a key that names the tenant.
func callers(authenticate func(context.Context, string) (access.Principal, error)) lambdaedge.Callers {
	return lambdaedge.Callers{
		Authenticate: authenticate, UsageKey: func(_ context.Context, tenant audit.TenantID) string { return "key of " + string(tenant) }, Attempts: &noted{},
	}
}

// noted keeps refused attempts.
type noted struct{ attempts []attempts.Attempt }

func (n *noted) Record(_ context.Context, a attempts.Attempt) { n.attempts = append(n.attempts, a) }

func grants(pairs map[audit.TenantID][]access.Permission) access.Principal {
	return access.Principal{Subject: "u1", Grants: pairs}
}

// ask is the authorizer event of a request to a route.
func ask(method string, r manifest.Route, tenant string, ids map[string]string) events.APIGatewayCustomAuthorizerRequestTypeRequest {
	resource := manifest.BasePath + r.Path
	event := events.APIGatewayCustomAuthorizerRequestTypeRequest{
		Type: "REQUEST", MethodArn: stageARN + method + concrete(r, ids), Resource: resource, HTTPMethod: method,
		MultiValueHeaders: map[string][]string{"authorization": {"Bearer e30"}},
	}
	if tenant != "" {
		event.MultiValueHeaders["x-tenant-id"] = []string{tenant}
	}
	return event
}

// concrete is the route's path with its parameters filled in.
func concrete(r manifest.Route, ids map[string]string) string {
	p := manifest.BasePath + r.Path
	for name, id := range ids {
		p = strings.ReplaceAll(p, "{"+name+"}", id)
	}
	return p
}

// opens evaluates a policy as IAM does: an explicit Deny wins, and without an Allow nothing is open.
func opens(policy events.APIGatewayCustomAuthorizerPolicy, arn string) bool {
	open := false
	for _, s := range policy.Statement {
		for _, resource := range s.Resource {
			if !matchesARN(resource, arn) {
				continue
			}
			if s.Effect == "Deny" {
				return false
			}
			open = true
		}
	}
	return open
}

// matchesARN is path.Match with a "*" that also stands for slashes.
func matchesARN(pattern, arn string) bool {
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x01") }
	ok, err := path.Match(flat(pattern), flat(arn))
	return ok && err == nil
}

func TestAuthorizerOfASampleEvent(t *testing.T) {
	p := grants(map[audit.TenantID][]access.Permission{"acme": {access.LogsSearch, access.LogsWrite}})
	p.Resources = []access.Resource{{Type: "order"}}
	response, err := lambdaedge.Authorizer(callers(knows(p)))(t.Context(), load[events.APIGatewayCustomAuthorizerRequestTypeRequest](t, "authorizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := events.APIGatewayCustomAuthorizerResponse{
		PrincipalID: "u1",
		PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{Version: "2012-10-17", Statement: []events.IAMPolicyStatement{
			{Action: []string{"execute-api:Invoke"}, Effect: "Allow", Resource: []string{
				stageARN + "POST/api/v1/logs", stageARN + "POST/api/v1/logs/bulk", stageARN + "GET/api/v1/logs", stageARN + "HEAD/api/v1/logs", stageARN + "POST/api/v1/logs/search",
			}},
		}},
		Context:            map[string]any{"principal": `{"sub":"u1","grants":{"acme":["logs:search","logs:write"]},"resources":["order"]}`},
		UsageIdentifierKey: "key of acme",
	}
	if diff := cmp.Diff(want, response); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
}

// TestRequestsAreCountedForTheirTenant: the usage key depends on nothing but the credential, by
// which the authorizer's answer is cached.
func TestRequestsAreCountedForTheirTenant(t *testing.T) {
	in := func(ids ...audit.TenantID) access.Principal {
		held := map[audit.TenantID][]access.Permission{}
		for _, id := range ids {
			held[id] = []access.Permission{access.LogsSearch, access.TenantsRead}
		}
		return grants(held)
	}
	for _, c := range []struct {
		name      string
		principal access.Principal
		resource  string
		tenant    string // of the header
		want      string
	}{
		{"one tenant", in("acme"), "/logs", "acme", "key of acme"},
		{"one tenant and no header", in("acme"), "/logs", "", "key of acme"},
		{"one tenant and a foreign header", in("acme"), "/logs", "globex", "key of acme"},
		{"one tenant and a malformed header", in("acme"), "/logs", "Not An Id", "key of acme"},
		{"two tenants", in("acme", "globex"), "/logs", "globex", "key of "},
		{"an operator", in(access.AnyTenant), "/logs", "globex", "key of "},
		{"a path, for a principal of one tenant", in("acme"), "/tenants/{id}", "globex", "key of acme"},
		{"a path, for a principal of two", in("acme", "globex"), "/tenants/{id}", "", "key of "},
		{"a path, for an operator", in(access.AnyTenant), "/tenants/{id}", "", "key of "},
	} {
		event := load[events.APIGatewayCustomAuthorizerRequestTypeRequest](t, "authorizer.json")
		event.Resource, event.HTTPMethod = manifest.BasePath+c.resource, http.MethodGet
		event.Headers, event.MultiValueHeaders = map[string]string{"Authorization": "Bearer x"}, nil
		if c.tenant != "" {
			event.Headers[manifest.TenantHeader] = c.tenant
		}
		response, err := lambdaedge.Authorizer(callers(knows(c.principal)))(t.Context(), event)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if response.UsageIdentifierKey != c.want {
			t.Errorf("%s: counted under %q, want %q", c.name, response.UsageIdentifierKey, c.want)
		}
	}
}

func TestAuthorizerRefusals(t *testing.T) {
	captureLog(t)
	event := load[events.APIGatewayCustomAuthorizerRequestTypeRequest](t, "authorizer.json")
	refuses := func(err error) func(context.Context, string) (access.Principal, error) {
		return func(context.Context, string) (access.Principal, error) { return access.Principal{}, err }
	}
	if _, err := lambdaedge.Authorizer(callers(refuses(fmt.Errorf("token expired: %w", audit.ErrUnauthenticated))))(t.Context(), event); err == nil || err.Error() != "Unauthorized" {
		t.Errorf("an expired token gives error %v, want %q", err, "Unauthorized")
	}
	down := errors.New("the key store is down")
	if _, err := lambdaedge.Authorizer(callers(refuses(down)))(t.Context(), event); !errors.Is(err, down) {
		t.Errorf("a failure gives error %v, want %v", err, down)
	}
	never := func(context.Context, string) (access.Principal, error) {
		t.Error("asked to authenticate, want no call")
		return access.Principal{}, nil
	}
	for _, values := range [][]string{nil, {"Bearer a", "Bearer b"}} {
		bare := event
		bare.Headers, bare.MultiValueHeaders = nil, map[string][]string{"Authorization": values}
		if _, err := lambdaedge.Authorizer(callers(never))(t.Context(), bare); err == nil || err.Error() != "Unauthorized" {
			t.Errorf("%d credentials give error %v, want %q", len(values), err, "Unauthorized")
		}
	}
	odd := event
	odd.MethodArn = "not an ARN"
	if _, err := lambdaedge.Authorizer(callers(knows(grants(nil))))(t.Context(), odd); err == nil || err.Error() == "Unauthorized" {
		t.Errorf("an odd ARN gives error %v, want one other than %q", err, "Unauthorized")
	}
}

func TestAuthorizerDenies(t *testing.T) {
	p := grants(map[audit.TenantID][]access.Permission{"acme": {access.LogsWrite}})
	for name, event := range map[string]events.APIGatewayCustomAuthorizerRequestTypeRequest{
		"another permission": ask("GET", manifest.Route{Path: "/logs"}, "acme", nil),
		"another tenant":     ask("GET", manifest.Route{Path: "/tenants/{id}"}, "", map[string]string{"id": "other"}),
		"an unknown route":   ask("GET", manifest.Route{Path: "/secrets"}, "acme", nil),
		"an unknown method":  ask("PATCH", manifest.Route{Path: "/logs"}, "acme", nil),
	} {
		t.Run(name, func(t *testing.T) {
			response, err := lambdaedge.Authorizer(callers(knows(p)))(t.Context(), event)
			if err != nil {
				t.Fatal(err)
			}
			if opens(response.PolicyDocument, event.MethodArn) {
				t.Errorf("got response %+v, want one that does not allow %s", response, event.MethodArn)
			}
			last := response.PolicyDocument.Statement[len(response.PolicyDocument.Statement)-1]
			if last.Effect != "Deny" {
				t.Errorf("the last statement: got effect %q, want %q", last.Effect, "Deny")
			}
			if !slices.Contains(last.Resource, event.MethodArn) {
				t.Errorf("the last statement: got resource %q, want it to contain %q", last.Resource, event.MethodArn)
			}
		})
	}
}

// API Gateway caches the answer by credential and route. So the answer must not depend on the tenant
// that the first request names, nor on anything else of it.
func TestAuthorizerAnswersAlikeForAllTenants(t *testing.T) {
	p := grants(map[audit.TenantID][]access.Permission{"acme": {access.LogsWrite, access.LogsSearch}, "globex": {access.LogsSearch, access.TenantsRead}})
	var first events.APIGatewayCustomAuthorizerResponse
	for i, event := range []events.APIGatewayCustomAuthorizerRequestTypeRequest{
		ask("GET", manifest.Route{Path: "/logs"}, "acme", nil), ask("GET", manifest.Route{Path: "/logs"}, "globex", nil),
		ask("GET", manifest.Route{Path: "/logs"}, "other", nil), ask("POST", manifest.Route{Path: "/logs"}, "globex", nil),
		ask("POST", manifest.Route{Path: "/logs/search"}, "", nil), ask("GET", manifest.Route{Path: "/logs"}, "Not A Slug", nil),
		ask("GET", manifest.Route{Path: "/tenants"}, "", nil), ask("GET", manifest.Route{Path: "/tenants/{id}"}, "", map[string]string{"id": "globex"}),
	} {
		response, err := lambdaedge.Authorizer(callers(knows(p)))(t.Context(), event)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = response
		}
		if diff := cmp.Diff(first, response); diff != "" {
			t.Errorf("%s %s for %v: the answer differs from the first (-first +got):\n%s", event.HTTPMethod, event.Resource, event.MultiValueHeaders["x-tenant-id"], diff)
		}
	}
}

// The handler gets the principal that the authorizer found, with each of its tenants.
func TestHandlersGetTheAuthorizersPrincipal(t *testing.T) {
	search := []access.Permission{access.LogsSearch}
	want := grants(map[audit.TenantID][]access.Permission{"acme": search, "globex": search, "other": {access.LogsWrite}, access.AnyTenant: {access.TenantsRead}})
	response, err := lambdaedge.Authorizer(callers(knows(want)))(t.Context(), ask("GET", manifest.Route{Path: "/logs"}, "acme", nil))
	if err != nil {
		t.Fatal(err)
	}
	event := load[events.APIGatewayProxyRequest](t, "proxy.json")
	event.RequestContext.Authorizer = response.Context
	var got access.Principal
	handler := lambdaedge.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, _ = access.PrincipalFrom(r.Context()) }))
	if _, err := handler(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the principal (-want +got):\n%s", diff)
	}
}

// Whatever a cached policy is applied to, it decides as the principal's grants do. For a principal of
// several tenants it decides about the tenants of paths alone.
func TestAuthorizerPoliciesAreExact(t *testing.T) {
	tenants := []audit.TenantID{"acme", "beta", "api-keys"}
	ids := map[string]string{"key": "00112233445566ff"}
	rapid.Check(t, func(t *rapid.T) {
		held := map[audit.TenantID][]access.Permission{}
		for _, id := range append([]audit.TenantID{access.AnyTenant}, tenants...) {
			if rapid.Bool().Draw(t, "has "+string(id)) {
				held[id] = rapid.SliceOfDistinct(rapid.SampledFrom(access.Permissions()), rapid.ID).Draw(t, "of "+string(id))
			}
		}
		p := grants(held)
		asked := rapid.SampledFrom(tenants).Draw(t, "asked")
		for _, by := range protectedRoutes() {
			pathTenant := asked
			header := rapid.SampledFrom([]string{"", "acme", "other"}).Draw(t, "a header that does not count")
			ids["id"] = string(pathTenant)
			response, err := lambdaedge.Authorizer(callers(knows(p)))(context.Background(), ask(by.Method, by, header, ids))
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range protectedRoutes() {
				for _, tenant := range tenants {
					ids["id"] = string(tenant)
					if to.TenantFrom == manifest.TenantFromHeader {
						ids["id"] = "0190163d-8694-739b-aea5-966c26f8ad90"
					}
					arn := stageARN + to.Method + concrete(to, ids)
					got, want := opens(response.PolicyDocument, arn), mayCall(p, to, tenant)
					if got != want {
						t.Fatalf("asked for %s %s, %s is open: %v, want %v; policy %+v", by.Method, by.Path, arn, got, want, response.PolicyDocument)
					}
				}
			}
		}
	})
}

func protectedRoutes() []manifest.Route {
	var routes []manifest.Route
	for _, f := range manifest.Functions() {
		if r := f.Trigger.Route; r != nil && r.Permission != "" {
			routes = append(routes, *r)
		}
	}
	return routes
}

func mayCall(p access.Principal, r manifest.Route, tenant audit.TenantID) bool {
	ids, all := p.TenantIDs()
	switch several := all || len(ids) > 1; {
	case several && r.TenantFrom == manifest.TenantFromHeader:
		return true
	case several && r.TenantFrom == manifest.TenantFromPath:
		return all || slices.Contains(ids, tenant)
	}
	if r.TenantFrom == manifest.TenantFromPath {
		_, err := p.Authorize(tenant, r.Permission)
		return err == nil
	}
	if r.TenantFrom == manifest.TenantFromHeader || r.Method == http.MethodGet { // in which tenant the handler decides
		for id := range p.Grants {
			if _, err := p.Authorize(id, r.Permission); err == nil {
				return true
			}
		}
		return false
	}
	_, err := p.Authorize(access.AnyTenant, r.Permission)
	return err == nil
}

func TestAuthorizerKeepsTheGatewaysLimit(t *testing.T) {
	captureLog(t)
	for _, c := range []struct {
		name    string
		tenants int
		fits    bool
		foreign bool // the policy opens the paths of other tenants, which the handlers refuse
	}{{"few", 3, true, false}, {"more than paths can name", 60, true, true}, {"as many as a token can name", 250, true, true}, {"more than a principal can carry", 1000, false, false}} {
		t.Run(c.name, func(t *testing.T) {
			held := map[audit.TenantID][]access.Permission{}
			for i := range c.tenants {
				held[audit.TenantID(fmt.Sprintf("tenant-%d", i))] = access.RoleAuditor.Permissions()
			}
			last := fmt.Sprintf("tenant-%d", c.tenants-1)
			event := ask("GET", manifest.Route{Path: "/tenants/{id}"}, "", map[string]string{"id": last})
			response, err := lambdaedge.Authorizer(callers(knows(grants(held))))(t.Context(), event)
			if err != nil {
				t.Fatal(err)
			}
			text, jsonErr := json.Marshal(response)
			if jsonErr != nil {
				t.Errorf("got json error %v, want none", jsonErr)
			}
			if len(text) > 8<<10 {
				t.Errorf("got %d bytes of text, want at most %d", len(text), 8<<10)
			}
			if opens(response.PolicyDocument, event.MethodArn) != c.fits {
				t.Errorf("opens(response.PolicyDocument, event.MethodArn) is %v, want %v", opens(response.PolicyDocument, event.MethodArn), c.fits)
			}
			if got := opens(response.PolicyDocument, stageARN+"GET/api/v1/tenants/x/api-keys"); got != c.foreign {
				t.Errorf("a foreign tenant is open: %v, want %v", got, c.foreign)
			}
		})
	}
}

// Each refused route reaches the recorder. What the policy leaves to handlers does not.
func TestAuthorizerRecordsWhatItRefuses(t *testing.T) {
	auditor := grants(map[audit.TenantID][]access.Permission{"acme": access.RoleAuditor.Permissions()})
	two := grants(map[audit.TenantID][]access.Permission{"acme": {access.LogsSearch}, "globex": {access.LogsSearch}})
	path := func(id string) map[string]string { return map[string]string{"id": id} }
	const outside = "outside"
	for _, c := range []struct {
		name      string
		principal access.Principal
		event     events.APIGatewayCustomAuthorizerRequestTypeRequest
		want      string // the tenant and the route, or outside; "": nothing
	}{
		{"allowed", auditor, ask("GET", manifest.Route{Path: "/logs"}, "acme", nil), ""},
		{"refused", auditor, ask("DELETE", manifest.Route{Path: "/logs/cleanup"}, "acme", nil), "acme DELETE /logs/cleanup"},
		{"refused without a header", auditor, ask("POST", manifest.Route{Path: "/logs"}, "", nil), "acme POST /logs"},
		{"refused with a foreign header, whose answer is cached for its own tenant too", auditor, ask("POST", manifest.Route{Path: "/logs"}, "globex", nil), "acme POST /logs"},
		{"a foreign header alone, about which the handler decides", auditor, ask("GET", manifest.Route{Path: "/logs"}, "globex", nil), ""},
		{"refused by path", auditor, ask("POST", manifest.Route{Path: "/tenants/{id}/api-keys"}, "", path("acme")), "acme POST /tenants/{id}/api-keys"},
		{"refused by a foreign path", auditor, ask("POST", manifest.Route{Path: "/tenants/{id}/api-keys"}, "", path("globex")), "acme POST /tenants/{id}/api-keys"},
		{"a foreign path alone", auditor, ask("GET", manifest.Route{Path: "/tenants/{id}"}, "", path("globex")), outside},
		{"HEAD is GET", grants(map[audit.TenantID][]access.Permission{"acme": {access.LogsWrite}}), ask("HEAD", manifest.Route{Path: "/logs"}, "", nil), "acme GET /logs"},
		{"the platform", auditor, ask("POST", manifest.Route{Path: "/tenants"}, "", nil), outside},
		{"two tenants", two, ask("POST", manifest.Route{Path: "/logs"}, "acme", nil), ""},
		{"two tenants and a third in the path", two, ask("GET", manifest.Route{Path: "/tenants/{id}"}, "", path("other")), outside},
		{"no tenant", grants(nil), ask("GET", manifest.Route{Path: "/logs"}, "acme", nil), outside},
		{"no such route", auditor, ask("GET", manifest.Route{Path: "/secrets"}, "acme", nil), ""},
	} {
		c.event.PathParameters = path(strings.Split(c.event.MethodArn+"///////", "/")[6])
		c.event.RequestContext.RequestID, c.event.RequestContext.Identity.SourceIP = "r1", "203.0.113.7"
		c.event.MultiValueHeaders["user-agent"] = []string{"curl/8"}
		to := callers(knows(c.principal))
		got := &noted{}
		to.Attempts = got
		if _, err := lambdaedge.Authorizer(to)(t.Context(), c.event); err != nil {
			t.Fatal(err)
		}
		var text string
		for _, a := range got.attempts {
			text += outside
			if a.Tenant != "" {
				text = string(a.Tenant) + " " + a.Route
			}
			if a.UserAgent != "curl/8" || a.IPAddress.String() != "203.0.113.7" || a.RequestID != "r1" {
				t.Errorf("%s: got agent %q, address %v and request %q, want those of the event", c.name, a.UserAgent, a.IPAddress, a.RequestID)
			}
			if (a.Tenant == "") != (a.Reason == "") || (a.Tenant == "") != (a.Missing == "") {
				t.Errorf("%s: got reason %q and permission %q for the tenant %q, want both for an entry", c.name, a.Reason, a.Missing, a.Tenant)
			}
		}
		if text != c.want {
			t.Errorf("%s: recorded %q, want %q", c.name, text, c.want)
		}
	}
	to := callers(func(context.Context, string) (access.Principal, error) {
		return access.Principal{}, audit.ErrUnauthenticated
	})
	got := &noted{}
	to.Attempts = got
	if _, err := lambdaedge.Authorizer(to)(t.Context(), ask("GET", manifest.Route{Path: "/logs"}, "acme", nil)); err == nil {
		t.Error("an unknown credential is let in")
	}
	if len(got.attempts) != 1 || got.attempts[0].Tenant != "" {
		t.Errorf("an unknown credential: recorded %+v, want one attempt from outside", got.attempts)
	}
}
