package lambdaedge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/attempts"
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
	// its tier; "": none. The tenant is "" if the credential is for several.
	UsageKey func(ctx context.Context, tenant audit.TenantID) string
	// Attempts records what callers are refused.
	Attempts Attempts
}

// Attempts records what callers were refused.
type Attempts interface {
	Record(ctx context.Context, a attempts.Attempt)
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
// API Gateway caches the policy by the authorizer's identity sources: Authorization, the method and
// the route. It applies the policy to later requests with any X-Tenant-ID or none, and with any path of
// the route. Policy and principal therefore depend on the credential alone. No request can get what
// another tenant's request left in the cache, because both get the same. The policy lists the routes
// that the principal may call:
//
//   - for a principal of one tenant, exactly the routes that it may call there.
//   - for a principal of several tenants, every route in these tenants. The handler decides about the
//     permission. It knows the tenant of X-Tenant-ID, which a policy cannot express, and each refused
//     attempt then gets into the log of the right tenant.
//   - a route without a tenant as its handler allows it.
//
// Two cases are left to the handlers, because a policy cannot express them: the tenant in
// X-Tenant-ID, and the tenant of a path, if the ids exceed the 8 KB.
//
// The policy explicitly denies a route that only the wildcard of a listed route would
// allow. It also denies the called method if the principal may not call it. The handlers check
// tenant and permission again in any case.
//
// The method and the route are identity sources so that every route that is refused reaches the
// function, which records the attempt. API Gateway then answers the same route for the time of its
// cache.
func Authorizer(c Callers) func(context.Context, events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
	return func(ctx context.Context, event events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
		header := headersOf(event.Headers, event.MultiValueHeaders)
		credentials := header.Values(authorizationHeader)
		if len(credentials) != 1 {
			return events.APIGatewayCustomAuthorizerResponse{}, errUnauthorized
		}
		principal, err := c.Authenticate(ctx, credentials[0])
		if errors.Is(err, audit.ErrUnauthenticated) {
			c.Attempts.Record(ctx, attempts.Attempt{})
			return events.APIGatewayCustomAuthorizerResponse{}, errUnauthorized
		}
		if err != nil {
			slog.ErrorContext(ctx, "authentication failed", "request_id", event.RequestContext.RequestID, "error", err)
			return events.APIGatewayCustomAuthorizerResponse{}, fmt.Errorf("authenticate request %s: %w", event.RequestContext.RequestID, err)
		}
		response, err := authorize(event, principal)
		if errors.Is(err, errResponseTooLarge) {
			slog.WarnContext(ctx, "the principal is too large for a policy", "request_id", event.RequestContext.RequestID, "error", err)
			c.Attempts.Record(ctx, attempts.Attempt{}) // nobody knows for which tenant
			response, err = newAuthorizerResponse(access.Principal{Subject: principal.Subject}, policy{denied: []string{event.MethodArn}})
		}
		if err != nil {
			slog.ErrorContext(ctx, "making the policy failed", "request_id", event.RequestContext.RequestID, "error", err)
			return events.APIGatewayCustomAuthorizerResponse{}, err
		}
		if attempt, refused := refusedAttempt(&event, principal); refused {
			attempt.UserAgent = header.Get("User-Agent")
			c.Attempts.Record(ctx, attempt)
		}
		tenant, _ := principal.OnlyTenant()
		response.UsageIdentifierKey = c.UsageKey(ctx, tenant)
		return response, nil
	}
}

// refusedAttempt returns what the policy refuses: a route for which a principal of one tenant lacks the
// permission there, a foreign tenant in the path, or a route of the platform. Handlers refuse the rest.
// The first belongs to the principal's tenant whichever one the request names, because the answer from
// the cache refuses its own tenant too.
func refusedAttempt(event *events.APIGatewayCustomAuthorizerRequestTypeRequest, p access.Principal) (attempts.Attempt, bool) {
	r, known := routeOf(event)
	if !known {
		return attempts.Attempt{}, false
	}
	a := attempts.Attempt{Principal: p, Route: r.Name(), RequestID: event.RequestContext.RequestID}
	a.IPAddress, _ = netip.ParseAddr(event.RequestContext.Identity.SourceIP)
	a.IPAddress = a.IPAddress.Unmap()
	if r.TenantFrom == manifest.TenantNone {
		_, err := p.Authorize(access.AnyTenant, r.Permission)
		return a, err != nil && (r.Method != http.MethodGet || !mayCallSomewhere(p, r))
	}
	if severalTenants(p) {
		return a, r.TenantFrom == manifest.TenantFromPath && !p.BelongsTo(audit.TenantID(event.PathParameters["id"]))
	}
	only, is := p.OnlyTenant()
	if !is {
		return a, true // it may do nothing anywhere
	}
	_, err := p.Authorize(only, r.Permission)
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		a.Tenant, a.Missing, a.Reason = only, denied.Permission, denied.Detail()
		return a, true
	}
	return a, r.TenantFrom == manifest.TenantFromPath && event.PathParameters["id"] != string(only)
}

