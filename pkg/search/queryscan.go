package search

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

type tokenKind uint8

const (
	tokenTerm tokenKind = iota
	tokenOpen
	tokenClose
	tokenNot
	tokenOr
	tokenAnd
	tokenSymbols // that stand beside words and are ignored
)

// token is one piece of a query. A term that names a field has an operator. If it is open, its
// values follow in parentheses.
type token struct {
	kind     tokenKind
	offset   int
	field    string
	operator string // ":", "=", ">", ">=", "<", "<=", "" where no field is named
	value    string
	quoted   bool
	prefix   bool // an asterisk follows the closing quote
	joined   bool // another character follows the closing quote
	open     bool
}

// scanner divides a query into tokens.
type scanner struct {
	text   string
	at     int // the next byte
	tokens []token
}

// scan divides a query into tokens.
func scan(text string) ([]token, error) {
	s := scanner{text: text}
	for s.at < len(text) {
		if err := s.next(); err != nil {
			return nil, err
		}
		if len(s.tokens) > MaxQueryTerms {
			return nil, audit.Invalid("?q", "too_many_terms", "must have at most %d terms", MaxQueryTerms)
		}
	}
	return s.tokens, nil
}

// rest returns what is left of the text.
func (s *scanner) rest() string { return s.text[s.at:] }

// add adds a token of one byte.
func (s *scanner) add(kind tokenKind) {
	s.tokens = append(s.tokens, token{kind: kind, offset: s.at})
	s.at++
}

// next reads one token, white space or symbols in a row.
func (s *scanner) next() error {
	r, size := utf8.DecodeRuneInString(s.rest())
	switch {
	case unicode.IsSpace(r):
		s.at += size
	case r == '(':
		s.add(tokenOpen)
	case r == ')':
		s.add(tokenClose)
	case strings.ContainsRune(symbols, r):
		return s.symbols()
	default:
		return s.term()
	}
	return nil
}

// symbols are the characters that begin no word.
const symbols = "-:=<>"

// symbols reads symbols in a row. Minus signs exclude what follows them. Other symbols, and those
// with nothing after them, stand beside words. An operator after the name of a field is a mistake:
// without the space it means something else.
func (s *scanner) symbols() error {
	rest := strings.TrimLeft(s.rest(), symbols)
	run := s.rest()[:len(s.rest())-len(rest)]
	r, size := utf8.DecodeRuneInString(rest)
	alone := size == 0 || unicode.IsSpace(r) || r == ')'
	operator := strings.TrimRight(run, "-")
	if operator != "" && !strings.Contains(operator, "-") && (operator == run || !alone) {
		if err := s.checkNoField(operator); err != nil {
			return err
		}
	}
	if operator != "" || alone {
		s.tokens = append(s.tokens, token{kind: tokenSymbols, offset: s.at, operator: operator, joined: !alone})
		s.at += len(run)
		return nil
	}
	for range run {
		s.add(tokenNot)
	}
	return nil
}

// checkNoField refuses an operator that follows the name of a field and white space.
func (s *scanner) checkNoField(operator string) error {
	if len(s.tokens) == 0 {
		return nil
	}
	last := s.tokens[len(s.tokens)-1]
	if last.kind != tokenTerm || last.operator != "" || last.quoted || !isTermField(last.value) {
		return nil
	}
	name := audit.BoundedName(last.value)
	return invalidQuery("has white space before the operator of %[1]s at byte %[2]d; write %[3]s%[4]sVALUE, or put the word %[1]s into quotes",
		name, s.at+1, spelled(last.value), operator)
}

// isBare reports whether a word or a value without quotes can contain the character.
func isBare(r rune) bool { return !unicode.IsSpace(r) && r != '(' && r != ')' && r != '"' }

