package main

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// memoryLimit is the size of the heap from which on garbage is collected more often, in
	// bytes. The process needs up to 150 MiB outside of it, most of it for SQLite.
	memoryLimit = 192 << 20
	// heapGrowth is by how many percent a small heap grows before garbage is collected. The live
	// heap is small beside memoryLimit, so collecting rarely saves time and costs no more memory.
	heapGrowth, defaultGrowth = 400, 100
	// idleHeap is the size of the heap of a process that has nothing to do, at most.
	idleHeap = 64 << 20
	// idleCheck is the time between two checks of an idle process.
	idleCheck = 15 * time.Second
)

// limitMemory sets memoryLimit and heapGrowth unless the environment sets GOMEMLIMIT or GOGC.
func limitMemory() {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	debug.SetMemoryLimit(memoryLimit)
	if before := debug.SetGCPercent(heapGrowth); before != defaultGrowth {
		debug.SetGCPercent(before)
	}
}

// collectWhenIdle collects the garbage that a burst of requests leaves. A process that
// allocates nothing afterwards would keep it for minutes.
func collectWhenIdle(ctx context.Context) {
	ticker := time.NewTicker(idleCheck)
	defer ticker.Stop()
	var before, now runtime.MemStats
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		runtime.ReadMemStats(&now)
		if now.NumGC == before.NumGC && now.HeapAlloc > idleHeap {
			runtime.GC()
		}
		before = now
	}
}
