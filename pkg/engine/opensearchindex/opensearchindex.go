// Package opensearchindex is the search index in OpenSearch (2.4 or later).
//
// Every tenant has one index a month, <prefix>-<tenant>-YYYY.MM, made from the
// tenant's template <prefix>-<tenant>; long ago a month holds what came before
// it as well (see monthOf). All months are read through the alias
// <prefix>-<tenant>; each is written through an alias of its own,
// <prefix>-<tenant>-YYYY.MM-write, with require_alias, so that nothing is ever
// written into an index that OpenSearch made up by itself. Tenants and prefixes
// have no dots: no tenant's names can be taken for another's, and no request of
// this package addresses indexes by a wildcard. Beside that every search
// filters by tenant_id.
//
// A document (see document.go) holds what can be searched under the entry's own
// field names, its metadata as tokens, and the whole stored entry as text, so
// that no entry can be refused for its shape and all come back byte for byte.
package opensearchindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/opensearch-project/opensearch-go/v4"
	"github.com/opensearch-project/opensearch-go/v4/signer/awsv2"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

var (
	_ search.Index       = (*Index)(nil)
	_ search.IndexWriter = (*Index)(nil)
	_ search.IDLister    = (*Index)(nil)
	_ jobs.Purger        = (*Index)(nil)
)

// Defaults of a Config.
const (
	DefaultPrefix = "ocelot"
	// DefaultMaxBulkBytes keeps a bulk request under the 10 MiB that the smaller
	// instances of Amazon OpenSearch Service take.
	DefaultMaxBulkBytes = 5 << 20
	// DefaultWriteBudget is how long Put goes on trying where its context has no
	// earlier deadline.
	DefaultWriteBudget = 20 * time.Second
)

// Timeouts is how long calls wait for OpenSearch, which may be reached and never
// answer. Then they are an *audit.UnavailableError while their context still lives.
type Timeouts struct {
	// Find bounds a list, so that the system of record has the time to answer in
	// the index's place.
	Find time.Duration
	// Contains bounds a question that a point read can do without the answer to.
	Contains time.Duration
	// Count bounds statistics, and a list of ids. Nobody else can answer them.
	Count time.Duration
	// Write bounds one attempt of a write. Put makes several within its budget.
	Write time.Duration
}

// DefaultTimeouts returns the patience of functions that have 25 s for a list and
// for statistics, of which 5 s are the system of record's, and 30 s for writes.
func DefaultTimeouts() Timeouts {
	return Timeouts{Find: 8 * time.Second, Contains: time.Second, Count: 20 * time.Second, Write: 8 * time.Second}
}

// Config says where OpenSearch is and how it is used.
type Config struct {
	// URLs are the nodes or the domain's endpoint, at least one.
	URLs []string
	// Username and Password are for HTTP basic authentication; both may also
	// stand in a URL.
	Username, Password string
	// AWS signs every request for Amazon OpenSearch Service; nil: unsigned.
	AWS *aws.Config
	// Transport sends the requests; nil: one of the index's own.
	Transport http.RoundTripper

	// Prefix begins the names of all aliases, indexes and templates: lower-case
	// letters and digits, at most 32. "" is DefaultPrefix. Services that share a
	// domain have different ones.
	Prefix string
	// Shards is the number of primary shards of one tenant's month; 0 is 1.
	Shards int
	// Replicas is the number of copies of every shard beside the primary: 0 on a
	// single node, at least 1 in production.
	Replicas int
	// WaitForRefresh makes Put return only once its entries are found, which is
	// up to a second later.
	WaitForRefresh bool
	// MaxBulkBytes bounds one bulk request; 0 is DefaultMaxBulkBytes. A single
	// entry that is larger goes alone.
	MaxBulkBytes int
	// WriteBudget is how long Put goes on trying; 0 is DefaultWriteBudget.
	WriteBudget time.Duration
	// Timeouts is how long single calls wait; zero fields are DefaultTimeouts's.
	Timeouts Timeouts
	// Now tells what has expired; nil: time.Now.
	Now func() time.Time
}

// Index is the search index of all tenants. It implements search.Index,
// search.IndexWriter, search.IDLister and jobs.Purger, and may be used by
// many goroutines.
type Index struct {
	config Config
	// client makes the client at the first call: most functions never make one, and
	// it is the dearest part of their start.
	client func() (*opensearch.Client, error)
	limits groupLimits
}

