package parquet

import (
	"encoding/binary"
	"fmt"
)

// Types of Thrift's compact protocol that only reading meets.
const (
	thriftFalse  = 2
	thriftByte   = 3
	thriftDouble = 7
	thriftSet    = 10
	thriftMap    = 11
	thriftUUID   = 13
)

// maxDepth is how deep structures and lists can be nested. Parquet's have fewer than ten levels.
const maxDepth = 32

// thriftReader decodes structures of Thrift's compact protocol. After its first error it reads zero
// values, and structures and lists without elements. It reads each byte once, so that its work is
// bounded by the input.
type thriftReader struct {
	b     []byte // what is left
	depth int
	err   error
}

func (t *thriftReader) fail(format string, args ...any) {
	if t.err == nil {
		t.err = fmt.Errorf(format+": %w", append(args, ErrDamaged)...)
	}
	t.b = nil
}

// take returns the next n bytes.
func (t *thriftReader) take(n uint64) []byte {
	if n > uint64(len(t.b)) {
		t.fail("a structure ends too early")
		return nil
	}
	taken := t.b[:n]
	t.b = t.b[n:]
	return taken
}

func (t *thriftReader) byte() byte {
	if b := t.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (t *thriftReader) uvarint() uint64 {
	v, n := binary.Uvarint(t.b)
	if n <= 0 {
		t.fail("not a number")
		return 0
	}
	t.b = t.b[n:]
	return v
}

// integer reads an integer of any size.
func (t *thriftReader) integer(kind byte) int64 {
	switch kind {
	case thriftByte:
		return int64(int8(t.byte()))
	case thriftI16, thriftI32, thriftI64:
		v := t.uvarint()
		return int64(v>>1) ^ -int64(v&1)
	}
	t.fail("type %d instead of a number", kind)
	return 0
}

// text reads a text, which is valid as long as the input.
func (t *thriftReader) text(kind byte) []byte {
	if kind != thriftBinary {
		t.fail("type %d instead of a text", kind)
		return nil
	}
	return t.take(t.uvarint())
}

// structure reads a structure. field reads a value by its id and its type. It returns false, and reads
// nothing, for a value that it passes over.
func (t *thriftReader) structure(kind byte, field func(id int64, kind byte) bool) {
	if kind != thriftStruct {
		t.fail("type %d instead of a structure", kind)
	}
	t.nested(func() {
		var id int64
		for t.err == nil {
			b := t.byte()
			if b == 0 {
				return
			}
			kind := b & 15
			if delta := int64(b >> 4); delta > 0 {
				id += delta
			} else {
				id = t.integer(thriftI16)
			}
			if t.err == nil && !field(id, kind) {
				t.pass(kind)
			}
		}
	})
}

// list reads a list. begin gets the number of elements, and element reads one.
func (t *thriftReader) list(kind byte, begin func(n uint64), element func(kind byte)) {
	if kind != thriftList && kind != thriftSet {
		t.fail("type %d instead of a list", kind)
	}
	b := t.byte()
	n := uint64(b >> 4)
	if n == 15 {
		n = t.uvarint()
	}
	if n > uint64(len(t.b)) { // an element has at least a byte
		t.fail("a list of %d elements in %d bytes", n, len(t.b))
	}
	if t.err == nil {
		begin(n)
	}
	t.nested(func() {
		for ; n > 0 && t.err == nil; n-- {
			element(b & 15)
		}
	})
}

func (t *thriftReader) nested(read func()) {
	if t.depth++; t.depth > maxDepth {
		t.fail("more than %d structures in one another", maxDepth)
	}
	read()
	t.depth--
}

// isTrue returns the value of a field whose type is its value.
func (t *thriftReader) isTrue(kind byte) bool {
	if kind != thriftTrue && kind != thriftFalse {
		t.fail("type %d instead of true or false", kind)
	}
	return kind == thriftTrue
}

// pass passes over the value of a field.
func (t *thriftReader) pass(kind byte) {
	if kind != thriftTrue && kind != thriftFalse {
		t.passElement(kind)
	}
}

// passElement passes over an element of a list.
func (t *thriftReader) passElement(kind byte) {
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		t.take(1)
	case thriftI16, thriftI32, thriftI64:
		t.uvarint()
	case thriftDouble:
		t.take(8)
	case thriftUUID:
		t.take(16)
	case thriftBinary:
		t.text(kind)
	case thriftList, thriftSet:
		t.list(kind, func(uint64) {}, t.passElement)
	case thriftStruct:
		t.structure(kind, func(int64, byte) bool { return false })
	case thriftMap:
		t.passMap()
	default:
		t.fail("type %d", kind)
	}
}

func (t *thriftReader) passMap() {
	n := t.uvarint()
	if n == 0 {
		return
	}
	kinds := t.byte()
	t.nested(func() {
		for ; n > 0 && t.err == nil; n-- {
			t.passElement(kinds >> 4)
			t.passElement(kinds & 15)
		}
	})
}
