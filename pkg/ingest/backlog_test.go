package ingest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

func TestAFullBacklogRefusesUntilItHasShrunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting int64
		var failure error
		counts := 0
		b := &ingest.Backlog{Max: 1000, Now: time.Now, Count: func(context.Context) (int64, error) {
			counts++
			time.Sleep(time.Second) // no request waits for it
			return waiting, failure
		}}
		// second sends requests for a second and returns whether the last one was refused.
		second := func() error {
			var err error
			for range 100 {
				begun := time.Now()
				err = b.Check(t.Context())
				if waited := time.Since(begun); waited > 0 {
					t.Errorf("a request waited %v, want no wait", waited)
				}
				time.Sleep(10 * time.Millisecond)
			}
			return err
		}
		seconds := func(n int) (err error) {
			for range n {
				err = second()
			}
			return err
		}
		if err := seconds(10); err != nil {
			t.Errorf("an empty backlog returned %v, want nil", err)
		}
		waiting = 1000
		var unavailable *audit.UnavailableError
		if err := seconds(10); !errors.As(err, &unavailable) {
			t.Fatalf("a full backlog returned %v, want an UnavailableError", err)
		}
		if want := 30 * time.Second; unavailable.RetryAfter != want {
			t.Errorf("RetryAfter is %v, want %v", unavailable.RetryAfter, want)
		}
		if got := b.Fill(); got != 1 {
			t.Errorf("a full backlog has a fill of %v, want 1", got)
		}
		waiting = 999
		time.Sleep(10 * time.Second)
		_ = b.Check(t.Context()) // one request is enough to look again
		time.Sleep(2 * time.Second)
		if err := b.Check(t.Context()); err != nil {
			t.Errorf("after it has shrunk it returned %v, want nil", err)
		}
		if got, want := b.Fill(), 0.999; got != want {
			t.Errorf("after it has shrunk its fill is %v, want %v", got, want)
		}
		waiting, failure = 1000, errors.New("down")
		if err := seconds(20); err != nil {
			t.Errorf("a backlog that cannot be counted returned %v, want nil", err)
		}
		if most := 55/5 + 1; counts > most {
			t.Errorf("counted %d times in 55 seconds, want at most %d", counts, most)
		}
	})
}

func TestFewRequestsCountNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counts atomic.Int64
		b := &ingest.Backlog{Max: 1, Now: time.Now, Count: func(context.Context) (int64, error) { counts.Add(1); return 0, nil }}
		for range 200 {
			if err := b.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if got, want := counts.Load(), int64(4); got != want {
			t.Errorf("200 requests counted %d times, want %d", got, want)
		}
	})
}
