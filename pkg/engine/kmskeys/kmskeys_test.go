package kmskeys_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/kmskeys"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// realVariable names a KMS from outside, which has no gaps.
const realVariable = "AWS_ENDPOINT_URL_KMS"

func configOf(endpoint, secret string) aws.Config {
	return aws.Config{
		Region: enginetest.Region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.AccessKey, secret, ""),
	}
}

func TestStrictConformance(t *testing.T) {
	s, endpoint := newStrict(t)
	cfg := configOf(endpoint, "secret")
	conformance.KeyWrapper(t, func(t *testing.T) conformance.KeyWrapperUnderTest {
		arn := s.newKey(t)
		return conformance.KeyWrapperUnderTest{Wrapper: kmskeys.New(cfg, arn), Disable: func(*testing.T) { s.set(arn, "Disabled") }}
	})
}

func TestConformance(t *testing.T) {
	cfg := newConfig(t)
	client := kms.NewFromConfig(cfg)
	var gaps []conformance.Gap
	if os.Getenv(realVariable) == "" {
		gaps = []conformance.Gap{conformance.NoAuthentication}
	}
	conformance.KeyWrapper(t, func(t *testing.T) conformance.KeyWrapperUnderTest {
		arn := newKey(t, client)
		return conformance.KeyWrapperUnderTest{Wrapper: kmskeys.New(cfg, arn), Gaps: gaps, Disable: func(t *testing.T) {
			if _, err := client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &arn}); err != nil {
				t.Fatal(err)
			}
		}}
	})
}

// newConfig returns the settings of a real service: what the environment names,
// with the environment's credentials, or an engine.
func newConfig(t *testing.T) aws.Config {
	t.Helper()
	endpoint := enginetest.KMS(t)
	if os.Getenv(realVariable) == "" {
		return configOf(endpoint, enginetest.SecretKey)
	}
	settings, err := config.ReadAWS()
	if err != nil {
		t.Fatal(err)
	}
	return awsconfig.New(settings)
}

// newKey creates a key, whose deletion the end of the test begins.
func newKey(t *testing.T, client *kms.Client) string {
	t.Helper()
	created, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("of Ocelot's tests")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := client.ScheduleKeyDeletion(context.Background(), &kms.ScheduleKeyDeletionInput{KeyId: created.KeyMetadata.KeyId, PendingWindowInDays: aws.Int32(7)})
		if err != nil {
			t.Error(err)
		}
	})
	return *created.KeyMetadata.Arn
}

