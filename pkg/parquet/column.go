package parquet

import (
	"bytes"
	"encoding/binary"
)

// maxBound is the size up to which a text is kept as the lowest or highest of its row group, in bytes.
const maxBound = 64

// column buffers a column's values.
type column struct {
	Column
	values      []byte   // that there are, as they are encoded
	definitions levelRun // how much of each value there is; see definedAs
	repetitions levelRun // 1 for a text that continues a list
	levels      int      // the number of each
	nulls       int64    // levels without a value
	bounds      bounds
}

// add buffers a value. It returns by how many bytes the buffers grew.
func (c *column) add(v *Value) int {
	before := c.size()
	switch {
	case !v.Valid || c.Type == Texts && len(v.Texts) == 0:
		c.addNull(v)
	case c.Type == Text:
		c.addLevels(1, 0)
		c.addText(v.Text)
		c.bounds.addText(v.Text)
	case c.Type == Texts:
		for i, text := range v.Texts {
			c.addLevels(2, byte(min(i, 1)))
			c.addText(text)
		}
	default:
		c.addLevels(1, 0)
		c.values = binary.LittleEndian.AppendUint64(c.values, uint64(v.Integer))
		c.bounds.addInteger(v.Integer)
	}
	return c.size() - before
}

// addNull buffers that there is no value, or an empty list.
func (c *column) addNull(v *Value) {
	var definition byte
	if v.Valid {
		definition = 1
	}
	c.addLevels(definition, 0)
	c.nulls++
}

// addLevels says how much of a value there is. A list is there from 1 on, and its text from 2 on.
// Other values are there at 1.
func (c *column) addLevels(definition, repetition byte) {
	c.levels++
	c.definitions.add(definition)
	if c.Type == Texts {
		c.repetitions.add(repetition)
	}
}

func (c *column) addText(text []byte) {
	c.values = binary.LittleEndian.AppendUint32(c.values, uint32(len(text)))
	c.values = append(c.values, text...)
}

func (c *column) size() int {
	return len(c.values) + len(c.definitions.encoded) + len(c.repetitions.encoded)
}

// appendTo appends the buffered values as the content of a page.
func (c *column) appendTo(dst []byte) []byte {
	if c.Type == Texts {
		dst = c.repetitions.appendTo(dst)
	}
	return append(c.definitions.appendTo(dst), c.values...)
}

// reset forgets what is buffered.
func (c *column) reset() {
	c.values = keep(c.values)
	c.definitions, c.repetitions = levelRun{encoded: keep(c.definitions.encoded)}, levelRun{encoded: keep(c.repetitions.encoded)}
	c.levels, c.nulls, c.bounds = 0, 0, bounds{}
}

// levelRun encodes levels, which are below 256, by the lengths of runs of equal ones.
type levelRun struct {
	encoded []byte // runs that have ended
	level   byte   // of the current run
	length  uint64
}

func (r *levelRun) add(level byte) {
	if level != r.level {
		r.encoded = r.appendRun(r.encoded)
		r.level, r.length = level, 0
	}
	r.length++
}

func (r *levelRun) appendRun(dst []byte) []byte {
	if r.length == 0 {
		return dst
	}
	return append(binary.AppendUvarint(dst, r.length<<1), r.level)
}

// appendTo appends the runs after their length.
func (r *levelRun) appendTo(dst []byte) []byte {
	begin := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = r.appendRun(append(dst, r.encoded...))
	binary.LittleEndian.PutUint32(dst[begin:], uint32(len(dst)-begin-4))
	return dst
}

// bounds are the lowest value of a column and the highest, as they are encoded. They let a reader pass
// over a row group.
type bounds struct {
	low, high   []byte
	least, most int64 // of integers
	unknown     bool  // a text is too long
}

func (b *bounds) addText(text []byte) {
	switch {
	case b.unknown:
	case len(text) > maxBound:
		*b = bounds{unknown: true}
	case b.low == nil:
		b.low, b.high = append([]byte{}, text...), append([]byte{}, text...)
	case bytes.Compare(text, b.low) < 0:
		b.low = append(b.low[:0], text...)
	case bytes.Compare(text, b.high) > 0:
		b.high = append(b.high[:0], text...)
	}
}

func (b *bounds) addInteger(v int64) {
	if b.low == nil {
		b.least, b.most = v, v
	}
	b.least, b.most = min(b.least, v), max(b.most, v)
	b.low = binary.LittleEndian.AppendUint64(b.low[:0], uint64(b.least))
	b.high = binary.LittleEndian.AppendUint64(b.high[:0], uint64(b.most))
}
