package lambdaedge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const (
	authorizationHeader = "Authorization"
	// maxAuthorizerResponse is API Gateway's limit for an authorizer's response, 8 KB,
	// less a margin for differences in its JSON.
	maxAuthorizerResponse = 8<<10 - 256
)

// errUnauthorized has the text for which API Gateway returns 401.
var errUnauthorized = errors.New("Unauthorized")

// Callers finds out who calls.
type Callers struct {
	// Authenticate verifies the value of an Authorization header.
	Authenticate func(ctx context.Context, authorization string) (access.Principal, error)
	// UsageKey returns the API key under which API Gateway counts the requests for a tenant, by
	// its tier; "": none. The tenant is "" if the request is for none or for several.
	UsageKey func(ctx context.Context, tenant audit.TenantID) string
}

// Authorizer returns the Lambda function that answers API Gateway's REQUEST
// authorizer events. It returns an IAM policy and, in the response's context, the
// principal for HTTP.
//
// If Authenticate returns audit.ErrUnauthenticated, the client gets 401. If it returns
// another error, the function fails and the client gets 503 with Retry-After. API
// Gateway caches neither. If policy and principal exceed API Gateway's 8 KB, the policy
// denies the request.
//
// API Gateway caches the policy by the authorizer's identity sources. It applies the
// policy to every later request with the same identity sources, on any route. A policy
// therefore depends only on the identity sources of the called route:
//
//   - Routes with the tenant in X-Tenant-ID have an authorizer with the identity sources
//     Authorization and X-Tenant-ID. The policy lists exactly those routes that the
//     principal may call in that tenant. The principal is restricted to its grants there.
//   - All other routes work without X-Tenant-ID. They have an authorizer with the identity
//     source Authorization only. The policy lists exactly those routes that the principal
//     may call, with the ids of its tenants.
//
// Two cases are left to the handlers, because a policy cannot express them. If the ids
// exceed the 8 KB, the paths allow any tenant. If a principal has one permission in every
// tenant and another in single tenants, the wildcard of the first may allow a path below it.
//
// The policy explicitly denies a route that only the wildcard of a listed route would
// allow. It also denies the request itself if it is not allowed. The handlers check tenant
// and permission again in any case. If X-Tenant-ID is missing or malformed, only the
// called route is allowed, and its handler returns 400.
func Authorizer(c Callers) func(context.Context, events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
	return func(ctx context.Context, event events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
		header := headersOf(event.Headers, event.MultiValueHeaders)
		credentials := header.Values(authorizationHeader)
		if len(credentials) != 1 {
			return events.APIGatewayCustomAuthorizerResponse{}, errUnauthorized
		}
		principal, err := c.Authenticate(ctx, credentials[0])
		if errors.Is(err, audit.ErrUnauthenticated) {
			return events.APIGatewayCustomAuthorizerResponse{}, errUnauthorized
		}
		if err != nil {
			slog.ErrorContext(ctx, "authentication failed", "request_id", event.RequestContext.RequestID, "error", err)
			return events.APIGatewayCustomAuthorizerResponse{}, fmt.Errorf("authenticate request %s: %w", event.RequestContext.RequestID, err)
		}
		response, err := authorize(event, header, principal)
		if errors.Is(err, errResponseTooLarge) {
			slog.WarnContext(ctx, "the principal is too large for a policy", "request_id", event.RequestContext.RequestID, "error", err)
			response, err = newAuthorizerResponse(access.Principal{Subject: principal.Subject}, policy{denied: []string{event.MethodArn}})
		}
		if err != nil {
			slog.ErrorContext(ctx, "making the policy failed", "request_id", event.RequestContext.RequestID, "error", err)
			return events.APIGatewayCustomAuthorizerResponse{}, err
		}
		response.UsageIdentifierKey = c.UsageKey(ctx, countedTenant(event, header, principal))
		return response, nil
	}
}

// countedTenant returns the tenant for which a usage plan counts the request, "" for none or
// several. Like the policy it depends only on the identity sources of the called route. A tenant
// that the principal may not use does not count.
func countedTenant(event events.APIGatewayCustomAuthorizerRequestTypeRequest, header http.Header, p access.Principal) audit.TenantID {
	ids, all := p.TenantIDs()
	if route, known := routeOf(event.HTTPMethod, event.Resource); known && route.TenantFrom == manifest.TenantFromHeader {
		tenant, err := audit.ParseTenantID(strings.Join(header.Values(manifest.TenantHeader), ","))
		if err != nil || !all && !slices.Contains(ids, tenant) {
			return ""
		}
		return tenant
	}
	if all || len(ids) != 1 {
		return ""
	}
	return ids[0]
}