func TestConformanceOfADeletedKey(t *testing.T) {
	cfg := newConfig(t)
	client := kms.NewFromConfig(cfg)
	arn := newKey(t, client)
	w := kmskeys.New(cfg, arn)
	wrapped, err := w.Wrap(t.Context(), "a", []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := client.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &arn, PendingWindowInDays: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	wantMasterKeyError(t, w, wrapped)
	if _, err := client.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	if key, err := w.Unwrap(t.Context(), "a", wrapped); err != nil {
		t.Error(err)
	} else if string(key) != "key" {
		t.Errorf("after the key came back: got %q, want %q", key, "key")
	}
}

// wantMasterKeyError fails the test unless nothing works for want of the master key.
func wantMasterKeyError(t *testing.T, w *kmskeys.Wrapper, wrapped []byte) {
	t.Helper()
	_, wrapErr := w.Wrap(t.Context(), "a", []byte("key"))
	_, unwrapErr := w.Unwrap(t.Context(), "a", wrapped)
	for verb, err := range map[string]error{"wrap": wrapErr, "unwrap": unwrapErr, "ping": w.Ping(t.Context())} {
		var later *audit.UnavailableError
		if !errors.Is(err, protect.ErrMasterKey) {
			t.Errorf("%s: got error %v, want %v", verb, err, protect.ErrMasterKey)
		}
		if errors.As(err, &later) {
			t.Errorf("%s: got error %v, want none of type %T", verb, err, later)
		}
	}
}

func TestStatesOfTheMasterKey(t *testing.T) {
	for _, state := range []string{"Disabled", "PendingDeletion", "PendingImport", "Unavailable", ""} {
		s, endpoint := newStrict(t)
		arn := s.newKey(t)
		w := kmskeys.New(configOf(endpoint, "secret"), arn)
		wrapped, err := w.Wrap(t.Context(), "a", []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		s.set(arn, state)
		wantMasterKeyError(t, w, wrapped)
	}
}

func TestThrottledCallsAreRepeated(t *testing.T) {
	for kind, status := range map[string]int{
		"ThrottlingException": http.StatusBadRequest, "LimitExceededException": http.StatusBadRequest, "KMSInternalException": http.StatusInternalServerError,
		"DependencyTimeoutException": http.StatusServiceUnavailable, "KeyUnavailableException": http.StatusInternalServerError,
	} {
		s, endpoint := newStrict(t)
		w := kmskeys.New(configOf(endpoint, "secret"), s.newKey(t))
		s.fail = func(n int) (int, string) {
			if n > 3 {
				return 0, ""
			}
			return status, kind
		}
		if _, err := w.Wrap(t.Context(), "a", []byte("key")); err != nil {
			t.Errorf("%s: %v", kind, err)
		} else if s.calls != 4 {
			t.Errorf("%s: made %d calls, want 4", kind, s.calls)
		}
	}
}

func TestThrottledForGood(t *testing.T) {
	s, endpoint := newStrict(t)
	w := kmskeys.New(configOf(endpoint, "secret"), s.newKey(t))
	s.fail = func(int) (int, string) { return http.StatusBadRequest, "ThrottlingException" }
	_, err := w.Wrap(t.Context(), "a", []byte("key"))
	var later *audit.UnavailableError
	switch {
	case !errors.As(err, &later):
		t.Errorf("got error %v, want one of type %T", err, later)
	case later.RetryAfter <= 0:
		t.Errorf("got retry after %v, want more than 0", later.RetryAfter)
	case errors.Is(err, protect.ErrMasterKey):
		t.Errorf("got error %v, want one that is not %v", err, protect.ErrMasterKey)
	}
	if s.calls < 5 || s.calls > 10 {
		t.Errorf("got %d calls, want 5 to 10", s.calls)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	started := time.Now()
	for ctx.Err() == nil {
		_, err = w.Unwrap(ctx, "a", []byte("wrapped"))
	}
	if took := time.Since(started); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
	} else if took > 2*time.Second {
		t.Errorf("took %v, want at most %v", took, 2*time.Second)
	}
}

func TestOtherFailuresAreNotRepeated(t *testing.T) {
	for _, kind := range []string{"AccessDeniedException", "InvalidKeyUsageException", "UnrecognizedClientException", "ValidationException"} {
		s, endpoint := newStrict(t)
		w := kmskeys.New(configOf(endpoint, "secret"), s.newKey(t))
		s.fail = func(int) (int, string) { return http.StatusBadRequest, kind }
		_, err := w.Unwrap(t.Context(), "a", []byte("wrapped"))
		var later *audit.UnavailableError
		switch {
		case err == nil:
			t.Errorf("%s: got no error, want one", kind)
		case errors.As(err, &later):
			t.Errorf("%s: got error %v, want none of type %T", kind, err, later)
		case errors.Is(err, protect.ErrWrapped):
			t.Errorf("%s: got error %v, want one that is not %v", kind, err, protect.ErrWrapped)
		case errors.Is(err, protect.ErrMasterKey):
			t.Errorf("%s: got error %v, want one that is not %v", kind, err, protect.ErrMasterKey)
		case s.calls != 1:
			t.Errorf("%s: got %d calls, want 1", kind, s.calls)
		}
	}
}

func TestErrorsHoldNoKey(t *testing.T) {
	s, endpoint := newStrict(t)
	w := kmskeys.New(configOf(endpoint, "secret"), s.newKey(t))
	s.fail = func(int) (int, string) { return http.StatusBadRequest, "AccessDeniedException" }
	_, wrapErr := w.Wrap(t.Context(), "tenant-a", []byte("SENSITIVE"))
	_, unwrapErr := w.Unwrap(t.Context(), "tenant-a", []byte("SENSITIVE"))
	for verb, err := range map[string]error{"wrap": wrapErr, "unwrap": unwrapErr} {
		switch text := err.Error(); {
		case strings.Contains(text, "SENSITIVE"):
			t.Errorf("%s: got text %q, want it without %q", verb, text, "SENSITIVE")
		case strings.Contains(text, "U0VOU0lUSVZF"):
			t.Errorf("%s: got text %q, want it without %q", verb, text, "U0VOU0lUSVZF")
		case !strings.Contains(text, "tenant-a"):
			t.Errorf("%s: got text %q, want it to contain %q", verb, text, "tenant-a")
		}
	}
}
