package localcloud_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// service is the whole service over a fresh data folder.
type service struct {
	t       *testing.T
	url     string
	data    string
	engines config.Engines // outside ones
	stop    func()
	// checkSent checks what was sent to outside engines, if they are watched.
	checkSent func()

	secret []byte
}

// starter starts the service over a data folder.
type starter func(t *testing.T, data string) *service

// everyWay runs a test with the functions in this process and as Lambda
// binaries, each over the embedded engine and over outside ones. They run at the same time,
// because most of what they do is to wait.
func everyWay(t *testing.T, test func(t *testing.T, start starter)) {
	embeddedWays(t, test)
	way(t, "in process on servers", startOnServers, test)
	way(t, "lambda on servers", startLambdaOnServers, test)
}

// everySlowWay is everyWay for tests that wait for half a minute or longer. They run at the same time
// as well, after the others.
func everySlowWay(t *testing.T, test func(t *testing.T, start starter)) {
	t.Parallel()
	everyWay(t, test)
}

// embeddedWays are the ways over the embedded engine. The Makefile names them: test-engines leaves
// out what test has run.
func embeddedWays(t *testing.T, test func(t *testing.T, start starter)) {
	way(t, "in process", start, test)
	way(t, "lambda", startLambda, test)
}

func way(t *testing.T, name string, start starter, test func(t *testing.T, start starter)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		test(t, start)
	})
}

// start runs the service until the test ends or stop is called.
func start(t *testing.T, data string) *service {
	t.Helper()
	return startWith(t, localcloud.Options{Data: data, Log: warnings(t)})
}

// startLambda is start with the functions as Lambda binaries.
func startLambda(t *testing.T, data string) *service {
	t.Helper()
	return startWith(t, localcloud.Options{Data: data, Log: warnings(t), Lambda: lambda(t, config.Engines{})})
}

// startOnServers is start over MongoDB, OpenSearch and SQS.
func startOnServers(t *testing.T, data string) *service {
	t.Helper()
	return startWith(t, localcloud.Options{Data: data, Log: warnings(t), Engines: servers(t, data)})
}

// startLambdaOnServers is startOnServers with the functions as Lambda binaries.
func startLambdaOnServers(t *testing.T, data string) *service {
	t.Helper()
	engines := servers(t, data)
	return startWith(t, localcloud.Options{Data: data, Log: warnings(t), Engines: engines, Lambda: lambda(t, engines)})
}

// noGateway is an address where no gateway listens, because the runner is the gateway.
const noGateway = "http://127.0.0.1:1"

// servers returns the settings of outside engines, with a database, indexes and queues for each data folder.
func servers(t *testing.T, data string) config.Engines {
	t.Helper()
	own := fmt.Sprintf("t%x", sha256.Sum256([]byte(data)))[:16]
	engines := config.Engines{
		MongoURI: config.Secret(enginetest.Mongo(t)), MongoDatabase: own,
		OpenSearchURL: config.Secret(enginetest.OpenSearch(t)), OpenSearchPrefix: own, QueuePrefix: own,
		SearchSeparateTenants: 1, SearchPools: 2, // some tenants have their own indexes, others share pools
	}
	engines.AWS = config.AWS{
		Region: "elasticmq", AccessKeyID: "id", SecretAccessKey: config.Secret("secret"),
		Endpoints: map[string]string{"SQS": enginetest.SQS(t), config.SocketsService: noGateway},
	}
	if named, err := config.ReadAWS(); err == nil { // of a real SQS
		named.Endpoints["SQS"], named.Endpoints[config.SocketsService] = engines.AWS.Endpoints["SQS"], noGateway
		engines.AWS = named
	}
	return engines
}

// lambda returns the functions' binaries. They are built once. Later runs build only those that
// changed.
func lambda(t *testing.T, engines config.Engines) *localcloud.Lambda {
	t.Helper()
	if testing.Short() {
		t.Skip("builds every function; run without -short")
	}
	build := builtEmbedded
	if len(engines.MongoURI) > 0 {
		build = builtForServers
	}
	folder, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return &localcloud.Lambda{Bootstraps: folder, LogLevel: slog.LevelWarn, Output: withoutMetrics{t.Output()}}
}

