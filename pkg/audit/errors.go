package audit

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The kinds of failure that callers tell apart. They are matched with
// errors.Is; the text around them carries the operation and the identity.
var (
	// ErrNotFound says that the thing asked for does not exist for this tenant.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that an identity is already taken by something else.
	ErrConflict = errors.New("conflict")
	// ErrPrecondition says that the thing changed since the caller read it.
	ErrPrecondition = errors.New("precondition failed")
	// ErrUnauthenticated says that no valid credential came with the request.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrForbidden says that the principal may not do this here.
	ErrForbidden = errors.New("forbidden")
	// ErrTooLarge says that a body passes its limit.
	ErrTooLarge = errors.New("too large")
	// ErrUnreadable: a queue's message is not of its form. It never will be.
	ErrUnreadable = errors.New("the message cannot be read")
)

// FieldError is one fault in what a client sent.
type FieldError struct {
	// Pointer is the RFC 6901 JSON pointer of the faulty value, or the name
	// of the query parameter or header in the form "?name" or "Header: Name".
	Pointer string `json:"pointer"`
	// Code is a stable word for programs, such as "required" or "too_long".
	Code string `json:"code"`
	// Detail is one sentence for people. It names the limit and never repeats the value.
	Detail string `json:"detail"`
}

// MaxFaults bounds what a client is told about one entry, request or message, so
// that the answer to a faulty one is short however long that is.
const MaxFaults = 20

// ValidationError is everything that is wrong with one input. It never is empty.
type ValidationError struct{ Fields []FieldError }

// Invalid returns a ValidationError with the one field.
func Invalid(pointer, code, format string, args ...any) *ValidationError {
	return &ValidationError{Fields: []FieldError{{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)}}}
}

// InvalidFields returns a ValidationError with the first MaxFaults of the faults,
// and nil where there are none.
func InvalidFields(faults []FieldError) error {
	if len(faults) == 0 {
		return nil
	}
	return &ValidationError{Fields: faults[:min(len(faults), MaxFaults)]}
}

// BoundedName returns a name that a client made up as a fault repeats it: its
// first 64 bytes where it is longer.
func BoundedName(name string) string {
	const most = 64
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

func (e *ValidationError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.Pointer + ": " + f.Detail
	}
	return "invalid: " + strings.Join(parts, "; ")
}

// UnavailableError says that a dependency cannot answer now and when a retry makes sense.
type UnavailableError struct {
	// RetryAfter is how long the caller should wait; zero means one second.
	RetryAfter time.Duration
	Err        error
}

func (e *UnavailableError) Error() string { return "unavailable: " + e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }
