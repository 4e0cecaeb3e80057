// Package cloudtrail turns the records of AWS CloudTrail's log files into Ocelot entries. The
// entry's metadata is the whole record.
package cloudtrail

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxRecordBytes is the maximum size of a record, in bytes. It bounds the memory of a Reader.
// CloudTrail's own records have at most 1 MB.
const MaxRecordBytes = 16 << 20

// ErrRecordTooLarge means that a record has more than MaxRecordBytes.
var ErrRecordTooLarge = errors.New("a record is larger than 16 MiB")

// Reader reads the records of one log file ({"Records":[…]}) one by one. The file can have any
// size.
type Reader struct {
	budget  *budget
	decoder *jsontext.Decoder
	state   readerState
}

type readerState uint8

const (
	atStart readerState = iota
	inRecords
	atEnd
)

// NewReader returns a reader of one file's text.
func NewReader(r io.Reader) *Reader {
	b := &budget{r: r}
	return &Reader{budget: b, decoder: jsontext.NewDecoder(b,
		// The service judges a record's content. A faulty record must not stop the records
		// after it.
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))}
}

// Next returns the JSON text of the next record without insignificant white space. After the
// last record it returns io.EOF. The caller owns the text. After any other error the rest of
// the file cannot be read.
func (r *Reader) Next() ([]byte, error) {
	r.budget.left = MaxRecordBytes
	if r.state == atStart {
		if err := r.findRecords(); err != nil {
			return nil, err
		}
		r.state = inRecords
	}
	if r.state == atEnd {
		return nil, io.EOF
	}
	if r.decoder.PeekKind() == ']' {
		if err := r.finish(); err != nil {
			return nil, err
		}
		r.state = atEnd
		return nil, io.EOF
	}
	value, err := r.decoder.ReadValue()
	if err != nil {
		return nil, unexpected(err)
	}
	record := value.Clone()
	if err := record.Compact(); err != nil {
		return nil, unexpected(err)
	}
	return record, nil
}

// findRecords reads to the first element of "Records".
func (r *Reader) findRecords() error {
	if r.decoder.PeekKind() != '{' {
		return r.notALog()
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return unexpected(err)
	}
	for r.decoder.PeekKind() == '"' {
		name, err := r.decoder.ReadToken()
		if err != nil {
			return unexpected(err)
		}
		if name.String() != "Records" {
			if err := r.decoder.SkipValue(); err != nil {
				return unexpected(err)
			}
			continue
		}
		if r.decoder.PeekKind() != '[' {
			return r.notALog()
		}
		_, err = r.decoder.ReadToken()
		return unexpected(err)
	}
	return r.notALog()
}

// notALog returns the error of a file that is not a CloudTrail log. If the file is not JSON,
// the error says so.
func (r *Reader) notALog() error {
	if r.decoder.PeekKind() != '}' {
		if err := r.decoder.SkipValue(); err != nil && !errors.Is(err, io.EOF) {
			return unexpected(err)
		}
	}
	return errors.New(`not a CloudTrail log file: it has no array "Records"`)
}

// finish checks that the object and the file end after the records.
func (r *Reader) finish() error {
	for r.decoder.StackDepth() > 0 {
		if _, err := r.decoder.ReadToken(); err != nil {
			return unexpected(err)
		}
	}
	if _, err := r.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the end of the log")
	}
	return nil
}

// unexpected wraps an error of the text. It returns nil for nil.
func unexpected(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrRecordTooLarge):
		return ErrRecordTooLarge
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the file ends in the middle: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("not JSON: %w", err)
}

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
	return n, err
}
