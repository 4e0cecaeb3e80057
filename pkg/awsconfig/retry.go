package awsconfig

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// Retryer returns a retryer that makes up to maxAttempts attempts. The delay before
// the second is from 0 to 50 ms. The upper bound doubles with each attempt, up to
// 2 s. The SDK's own retryer begins with a second, which is too long for a client
// that waits for its response. The end of the context ends the attempts. So do many
// recent failures of other calls, because retries would make an outage worse.
func Retryer(maxAttempts int) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{Codes: transientStatuses()}, retry.IsErrorRetryableFunc(isTruncated))
		o.Backoff = Backoff()
	})
}

// Backoff returns Retryer's delays, for a client that has its own retryer.
func Backoff() retry.BackoffDelayer {
	policy := RetryPolicy()
	return retry.BackoffDelayerFunc(func(failures int, _ error) (time.Duration, error) { return policy.Delay(failures), nil })
}

// RetryPolicy returns Retryer's delays, for retries that the SDK does not make.
func RetryPolicy() backoff.Policy {
	return backoff.Policy{First: 50 * time.Millisecond, Max: 2 * time.Second, Jitter: backoff.FullJitter}
}

// transientStatuses returns the HTTP statuses that the SDK retries, and 429. The
// SDK lacks 429 because AWS itself answers 400 or 503.
func transientStatuses() map[int]struct{} {
	codes := maps.Clone(retry.DefaultRetryableHTTPStatusCodes)
	codes[http.StatusTooManyRequests] = struct{}{}
	return codes
}

// isTruncated reports whether the body of a response was cut. The SDK by itself
// treats such a response as malformed and does not retry.
func isTruncated(err error) aws.Ternary {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

// Failure returns the error that an adapter reports for a failed call. It returns
// the context's error if the context ended, and an *audit.UnavailableError for a
// transient failure: throttling, a fault of the service, no answer. It returns any
// other err unchanged.
func Failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the error of the interrupted call may be misleading
	case Retryer(1).IsErrorRetryable(err):
		return &audit.UnavailableError{RetryAfter: time.Second, Err: err}
	}
	return err
}
