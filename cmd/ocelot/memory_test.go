package main

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// keepMemorySettings puts the settings of the process back when the test ends.
func keepMemorySettings(t *testing.T) {
	t.Helper()
	limit, growth := debug.SetMemoryLimit(-1), debug.SetGCPercent(-1)
	debug.SetGCPercent(growth)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(growth)
	})
}

func TestLimitMemory(t *testing.T) {
	for _, c := range []struct {
		name                  string
		limit                 int64 // of the environment
		growth                int
		wantLimit, wantGrowth int64
	}{
		{"an environment without settings", math.MaxInt64, defaultGrowth, memoryLimit, heapGrowth},
		{"GOMEMLIMIT", 1 << 30, defaultGrowth, 1 << 30, defaultGrowth},
		{"GOGC", math.MaxInt64, 50, memoryLimit, 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			keepMemorySettings(t)
			debug.SetMemoryLimit(c.limit)
			debug.SetGCPercent(c.growth)
			limitMemory()
			if got := debug.SetMemoryLimit(-1); got != c.wantLimit {
				t.Errorf("the limit is %d bytes, want %d", got, c.wantLimit)
			}
			if got := int64(debug.SetGCPercent(-1)); got != c.wantGrowth {
				t.Errorf("the heap grows by %d %%, want %d %%", got, c.wantGrowth)
			}
		})
	}
}

// TestCollectWhenIdle: a large heap is collected once nothing else collects it, and a small one
// is left alone.
func TestCollectWhenIdle(t *testing.T) {
	keepMemorySettings(t)
	debug.SetMemoryLimit(math.MaxInt64)
	debug.SetGCPercent(-1) // only collectWhenIdle collects
	for _, c := range []struct {
		name    string
		garbage int
		want    uint32
	}{{"a small heap", 1 << 20, 0}, {"a large heap", 2 * idleHeap, 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runtime.GC()
				garbage := make([]byte, c.garbage)
				runtime.KeepAlive(garbage)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					collectWhenIdle(ctx)
				}()
				time.Sleep(4*idleCheck + time.Second)
				runtime.ReadMemStats(&after)
				cancel()
				<-ended
				if got := after.NumGC - before.NumGC; got != c.want {
					t.Errorf("collected %d times, want %d", got, c.want)
				}
			})
		})
	}
}
