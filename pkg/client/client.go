// Package client is a Go client of Ocelot's HTTP and WebSocket APIs. It retries requests that
// can be retried, waits as long as the service asks for, and turns problem documents into
// errors.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Config has the service's address and the caller's credential.
type Config struct {
	// URL is the service's address, with or without the API's base path.
	URL string
	// Token is a JWT or an API key ("ocelot_…"); empty for public routes.
	Token string
	// StreamURL is the address of the WebSocket API if it has its own, as on AWS
	// (wss://host/stage). If it is empty, the API is at URL.
	StreamURL string
	// Tenant is sent as X-Tenant-ID unless it is empty.
	Tenant string
	// UserAgent names the calling program.
	UserAgent string
	// Timeout bounds one attempt; zero means 30 seconds.
	Timeout time.Duration
	// Attempts is the maximum number of attempts of a request; zero means 8.
	Attempts int
	// PingEvery is the interval of a stream's pings. If nothing arrives for a third longer,
	// the connection counts as lost. Zero means 30 seconds.
	PingEvery time.Duration
	// Transport sends the requests; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Sleep waits between attempts and returns ctx's error if ctx ends first; nil uses the
	// clock.
	Sleep func(ctx context.Context, d time.Duration) error
	// Jitter returns a new number from 0 up to 1 at each call; nil means random numbers.
	Jitter func() float64
}

// Client calls one service as one caller. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	stream *url.URL
	config Config
	http   *http.Client
	zstd   *zstd.Encoder
}

const (
	defaultTimeout  = 30 * time.Second
	defaultAttempts = 8
	// maxAnswer is the maximum size of an answer, in bytes. A page has at most 4 MiB, and a
	// bulk answer of 1,000 rejected entries has less.
	maxAnswer = 32 << 20
	// zstdWindow bounds the memory that the service needs to unpack a body, in bytes.
	zstdWindow = 1 << 20
)

// apiKeyPrefix begins every API key.
const apiKeyPrefix = "ocelot_"

// IsAPIKey reports whether a credential is an API key, which belongs to one tenant and needs no
// other name of it. Other credentials are tokens.
func IsAPIKey(credential string) bool { return strings.HasPrefix(credential, apiKeyPrefix) }

// New checks the configuration and returns a client. It opens no connection.
func New(config Config) (*Client, error) {
	base, err := url.Parse(config.URL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, errors.New("the service's address must be like https://host or http://host:port")
	}
	base.Path = strings.TrimSuffix(strings.TrimSuffix(base.Path, "/"), manifest.BasePath) + manifest.BasePath
	base.RawQuery, base.Fragment = "", ""
	stream, err := streamURL(base, config.StreamURL)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(config.Token+config.Tenant, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("token and tenant must be printable ASCII")
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	if config.Timeout <= 0 {
		config.Timeout = defaultTimeout
	}
	if config.Attempts <= 0 {
		config.Attempts = defaultAttempts
	}
	if config.PingEvery <= 0 {
		config.PingEvery = defaultPingEvery
	}
	if config.Sleep == nil {
		config.Sleep = sleep
	}
	if config.Jitter == nil {
		config.Jitter = rand.Float64
	}
	return &Client{base: base, stream: stream, config: config, zstd: encoder, http: &http.Client{
		Transport: config.Transport,
		// A redirect would send the credential to another address.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// streamURL returns the address of the WebSocket API: its own, or one below base.
func streamURL(base *url.URL, own string) (*url.URL, error) {
	if own == "" {
		return base.JoinPath(manifest.StreamPath), nil
	}
	address, err := url.Parse(own)
	if err != nil || address.Host == "" || !slices.Contains([]string{"ws", "wss", "http", "https"}, address.Scheme) {
		return nil, errors.New("the stream's address must be like wss://host/stage")
	}
	return address, nil
}

// apiRequest is one request of the API.
type apiRequest struct {
	method string
	path   string // relative to the base path, escaped
	query  url.Values
	header http.Header
	body   []byte
	status *int // set to that of an answer without a problem; nil: nobody asks
}

// do sends the request. It retries after connection errors, timeouts, and the statuses 429, 502,
// 503 and 504. A 429 with Retry-After is no failed attempt: the service works, and says when it
// takes more. do returns the body of a 2xx answer. Any other answer is a *Problem.
func (c *Client) do(ctx context.Context, r apiRequest) ([]byte, error) {
	var wait retries
	var throttled time.Duration // the time waited as the service asked
	for attempt := 1; ; attempt++ {
		body, err := c.once(ctx, r)
		if err == nil {
			return body, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, context.Cause(ctx))
		}
		pause, retry := wait.next(err, c.config.Jitter)
		if !retry {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
		if isThrottled(err) && throttled < maxThrottled {
			throttled += pause
			attempt--
		} else if attempt == c.config.Attempts {
			return nil, fmt.Errorf("%s %s, given up after %d attempts: %w", r.method, r.path, attempt, err)
		}
		if err := c.config.Sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
	}
}

// once makes one attempt. If the request cannot be sent or the answer cannot be read, it
// returns a *connectionError.
func (c *Client) once(ctx context.Context, r apiRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	request, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, &connectionError{err}
	}
	defer func() { _ = response.Body.Close() }() // read to its end or given up; nothing to learn from it
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, &connectionError{fmt.Errorf("read the answer: %w", err)}
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	}
	if response.StatusCode/100 != 2 {
		return nil, problemFrom(response, body)
	}
	if r.status != nil {
		*r.status = response.StatusCode
	}
	return body, nil
}

func (c *Client) newRequest(ctx context.Context, r apiRequest) (*http.Request, error) {
	target := c.base.JoinPath(r.path)
	target.RawQuery = r.query.Encode()
	request, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	request.Header = c.header()
	maps.Copy(request.Header, r.header)
	return request, nil
}

// header returns the header of every request.
func (c *Client) header() http.Header {
	header := http.Header{"Accept": {"application/json, application/problem+json"}}
	if c.config.UserAgent != "" {
		header.Set("User-Agent", c.config.UserAgent)
	}
	if c.config.Tenant != "" {
		header.Set(manifest.TenantHeader, c.config.Tenant)
	}
	switch {
	case c.config.Token == "":
	case IsAPIKey(c.config.Token):
		header.Set("Authorization", "ApiKey "+c.config.Token)
	default:
		header.Set("Authorization", "Bearer "+c.config.Token)
	}
	return header
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// decode reads a JSON answer of the service.
func decode(what string, body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the service's %s is not as it should be: %w", what, err)
	}
	return nil
}
