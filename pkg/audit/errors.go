package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The kinds of errors that callers distinguish with errors.Is. The error that wraps
// one names the operation and the identity.
var (
	// ErrNotFound means that the requested item does not exist in this tenant.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the id belongs to another item, or that the item's state
	// forbids the operation.
	ErrConflict = errors.New("conflict")
	// ErrPrecondition means that the item changed after the caller read it.
	ErrPrecondition = errors.New("precondition failed")
	// ErrUnauthenticated means that the request has no valid credential.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrForbidden means that the principal is not allowed to do this in this tenant.
	ErrForbidden = errors.New("forbidden")
	// ErrTooLarge means that a body or a key exceeds its limit.
	ErrTooLarge = errors.New("too large")
	// ErrUnreadable means that a queue's message is malformed, so that a retry is useless.
	ErrUnreadable = errors.New("the message cannot be read")
)

// FieldError is one fault in a client's request.
type FieldError struct {
	// Pointer is the RFC 6901 JSON pointer of the faulty value. For a query
	// parameter it is "?name", for a header "Header: Name".
	Pointer string `json:"pointer"`
	// Code is a stable word for programs, such as "required" or "too_long".
	Code string `json:"code"`
	// Detail is one sentence for people. It names the limit and does not repeat the value.
	Detail string `json:"detail"`
}

// MaxFaults is the largest number of faults that a client gets for one entry, request
// or message. It keeps the response short.
const MaxFaults = 20

// ValidationError lists the faults of one input. It has at least one. Invalid and InvalidFields
// bound the pointers.
type ValidationError struct{ Fields []FieldError }

// Invalid returns a ValidationError with one fault.
func Invalid(pointer, code, format string, args ...any) *ValidationError {
	return &ValidationError{Fields: []FieldError{{Pointer: BoundedPointer(pointer), Code: code, Detail: fmt.Sprintf(format, args...)}}}
}

// TextFaults returns the faults of a text that is required and has at most limit bytes.
func TextFaults(pointer, text string, limit int) []FieldError {
	switch {
	case text == "":
		return []FieldError{{Pointer: pointer, Code: "required", Detail: "is required"}}
	case len(text) > limit:
		return []FieldError{{Pointer: pointer, Code: "too_long", Detail: fmt.Sprintf("must have at most %d bytes", limit)}}
	}
	return nil
}

// InvalidFields returns a ValidationError with the first MaxFaults of the faults, or
// nil if there are none.
func InvalidFields(faults []FieldError) error {
	if len(faults) == 0 {
		return nil
	}
	faults = slices.Clone(faults[:min(len(faults), MaxFaults)])
	for i := range faults {
		faults[i].Pointer = BoundedPointer(faults[i].Pointer)
	}
	return &ValidationError{Fields: faults}
}

// MergeInvalid returns the faults of all errors as one. It returns an error that is none of faults as it
// is.
func MergeInvalid(errs ...error) error {
	var faults []FieldError
	for _, err := range errs {
		var invalid *ValidationError
		switch {
		case errors.As(err, &invalid):
			faults = append(faults, invalid.Fields...)
		case err != nil:
			return err
		}
	}
	return InvalidFields(faults)
}

// ErrEmptyCursor returns the error of a cursor without text. As the beginning of the list it would
// let a client read the same page for ever.
func ErrEmptyCursor() *ValidationError {
	return Invalid("?cursor", "invalid_cursor", "must not be empty: leave it out for the first page, and stop when next is null")
}

// maxName bounds a name that a client chose, in bytes.
const maxName = 64

// BoundedName shortens a name that a client chose to its first 64 bytes, so that a
// fault can repeat it.
func BoundedName(name string) string {
	if len(name) <= maxName {
		return name
	}
	return strings.ToValidUTF8(name[:maxName], "") + "…"
}

// maxPointer bounds the pointer of a fault, in bytes, because it repeats names that a client chose.
const maxPointer = 256

// BoundedPointer shortens the names in a fault's pointer as BoundedName does. If the pointer is
// still too long, it returns that of an object or array around the value.
func BoundedPointer(pointer string) string {
	if name, isParameter := strings.CutPrefix(pointer, "?"); isParameter {
		return "?" + BoundedName(name)
	}
	if len(pointer) <= maxName || !strings.HasPrefix(pointer, "/") { // a header is one of the API's
		return pointer
	}
	var bounded strings.Builder
	for name := range strings.SplitSeq(pointer[1:], "/") {
		short := BoundedName(name)
		if short != name {
			short = strings.Replace(short, "~…", "…", 1) // half of an escape
		}
		if bounded.Len()+1+len(short) > maxPointer {
			break
		}
		bounded.WriteString("/" + short)
	}
	return bounded.String()
}

func (e *ValidationError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.Pointer + ": " + f.Detail
	}
	return "invalid: " + strings.Join(parts, "; ")
}

// ErrStorageFull means that a store has no space, or nearly none. Somebody must give it more.
var ErrStorageFull = errors.New("the storage is full")

// ErrBacklog means that a tenant's share of a queue is full: more of its messages wait than the
// queue takes from one tenant. A retry succeeds once some were handled.
var ErrBacklog = errors.New("too many messages of the tenant wait in the queue")

// UnavailableError means that a dependency is unavailable now. A retry may succeed.
type UnavailableError struct {
	// RetryAfter is the delay before a retry; zero: one second.
	RetryAfter time.Duration
	Err        error
}

func (e *UnavailableError) Error() string { return "unavailable: " + e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }

// IsUnavailable reports whether an error is an *UnavailableError.
func IsUnavailable(err error) bool {
	var unavailable *UnavailableError
	return errors.As(err, &unavailable)
}
