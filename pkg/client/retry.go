package client

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

const (
	firstPause = 200 * time.Millisecond
	maxPause   = 20 * time.Second
	// maxRetryAfter is the longest Retry-After that the client waits for. If the service sends a
	// longer one, the request fails at once.
	maxRetryAfter = 5 * time.Minute
	// maxThrottled is how long a request waits because the service receives too much. Several
	// senders share a quota, so that one of them may be refused many times in a row.
	maxThrottled = 15 * time.Minute
)

// connectionError means that a request got no complete response.
type connectionError struct{ err error }

func (e *connectionError) Error() string { return e.err.Error() }

func (e *connectionError) Unwrap() error { return e.err }

// IsTransient reports whether a retry of a request that failed with this error can succeed: the
// service or the network was away, or the service received too much.
func IsTransient(err error) bool {
	var connection *connectionError
	if errors.As(err, &connection) {
		return true
	}
	var problem *Problem
	transient := []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	return errors.As(err, &problem) && slices.Contains(transient, problem.Status) && problem.RetryAfter <= maxRetryAfter
}

// isThrottled reports whether the service refused the request until a time that it named.
func isThrottled(err error) bool {
	var problem *Problem
	return errors.As(err, &problem) && problem.Status == http.StatusTooManyRequests && problem.RetryAfter > 0
}

// retries counts the failures of a request, or of a stream since it last worked.
type retries struct{ failures int }

// next reports whether to retry after the error, and the pause before the retry. The pause grows
// exponentially and has jitter. It is never shorter than the service's Retry-After.
func (r *retries) next(err error, jitter func() float64) (pause time.Duration, retry bool) {
	if !IsTransient(err) {
		return 0, false
	}
	r.failures++
	pause = backoff.Policy{First: firstPause, Max: maxPause, Jitter: backoff.EqualJitter}.DelayAt(r.failures, jitter())
	var problem *Problem
	if errors.As(err, &problem) && problem.RetryAfter > 0 {
		// Clients that got the same Retry-After must not all retry at the same time.
		pause = problem.RetryAfter + pause/4
	}
	return pause, true
}
