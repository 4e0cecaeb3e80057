package importers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// layoutWindow is how much of a text decides its layout, in bytes.
const layoutWindow = 1 << 20

// Read returns the records of a text. The error ends it: the rest of the text cannot be read. The
// text can have any size. Read holds at most a few times MaxRecordBytes.
//
// A text has one record or wrapper on each line, or it is a JSON document over many lines. In
// lines, a faulty one fails alone. In a document, nothing after a syntax error can be read.
func Read(text io.Reader, format Format) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		lines := &lineReader{r: bufio.NewReaderSize(text, layoutWindow), line: 1}
		if format == NDJSON {
			readLines(lines, format, yield)
			return
		}
		document, err := lines.isDocument()
		switch {
		case err != nil:
			yield(Record{Line: lines.line}, err)
		case document:
			readDocument(lines, format, yield)
		default:
			readLines(lines, format, yield)
		}
	}
}

// lineReader counts lines.
type lineReader struct {
	r    *bufio.Reader
	line int // number of the line at the current place, from 1
}

// Read reads on, in lines or in the middle of them.
func (l *lineReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.line += bytes.Count(p[:n], []byte("\n"))
	return n, err
}

// next returns the next line. A line over MaxRecordBytes has no text, and ok is false. The caller
// owns the text. At the end the error is io.EOF.
func (l *lineReader) next() (text []byte, ok bool, err error) {
	size := 0
	for {
		part, err := l.r.ReadSlice('\n')
		if size += len(part); size <= MaxRecordBytes {
			text = append(text, part...)
		} else {
			text = nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && size > 0, err == nil:
			return text, size <= MaxRecordBytes, nil
		default:
			return nil, true, err
		}
	}
}

const blank = " \t\r\n"

// isDocument skips blank lines and looks at the first line, and at the second if the first is not
// complete. It waits for no more than that: an input may be slow.
func (l *lineReader) isDocument() (bool, error) {
	first, whole, err := l.peekLine(0)
	for err == nil && whole && len(bytes.Trim(first, blank)) == 0 {
		if _, err = l.r.Discard(len(first)); err == nil {
			l.line++
			first, whole, err = l.peekLine(0)
		}
	}
	if err != nil {
		return false, err
	}
	decoder := newDecoder(bytes.NewReader(first))
	_, err = decoder.ReadValue()
	switch {
	case err == nil:
		return !whole && len(first) == layoutWindow, nil // values follow each other without line breaks
	case beginsList(first):
		return true, nil
	case !whole || !errors.Is(err, io.ErrUnexpectedEOF):
		return false, nil
	}
	second, _, err := l.peekLine(len(first))
	if err != nil {
		return false, err
	}
	// A line that is cut off stands before another record. The first line of a document stands
	// before a member.
	before, after := bytes.TrimRight(first, blank), bytes.TrimLeft(second, blank)
	return !bytes.HasPrefix(after, []byte("{")) || bytes.ContainsAny(before[len(before)-1:], "[:,"), nil
}

// peekLine returns the line at an offset with its line break, without reading it. whole is false
// if it is cut off by the end of the text or of the window.
func (l *lineReader) peekLine(offset int) (line []byte, whole bool, err error) {
	for {
		seen, err := l.r.Peek(l.r.Buffered())
		if err != nil {
			return nil, false, err
		}
		if len(seen) > offset {
			if end := bytes.IndexByte(seen[offset:], '\n'); end >= 0 {
				return seen[offset : offset+end+1], true, nil
			}
		}
		if len(seen) >= layoutWindow {
			return seen[min(offset, len(seen)):], false, nil
		}
		more, err := peek(l.r, len(seen)+1)
		if err != nil {
			return nil, false, err
		}
		if len(more) == len(seen) {
			return more[min(offset, len(more)):], false, nil
		}
	}
}

// isEnd reports whether an error is the regular end of a text.
func isEnd(err error) bool { return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }

