package httpapi

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// document is a JSON object of a request. It is read member by member, so that the
// response can list every fault.
type document struct {
	at      jsontext.Pointer
	members map[string]jsontext.Value
	faults  *[]audit.FieldError // shared with the objects inside
	known   []string            // the names of the members that were asked for
}

// readDocument reads the body of an administrative request.
func readDocument(in *bodies, req *request) (*document, error) {
	s, _, err := in.read(req)
	if err != nil {
		return nil, err
	}
	defer in.release(s)
	text := bytes.Clone(s.body.Bytes())
	d := &document{faults: new([]audit.FieldError)}
	return d, d.parse(text)
}

// parse reads the members of the one object that text is.
func (d *document) parse(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return errEmptyBody()
	}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(text))
	value, err := decoder.ReadValue()
	if err == nil && len(bytes.TrimLeft(text[decoder.InputOffset():], " \t\r\n")) > 0 {
		return malformedAt(decoder.InputOffset(), "")
	}
	if err != nil {
		return malformedDocument(err, decoder.InputOffset())
	}
	if value.Kind() != jsontext.KindBeginObject {
		return audit.Invalid("", "wrong_type", "must be a JSON object")
	}
	d.members = membersOf(value)
	return nil
}

// membersOf splits an object that is known to be valid.
func membersOf(object jsontext.Value) map[string]jsontext.Value {
	members := map[string]jsontext.Value{}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(object))
	_, err := decoder.ReadToken() // the brace
	for err == nil && decoder.PeekKind() == jsontext.KindString {
		var name jsontext.Token
		if name, err = decoder.ReadToken(); err != nil {
			break
		}
		key := name.String()
		var value jsontext.Value
		if value, err = decoder.ReadValue(); err == nil {
			members[key] = value.Clone()
		}
	}
	return members
}

func malformedDocument(err error, offset int64) error {
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		if errors.Is(syntactic.Err, jsontext.ErrDuplicateName) {
			return audit.Invalid(string(syntactic.JSONPointer), "duplicate_key", "must not appear twice in the same object")
		}
		offset = syntactic.ByteOffset
	}
	return malformedAt(offset, "")
}

func (d *document) fault(name, code, detail string) {
	*d.faults = append(*d.faults, audit.FieldError{Pointer: string(d.at.AppendToken(name)), Code: code, Detail: detail})
}

// pop removes and returns a member. It returns false if the member is missing or of
// another kind. It adds a fault for a member of another kind.
func (d *document) pop(name string, kind jsontext.Kind, what string) (value jsontext.Value, ok bool) {
	d.known = append(d.known, name)
	value, ok = d.members[name]
	if !ok {
		return nil, false
	}
	delete(d.members, name)
	if got := value.Kind(); got != kind {
		d.fault(name, "wrong_type", "must be "+what)
		return nil, false
	}
	return value, true
}

// text sets to from a string member. It leaves to unchanged if the member is missing.
func (d *document) text(name string, to *string) {
	if value, ok := d.pop(name, jsontext.KindString, "a string"); ok {
		*to = unquoted(value)
	}
}

func unquoted(value jsontext.Value) string {
	text, _ := jsontext.AppendUnquote(nil, value) // the decoder checked it
	return string(text)
}

func (d *document) boolean(name string, to *bool) {
	d.known = append(d.known, name)
	value, ok := d.members[name]
	if !ok {
		return
	}
	delete(d.members, name)
	switch value.Kind() {
	case jsontext.KindTrue:
		*to = true
	case jsontext.KindFalse:
		*to = false
	default:
		d.fault(name, "wrong_type", "must be true or false")
	}
}

// integer accepts every JSON spelling of a whole number, including 3e1.
func (d *document) integer(name string, to *int) {
	value, ok := d.pop(name, jsontext.KindNumber, "a whole number")
	if !ok {
		return
	}
	number, err := strconv.ParseFloat(string(value), 64)
	if err != nil || number != math.Trunc(number) {
		d.fault(name, "wrong_type", "must be a whole number")
		return
	}
	const exact = 1 << 53 // larger than every limit of the API
	*to = int(min(max(number, -exact), exact))
}

func (d *document) texts(name string, to *[]string) {
	value, ok := d.pop(name, jsontext.KindBeginArray, "an array of strings")
	if !ok {
		return
	}
	texts := []string{}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(value))
	_, err := decoder.ReadToken() // the bracket
	for err == nil && decoder.PeekKind() != jsontext.KindEndArray {
		var element jsontext.Value
		if element, err = decoder.ReadValue(); err != nil {
			break
		}
		if element.Kind() != jsontext.KindString {
			d.fault(name, "wrong_type", "must be an array of strings")
			return
		}
		texts = append(texts, unquoted(element))
	}
	*to = texts
}

// objects returns the objects of an array member. It returns false if the member is
// missing or has anything else.
func (d *document) objects(name string) ([]*document, bool) {
	value, ok := d.pop(name, jsontext.KindBeginArray, "an array of JSON objects")
	if !ok {
		return nil, false
	}
	objects := []*document{}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(value))
	_, err := decoder.ReadToken() // the bracket
	for err == nil && decoder.PeekKind() != jsontext.KindEndArray {
		var element jsontext.Value
		if element, err = decoder.ReadValue(); err != nil {
			break
		}
		if element.Kind() != jsontext.KindBeginObject {
			d.fault(name, "wrong_type", "must be an array of JSON objects")
			return nil, false
		}
		at := d.at.AppendToken(name).AppendToken(strconv.Itoa(len(objects)))
		objects = append(objects, &document{at: at, members: membersOf(element), faults: d.faults})
	}
	return objects, true
}

func (d *document) time(name string, to *time.Time) {
	var text string
	value, ok := d.pop(name, jsontext.KindString, "an RFC 3339 time")
	if !ok {
		return
	}
	text = unquoted(value)
	t, err := audit.ParseTime(text)
	if err != nil {
		d.fault(name, "invalid_time", err.Error())
		return
	}
	if t.IsZero() { // would stand for a time that is not given
		d.fault(name, "out_of_range", "must be later than 0001-01-01T00:00:00Z, which some programs write for no time: leave it out instead")
		return
	}
	*to = t
}

// object returns the object member, or nil if it is missing or of another kind.
func (d *document) object(name string) *document {
	value, ok := d.pop(name, jsontext.KindBeginObject, "a JSON object")
	if !ok {
		return nil
	}
	return &document{at: d.at.AppendToken(name), members: membersOf(value), faults: d.faults}
}

// popNull removes a member that is null, and reports whether there was one.
func (d *document) popNull(name string) bool {
	value, ok := d.members[name]
	if !ok || value.Kind() != jsontext.KindNull {
		return false
	}
	delete(d.members, name)
	return true
}

// close adds a fault for each member that was not read.
func (d *document) close() {
	for _, name := range slices.Sorted(maps.Keys(d.members)) {
		if len(*d.faults) >= audit.MaxFaults {
			return
		}
		d.fault(name, "unknown_field", "is not a field here, which are "+strings.Join(slices.Compact(slices.Sorted(slices.Values(d.known))), ", "))
	}
}

// err returns the faults that were found so far.
func (d *document) err() error {
	return audit.InvalidFields(*d.faults)
}

// copy returns a document of the same members that can be read again.
func (d *document) copy() *document {
	return &document{at: d.at, members: maps.Clone(d.members), faults: new([]audit.FieldError)}
}
