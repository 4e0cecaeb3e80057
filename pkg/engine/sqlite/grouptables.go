package sqlite

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"strings"
)

// The tables of this file count groups by the million. They are open-addressed, with linear
// probing. A map takes several times as long, and an allocation for each value. The places of values
// and keys in a table cannot be foreseen.

const minSlots = 1 << 10

// mustGrow reports whether a table needs more slots before it gets another member. At most three
// quarters of the slots are taken.
func mustGrow(members, slots int) bool { return 4*members >= 3*slots }

// placeShift is the number of bits to shift a hash of 64 bits, so that its first ones are a place
// among the slots, which are a power of two.
func placeShift(slots int) int { return 65 - bits.Len(uint(slots)) }

// valueNumbers numbers the values of a field in the order in which they come.
type valueNumbers struct {
	seed  maphash.Seed
	slots []valueSlot
	text  strings.Builder // all values, one after the other
	ends  []uint32        // of the values in the text
}

// valueSlot has the first half of a value's hash, and its number plus one. 0 is a free slot.
type valueSlot uint64

const halfHash = 0xffffffff << 32

func (s valueSlot) hash() uint64 { return uint64(s) & halfHash }

func (s valueSlot) number() uint32 { return uint32(s) - 1 }

// bytes returns the size of all values.
func (v *valueNumbers) bytes() int { return v.text.Len() }

// value returns the value of a number. It shares the memory of all values.
func (v *valueNumbers) value(number uint32) string {
	begin := uint32(0)
	if number > 0 {
		begin = v.ends[number-1]
	}
	return v.text.String()[begin:v.ends[number]]
}

func (v *valueNumbers) number(value string) uint32 {
	if mustGrow(len(v.ends), len(v.slots)) {
		v.grow()
	}
	hash := maphash.String(v.seed, value) & halfHash
	at, mask := hash>>placeShift(len(v.slots)), uint64(len(v.slots)-1)
	for ; v.slots[at] != 0; at = (at + 1) & mask {
		if slot := v.slots[at]; slot.hash() == hash && v.value(slot.number()) == value {
			return slot.number()
		}
	}
	number := uint32(len(v.ends))
	v.slots[at] = valueSlot(hash | uint64(number+1))
	_, _ = v.text.WriteString(value) // never fails
	v.ends = append(v.ends, uint32(v.text.Len()))
	return number
}

func (v *valueNumbers) grow() {
	before := v.slots
	if before == nil {
		v.seed = maphash.MakeSeed()
	}
	v.slots = make([]valueSlot, max(2*len(before), minSlots))
	shift, mask := placeShift(len(v.slots)), uint64(len(v.slots)-1)
	for _, slot := range before {
		if slot == 0 {
			continue
		}
		at := slot.hash() >> shift
		for v.slots[at] != 0 {
			at = (at + 1) & mask
		}
		v.slots[at] = slot
	}
}

// keyCounts counts keys of 64 bits.
type keyCounts struct {
	secret uint64
	slots  []keyCount
	used   int // slots
}

// keyCount is the count of a key. A slot with the count 0 is free.
type keyCount struct {
	key uint64
	n   int64
}

// at returns the slot of a key, or the free one where it belongs. There must be slots.
func (c *keyCounts) at(key uint64) *keyCount {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio spreads any differences
	high, low := bits.Mul64(key^c.secret, golden)
	at, mask := (high^low)>>placeShift(len(c.slots)), uint64(len(c.slots)-1)
	for c.slots[at].n != 0 && c.slots[at].key != key {
		at = (at + 1) & mask
	}
	return &c.slots[at]
}

// add adds n, which is positive, to the count of a key.
func (c *keyCounts) add(key uint64, n int64) {
	if mustGrow(c.used, len(c.slots)) {
		c.grow()
	}
	slot := c.at(key)
	if slot.n == 0 {
		slot.key = key
		c.used++
	}
	slot.n += n
}

// count returns the count of a key, 0 if it has none.
func (c *keyCounts) count(key uint64) int64 {
	if c.used == 0 {
		return 0
	}
	return c.at(key).n
}

func (c *keyCounts) grow() {
	before := c.slots
	if before == nil {
		var random maphash.Hash
		c.secret = random.Sum64()
	}
	c.slots = make([]keyCount, max(2*len(before), minSlots))
	for _, counted := range before {
		if counted.n != 0 {
			*c.at(counted.key) = counted
		}
	}
}

// all yields the keys and their counts in any order.
func (c *keyCounts) all() iter.Seq2[uint64, int64] {
	return func(yield func(uint64, int64) bool) {
		for _, counted := range c.slots {
			if counted.n != 0 && !yield(counted.key, counted.n) {
				return
			}
		}
	}
}
