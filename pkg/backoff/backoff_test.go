package backoff_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// almostOne is the largest number that rand.Float64 returns.
const almostOne = 1 - 1.0/(1<<53)

func TestDelayDoublesUpToMax(t *testing.T) {
	p := backoff.Policy{First: time.Second, Max: 10 * time.Second}
	for failures, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 8 * time.Second,
		5: 10 * time.Second, 6: 10 * time.Second, math.MaxInt: 10 * time.Second,
	} {
		if got := p.Delay(failures); got != want {
			t.Errorf("delay after %d failures is %v, want %v", failures, got, want)
		}
	}
}

func TestDelayDoesNotOverflow(t *testing.T) {
	p := backoff.Policy{First: time.Second, Max: math.MaxInt64}
	for failures := range 100 {
		if got := p.Delay(failures); got < time.Second {
			t.Errorf("delay after %d failures is %v, want at least 1s", failures, got)
		}
	}
}

func TestJitterSetsTheLowerBound(t *testing.T) {
	for _, test := range []struct {
		jitter    float64
		low, high time.Duration
	}{
		{backoff.NoJitter, 400, 400},
		{backoff.EqualJitter, 200, 399},
		{backoff.FullJitter, 0, 399},
	} {
		p := backoff.Policy{First: 100, Max: 400, Jitter: test.jitter}
		if got := p.DelayAt(3, 0); got != test.low {
			t.Errorf("jitter %v: lowest delay is %d ns, want %d", test.jitter, got, test.low)
		}
		if got := p.DelayAt(3, almostOne); got != test.high {
			t.Errorf("jitter %v: highest delay is %d ns, want %d", test.jitter, got, test.high)
		}
	}
}

func TestDelayDrawsANumber(t *testing.T) {
	p := backoff.Policy{First: time.Hour, Max: time.Hour, Jitter: backoff.FullJitter}
	first := p.Delay(1)
	for range 100 {
		if p.Delay(1) != first {
			return
		}
	}
	t.Errorf("101 delays are all %v, want different ones", first)
}

func TestSleep(t *testing.T) {
	start := time.Now()
	if err := backoff.Sleep(t.Context(), 20*time.Millisecond); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if got := time.Since(start); got < 20*time.Millisecond {
		t.Errorf("slept %v, want at least 20ms", got)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := backoff.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestRetry(t *testing.T) {
	passing, lasting := errors.New("passing"), errors.New("lasting")
	for name, c := range map[string]struct {
		results []error
		calls   int
		want    error
	}{
		"success":           {[]error{nil}, 1, nil},
		"a passing failure": {[]error{passing, passing, nil}, 3, nil},
		"a lasting failure": {[]error{passing, lasting, nil}, 2, lasting},
		"too many failures": {[]error{passing, passing, passing, nil}, 3, passing},
	} {
		calls := 0
		err := backoff.Policy{First: 1}.Retry(t.Context(), 3, func(err error) bool { return errors.Is(err, passing) }, func() error {
			calls++
			return c.results[calls-1]
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got the error %v, want %v", name, err, c.want)
		}
		if calls != c.calls {
			t.Errorf("%s: called %d times, want %d", name, calls, c.calls)
		}
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	failure := errors.New("down")
	calls := 0
	err := backoff.Policy{First: time.Hour, Max: time.Hour}.Retry(ctx, 3, func(error) bool { return true }, func() error {
		calls++
		cancel()
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("got the error %v, want %v", err, failure)
	}
	if calls != 1 {
		t.Errorf("called %d times, want 1", calls)
	}
}
