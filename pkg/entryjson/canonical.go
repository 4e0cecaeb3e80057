package entryjson

import (
	"bytes"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// canonical writes texts that are the same for objects that are equal as JSON but for the spelling
// of numbers: members are ordered by name, and a string has one spelling. It reads an object once.
// Its depth is that of the object, which audit.MaxDepth limits.
type canonical struct {
	text, out []byte
	spans     []span // the members of the open objects; those of the innermost are the last
	spare     []byte
}

// canonicals keeps buffers for later digests.
var canonicals = sync.Pool{New: func() any { return new(canonical) }}

// maxKept is the largest buffer that is kept, in bytes. Few entries need a larger one.
const maxKept = 64 << 10

// free gives the buffers back.
func (c *canonical) free() {
	c.text = nil
	if cap(c.out)+cap(c.spare) <= maxKept && cap(c.spans) <= maxKept/64 {
		canonicals.Put(c)
	}
}

// append appends an object that comes from compact. One that is not JSON is appended as it is.
func (c *canonical) append(o audit.Object) {
	if len(o) == 0 {
		return
	}
	start := len(c.out)
	c.text, c.spans = o, c.spans[:0]
	if end, ok := c.value(0); !ok || end != len(o) {
		c.out = append(c.out[:start], o...)
	}
}

// span is where a member and its name stand in the output.
type span struct{ start, nameEnd, end int }

// value writes the value at i. It returns the index after it, and false if it is not JSON.
func (c *canonical) value(i int) (int, bool) {
	if i >= len(c.text) {
		return i, false
	}
	switch c.text[i] {
	case '{':
		return c.object(i)
	case '[':
		return c.array(i)
	case '"':
		return c.string(i)
	}
	end, err := valueEnd(c.text, i)
	c.out = append(c.out, c.text[i:end]...)
	return end, err == nil && end > i
}

func (c *canonical) string(i int) (int, bool) {
	end, err := stringEnd(c.text, i)
	if err != nil {
		return i, false
	}
	raw := c.text[i:end]
	if bytes.IndexByte(raw, '\\') < 0 {
		c.out = append(c.out, raw...)
		return end, true
	}
	plain, err := appendUnquoted(c.spare[:0], raw)
	if err != nil {
		return i, false
	}
	c.spare = plain
	c.out, err = jsontext.AppendQuote(c.out, plain)
	return end, err == nil
}

func (c *canonical) array(i int) (int, bool) {
	c.out = append(c.out, '[')
	for i++; i < len(c.text) && c.text[i] != ']'; {
		var ok bool
		if i, ok = c.value(i); !ok || i >= len(c.text) {
			return i, false
		}
		if c.text[i] == ',' {
			c.out = append(c.out, ',')
			i++
		}
	}
	c.out = append(c.out, ']')
	return i + 1, i < len(c.text)
}

func (c *canonical) object(i int) (int, bool) {
	outer := len(c.spans)
	c.out = append(c.out, '{')
	for i++; i < len(c.text) && c.text[i] != '}'; {
		s := span{start: len(c.out)}
		var ok bool
		if i, ok = c.string(i); !ok || i >= len(c.text) || c.text[i] != ':' {
			return i, false
		}
		s.nameEnd = len(c.out)
		c.out = append(c.out, ':')
		if i, ok = c.value(i + 1); !ok || i >= len(c.text) {
			return i, false
		}
		if c.text[i] == ',' {
			i++
		}
		c.out = append(c.out, ',')
		s.end = len(c.out)
		c.spans = append(c.spans, s)
	}
	c.order(c.spans[outer:])
	c.spans = c.spans[:outer]
	c.out = append(c.out, '}')
	return i + 1, i < len(c.text)
}

// order puts the members, which are the end of the output, into the order of their names.
func (c *canonical) order(members []span) {
	byName := func(a, b span) int { return bytes.Compare(c.out[a.start:a.nameEnd], c.out[b.start:b.nameEnd]) }
	if slices.IsSortedFunc(members, byName) {
		return
	}
	first := members[0].start
	slices.SortFunc(members, byName)
	c.spare = c.spare[:0]
	for _, m := range members {
		c.spare = append(c.spare, c.out[m.start:m.end]...)
	}
	copy(c.out[first:], c.spare)
}
