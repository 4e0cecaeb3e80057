package main

import (
	"cmp"
	"encoding/binary"
	"math"
)

const (
	// maxCounted is how many different lines are counted exactly. They take about 70 MiB.
	maxCounted = 2 << 20
	// sketchRows and sketchColumns are the size of the counters of all other lines: 32 MiB.
	sketchRows    = 4
	sketchColumns = 2 << 20
)

// occurrences counts equal lines in bounded memory. The first maxCounted different lines are
// counted exactly. The others share counters (a count-min sketch): the count of a line may be too
// high, but it always rises, so that equal lines never get the same number.
type occurrences struct {
	limit  int // 0: maxCounted
	exact  map[uint64]uint32
	sketch []uint32 // rows of sketchColumns counters; nil until it is needed
}

// next counts a line by its SHA-256 and returns its number, from 1. The same lines in the same
// order have the same numbers.
func (o *occurrences) next(sum [32]byte) uint32 {
	if o.exact == nil {
		o.exact = map[uint64]uint32{}
	}
	short := binary.BigEndian.Uint64(sum[:])
	if n, counted := o.exact[short]; counted || len(o.exact) < cmp.Or(o.limit, maxCounted) {
		o.exact[short] = n + 1
		return n + 1
	}
	if o.sketch == nil {
		o.sketch = make([]uint32, sketchRows*sketchColumns)
	}
	least := uint32(math.MaxUint32)
	for row := range sketchRows {
		column := binary.BigEndian.Uint32(sum[8+4*row:]) % sketchColumns
		counter := &o.sketch[row*sketchColumns+int(column)]
		*counter++
		least = min(least, *counter)
	}
	return least
}
