package opensearchindex_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// silentServer returns the URL of a server that accepts connections and never answers.
func silentServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String() // the kernel accepts the connections
}

const (
	shortTimeout  = 50 * time.Millisecond // of the index
	callerTimeout = 30 * time.Second      // no call may use it up
)

func withShortTimeouts(c *opensearchindex.Config) {
	c.Timeouts = opensearchindex.Timeouts{Find: shortTimeout, Contains: shortTimeout, Count: shortTimeout, Write: shortTimeout}
	c.WriteBudget = 4 * shortTimeout
}

func TestSilentServerTimesOut(t *testing.T) {
	x := open(t, silentServer(t), "test", withShortTimeouts)
	for name, send := range map[string]func(ctx context.Context) error{
		"Find": func(ctx context.Context) error {
			_, err := x.Find(ctx, acme, audit.Filter{}, audit.PageRequest{Limit: 1})
			return err
		},
		"Contains": func(ctx context.Context) error { _, err := x.Contains(ctx, acme, newEntry(acme, 1).ID); return err },
		"Stats": func(ctx context.Context) error {
			_, err := x.Stats(ctx, acme, audit.Filter{}, audit.StatsRequest{})
			return err
		},
		"IDs": func(ctx context.Context) error {
			_, err := x.IDs(ctx, acme, begin, begin.Add(time.Hour), audit.EntryID{}, 1)
			return err
		},
		"Put": func(ctx context.Context) error {
			_, err := search.PutEntries(ctx, x, acme, newEntries(acme, 1))
			return err
		},
		"Purge": func(ctx context.Context) error { _, err := x.Purge(ctx, acme, 1); return err },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), callerTimeout)
			defer cancel()
			wantUnavailable(t, send(ctx))
			if ctx.Err() != nil {
				t.Errorf("the caller's context has ended: %v", ctx.Err())
			}
		})
	}
}

// TestSearchesAreBounded: a search says how long it may take, ends with its caller, and
// its answer is not read without bound.
func TestSearchesAreBounded(t *testing.T) {
	asked := make(chan string, 10)
	left := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- r.URL.Query().Get("cancel_after_time_interval") + " " + string(body)
		<-r.Context().Done()
		close(left)
	}))
	defer server.Close()
	x := open(t, server.URL, "test", func(c *opensearchindex.Config) { c.Timeouts = opensearchindex.DefaultTimeouts() })
	ctx, leave := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := x.Stats(ctx, acme, audit.Filter{}, audit.StatsRequest{})
		result <- err
	}()
	request := <-asked
	leave()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	<-left // the connection is closed, at which OpenSearch cancels the search
	if !regexp.MustCompile(`^(1[0-9]{4}|20000)ms .*"timeout":"(1[0-9]{4}|20000)ms"`).MatchString(request) {
		t.Errorf("the search is %s, want a timeout of at most 20 seconds", request)
	}
}

func TestLargeAnswersAreRefused(t *testing.T) {
	part := `"` + strings.Repeat("x", 1<<20) + `",`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); bytes.Contains(body, []byte(`"aggs":{}`)) { // the entries are counted first
			_, _ = io.WriteString(w, `{"hits":{"total":{"value":1}}}`)
			return
		}
		_, _ = io.WriteString(w, `{"aggregations":{"groups":[`)
		for range audit.MaxGroupBytes >> 20 {
			_, _ = io.WriteString(w, part)
		}
		_, _ = io.WriteString(w, `""]}}`)
	}))
	defer server.Close()
	x := open(t, server.URL, "test")
	_, err := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldUserID}, Top: 1})
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Errorf("got error %v, want a %T", err, invalid)
	}
}

