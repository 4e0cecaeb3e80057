//go:build !embedded

package secretvalue_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/secretvalue"
)

func TestValuesThatAreNoARNsNeedNoCall(t *testing.T) {
	o := &fromenv.Opening{}
	o.Settings.AWS.Endpoints = map[string]string{"": "http://127.0.0.1:1"}
	got, err := secretvalue.Resolve(t.Context(), o, "MONGODB_URI", config.Secret("mongodb://m"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "mongodb://m"; string(got) != want {
		t.Errorf("got value %q, want %q of the environment", string(got), want)
	}
}

func TestConformanceOfNamedSecrets(t *testing.T) {
	account := config.AWS{
		Region: enginetest.Region, AccessKeyID: enginetest.AccessKey, SecretAccessKey: config.Secret(enginetest.SecretKey),
		Endpoints: map[string]string{"Secrets Manager": enginetest.SecretsManager(t)},
	}
	client := secretsmanager.NewFromConfig(awsconfig.New(account))
	arnOf := func(name, value string) config.Secret {
		name += time.Now().Format("-150405.000000")
		made, err := client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &value})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := client.DeleteSecret(context.Background(), &secretsmanager.DeleteSecretInput{SecretId: made.ARN, ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
				t.Error(err)
			}
		})
		return config.Secret(*made.ARN)
	}
	o := &fromenv.Opening{}
	o.Settings.AWS = account
	for variable, want := range map[string]string{"MONGODB_URI": "mongodb://secret", "OCELOT_CURSOR_KEY": strings.Repeat("k", 32)} {
		got, err := secretvalue.Resolve(t.Context(), o, variable, arnOf("value", want))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s: got value %q, want %q of the secret", variable, string(got), want)
		}
	}
	_, err := secretvalue.Resolve(t.Context(), o, "OCELOT_CURSOR_KEY", arnOf("value", "short"))
	if err == nil {
		t.Fatal("a secret that is too short: got no error, want one")
	}
	if text := err.Error(); !strings.Contains(text, "OCELOT_CURSOR_KEY") {
		t.Errorf("got text %q, want it to contain %q", text, "OCELOT_CURSOR_KEY")
	} else if strings.Contains(text, "short") {
		t.Errorf("got text %q, want it without %q", text, "short")
	}
}
