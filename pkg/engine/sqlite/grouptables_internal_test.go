package sqlite

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestValuesAreNumbered: each value keeps the number that it gets first, while the table grows.
func TestValuesAreNumbered(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	var v valueNumbers
	want := map[string]uint32{}
	for range 20_000 {
		value := fmt.Sprint(random.IntN(5000))
		if value == "0" {
			value = ""
		}
		number, known := want[value]
		if !known {
			number = uint32(len(want))
			want[value] = number
		}
		if got := v.number(value); got != number {
			t.Fatalf("got %d as the number of %q, want %d", got, value, number)
		}
	}
	size := 0
	for value, number := range want {
		size += len(value)
		if got := v.value(number); got != value {
			t.Errorf("got %q as the value of %d, want %q", got, number, value)
		}
	}
	if v.bytes() != size {
		t.Errorf("got %d bytes of values, want %d", v.bytes(), size)
	}
}

// TestKeysAreCounted: a table counts what a map counts, whatever the keys have in common.
func TestKeysAreCounted(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	for _, shift := range []int{0, 20, 32, 50} {
		var c keyCounts
		want := map[uint64]int64{}
		for range 20_000 {
			key, n := uint64(random.IntN(5000))<<shift, random.Int64N(3)+1
			want[key] += n
			c.add(key, n)
		}
		if got := maps.Collect(c.all()); !maps.Equal(got, want) {
			t.Errorf("keys of %d zero bits: got %d counts, want %d that are the same as in a map", shift, len(got), len(want))
		}
		if c.used != len(want) {
			t.Errorf("keys of %d zero bits: got %d keys, want %d", shift, c.used, len(want))
		}
		for key, n := range want {
			if got := c.count(key); got != n {
				t.Errorf("got the count %d of key %d, want %d", got, key, n)
			}
		}
		if got := c.count(1 << 63); got != 0 {
			t.Errorf("got the count %d of an absent key, want 0", got)
		}
	}
	if got := new(keyCounts).count(0); got != 0 {
		t.Errorf("got the count %d of an empty table, want 0", got)
	}
}