// TestWriteIsRetriedAfterTimeouts: Put retries unanswered writes within its budget.
func TestWriteIsRetriedAfterTimeouts(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= 2 {
			_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice the closed connection
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"items":[{"index":{"status":201}}]}`)
	}))
	defer server.Close()
	x := open(t, server.URL, "test", withShortTimeouts, func(c *opensearchindex.Config) { c.WriteBudget = callerTimeout })
	ctx, cancel := context.WithTimeout(t.Context(), callerTimeout)
	defer cancel()
	rejections, err := search.PutEntries(ctx, x, acme, newEntries(acme, 1))
	if err != nil {
		t.Error(err)
	}
	if len(rejections) > 0 {
		t.Errorf("Put rejected %+v, want none", rejections)
	}
	if n := requests.Load(); n < 3 {
		t.Errorf("sent %d requests, want at least 3", n)
	}
}

// fallback answers lists and reads if the index does not.
type fallback struct{ entry audit.Entry }

func (s fallback) Find(ctx context.Context, _ audit.TenantID, _ audit.Filter, _ audit.PageRequest) (audit.Page, error) {
	if err := ctx.Err(); err != nil {
		return audit.Page{}, err
	}
	at := audit.Position{Time: s.entry.Timestamp, Tie: s.entry.ID.String()}
	return audit.Page{Entries: []audit.Entry{s.entry}, First: &at, Last: &at}, nil
}

func (s fallback) Entry(context.Context, audit.TenantID, audit.EntryID) (audit.Entry, error) {
	return s.entry, nil
}

// TestReadSideWithoutOpenSearch: the read side answers lists and reads of one entry
// while OpenSearch is silent or refuses all requests.
func TestReadSideWithoutOpenSearch(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"Message":"User: anonymous is not authorized to perform: es:ESHttpPost"}`)
	}))
	defer refusing.Close()
	for name, address := range map[string]string{"silent": silentServer(t), "refusing": refusing.URL} {
		t.Run(name, func(t *testing.T) {
			entry := newEntry(acme, 1)
			s := search.Service{
				Index: open(t, address, "test", withShortTimeouts), Degraded: fallback{entry}, Reader: fallback{entry},
				Cursors: cursor.NewSigner(make([]byte, 32)), Now: time.Now, Log: slog.New(slog.DiscardHandler),
			}
			ctx, cancel := context.WithTimeout(t.Context(), callerTimeout)
			defer cancel()
			list, err := s.Find(ctx, audit.Tenant{ID: acme}, access.Scope{}, url.Values{})
			if err != nil {
				t.Error(err)
			}
			if !list.Degraded {
				t.Error("the list is not marked as degraded, want it to be")
			}
			if len(list.Entries) != 1 {
				t.Errorf("the list has %d entries, want 1", len(list.Entries))
			}
			found, err := s.Entry(ctx, audit.Tenant{ID: acme}, access.Scope{}, entry.ID)
			if err != nil {
				t.Error(err)
			}
			if found.Status != audit.StatusStored {
				t.Errorf("the entry is %q, want %q", found.Status, audit.StatusStored)
			}
			_, err = s.Stats(ctx, audit.Tenant{ID: acme}, access.Scope{}, url.Values{})
			wantUnavailable(t, err)
			if ctx.Err() != nil {
				t.Errorf("the caller's context has ended: %v", ctx.Err())
			}
		})
	}
}

// TestTimeoutsFitTheFunctions compares the default timeouts with those of the
// functions in pkg/manifest.
func TestTimeoutsFitTheFunctions(t *testing.T) {
	const mongo, reserve = 5 * time.Second, time.Second
	defaults := opensearchindex.DefaultTimeouts()
	for name, times := range map[string][2]time.Duration{
		"list-logs":  {defaults.Find + mongo + reserve, manifest.FunctionOf("list-logs").Timeout},
		"get-log":    {defaults.Contains + mongo + reserve, manifest.FunctionOf("get-log").Timeout},
		"get-stats":  {defaults.Count + reserve, manifest.FunctionOf("get-stats").Timeout},
		"index-logs": {opensearchindex.DefaultWriteBudget + defaults.Write + reserve, manifest.FunctionOf("index-logs").Timeout},
	} {
		if times[0] > times[1] {
			t.Errorf("%s can take %v, want at most its timeout of %v", name, times[0], times[1])
		}
	}
}

// errorsOf returns the error of each read of an index with this response.
func errorsOf(t *testing.T, status int, body string) map[string]error {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	x := open(t, server.URL, "test")
	_, find := x.Find(t.Context(), acme, audit.Filter{}, audit.PageRequest{Limit: 1})
	_, contains := x.Contains(t.Context(), acme, newEntry(acme, 1).ID)
	_, stats := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{})
	_, ids := x.IDs(t.Context(), acme, begin, begin.Add(time.Hour), audit.EntryID{}, 1)
	return map[string]error{"Find": find, "Contains": contains, "Stats": stats, "IDs": ids}
}

// TestClusterErrorsAreOutages: errors that the query does not cause are outages, so
// that other stores can answer.
func TestClusterErrorsAreOutages(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"closed month":  {400, `{"error":{"root_cause":[{"type":"index_closed_exception","reason":"closed"}],"type":"index_closed_exception","reason":"closed"},"status":400}`},
		"no rights":     {403, `{"error":{"root_cause":[{"type":"security_exception","reason":"no permissions"}],"type":"security_exception"},"status":403}`},
		"no credential": {401, `Unauthorized`},
		"block":         {403, `{"error":{"type":"cluster_block_exception","reason":"blocked"},"status":403}`},
		"throttled":     {429, `{"message":"Too Many Requests"}`},
		"a proxy":       {200, `<html>`},
		"elsewhere":     {302, ``},
	} {
		for read, err := range errorsOf(t, answer.status, answer.body) {
			t.Run(name+"/"+read, func(t *testing.T) { wantUnavailable(t, err) })
		}
	}
	const clauses = `{"error":{"type":"search_phase_execution_exception","root_cause":[{"type":"too_many_clauses"}]},"status":400}`
	if err := errorsOf(t, 400, clauses)["Find"]; err == nil || !strings.Contains(err.Error(), "fewer conditions") {
		t.Errorf("a query that is too complex: got error %v, want one with %q", err, "fewer conditions")
	}
	const buckets = `{"error":{"type":"search_phase_execution_exception","caused_by":{"type":"too_many_buckets_exception"}},"status":503}`
	if err := errorsOf(t, 503, buckets)["Stats"]; err == nil || !strings.Contains(err.Error(), "narrow from and to") {
		t.Errorf("too many groups: got error %v, want one with %q", err, "narrow from and to")
	}
}
