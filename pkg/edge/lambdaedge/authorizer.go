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
	tenantHeader        = "X-Tenant-ID"
	authorizationHeader = "Authorization"
	// maxAuthorizerResult is API Gateway's limit of an authorizer's answer, 8 KB,
	// less a little for the spelling of its JSON.
	maxAuthorizerResult = 8<<10 - 256
)

// errUnauthorized is the text that API Gateway turns into a 401.
var errUnauthorized = errors.New("Unauthorized")

// Authorizer returns the Lambda function that answers API Gateway's REQUEST
// authorizer events. A credential that authenticate refuses with
// audit.ErrUnauthenticated is a 401. Another error of it says that it cannot be
// found out now: the function fails with it, for which the API has a 503 with
// Retry-After. Both are not cached. Otherwise the answer is an IAM policy and, in
// its context, the principal for HTTP. A principal that passes the 8 KB which API
// Gateway takes of that may call nothing, whenever it asks.
//
// API Gateway caches the policy by its identity sources and applies it to every
// later request with the same ones, whatever route that has. So that a cached
// Allow opens nothing that was not decided, a policy depends on nothing but the
// identity sources of the route that was called:
//
//   - Routes whose tenant stands in X-Tenant-ID belong to an authorizer with the
//     identity sources Authorization and X-Tenant-ID. The policy lists exactly
//     those of them that the principal may call in that tenant, and the principal
//     is narrowed to its grants there.
//   - All other routes belong to an authorizer with the identity source
//     Authorization alone, since they work without X-Tenant-ID. The policy lists
//     exactly those of them that the principal may call, by the ids of its
//     tenants. Two cases are left to the handlers, since a policy cannot hold
//     them: where the ids pass the 8 KB that API Gateway takes, the paths name
//     any tenant; and where a principal holds one permission in every tenant and
//     another in single ones, the wildcard of the first may open a path below it.
//
// A route that a listed one's wildcard would open besides is denied explicitly,
// and so is the request itself where it is not allowed. The handlers check
// tenant and permission again in any case. A missing or malformed X-Tenant-ID
// opens the called route alone, whose handler answers with a 400.
func Authorizer(authenticate func(ctx context.Context, authorization string) (access.Principal, error)) func(context.Context, events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
	return func(ctx context.Context, event events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
		header := headersOf(event.Headers, event.MultiValueHeaders)
		credentials := header.Values(authorizationHeader)
		if len(credentials) != 1 {
			return events.APIGatewayCustomAuthorizerResponse{}, errUnauthorized
		}
		principal, err := authenticate(ctx, credentials[0])
		if errors.Is(err, audit.ErrUnauthenticated) {
			return events.APIGatewayCustomAuthorizerResponse{}, errUnauthorized
		}
		if err != nil {
			slog.ErrorContext(ctx, "authentication failed", "request_id", event.RequestContext.RequestID, "error", err)
			return events.APIGatewayCustomAuthorizerResponse{}, fmt.Errorf("authenticate request %s: %w", event.RequestContext.RequestID, err)
		}
		response, err := decide(event, header, principal)
		if errors.Is(err, errResultTooLarge) {
			slog.WarnContext(ctx, "a principal is refused", "request_id", event.RequestContext.RequestID, "error", err)
			response, err = answerTo(access.Principal{Subject: principal.Subject}, decision{denied: []string{event.MethodArn}})
		}
		if err != nil {
			slog.ErrorContext(ctx, "no policy can be made", "request_id", event.RequestContext.RequestID, "error", err)
			return events.APIGatewayCustomAuthorizerResponse{}, err
		}
		return response, nil
	}
}

// decide makes the policy for a principal that is who it says.
func decide(event events.APIGatewayCustomAuthorizerRequestTypeRequest, header http.Header, p access.Principal) (events.APIGatewayCustomAuthorizerResponse, error) {
	stage, err := stageOf(event.MethodArn)
	if err != nil {
		return events.APIGatewayCustomAuthorizerResponse{}, err
	}
	route, known := routeOf(event.HTTPMethod, event.Resource)
	switch {
	case !known:
		return answerTo(p, decision{denied: []string{event.MethodArn}})
	case route.Permission == "":
		return answerTo(p, decision{allowed: []string{event.MethodArn}})
	case route.TenantFrom == manifest.TenantFromHeader:
		tenant, err := audit.ParseTenantID(strings.Join(header.Values(tenantHeader), ","))
		if err != nil {
			return answerTo(narrowed(p), decision{allowed: []string{event.MethodArn}})
		}
		return answerTo(narrowed(p, tenant), headerRoutes(p, tenant).of(stage, event.MethodArn))
	}
	response, err := answerTo(p, otherRoutes(p, false).of(stage, event.MethodArn))
	if errors.Is(err, errResultTooLarge) {
		return answerTo(p, otherRoutes(p, true).of(stage, event.MethodArn))
	}
	return response, err
}

// stageOf is the part of a method's ARN up to and with the slash after the
// stage: "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3/prod/".
func stageOf(methodARN string) (string, error) {
	parts := strings.SplitN(methodARN, "/", 3)
	if len(parts) != 3 || !strings.HasPrefix(methodARN, "arn:") {
		return "", errors.New("the event's methodArn is no ARN of an API's method")
	}
	return parts[0] + "/" + parts[1] + "/", nil
}

