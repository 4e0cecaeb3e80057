// Package secrets fetches secrets of AWS Secrets Manager that the configuration
// names by their ARN.
package secrets

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

// cacheTTL is how long a fetched secret is returned before it is fetched again. A rotated
// password is found within it.
const cacheTTL = time.Minute

// Resolver replaces values of the configuration that are ARNs by their secrets.
// Its methods may be called concurrently.
type Resolver struct {
	service *awsconfig.JSONService
	now     func() time.Time
	mutex   chan struct{}     // guards cache; a channel, so that a context can end the wait
	cache   map[string]secret // by ARN
}

// secret is a fetched value.
type secret struct {
	value string
	until time.Time
}

// New returns a resolver that asks Secrets Manager in the account of the
// configuration. It makes no call.
func New(cfg aws.Config, now func() time.Time) *Resolver {
	return &Resolver{service: serviceOf(cfg), now: now, mutex: make(chan struct{}, 1), cache: map[string]secret{}}
}

// IsARN reports whether the value names a secret of Secrets Manager.
func IsARN(value string) bool {
	parsed, err := arn.Parse(value)
	return err == nil && parsed.Service == "secretsmanager" && strings.HasPrefix(parsed.Resource, "secret:")
}

// Resolve returns the secret if the value is an ARN, and the value otherwise. It
// caches a secret for a minute. It returns audit.ErrNotFound if the secret
// does not exist or is scheduled for deletion, and an *audit.UnavailableError if a
// later call may succeed. Errors have the ARN and never a secret.
func (r *Resolver) Resolve(ctx context.Context, value string) (string, error) {
	if !IsARN(value) {
		return value, nil
	}
	select { // concurrent callers wait for one fetch
	case r.mutex <- struct{}{}:
		defer func() { <-r.mutex }()
	case <-ctx.Done():
		return "", fmt.Errorf("fetch secret %s: %w", value, ctx.Err())
	}
	if cached, ok := r.cache[value]; ok && r.now().Before(cached.until) {
		return cached.value, nil
	}
	id, err := arn.Parse(value)
	if err != nil {
		return "", err // IsARN parsed it
	}
	text, err := r.fetch(ctx, id)
	if err != nil {
		return "", fmt.Errorf("fetch secret %s: %w", value, err)
	}
	r.cache[value] = secret{value: text, until: r.now().Add(cacheTTL)}
	return text, nil
}
