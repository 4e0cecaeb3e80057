package search

import (
	"errors"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
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
//	user_id:"Ann Smith"       a value with any character
//	resource_id:order-*       a value that begins with order-
//	user_id:"Ann S"*          a value that begins with Ann S
//	action:(login OR logout)  one of several values
//	metadata.region:eu-west-1 a scalar leaf of the metadata; numbers by value
//	metadata."a:b":x          a name with any character
//	metadata.amount>=100      also >, <, <=, for numbers
//	has:session_id            a field has a value
//	severity>=ERROR           also >, <, <=
//	timestamp:2026-01-31      that day in UTC; also >, >=, <, <=, and with RFC 3339 times
//	received_at>=2026-01-31   likewise
//	ip_address:203.0.113.0/24 an address in a network
//	-word, NOT action:VIEW    entries without it
//	a OR b, (a OR b) c        either of them; terms without OR are joined by AND
//
// In quotes, \" and \\ stand for a quote and a backslash. Symbols beside words are ignored, so
// "a -> b" is "a b".
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
	if err != nil || strings.TrimSpace(text) == "" {
		return nil, err
	}
	p := parser{tokens: tokens, end: len(text)}
	var expr audit.Expr
	if len(tokens) > 0 {
		if expr, err = p.or(0); err != nil {
			return nil, err
		}
	}
	if len(p.tokens) > 0 {
		return nil, invalidQuery("has a closing parenthesis too many at byte %d", p.tokens[0].offset+1)
	}
	if expr == nil {
		return nil, invalidQuery("has no letter or digit to search for")
	}
	return expr, nil
}

func invalidQuery(format string, args ...any) error {
	return audit.Invalid("?q", "invalid_query", format, args...)
}

// parser reads tokens. Its methods return nil for symbols, which are ignored.
type parser struct {
	tokens []token
	end    int    // the length of the text
	values *token // the field whose values are in the parentheses; nil: outside of them
}

