// Package secrets fetches secrets of AWS Secrets Manager that the configuration
// names by their ARN.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

const (
	maxAttempts = 5 // of one call, by the SDK: within 0.4 s on average
	// cacheTTL is how long a fetched secret is returned before it is fetched again.
	cacheTTL = 5 * time.Minute
)

// NewClient returns a client of Secrets Manager. It retries calls that fail transiently.
func NewClient(cfg aws.Config) *secretsmanager.Client {
	return secretsmanager.NewFromConfig(awsconfig.WithClient(cfg), func(o *secretsmanager.Options) { o.Retryer = awsconfig.Retryer(maxAttempts) })
}

// Resolver replaces values of the configuration that are ARNs by their secrets.
// Its methods may be called concurrently.
type Resolver struct {
	client *secretsmanager.Client
	now    func() time.Time
	mutex  chan struct{}     // guards cache; a channel, so that a context can end the wait
	cache  map[string]secret // by ARN
}

// secret is a fetched value.
type secret struct {
	value string
	until time.Time
}

// New returns a resolver. It makes no call.
func New(client *secretsmanager.Client, now func() time.Time) *Resolver {
	return &Resolver{client: client, now: now, mutex: make(chan struct{}, 1), cache: map[string]secret{}}
}

// IsARN reports whether the value names a secret of Secrets Manager.
func IsARN(value string) bool {
	parsed, err := arn.Parse(value)
	return err == nil && parsed.Service == "secretsmanager" && strings.HasPrefix(parsed.Resource, "secret:")
}

// Resolve returns the secret if the value is an ARN, and the value otherwise. It
// caches a secret for five minutes. It returns audit.ErrNotFound if the secret
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
	text, err := r.fetch(ctx, value)
	if err != nil {
		return "", fmt.Errorf("fetch secret %s: %w", value, err)
	}
	r.cache[value] = secret{value: text, until: r.now().Add(cacheTTL)}
	return text, nil
}

func (r *Resolver) fetch(ctx context.Context, name string) (string, error) {
	region := func(o *secretsmanager.Options) {
		if parsed, err := arn.Parse(name); err == nil && parsed.Region != "" {
			o.Region = parsed.Region // the secret may be in another region than the function
		}
	}
	got, err := r.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name}, region)
	var missing *types.ResourceNotFoundException
	var deleted *types.InvalidRequestException
	switch {
	case errors.As(err, &missing), errors.As(err, &deleted):
		return "", audit.ErrNotFound
	case err != nil:
		return "", awsconfig.Failure(ctx, err)
	case got.SecretString != nil:
		return *got.SecretString, nil
	}
	return string(got.SecretBinary), nil
}
