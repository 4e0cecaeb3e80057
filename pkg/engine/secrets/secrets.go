// Package secrets fetches what configuration only names: values that lie in AWS
// Secrets Manager.
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
	callTries = 5 // of one call, by the SDK: within 0.4 s on average
	// keptFor is how long a fetched secret is returned before it is fetched again.
	keptFor = 5 * time.Minute
)

// NewClient returns a client of Secrets Manager. A call that fails for a reason
// that may pass is repeated a few times.
func NewClient(cfg aws.Config) *secretsmanager.Client {
	return secretsmanager.NewFromConfig(awsconfig.WithClient(cfg), func(o *secretsmanager.Options) { o.Retryer = awsconfig.Retryer(callTries) })
}

// Resolver turns values of the configuration into what they stand for. Its
// methods may be called concurrently.
type Resolver struct {
	client *secretsmanager.Client
	now    func() time.Time
	turn   chan struct{}     // holds one while known is in use
	known  map[string]secret // by ARN
}

// secret is a fetched value.
type secret struct {
	value string
	until time.Time
}

// New returns a resolver. Nothing is called until a secret is asked for.
func New(client *secretsmanager.Client, now func() time.Time) *Resolver {
	return &Resolver{client: client, now: now, turn: make(chan struct{}, 1), known: map[string]secret{}}
}

// IsARN reports whether the value names a secret of Secrets Manager.
func IsARN(value string) bool {
	parsed, err := arn.Parse(value)
	return err == nil && parsed.Service == "secretsmanager" && strings.HasPrefix(parsed.Resource, "secret:")
}

// Resolve returns the current value of the secret whose ARN the value is, and
// any other value as it is. A secret is kept for five minutes. One that does
// not exist, or is about to be deleted, is audit.ErrNotFound; what may work later an
// *audit.UnavailableError. Errors name the ARN and never repeat a value.
func (r *Resolver) Resolve(ctx context.Context, value string) (string, error) {
	if !IsARN(value) {
		return value, nil
	}
	select { // those who ask at once wait for one call
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return "", fmt.Errorf("fetch secret %s: %w", value, ctx.Err())
	}
	if known, ok := r.known[value]; ok && r.now().Before(known.until) {
		return known.value, nil
	}
	text, err := r.fetch(ctx, value)
	if err != nil {
		return "", fmt.Errorf("fetch secret %s: %w", value, err)
	}
	r.known[value] = secret{value: text, until: r.now().Add(keptFor)}
	return text, nil
}

func (r *Resolver) fetch(ctx context.Context, name string) (string, error) {
	region := func(o *secretsmanager.Options) {
		if parsed, err := arn.Parse(name); err == nil && parsed.Region != "" {
			o.Region = parsed.Region // a secret may lie in another region than the function
		}
	}
	got, err := r.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name}, region)
	var absent *types.ResourceNotFoundException
	var deleted *types.InvalidRequestException
	switch {
	case errors.As(err, &absent), errors.As(err, &deleted):
		return "", audit.ErrNotFound
	case err != nil:
		return "", awsconfig.Failure(ctx, err)
	case got.SecretString != nil:
		return *got.SecretString, nil
	}
	return string(got.SecretBinary), nil
}
