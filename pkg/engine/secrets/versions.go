package secrets

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/ocelot-audit/ocelot/pkg/rotation"
)

// Versions are the versions of one secret, for its rotation. It is a rotation.Versions.
type Versions struct {
	calls *Resolver
	id    arn.ARN
}

// NewVersions returns the versions of the secret with this ARN. It makes no call.
func NewVersions(cfg aws.Config, secret string) (*Versions, error) {
	id, err := arn.Parse(secret)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", secret, err)
	}
	return &Versions{calls: New(cfg, time.Now), id: id}, nil
}

// Stages returns the stages of each version by its id.
func (v *Versions) Stages(ctx context.Context) (map[string][]string, error) {
	var answer struct {
		VersionIDsToStages map[string][]string `json:"VersionIdsToStages"`
	}
	err := v.call(ctx, "DescribeSecret", map[string]any{}, &answer)
	return answer.VersionIDsToStages, err
}

// Value returns the value of a version. It returns audit.ErrNotFound if it has none.
func (v *Versions) Value(ctx context.Context, version string) (string, error) {
	var answer value
	err := v.call(ctx, "GetSecretValue", map[string]any{"VersionId": version}, &answer)
	return answer.text(), err
}

// Put stores the value of a version and gives it the stage rotation.Pending. A version has one
// value: another one for it is an error.
func (v *Versions) Put(ctx context.Context, version, value string) error {
	return v.call(ctx, "PutSecretValue", map[string]any{
		"ClientRequestToken": version, "SecretString": value, "VersionStages": []string{rotation.Pending},
	}, &struct{}{})
}

// Promote moves the stage rotation.Current from one version to another.
func (v *Versions) Promote(ctx context.Context, from, to string) error {
	return v.call(ctx, "UpdateSecretVersionStage", map[string]any{
		"VersionStage": rotation.Current, "RemoveFromVersionId": from, "MoveToVersionId": to,
	}, &struct{}{})
}

func (v *Versions) call(ctx context.Context, action string, input map[string]any, output any) error {
	if err := v.calls.call(ctx, v.id, action, input, output); err != nil {
		return fmt.Errorf("%s of secret %s: %w", action, v.id, err)
	}
	return nil
}
