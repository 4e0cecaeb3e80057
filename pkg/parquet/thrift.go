package parquet

import "encoding/binary"

// Types of Thrift's compact protocol.
const (
	thriftTrue   = 1
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftBinary = 8
	thriftList   = 9
	thriftStruct = 12
)

// thrift encodes structures in Thrift's compact protocol. See
// https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
type thrift struct {
	b    []byte
	last int // the id of the field before
}

// field begins a field. Ids rise, by at most 15.
func (t *thrift) field(id, kind int) {
	t.b = append(t.b, byte((id-t.last)<<4|kind))
	t.last = id
}

func (t *thrift) isTrue(id int) { t.field(id, thriftTrue) }

func (t *thrift) i16(id int, v int64) { t.integer(id, thriftI16, v) }

func (t *thrift) i32(id int, v int64) { t.integer(id, thriftI32, v) }

func (t *thrift) i64(id int, v int64) { t.integer(id, thriftI64, v) }

func (t *thrift) integer(id, kind int, v int64) {
	t.field(id, kind)
	t.b = binary.AppendVarint(t.b, v)
}

func (t *thrift) text(id int, text []byte) {
	t.field(id, thriftBinary)
	t.bytes(text)
}

func (t *thrift) bytes(text []byte) {
	t.b = append(binary.AppendUvarint(t.b, uint64(len(text))), text...)
}

// structure adds a structure whose fields are added by the function.
func (t *thrift) structure(id int, fields func()) {
	t.field(id, thriftStruct)
	t.element(fields)
}

// element adds a structure as an element of a list.
func (t *thrift) element(fields func()) {
	last := t.last
	t.last = 0
	fields()
	t.b = append(t.b, 0)
	t.last = last
}

// list begins a list of n elements, which follow.
func (t *thrift) list(id, kind, n int) {
	t.field(id, thriftList)
	if n < 15 {
		t.b = append(t.b, byte(n<<4|kind))
		return
	}
	t.b = binary.AppendUvarint(append(t.b, byte(15<<4|kind)), uint64(n))
}
