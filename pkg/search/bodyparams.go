package search

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// QueryOf returns the parameters of a selection from the members of a JSON object, as FindBy reads
// them. The caller reads the parameters with the other names.
func QueryOf(members map[string]jsontext.Value, others ...string) (url.Values, error) {
	p := paramsIn(members, append([]string{ParamSort}, others...)...)
	return p.values, p.err()
}

// InBody returns an error whose faults point at the members of a JSON object instead of query
// parameters.
func InBody(err error) error { return inBody(err, "") }

// paramsIn reads parameters from the members of a JSON object, as only does from a query string. A
// value is a string or an array of strings. The limit may also be a number, and values of the
// metadata numbers, true and false. A parameter with another value is a fault, and is dropped.
func paramsIn(members map[string]jsontext.Value, names ...string) params {
	p := params{values: url.Values{}}
	if len(members) > maxParams {
		p.add(errTooManyValues("?"))
		return p
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		values, ok := scalars(members[name], kindsOf(name))
		if !ok && isParam(name, names) {
			p.fault(name, "wrong_type", "must be a string, or an array of strings; limit may be a number, and metadata.<path> numbers, true and false")
			continue
		}
		p.values[name] = values
	}
	p.only(names...)
	return p
}

// kindsOf returns the kinds of values that a parameter may have.
func kindsOf(name string) []jsontext.Kind {
	switch {
	case strings.HasPrefix(name, metadataPrefix):
		return []jsontext.Kind{jsontext.KindString, jsontext.KindNumber, jsontext.KindTrue, jsontext.KindFalse}
	case name == ParamLimit:
		return []jsontext.Kind{jsontext.KindString, jsontext.KindNumber}
	}
	return []jsontext.Kind{jsontext.KindString}
}

// scalars reads a scalar of one of the kinds, or an array of them.
func scalars(value jsontext.Value, kinds []jsontext.Kind) ([]string, bool) {
	if value.Kind() != jsontext.KindBeginArray {
		text, ok := scalar(value, kinds)
		return []string{text}, ok
	}
	texts := []string{}
	decoder := jsontext.NewDecoder(strings.NewReader(string(value)))
	_, err := decoder.ReadToken() // the bracket
	for err == nil && decoder.PeekKind() != jsontext.KindEndArray {
		var element jsontext.Value
		if element, err = decoder.ReadValue(); err != nil {
			break
		}
		text, ok := scalar(element, kinds)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, err == nil
}

func scalar(value jsontext.Value, kinds []jsontext.Kind) (text string, ok bool) {
	if !slices.Contains(kinds, value.Kind()) {
		return "", false
	}
	if value.Kind() != jsontext.KindString {
		return string(value), true
	}
	unquoted, err := jsontext.AppendUnquote(nil, value)
	return string(unquoted), err == nil
}

// inBody returns an error with the pointers of faults changed from query parameters to members
// of the object at a pointer. It returns other errors unchanged.
func inBody(err error, object jsontext.Pointer) error {
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	faults := slices.Clone(invalid.Fields)
	for i, fault := range faults {
		name, isParameter := strings.CutPrefix(fault.Pointer, "?")
		switch {
		case isParameter && name == "":
			faults[i].Pointer = string(object)
		case isParameter:
			faults[i].Pointer = string(object.AppendToken(name))
		}
	}
	return audit.InvalidFields(faults)
}
