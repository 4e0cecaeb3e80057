package opensearchindex

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/opensearch-project/opensearch-go/v4"
	"github.com/opensearch-project/opensearch-go/v4/signer/awsv2"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// Defaults of a Config.
const (
	DefaultPrefix = "ocelot"
	// DefaultMaxBulkBytes keeps bulk requests below 10 MiB, the limit of the smaller
	// instances of Amazon OpenSearch Service.
	DefaultMaxBulkBytes = 5 << 20
	// DefaultWriteBudget is how long Put retries, unless its context ends earlier.
	DefaultWriteBudget = 20 * time.Second
)

// Timeouts bound the calls to OpenSearch. A call that exceeds its timeout returns
// an *audit.UnavailableError, and its context is still valid.
type Timeouts struct {
	// Find bounds a list. It leaves time for the system of record to answer instead.
	Find time.Duration
	// Contains bounds a look-up by id. A read of one entry can do without its answer.
	Contains time.Duration
	// Count bounds statistics and lists of ids. Only the index can answer them.
	Count time.Duration
	// Write bounds one attempt of a write. Put makes several within its WriteBudget.
	Write time.Duration
}

// DefaultTimeouts returns timeouts for functions with 25 s for lists and statistics, and
// 30 s for writes. 5 of the 25 s are for the system of record.
func DefaultTimeouts() Timeouts {
	return Timeouts{Find: 8 * time.Second, Contains: time.Second, Count: 20 * time.Second, Write: 8 * time.Second}
}

// Config has the address of OpenSearch and the settings of the index.
type Config struct {
	// URLs are the nodes or the domain's endpoint, at least one.
	URLs []string
	// Username and Password are for HTTP basic authentication. A URL may have them instead.
	Username, Password string
	// AWS signs every request for Amazon OpenSearch Service. nil: requests are unsigned.
	AWS *aws.Config
	// Transport sends the requests. nil: the index creates one.
	Transport http.RoundTripper

	// Prefix begins the names of all indexes and templates. It has at most
	// 32 lower-case letters and digits, the first a letter. "" is DefaultPrefix.
	// Services that share a domain need different prefixes.
	Prefix string
	// Shards is the number of primary shards of a tenant's month. 0 is 1.
	Shards int
	// Replicas is the number of copies of each primary shard: 0 on a single node,
	// at least 1 in production.
	Replicas int
	// WaitForRefresh makes Put wait until searches find its entries, up to a second.
	WaitForRefresh bool
	// MaxBulkBytes bounds a bulk request of several entries. 0 is DefaultMaxBulkBytes.
	MaxBulkBytes int
	// WriteBudget is how long Put retries. 0 is DefaultWriteBudget.
	WriteBudget time.Duration
	// Timeouts bound single calls. Zero fields have the values of DefaultTimeouts.
	Timeouts Timeouts
	// Now is the clock that decides which months a request without an end asks for. nil is
	// time.Now.
	Now func() time.Time
}

func (c Config) newClient() (*opensearch.Client, error) {
	transport := c.Transport
	if transport == nil {
		transport = newTransport()
	}
	options := opensearch.Config{
		Addresses: c.URLs, Username: c.Username, Password: c.Password, Transport: traced{transport},
		// This package retries within its own budgets.
		DisableRetry: true,
		// Background health checks are unsigned and would outlast a Lambda invocation.
		HealthCheckMaxRetries: -1, MaxRetryClusterHealth: -1,
	}
	if c.AWS != nil {
		signer, err := awsv2.NewSigner(*c.AWS)
		if err != nil {
			return nil, fmt.Errorf("sign requests to OpenSearch: %w", err)
		}
		options.Signer = signer
	}
	client, err := opensearch.NewClient(options)
	if err != nil {
		return nil, errInvalidURL
	}
	return client, nil
}

// traced records requests in their traces.
type traced struct{ next http.RoundTripper }

func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	response, err := t.next.RoundTrip(r)
	trace.Called(r.Context(), "OpenSearch", start, err != nil || response.StatusCode >= http.StatusInternalServerError)
	return response, err
}

const (
	dialTimeout      = 2 * time.Second // the cluster is in the same network
	handshakeTimeout = 4 * time.Second // a small function has a small CPU share
	pingTimeout      = 4 * time.Second
)

func newTransport() http.RoundTripper {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16 // a Lambda sends one batch at a time, a local process a few
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.TLSHandshakeTimeout = handshakeTimeout
	// Over HTTP/2 one connection carries all requests. Pings detect a dead one.
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingTimeout, PingTimeout: pingTimeout}
	return transport
}

// errInvalidURL replaces errors that contain a URL, because it may have a password.
var errInvalidURL = errors.New("a URL is not valid")

// complete validates the configuration and fills in the defaults.
func (c Config) complete() (Config, error) {
	if len(c.URLs) == 0 {
		return c, errors.New("no URL")
	}
	for _, address := range c.URLs {
		if _, err := url.Parse(address); err != nil {
			return c, errInvalidURL
		}
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if !isPrefix(c.Prefix) {
		return c, fmt.Errorf("prefix %q must be a lower-case letter and up to 31 lower-case letters and digits", c.Prefix)
	}
	if c.Shards == 0 {
		c.Shards = 1
	}
	if c.Shards < 0 || c.Replicas < 0 || c.MaxBulkBytes < 0 || c.WriteBudget < 0 ||
		min(c.Timeouts.Find, c.Timeouts.Contains, c.Timeouts.Count, c.Timeouts.Write) < 0 {
		return c, errors.New("a number is negative")
	}
	if c.MaxBulkBytes == 0 {
		c.MaxBulkBytes = DefaultMaxBulkBytes
	}
	if c.WriteBudget == 0 {
		c.WriteBudget = DefaultWriteBudget
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Timeouts = c.Timeouts.complete()
	return c, nil
}

func (t Timeouts) complete() Timeouts {
	defaults := DefaultTimeouts()
	return Timeouts{
		Find: cmp.Or(t.Find, defaults.Find), Contains: cmp.Or(t.Contains, defaults.Contains),
		Count: cmp.Or(t.Count, defaults.Count), Write: cmp.Or(t.Write, defaults.Write),
	}
}

// isPrefix allows no hyphen: prefix "ocelot" with tenant "dev-acme" must not give
// the same names as prefix "ocelot-dev" with tenant "acme".
func isPrefix(s string) bool {
	for i := range len(s) {
		if letter := 'a' <= s[i] && s[i] <= 'z'; !letter && (i == 0 || s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
