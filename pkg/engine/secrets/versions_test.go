package secrets_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/engine/secrets"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
)

// A rotation changes a real secret, and each of its steps can be repeated.
func TestConformanceOfARotation(t *testing.T) {
	cfg := account(t)
	client := secretsmanager.NewFromConfig(cfg)
	name, first := "ocelot-test/"+uuid.NewString(), strings.Repeat("k", cursor.MinKeyBytes)
	created, err := client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &first})
	if err != nil {
		t.Fatal(err)
	}
	versions, err := secrets.NewVersions(cfg, *created.ARN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := versions.Value(t.Context(), uuid.NewString()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("a version without a value: got error %v, want %v", err, audit.ErrNotFound)
	}
	keys := &rotation.Keys{Versions: versions, Random: func(b []byte) { _, _ = rand.Read(b) }} // never fails
	for i := range 3 {
		version := uuid.NewString()
		for _, step := range []string{rotation.StepCreate, rotation.StepSet, rotation.StepTest, rotation.StepFinish} {
			for range 2 {
				if err := keys.Rotate(t.Context(), rotation.Request{Step: step, Version: version}); err != nil {
					t.Fatal(err)
				}
			}
		}
		current, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: created.ARN})
		if err != nil {
			t.Fatal(err)
		}
		if got := aws.ToString(current.VersionId); got != version {
			t.Errorf("rotation %d: got the current version %s, want %s", i+1, got, version)
		}
		ring, err := cursor.ParseKeys([]byte(aws.ToString(current.SecretString)))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(ring), i+2; got != want {
			t.Errorf("rotation %d: got %d keys, want %d", i+1, got, want)
		}
	}
	if _, err := client.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: created.ARN, ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
		t.Error(err)
	}
}
