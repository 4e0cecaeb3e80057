package entryjson

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Exported is what an entry that a service answered says of itself. See Submitted.ChangedPaths.
type Exported struct {
	hides   bool   // it names places whose values are not shown
	changed []byte // the member of this name as compact JSON; nil: it has none
}

// serviceField reads one of the members that only a service sets.
func (p *submission) serviceField(name string, raw jsontext.Value) {
	hides := slices.Contains(hidingFields, name)
	if raw.Kind() != jsontext.KindBeginArray || !hides && name != nameChanged {
		return
	}
	if p.exported == nil {
		p.exported = new(Exported)
	}
	if hides {
		p.exported.hides = true
		return
	}
	p.exported.changed, _ = compact(make([]byte, 0, len(raw)), raw)
}

// hidingFields are the members that name places whose values are not shown.
var hidingFields = []string{nameMasked, nameRemoved, nameErased, nameUnreadable}

// maxAnsweredBytes is more than the size of an entry as a service answers it.
const maxAnsweredBytes = 4 * audit.MaxEntryBytes

// mayBeAnswered reports whether a text can be an entry that a service answered. Such an entry can be larger
// than it was when a client sent it.
func mayBeAnswered(text []byte) bool {
	return len(text) <= maxAnsweredBytes && bytes.Contains(text, []byte(`"`+nameReceivedAt+`"`))
}

// defaultFields are the members that the service sets if a client leaves them out.
var defaultFields = []string{nameID, nameTenant, nameTimestamp, nameSeverity, nameIPAddress, nameUserAgent, nameIdempotencyKey}

// count adds the size of a member that a service can have added.
func (p *submission) count(name string, raw jsontext.Value) {
	if slices.Contains(serviceFields, name) || slices.Contains(defaultFields, name) {
		p.answered += len(`"":,`) + len(name) + len(raw)
	}
}

// fits reports whether a large text of this size is an entry that a service answered, and was not too large
// before. What stands in the place of a value can be longer than the value.
func (p *submission) fits(size int) bool {
	objects := len(p.entry.Before) + len(p.entry.After) + len(p.entry.Metadata)
	return size-p.answered <= audit.MaxEntryBytes || p.exported != nil && p.exported.hides && objects <= audit.MaxObjectBytes
}

// ChangedPaths returns the dotted paths at which the states differed, in the form of Changed. isStandIn reports
// whether a string can stand in the place of a value that is not shown. Equal stand-ins say nothing about the
// values: the entry's own `changed` says whether these differed. Stand-ins that differ say nothing either if
// the entry names such places, since masks of one value can be different.
func (s *Submitted) ChangedPaths(isStandIn func(text string) bool) ([]string, error) {
	derived, err := Changed(s.Before, s.After)
	if err != nil || s.Exported == nil {
		return derived, err
	}
	hidden, err := hiddenPaths(s.Before, s.After, isStandIn)
	if err != nil || len(hidden.paths) == 0 {
		return derived, err
	}
	changed, err := hidden.among(s.Exported.changed)
	if err != nil {
		return nil, err
	}
	for _, path := range derived {
		if s.Exported.hides && hidden.has(path) || isBelow(path, changed) {
			continue
		}
		changed = append(changed, path)
	}
	slices.Sort(changed)
	return slices.Compact(changed), nil
}

// isBelow reports whether the path is below one of the others, which are sorted.
func isBelow(path string, others []string) bool {
	for ancestor := range Ancestors(path) {
		if _, found := slices.BinarySearch(others, ancestor); found {
			return true
		}
	}
	return false
}

// hidden are the places of strings that stand for values that are not shown.
type hidden struct {
	// paths are sorted. An array counts as a whole, as in Changed.
	paths []string
	// topOnly says that there are too many places, and that paths has only top-level names.
	topOnly bool
}

// has reports whether a path is such a place.
func (h *hidden) has(path string) bool {
	_, found := slices.BinarySearch(h.paths, path)
	return found && !h.topOnly
}

// covers reports whether a path is such a place, or one is below it.
func (h *hidden) covers(path string) bool {
	if _, found := slices.BinarySearch(h.paths, path); found || h.topOnly && isBelow(path, h.paths) {
		return true
	}
	below := path + "."
	i, _ := slices.BinarySearch(h.paths, below)
	return i < len(h.paths) && strings.HasPrefix(h.paths[i], below)
}

// among returns the strings of an array of paths that the places cover, sorted and unique.
func (h *hidden) among(list []byte) (paths []string, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	known := map[string]bool{}
	err = eachElement(list, func(raw []byte) error {
		if kindOf(raw) != '"' || len(raw) > maxChangedBytes {
			return nil
		}
		path, err := appendUnquoted(nil, raw)
		if err == nil && !known[string(path)] && h.covers(string(path)) {
			known[string(path)] = true
			paths = append(paths, string(path))
		}
		return err
	})
	slices.Sort(paths)
	return paths, err
}

// hiddenPaths returns the places of strings that stand for other values in two objects.
func hiddenPaths(before, after audit.Object, isStandIn func(text string) bool) (hidden, error) {
	w := hiddenWalk{isStandIn: isStandIn}
	for _, object := range []audit.Object{before, after} {
		if err := eachMember(orEmpty(object), w.member); err != nil {
			return hidden{}, err
		}
	}
	h := hidden{paths: w.paths}
	if w.size > maxChangedBytes {
		h = hidden{paths: w.names, topOnly: true}
	}
	slices.Sort(h.paths)
	h.paths = slices.Compact(h.paths)
	return h, nil
}

// hiddenWalk finds such strings.
type hiddenWalk struct {
	isStandIn func(text string) bool
	path      []byte
	scratch   []byte
	depth     int
	top       string   // the name of the top-level member that is visited
	names     []string // of the top-level members that have such strings
	paths     []string
	size      int // of paths, in bytes
}

func (w *hiddenWalk) member(name, value []byte) (err error) {
	length := len(w.path)
	defer func() { w.path, w.depth = w.path[:length], w.depth-1 }()
	if w.path, err = appendPath(w.path, name); err != nil {
		return err
	}
	if w.depth++; w.depth == 1 {
		w.top = string(w.path)
	}
	if len(value) == 0 {
		return errMalformed
	}
	if value[0] == '{' {
		return eachMember(value, w.member)
	}
	found, err := w.finds(value)
	if err == nil && found {
		w.add()
	}
	return err
}

// finds reports whether such a string is in a value.
func (w *hiddenWalk) finds(value []byte) (found bool, err error) {
	either := func(value []byte) (err error) {
		if !found {
			found, err = w.finds(value)
		}
		return err
	}
	switch kindOf(value) {
	case '{':
		err = eachMember(value, func(_, value []byte) error { return either(value) })
	case '[':
		err = eachElement(value, either)
	case '"':
		if w.scratch, err = appendUnquoted(w.scratch[:0], value); err == nil {
			found = w.isStandIn(string(w.scratch))
		}
	}
	return found, err
}

// add adds the path that the walk is at. It keeps no more paths than Changed can return.
func (w *hiddenWalk) add() {
	if len(w.names) == 0 || w.names[len(w.names)-1] != w.top {
		w.names = append(w.names, w.top)
	}
	if w.size += len(w.path); len(w.path) > MaxLeafPath || len(w.paths) >= maxChanged {
		w.size = maxChangedBytes + 1
	}
	if w.size <= maxChangedBytes {
		w.paths = append(w.paths, string(w.path))
	}
}
