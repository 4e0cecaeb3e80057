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
	// maxRetryAfter is the longest wait that a service may ask for; what asks
	// for more is not worth waiting for.
	maxRetryAfter = 5 * time.Minute
)

// connectionError is a request that got no whole answer.
type connectionError struct{ err error }

func (e *connectionError) Error() string { return e.err.Error() }

func (e *connectionError) Unwrap() error { return e.err }

// passes reports whether the failure may not come again at another try.
func passes(err error) bool {
	var connection *connectionError
	if errors.As(err, &connection) {
		return true
	}
	var problem *Problem
	passing := []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	return errors.As(err, &problem) && slices.Contains(passing, problem.Status) && problem.RetryAfter <= maxRetryAfter
}

// retries counts the failures of one call.
type retries struct{ failures int }

// next says whether to try again after the error, and how long to wait before:
// exponentially longer each time, between half and all of that by jitter, and
// never less than the service asked for.
func (r *retries) next(err error, jitter func() float64) (pause time.Duration, again bool) {
	if !passes(err) {
		return 0, false
	}
	r.failures++
	pause = backoff.Policy{First: firstPause, Max: maxPause, Jitter: backoff.EqualJitter}.DelayAt(r.failures, jitter())
	var problem *Problem
	if errors.As(err, &problem) && problem.RetryAfter > 0 {
		// Those told the same time must not all come back at it.
		pause = problem.RetryAfter + pause/4
	}
	return pause, true
}
