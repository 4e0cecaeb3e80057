package awsconfig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const maxResponse = 256 << 10 // bytes; a secret has at most 64 KiB, in base64 or with escapes

// JSONService calls a service of AWS whose protocol is JSON 1.1 (awsJson1_1 in the documentation of
// Smithy). It takes the place of an SDK client: initialising one takes a tenth of a function's start,
// and linking one adds up to 2 MB to it.
type JSONService struct {
	Config  aws.Config
	ID      string        // of the service in the SDK, such as "Secrets Manager"
	Name    string        // in signatures and addresses, such as "secretsmanager"
	Target  string        // what precedes the name of an action, such as "secretsmanager"
	Tries   int           // of one call
	Timeout time.Duration // of one try
}

// Call makes a call in a region and reads the answer into output. It tries again if a failure can
// pass. The error of an answer that is not a success is a *CallError. Errors have nothing of the
// input or the answer.
func (s *JSONService) Call(ctx context.Context, region, action string, input, output any) error {
	body, err := json.Marshal(input)
	if err != nil {
		return fmt.Errorf("encode the call %s of %s", action, s.ID)
	}
	return RetryPolicy().Retry(ctx, s.Tries, Retryer(s.Tries).IsErrorRetryable, func() error {
		return s.try(ctx, region, action, body, output)
	})
}

func (s *JSONService) try(ctx context.Context, region, action string, body []byte, output any) error {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address(ctx, region), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", s.Target+"."+action)
	if err := Sign(ctx, s.Config, request, body, s.Name, region); err != nil {
		return err
	}
	response, err := s.Config.HTTPClient.Do(request)
	if err != nil {
		return &ConnectionError{err}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return &ConnectionError{fmt.Errorf("read the answer: %w", err)}
	}
	if response.StatusCode != http.StatusOK {
		return newCallError(s.ID, response, text)
	}
	if err := json.Unmarshal(text, output); err != nil {
		return errors.New("the answer of " + s.ID + " is not the JSON of " + action) // and may hold a secret
	}
	return nil
}

// address returns the configured address of the service, or AWS's own.
func (s *JSONService) address(ctx context.Context, region string) string {
	if configured := Endpoint(ctx, s.Config, s.ID); configured != "" {
		return strings.TrimRight(configured, "/") + "/"
	}
	return "https://" + s.Name + "." + region + "." + Domain(region) + "/"
}

// ConnectionError is a call that was not answered, or not to the end.
type ConnectionError struct{ Err error }

func (e *ConnectionError) Error() string { return e.Err.Error() }

func (e *ConnectionError) Unwrap() error { return e.Err }

// ConnectionError tells the SDK's rules for repeating calls that the failure can pass.
func (e *ConnectionError) ConnectionError() bool { return true }

// CallError is an answer of a service other than a success. The SDK's rules for repeating calls read
// it by its methods.
type CallError struct {
	Service string // its id in the SDK
	Code    string // such as AccessDeniedException
	Status  int
}

// newCallError reads the code of an answer. It leaves out the message, which may contain
// details that must not reach the log.
func newCallError(service string, response *http.Response, text []byte) *CallError {
	var document struct {
		Type string `json:"__type"`
	}
	_ = json.Unmarshal(text, &document) // without a code the status decides
	code := document.Type
	if code == "" {
		code, _, _ = strings.Cut(response.Header.Get("X-Amzn-Errortype"), ":")
	}
	return &CallError{Service: service, Code: code[strings.LastIndexByte(code, '#')+1:], Status: response.StatusCode}
}

func (e *CallError) Error() string {
	return fmt.Sprintf("%s answered with status %d, %s", e.Service, e.Status, e.Code)
}

// ErrorCode returns AWS's word for the error.
func (e *CallError) ErrorCode() string { return e.Code }

// HTTPStatusCode returns the answer's status.
func (e *CallError) HTTPStatusCode() int { return e.Status }
