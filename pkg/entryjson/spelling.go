package entryjson

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// lenient makes a decoder read on after the faults that spellingFaults finds.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// spellingFaults returns a fault for each name that is given twice in an object and for each text that
// is not Unicode, up to the first syntax error.
func spellingFaults(text []byte) []audit.FieldError {
	s := speller{text: text, decoder: jsontext.NewDecoder(bytes.NewReader(text), lenient...)}
	for len(s.faults) < audit.MaxFaults && s.next() {
		continue
	}
	return s.faults
}

// speller finds faults of spelling.
type speller struct {
	text    []byte
	decoder *jsontext.Decoder
	names   []map[string]bool // of the objects that are open; nil for an array
	faults  []audit.FieldError
}

// next reads a token. It returns false at the end of the text and at a syntax error, which another
// reader reports.
func (s *speller) next() bool {
	switch s.decoder.PeekKind() {
	case jsontext.KindString:
		return s.string()
	case jsontext.KindBeginObject:
		s.names = append(s.names, map[string]bool{})
	case jsontext.KindBeginArray:
		s.names = append(s.names, nil)
	case jsontext.KindEndObject, jsontext.KindEndArray:
		s.names = s.names[:max(0, len(s.names)-1)]
	}
	_, err := s.decoder.ReadToken()
	return err == nil
}

// string reads a string: a value or a name.
func (s *speller) string() bool {
	kind, length := s.decoder.StackIndex(s.decoder.StackDepth())
	raw, err := s.decoder.ReadValue()
	if err != nil {
		return false
	}
	start := s.decoder.InputOffset() - int64(len(raw))
	unquoted, err := jsontext.AppendUnquote(nil, raw)
	var syntactic *jsontext.SyntacticError
	if _, fault := jsontext.NewDecoder(bytes.NewReader(raw)).ReadValue(); errors.As(fault, &syntactic) {
		s.fault(start+syntactic.ByteOffset, syntactic.Err)
		return true
	}
	if err != nil || kind != jsontext.KindBeginObject || length%2 > 0 {
		return err == nil
	}
	names := s.names[len(s.names)-1]
	if names[string(unquoted)] {
		s.fault(start, jsontext.ErrDuplicateName)
	}
	names[string(unquoted)] = true
	return true
}

func (s *speller) fault(offset int64, err error) {
	fault := syntaxFault(s.text, &jsontext.SyntacticError{ByteOffset: offset, JSONPointer: s.decoder.StackPointer(), Err: err})
	fault.Pointer = audit.BoundedPointer(fault.Pointer)
	s.faults = append(s.faults, fault)
}
