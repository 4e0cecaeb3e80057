package s3blob

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
)

const (
	maxAttempts = 7       // of one call; the delays between them are 1.6 s on average
	maxAnswer   = 8 << 20 // bytes of an answer in XML; a list of 1,000 objects has less than 2 MB
)

// Client calls S3 for any number of buckets. It is not the SDK's: that one alone would add 2 MB to
// each function, which reads it at every start. The calls are those of the Amazon S3 API Reference.
type Client struct {
	cfg      aws.Config
	signer   *awsconfig.S3Signer
	endpoint *url.URL // nil: AWS's own
}

// NewClient returns a client that retries calls that fail transiently. It makes no call. It returns
// an error if the endpoint that the settings name is not an http or https URL.
func NewClient(cfg aws.Config) (*Client, error) {
	c := &Client{cfg: awsconfig.WithClient(cfg), signer: awsconfig.NewS3Signer(cfg)}
	address := awsconfig.Endpoint(context.Background(), cfg, "S3")
	if address == "" {
		return c, nil
	}
	var err error
	c.endpoint, err = url.Parse(strings.TrimRight(address, "/"))
	if err != nil || c.endpoint.Host == "" || c.endpoint.Scheme != "http" && c.endpoint.Scheme != "https" || c.endpoint.RawQuery != "" {
		return nil, errors.New("the address of S3 is not an http or https URL") // the address may contain a secret
	}
	return c, nil
}

// call is a call about a bucket or, with a key, about an object.
type call struct {
	method      string
	bucket, key string
	query       url.Values
	header      http.Header
	body        []byte
}

// address returns the URL of the call. A custom endpoint has no host name for each bucket, and a
// certificate of AWS has none for a name with dots.
func (c *Client) address(of *call) *url.URL {
	u := &url.URL{Scheme: "https", Host: "s3." + c.cfg.Region + "." + awsconfig.Domain(c.cfg.Region), RawQuery: strings.ReplaceAll(of.query.Encode(), "+", "%20")}
	path := "/" + of.bucket + "/" + of.key
	switch {
	case c.endpoint != nil:
		u.Scheme, u.Host, path = c.endpoint.Scheme, c.endpoint.Host, c.endpoint.Path+path
	case !strings.Contains(of.bucket, "."):
		u.Host, path = of.bucket+"."+u.Host, "/"+of.key
	}
	u.Path, u.RawPath = path, escape(path)
	return u
}

// escape escapes each segment of a path.
func escape(path string) string {
	segments := strings.Split(path, "/")
	for i := range segments {
		segments[i] = awsconfig.Escape(segments[i])
	}
	return strings.Join(segments, "/")
}

// send makes a call, in several attempts if necessary. The caller closes the answer's body. The error
// of an answer that is not a success is an *answerError.
func (c *Client) send(ctx context.Context, of call) (response *http.Response, err error) {
	err = awsconfig.RetryPolicy().Retry(ctx, maxAttempts, awsconfig.Retryer(1).IsErrorRetryable, func() error {
		response, err = c.try(ctx, &of) //nolint:bodyclose // the caller closes it
		return err
	})
	return response, err
}

// ask is send for a call whose answer is an XML document, which it reads into answer, or nothing if
// answer is nil. S3 can report a failure after it has begun to answer with the status 200.
func (c *Client) ask(ctx context.Context, of call, answer any) (header http.Header, err error) {
	err = awsconfig.RetryPolicy().Retry(ctx, maxAttempts, awsconfig.Retryer(1).IsErrorRetryable, func() error {
		response, err := c.try(ctx, &of)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		header = response.Header
		text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if err != nil {
			return &awsconfig.ConnectionError{Err: fmt.Errorf("read the answer: %w", err)}
		}
		if code := codeOf(text); code != "" {
			return &answerError{status: statusOf(code), code: code}
		}
		if answer == nil {
			return nil
		}
		if err := xml.Unmarshal(text, answer); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		return nil
	})
	return header, err
}

// try makes one attempt.
func (c *Client) try(ctx context.Context, of *call) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, of.method, "", bytes.NewReader(of.body))
	if err != nil {
		return nil, err
	}
	request.URL = c.address(of)
	request.Host = request.URL.Host
	for name, values := range of.header {
		request.Header[name] = values
	}
	if err := c.signer.Sign(ctx, request, of.body); err != nil {
		return nil, err
	}
	response, err := c.cfg.HTTPClient.Do(request)
	if err != nil {
		return nil, &awsconfig.ConnectionError{Err: err}
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		text = nil // the status says enough
	}
	return nil, &answerError{status: response.StatusCode, code: codeOf(text)}
}

// answerError is an answer of S3 that is not a success. Its text has nothing of S3's, which after a
// wrong signature repeats the request.
type answerError struct {
	status int
	code   string // such as NoSuchKey; "": the answer has none
}

func (e *answerError) Error() string {
	if e.code == "" {
		return "S3 answered with status " + strconv.Itoa(e.status)
	}
	return fmt.Sprintf("S3 answered with status %d, %s", e.status, e.code)
}

// HTTPStatusCode is what awsconfig.Retryer looks at, as ErrorCode is.
func (e *answerError) HTTPStatusCode() int { return e.status }

// ErrorCode is S3's code of the error.
func (e *answerError) ErrorCode() string { return e.code }

// codeOf returns the code of an answer that is an error, and "" for any other.
func codeOf(text []byte) string {
	var failure struct {
		XMLName xml.Name `xml:"Error"`
		Code    string   `xml:"Code"`
	}
	if err := xml.Unmarshal(text, &failure); err != nil {
		return ""
	}
	if failure.Code == "" || len(failure.Code) > 64 || strings.Trim(failure.Code, letters) != "" {
		return "unknown"
	}
	return failure.Code
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// statusOf returns the status that S3 gives an error by itself, when it has answered with 200 first.
func statusOf(code string) int {
	switch code {
	case "PreconditionFailed":
		return http.StatusPreconditionFailed
	case "ConditionalRequestConflict":
		return http.StatusConflict
	case "NoSuchUpload":
		return http.StatusNotFound
	case "InvalidPart", "InvalidPartOrder", "EntityTooSmall":
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// status returns the HTTP status of S3's answer. It returns 0 if S3 did not answer.
func status(err error) int {
	var answer *answerError
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.status
}

// presign returns the URL of a GET that is valid for a time without credentials.
func (c *Client) presign(ctx context.Context, of call, d time.Duration) (string, error) {
	of.query.Set("X-Amz-Expires", strconv.Itoa(int(d.Seconds())))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "", nil)
	if err != nil {
		return "", err
	}
	request.URL = c.address(&of)
	request.Host = request.URL.Host
	return c.signer.Presign(ctx, request)
}
