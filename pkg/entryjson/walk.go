package entryjson

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
)

// The functions of this file traverse text that a decoder has checked and that compact
// has stripped of white space. They find the end of a value by its brackets and quotes
// alone. They return errMalformed for other text.

var errMalformed = errors.New("entryjson: object is not compact JSON")

// MaxLeafPath is the length of the longest dotted path, in bytes, that can be searched
// or that Changed returns.
const MaxLeafPath = 1024

// compact appends raw, which must be valid JSON, without insignificant white space. It
// also returns the number of levels of nesting.
func compact(dst, raw []byte) (compacted []byte, levels int) {
	depth, start := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			levels = max(levels, depth)
		case '}', ']':
			depth--
		case ' ', '\n', '\t', '\r':
			dst = append(dst, raw[start:i]...)
			start = i + 1
		}
	}
	return append(dst, raw[start:]...), levels
}

// valueEnd returns the index after the value that begins at i.
func valueEnd(text []byte, i int) (int, error) {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			end, err := stringEnd(text, i)
			if err != nil {
				return 0, err
			}
			i = end
			if depth == 0 {
				return i, nil
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i, nil // the end of a number or literal
			}
			if depth--; depth == 0 {
				return i + 1, nil
			}
		case ',':
			if depth == 0 {
				return i, nil
			}
		}
		i++
	}
	if depth > 0 {
		return 0, errMalformed
	}
	return i, nil
}

// stringEnd returns the index after the string that begins at i.
func stringEnd(text []byte, i int) (int, error) {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i + 1, nil
		case '\\':
			i++ // the escaped character
		}
	}
	return 0, errMalformed
}

// eachMember calls visit with the raw name (in quotes) and the raw value of
// each member of an object.
func eachMember(object []byte, visit func(name, value []byte) error) error {
	if len(object) < 2 || object[0] != '{' {
		return errMalformed
	}
	for i := 1; object[i] != '}'; {
		nameEnd, err := stringEnd(object, i)
		if err != nil {
			return err
		}
		if nameEnd >= len(object) || object[nameEnd] != ':' {
			return errMalformed
		}
		end, err := valueEnd(object, nameEnd+1)
		if err != nil {
			return err
		}
		if err := visit(object[i:nameEnd], object[nameEnd+1:end]); err != nil {
			return err
		}
		if i = end; i >= len(object) {
			return errMalformed
		}
		if object[i] == ',' {
			i++
		}
		if i >= len(object) {
			return errMalformed
		}
	}
	return nil
}

// eachElement calls visit with each raw element of an array.
func eachElement(array []byte, visit func(value []byte) error) error {
	if len(array) < 2 || array[0] != '[' {
		return errMalformed
	}
	for i := 1; array[i] != ']'; {
		end, err := valueEnd(array, i)
		if err != nil {
			return err
		}
		if err := visit(array[i:end]); err != nil {
			return err
		}
		if i = end; i >= len(array) {
			return errMalformed
		}
		if array[i] == ',' {
			i++
		}
		if i >= len(array) {
			return errMalformed
		}
	}
	return nil
}

// appendUnquoted appends the content of a raw string.
func appendUnquoted(dst, raw []byte) ([]byte, error) {
	if len(raw) < 2 {
		return nil, errMalformed
	}
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return append(dst, inner...), nil
	}
	return jsontext.AppendUnquote(dst, raw)
}

// Leaf is a scalar in an object.
type Leaf struct {
	// Path is the dotted path. An element of an array has the path of the array.
	Path string
	// Value is a string's content, a number in the form of decimal.Canonical, or the text of
	// true, false or null.
	Value              string
	IsString, IsNumber bool
}

// Leaves calls visit with every scalar leaf of the object, in the order of the text. It skips a
// leaf whose path is longer than MaxLeafPath.
func Leaves(object audit.Object, visit func(Leaf)) error {
	if len(object) == 0 {
		return nil
	}
	w := leafWalk{visit: visit}
	return eachMember(object, w.member)
}

// MaxAncestors is the number of paths that Ancestors yields at most.
const MaxAncestors = audit.MaxDepth