// A prefix has no hyphen: "ocelot" with the tenant "dev-acme" must not have the
// names of "ocelot-dev" with the tenant "acme".
func isPrefix(s string) bool {
	for i := range len(s) {
		if letter := 'a' <= s[i] && s[i] <= 'z'; !letter && (i == 0 || s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// Open returns the index. It connects with the first request, not before.
func Open(config Config) (*Index, error) {
	config, err := config.complete()
	if err != nil {
		return nil, fmt.Errorf("open OpenSearch index: %w", err)
	}
	return &Index{config: config, client: sync.OnceValues(config.newClient), limits: usualGroupLimits()}, nil
}

func (c Config) newClient() (*opensearch.Client, error) {
	transport := c.Transport
	if transport == nil {
		transport = newTransport()
	}
	options := opensearch.Config{
		Addresses: c.URLs, Username: c.Username, Password: c.Password, Transport: transport,
		// This package repeats what may be repeated, within its own budgets.
		DisableRetry: true,
		// Probes in the background are unsigned and would outlive the invocation of a Lambda.
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
		return nil, errURL
	}
	return client, nil
}

const (
	dialTimeout      = 2 * time.Second // the cluster is in the same network
	handshakeTimeout = 4 * time.Second // also on the CPU share of a small function
	pingTimeout      = 4 * time.Second
)

func newTransport() http.RoundTripper {
	own := http.DefaultTransport.(*http.Transport).Clone()
	own.MaxIdleConnsPerHost = 16 // a Lambda handles one batch at a time, a local process some more
	own.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	own.TLSHandshakeTimeout = handshakeTimeout
	// Over HTTP/2 one connection carries all requests; without a ping one that is
	// dead would carry the next ones as well.
	own.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingTimeout, PingTimeout: pingTimeout}
	return own
}

// errURL stands for errors that repeat a URL, which may hold a password.
var errURL = errors.New("a URL is not valid")

func (c Config) complete() (Config, error) {
	if len(c.URLs) == 0 {
		return c, errors.New("no URL")
	}
	for _, address := range c.URLs {
		if _, err := url.Parse(address); err != nil {
			return c, errURL
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

func (p Timeouts) complete() Timeouts {
	usual := DefaultTimeouts()
	return Timeouts{
		Find: cmp.Or(p.Find, usual.Find), Contains: cmp.Or(p.Contains, usual.Contains),
		Count: cmp.Or(p.Count, usual.Count), Write: cmp.Or(p.Write, usual.Write),
	}
}

// Close ends the connections that are kept open.
func (x *Index) Close() error {
	client, err := x.client()
	if err != nil {
		return err
	}
	return client.Close()
}

// Ping reports whether OpenSearch answers. It tries once.
func (x *Index) Ping(ctx context.Context) error {
	if _, err := x.once(ctx, call{method: http.MethodGet, path: "/"}); err != nil {
		return fmt.Errorf("ping OpenSearch: %w", failure(err))
	}
	return nil
}

// family is the names of one tenant's indexes.
type family struct {
	tenant audit.TenantID
	alias  string // reads all months; also the template's name
}

// family refuses what is no tenant id: a wildcard must never become part of a path.
func (x *Index) family(tenant audit.TenantID) (family, error) {
	if _, err := audit.ParseTenantID(string(tenant)); err != nil {
		return family{}, err
	}
	return family{tenant: tenant, alias: x.config.Prefix + "-" + string(tenant)}, nil
}

// monthOf returns the month in which an entry is indexed, as it stands in names.
// Every index takes shards, of which a cluster has a thousand for each node; so
// that old timestamps do not use them up, December has the whole year before
// 2020, and that of 1999 everything up to it. An index holds nothing later than
// the month of its name. The border must never move: an entry that is indexed
// again has to meet itself.
func monthOf(id audit.EntryID) string {
	switch at := id.Time(); {
	case at.Year() < 2000:
		return "1999.12"
	case at.Year() < 2020:
		return at.Format("2006") + ".12"
	default:
		return at.Format("2006.01")
	}
}

func (f family) index(month string) string { return f.alias + "-" + month }

func (f family) writeAlias(month string) string { return f.index(month) + "-write" }

// owns reports whether an index is one of the family's.
func (f family) owns(index string) bool {
	return regexp.MustCompile(`^` + regexp.QuoteMeta(f.alias) + `-\d{4,}\.\d{2}$`).MatchString(index)
}
