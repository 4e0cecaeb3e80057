package search

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Limits of a query text.
const (
	MaxQueryBytes = 8 << 10
	MaxQueryTerms = 500
	maxQueryDepth = 32
)

// ParseQuery reads the query language:
//
//	DELETE invoice            both words, anywhere in the message
//	"payment failed"          the words next to each other
//	fail*                     a word that begins with fail
//	action:DELETE             a field has exactly this value; = does the same
//	user_id:"Ann Smith"       a value with spaces or a *; fields have no wildcards
//	metadata.region:eu-west-1 a scalar leaf of the metadata
//	severity>=ERROR           also >, <, <=
//	timestamp:2026-01-31      that day in UTC; also >, >=, <, <=, and with RFC 3339 times
//	-word, NOT action:VIEW    entries without it
//	a OR b, (a OR b) c        either of them; terms without OR are joined by AND
//
// For an empty text it returns nil, which matches every entry. For a faulty text it
// returns an *audit.ValidationError with the pointer "?q".
func ParseQuery(text string) (audit.Expr, error) {
	if len(text) > MaxQueryBytes {
		return nil, audit.Invalid("?q", "too_long", "must be at most %d bytes", MaxQueryBytes)
	}
	if !utf8.ValidString(text) {
		return nil, audit.Invalid("?q", "invalid_utf8", "must be valid UTF-8")
	}
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 {
		return nil, nil
	}
	p := parser{tokens: tokens}
	expr, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if len(p.tokens) > 0 {
		return nil, invalidQuery("has a closing parenthesis too many at byte %d", p.tokens[0].offset+1)
	}
	return expr, nil
}

func invalidQuery(format string, args ...any) error {
	return audit.Invalid("?q", "invalid_query", format, args...)
}

type tokenKind uint8

const (
	tokenTerm tokenKind = iota
	tokenOpen
	tokenClose
	tokenNot
	tokenOr
	tokenAnd
)

// token is one piece of a query. A term that names a field has an operator.
type token struct {
	kind     tokenKind
	offset   int
	field    string
	operator string // ":", "=", ">", ">=", "<", "<=", "" where no field is named
	value    string
	quoted   bool
}

// scan divides a query into tokens.
func scan(text string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case unicode.IsSpace(r):
			i += size
		case r == '(':
			tokens = append(tokens, token{kind: tokenOpen, offset: i})
			i++
		case r == ')':
			tokens = append(tokens, token{kind: tokenClose, offset: i})
			i++
		case r == '-' && i+1 < len(text) && text[i+1] != ' ':
			tokens = append(tokens, token{kind: tokenNot, offset: i})
			i++
		default:
			term, next, err := scanTerm(text, i)
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, term)
			i = next
		}
		if len(tokens) > MaxQueryTerms {
			return nil, audit.Invalid("?q", "too_many_terms", "must have at most %d terms", MaxQueryTerms)
		}
	}
	return tokens, nil
}

// scanTerm reads a word, a phrase, a keyword or a field with its value.
func scanTerm(text string, start int) (token, int, error) {
	t := token{offset: start}
	if text[start] == '"' {
		return scanQuoted(text, start, t)
	}
	end := start
	for end < len(text) && !strings.ContainsRune(" \t\r\n()\":=<>", rune(text[end])) {
		end++
	}
	word := text[start:end]
	if end < len(text) && strings.IndexByte(":=<>", text[end]) >= 0 {
		return scanField(text, word, end, t)
	}
	t.value = word
	switch word {
	case "OR":
		t.kind = tokenOr
	case "AND":
		t.kind = tokenAnd
	case "NOT":
		t.kind = tokenNot
	}
	return t, end, nil
}

