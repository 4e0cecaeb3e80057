package secrets

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

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

// The calls that functions make are written here and not taken from the SDK's
// client of Secrets Manager. Initialising that client takes a tenth of a function's
// start, and every function would pay for it.
// Its form is that of https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html.

const (
	callTries   = 5 // of one call, within 0.4 s on average
	tryTimeout  = 5 * time.Second
	maxResponse = 256 << 10 // bytes; a secret has at most 64 KiB, in base64 or with escapes
	signedName  = "secretsmanager"
	endpointID  = "Secrets Manager" // in the SDK
)

// value is the part of GetSecretValue's answer that is used.
type value struct {
	SecretString *string
	SecretBinary []byte
}

func (v value) text() string {
	if v.SecretString != nil {
		return *v.SecretString
	}
	return string(v.SecretBinary)
}

// fetch returns the secret's value.
func (r *Resolver) fetch(ctx context.Context, id arn.ARN) (string, error) {
	var v value
	err := r.call(ctx, id, "GetSecretValue", map[string]any{}, &v)
	return v.text(), err
}

// call makes a call about the secret, whose id it adds to the input. It tries again if a failure
// can pass.
func (r *Resolver) call(ctx context.Context, id arn.ARN, action string, input map[string]any, output any) error {
	input["SecretId"] = id.String()
	body, err := json.Marshal(input)
	if err != nil {
		return err
	}
	err = awsconfig.RetryPolicy().Retry(ctx, callTries, awsconfig.Retryer(callTries).IsErrorRetryable, func() error {
		return r.try(ctx, id, action, body, output)
	})
	return outcome(ctx, err)
}

// outcome turns a failure into the domain's word for it.
func outcome(ctx context.Context, err error) error {
	var failed *callError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed) && (failed.Code == "ResourceNotFoundException" || failed.Code == "InvalidRequestException"):
		return audit.ErrNotFound // InvalidRequestException: the secret is about to be deleted
	}
	return awsconfig.Failure(ctx, err)
}

func (r *Resolver) try(ctx context.Context, id arn.ARN, action string, body []byte, output any) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	request, err := r.request(ctx, id, action, body)
	if err != nil {
		return err
	}
	response, err := r.cfg.HTTPClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("read the answer: %w", io.ErrUnexpectedEOF)
	}
	if response.StatusCode != http.StatusOK {
		return newCallError(response, text)
	}
	if err := json.Unmarshal(text, output); err != nil {
		return errors.New("the answer is not the JSON of a secret") // and may hold one
	}
	return nil
}

// request returns the signed request. A secret may lie in another region than the function.
func (r *Resolver) request(ctx context.Context, id arn.ARN, action string, body []byte) (*http.Request, error) {
	region := id.Region
	if region == "" {
		region = r.cfg.Region
	}
	address, err := r.address(ctx, id, region)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(address, "/")+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "secretsmanager."+action)
	return request, awsconfig.Sign(ctx, r.cfg, request, body, signedName, region)
}

// address returns the address of Secrets Manager for a secret in a region.
func (r *Resolver) address(ctx context.Context, id arn.ARN, region string) (string, error) {
	if configured := awsconfig.Endpoint(ctx, r.cfg, endpointID); configured != "" {
		return configured, nil
	}
	domain, known := awsconfig.Domain(id.Partition)
	if !known {
		return "", fmt.Errorf("the partition %q is unknown: set AWS_ENDPOINT_URL_SECRETS_MANAGER", id.Partition)
	}
	return "https://" + signedName + "." + region + "." + domain, nil
}

// callError is an answer of Secrets Manager other than a secret. The SDK's rules for
// repeating calls read it by its methods.
type callError struct {
	Code   string // such as AccessDeniedException
	Status int
}

// newCallError reads the code of an answer. It leaves out the message, which may contain
// details that must not reach the log.
func newCallError(response *http.Response, text []byte) *callError {
	var document struct {
		Type string `json:"__type"`
	}
	_ = json.Unmarshal(text, &document) // without a code the status decides
	code := document.Type
	if code == "" {
		code, _, _ = strings.Cut(response.Header.Get("X-Amzn-Errortype"), ":")
	}
	return &callError{Code: code[strings.LastIndexByte(code, '#')+1:], Status: response.StatusCode}
}

func (e *callError) Error() string {
	return fmt.Sprintf("Secrets Manager answered with status %d, %s", e.Status, e.Code)
}

// ErrorCode returns AWS's word for the error.
func (e *callError) ErrorCode() string { return e.Code }

// HTTPStatusCode returns the answer's status.
func (e *callError) HTTPStatusCode() int { return e.Status }