// warnings returns a log of warnings and errors that is printed if the test fails.
func warnings(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// withoutMetrics leaves out the metrics of functions, which would hide their log.
type withoutMetrics struct{ to io.Writer }

func (w withoutMetrics) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"_aws":`)) {
		return len(line), nil
	}
	return w.to.Write(line)
}

var (
	builtEmbedded   = sync.OnceValues(func() (string, error) { return localcloud.BuildBootstraps(context.Background(), config.Engines{}) })
	builtForServers = sync.OnceValues(func() (string, error) {
		named := config.Secret("named")
		return localcloud.BuildBootstraps(context.Background(), config.Engines{
			MongoURI: named, OpenSearchURL: named, AWS: config.AWS{Endpoints: map[string]string{"SQS": "named"}},
		})
	})
)

func startWith(t *testing.T, o localcloud.Options) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan localcloud.Started, 1), make(chan error, 1)
	o.Addr, o.Empty = "127.0.0.1:0", true
	o.Tokens = func(ctx context.Context, secret []byte) (access.TokenVerifier, error) {
		return bearer.New(ctx, bearer.Config{Secret: secret})
	}
	o.Ready = func(s localcloud.Started) { ready <- s }
	go func() { ended <- localcloud.Run(ctx, o) }()
	stopped := false
	s := &service{t: t, data: o.Data, engines: o.Engines, checkSent: func() {}}
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the service ended with error %v, want none", err)
		}
	}
	select {
	case started := <-ready:
		s.url, s.secret = started.URL, started.Secret
	case err := <-ended:
		t.Fatalf("the service ended with %v, want it to start", err)
	}
	t.Cleanup(s.stop)
	return s
}

// token returns a bearer token for the claims.
func (s *service) token(claims access.Claims) string {
	s.t.Helper()
	token, err := bearer.Mint(s.secret, bearer.Token{Claims: claims, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		s.t.Fatal(err)
	}
	return "Bearer " + token
}

func (s *service) roleToken(tenant audit.TenantID, role access.Role, subject string) string {
	return s.token(access.Claims{Subject: subject, Tenants: []string{string(tenant)}, Role: role})
}

func (s *service) operator() string { return s.roleToken(access.AnyTenant, access.RoleOperator, "op") }

// caller is someone with a credential who works in a tenant.
type caller struct {
	*service
	authorization string
	tenant        audit.TenantID
}

func (s *service) as(authorization string, tenant audit.TenantID) caller {
	return caller{s, authorization, tenant}
}

// tenantAdmin creates a tenant that keeps entries for ever and returns its administrator.
func (s *service) tenantAdmin(id audit.TenantID) caller {
	s.t.Helper()
	return s.tenantAdminWith(id, `{"retention_days":0}`)
}

// tenantAdminWith is tenantAdmin of a tenant with these settings.
func (s *service) tenantAdminWith(id audit.TenantID, settings string) caller {
	s.t.Helper()
	body := fmt.Sprintf(`{"id":%q,"name":"Tenant %s","settings":%s}`, id, id, settings)
	if got := s.as(s.operator(), "").do("POST", "/tenants", body, nil); got.status != http.StatusCreated {
		s.t.Fatalf("create tenant %s: got status %d, want %d: %s", id, got.status, http.StatusCreated, got.body)
	}
	return s.as(s.roleToken(id, access.RoleAdmin, "admin"), id)
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// decode reads the answer's JSON.
func (a answer) decode(t *testing.T, to any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.UseNumber()
	if err := decoder.Decode(to); err != nil {
		t.Fatalf("decode the answer %d %s: %v", a.status, a.body, err)
	}
}

// do sends a request to a path below the base path.
func (c caller) do(method, path, body string, header map[string]string) answer {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.authorization != "" {
		request.Header.Set("Authorization", c.authorization)
	}
	if c.tenant != "" {
		request.Header.Set("X-Tenant-ID", string(c.tenant))
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, text}
}

func (c caller) get(path string, query url.Values) answer {
	c.t.Helper()
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do("GET", path, "", nil)
}

type bulkAnswer struct {
	Accepted, Duplicate, Filtered, Expired, Rejected int
	Items                                            []struct {
		Index  int
		ID     string
		Status string
		Error  *struct {
			Type, Title, Detail string
			Errors              []audit.FieldError
		}
	}
}

// bulk sends entries, all of which are accepted.
func (c caller) bulk(entries []string) {
	c.t.Helper()
	got := c.do("POST", "/logs/bulk", "["+strings.Join(entries, ",")+"]", nil)
	if got.status != http.StatusAccepted {
		c.t.Errorf("bulk: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
}

type statsAnswer struct {
	Total         int
	Groups        []map[string]any
	DistinctUsers int `json:"distinct_users"`
}

func (c caller) total() int {
	c.t.Helper()
	got := c.get("/logs/stats", nil)
	if got.status != http.StatusOK {
		c.t.Fatalf("stats: got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}
	var s statsAnswer
	got.decode(c.t, &s)
	return s.Total
}

// eventually waits until the index has exactly n entries.
func (c caller) eventually(n int) {
	c.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		got := c.total()
		if got == n {
			return
		}
		if got > n || time.Now().After(deadline) {
			c.t.Fatalf("%d entries are found, want %d", got, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type listAnswer struct {
	Items      []map[string]json.RawMessage
	Next, Prev *string
}

func (c caller) list(query url.Values) listAnswer {
	c.t.Helper()
	got := c.get("/logs", query)
	if got.status != http.StatusOK {
		c.t.Fatalf("list: got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}
	var l listAnswer
	got.decode(c.t, &l)
	return l
}

func entryText(n int) string {
	return fmt.Sprintf(`{"user_id":"user-%d","action":"UPDATE","resource_type":"order","resource_id":"order-%d","timestamp":"2026-01-02T03:04:%02d.%03dZ","idempotency_key":"k-%d","message":"entry number %d","metadata":{"n":%d}}`,
		n%10, n, n/1000%60, n%1000, n, n, n)
}
