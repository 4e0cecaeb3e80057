package cloud_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/secrets"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cloud"
)

func TestSettingsWithoutARNsCallNobody(t *testing.T) {
	settings := config.Cloud{Function: config.Function{CursorKey: config.Secret(strings.Repeat("k", 32))}, Engines: config.Engines{MongoURI: config.Secret("mongodb://m")}}
	settings.AWS.Endpoints = map[string]string{"": "http://127.0.0.1:1"}
	if err := cloud.ResolveSecrets(t.Context(), &settings); err != nil || string(settings.MongoURI) != "mongodb://m" {
		t.Errorf("%s, %v", string(settings.MongoURI), err)
	}
}

func TestConformanceOfNamedSecrets(t *testing.T) {
	account := config.AWS{
		Region: enginetest.Region, AccessKeyID: enginetest.AccessKey, SecretAccessKey: config.Secret(enginetest.SecretKey),
		Endpoints: map[string]string{"Secrets Manager": enginetest.SecretsManager(t)},
	}
	client := secrets.NewClient(awsconfig.New(account))
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
	settings := config.Cloud{Engines: config.Engines{AWS: account, MongoURI: arnOf("mongo", "mongodb://secret")}}
	settings.CursorKey = arnOf("cursor", strings.Repeat("k", 32))
	if err := cloud.ResolveSecrets(t.Context(), &settings); err != nil || string(settings.MongoURI) != "mongodb://secret" || len(settings.CursorKey) != 32 {
		t.Errorf("%s, %v", string(settings.MongoURI), err)
	}
	settings.CursorKey = arnOf("short", "short")
	if err := cloud.ResolveSecrets(t.Context(), &settings); err == nil || !strings.Contains(err.Error(), "OCELOT_CURSOR_KEY") || strings.Contains(err.Error(), "short") {
		t.Errorf("a secret that is too short: %v", err)
	}
}
