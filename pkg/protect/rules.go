package protect

import (
	"bytes"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

const (
	// maxEncrypted is the most values of an entry that are encrypted.
	maxEncrypted = 1000
	// maxParts is the most names that a name with dots counts as. It is the deepest nesting of an entry.
	maxParts = audit.MaxDepth
	// maxArray is the most elements of an array that are encrypted one by one. A longer one is
	// encrypted as a whole.
	maxArray = 100
)

// Rules are the rules of a tenant's sensitive fields, ready to be applied. They are safe for
// concurrent use.
type Rules struct {
	fields []audit.SensitiveField
	// objects has the rules of each object by its field. deep are those that begin at any depth.
	objects map[string]*names
	deep    *names
	// texts has the index of the rule of a top-level field that is no object.
	texts map[string]int
	// subjects are the subjects of the rules, paths in the form of normalPath. subjectPaths are those
	// that are paths.
	subjects     []string
	subjectPaths []string
}

// names is a node of a tree of the names in paths.
type names struct {
	children map[string]*names // by normal name
	any      *names
	rule     int // that ends here; -1: none
}

func newNames() *names { return &names{children: map[string]*names{}, rule: -1} }

// noRule is the index of no rule.
const noRule = -1

// NewRules prepares the rules. They must be valid. It returns nil if there are none.
func NewRules(fields []audit.SensitiveField) *Rules {
	if len(fields) == 0 {
		return nil
	}
	r := &Rules{fields: fields, objects: map[string]*names{}, deep: newNames(), texts: map[string]int{}}
	for i, f := range fields {
		r.add(i, f.Path)
		subject := f.Subject
		if strings.Contains(subject, ".") {
			subject = normalPath(subject)
			if !slices.Contains(r.subjectPaths, subject) {
				r.subjectPaths = append(r.subjectPaths, subject)
			}
		}
		r.subjects = append(r.subjects, subject)
	}
	return r
}

// normalPath returns a dotted path with each name in the form of normalName.
func normalPath(path string) string {
	normal, _ := normalName(nil, []byte(path), len(path)+maxRuleName)
	return string(normal)
}

func (r *Rules) add(rule int, path string) {
	field, rest, nested := strings.Cut(path, ".")
	if !nested {
		r.texts[field] = rule
		return
	}
	node := r.deep
	if field != audit.AnyDepth {
		if r.objects[field] == nil {
			r.objects[field] = newNames()
		}
		node = r.objects[field]
	}
	for name := range strings.SplitSeq(rest, ".") {
		node = node.child(name)
	}
	if node.rule == noRule {
		node.rule = rule
	}
}

// child returns the node of a name in a path. It makes one if there is none.
func (n *names) child(name string) *names {
	if name == audit.AnyName {
		if n.any == nil {
			n.any = newNames()
		}
		return n.any
	}
	normal, _ := normalName(nil, []byte(name), maxRuleName)
	if n.children[string(normal)] == nil {
		n.children[string(normal)] = newNames()
	}
	return n.children[string(normal)]
}

// maxRuleName is more than the length of any name in a path, in bytes.
const maxRuleName = 2 * audit.MaxSensitivePath

// usualValues is how many values an entry usually has that rules cover.
const usualValues = 4

// Covered are the values of one entry that are to be encrypted.
type Covered struct {
	values []covered
}

// covered is one value.
type covered struct {
	pointer string
	text    []byte // JSON
	subject string // "": the tenant's own key
	token   *tokenInput
}

// Subjects returns the subjects whose keys encrypt the values, each once, without the tenant itself.
func (c *Covered) Subjects() []string {
	var subjects []string
	for _, v := range c.values {
		if v.subject != "" && !slices.Contains(subjects, v.subject) {
			subjects = append(subjects, v.subject)
		}
	}
	return subjects
}

// MaxSubject is the length of the longest name of a subject, in bytes. The values at a path can be long. A
// longer one could not be erased.
const MaxSubject = 8 << 10

// Mask puts masks in the places of the values that the rules cover. It does not change the bytes of
// the entry's objects. It returns nil if no rule covers anything. The error is about an entry with
// more than maxEncrypted such values, or with a subject that is longer than MaxSubject.
func (r *Rules) Mask(e *audit.Entry) (*Covered, *audit.ValidationError) {
	if r == nil {
		return nil, nil
	}
	m := masking{Rules: r, entry: e}
	m.subjects = m.findSubjects()
	for _, object := range []struct {
		field string
		text  *audit.Object
	}{{entryjson.NameBefore, &e.Before}, {entryjson.NameAfter, &e.After}, {entryjson.NameMetadata, &e.Metadata}} {
		if err := m.object(object.field, object.text); err != nil {
			return nil, err
		}
	}
	m.text(entryjson.NameMessage, &e.Message)
	m.text(entryjson.NameSessionID, &e.SessionID)
	m.text(entryjson.NameUserAgent, &e.UserAgent)
	m.address()
	switch {
	case m.tooMany:
		return nil, audit.Invalid("", "too_many_sensitive",
			"must have at most %d values at the paths of sensitive_fields, whose places have at most %d bytes", maxEncrypted, maxPlaceBytes)
	case len(m.values) == 0:
		return nil, nil
	}
	if path := m.longSubject(); path != "" {
		return nil, audit.Invalid("", "subject_too_long", "must have at most %d bytes at %s, which names a subject of sensitive_fields", MaxSubject, path)
	}
	e.Changed, e.Removed = m.cutChanged(e.Changed), m.cutRemoved(e.Removed)
	return &Covered{values: m.values}, nil
}

// masking masks one entry.
type masking struct {
	*Rules

	entry    *audit.Entry
	subjects map[string]string // the name of the subject by its path
	values   []covered
	whole    []place // at which objects and arrays were masked as a whole
	size     int     // of the places of values, in bytes
	tooMany  bool
	nodes    []*names // the states of the walk; see state
	path     []byte   // the dotted path of the value that is visited
}

// place is a place of a value.
type place struct{ pointer, path string }

// state is where a walk stands in the trees of names: at nodes[from:to].
type state struct {
	from, to int
	rule     int // that covers the value; noRule: none does
	pathEnd  int // its dotted path is path[:pathEnd]
}

func (m *masking) object(field string, object *audit.Object) *audit.ValidationError {
	m.nodes = m.nodes[:0]
	if root := m.objects[field]; root != nil {
		m.nodes = append(m.nodes, root)
	}
	if len(*object) == 0 || len(m.nodes) == 0 && len(m.deep.children) == 0 {
		return nil
	}
	replacer := entryjson.Replacer[state]{Enter: m.enter, Wants: m.wants, Replace: m.replace}
	m.path = append(m.path[:0], field...)
	masked, err := replacer.Object(*object, pointerTo(field), state{to: len(m.nodes), rule: noRule, pathEnd: len(m.path)})
	if err != nil {
		return audit.Invalid(pointerTo(field), "invalid_json", "must be a JSON object") // package entryjson lets none through
	}
	*object = masked
	return nil
}

// enter implements entryjson.Replacer. A name with dots counts as the names between them, as in the
// paths of filters. If a rule covers the first of these, it covers the member. Of very many names
// only the first and the last count.
func (m *masking) enter(s state, name []byte) state {
	m.nodes = m.nodes[:s.to] // what follows belongs to members that were left
	m.path = append(append(m.path[:s.pathEnd], '.'), name...)
	at := state{from: s.from, to: s.to, pathEnd: len(m.path)}
	for parts := 1; ; parts++ {
		part, rest, more := bytes.Cut(name, []byte("."))
		if parts == maxParts && more {
			part, more = name[bytes.LastIndexByte(name, '.')+1:], false
		}
		at = m.step(at, part)
		n := copy(m.nodes[s.to:], m.nodes[at.from:at.to]) // in the place of those of the part before
		at.from, at.to = s.to, s.to+n
		m.nodes = m.nodes[:at.to]
		if !more || at.rule != noRule {
			return at
		}
		name = rest
	}
}

func (m *masking) step(s state, name []byte) state {
	var buffer [64]byte
	normal, fits := normalName(buffer[:0], name, maxRuleName)
	next := state{from: len(m.nodes), rule: noRule, pathEnd: s.pathEnd}
	add := func(n *names) {
		if n == nil {
			return
		}
		m.nodes = append(m.nodes, n)
		if n.rule != noRule && (next.rule == noRule || n.rule < next.rule) {
			next.rule = n.rule
		}
	}
	for i := s.from; i < s.to; i++ {
		n := m.nodes[i]
		if fits {
			add(n.children[string(normal)])
		}
		add(n.any)
	}
	if fits {
		add(m.deep.children[string(normal)])
	}
	next.to = len(m.nodes)
	return next
}

// wants implements entryjson.Replacer: null stays.
func (m *masking) wants(s state, first byte) bool {
	return s.rule != noRule && first != 'n' && !m.tooMany
}

// replace implements entryjson.Replacer.
func (m *masking) replace(s state, v entryjson.Value) ([]byte, bool) {
	switch text := v.Text; {
	case string(text) == `""`, string(text) == "{}", string(text) == "[]":
		return nil, false
	case text[0] == '[' && elementsOf(text) <= maxArray:
		return nil, false // element by element
	case text[0] == '{' || text[0] == '[':
		mask := m.cover(s, v, Masked)
		if !m.tooMany {
			m.whole = append(m.whole, place{m.values[len(m.values)-1].pointer, string(m.path[:s.pathEnd])})
		}
		return mask, true
	case v.IsString():
		content, err := v.Content()
		if err != nil {
			content = ""
		}
		if content == Removed {
			return nil, false
		}
		return m.cover(s, v, MaskOf(m.fields[s.rule].Mask, content)), true
	case v.IsNumber():
		return m.cover(s, v, MaskOf(m.fields[s.rule].Mask, string(text))), true
	}
	return m.cover(s, v, Masked), true
}

// cover adds a value and returns the JSON text of its mask.
func (m *masking) cover(s state, v entryjson.Value, mask string) []byte {
	// A place is copied only while there is room for it: an entry can have many below one long name.
	if m.size += entryjson.QuotedLen(v.Pointer) + s.pathEnd; m.size > maxPlaceBytes {
		m.tooMany = true
		return entryjson.Quote(mask)
	}
	m.add(s.rule, string(v.Pointer), string(m.path[:s.pathEnd]), bytes.Clone(v.Text))
	return entryjson.Quote(mask)
}

func (m *masking) add(rule int, pointer, path string, text []byte) {
	if m.tooMany = m.tooMany || len(m.values) >= maxEncrypted; m.tooMany {
		return
	}
	if m.values == nil {
		m.values = make([]covered, 0, usualValues)
	}
	f := m.fields[rule]
	value := covered{pointer: pointer, text: text, subject: m.subjectOf(m.Rules.subjects[rule])}
	if f.Searchable {
		value.token = newTokenInput(path, text)
	}
	m.values = append(m.values, value)
}

// text masks a top-level text.
func (m *masking) text(field string, text *string) {
	rule, covers := m.texts[field]
	if !covers || *text == "" || *text == Removed {
		return
	}
	m.add(rule, pointerTo(field), field, entryjson.Quote(*text))
	*text = MaskOf(m.fields[rule].Mask, *text)
}

// address masks the address.
func (m *masking) address() {
	rule, covers := m.texts[entryjson.NameIPAddress]
	address := m.entry.IPAddress
	if !covers || !address.IsValid() {
		return
	}
	m.add(rule, pointerTo(entryjson.NameIPAddress), entryjson.NameIPAddress, []byte(`"`+address.String()+`"`))
	m.entry.IPAddress = MaskAddress(address)
}

// subjectOf returns the name of the subject.
func (m *masking) subjectOf(subject string) string {
	switch subject {
	case "":
		return ""
	case audit.SubjectUser:
		return m.entry.UserID
	case audit.SubjectResource:
		return m.entry.ResourceID
	}
	return m.subjects[subject]
}

// findSubjects returns the strings and numbers at the paths of subjects. The first of several counts.
func (m *masking) findSubjects() map[string]string {
	if len(m.subjectPaths) == 0 {
		return nil
	}
	found := map[string]string{}
	for field, object := range map[string]audit.Object{
		entryjson.NameBefore: m.entry.Before, entryjson.NameAfter: m.entry.After, entryjson.NameMetadata: m.entry.Metadata,
	} {
		_ = entryjson.Leaves(object, func(l entryjson.Leaf) { // the object was parsed before
			if !l.IsString && !l.IsNumber {
				return
			}
			path := normalPath(field + "." + l.Path)
			if _, has := found[path]; has || !slices.Contains(m.subjectPaths, path) {
				return
			}
			if l.Value != "" && l.Value != Removed {
				found[path] = l.Value
			}
		})
	}
	return found
}

// longSubject returns the path of a subject that is longer than MaxSubject, "" if there is none.
func (m *masking) longSubject() string {
	for path, subject := range m.subjects {
		if len(subject) > MaxSubject && slices.ContainsFunc(m.values, func(v covered) bool { return v.subject == subject }) {
			return path
		}
	}
	return ""
}

// cutChanged ends the paths of changes at the places that were masked as a whole.
func (m *masking) cutChanged(changed []string) []string {
	if len(m.whole) == 0 || len(changed) == 0 {
		return changed
	}
	var whole []string
	for _, p := range m.whole {
		if field, rest, _ := strings.Cut(p.path, "."); field != entryjson.NameMetadata {
			whole = append(whole, rest)
		}
	}
	cut := make([]string, len(changed))
	for i, path := range changed {
		cut[i] = path
		for _, place := range whole {
			if strings.HasPrefix(path, place+".") && len(place) < len(cut[i]) {
				cut[i] = place
			}
		}
	}
	slices.Sort(cut)
	return slices.Compact(cut)
}

// cutRemoved ends the places of secrets at those that were masked as a whole.
func (m *masking) cutRemoved(removed []string) []string {
	if len(m.whole) == 0 || len(removed) == 0 {
		return removed
	}
	cut := make([]string, len(removed))
	for i, pointer := range removed {
		cut[i] = pointer
		for _, p := range m.whole {
			if strings.HasPrefix(pointer, p.pointer+"/") {
				cut[i] = p.pointer
			}
		}
	}
	return slices.Compact(cut)
}

// elementsOf returns the number of elements of an array, or more than maxArray.
func elementsOf(array []byte) int {
	n := 0
	depth, quoted := 0, false
	for i := 0; i < len(array) && n <= maxArray; i++ {
		switch c := array[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 1:
			n++
		}
	}
	return n + 1
}