// authorize returns the policy for an authenticated principal.
func authorize(event events.APIGatewayCustomAuthorizerRequestTypeRequest, header http.Header, p access.Principal) (events.APIGatewayCustomAuthorizerResponse, error) {
	stage, err := stageOf(event.MethodArn)
	if err != nil {
		return events.APIGatewayCustomAuthorizerResponse{}, err
	}
	route, known := routeOf(event.HTTPMethod, event.Resource)
	switch {
	case !known:
		return newAuthorizerResponse(p, policy{denied: []string{event.MethodArn}})
	case route.Permission == "":
		return newAuthorizerResponse(p, policy{allowed: []string{event.MethodArn}})
	case route.TenantFrom == manifest.TenantFromHeader:
		tenant, err := audit.ParseTenantID(strings.Join(header.Values(manifest.TenantHeader), ","))
		if err != nil {
			return newAuthorizerResponse(restricted(p), policy{allowed: []string{event.MethodArn}})
		}
		return newAuthorizerResponse(restricted(p, tenant), headerRoutes(p, tenant).policyFor(stage, event.MethodArn))
	}
	response, err := newAuthorizerResponse(p, otherRoutes(p, false).policyFor(stage, event.MethodArn))
	if errors.Is(err, errResponseTooLarge) {
		return newAuthorizerResponse(p, otherRoutes(p, true).policyFor(stage, event.MethodArn))
	}
	return response, err
}

// stageOf returns a method's ARN up to and including the slash after the stage:
// "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3/prod/".
func stageOf(methodARN string) (string, error) {
	parts := strings.SplitN(methodARN, "/", 3)
	if len(parts) != 3 || !strings.HasPrefix(methodARN, "arn:") {
		return "", errors.New("methodArn is not the ARN of an API's method")
	}
	return parts[0] + "/" + parts[1] + "/", nil
}

// routeOf returns the manifest's route with that method and resource. A HEAD has the
// route of its GET.
func routeOf(method, resource string) (manifest.Route, bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, f := range manifest.Functions() {
		if r := f.Trigger.Route; r != nil && r.Method == method && manifest.BasePath+r.Path == resource {
			return *r, true
		}
	}
	return manifest.Route{}, false
}

// restricted returns the principal with only the grants that apply in the tenants.
func restricted(p access.Principal, tenants ...audit.TenantID) access.Principal {
	grants := make(map[audit.TenantID][]access.Permission, len(tenants)+1)
	for _, id := range append(tenants, access.AnyTenant) {
		if permissions, ok := p.Grants[id]; ok {
			grants[id] = permissions
		}
	}
	p.Grants = grants
	return p
}

// routeAccess has the routes that a principal may and may not call. A route is written
// "METHOD/path", with "*" for a parameter that may have any value.
type routeAccess struct{ allowed, denied []string }

func (a *routeAccess) add(allowed bool, method, path string) {
	list := &a.denied
	if allowed {
		list = &a.allowed
	}
	*list = append(*list, method+manifest.BasePath+path)
	if method == http.MethodGet {
		*list = append(*list, http.MethodHead+manifest.BasePath+path)
	}
}

// headerRoutes returns the access to the routes with X-Tenant-ID in one tenant.
func headerRoutes(p access.Principal, tenant audit.TenantID) routeAccess {
	var a routeAccess
	for _, r := range routes(manifest.TenantFromHeader) {
		_, err := p.Authorize(tenant, r.Permission)
		a.add(err == nil, r.Method, wildcards(r.Path))
	}
	return a
}

// otherRoutes returns the access to the routes without X-Tenant-ID. If anyTenant is set,
// a route that the principal may call in some tenant allows every tenant's id.
func otherRoutes(p access.Principal, anyTenant bool) routeAccess {
	var a routeAccess
	for _, r := range routes(manifest.TenantNone) {
		a.add(mayCallWithoutTenant(p, r), r.Method, wildcards(r.Path))
	}
	ids, all := p.TenantIDs()
	for _, r := range routes(manifest.TenantFromPath) {
		if _, err := p.Authorize(access.AnyTenant, r.Permission); all && err == nil {
			a.add(true, r.Method, wildcards(r.Path))
			continue
		}
		var permitted []audit.TenantID
		for _, id := range ids {
			if _, err := p.Authorize(id, r.Permission); err == nil {
				permitted = append(permitted, id)
			}
		}
		switch {
		case len(permitted) == 0:
			a.add(false, r.Method, wildcards(r.Path))
		case anyTenant:
			a.add(true, r.Method, wildcards(r.Path))
		default:
			for _, id := range permitted {
				a.add(true, r.Method, wildcards(strings.Replace(r.Path, "{id}", string(id), 1)))
			}
		}
	}
	return a
}