// routeOf returns the protected route that the request calls.
func routeOf(event *events.APIGatewayCustomAuthorizerRequestTypeRequest) (manifest.Route, bool) {
	for _, f := range manifest.Functions() {
		r := f.Trigger.Route
		if r != nil && r.Permission != "" && manifest.BasePath+r.Path == event.Resource && slices.Contains(r.Methods(), event.HTTPMethod) {
			return *r, true
		}
	}
	return manifest.Route{}, false
}

// severalTenants reports whether a principal has access to more than one tenant.
func severalTenants(p access.Principal) bool {
	ids, all := p.TenantIDs()
	return all || len(ids) > 1
}

// authorize returns the policy for an authenticated principal.
func authorize(event events.APIGatewayCustomAuthorizerRequestTypeRequest, p access.Principal) (events.APIGatewayCustomAuthorizerResponse, error) {
	stage, err := stageOf(event.MethodArn)
	if err != nil {
		return events.APIGatewayCustomAuthorizerResponse{}, err
	}
	response, err := newAuthorizerResponse(p, accessOf(p, false).policyFor(stage, event.MethodArn))
	if errors.Is(err, errResponseTooLarge) {
		return newAuthorizerResponse(p, accessOf(p, true).policyFor(stage, event.MethodArn))
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

// routeAccess has the routes that a principal may and may not call. A route is written
// "METHOD/path", with "*" for a parameter that may have any value.
type routeAccess struct{ allowed, denied []string }

func (a *routeAccess) add(allowed bool, r manifest.Route, path string) {
	list := &a.denied
	if allowed {
		list = &a.allowed
	}
	for _, method := range r.Methods() {
		*list = append(*list, method+manifest.BasePath+path)
	}
}

// accessOf returns the principal's access to all protected routes; see Authorizer. If anyTenant is set,
// a route whose path names the tenant allows every tenant's id if it allows one.
func accessOf(p access.Principal, anyTenant bool) routeAccess {
	var a routeAccess
	several := severalTenants(p)
	for _, r := range routes(manifest.TenantFromHeader) {
		a.add(several || mayCallSomewhere(p, r), r, wildcards(r.Path))
	}
	for _, r := range routes(manifest.TenantNone) {
		_, err := p.Authorize(access.AnyTenant, r.Permission)
		a.add(err == nil || r.Method == http.MethodGet && mayCallSomewhere(p, r), r, wildcards(r.Path))
	}
	if several {
		a.addTenants(p, anyTenant)
		return a
	}
	only, _ := p.OnlyTenant()
	for _, r := range routes(manifest.TenantFromPath) {
		path := r.Path
		if !anyTenant {
			path = strings.Replace(path, "{id}", string(only), 1)
		}
		a.add(mayCallSomewhere(p, r), r, wildcards(path))
	}
	return a
}

// addTenants allows every route below the principal's tenants.
func (a *routeAccess) addTenants(p access.Principal, anyTenant bool) {
	const tenants = "*" + manifest.BasePath + "/tenants/"
	ids, all := p.TenantIDs()
	if all || anyTenant {
		a.allowed = append(a.allowed, tenants+"*")
		return
	}
	for _, id := range ids {
		a.allowed = append(a.allowed, tenants+string(id), tenants+string(id)+"/*")
	}
}

// mayCallSomewhere reports whether the principal has the route's permission in some tenant.
func mayCallSomewhere(p access.Principal, r manifest.Route) bool {
	ids, _ := p.TenantIDs()
	return slices.ContainsFunc(append(ids, access.AnyTenant), func(id audit.TenantID) bool {
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
	principal, err := formatPrincipal(p)
	if err != nil {
		return events.APIGatewayCustomAuthorizerResponse{}, err
	}
	response := events.APIGatewayCustomAuthorizerResponse{
		PrincipalID:    p.Subject,
		PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{Version: "2012-10-17"},
		Context:        map[string]any{principalKey: principal},
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