// routeOf finds the route that the manifest has at a method and resource; a HEAD is its GET.
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

// narrowed is the principal with no other grants than those that count in the tenants.
func narrowed(p access.Principal, tenants ...audit.TenantID) access.Principal {
	grants := make(map[audit.TenantID][]access.Permission, len(tenants)+1)
	for _, id := range append(tenants, access.AnyTenant) {
		if permissions, has := p.Grants[id]; has {
			grants[id] = permissions
		}
	}
	p.Grants = grants
	return p
}

// choice is which routes a principal may call, as "METHOD/path" with "*" for what is open.
type choice struct{ allowed, refused []string }

func (c *choice) add(allowed bool, method, path string) {
	list := &c.refused
	if allowed {
		list = &c.allowed
	}
	*list = append(*list, method+manifest.BasePath+path)
	if method == http.MethodGet {
		*list = append(*list, http.MethodHead+manifest.BasePath+path)
	}
}

func headerRoutes(p access.Principal, tenant audit.TenantID) choice {
	var c choice
	for _, r := range routes(manifest.TenantFromHeader) {
		_, err := p.Authorize(tenant, r.Permission)
		c.add(err == nil, r.Method, wildcards(r.Path))
	}
	return c
}

// otherRoutes chooses among the routes without X-Tenant-ID. With anyTenant the
// paths do not name the tenants of a principal that has many.
func otherRoutes(p access.Principal, anyTenant bool) choice {
	var c choice
	for _, r := range routes(manifest.TenantNone) {
		c.add(mayCallWithoutTenant(p, r), r.Method, wildcards(r.Path))
	}
	ids, all := p.TenantIDs()
	for _, r := range routes(manifest.TenantFromPath) {
		if _, err := p.Authorize(access.AnyTenant, r.Permission); all && err == nil {
			c.add(true, r.Method, wildcards(r.Path))
			continue
		}
		var open []audit.TenantID
		for _, id := range ids {
			if _, err := p.Authorize(id, r.Permission); err == nil {
				open = append(open, id)
			}
		}
		switch {
		case len(open) == 0:
			c.add(false, r.Method, wildcards(r.Path))
		case anyTenant:
			c.add(true, r.Method, wildcards(r.Path))
		default:
			for _, id := range open {
				c.add(true, r.Method, wildcards(strings.Replace(r.Path, "{id}", string(id), 1)))
			}
		}
	}
	return c
}

// mayCallWithoutTenant: a list shows what the caller may see in any tenant,
// everything else is for those with the permission in all tenants.
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

// routes are the manifest's protected routes that name their tenant there.
func routes(from manifest.TenantSource) []manifest.Route {
	var found []manifest.Route
	for _, f := range manifest.Functions() {
		if r := f.Trigger.Route; r != nil && r.Permission != "" && r.TenantFrom == from {
			found = append(found, *r)
		}
	}
	return found
}

// wildcards is the path with "*" for each parameter.
func wildcards(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if strings.HasPrefix(segment, "{") {
			segments[i] = "*"
		}
	}
	return strings.Join(segments, "/")
}

// decision is a policy: ARNs, in which "*" stands for any text.
type decision struct{ allowed, denied []string }

// of is the choice as a policy of the stage, which denies besides what is
// refused and yet matches a wildcard of the allowed, and the called method where
// it is not allowed.
func (c choice) of(stage, called string) decision {
	d := decision{allowed: make([]string, len(c.allowed))}
	for i, pattern := range c.allowed {
		d.allowed[i] = stage + pattern
	}
	for _, refused := range c.refused {
		opened := slices.ContainsFunc(c.allowed, func(allowed string) bool { return matches(allowed, refused) })
		harms := slices.ContainsFunc(c.allowed, func(allowed string) bool { return matches(refused, allowed) })
		if opened && !harms {
			d.denied = append(d.denied, stage+refused)
		}
	}
	within := func(pattern string) bool { return matches(pattern, called) }
	// A client can write a wildcard into its path; what no Allow matches is refused anyway.
	plain := !strings.ContainsAny(called, "*?")
	if plain && !slices.ContainsFunc(d.allowed, within) && !slices.ContainsFunc(d.denied, within) {
		d.denied = append(d.denied, called)
	}
	return d
}

// matches reports whether the pattern, in which "*" stands for any text, slashes
// included, matches all of text, as IAM has it.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, begins := strings.CutPrefix(text, parts[0])
	if !begins {
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

// errResultTooLarge says that principal and policy pass what API Gateway takes from an authorizer.
var errResultTooLarge = errors.New("principal and policy pass the 8 KB that API Gateway takes from an authorizer")

// answerTo is the authorizer's answer: the policy and the principal.
func answerTo(p access.Principal, d decision) (events.APIGatewayCustomAuthorizerResponse, error) {
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
	if len(text) > maxAuthorizerResult {
		return events.APIGatewayCustomAuthorizerResponse{}, fmt.Errorf("%s: %w", p.Subject, errResultTooLarge)
	}
	return response, nil
}
