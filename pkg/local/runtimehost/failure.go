package runtimehost

import (
	"encoding/json"
	"fmt"
)

// The error types of Lambda itself.
const (
	TypeExit     = "Runtime.ExitError"             // the process ended without an answer
	TypeTimeout  = "Sandbox.Timedout"              // the function's time, or its start's, ran out
	TypeTooLarge = "Function.ResponseSizeTooLarge" // the answer passes MaxPayload
	TypeStart    = "Runtime.InvalidEntrypoint"     // the program cannot be started
	TypeUnknown  = "Function.Unknown"              // the function reported an error without a type
)

// FunctionError is the failure of one invocation: the error that the function reported, or the
// error of Lambda itself if the function reported none.
type FunctionError struct {
	Type    string
	Message string
}

func (e *FunctionError) Error() string { return e.Type + ": " + e.Message }

// Interrupted reports whether the function was killed before it answered, so that its effect
// is unknown.
func (e *FunctionError) Interrupted() bool { return e.Type == TypeExit || e.Type == TypeTimeout }

func failuref(kind, format string, args ...any) *FunctionError {
	return &FunctionError{Type: kind, Message: fmt.Sprintf(format, args...)}
}

// reported parses the body of an error report.
func reported(body []byte, errorType string) *FunctionError {
	var report struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}
	if json.Unmarshal(body, &report) != nil { // a report in another form still is one
		report.Message = "the function's error report is not JSON"
	}
	for _, kind := range []string{report.Type, errorType} {
		if kind != "" {
			return &FunctionError{Type: kind, Message: report.Message}
		}
	}
	return &FunctionError{Type: TypeUnknown, Message: report.Message}
}
