package parquet

import "hash/crc32"

// Names of the format's numbers, and ids of its fields, are those of
// https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
const (
	physicalInt64     = 2
	physicalByteArray = 6

	required = 0
	optional = 1
	repeated = 2

	convertedUTF8            = 0
	convertedList            = 3
	convertedTimestampMillis = 9

	logicalString    = 1
	logicalList      = 3
	logicalTimestamp = 8

	encodingPlain = 0
	encodingRLE   = 3

	codecZstd = 6

	dataPage = 0
)

// createdBy names who wrote a file, in the form that readers parse.
const createdBy = "ocelot version 1.0.0"

// chunk is where the page of a column is in the file.
type chunk struct {
	column                   *column
	offset                   int64
	compressed, uncompressed int64 // bytes, with the page's header
}

// rowGroup describes a row group.
type rowGroup struct {
	offset                   int64
	rows                     int64
	ordinal                  int
	chunks                   thrift
	compressed, uncompressed int64
	columns                  int
}

// add describes a column of the row group.
func (g *rowGroup) add(c *chunk) {
	g.columns++
	g.compressed += c.compressed
	g.uncompressed += c.uncompressed
	t := &g.chunks
	t.element(func() {
		t.i64(2, 0) // a position that the format has no use for any more
		t.structure(3, func() { c.describe(t) })
	})
}

// describe adds the fields of ColumnMetaData.
func (c *chunk) describe(t *thrift) {
	t.i32(1, int64(c.column.physical()))
	t.list(2, thriftI32, 2)
	t.b = append(t.b, encodingPlain<<1, encodingRLE<<1)
	path := c.column.path()
	t.list(3, thriftBinary, len(path))
	for _, name := range path {
		t.bytes([]byte(name))
	}
	t.i32(4, codecZstd)
	t.i64(5, int64(c.column.levels))
	t.i64(6, c.uncompressed)
	t.i64(7, c.compressed)
	t.i64(9, c.offset)
	t.structure(12, func() {
		t.i64(3, c.column.nulls)
		if b := &c.column.bounds; b.low != nil {
			t.text(5, b.high)
			t.text(6, b.low)
		}
	})
}

// append appends the row group as an element of the file's list.
func (g *rowGroup) append(dst []byte) []byte {
	t := thrift{b: dst}
	t.element(func() {
		t.list(1, thriftStruct, g.columns)
		t.b = append(t.b, g.chunks.b...)
		t.i64(2, g.uncompressed)
		t.i64(3, g.rows)
		t.i64(5, g.offset)
		t.i64(6, g.compressed)
		t.i16(7, int64(g.ordinal))
	})
	return t.b
}

// appendPageHeader appends what precedes the packed content of a page.
func appendPageHeader(dst []byte, levels, size int, packed []byte) []byte {
	t := thrift{b: dst}
	t.element(func() {
		t.i32(1, dataPage)
		t.i32(2, int64(size))
		t.i32(3, int64(len(packed)))
		t.i32(4, int64(int32(crc32.ChecksumIEEE(packed))))
		t.structure(5, func() {
			t.i32(1, int64(levels))
			t.i32(2, encodingPlain)
			t.i32(3, encodingRLE)
			t.i32(4, encodingRLE)
		})
	})
	return t.b
}

// appendFooter appends the description of the file.
func appendFooter(dst []byte, columns []column, s *State) []byte {
	t := thrift{b: dst}
	t.element(func() {
		t.i32(1, 1) // the version of the format
		appendSchema(&t, columns)
		t.i64(3, s.Rows)
		t.list(4, thriftStruct, s.Groups)
		t.b = append(t.b, s.Metadata...)
		t.text(6, []byte(createdBy))
		t.list(7, thriftStruct, len(columns))
		for range columns {
			t.element(func() { t.structure(1, func() {}) }) // bounds have the order of their type
		}
	})
	return t.b
}

// appendSchema appends the columns as a tree, in the order of a walk that visits parents first.
func appendSchema(t *thrift, columns []column) {
	n := 1
	for i := range columns {
		n += len(columns[i].path())
	}
	t.list(2, thriftStruct, n)
	t.element(func() {
		t.text(4, []byte("schema"))
		t.i32(5, int64(len(columns)))
	})
	for i := range columns {
		columns[i].appendSchema(t)
	}
}

func (c *column) appendSchema(t *thrift) {
	switch c.Type {
	case Texts:
		group(t, optional, c.Name, true)
		group(t, repeated, listName, false)
		leaf(t, Text, required, elementName)
	default:
		leaf(t, c.Type, optional, c.Name)
	}
}

// The names below a list are the ones that the format asks for.
const (
	listName    = "list"
	elementName = "element"
)

// path returns the names from the root of the tree to the column's values.
func (c *column) path() []string {
	if c.Type == Texts {
		return []string{c.Name, listName, elementName}
	}
	return []string{c.Name}
}

func (c *column) physical() int { return physical(c.Type) }

func physical(of Type) int {
	if of == Integer || of == Timestamp {
		return physicalInt64
	}
	return physicalByteArray
}

// group adds a node that has one other below it.
func group(t *thrift, repetition int64, name string, isList bool) {
	t.element(func() {
		t.i32(3, repetition)
		t.text(4, []byte(name))
		t.i32(5, 1)
		if isList {
			t.i32(6, convertedList)
			t.structure(10, func() { t.structure(logicalList, func() {}) })
		}
	})
}

// leaf adds a node that has values.
func leaf(t *thrift, of Type, repetition int64, name string) {
	t.element(func() {
		t.i32(1, int64(physical(of)))
		t.i32(3, repetition)
		t.text(4, []byte(name))
		switch of {
		case Text, Texts:
			t.i32(6, convertedUTF8)
			t.structure(10, func() { t.structure(logicalString, func() {}) })
		case Timestamp:
			t.i32(6, convertedTimestampMillis)
			t.structure(10, func() { t.structure(logicalTimestamp, func() { timestampUnit(t) }) })
		}
	})
}

// timestampUnit adds that times are UTC, in milliseconds.
func timestampUnit(t *thrift) {
	t.isTrue(1)
	t.structure(2, func() { t.structure(1, func() {}) })
}
