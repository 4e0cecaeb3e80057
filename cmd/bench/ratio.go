package main

import (
	"runtime"
	"time"
)

// cpuPairs and cpuSlice are how long two sides are compared.
const (
	cpuPairs = 15
	cpuSlice = 200 * time.Millisecond // of processor time, for each side of a pair
)

// comparison is the processor time of one side in terms of the other's.
type comparison struct {
	ratio float64       // median of the ratios of neighbours
	a, b  time.Duration // median for one call
}

// compareCPU measures a and b in turn.
func compareCPU(a, b func() error) (comparison, error) {
	var ratios []float64
	var as, bs []time.Duration
	for range cpuPairs {
		perA, err := cpuPerCall(a)
		if err != nil {
			return comparison{}, err
		}
		perB, err := cpuPerCall(b)
		if err != nil {
			return comparison{}, err
		}
		ratios = append(ratios, float64(perA)/float64(perB))
		as, bs = append(as, perA), append(bs, perB)
	}
	return comparison{ratio: median(ratios), a: median(as), b: median(bs)}, nil
}

// cpuPerCall calls f until it has used cpuSlice, and returns what one call used,
// the collection of its garbage included.
func cpuPerCall(f func() error) (time.Duration, error) {
	runtime.GC() // earlier garbage must not count
	begun, err := cpuTime()
	if err != nil {
		return 0, err
	}
	for calls, step := 0, 1; ; step *= 2 {
		for range step {
			if err := f(); err != nil {
				return 0, err
			}
		}
		calls += step
		now, err := cpuTime()
		if err != nil {
			return 0, err
		}
		if used := now - begun; used >= cpuSlice {
			return used / time.Duration(calls), nil
		}
	}
}
