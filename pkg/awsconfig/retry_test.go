package awsconfig_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

// answered is the error of a call that was answered so.
func answered(status int, code string) error {
	return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: &smithy.GenericAPIError{Code: code},
	}}
}

func TestFailureTellsWhatMayWorkLater(t *testing.T) {
	for _, test := range []struct {
		err   error
		later bool
	}{
		{answered(500, "InternalError"), true},
		{answered(502, ""), true},
		{answered(503, "SlowDown"), true},
		{answered(429, ""), true},
		{answered(400, "ThrottlingException"), true},
		{answered(400, "RequestTimeout"), true},
		{&smithyhttp.RequestSendError{Err: io.EOF}, true},
		{fmt.Errorf("deserialize: %w", io.ErrUnexpectedEOF), true},
		{answered(400, "ValidationException"), false},
		{answered(403, "AccessDenied"), false},
		{answered(404, "NoSuchKey"), false},
		{answered(412, "PreconditionFailed"), false},
		{audit.ErrNotFound, false},
		{errors.New("other"), false},
	} {
		got := awsconfig.Failure(t.Context(), test.err)
		var later *audit.UnavailableError
		if errors.As(got, &later) != test.later {
			t.Errorf("got error %v, want unavailable %v", got, test.later)
		}
		if !errors.Is(got, test.err) {
			t.Errorf("got error %v, want %v", got, test.err)
		}
		if again := awsconfig.Retryer(3).IsErrorRetryable(test.err); again != test.later {
			t.Errorf("%v: got retryable %v, want %v", test.err, again, test.later)
		}
	}
}

func TestFailureOfAContextThatEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := awsconfig.Failure(ctx, answered(500, "InternalError")); !errors.Is(got, context.Canceled) {
		t.Errorf("got error %v, want %v", got, context.Canceled)
	}
}

func TestRetryerWaitsLongerEachTime(t *testing.T) {
	r := awsconfig.Retryer(5)
	if got := r.MaxAttempts(); got != 5 {
		t.Errorf("got %d tries, want 5", got)
	}
	bound := 50 * time.Millisecond
	for failed := 1; failed < 70; failed++ {
		most := time.Duration(0)
		for range 200 {
			wait, err := r.RetryDelay(failed, answered(500, ""))
			if err != nil {
				t.Fatal(err)
			}
			if wait < 0 || wait >= bound {
				t.Fatalf("waits %v after %d failures, want 0 or more and less than %v", wait, failed, bound)
			}
			most = max(most, wait)
		}
		if most < bound/2 {
			t.Errorf("waits at most %v after %d failures, want at least %v once", most, failed, bound/2)
		}
		bound = min(2*bound, 2*time.Second)
	}
}
