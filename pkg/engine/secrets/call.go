package secrets

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

// The form of the calls is that of
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html.

// serviceOf returns the service, whose calls take 0.4 s on average if they fail all the time.
func serviceOf(cfg aws.Config) *awsconfig.JSONService {
	return &awsconfig.JSONService{
		Config: awsconfig.WithClient(cfg), ID: "Secrets Manager", Name: "secretsmanager", Target: "secretsmanager", Tries: 5, Timeout: 5 * time.Second,
	}
}

// value is the part of GetSecretValue's answer that is used.
type value struct {
	SecretString *string
	SecretBinary []byte
}

func (v value) text() string {
	if v.SecretString != nil {
		return *v.SecretString
	}
	return string(v.SecretBinary)
}

// fetch returns the secret's value.
func (r *Resolver) fetch(ctx context.Context, id arn.ARN) (string, error) {
	var v value
	err := r.call(ctx, id, "GetSecretValue", map[string]any{}, &v)
	return v.text(), err
}

// call makes a call about the secret, whose id it adds to the input. A secret may lie in another
// region than the function.
func (r *Resolver) call(ctx context.Context, id arn.ARN, action string, input map[string]any, output any) error {
	input["SecretId"] = id.String()
	return outcome(ctx, r.service.Call(ctx, cmp.Or(id.Region, r.service.Config.Region), action, input, output))
}

// outcome turns a failure into the domain's word for it.
func outcome(ctx context.Context, err error) error {
	var failed *awsconfig.CallError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed) && (failed.Code == "ResourceNotFoundException" || failed.Code == "InvalidRequestException"):
		return audit.ErrNotFound // InvalidRequestException: the secret is about to be deleted
	}
	return awsconfig.Failure(ctx, err)
}
