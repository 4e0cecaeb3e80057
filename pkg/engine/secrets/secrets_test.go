package secrets_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/secrets"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

const (
	realVariable = "AWS_ENDPOINT_URL_SECRETS_MANAGER"
	someARN      = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:ocelot/mongodb-AbCdEf"
)

func configOf(endpoint string) aws.Config {
	return aws.Config{
		Region: enginetest.Region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.AccessKey, enginetest.SecretKey, ""),
	}
}

// service answers GetSecretValue as told.
type service struct {
	calls  atomic.Int64
	answer atomic.Pointer[func(call int64) (status int, body any)]

	mu      sync.Mutex
	regions []string // that calls were signed for
}

func newService(t *testing.T) (*service, aws.Config) {
	t.Helper()
	s := &service{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, body := (*s.answer.Load())(s.calls.Add(1))
		s.mu.Lock()
		s.regions = append(s.regions, strings.Split(r.Header.Get("Authorization"), "/")[2])
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	return s, configOf(server.URL)
}

func (s *service) says(answer func(call int64) (status int, body any)) { s.answer.Store(&answer) }

func (s *service) is(value string) {
	s.says(func(int64) (int, any) { return http.StatusOK, map[string]string{"SecretString": value} })
}

func want(t *testing.T, r *secrets.Resolver, value, want string) {
	t.Helper()
	if got, err := r.Resolve(t.Context(), value); err != nil {
		t.Error(err)
	} else if got != want {
		t.Errorf("%s is %q; want %q", value, got, want)
	}
}

func TestOtherValuesStayAsTheyAre(t *testing.T) {
	s, client := newService(t)
	s.is("wrong")
	r := secrets.New(client, time.Now)
	for _, value := range []string{
		"", "mongodb://user:password@host/?a=b", "arn", "arn:", "arn:aws:kms:eu-central-1:1:key/x", "arn:aws:secretsmanager:eu-central-1:1:other:x",
		"x " + someARN, "arn:aws:secretsmanager:x", "secretsmanager", "\x00", strings.Repeat("é", 1000),
	} {
		want(t, r, value, value)
	}
	if n := s.calls.Load(); n != 0 {
		t.Errorf("made %d calls, want 0", n)
	}
}

func TestASecretIsKeptForAWhile(t *testing.T) {
	s, client := newService(t)
	now := time.Unix(1_700_000_000, 0)
	r := secrets.New(client, func() time.Time { return now })
	s.is("first")
	want(t, r, someARN, "first")
	s.is("second")
	now = now.Add(time.Minute - time.Second)
	want(t, r, someARN, "first")
	now = now.Add(time.Second)
	want(t, r, someARN, "second")
	if n := s.calls.Load(); n != 2 {
		t.Errorf("made %d calls, want 2", n)
	}
	s.is("of another")
	want(t, r, strings.Replace(someARN, "mongodb", "other", 1), "of another")
	want(t, r, someARN, "second")
}

func TestThoseWhoAskAtOnceShareOneCall(t *testing.T) {
	s, client := newService(t)
	arrived, answer := make(chan struct{}), make(chan struct{})
	s.says(func(call int64) (int, any) {
		if call == 1 {
			close(arrived)
		}
		<-answer
		return http.StatusOK, map[string]string{"SecretString": "value"}
	})
	r := secrets.New(client, time.Now)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() { want(t, r, someARN, "value") })
	}
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // in which another call would come, if there were one
	defer cancel()
	if _, err := r.Resolve(ctx, someARN); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who cannot wait: got error %v, want %v", err, context.DeadlineExceeded)
	}
	close(answer)
	running.Wait()
	if n := s.calls.Load(); n != 1 {
		t.Errorf("made %d calls, want 1", n)
	}
}

func TestKindsOfSecrets(t *testing.T) {
	s, client := newService(t)
	r := secrets.New(client, time.Now)
	s.says(func(int64) (int, any) {
		return http.StatusOK, map[string]string{"SecretBinary": base64.StdEncoding.EncodeToString([]byte("\x00binary\xff"))}
	})
	want(t, r, "arn:aws-cn:secretsmanager:cn-north-1:1:secret:x", "\x00binary\xff")
	s.is("")
	want(t, r, someARN, "")
	if want := []string{"cn-north-1", "eu-central-1"}; !slices.Equal(s.regions, want) {
		t.Errorf("asked in the regions %q, want %q", s.regions, want)
	}
}

func TestFailures(t *testing.T) {
	s, client := newService(t)
	failure := func(status int, kind string) func(int64) (int, any) {
		return func(int64) (int, any) {
			return status, map[string]string{"__type": kind, "message": "a message"}
		}
	}
	var later *audit.UnavailableError
	for kind, judge := range map[string]func(err error) bool{
		"ResourceNotFoundException": func(err error) bool { return errors.Is(err, audit.ErrNotFound) },
		"InvalidRequestException":   func(err error) bool { return errors.Is(err, audit.ErrNotFound) },
		"AccessDeniedException":     func(err error) bool { return !errors.Is(err, audit.ErrNotFound) && !errors.As(err, &later) },
		"DecryptionFailure":         func(err error) bool { return !errors.Is(err, audit.ErrNotFound) && !errors.As(err, &later) },
		"ThrottlingException":       func(err error) bool { return errors.As(err, &later) },
	} {
		s.says(failure(http.StatusBadRequest, kind))
		r := secrets.New(client, time.Now)
		if _, err := r.Resolve(t.Context(), someARN); err == nil || !judge(err) {
			t.Errorf("%s: got error %v, want one of its own kind", kind, err)
		} else if !strings.Contains(err.Error(), someARN) {
			t.Errorf("%s: got error %q, want it to contain %q", kind, err, someARN)
		}
		s.is("value") // a failure is not kept
		want(t, r, someARN, "value")
	}
	before := s.calls.Load()
	s.says(func(call int64) (int, any) {
		if call < before+3 {
			return http.StatusInternalServerError, map[string]string{"__type": "InternalServiceError"}
		}
		return http.StatusOK, map[string]string{"SecretString": "value"}
	})
	want(t, secrets.New(client, time.Now), someARN, "value")
}

func TestConformance(t *testing.T) {
	cfg := account(t)
	client := secretsmanager.NewFromConfig(cfg)
	name := "ocelot-test/" + uuid.NewString()
	created, err := client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String("größe \"1\"\n")})
	if err != nil {
		t.Fatal(err)
	}
	arn := *created.ARN
	now := time.Now()
	r := secrets.New(cfg, func() time.Time { return now })
	want(t, r, arn, "größe \"1\"\n")
	if _, err := client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &arn, SecretBinary: []byte{0, 255}}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	want(t, r, arn, "\x00\xff")
	if _, err := client.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: &arn, RecoveryWindowInDays: aws.Int64(7)}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if _, err := r.Resolve(t.Context(), arn); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("a deleted secret: got error %v, want %v", err, audit.ErrNotFound)
	}
	if _, err := r.Resolve(t.Context(), arn+"x"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("an absent secret: got error %v, want %v", err, audit.ErrNotFound)
	}
}

// account returns the configuration of a real service, if the environment names one,
// or of an engine.
func account(t *testing.T) aws.Config {
	t.Helper()
	endpoint := enginetest.SecretsManager(t)
	if os.Getenv(realVariable) == "" {
		return configOf(endpoint)
	}
	settings, err := config.ReadAWS()
	if err != nil {
		t.Fatal(err)
	}
	return awsconfig.New(settings)
}
