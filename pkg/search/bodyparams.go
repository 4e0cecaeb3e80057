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

// Params reads the parameters of a list from the members of a JSON object. A value is a string, a
// number, true or false, or an array of them. For another value it returns an
// *audit.ValidationError with the pointer of the member.
func Params(members map[string]jsontext.Value) (url.Values, error) {
	params := url.Values{}
	var faults []audit.FieldError
	for _, name := range slices.Sorted(maps.Keys(members)) {
		values, ok := scalars(members[name])
		if !ok {
			faults = append(faults, audit.FieldError{Pointer: memberPointer("", name), Code: "wrong_type", Detail: "must be a string, a number, true, false, or an array of them"})
			continue
		}
		params[name] = values
	}
	return params, audit.InvalidFields(faults)
}

// scalars reads a scalar, or an array of scalars, other than null.
func scalars(value jsontext.Value) ([]string, bool) {
	if value.Kind() != jsontext.KindBeginArray {
		text, ok := scalar(value)
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
		text, ok := scalar(element)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, err == nil
}

func scalar(value jsontext.Value) (text string, ok bool) {
	switch value.Kind() {
	case jsontext.KindString:
		unquoted, err := jsontext.AppendUnquote(nil, value)
		return string(unquoted), err == nil
	case jsontext.KindNumber, jsontext.KindTrue, jsontext.KindFalse:
		return string(value), true
	}
	return "", false
}

var escapePointer = strings.NewReplacer("~", "~0", "/", "~1") // RFC 6901

func memberPointer(object, name string) string {
	return object + "/" + escapePointer.Replace(audit.BoundedName(name))
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