// Ancestors yields the beginnings of a dotted path that end before a dot, the shortest first.
func Ancestors(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		n := 0
		for i := range len(path) {
			if path[i] != '.' {
				continue
			}
			if n++; n > MaxAncestors || !yield(path[:i]) {
				return
			}
		}
	}
}

type leafWalk struct {
	path    []byte
	scratch []byte
	visit   func(Leaf)
}

func (w *leafWalk) value(raw []byte) error {
	if len(raw) == 0 {
		return errMalformed
	}
	switch kindOf(raw) {
	case '{':
		return eachMember(raw, w.member)
	case '[':
		return eachElement(raw, w.value)
	case '"':
		var err error
		if w.scratch, err = appendUnquoted(w.scratch[:0], raw); err != nil {
			return err
		}
		w.visit(Leaf{Path: string(w.path), Value: string(w.scratch), IsString: true})
	case '0':
		w.visit(Leaf{Path: string(w.path), Value: decimal.Canonical(string(raw)), IsNumber: true})
	default:
		w.visit(Leaf{Path: string(w.path), Value: string(raw)})
	}
	return nil
}

func (w *leafWalk) member(name, value []byte) error {
	length := len(w.path)
	defer func() { w.path = w.path[:length] }()
	var err error
	if w.path, err = appendPath(w.path, name); err != nil {
		return err
	}
	if len(w.path) > MaxLeafPath {
		return nil
	}
	return w.value(value)
}

// appendPath appends a raw name to a dotted path.
func appendPath(path, name []byte) ([]byte, error) {
	if len(path) > 0 {
		path = append(path, '.')
	}
	return appendUnquoted(path, name)
}

// maxChanged and maxChangedBytes bound an entry's changed paths. If there are more,
// Changed returns only top-level names, which the size of the entry bounds.
const (
	maxChanged      = 1000
	maxChangedBytes = 64 << 10
)

