package opensearchindex_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// silence returns the URL of what takes connections and never answers.
func silence(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String() // the kernel takes the connections
}

// patience is what tests have with silence, and everyone's own time, which no
// call may use up.
const (
	patience = 50 * time.Millisecond
	ownTime  = 30 * time.Second
)

func impatient(c *opensearchindex.Config) {
	c.Timeouts = opensearchindex.Timeouts{Find: patience, Contains: patience, Count: patience, Write: patience}
	c.WriteBudget = 4 * patience
}

func TestSilenceLeavesTime(t *testing.T) {
	x := open(t, silence(t), "test", impatient)
	for name, ask := range map[string]func(ctx context.Context) error{
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
		"Put":   func(ctx context.Context) error { _, err := x.Put(ctx, acme, newEntries(acme, 1)); return err },
		"Purge": func(ctx context.Context) error { _, err := x.Purge(ctx, acme, 1); return err },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), ownTime)
			defer cancel()
			wantUnavailable(t, ask(ctx))
			if ctx.Err() != nil {
				t.Error("the caller's own time is over")
			}
		})
	}
}

// A write that is not answered is repeated while there is time.
func TestSilenceThatPasses(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 2 {
			_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not seen
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"items":[{"index":{"status":201}}]}`)
	}))
	defer server.Close()
	x := open(t, server.URL, "test", impatient, func(c *opensearchindex.Config) { c.WriteBudget = ownTime })
	ctx, cancel := context.WithTimeout(t.Context(), ownTime)
	defer cancel()
	if rejections, err := x.Put(ctx, acme, newEntries(acme, 1)); err != nil || len(rejections) > 0 {
		t.Errorf("Put: %v, rejections %v", err, rejections)
	}
	if n := asked.Load(); n < 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

// standIn answers lists where the index does not.
type standIn struct{ entry audit.Entry }

func (s standIn) Find(ctx context.Context, _ audit.TenantID, _ audit.Filter, _ audit.PageRequest) (audit.Page, error) {
	if err := ctx.Err(); err != nil {
		return audit.Page{}, err
	}
	at := audit.Position{Time: s.entry.Timestamp, Tie: s.entry.ID.String()}
	return audit.Page{Entries: []audit.Entry{s.entry}, First: &at, Last: &at}, nil
}

func (s standIn) Entry(context.Context, audit.TenantID, audit.EntryID) (audit.Entry, error) {
	return s.entry, nil
}

// While OpenSearch is silent, or refuses everything, the read side answers what it can.
func TestReadSideWithoutOpenSearch(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"Message":"User: anonymous is not authorized to perform: es:ESHttpPost"}`)
	}))
	defer refusing.Close()
	for name, address := range map[string]string{"silent": silence(t), "refusing": refusing.URL} {
		t.Run(name, func(t *testing.T) {
			entry := newEntry(acme, 1)
			s := search.Service{
				Index: open(t, address, "test", impatient), Degraded: standIn{entry}, Reader: standIn{entry},
				Cursors: cursor.NewSigner(make([]byte, 32)), Now: time.Now, Log: slog.New(slog.DiscardHandler),
			}
			ctx, cancel := context.WithTimeout(t.Context(), ownTime)
			defer cancel()
			list, err := s.Find(ctx, acme, access.Scope{}, url.Values{})
			if err != nil || !list.Degraded || len(list.Entries) != 1 {
				t.Errorf("the list is %+v, %v", list, err)
			}
			found, err := s.Entry(ctx, acme, access.Scope{}, entry.ID)
			if err != nil || found.Status != audit.StatusStored {
				t.Errorf("the entry is %+v, %v", found, err)
			}
			_, _, err = s.Stats(ctx, acme, access.Scope{}, url.Values{})
			wantUnavailable(t, err)
			if ctx.Err() != nil {
				t.Error("the caller's own time is over")
			}
		})
	}
}

// The usual times must fit into those of the functions: see pkg/manifest.
func TestPatienceFitsTheFunctions(t *testing.T) {
	const mongo, reserve = 5 * time.Second, time.Second
	usual := opensearchindex.DefaultTimeouts()
	for name, times := range map[string][2]time.Duration{
		"search-logs": {usual.Find + mongo + reserve, timeoutOf(t, "search-logs")},
		"get-log":     {usual.Contains + mongo + reserve, timeoutOf(t, "get-log")},
		"get-stats":   {usual.Count + reserve, timeoutOf(t, "get-stats")},
		"index-logs":  {opensearchindex.DefaultWriteBudget + usual.Write + reserve, timeoutOf(t, "index-logs")},
	} {
		if times[0] > times[1] {
			t.Errorf("%s takes up to %v of %v", name, times[0], times[1])
		}
	}
}

// errorsOf makes every read of an index that answers so.
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

// Whatever is not the query's fault is an outage, which others can make up for.
func TestRefusalsOfTheClusterAreOutages(t *testing.T) {
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
		t.Errorf("a query that is too complex: %v", err)
	}
	const buckets = `{"error":{"type":"search_phase_execution_exception","caused_by":{"type":"too_many_buckets_exception"}},"status":503}`
	if err := errorsOf(t, 503, buckets)["Stats"]; err == nil || !strings.Contains(err.Error(), "narrow the filter") {
		t.Errorf("too many groups: %v", err)
	}
}

func timeoutOf(t *testing.T, function string) time.Duration {
	t.Helper()
	for _, f := range manifest.Functions() {
		if f.Name == function {
			return f.Timeout
		}
	}
	t.Fatalf("no function %s", function)
	return 0
}
