package awsconfig_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

func TestDomainOfEachPartition(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "amazonaws.com", "us-gov-west-1": "amazonaws.com", "cn-north-1": "amazonaws.com.cn", "eusc-de-east-1": "amazonaws.eu",
		"us-iso-east-1": "c2s.ic.gov", "us-isob-east-1": "sc2s.sgov.gov", "eu-isoe-west-1": "cloud.adc-e.uk", "us-isof-south-1": "csp.hci.ic.gov",
	} {
		if got := awsconfig.Domain(region); got != want {
			t.Errorf("%s: got %s, want %s", region, got, want)
		}
	}
}

// serviceAt is a service that a handler answers for.
func serviceAt(t *testing.T, answer http.HandlerFunc) *awsconfig.JSONService {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return &awsconfig.JSONService{
		Config: awsconfig.WithClient(aws.Config{BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "")}),
		ID:     "Some Service", Name: "some", Target: "SomeTarget", Tries: 3, Timeout: time.Second,
	}
}

func TestACallAndItsAnswer(t *testing.T) {
	s := serviceAt(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name, want := range map[string]string{"X-Amz-Target": "SomeTarget.Do", "Content-Type": "application/x-amz-json-1.1"} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("got %s %q, want %q", name, got, want)
			}
		}
		if got := r.Header.Get("Authorization"); !strings.Contains(got, "/eu-west-1/some/") {
			t.Errorf("got the signature %q, want one for eu-west-1 and some", got)
		}
		if want := `{"In":"AQ=="}`; string(body) != want {
			t.Errorf("got the body %s, want %s", body, want)
		}
		_, _ = io.WriteString(w, `{"Out":"Ag=="}`)
	})
	var answer struct{ Out []byte }
	if err := s.Call(t.Context(), "eu-west-1", "Do", map[string][]byte{"In": {1}}, &answer); err != nil {
		t.Fatal(err)
	}
	if string(answer.Out) != "\x02" {
		t.Errorf("got %x, want 02", answer.Out)
	}
}

func TestFailuresOfCalls(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		code   string
		calls  int
	}{
		"refused": {func(w http.ResponseWriter) {
			status(w, 400, `{"__type":"com.amazon#AccessDeniedException","Message":"SENSITIVE"}`)
		}, "AccessDeniedException", 1},
		"throttled":        {func(w http.ResponseWriter) { status(w, 400, `{"__type":"ThrottlingException"}`) }, "ThrottlingException", 3},
		"by the header":    {func(w http.ResponseWriter) { w.Header().Set("X-Amzn-Errortype", "Broken:x"); status(w, 500, "") }, "Broken", 3},
		"no JSON":          {func(w http.ResponseWriter) { status(w, 200, "SENSITIVE") }, "", 1},
		"a cut connection": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "", 3},
		"a cut answer":     {func(w http.ResponseWriter) { w.Header().Set("Content-Length", "9"); status(w, 200, "{") }, "", 3},
	} {
		calls := 0
		s := serviceAt(t, func(w http.ResponseWriter, _ *http.Request) { calls++; test.answer(w) })
		err := s.Call(t.Context(), "r", "Do", struct{}{}, &struct{}{})
		if err == nil {
			t.Errorf("%s: got no error, want one", name)
			continue
		}
		var failed *awsconfig.CallError
		if errors.As(err, &failed) != (test.code != "") || failed != nil && failed.Code != test.code {
			t.Errorf("%s: got error %v, want the code %q", name, err, test.code)
		}
		if calls != test.calls {
			t.Errorf("%s: got %d calls, want %d", name, calls, test.calls)
		}
		if strings.Contains(err.Error(), "SENSITIVE") {
			t.Errorf("%s: got error %v, want nothing of the answer in it", name, err)
		}
		var later *audit.UnavailableError
		if got := errors.As(awsconfig.Failure(t.Context(), err), &later); got != (test.calls > 1) {
			t.Errorf("%s: got unavailable %t, want %t", name, got, test.calls > 1)
		}
	}
}

func status(w http.ResponseWriter, code int, text string) {
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}
