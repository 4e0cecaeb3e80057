package search

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
	"github.com/ocelot-audit/ocelot/pkg/words"
)

// The names of terms that are no filter fields.
const (
	fieldTimestamp  = "timestamp"
	fieldReceivedAt = "received_at"
	fieldHas        = "has"
)

// queryFields are the fields that a term can name, for error messages.
var queryFields = strings.Join([]string{fieldNames, fieldTimestamp, fieldReceivedAt, fieldHas}, ", ") + " and metadata.<path>"

// isTermField reports whether a term can name the field.
func isTermField(name string) bool {
	_, err := parseField(name)
	return err == nil || slices.Contains([]string{fieldTimestamp, fieldReceivedAt, fieldHas}, name)
}

// textTerm returns the condition of a word or a phrase, nil if it has no word.
func textTerm(t token) audit.Expr {
	value, prefix := t.value, t.prefix
	if !t.quoted {
		value, prefix = strings.CutSuffix(value, "*")
	}
	phrase := words.Split(value)
	if len(phrase) == 0 {
		return nil
	}
	return audit.Text{Words: phrase, Prefix: prefix}
}

// fieldTerm returns the condition of a term that names a field.
func fieldTerm(t token) (audit.Expr, error) {
	equality := isEquality(t.operator)
	if err := checkRange(t); err != nil {
		return nil, err
	}
	isTime := t.field == fieldTimestamp || t.field == fieldReceivedAt
	switch {
	case t.joined:
		return nil, invalidQuery("has a character right after the closing quote of %s at byte %d; only a * for a prefix may stand there", audit.BoundedName(t.field), t.offset+1)
	case t.prefix && (!equality || isTime || t.field == fieldHas):
		return nil, invalidQuery("has a * after the value of %s at byte %d, which is not compared by its beginning", audit.BoundedName(t.field), t.offset+1)
	case isTime:
		return timeTerm(t)
	case t.field == fieldHas && equality:
		return hasTerm(t)
	}
	field, err := parseField(t.field)
	if err != nil {
		return nil, invalidQuery("knows no field %q at byte %d; there are %s; put text with : = < > into quotes", audit.BoundedName(t.field), t.offset+1, queryFields)
	}
	if equality {
		return equalityTerm(t, field)
	}
	_, ofMetadata := field.MetadataPath()
	switch {
	case field == audit.FieldSeverity:
		return severityTerm(t)
	case ofMetadata:
		return numberTerm(t, field)
	}
	return nil, invalidQuery("can compare severity, timestamp, received_at and numbers of the metadata with %s, not %s", t.operator, audit.BoundedName(t.field))
}

// checkRange refuses a range in the spelling of other query languages, such as 100..200. Read as a
// value, it would find nothing.
func checkRange(t token) error {
	from, to, isRange := strings.Cut(t.value, "..")
	if t.quoted || !isEquality(t.operator) || !isRange || !isComparable(t.field) || from == "" || to == "" || from == to {
		return nil
	}
	if strings.HasPrefix(t.field, metadataPrefix) {
		for _, end := range []string{from, to} {
			if end != "*" && decimal.KeyOf(end) == "" {
				return nil
			}
		}
	}
	return invalidRange(t, from, to)
}

// invalidRange returns the error of a range of a field, with the right spelling.
func invalidRange(t token, from, to string) error {
	name, spelled := audit.BoundedName(t.field), spelled(t.field)
	if !isComparable(t.field) {
		return invalidQuery("has a range of %s at byte %d, which has none; put the value into quotes", name, t.offset+1)
	}
	var parts []string
	if from != "*" {
		parts = append(parts, spelled+">="+audit.BoundedName(from))
	}
	if to != "*" {
		parts = append(parts, spelled+"<="+audit.BoundedName(to))
	}
	return invalidQuery("has a range of %s at byte %d; write %s, or put the value into quotes", name, t.offset+1, strings.Join(parts, " "))
}

// hasTerm returns the condition that a field has a value.
func hasTerm(t token) (audit.Expr, error) {
	field, err := parseField(t.value)
	if err != nil {
		return nil, invalidQuery("knows no field %q after has at byte %d; there are %s and metadata.<path>", audit.BoundedName(t.value), t.offset+1, fieldNames)
	}
	return audit.Has{Field: field}, nil
}

// equalityTerm returns the condition that a field has a value, or one that begins so.
func equalityTerm(t token, field audit.Field) (audit.Expr, error) {
	if t.prefix {
		return prefixTerm(t, field, t.value)
	}
	if !t.quoted {
		if value, wildcard := strings.CutSuffix(t.value, "*"); wildcard && !strings.Contains(value, "*") {
			return prefixTerm(t, field, value)
		}
		if strings.Contains(t.value, "*") {
			return nil, invalidQuery("has a * in the value of %s at byte %d that is not its end: put a value with a * into quotes", audit.BoundedName(t.field), t.offset+1)
		}
	}
	if field == audit.FieldIPAddress && strings.Contains(t.value, "/") {
		return networkTerm(t)
	}
	value, err := normalValue(field, t.value)
	if err != nil {
		return nil, invalidQuery("%s %s at byte %d", t.field, err, t.offset+1)
	}
	return equality(field, value), nil
}