// newDecoder returns a decoder that leaves it to the service to judge names and text: a faulty
// record must not stop the records after it.
func newDecoder(r io.Reader) *jsontext.Decoder {
	return jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// beginsList reports whether a text begins like an array of objects, or like an object that wraps one.
func beginsList(text []byte) bool {
	decoder := newDecoder(bytes.NewReader(text))
	if decoder.PeekKind() == '{' {
		if _, err := decoder.ReadToken(); err != nil {
			return false
		}
		for decoder.PeekKind() == '"' {
			name, err := decoder.ReadToken()
			if err != nil {
				return false
			}
			if isWrapperName(name.String()) && decoder.PeekKind() == '[' {
				break
			}
			if decoder.SkipValue() != nil {
				return false
			}
		}
	}
	if decoder.PeekKind() != '[' {
		return false
	}
	if _, err := decoder.ReadToken(); err != nil {
		return false
	}
	rest := bytes.TrimLeft(decoder.UnreadBuffer(), blank)
	return len(rest) == 0 || rest[0] == '{' || rest[0] == ']'
}

// readLines reads the records of each line.
func readLines(lines *lineReader, format Format, yield func(Record, error) bool) {
	for ; ; lines.line++ {
		text, ok, err := lines.next()
		switch {
		case isEnd(err):
			return
		case err != nil:
			yield(Record{Line: lines.line}, err)
			return
		case !ok:
			if !yield(Record{Line: lines.line, Err: ErrRecordTooLarge}, nil) {
				return
			}
			continue
		}
		// A file can be several that were joined, each with its byte order mark.
		text = bytes.Trim(bytes.TrimPrefix(bytes.TrimLeft(text, blank), []byte("\ufeff")), blank)
		if len(text) == 0 {
			continue
		}
		for _, record := range recordsOfLine(text, format) {
			record.Line = lines.line
			if !yield(record, nil) {
				return
			}
		}
	}
}

// recordsOfLine returns the records of a line, numbered if it has several.
func recordsOfLine(text []byte, format Format) []Record {
	if format == NDJSON {
		return []Record{{Entry: text, Original: text}}
	}
	values, err := valuesOf(text)
	if err != nil {
		record := Record{Original: text, Entry: text} // the service says what is wrong with an entry
		if format != Auto && format.isForeign() {
			record.Entry, record.Err = nil, syntaxError(err)
		}
		return []Record{record}
	}
	var records []Record
	for _, value := range values {
		records = append(records, recordsOf(value, format)...)
	}
	if len(records) > 1 {
		for i := range records {
			records[i].Number = i + 1
		}
	}
	return records
}

// valuesOf returns the JSON values of a text, which share its memory.
func valuesOf(text []byte) (values [][]byte, err error) {
	buffer := bytes.NewBuffer(text)
	for decoder := newDecoder(buffer); ; {
		value, err := decoder.ReadValue()
		if isEnd(err) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		end := int(decoder.InputOffset())
		values = append(values, text[end-len(value):end:end])
	}
}

// readDocument reads the records of a document, or of several that follow each other.
func readDocument(lines *lineReader, format Format, yield func(Record, error) bool) {
	budget := &budget{r: lines}
	d := &document{lines: lines, budget: budget, decoder: newDecoder(budget), format: format, yield: yield}
	for {
		err := d.value()
		switch {
		case errors.Is(err, errStopped), isEnd(err):
			return
		case err != nil:
			yield(Record{Line: d.lineOf(err), Number: d.number + 1}, fmt.Errorf("the rest of the file is skipped: %w", syntaxError(err)))
			return
		}
	}
}

// document reads JSON that is not in lines.
type document struct {
	lines   *lineReader
	budget  *budget
	decoder *jsontext.Decoder
	format  Format
	yield   func(Record, error) bool
	number  int // records so far
}

// errStopped means that the caller wants no more records.
var errStopped = errors.New("stopped")

// line returns the line where the last bytes that were decoded begin.
func (d *document) line(bytesBack int) int {
	unread := bytes.Count(d.decoder.UnreadBuffer(), []byte("\n"))
	return d.lines.line - unread - bytesBack
}

// lineOf returns the line of an error.
func (d *document) lineOf(err error) int {
	unread := d.decoder.UnreadBuffer()
	ahead := len(unread)
	if syntactic := new(jsontext.SyntacticError); errors.As(err, &syntactic) {
		ahead = min(ahead, max(0, int(syntactic.ByteOffset-d.decoder.InputOffset())))
	}
	return d.line(0) + bytes.Count(unread[:ahead], []byte("\n"))
}

// value reads a value of the top level: an array of records, or an object.
func (d *document) value() error {
	d.budget.left = MaxRecordBytes
	switch d.decoder.PeekKind() {
	case '[':
		return d.elements()
	case '{':
		return d.object()
	}
	return d.record()
}

// elements reads an array element by element.
func (d *document) elements() error {
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	for d.decoder.PeekKind() != ']' {
		d.budget.left = MaxRecordBytes
		if err := d.record(); err != nil {
			return endIsEarly(err)
		}
	}
	d.budget.left = MaxRecordBytes
	_, err := d.decoder.ReadToken()
	return endIsEarly(err)
}

// record reads one value and yields its records.
func (d *document) record() error {
	value, err := d.decoder.ReadValue()
	if err != nil {
		return err
	}
	line := d.line(bytes.Count(value, []byte("\n")))
	return d.add(line, compacted(value))
}

func (d *document) add(line int, text []byte) error {
	for _, record := range recordsOf(text, d.format) {
		d.number++
		record.Line, record.Number = line, d.number
		if !d.yield(record, nil) {
			return errStopped
		}
	}
	return nil
}

// object reads an object member by member, so that a list of any size can be read. If it wraps
// no list, it is a record.
func (d *document) object() error {
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	line, wraps := d.line(0), false
	text := []byte{'{'}
	for d.decoder.PeekKind() == '"' {
		name, err := d.decoder.ReadValue()
		if err != nil {
			return endIsEarly(err)
		}
		var unquoted []byte
		if unquoted, err = jsontext.AppendUnquote(nil, name); err != nil {
			unquoted = nil // it has invalid text: it is no wrapper's name
		}
		quoted := slices.Clone(name)
		if d.format != JSON && isWrapperName(string(unquoted)) && d.decoder.PeekKind() == '[' && d.holdsObjects() {
			if err := d.elements(); err != nil {
				return err
			}
			wraps = true
			continue
		}
		value, err := d.decoder.ReadValue()
		if err != nil {
			return endIsEarly(err)
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(append(append(text, quoted...), ':'), compacted(value)...)
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return endIsEarly(err)
	}
	if wraps {
		return nil
	}
	return d.add(line, append(text, '}'))
}

// holdsObjects reports whether the array at the current place has objects or nothing, as far as
// it is buffered.
func (d *document) holdsObjects() bool {
	rest := bytes.TrimLeft(d.decoder.UnreadBuffer(), blank+":")
	rest = bytes.TrimLeft(bytes.TrimPrefix(rest, []byte("[")), blank)
	return len(rest) == 0 || rest[0] == '{' || rest[0] == ']'
}

// compacted returns a copy of a value without white space between its tokens.
func compacted(value jsontext.Value) []byte {
	text := value.Clone()
	if text.Compact(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return value.Clone()
	}
	return text
}

// endIsEarly makes an end within a value an error.
func endIsEarly(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// syntaxError says what is wrong with a text that is not JSON.
func syntaxError(err error) error {
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, ErrRecordTooLarge):
		return fmt.Errorf("a record %w", ErrRecordTooLarge)
	case errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(*readError)):
		return errors.New("the file ends in the middle of a value")
	case errors.As(err, &syntactic):
		return fmt.Errorf("not JSON: %w", err)
	}
	return err
}

// readError is an error of the text's reader, not of the text.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

func (e *readError) Unwrap() error { return e.err }

// budget limits how many bytes can be read, so that one record cannot fill the memory.
type budget struct {
	r    io.Reader
	left int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrRecordTooLarge
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		err = &readError{err}
	}
	return n, err
}
