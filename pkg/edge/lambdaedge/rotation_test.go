package lambdaedge_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
)

func TestRotationHandsOnStepAndVersion(t *testing.T) {
	var event events.SecretsManagerSecretRotationEvent
	text := `{"Step":"testSecret","SecretId":"arn:aws:secretsmanager:r:1:secret:s","ClientRequestToken":"v1","RotationToken":"t"}`
	if err := json.Unmarshal([]byte(text), &event); err != nil {
		t.Fatal(err)
	}
	var got rotation.Request
	rotate := lambdaedge.Rotation(func(_ context.Context, r rotation.Request) error {
		got = r
		return nil
	})
	if err := rotate(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	if want := (rotation.Request{Step: rotation.StepTest, Version: "v1"}); got != want {
		t.Errorf("got the request %+v, want %+v", got, want)
	}
}

func TestARotationThatFailsIsAnError(t *testing.T) {
	down := errors.New("down")
	for name, rotate := range map[string]lambdaedge.RotateFunc{
		"an error": func(context.Context, rotation.Request) error { return down },
		"a panic":  func(context.Context, rotation.Request) error { panic("secret") },
	} {
		if err := lambdaedge.Rotation(rotate)(t.Context(), events.SecretsManagerSecretRotationEvent{}); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
