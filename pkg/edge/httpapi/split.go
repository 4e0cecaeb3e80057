package httpapi

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func tooMany() error {
	return audit.Invalid("", "too_many", "must have at most %d entries", audit.MaxBulkEntries)
}

// lines splits NDJSON into the texts of its entries. It skips blank lines.
func (s *bodyBuffers) lines() ([][]byte, error) {
	for line := range bytes.Lines(s.body.Bytes()) {
		line = bytes.Trim(line, " \t\r\n")
		if len(line) == 0 {
			continue
		}
		if len(s.texts) == audit.MaxBulkEntries {
			return nil, tooMany()
		}
		s.texts = append(s.texts, line)
	}
	return s.texts, nil
}

// elements splits a JSON array into the texts of its elements. It does not decode
// them: the ingest service reports an invalid element. If the syntax of the array
// is invalid, the whole body is refused.
func (s *bodyBuffers) elements() ([][]byte, error) {
	body := s.body.Bytes()
	s.source = *bytes.NewBuffer(body)
	d := s.decoder
	d.Reset(&s.source, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if kind := d.PeekKind(); kind != jsontext.KindBeginArray {
		if err := d.SkipValue(); err != nil {
			return nil, malformedArray(err, d.InputOffset())
		}
		return nil, ProblemMalformed.problem("The body must be a JSON array of entries. Send NDJSON as " + MediaNDJSON + ".")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, malformedArray(err, d.InputOffset())
	}
	for d.PeekKind() != jsontext.KindEndArray {
		value, err := d.ReadValue()
		if err != nil {
			return nil, malformedArray(err, d.InputOffset())
		}
		if len(s.texts) == audit.MaxBulkEntries {
			return nil, tooMany()
		}
		end := int(d.InputOffset())
		s.texts = append(s.texts, body[end-len(value):end])
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, malformedArray(err, d.InputOffset())
	}
	end := int(d.InputOffset())
	if rest := bytes.TrimLeft(body[end:], " \t\r\n"); len(rest) > 0 {
		return nil, malformedAt(int64(len(body)-len(rest)), noEntryAccepted)
	}
	return s.texts, nil
}

func malformedArray(err error, offset int64) error {
	if syntactic := (*jsontext.SyntacticError)(nil); errors.As(err, &syntactic) {
		offset = syntactic.ByteOffset
	}
	return malformedAt(offset, noEntryAccepted)
}

// malformedAt is the error of a body that is not JSON. outcome is a sentence about what follows.
func malformedAt(offset int64, outcome string) error {
	return ProblemMalformed.problem(strings.TrimSpace("The body is not valid JSON, at byte " + strconv.FormatInt(offset, 10) + ". " + outcome))
}

const noEntryAccepted = "No entry was accepted."

// bytesText prints a limit for people.
func bytesText(n int64) string {
	switch {
	case n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + " MiB"
	case n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
