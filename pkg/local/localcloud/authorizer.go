package localcloud

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/local/runtimehost"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const (
	// maxPolicies bounds the cache. A policy has at most 8 KB.
	maxPolicies = 1000
)

// authorizer invokes the authorizer function and applies its policy to the called method.
// As API Gateway does, it caches a policy by the request's identity sources: the credential, the
// method and the route. It applies the policy to later requests with the same ones, whatever tenant
// they name.
type authorizer struct {
	function authorizerFunction
	now      func() time.Time

	mu       sync.Mutex
	policies map[identity]cachedPolicy
}

// authorizerFunction is the authorizer function as API Gateway invokes it.
type authorizerFunction func(context.Context, events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error)

func newAuthorizer(function authorizerFunction, now func() time.Time) *authorizer {
	return &authorizer{function: function, now: now, policies: map[identity]cachedPolicy{}}
}

// authorizerIn returns the authorizer function of a host.
func authorizerIn(host *runtimehost.Host) authorizerFunction {
	return func(ctx context.Context, event events.APIGatewayCustomAuthorizerRequestTypeRequest) (response events.APIGatewayCustomAuthorizerResponse, err error) {
		err = invoke(ctx, host, event, &response)
		return response, err
	}
}

// cachedPolicy is the authorizer function's answer, and the end of its time in the cache.
type cachedPolicy struct {
	events.APIGatewayCustomAuthorizerResponse
	expiresAt time.Time
}

// authorize returns the context that the authorizer passes to the function. The error is
// audit.ErrUnauthenticated or audit.ErrForbidden, or an *audit.UnavailableError if there is no
// policy. httpapi.GatewayAnswers has the same cases for API Gateway.
func (a *authorizer) authorize(ctx context.Context, event events.APIGatewayProxyRequest) (map[string]any, error) {
	p, err := a.policy(ctx, event)
	if err != nil {
		return nil, err
	}
	if !allows(p.PolicyDocument, methodARN(&event)) {
		return nil, fmt.Errorf("the authorizer's policy: %w", audit.ErrForbidden)
	}
	authorizerContext := map[string]any{"principalId": p.PrincipalID, "integrationLatency": 0}
	for name, value := range p.Context {
		authorizerContext[name] = value
	}
	return authorizerContext, nil
}

// policy returns the policy from the cache, or invokes the function.
func (a *authorizer) policy(ctx context.Context, event events.APIGatewayProxyRequest) (cachedPolicy, error) {
	credentials := event.MultiValueHeaders["Authorization"]
	if len(credentials) == 0 {
		return cachedPolicy{}, audit.ErrUnauthenticated // API Gateway does not invoke the function without one
	}
	sources := append([]string{event.HTTPMethod, event.Resource}, credentials...)
	key := sha256.Sum256([]byte(strings.Join(sources, "\x00"))) // none of them has a NUL
	if p, found := a.cached(key); found {
		return p, nil
	}
	expiresAt := a.now().Add(manifest.AuthorizerTTL)
	response, err := a.function(ctx, lambdaedge.AuthorizerEvent(event, methodARN(&event)))
	if err == nil {
		err = wellFormed(response)
	}
	var failure *runtimehost.FunctionError
	switch {
	case errors.As(err, &failure) && failure.Message == "Unauthorized": // the word that API Gateway turns into a 401
		return cachedPolicy{}, audit.ErrUnauthenticated
	case err != nil:
		return cachedPolicy{}, &audit.UnavailableError{Err: fmt.Errorf("authorize: %w", err)}
	}
	p := cachedPolicy{APIGatewayCustomAuthorizerResponse: response, expiresAt: expiresAt}
	a.store(key, p)
	return p, nil
}

// identity is a digest of the identity sources, so that the cache holds no credentials.
type identity [sha256.Size]byte

func (a *authorizer) cached(key identity) (cachedPolicy, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, found := a.policies[key]
	return p, found && a.now().Before(p.expiresAt)
}

func (a *authorizer) store(key identity, p cachedPolicy) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.policies) >= maxPolicies {
		clear(a.policies)
	}
	a.policies[key] = p
}

// wellFormed returns an error for an answer that API Gateway does not accept from an
// authorizer.
func wellFormed(r events.APIGatewayCustomAuthorizerResponse) error {
	switch {
	case r.PrincipalID == "":
		return errors.New("the authorizer's answer has no principalId")
	case r.PolicyDocument.Version != "2012-10-17" || len(r.PolicyDocument.Statement) == 0:
		return errors.New("the authorizer's answer has no policy")
	}
	for _, s := range r.PolicyDocument.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" || len(s.Action) == 0 || len(s.Resource) == 0 {
			return errors.New("the authorizer's policy has a statement that is not understood")
		}
	}
	for name, value := range r.Context {
		switch value.(type) {
		case string, float64, bool:
		default:
			return fmt.Errorf("the authorizer's context has a %T as %s", value, name)
		}
	}
	return nil
}

// allows reports whether the policy allows the method and does not deny it.
func allows(policy events.APIGatewayCustomAuthorizerPolicy, method string) bool {
	allowed := false
	for _, s := range policy.Statement {
		applies := slices.ContainsFunc(s.Action, func(action string) bool { return matches(action, "execute-api:Invoke") }) &&
			slices.ContainsFunc(s.Resource, func(resource string) bool { return matches(resource, method) })
		if !applies {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
	}
	return allowed
}

// matches reports whether an IAM pattern matches the text: "*" is any text, including slashes,
// and "?" is any one character.
func matches(pattern, text string) bool {
	star, resume := -1, 0 // the last star, and where the text after it was last tried
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