// mayCallWithoutTenant reports whether the principal may call a route that belongs to no
// single tenant. A GET needs the permission in any tenant, all else in every tenant.
func mayCallWithoutTenant(p access.Principal, r manifest.Route) bool {
	if _, err := p.Authorize(access.AnyTenant, r.Permission); err == nil {
		return true
	}
	ids, _ := p.TenantIDs()
	return r.Method == http.MethodGet && slices.ContainsFunc(ids, func(id audit.TenantID) bool {
		_, err := p.Authorize(id, r.Permission)
		return err == nil
	})
}

// routes returns the manifest's protected routes with that source of the tenant's id.
func routes(from manifest.TenantSource) []manifest.Route {
	var found []manifest.Route
	for _, f := range manifest.Functions() {
		if r := f.Trigger.Route; r != nil && r.Permission != "" && r.TenantFrom == from {
			found = append(found, *r)
		}
	}
	return found
}

// wildcards returns the path with "*" for each parameter.
func wildcards(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if strings.HasPrefix(segment, "{") {
			segments[i] = "*"
		}
	}
	return strings.Join(segments, "/")
}

// policy has ARN patterns. "*" matches any text.
type policy struct{ allowed, denied []string }

// policyFor returns the policy of the stage for the called method's ARN. It denies the
// routes that a wildcard of an allowed route matches, and the called method if nothing
// allows it.
func (a routeAccess) policyFor(stage, called string) policy {
	p := policy{allowed: make([]string, len(a.allowed))}
	for i, pattern := range a.allowed {
		p.allowed[i] = stage + pattern
	}
	for _, denied := range a.denied {
		matchesAllow := slices.ContainsFunc(a.allowed, func(allowed string) bool { return matches(allowed, denied) })
		shadowsAllow := slices.ContainsFunc(a.allowed, func(allowed string) bool { return matches(denied, allowed) })
		if matchesAllow && !shadowsAllow {
			p.denied = append(p.denied, stage+denied)
		}
	}
	matchesCalled := func(pattern string) bool { return matches(pattern, called) }
	// A client can put a wildcard into its path, which a Deny must not repeat. IAM denies
	// by default what no Allow matches.
	literal := !strings.ContainsAny(called, "*?")
	if literal && !slices.ContainsFunc(p.allowed, matchesCalled) && !slices.ContainsFunc(p.denied, matchesCalled) {
		p.denied = append(p.denied, called)
	}
	return p
}

// matches reports whether the pattern matches the whole text. As in IAM, "*" matches any
// text, including slashes.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

// errResponseTooLarge means that principal and policy exceed API Gateway's limit for an
// authorizer's response.
var errResponseTooLarge = errors.New("principal and policy exceed API Gateway's 8 KB for an authorizer's response")

// newAuthorizerResponse returns the authorizer's response: the policy and the principal.
func newAuthorizerResponse(p access.Principal, d policy) (events.APIGatewayCustomAuthorizerResponse, error) {
	principal, err := json.Marshal(p)
	if err != nil {
		return events.APIGatewayCustomAuthorizerResponse{}, fmt.Errorf("principal %s as JSON: %w", p.Subject, err)
	}
	response := events.APIGatewayCustomAuthorizerResponse{
		PrincipalID:    p.Subject,
		PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{Version: "2012-10-17"},
		Context:        map[string]any{principalKey: string(principal)},
	}
	for _, s := range []struct {
		effect    string
		resources []string
	}{{"Allow", d.allowed}, {"Deny", d.denied}} {
		if len(s.resources) > 0 {
			response.PolicyDocument.Statement = append(response.PolicyDocument.Statement,
				events.IAMPolicyStatement{Action: []string{"execute-api:Invoke"}, Effect: s.effect, Resource: s.resources})
		}
	}
	text, err := json.Marshal(response)
	if err != nil {
		return events.APIGatewayCustomAuthorizerResponse{}, fmt.Errorf("policy for %s as JSON: %w", p.Subject, err)
	}
	if len(text) > maxAuthorizerResponse {
		return events.APIGatewayCustomAuthorizerResponse{}, fmt.Errorf("%s: %w", p.Subject, errResponseTooLarge)
	}
	return response, nil
}