// bare reads the longest text of bare characters other than those in stop.
func (s *scanner) bare(stop string) string {
	text := s.rest()
	if end := strings.IndexFunc(text, func(r rune) bool { return !isBare(r) || strings.ContainsRune(stop, r) }); end >= 0 {
		text = text[:end]
	}
	s.at += len(text)
	return text
}

// term reads a word, a phrase, a keyword, or a field with its value.
func (s *scanner) term() error {
	t := token{offset: s.at}
	name, quoted, err := s.name(nameEnds)
	if err != nil {
		return err
	}
	if err := s.checkNotEqual(name); err != nil {
		return err
	}
	isPath := name != metadataPrefix || hasEmptyName(s.text[t.offset:s.at])
	if operator := s.operator(); operator != "" {
		if known := isTermField(name) && isPath; known || !quoted && s.valueFollows() {
			if err := checkPath(s.text[t.offset:s.at-len(operator)], name, t.offset); err != nil {
				return err
			}
			t.field, t.operator = name, operator
			return s.value(t)
		}
	} else if !quoted {
		t.kind = map[string]tokenKind{"OR": tokenOr, "AND": tokenAnd, "NOT": tokenNot}[name]
	}
	t.value, t.quoted = name, quoted
	if quoted {
		s.afterQuote(&t)
	}
	s.tokens = append(s.tokens, t)
	return nil
}

// checkNotEqual refuses "!=" after a field: it is no operator. name was read up to there.
func (s *scanner) checkNotEqual(name string) error {
	if !strings.HasPrefix(s.rest(), "=") || s.text[s.at-1] != '!' {
		return nil
	}
	field := strings.TrimSuffix(name, "!")
	if field == "" && len(s.tokens) > 0 {
		if last := s.tokens[len(s.tokens)-1]; last.kind == tokenTerm && last.operator == "" && !last.quoted {
			field = last.value
		}
	}
	if !isTermField(field) {
		return nil
	}
	return invalidQuery("has !=, which is no operator, at byte %d; write -%s:VALUE", s.at, spelled(field))
}

// afterQuote notes what follows a closing quote directly.
func (s *scanner) afterQuote(t *token) {
	rest, asterisk := strings.CutPrefix(s.rest(), "*")
	if asterisk {
		s.at++
	}
	r, size := utf8.DecodeRuneInString(rest)
	t.prefix = asterisk
	t.joined = size > 0 && !unicode.IsSpace(r) && r != ')'
}

// name reads a word, a text in quotes, or the name of a field in the metadata with parts in
// quotes. The characters in stop end it.
func (s *scanner) name(stop string) (name string, quoted bool, err error) {
	if s.text[s.at] == '"' {
		name, err = s.quote()
		return name, true, err
	}
	name = s.bare(stop)
	for strings.HasPrefix(name, metadataPrefix) && strings.HasPrefix(s.rest(), `"`) {
		part, err := s.quote()
		if err != nil {
			return "", false, err
		}
		name += part + s.bare(stop)
	}
	return name, false, nil
}

// nameEnds has the characters that end the name of a field, beside those that are not bare.
const nameEnds = ":=<>"

var quotedEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// spelled returns the name of a field as a query has it: in quotes, where it needs them. A long name is shortened.
func spelled(field string) string {
	name := audit.BoundedName(field)
	path, ofMetadata := strings.CutPrefix(name, metadataPrefix)
	needsQuotes := path == "" || strings.HasSuffix(path, "!") || strings.ContainsFunc(path, func(r rune) bool { return !isBare(r) || strings.ContainsRune(nameEnds, r) })
	if !ofMetadata || !needsQuotes {
		return name
	}
	return metadataPrefix + `"` + quotedEscapes.Replace(path) + `"`
}

// metadataPrefix begins the names of fields in the metadata.
var metadataPrefix = string(audit.MetadataField(""))

// operator reads an operator, "" if none follows.
func (s *scanner) operator() string {
	for _, operator := range []string{">=", "<=", ":", "=", ">", "<"} {
		if strings.HasPrefix(s.rest(), operator) {
			s.at += len(operator)
			return operator
		}
	}
	return ""
}

