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

// Params reads the parameters of a list from the members of a JSON object. A value is a string or an
// array of strings. The limit may also be a number, and values of the metadata numbers, true and
// false. For another value it returns an *audit.ValidationError with the pointer of the member.
func Params(members map[string]jsontext.Value) (url.Values, error) {
	if len(members) > maxParams {
		return nil, errTooManyValues("")
	}
	params := url.Values{}
	var faults []audit.FieldError
	for _, name := range slices.Sorted(maps.Keys(members)) {
		values, ok := scalars(members[name], kindsOf(name))
		if !ok {
			faults = append(faults, audit.FieldError{Pointer: memberPointer("", name), Code: "wrong_type", Detail: "must be a string, or an array of strings; limit may be a number, and metadata.<path> numbers, true and false"})
			continue
		}
		params[name] = values
	}
	return params, audit.InvalidFields(faults)
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

// Texts reads a string or an array of strings, as a filter has them. ok is false for another value.
func Texts(value jsontext.Value) (texts []string, ok bool) {
	return scalars(value, []jsontext.Kind{jsontext.KindString})
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

func memberPointer(object, name string) string {
	return string(jsontext.Pointer(object).AppendToken(audit.BoundedName(name)))
}

// InBody returns an error with the pointers of faults changed from query parameters to members
// of the object at a pointer. It returns other errors unchanged.
func InBody(err error, object string) error {
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	faults := slices.Clone(invalid.Fields)
	for i, fault := range faults {
		name, isParameter := strings.CutPrefix(fault.Pointer, "?")
		switch {
		case isParameter && name == "":
			faults[i].Pointer = object
		case isParameter:
			faults[i].Pointer = memberPointer(object, name)
		}
	}
	return audit.InvalidFields(faults)
}