// Changed returns the dotted paths at which two objects differ, sorted and unique. It
// compares objects member by member and other values as a whole. It ignores the order
// of members and the spelling of strings, but not the spelling of numbers. An absent
// object counts as empty. Changed returns only top-level names if there are more than
// 1,000 paths or 64 KiB of them, or if a path is longer than MaxLeafPath.
func Changed(before, after audit.Object) ([]string, error) {
	if len(before) == 0 && len(after) == 0 {
		return nil, nil
	}
	d := differences.Get().(*difference)
	defer d.release()
	err := d.objects(orEmpty(before), orEmpty(after))
	if errors.Is(err, errTooMany) {
		d.topOnly, d.path, d.paths, d.size = true, nil, nil, 0
		err = d.objects(orEmpty(before), orEmpty(after))
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(d.paths)
	return slices.Compact(d.paths), nil
}

// differences are comparisons that Changed uses again, with their memory.
var differences = sync.Pool{New: func() any { return new(difference) }}

// maxPooledMembers is the most members of a comparison that is used again.
const maxPooledMembers = 1 << 10

// release lets go of the objects.
func (d *difference) release() {
	if members := d.members[:cap(d.members)]; len(members) <= maxPooledMembers {
		clear(members)
		*d = difference{members: members[:0], path: d.path[:0]}
		differences.Put(d)
	}
}

var errTooMany = errors.New("entryjson: too many changed paths")

func orEmpty(o audit.Object) []byte {
	if len(o) == 0 {
		return []byte("{}")
	}
	return o
}

type difference struct {
	topOnly bool
	path    []byte
	paths   []string
	size    int
	members []rawMember // of the objects in comparison; those of the innermost are the last
}

// rawMember is a member in the spelling of the text.
type rawMember struct {
	quote []byte // the name in quotes
	value []byte
}

func (d *difference) objects(before, after []byte) error {
	if bytes.Equal(before, after) {
		return nil
	}
	outer := len(d.members)
	defer func() { d.members = d.members[:outer] }()
	old, err := d.read(before)
	if err != nil {
		return err
	}
	current, err := d.read(after)
	if err != nil {
		return err
	}
	if !sameNames(old, current) {
		return d.reordered(old, current)
	}
	for i := range current {
		if err := d.member(current[i], old[i].value); err != nil {
			return err
		}
	}
	return nil
}

// read returns the members of an object. They are valid until its comparison ends.
func (d *difference) read(object []byte) ([]rawMember, error) {
	first := len(d.members)
	err := eachMember(object, func(name, value []byte) error {
		d.members = append(d.members, rawMember{quote: name, value: value})
		return nil
	})
	return d.members[first:len(d.members):len(d.members)], err
}

// sameNames reports whether a and b have the same names in the same spelling and order.
// That is the usual case, because one program writes both objects.
func sameNames(a, b []rawMember) bool {
	return slices.EqualFunc(a, b, func(x, y rawMember) bool { return bytes.Equal(x.quote, y.quote) })
}

// reordered compares members by their names.
func (d *difference) reordered(old, current []rawMember) error {
	byName := make(map[string][]byte, len(old))
	var scratch []byte
	for _, m := range old {
		var err error
		if scratch, err = appendUnquoted(scratch[:0], m.quote); err != nil {
			return err
		}
		byName[string(scratch)] = m.value
	}
	for _, m := range current {
		var err error
		if scratch, err = appendUnquoted(scratch[:0], m.quote); err != nil {
			return err
		}
		was := byName[string(scratch)]
		delete(byName, string(scratch))
		if err := d.member(m, was); err != nil {
			return err
		}
	}
	for _, m := range old {
		var err error
		if scratch, err = appendUnquoted(scratch[:0], m.quote); err != nil {
			return err
		}
		if was, removed := byName[string(scratch)]; removed {
			if err := d.member(rawMember{quote: m.quote}, was); err != nil {
				return err
			}
		}
	}
	return nil
}

// member compares one member with its earlier value. nil means absent.
func (d *difference) member(m rawMember, was []byte) error {
	if bytes.Equal(m.value, was) {
		return nil
	}
	length := len(d.path)
	defer func() { d.path = d.path[:length] }()
	var err error
	if d.path, err = appendPath(d.path, m.quote); err != nil {
		return err
	}
	bothObjects := len(m.value) > 0 && m.value[0] == '{' && len(was) > 0 && was[0] == '{'
	if bothObjects && !d.topOnly {
		return d.objects(was, m.value)
	}
	if len(m.value) > 0 && len(was) > 0 && kindOf(m.value) == kindOf(was) {
		same, err := sameValue(was, m.value)
		if err != nil || same {
			return err
		}
	}
	d.size += len(d.path)
	if !d.topOnly && (len(d.path) > MaxLeafPath || len(d.paths) >= maxChanged || d.size > maxChangedBytes) {
		return errTooMany
	}
	d.paths = append(d.paths, string(d.path))
	return nil
}

// kindOf returns the first byte of a value, '0' for every number.
func kindOf(raw []byte) byte {
	if c := raw[0]; c != '-' && (c < '0' || c > '9') {
		return c
	}
	return '0'
}

// sameValue compares two values of the same kind by their normal forms.
func sameValue(a, b []byte) (bool, error) {
	normalA, err := normalForm(a)
	if err != nil {
		return false, err
	}
	normalB, err := normalForm(b)
	if err != nil {
		return false, err
	}
	return bytes.Equal(normalA, normalB), nil
}

// normalForm returns raw with sorted members, and with one spelling of each string and number.
func normalForm(raw []byte) ([]byte, error) {
	sorted, err := jsontext.AppendFormat(nil, raw, jsontext.ReorderRawObjects(true))
	if err != nil {
		return nil, err
	}
	return canonicalNumbers(sorted)
}

// canonicalNumbers returns compact text with each number in the form of decimal.Canonical.
func canonicalNumbers(text []byte) ([]byte, error) {
	canonical := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		end := i + 1
		switch c := text[i]; {
		case c == '"':
			var err error
			if end, err = stringEnd(text, i); err != nil {
				return nil, err
			}
		case kindOf(text[i:]) == '0':
			for end < len(text) && bytes.IndexByte([]byte(",]}"), text[end]) < 0 {
				end++
			}
			canonical = append(canonical, decimal.Canonical(string(text[i:end]))...)
			i = end
			continue
		}
		canonical = append(canonical, text[i:end]...)
		i = end
	}
	return canonical, nil
}