// valueFollows reports whether a value stands right after an operator.
func (s *scanner) valueFollows() bool {
	r, size := utf8.DecodeRuneInString(s.rest())
	return size > 0 && !unicode.IsSpace(r) && r != ')'
}

// value reads what stands after an operator.
func (s *scanner) value(t token) error {
	if err := s.checkSpelling(t); err != nil {
		return err
	}
	from := s.at
	switch {
	case isEquality(t.operator) && t.field != fieldHas && strings.HasPrefix(s.rest(), "("):
		t.open = true
	case strings.HasPrefix(s.rest(), `"`):
		var err error
		if t.value, err = s.quote(); err != nil {
			return err
		}
		t.quoted = true
		s.afterQuote(&t)
	case !s.valueFollows():
		return invalidQuery("has no value for %s at byte %d", audit.BoundedName(t.field), s.at+1)
	case t.field == fieldHas:
		var err error
		if t.value, _, err = s.name(""); err != nil {
			return err
		}
		t.quoted = true // a field's name has no wildcard
	default:
		t.value = s.bare("")
	}
	if t.field == fieldHas {
		if err := checkPath(s.text[from:s.at], t.value, from); err != nil {
			return err
		}
	}
	s.tokens = append(s.tokens, t)
	return nil
}

// hasEmptyName reports whether a field, as it is written, begins with metadata. and an empty name.
func hasEmptyName(written string) bool { return strings.HasPrefix(written, metadataPrefix+`""`) }

// checkPath refuses a field in the metadata without a path, and one below an empty name: paths of entries
// leave that name out.
func checkPath(written, name string, offset int) error {
	switch {
	case name == metadataPrefix && !hasEmptyName(written):
		return invalidQuery(`lacks a path after metadata. at byte %d; an empty name is written metadata.""`, offset+1)
	case hasEmptyName(written) && strings.HasPrefix(name, metadataPrefix+"."):
		return invalidQuery("has a path below an empty name at byte %d; leave the empty name out, as the paths of entries do", offset+1)
	}
	return nil
}

func isEquality(operator string) bool { return operator == ":" || operator == "=" }

// bracketed is a range as other query languages spell it, such as [1 TO 200].
var bracketed = regexp.MustCompile(`^[\[{]\s*(\S+)\s+TO\s+([^\s\]}]+)\s*[\]}]`)

// checkSpelling refuses comparisons and ranges in the spelling of other query languages. Read as
// a value, they would find nothing.
func (s *scanner) checkSpelling(t token) error {
	if !isEquality(t.operator) {
		return nil
	}
	if ends := bracketed.FindStringSubmatch(s.rest()); ends != nil {
		return invalidRange(t, ends[1], ends[2])
	}
	if !isComparable(t.field) {
		return nil
	}
	rest := s.rest()
	if value := strings.TrimLeft(rest, "=<>"); value != rest {
		operator := strings.ReplaceAll(rest[:len(rest)-len(value)], "==", "=")
		if t.operator == "=" && operator != "=" {
			operator += "="
		}
		return invalidQuery("has two operators for %s at byte %d; write %s, or put a value with = < > into quotes",
			audit.BoundedName(t.field), s.at+1, spelled(t.field)+operator+"VALUE")
	}
	return nil
}

// isComparable reports whether a field can be compared with > and <.
func isComparable(field string) bool {
	return slices.Contains([]string{string(audit.FieldSeverity), fieldTimestamp, fieldReceivedAt}, field) || strings.HasPrefix(field, metadataPrefix)
}

// quote reads a text in quotes.
func (s *scanner) quote() (string, error) {
	value, rest, ok := audit.CutQuoted(s.rest())
	if !ok {
		return "", invalidQuery("has a quote that is not closed at byte %d", s.at+1)
	}
	s.at = len(s.text) - len(rest)
	return value, nil
}
