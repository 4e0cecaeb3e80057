package postings

import (
	"encoding/binary"
	"math/bits"
)

// appendPacked appends the lowest bits of values, so many of each, without gaps. The first value has
// the lowest bits of the first byte.
func appendPacked(dst []byte, values []uint32, width int) []byte {
	var waiting uint64
	n := 0
	for _, value := range values {
		waiting |= uint64(value) << n
		if n += width; n >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(waiting))
			waiting >>= 32
			n -= 32
		}
	}
	for ; n > 0; n -= 8 {
		dst = append(dst, byte(waiting))
		waiting >>= 8
	}
	return dst
}

// packedBytes is the length of n packed values.
func packedBytes(n, width int) int { return (n*width + 7) / 8 }

// addGaps fills ordinals with those after the first one, by the packed gaps between them less 1. packed
// may be longer than the gaps. It returns the last ordinal, which is too large if the gaps are not
// those of a list.
func addGaps(ordinals []uint32, packed []byte, width int, first uint64) (last uint64) {
	last = first
	mask := uint64(1)<<width - 1
	bit, i := 0, 0
	for ; i < len(ordinals) && bit>>3+8 <= len(packed); i++ {
		last += binary.LittleEndian.Uint64(packed[bit>>3:])>>(bit&7)&mask + 1
		ordinals[i] = uint32(last)
		bit += width
	}
	for ; i < len(ordinals); i++ {
		var padded [8]byte
		copy(padded[:], packed[bit>>3:])
		last += binary.LittleEndian.Uint64(padded[:])>>(bit&7)&mask + 1
		ordinals[i] = uint32(last)
		bit += width
	}
	return last
}

// uvarint reads a number at the beginning of b. rest is nil if there is none.
func uvarint(b []byte) (value uint64, rest []byte) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:]
	}
	value, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil
	}
	return value, b[n:]
}

// commonPrefix is the length of the longest common prefix.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
