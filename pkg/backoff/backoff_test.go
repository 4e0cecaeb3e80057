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
