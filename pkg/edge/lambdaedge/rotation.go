package lambdaedge

import (
	"context"
	"log/slog"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/panics"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
)

// RotateFunc does one step of the rotation of a secret.
type RotateFunc func(ctx context.Context, r rotation.Request) error

// Rotation returns the Lambda function that Secrets Manager invokes for each step. The function
// logs and returns an error of rotate. A panic becomes an error.
func Rotation(rotate RotateFunc) func(context.Context, events.SecretsManagerSecretRotationEvent) error {
	return func(ctx context.Context, event events.SecretsManagerSecretRotationEvent) error {
		err := panics.Recovered(ctx, func() error {
			return rotate(ctx, rotation.Request{Step: event.Step, Version: event.ClientRequestToken})
		})
		if err != nil {
			slog.ErrorContext(ctx, "rotation failed", "step", event.Step, "secret", event.SecretID, "error", err)
		}
		return err
	}
}
