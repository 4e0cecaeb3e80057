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

// Value is a value in an object. Its slices are valid only during the call that gets it.
type Value struct {
	// Pointer is its JSON pointer.
	Pointer []byte
	// Text is its JSON text.
	Text []byte
}

// IsString reports whether the value is a string.
func (v Value) IsString() bool { return v.Text[0] == '"' }

// IsNumber reports whether the value is a number.
func (v Value) IsNumber() bool { return kindOf(v.Text) == '0' }

// Content returns the content of a string.
func (v Value) Content() (string, error) {
	content, err := appendUnquoted(nil, v.Text)
	return string(content), err
}

// Replacer replaces values of an object. A walk has a state S, which Enter derives from
// the names on the way to a value. The elements of an array have the state of the array.
type Replacer[S any] struct {
	// Enter returns the state of the member with this name of an object that has the state s.
	Enter func(s S, name []byte) S
	// Wants reports whether Replace gets a value, by its first byte. It is asked for objects and
	// arrays before their elements.
	Wants func(s S, first byte) bool
	// Replace returns the JSON text to put in the place of a value, or false to leave it. The elements
	// of an object or array that it leaves are visited.
	Replace func(s S, v Value) (text []byte, replaced bool)
}

// Scalar is a string, number, boolean or null in an object.
type Scalar struct {
	Value
	// Name is the content of the name that it stands under. An element of an array stands under the
	// name of the array.
	Name []byte
}

// ReplaceScalars is Replacer.Object for scalars, whatever the way to them. It puts strings with the
// returned content in their places.
func ReplaceScalars(object audit.Object, pointer string, replace func(Scalar) (content string, replaced bool)) (audit.Object, error) {
	r := Replacer[[]byte]{
		Enter: func(_, name []byte) []byte { return name },
		Wants: func(_ []byte, first byte) bool { return first != '{' && first != '[' },
		Replace: func(name []byte, v Value) ([]byte, bool) {
			content, replaced := replace(Scalar{Value: v, Name: name})
			if !replaced {
				return nil, false
			}
			return Quote(content), true
		},
	}
	return r.Object(object, pointer, nil)
}

// Object returns the object with other values, which it visits in the order of the text. pointer is
// the JSON pointer of the object, and s its state. The object itself is not replaced. An object in
// which nothing is replaced is returned as it is. Object reads each byte once, and again for each
// object or array around it that Wants accepts.
func (r *Replacer[S]) Object(object audit.Object, pointer string, s S) (audit.Object, error) {
	if len(object) == 0 {
		return object, nil
	}
	if object[0] != '{' {
		return nil, errMalformed
	}
	w := replacement[S]{Replacer: r, text: object, pointer: []byte(pointer)}
	if end, err := w.object(0, s); err != nil {
		return nil, err
	} else if end != len(object) {
		return nil, errMalformed
	}
	if w.done == 0 {
		return object, nil
	}
	return append(w.out, object[w.done:]...), nil
}

// replacement is one walk through an object. Its depth is that of the object, which audit.MaxDepth
// limits.
type replacement[S any] struct {
	*Replacer[S]

	text    []byte
	pointer []byte // of the value that is read
	out     []byte // takes the place of text[:done]
	done    int
}

// value reads the value at i. It returns the index after it.
func (r *replacement[S]) value(i int, s S) (int, error) {
	if i >= len(r.text) {
		return 0, errMalformed
	}
	first := r.text[i]
	isScalar, wanted := first != '{' && first != '[', r.Wants(s, first)
	if isScalar || wanted {
		end, err := valueEnd(r.text, i)
		if err != nil || end == i {
			return 0, errMalformed
		}
		if wanted && r.replaceValue(i, end, s) || isScalar {
			return end, nil
		}
	}
	if first == '{' {
		return r.object(i, s)
	}
	return r.array(i, s)
}

// replaceValue replaces the value of text[start:end]. It reports false if the value stays.
func (r *replacement[S]) replaceValue(start, end int, s S) bool {
	text, replaced := r.Replace(s, Value{Pointer: r.pointer, Text: r.text[start:end]})
	if !replaced {
		return false
	}
	r.out = append(append(r.out, r.text[r.done:start]...), text...)
	r.done = end
	return true
}

// Quote returns a text as a JSON string. It replaces bytes that are not UTF-8.
func Quote(text string) []byte {
	quoted, _ := jsontext.AppendQuote(nil, text) // the error is about such bytes
	return quoted
}

// QuotedLen returns the length of a text as a JSON string, without its quotes.
func QuotedLen[T string | []byte](text T) int {
	n := len(text)
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			n++
		case c < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
}

// PutValues returns the object with the JSON texts in values at their JSON pointers, where it must
// have strings. It removes from values what it has put. pointer is that of the object.
func PutValues(object audit.Object, pointer string, values map[string][]byte) (audit.Object, error) {
	r := Replacer[struct{}]{
		Enter: func(s struct{}, _ []byte) struct{} { return s },
		Wants: func(_ struct{}, first byte) bool { return first == '"' }, // a mask is a string
		Replace: func(_ struct{}, v Value) ([]byte, bool) {
			text, has := values[string(v.Pointer)]
			delete(values, string(v.Pointer))
			return text, has
		},
	}
	return r.Object(object, pointer, struct{}{})
}

func (r *replacement[S]) object(i int, s S) (int, error) {
	length := len(r.pointer)
	defer func() { r.pointer = r.pointer[:length] }()
	return r.elements(i, '}', func(i int) (int, error) {
		end, err := stringEnd(r.text, i)
		if err != nil || r.text[i] != '"' || end >= len(r.text) || r.text[end] != ':' {
			return 0, errMalformed
		}
		// A name of its own for each member: those of the objects around it are still in use.
		name := r.text[i+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = appendUnquoted(nil, r.text[i:end]); err != nil {
				return 0, errMalformed
			}
		}
		r.pointer = appendPointer(r.pointer[:length], name)
		return r.value(end+1, r.Enter(s, name))
	})
}

func (r *replacement[S]) array(i int, s S) (int, error) {
	length := len(r.pointer)
	defer func() { r.pointer = r.pointer[:length] }()
	n := int64(-1)
	return r.elements(i, ']', func(i int) (int, error) {
		n++
		r.pointer = strconv.AppendInt(append(r.pointer[:length], '/'), n, 10)
		return r.value(i, s)
	})
}

// elements reads the elements of the object or array at i, whose last byte is last. read gets the
// index of each element and returns the index after it, as elements does for all of them.
func (r *replacement[S]) elements(i int, last byte, read func(i int) (int, error)) (int, error) {
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
