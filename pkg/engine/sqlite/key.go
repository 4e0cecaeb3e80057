package sqlite

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A key is the number of an entry among those of all tenants. Its upper 42 bits
// are the entry's Unix milliseconds, up to the year 2109. Its lower 22 bits are a
// slot. The sign bit is flipped, so that signed keys have the order of time.
const (
	slotBits  = 22
	slots     = 1 << slotBits // entries in one millisecond
	maxMillis = 1<<(64-slotBits) - 1
	signBit   = 1 << 63
)

// keyOf returns the key of a slot of a millisecond from 0 to maxMillis.
func keyOf(millis int64, slot uint32) int64 {
	return int64((uint64(millis)<<slotBits | uint64(slot)) ^ signBit)
}

func millisOf(key int64) int64 { return int64((uint64(key) ^ signBit) >> slotBits) }

func timeOf(key int64) time.Time { return time.UnixMilli(millisOf(key)).UTC() }

// nearSlots is the number of slots after its own that an insert tries first. The entries
// of a request have consecutive slots. If another entry has one of them, they move up
// together and keep their order.
const nearSlots = 64

// spreadProbes is the number of slots that an insert tries before it searches the
// millisecond for a free one. A hash spreads the probes, so that ids with the
// same leading bits do not slow each other down.
const spreadProbes = 16

// slotOf returns the slot of an id for a probe. Probe 0 uses the leading random
// bits of the id, so that keys usually have the order of the ids.
func slotOf(id audit.EntryID, probe uint8) uint32 {
	if probe == 0 {
		return uint32(id[6]&0x0f)<<18 | uint32(id[7])<<10 | uint32(id[8]&0x3f)<<4 | uint32(id[9])>>4
	}
	var seed [17]byte
	copy(seed[:], id[:])
	seed[16] = probe
	sum := sha256.Sum256(seed[:])
	return binary.BigEndian.Uint32(sum[:]) % slots
}

// span is a range of keys that includes both ends.
type span struct{ first, last int64 }

var everything = span{math.MinInt64, math.MaxInt64}

func (s span) empty() bool { return s.first > s.last }

func (s span) intersect(other span) span {
	return span{max(s.first, other.first), min(s.last, other.last)}
}

// divide divides s before each of the keys, which are in rising order. No part is empty.
func (s span) divide(cuts []int64) []span {
	var parts []span
	for _, cut := range cuts {
		if s.first < cut && cut <= s.last {
			parts = append(parts, span{s.first, cut - 1})
			s.first = cut
		}
	}
	if !s.empty() {
		parts = append(parts, s)
	}
	return parts
}

// within returns the part of s that lies in the time from ≤ t < to; a zero bound is open.
func (s span) within(from, to time.Time) span {
	if !from.IsZero() {
		s.first = max(s.first, firstKeyAt(from))
		if from.UnixMilli() > maxMillis {
			return span{0, -1}
		}
	}
	if !to.IsZero() && to.UnixMilli() <= maxMillis {
		bound := firstKeyAt(to)
		if bound == math.MinInt64 {
			return span{0, -1}
		}
		s.last = min(s.last, bound-1)
	}
	return s
}

// firstKeyAt returns the lowest key of the time's millisecond.
func firstKeyAt(t time.Time) int64 {
	return keyOf(min(max(t.UnixMilli(), 0), maxMillis), 0)
}
