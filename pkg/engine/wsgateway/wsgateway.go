// Package wsgateway sends to the clients of a WebSocket API of Amazon API Gateway.
// It calls the @connections API.
package wsgateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

const (
	signedService  = "execute-api"
	maxAttempts    = 5               // of one call; the delays between them are less than 0.8 s in all
	attemptTimeout = 2 * time.Second // of one attempt
	callTimeout    = 5 * time.Second // of all attempts
)

// Gateway is the sending side of one stage of a WebSocket API. It implements
// stream.Sender. Its methods may be called concurrently.
type Gateway struct {
	base *url.URL // its path has no trailing slash
	cfg  aws.Config
}

// New returns the gateway whose @connections API is at the endpoint, such as
// https://{api}.execute-api.{region}.amazonaws.com/{stage}. It opens no
// connection. It returns an error if the endpoint is not an http or https URL.
func New(endpoint string, cfg aws.Config) (*Gateway, error) {
	base, err := url.Parse(strings.TrimRight(endpoint, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("the address of the @connections API is not an http or https URL") // the address may contain a secret
	}
	return &Gateway{base: base, cfg: awsconfig.WithClient(cfg)}, nil
}

// Send implements stream.Sender. It retries calls that fail transiently, with
// delays of less than a second in all. The client may get a text twice if API
// Gateway's answer is lost. Send returns audit.ErrTooLarge if the text has more
// than stream.MaxFrameBytes.
func (g *Gateway) Send(ctx context.Context, connection string, text []byte) error {
	if len(text) > stream.MaxFrameBytes {
		return fmt.Errorf("send to connection %s: %d bytes, at most %d: %w", connection, len(text), stream.MaxFrameBytes, audit.ErrTooLarge)
	}
	if err := g.call(ctx, http.MethodPost, connection, text); err != nil {
		return fmt.Errorf("send to connection %s: %w", connection, err)
	}
	return nil
}

// Cut implements stream.Sender. It retries as Send does.
func (g *Gateway) Cut(ctx context.Context, connection string) error {
	if err := g.call(ctx, http.MethodDelete, connection, nil); err != nil && !errors.Is(err, stream.ErrGone) {
		return fmt.Errorf("cut connection %s: %w", connection, err)
	}
	return nil
}

// call calls the @connections API for a connection, in several attempts if necessary.
func (g *Gateway) call(ctx context.Context, method, connection string, body []byte) error {
	if connection == "" || connection == "." || connection == ".." {
		return stream.ErrGone // no connection has such an id, and it would change the path
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := awsconfig.RetryPolicy().Retry(bounded, maxAttempts, isTransient, func() error {
		return g.try(bounded, method, connection, body)
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// transientError is a failure after which a retry may succeed.
type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }

func (e *transientError) Unwrap() error { return e.err }

func isTransient(err error) bool {
	var transient *transientError
	return errors.As(err, &transient)
}

// try makes one attempt.
func (g *Gateway) try(ctx context.Context, method, connection string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	request, err := g.request(ctx, method, connection, body)
	if err != nil {
		return err
	}
	response, err := g.cfg.HTTPClient.Do(request)
	if err != nil {
		return &transientError{withoutURL(err)}
	}
	defer func() { _ = response.Body.Close() }()
	// The body is read only so that the connection can be reused.
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)); err != nil && response.StatusCode/100 == 2 {
		return &transientError{fmt.Errorf("read the answer: %w", err)}
	}
	return responseError(response)
}

// request returns the signed request.
func (g *Gateway) request(ctx context.Context, method, connection string, body []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, g.base.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	const resource = "/@connections/"
	request.URL.Path, request.URL.RawPath = g.base.Path+resource+connection, g.base.EscapedPath()+resource+awsconfig.Escape(connection) // with "=", with which the ids of API Gateway end
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/octet-stream") // as the SDK's own client sends
	}
	return request, awsconfig.Sign(ctx, g.cfg, request, body, signedService, g.cfg.Region)
}

// withoutURL returns the error without the request's URL.
func withoutURL(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// responseError returns the error that a response means, nil for success. It has
// no text of API Gateway, which after a wrong signature repeats the request.
func responseError(response *http.Response) error {
	switch status := response.StatusCode; {
	case status/100 == 2:
		return nil
	case status == http.StatusGone:
		return stream.ErrGone
	case status == http.StatusTooManyRequests:
		return &transientError{stream.ErrBusy}
	case status >= 500:
		return &transientError{statusError(response)}
	default:
		return statusError(response)
	}
}

// statusError returns an error with the response's status and AWS's error type.
func statusError(response *http.Response) error {
	kind, _, _ := strings.Cut(response.Header.Get("X-Amzn-Errortype"), ":")
	if kind == "" || len(kind) > 64 || strings.Trim(kind, letters) != "" {
		return fmt.Errorf("API Gateway answered with status %d", response.StatusCode)
	}
	return fmt.Errorf("API Gateway answered with status %d, %s", response.StatusCode, kind)
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