// scanField reads the operator and the value after a field's name.
func scanField(text, field string, at int, t token) (token, int, error) {
	if field == "" {
		return t, 0, invalidQuery("has an operator without a field at byte %d; put text with : = < > into quotes", at+1)
	}
	t.field = field
	t.operator = text[at : at+1]
	at++
	if (t.operator == "<" || t.operator == ">") && at < len(text) && text[at] == '=' {
		t.operator += "="
		at++
	}
	if at < len(text) && text[at] == '"' {
		return scanQuoted(text, at, t)
	}
	end := at
	for end < len(text) && !strings.ContainsRune(" \t\r\n()\"", rune(text[end])) {
		end++
	}
	if end == at {
		return t, 0, invalidQuery("has no value for %s at byte %d", audit.BoundedName(field), at+1)
	}
	t.value = text[at:end]
	return t, end, nil
}

// scanQuoted reads a text in quotes. In it, a backslash takes the next character literally.
func scanQuoted(text string, start int, t token) (token, int, error) {
	t.quoted = true
	var value strings.Builder
	for i := start + 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			t.value = value.String()
			return t, i + 1, nil
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		value.WriteByte(text[i])
	}
	return t, 0, invalidQuery("has a quote that is not closed at byte %d", start+1)
}

type parser struct{ tokens []token }

