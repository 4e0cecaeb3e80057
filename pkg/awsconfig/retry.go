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

// Retryer returns a retryer that makes a call up to tries times in all. Before
// the second try it waits from 0 to 50 ms, which doubles with each further try up to
// 2 s: the SDK's own begins with a second, which is long for a client that waits
// for its answer. A context that ends, ends the tries. A call is also given up
// when many others failed just before, so that an outage is not made worse.
func Retryer(tries int) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = tries
		o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{Codes: busy()}, retry.IsErrorRetryableFunc(cutShort))
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

// busy are the SDK's status codes of services that cannot answer now, and the
// one that it forgets because AWS itself answers 400 or 503.
func busy() map[int]struct{} {
	codes := maps.Clone(retry.DefaultRetryableHTTPStatusCodes)
	codes[http.StatusTooManyRequests] = struct{}{}
	return codes
}

// cutShort holds for an answer whose body was cut, which the SDK takes for a malformed one.
func cutShort(err error) aws.Ternary {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

// Failure returns what an adapter reports of a call that failed: the
// context's own error where that ended, an *audit.UnavailableError where the
// reason ends by itself (throttling, a fault of the service, no answer), else
// err as it is.
func Failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // whatever the interrupted call said
	case Retryer(1).IsErrorRetryable(err):
		return &audit.UnavailableError{RetryAfter: time.Second, Err: err}
	}
	return err
}
