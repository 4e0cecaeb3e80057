// Package wsgateway sends to the clients of a WebSocket API of Amazon API
// Gateway, by its @connections API.
package wsgateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

const (
	signedService = "execute-api"
	tries         = 5               // of one call; between them it waits less than 0.8 s in all
	tryTime       = 2 * time.Second // of one of them
	callTime      = 5 * time.Second // of all of them
)

// Gateway is the sending side of one stage of a WebSocket API. It implements
// stream.Sender. Its methods may be called concurrently.
type Gateway struct {
	base   *url.URL // its path has no slash at its end
	cfg    aws.Config
	signer *v4.Signer
}

// New returns the gateway whose @connections API is at the endpoint, such as
// https://{api}.execute-api.{region}.amazonaws.com/{stage}. It opens no
// connection. The error says that the endpoint is no http or https URL.
func New(endpoint string, cfg aws.Config) (*Gateway, error) {
	base, err := url.Parse(strings.TrimRight(endpoint, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("the address of the @connections API is no http or https URL") // which may hold a secret
	}
	return &Gateway{base: base, cfg: awsconfig.WithClient(cfg), signer: v4.NewSigner()}, nil
}

// Send implements stream.Sender. A call that API Gateway does not take for a
// reason that may pass is repeated for less than a second; a text may arrive
// twice where only its answer was lost. A text that is longer than
// stream.MaxFrameBytes is an audit.ErrTooLarge.
func (g *Gateway) Send(ctx context.Context, connection string, text []byte) error {
	if len(text) > stream.MaxFrameBytes {
		return fmt.Errorf("send to connection %s: %d bytes, at most %d: %w", connection, len(text), stream.MaxFrameBytes, audit.ErrTooLarge)
	}
	if err := g.call(ctx, http.MethodPost, connection, text); err != nil {
		return fmt.Errorf("send to connection %s: %w", connection, err)
	}
	return nil
}

// Cut implements stream.Sender. It is repeated as Send is.
func (g *Gateway) Cut(ctx context.Context, connection string) error {
	if err := g.call(ctx, http.MethodDelete, connection, nil); err != nil && !errors.Is(err, stream.ErrGone) {
		return fmt.Errorf("cut connection %s: %w", connection, err)
	}
	return nil
}

// call makes one call of the connection's, in several tries if need be.
func (g *Gateway) call(ctx context.Context, method, connection string, body []byte) error {
	if connection == "" || connection == "." || connection == ".." {
		return stream.ErrGone // of nobody, and not to be part of a path
	}
	bounded, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for failed := 1; ; failed++ {
		err := g.try(bounded, method, connection, body)
		var passing *passingError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.As(err, &passing) || failed == tries || backoff.Sleep(bounded, awsconfig.RetryPolicy().Delay(failed)) != nil:
			return err
		}
	}
}

// passingError is a failure that may not come again at the next try.
type passingError struct{ err error }

func (e *passingError) Error() string { return e.err.Error() }

func (e *passingError) Unwrap() error { return e.err }

// try makes the call once.
func (g *Gateway) try(ctx context.Context, method, connection string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	request, err := g.request(ctx, method, connection, body)
	if err != nil {
		return err
	}
	response, err := g.cfg.HTTPClient.Do(request)
	if err != nil {
		return &passingError{withoutURL(err)}
	}
	defer func() { _ = response.Body.Close() }()
	// What it says is not told, but read, so that the connection serves the next call.
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)); err != nil && response.StatusCode/100 == 2 {
		return &passingError{fmt.Errorf("read the answer: %w", err)}
	}
	return outcome(response)
}

// request is the signed request.
func (g *Gateway) request(ctx context.Context, method, connection string, body []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, g.base.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	const resource = "/@connections/"
	request.URL.Path, request.URL.RawPath = g.base.Path+resource+connection, g.base.EscapedPath()+resource+escaped(connection)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/octet-stream") // as the SDK's own client has it
	}
	credentials, err := g.cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	sum := sha256.Sum256(body)
	if err := g.signer.SignHTTP(ctx, credentials, request, hex.EncodeToString(sum[:]), signedService, g.cfg.Region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return request, nil
}

// escaped is the id as a part of a path. It escapes all that SigV4 does, "="
// among it, which the ids of API Gateway end with.
func escaped(id string) string { return strings.ReplaceAll(url.QueryEscape(id), "+", "%20") }

// withoutURL is the error without the request's address.
func withoutURL(err error) error {
	var with *url.Error
	if errors.As(err, &with) {
		return with.Err
	}
	return err
}

// outcome is what an answer means. API Gateway's words are left out: after a
// wrong signature they repeat what was signed.
func outcome(response *http.Response) error {
	switch status := response.StatusCode; {
	case status/100 == 2:
		return nil
	case status == http.StatusGone:
		return stream.ErrGone
	case status == http.StatusTooManyRequests:
		return &passingError{stream.ErrBusy}
	case status >= 500:
		return &passingError{answered(response)}
	default:
		return answered(response)
	}
}

// answered names the answer by its status and AWS's word for the error.
func answered(response *http.Response) error {
	kind, _, _ := strings.Cut(response.Header.Get("X-Amzn-Errortype"), ":")
	if kind == "" || len(kind) > 64 || strings.Trim(kind, letters) != "" {
		return fmt.Errorf("API Gateway answered with status %d", response.StatusCode)
	}
	return fmt.Errorf("API Gateway answered with status %d, %s", response.StatusCode, kind)
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