func (p *parser) next(kind tokenKind) bool {
	if len(p.tokens) > 0 && p.tokens[0].kind == kind {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *parser) or(depth int) (audit.Expr, error) {
	if depth > maxQueryDepth {
		return nil, invalidQuery("must not be nested deeper than %d levels", maxQueryDepth)
	}
	first, err := p.and(depth)
	if err != nil {
		return nil, err
	}
	alternatives := audit.Or{first}
	for p.next(tokenOr) {
		another, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		alternatives = append(alternatives, another)
	}
	if len(alternatives) == 1 {
		return first, nil
	}
	return alternatives, nil
}

func (p *parser) and(depth int) (audit.Expr, error) {
	var all []audit.Expr
	for len(p.tokens) > 0 {
		kind := p.tokens[0].kind
		if kind == tokenOr || kind == tokenClose {
			break
		}
		if p.next(tokenAnd) && len(all) == 0 {
			return nil, invalidQuery("has AND without a term before it")
		}
		expr, err := p.unary(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, expr)
	}
	if len(all) == 0 {
		return nil, invalidQuery("lacks a term")
	}
	return audit.All(all...), nil
}

func (p *parser) unary(depth int) (audit.Expr, error) {
	negated := false
	for p.next(tokenNot) {
		negated = !negated
	}
	expr, err := p.primary(depth)
	if err != nil || !negated {
		return expr, err
	}
	return audit.Not{Expr: expr}, nil
}

func (p *parser) primary(depth int) (audit.Expr, error) {
	if p.next(tokenOpen) {
		expr, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.next(tokenClose) {
			return nil, invalidQuery("has a parenthesis that is not closed")
		}
		return expr, nil
	}
	if len(p.tokens) == 0 || p.tokens[0].kind != tokenTerm {
		return nil, invalidQuery("lacks a term")
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	if t.operator == "" {
		return textTerm(t)
	}
	return fieldTerm(t)
}

func textTerm(t token) (audit.Expr, error) {
	value, prefix := t.value, false
	if !t.quoted {
		value, prefix = strings.CutSuffix(value, "*")
	}
	words := audit.Words(value)
	if len(words) == 0 {
		return nil, invalidQuery("has no letter or digit to search for at byte %d", t.offset+1)
	}
	return audit.Text{Words: words, Prefix: prefix}, nil
}

func fieldTerm(t token) (audit.Expr, error) {
	if t.field == "timestamp" {
		return timeTerm(t)
	}
	field, err := parseField(t.field)
	if err != nil {
		return nil, invalidQuery("knows no field %q at byte %d; put text with : = < > into quotes", audit.BoundedName(t.field), t.offset+1)
	}
	if t.operator == ":" || t.operator == "=" {
		if !t.quoted && strings.Contains(t.value, "*") {
			return nil, invalidQuery("has a * in the value of %s at byte %d, where it is not a wildcard: put a value with a * into quotes", audit.BoundedName(t.field), t.offset+1)
		}
		value, err := normalValue(field, t.value)
		if err != nil {
			return nil, invalidQuery("%s %s", t.field, err)
		}
		return audit.Equals{Field: field, Values: []string{value}}, nil
	}
	if field != audit.FieldSeverity {
		return nil, invalidQuery("can compare severity and timestamp with %s, not %s", t.operator, audit.BoundedName(t.field))
	}
	return severityTerm(t)
}

func severityTerm(t token) (audit.Expr, error) {
	bound, err := audit.ParseSeverity(t.value)
	if err != nil {
		return nil, invalidQuery("severity %s", err)
	}
	holds := map[string]func(audit.Severity) bool{
		">":  func(s audit.Severity) bool { return s > bound },
		">=": func(s audit.Severity) bool { return s >= bound },
		"<":  func(s audit.Severity) bool { return s < bound },
		"<=": func(s audit.Severity) bool { return s <= bound },
	}[t.operator]
	equals := audit.Equals{Field: audit.FieldSeverity}
	for _, s := range audit.Severities() {
		if holds(s) {
			equals.Values = append(equals.Values, s.String())
		}
	}
	if len(equals.Values) == 0 {
		return audit.Or{}, nil // never holds
	}
	return equals, nil
}

func timeTerm(t token) (audit.Expr, error) {
	first, end, err := parseSpan(t.value)
	if err != nil {
		return nil, invalidQuery("timestamp %s", err)
	}
	switch t.operator {
	case ">=":
		return audit.Time{From: first}, nil
	case ">":
		return audit.Time{From: end}, nil
	case "<":
		return audit.Time{To: first}, nil
	case "<=":
		return audit.Time{To: end}, nil
	}
	if first.Equal(end) {
		return audit.Or{}, nil // never holds: entries have whole milliseconds
	}
	return audit.Time{From: first, To: end}, nil
}

// parseField reads the name of a field that filters can use.
func parseField(name string) (audit.Field, error) {
	field := audit.Field(name)
	if path, ok := field.MetadataPath(); ok && path != "" {
		return field, nil
	}
	for _, known := range audit.FilterFields() {
		if field == known {
			return field, nil
		}
	}
	return "", fmt.Errorf("must be one of %s or metadata.<path>", joinFields())
}

func joinFields() string {
	names := make([]string, 0, len(audit.FilterFields()))
	for _, f := range audit.FilterFields() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// normalValue converts a value into the form that the index compares.
func normalValue(field audit.Field, value string) (string, error) {
	switch field {
	case audit.FieldSeverity:
		severity, err := audit.ParseSeverity(value)
		return severity.String(), err
	case audit.FieldIPAddress:
		address, err := netip.ParseAddr(value)
		if err != nil {
			return "", fmt.Errorf("must be an IPv4 or IPv6 address")
		}
		return address.String(), nil
	}
	return value, nil
}

// parseTime reads an RFC 3339 time or a date, which means midnight in UTC. It rounds up
// to a millisecond. Entries have whole milliseconds, so the same entries are before the
// rounded time as before the exact one.
func parseTime(text string) (time.Time, error) {
	first, _, err := parseSpan(text)
	return first, err
}

// parseSpan reads a text of parseTime as a span, from first to before end. A date is a
// day in UTC and a time is a millisecond. A time between two milliseconds is an empty span.
func parseSpan(text string) (first, end time.Time, err error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day, day.AddDate(0, 0, 1), nil
	}
	var t time.Time
	if err := t.UnmarshalText([]byte(text)); err != nil {
		return t, t, errors.New("must be an RFC 3339 time such as 2026-01-31T09:30:00Z or a date such as 2026-01-31")
	}
	t = t.UTC()
	if whole := t.Truncate(time.Millisecond); !whole.Equal(t) {
		next := whole.Add(time.Millisecond)
		return next, next, nil
	}
	return t, t.Add(time.Millisecond), nil
}
