// Package backoff computes the delay before a failed call is retried. The delay
// doubles with each failure, and a random part of it spreads the retries of
// clients that failed at the same time.
//
// The names full and equal jitter are those of Marc Brooker, "Exponential Backoff
// And Jitter", AWS Architecture Blog, 2015. His simulation of clients that contend
// for one record needs the fewest calls with full jitter.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Values of Policy.Jitter.
const (
	NoJitter    = 0.0 // the delay is its upper bound
	EqualJitter = 0.5 // the delay is between half and all of its upper bound
	FullJitter  = 1.0 // the delay is between zero and its upper bound
)

// Policy says how the delay grows. A Policy has no state and may be used concurrently.
type Policy struct {
	// First is the upper bound of the delay after the first failure. It doubles with each further failure.
	First time.Duration
	// Max is the largest upper bound; it is at least First.
	Max time.Duration
	// Jitter is the part of the delay that is random, from 0 to 1.
	Jitter float64
}

// Delay returns the delay after that many failures in a row. Fewer than one count as one.
func (p Policy) Delay(failures int) time.Duration { return p.DelayAt(failures, rand.Float64()) }

// DelayAt is Delay with the random number that it draws, from 0 up to 1.
func (p Policy) DelayAt(failures int, random float64) time.Duration {
	bound := p.bound(failures)
	jitter := float64(bound) * p.Jitter
	return bound - time.Duration(jitter) + time.Duration(jitter*random)
}

// bound returns the upper bound of the delay.
func (p Policy) bound(failures int) time.Duration {
	bound := p.First
	for ; failures > 1; failures-- {
		if bound > p.Max/2 { // doubled, it would be above Max and could overflow
			return p.Max
		}
		bound *= 2
	}
	return bound
}

// Retry calls do until it succeeds or fails with an error that is not transient, at most
// maxAttempts times. It waits for Delay between two calls. It returns the error of the last
// call, also if the context ends while it waits.
func (p Policy) Retry(ctx context.Context, maxAttempts int, transient func(error) bool, do func() error) error {
	for failures := 1; ; failures++ {
		err := do()
		if err == nil || failures == maxAttempts || !transient(err) || Sleep(ctx, p.Delay(failures)) != nil {
			return err
		}
	}
}

// Sleep waits for d. It returns the context's error if the context ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