// prefixTerm returns the condition that a field has a value that begins with a text.
func prefixTerm(t token, field audit.Field, value string) (audit.Expr, error) {
	switch {
	case value == "":
		return audit.Has{Field: field}, nil
	case len(value) > audit.MaxPrefix:
		return nil, invalidQuery("has a prefix of %s at byte %d that is longer than %d bytes", audit.BoundedName(t.field), t.offset+1, audit.MaxPrefix)
	case field == audit.FieldSeverity:
		return severities(func(s audit.Severity) bool { return strings.HasPrefix(s.String(), strings.ToUpper(value)) }), nil
	case field == audit.FieldIPAddress:
		return addressPrefix(strings.ToLower(value)), nil
	}
	return audit.Prefix{Field: field, Value: value}, nil
}

// mappedPrefix begins the other spelling of each IPv4 address, ::ffff:203.0.113.9.
const mappedPrefix = "::ffff:"

// addressPrefix returns the condition that one of the address's spellings begins with a text. An
// IPv4 address has two, and Prefix knows the one without ::ffff: alone.
func addressPrefix(text string) audit.Expr {
	ipv4 := audit.Network{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if rest, mapped := strings.CutPrefix(text, mappedPrefix); mapped && rest != "" {
		return audit.And{ipv4, audit.Prefix{Field: audit.FieldIPAddress, Value: rest}}
	}
	asIs := audit.Prefix{Field: audit.FieldIPAddress, Value: text}
	if strings.HasPrefix(mappedPrefix, text) {
		return audit.Or{ipv4, asIs}
	}
	return asIs
}

// networkTerm returns the condition that the address is in a network.
func networkTerm(t token) (audit.Expr, error) {
	network, err := netip.ParsePrefix(t.value)
	if err != nil {
		return nil, invalidQuery("%s must be an address or a network such as 203.0.113.0/24 at byte %d", t.field, t.offset+1)
	}
	if address := network.Addr(); address.Is4In6() {
		if network.Bits() < 96 {
			return nil, invalidQuery("%s must be an IPv4 network without ::ffff: at byte %d", t.field, t.offset+1)
		}
		network = netip.PrefixFrom(address.Unmap(), network.Bits()-96)
	}
	return audit.Network{Prefix: network.Masked()}, nil
}

// numberTerm returns the condition that compares a number of the metadata.
func numberTerm(t token, field audit.Field) (audit.Expr, error) {
	key := decimal.KeyOf(t.value)
	if key == "" {
		return nil, invalidQuery("can compare %[1]s with a number such as 100 or -2.5e3 only, from 1e-%[2]d to below 1e%[3]d, at byte %[4]d", audit.BoundedName(t.field), decimal.MaxExponent+1, decimal.MaxExponent, t.offset+1)
	}
	switch t.operator {
	case ">=":
		return audit.Number{Field: field, From: key}, nil
	case ">":
		return audit.Number{Field: field, From: decimal.After(key)}, nil
	case "<":
		return audit.Number{Field: field, To: key}, nil
	}
	return audit.Number{Field: field, To: decimal.After(key)}, nil
}

func severityTerm(t token) (audit.Expr, error) {
	bound, err := audit.ParseSeverity(t.value)
	if err != nil {
		return nil, invalidQuery("severity %s at byte %d", err, t.offset+1)
	}
	return severities(map[string]func(audit.Severity) bool{
		">":  func(s audit.Severity) bool { return s > bound },
		">=": func(s audit.Severity) bool { return s >= bound },
		"<":  func(s audit.Severity) bool { return s < bound },
		"<=": func(s audit.Severity) bool { return s <= bound },
	}[t.operator]), nil
}

// severities returns the condition that the severity is one of those that the function accepts.
func severities(accepts func(audit.Severity) bool) audit.Expr {
	equals := audit.Equals{Field: audit.FieldSeverity}
	for _, s := range audit.Severities() {
		if accepts(s) {
			equals.Values = append(equals.Values, s.String())
		}
	}
	if len(equals.Values) == 0 {
		return audit.Or{} // never holds
	}
	return equals
}

func timeTerm(t token) (audit.Expr, error) {
	first, end, err := parseSpan(t.value)
	if err != nil {
		return nil, invalidQuery("%s %s at byte %d", t.field, err, t.offset+1)
	}
	var from, to time.Time
	switch t.operator {
	case ">=":
		from = first
	case ">":
		from = end
	case "<":
		to = first
	case "<=":
		to = end
	default:
		if first.Equal(end) {
			return audit.Or{}, nil // never holds: entries have whole milliseconds
		}
		from, to = first, end
	}
	if t.field == fieldReceivedAt {
		return audit.Received{From: from, To: to}, nil
	}
	return audit.Time{From: from, To: to}, nil
}
