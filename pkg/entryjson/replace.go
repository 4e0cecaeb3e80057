package entryjson

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MayHaveName reports whether match accepts the name of a member of the object, at any depth. match
// gets the content of each name, which is valid only during the call. It also gets parts of strings
// that look like a name, so that true is certain only after a walk. MayHaveName looks at the ends of
// names alone, because nearly every entry is without the names that are looked for.
func MayHaveName(object audit.Object, match func(name []byte) bool) bool {
	escaped := bytes.IndexByte(object, '\\') >= 0
	for i := 0; ; i++ {
		colon := bytes.IndexByte(object[i:], ':')
		if colon < 0 {
			return false
		}
		if i += colon; i < 2 || object[i-1] != '"' {
			continue // within a string
		}
		start := i - 1
		for start > 0 && object[start-1] != '"' {
			start--
		}
		name := object[start : i-1]
		if escaped && bytes.IndexByte(name, '\\') >= 0 {
			plain, err := appendUnquoted(nil, object[max(start-1, 0):i])
			if err != nil {
				continue // within a string
			}
			name = plain
		}
		if match(name) {
			return true
		}
	}
}

// Scalar is a string, number, boolean or null in an object. Its slices are valid only during the
// call that gets it.
type Scalar struct {
	// Pointer is its JSON pointer.
	Pointer []byte
	// Name is the content of the name that it stands under. An element of an array stands under the
	// name of the array.
	Name []byte
	// Text is its JSON text.
	Text []byte
}

// IsString reports whether the scalar is a string.
func (s Scalar) IsString() bool { return s.Text[0] == '"' }

// IsNumber reports whether the scalar is a number.
func (s Scalar) IsNumber() bool { return kindOf(s.Text) == '0' }

// Content returns the content of a string.
func (s Scalar) Content() (string, error) {
	content, err := appendUnquoted(nil, s.Text)
	return string(content), err
}

// ReplaceScalars returns the object with other scalars. replace gets each scalar in the order of the
// text. It returns the content of the string to put in its place, or false to leave it. pointer is
// the JSON pointer of the object. An object in which nothing is replaced is returned as it is.
// ReplaceScalars reads each byte once.
func ReplaceScalars(object audit.Object, pointer string, replace func(Scalar) (content string, replaced bool)) (audit.Object, error) {
	if len(object) == 0 {
		return object, nil
	}
	r := replacement{text: object, pointer: []byte(pointer), replace: replace}
	if end, err := r.value(0); err != nil {
		return nil, err
	} else if end != len(object) {
		return nil, errMalformed
	}
	if r.done == 0 {
		return object, nil
	}
	return append(r.out, object[r.done:]...), nil
}

// replacement is one walk through an object. Its depth is that of the object, which audit.MaxDepth
// limits.
type replacement struct {
	text    []byte
	pointer []byte // of the value that is read
	name    []byte // of the innermost member
	replace func(Scalar) (string, bool)
	out     []byte // takes the place of text[:done]
	done    int
}

// value reads the value at i. It returns the index after it.
func (r *replacement) value(i int) (int, error) {
	if i >= len(r.text) {
		return 0, errMalformed
	}
	switch r.text[i] {
	case '{':
		return r.object(i)
	case '[':
		return r.array(i)
	}
	end, err := valueEnd(r.text, i)
	if err != nil || end == i {
		return 0, errMalformed
	}
	content, replaced := r.replace(Scalar{Pointer: r.pointer, Name: r.name, Text: r.text[i:end]})
	if !replaced {
		return end, nil
	}
	r.out = append(r.out, r.text[r.done:i]...)
	r.done = end
	r.out, err = jsontext.AppendQuote(r.out, content)
	return end, err
}

func (r *replacement) object(i int) (int, error) {
	name, length := r.name, len(r.pointer)
	defer func() { r.name, r.pointer = name, r.pointer[:length] }()
	return r.elements(i, '}', func(i int) (int, error) {
		end, err := stringEnd(r.text, i)
		if err != nil || r.text[i] != '"' || end >= len(r.text) || r.text[end] != ':' {
			return 0, errMalformed
		}
		// A name of its own for each member: those of the objects around it are still in use.
		if r.name = r.text[i+1 : end-1]; bytes.IndexByte(r.name, '\\') >= 0 {
			if r.name, err = appendUnquoted(nil, r.text[i:end]); err != nil {
				return 0, errMalformed
			}
		}
		r.pointer = appendPointer(r.pointer[:length], r.name)
		return r.value(end + 1)
	})
}

func (r *replacement) array(i int) (int, error) {
	length := len(r.pointer)
	defer func() { r.pointer = r.pointer[:length] }()
	n := int64(-1)
	return r.elements(i, ']', func(i int) (int, error) {
		n++
		r.pointer = strconv.AppendInt(append(r.pointer[:length], '/'), n, 10)
		return r.value(i)
	})
}

// elements reads the elements of the object or array at i, whose last byte is last. read gets the
// index of each element and returns the index after it, as elements does for all of them.
func (r *replacement) elements(i int, last byte, read func(i int) (int, error)) (int, error) {
	for i++; i < len(r.text) && r.text[i] != last; {
		var err error
		if i, err = read(i); err != nil {
			return 0, err
		}
		if i < len(r.text) && r.text[i] == ',' {
			i++
		}
	}
	if i >= len(r.text) {
		return 0, errMalformed
	}
	return i + 1, nil
}

// appendPointer appends a name to a JSON pointer, escaped as RFC 6901 says.
func appendPointer(pointer, name []byte) []byte {
	pointer = append(pointer, '/')
	for _, c := range name {
		switch c {
		case '~':
			pointer = append(pointer, "~0"...)
		case '/':
			pointer = append(pointer, "~1"...)
		default:
			pointer = append(pointer, c)
		}
	}
	return pointer
}