func (p *parser) next(kind tokenKind) bool {
	if len(p.tokens) > 0 && p.tokens[0].kind == kind {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

// place returns the number of the byte at which the next token begins.
func (p *parser) place() int {
	if len(p.tokens) > 0 {
		return p.tokens[0].offset + 1
	}
	return p.end + 1
}

func (p *parser) or(depth int) (audit.Expr, error) {
	if depth > maxQueryDepth {
		return nil, invalidQuery("must not be nested deeper than %d levels", maxQueryDepth)
	}
	var alternatives audit.Or
	for {
		another, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		if another != nil {
			alternatives = append(alternatives, another)
		}
		if !p.next(tokenOr) {
			break
		}
	}
	switch len(alternatives) {
	case 0:
		return nil, nil
	case 1:
		return alternatives[0], nil
	}
	return joined(alternatives), nil
}

// joined returns one condition with all values where the alternatives are values of one field.
// Indexes answer that where they may not answer alternatives.
func joined(alternatives audit.Or) audit.Expr {
	var all audit.Equals
	for i, e := range alternatives {
		one, ok := e.(audit.Equals)
		if !ok || i > 0 && one.Field != all.Field {
			return alternatives
		}
		all.Field, all.Values = one.Field, append(all.Values, one.Values...)
	}
	return all
}

func (p *parser) and(depth int) (audit.Expr, error) {
	var all []audit.Expr
	count := 0
	for ; len(p.tokens) > 0; count++ {
		kind := p.tokens[0].kind
		if kind == tokenOr || kind == tokenClose {
			break
		}
		if p.next(tokenAnd) && count == 0 {
			return nil, invalidQuery("has AND without a term before it, at byte %d", p.place())
		}
		expr, err := p.unary(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, expr)
	}
	if count == 0 {
		return nil, invalidQuery("lacks a term at byte %d", p.place())
	}
	return audit.All(all...), nil
}

func (p *parser) unary(depth int) (audit.Expr, error) {
	negated := false
	for len(p.tokens) > 0 && p.tokens[0].kind == tokenNot {
		if p.isNegativeNumber() {
			return nil, invalidQuery("has a minus sign before a number among the values of %s at byte %d; put a negative number into quotes, or write NOT to exclude a value",
				audit.BoundedName(p.values.field), p.place())
		}
		p.tokens = p.tokens[1:]
		negated = !negated
	}
	expr, err := p.primary(depth)
	if err != nil || expr == nil || !negated {
		return expr, err
	}
	return audit.Not{Expr: expr}, nil
}

// isNegativeNumber reports whether a minus sign is next that can be meant as a part of a number.
func (p *parser) isNegativeNumber() bool {
	if p.values == nil || len(p.tokens) < 2 || p.tokens[0].value != "" {
		return false
	}
	_, ofMetadata := audit.Field(p.values.field).MetadataPath()
	next := p.tokens[1]
	return ofMetadata && next.kind == tokenTerm && !next.quoted && decimal.KeyOf(next.value) != ""
}

func (p *parser) primary(depth int) (audit.Expr, error) {
	if len(p.tokens) == 0 {
		return nil, invalidQuery("lacks a term at byte %d", p.place())
	}
	t := p.tokens[0]
	switch t.kind {
	case tokenOpen:
		return p.parentheses(depth, p.values)
	case tokenSymbols:
		if p.values != nil && t.joined && strings.ContainsAny(t.operator, "<>=") {
			return nil, invalidQuery("has an operator among the values of %s at byte %d; write %[3]s%[4]sVALUE outside of the parentheses, or put the value into quotes",
				audit.BoundedName(p.values.field), t.offset+1, spelled(p.values.field), t.operator)
		}
		p.tokens = p.tokens[1:]
		return nil, nil
	case tokenTerm:
		p.tokens = p.tokens[1:]
	default:
		return nil, invalidQuery("lacks a term at byte %d", p.place())
	}
	if p.values != nil {
		return p.valueTerm(t)
	}
	switch {
	case t.open:
		return p.parentheses(depth, &t)
	case t.operator == "":
		return textTerm(t), nil
	}
	return fieldTerm(t)
}

// parentheses reads an expression in parentheses. If values is not nil, its terms are values of
// that field.
func (p *parser) parentheses(depth int, values *token) (audit.Expr, error) {
	opening := p.place()
	p.next(tokenOpen)
	outer := p.values
	p.values = values
	expr, err := p.or(depth + 1)
	p.values = outer
	if err != nil {
		return nil, err
	}
	if !p.next(tokenClose) {
		return nil, invalidQuery("has a parenthesis that is not closed at byte %d", opening)
	}
	return expr, nil
}

// valueTerm returns the condition of a value in the parentheses of a field.
func (p *parser) valueTerm(t token) (audit.Expr, error) {
	if t.operator != "" {
		return nil, invalidQuery("names a field among the values of %s at byte %d; put a value with : = < > into quotes", audit.BoundedName(p.values.field), t.offset+1)
	}
	t.field, t.operator = p.values.field, p.values.operator
	return fieldTerm(t)
}

// parseField reads the name of a field that filters can use.
func parseField(name string) (audit.Field, error) {
	field := audit.Field(name)
	if _, ok := field.MetadataPath(); ok {
		return field, nil
	}
	for _, known := range audit.FilterFields() {
		if field == known {
			return field, nil
		}
	}
	return "", errUnknownField
}

// fieldNames are the names of the filter fields outside the metadata, for error messages.
var fieldNames = func() string {
	names := make([]string, 0, len(audit.FilterFields()))
	for _, f := range audit.FilterFields() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}()

var errUnknownField = errors.New("must be one of " + fieldNames + " or metadata.<path>")

// normalValue converts a value into the form that the index compares.
func normalValue(field audit.Field, value string) (string, error) {
	switch field {
	case audit.FieldSeverity:
		severity, err := audit.ParseSeverity(value)
		return severity.String(), err
	case audit.FieldIPAddress:
		address, err := netip.ParseAddr(value)
		if err != nil {
			return "", errors.New("must be an IPv4 or IPv6 address")
		}
		return address.Unmap().String(), nil
	}
	return value, nil
}

// equality returns the condition that a field has one of the values, which are in normal form. A
// number in the metadata is found by its value, and a text that is spelled like one by its
// spelling alone. A number has the key of others beyond decimal.MaxDigits, and the spelling of texts:
// both together are it alone.
func equality(field audit.Field, values ...string) audit.Expr {
	var spelled audit.Expr = audit.Equals{Field: field, Values: values}
	if _, ofMetadata := field.MetadataPath(); !ofMetadata {
		return spelled
	}
	var sameKey audit.Or
	canonical := audit.Equals{Field: field}
	for _, value := range values {
		if usual := decimal.Canonical(value); usual != value { // else spelled finds the number too
			key := decimal.KeyOf(value)
			sameKey = append(sameKey, audit.Number{Field: field, From: key, To: decimal.After(key)})
			canonical.Values = append(canonical.Values, usual)
		}
	}
	switch len(sameKey) {
	case 0:
		return spelled
	case 1:
		return audit.Or{spelled, audit.And{sameKey[0], canonical}}
	}
	return audit.Or{spelled, audit.And{sameKey, canonical}}
}

// parseTime reads an RFC 3339 time or a date, which means the beginning of that day in the zone. A
// nil zone is UTC. It rounds up to a millisecond. Entries have whole milliseconds, so the same
// entries are before the rounded time as before the exact one.
func parseTime(text string, zone *time.Location) (time.Time, error) {
	if zone != nil {
		if day, err := time.Parse(time.DateOnly, text); err == nil {
			return bound(startOfDay(day, zone)), nil
		}
	}
	first, _, err := parseSpan(text)
	return first, err
}

// startOfDay returns the first time of a date in the zone, or of the next one if the zone left
// out the date.
func startOfDay(date time.Time, zone *time.Location) time.Time {
	const hours = 36 // no clock differs from UTC by more, even in a day that a zone left out
	buckets := audit.NewBuckets(24*time.Hour, zone)
	_, start := buckets.Of(date.Add(-hours * time.Hour).UnixMilli())
	for time.UnixMilli(start).In(zone).Format(time.DateOnly) < date.Format(time.DateOnly) {
		_, start = buckets.Of(start)
	}
	return time.UnixMilli(start).UTC()
}

// parseSpan reads a text of parseTime as a span, from first to before end. A date is a
// day in UTC and a time is a millisecond. A time between two milliseconds is an empty span.
func parseSpan(text string) (first, end time.Time, err error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return bound(day), bound(day.AddDate(0, 0, 1)), nil
	}
	t, err := audit.ParseTime(text)
	if err != nil {
		return t, t, errors.New("must be an RFC 3339 time such as 2026-01-31T09:30:00Z or a date such as 2026-01-31")
	}
	if whole := t.Truncate(time.Millisecond); !whole.Equal(t) {
		next := whole.Add(time.Millisecond)
		return bound(next), bound(next), nil
	}
	return bound(t), bound(t.Add(time.Millisecond)), nil
}

// bound returns the time, and 1970 instead of an earlier one. The same entries are before it, because
// none is from before 1970. The zero Time would be no bound at all.
func bound(t time.Time) time.Time {
	if first := time.Unix(0, 0).UTC(); t.Before(first) {
		return first
	}
	return t
}
