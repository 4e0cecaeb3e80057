package postings

import (
	"encoding/binary"
	"hash/crc32"
)

// The first byte of a page is its kind. Its last four bytes are a checksum of what is before them.
const (
	pageDirectory = 'D'
	pageKeys      = 'K'
	pageTokens    = 'T'
	pageChunk     = 'C'

	checksumBytes = 4
	// pageBytes is about how long a page of tokens or of a chunk is.
	pageBytes = 8 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the checksum.
func seal(page []byte) []byte {
	return binary.LittleEndian.AppendUint32(page, crc32.Checksum(page, castagnoli))
}

// sealed reports whether a page is as seal returned it.
func sealed(page []byte) bool {
	end := len(page) - checksumBytes
	return end > 0 && binary.LittleEndian.Uint32(page[end:]) == crc32.Checksum(page[:end], castagnoli)
}

// restartEvery is after how many entries of a table one has its token as a whole.
const restartEvery = 16

// tableWriter writes a table: values by tokens in rising order.
type tableWriter struct {
	data     []byte
	restarts []byte
	entries  int
}

// add appends an entry. shared is how many bytes of the token the one before has too. kind is below 4.
func (t *tableWriter) add(token []byte, shared int, kind byte, value []byte) {
	if t.entries%restartEvery == 0 {
		t.restarts = binary.LittleEndian.AppendUint32(t.restarts, uint32(len(t.data)))
		shared = 0
	}
	data := binary.AppendUvarint(t.data, uint64(shared))
	data = binary.AppendUvarint(data, uint64(len(token)-shared))
	data = append(data, token[shared:]...)
	data = binary.AppendUvarint(data, uint64(len(value))<<2|uint64(kind))
	t.data = append(data, value...)
	t.entries++
}

// appendTo appends the table to a page and empties it.
func (t *tableWriter) appendTo(page []byte) []byte {
	page = append(append(page, t.data...), t.restarts...)
	page = binary.LittleEndian.AppendUint32(page, uint32(len(t.restarts)/4))
	t.data, t.restarts, t.entries = t.data[:0], t.restarts[:0], 0
	return page
}

// table is a table that a tableWriter wrote.
type table struct{ data, restarts []byte }

func parseTable(b []byte) (t table, ok bool) {
	if len(b) < 4 {
		return table{}, false
	}
	end := len(b) - 4
	n := uint64(binary.LittleEndian.Uint32(b[end:]))
	if n == 0 || n*4 > uint64(end) {
		return table{}, false
	}
	from := end - int(n)*4
	return table{b[:from], b[from:end]}, true
}

// restart returns the offset of an entry that has its token as a whole.
func (t table) restart(i int) uint64 { return uint64(binary.LittleEndian.Uint32(t.restarts[4*i:])) }

// tableCursor reads the entries of a table one after the other.
type tableCursor struct {
	rest    []byte // what is left of the table
	token   []byte // of the current entry; next overwrites it
	shared  int    // how many bytes of the token the entry before has too
	kind    byte
	value   []byte
	damaged bool
}

// next reads the next entry. It returns false at the end, and if the entry is damaged.
func (c *tableCursor) next() bool {
	if len(c.rest) == 0 {
		return false
	}
	shared, rest := uvarint(c.rest)
	length, rest := uvarint(rest)
	if shared > uint64(len(c.token)) || length > uint64(len(rest)) {
		return c.fail()
	}
	more := rest[:length]
	head, rest := uvarint(rest[length:])
	if head>>2 > uint64(len(rest)) || rest == nil {
		return c.fail()
	}
	c.shared = int(shared)
	if shared == 0 {
		c.shared = commonPrefix(c.token, more)
	}
	fresh := more[c.shared-int(shared):]
	// Tokens rise, and no more bytes are the same.
	if len(fresh) == 0 || c.shared < len(c.token) && fresh[0] <= c.token[c.shared] {
		return c.fail()
	}
	c.token = append(c.token[:c.shared], fresh...)
	c.kind = byte(head & 3)
	c.value, c.rest = rest[:head>>2], rest[head>>2:]
	return true
}

func (c *tableCursor) fail() bool {
	c.damaged, c.rest = true, nil
	return false
}

// seek continues with the last entry that has its token as a whole and that is not after the
// token. All entries of the table before it have lower tokens. It is the first entry if all are
// after the token.
func (c *tableCursor) seek(t table, token string) {
	from, to := 0, len(t.restarts)/4 // the entry is in from ≤ i < to
	for to-from > 1 {
		middle := (from + to) / 2
		shared, rest := uvarint(t.from(middle))
		length, rest := uvarint(rest)
		if shared > 0 || length > uint64(len(rest)) {
			c.fail()
			return
		}
		if string(rest[:length]) <= token {
			from = middle
		} else {
			to = middle
		}
	}
	c.rest, c.token = t.from(from), c.token[:0]
	c.damaged = c.rest == nil
}

// from returns the table from a restart on, nil if it is damaged.
func (t table) from(restart int) []byte {
	if at := t.restart(restart); at < uint64(len(t.data)) {
		return t.data[at:]
	}
	return nil
}
