package opensearchindex_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

const many = 10_000 // entries of the tests that check only their number

// throttle forwards a bulk request to the engine without the items that deny
// chooses. It answers 429 for these.
type throttle struct {
	mu   sync.Mutex
	sent map[string]int // how often each id was sent
	deny func(id string, times int) bool
}

func (h *throttle) serve(w http.ResponseWriter, r *http.Request, engine http.Handler) {
	body, _ := io.ReadAll(r.Body)
	lines := bytes.SplitAfter(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	var forwarded bytes.Buffer
	var denied []bool
	h.mu.Lock()
	for i := 0; i < len(lines); i += 2 {
		var action struct {
			Index struct {
				ID string `json:"_id"`
			} `json:"index"`
		}
		_ = json.Unmarshal(lines[i], &action)
		h.sent[action.Index.ID]++
		no := h.deny(action.Index.ID, h.sent[action.Index.ID])
		if denied = append(denied, no); !no {
			forwarded.Write(lines[i])
			forwarded.Write(bytes.TrimSuffix(lines[i+1], []byte("\n")))
			forwarded.WriteByte('\n')
		}
	}
	h.mu.Unlock()
	var real struct {
		Items []json.RawMessage `json:"items"`
	}
	if forwarded.Len() > 0 {
		inner := r.Clone(r.Context())
		inner.Body, inner.ContentLength = io.NopCloser(&forwarded), int64(forwarded.Len())
		inner.Header.Del("Accept-Encoding")
		recorded := httptest.NewRecorder()
		engine.ServeHTTP(recorded, inner)
		_ = json.Unmarshal(recorded.Body.Bytes(), &real)
	}
	items := make([]json.RawMessage, len(denied))
	for i, no := range denied {
		if no {
			items[i] = json.RawMessage(`{"index":{"status":429,"error":{"type":"rejected_execution_exception","reason":"full"}}}`)
			continue
		}
		items[i], real.Items = real.Items[0], real.Items[1:]
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
}

func isBulk(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/_bulk") }

func TestThrottledItemsAreSentAgainAlone(t *testing.T) {
	url := enginetest.OpenSearch(t)
	proxy := enginetest.NewHTTPProxy(t, url)
	x := open(t, proxy.URL(), newPrefix(t, url), waitForRefresh)
	put(t, x, acme, newEntry(acme, many)) // creates the index
	unlucky := func(id string) bool { return strings.HasSuffix(id, "7") }
	h := &throttle{sent: map[string]int{}, deny: func(id string, times int) bool { return unlucky(id) && times < 3 }}
	proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if isBulk(r) {
			return h.serve
		}
		return nil
	})
	entries := newEntries(acme, many)
	put(t, x, acme, entries...)
	for _, e := range entries {
		want := 1
		if unlucky(e.ID.String()) {
			want = 3
		}
		if got := h.sent[opensearchindex.DocumentID(acme, e.ID)]; got != want {
			t.Fatalf("entry %s was sent %d times, want %d", e.ID, got, want)
		}
	}
	if n := total(t, x, acme); n != many+1 {
		t.Fatalf("the index has %d entries, want %d", n, many+1)
	}
}

func TestThrottledToTheEnd(t *testing.T) {
	url := enginetest.OpenSearch(t)
	proxy := enginetest.NewHTTPProxy(t, url)
	x := open(t, proxy.URL(), newPrefix(t, url), func(c *opensearchindex.Config) { c.WriteBudget = 300 * time.Millisecond })
	put(t, x, acme, newEntry(acme, 0))
	h := &throttle{sent: map[string]int{}, deny: func(string, int) bool { return true }}
	proxy.Inject(func(*http.Request) enginetest.HTTPFault { return h.serve })
	_, err := search.PutEntries(t.Context(), x, acme, newEntries(acme, 10))
	wantUnavailable(t, err)
}

func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	var unavailable *audit.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Fatalf("error = %v, want an *audit.UnavailableError", err)
	}
}

// TestEntriesSurviveABadConnection checks that each entry is indexed once, whatever
// happens to requests.
func TestEntriesSurviveABadConnection(t *testing.T) {
	url := enginetest.OpenSearch(t)
	proxy := enginetest.NewHTTPProxy(t, url)
	x := open(t, proxy.URL(), newPrefix(t, url), func(c *opensearchindex.Config) {
		c.MaxBulkBytes = 20_000
		c.WriteBudget = 5 * time.Minute // with 400 requests, some meet ten faults in a row
	})
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(3, 4))
	faults := []enginetest.HTTPFault{
		enginetest.Answer(429, `{"error":{"type":"rejected_execution_exception"},"status":429}`), enginetest.Answer(500, ``),
		enginetest.Answer(502, `<html>`), enginetest.Answer(503, `{"error":"x"}`), enginetest.Cut(), enginetest.LoseAnswer(), enginetest.Delay(20 * time.Millisecond),
		nil, nil, nil, nil, nil, nil, nil,
	}
	faulty := 0
	proxy.Inject(func(*http.Request) enginetest.HTTPFault {
		mu.Lock()
		defer mu.Unlock()
		fault := faults[random.IntN(len(faults))]
		if fault != nil {
			faulty++
		}
		return fault
	})
	entries := newEntries(acme, many)
	var writers sync.WaitGroup
	for part := range slices.Chunk(entries, many/4) {
		writers.Go(func() {
			for batch := range slices.Chunk(part, 500) {
				mustPut(t, x, batch)
			}
		})
	}
	writers.Wait()
	proxy.Inject(nil)
	awaitTotal(t, x, acme, many)
	if faulty < 100 {
		t.Errorf("%d requests had a fault, want at least 100", faulty)
	}
}

// mustPut fails the test unless Put indexes all entries. Goroutines may call it.
func mustPut(t *testing.T, x *opensearchindex.Index, entries []audit.Entry) bool {
	t.Helper()
	rejections, err := search.PutEntries(t.Context(), x, acme, entries)
	if err != nil {
		t.Error(err)
	}
	if len(rejections) > 0 {
		t.Errorf("Put rejected %+v, want none", rejections)
	}
	return err == nil && len(rejections) == 0
}

// awaitTotal waits until searches find so many entries.
func awaitTotal(t *testing.T, x *opensearchindex.Index, tenant audit.TenantID, want int64) {
	t.Helper()
	var n int64
	for range 100 {
		if n = total(t, x, tenant); n == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the index has %d entries, want %d", n, want)
}

// TestPartialAnswersAreErrors: a response of only some shards is no answer.
func TestPartialAnswersAreErrors(t *testing.T) {
	url := enginetest.OpenSearch(t)
	proxy := enginetest.NewHTTPProxy(t, url)
	x := open(t, proxy.URL(), newPrefix(t, url), waitForRefresh)
	put(t, x, acme, newEntries(acme, 3)...)
	for name, fault := range map[string]enginetest.HTTPFault{
		"timed out":     enginetest.Answer(200, `{"timed_out":true,"_shards":{"failed":0},"hits":{"total":{"value":1},"hits":[]}}`),
		"failed shards": enginetest.Answer(200, `{"timed_out":false,"_shards":{"failed":1},"hits":{"total":{"value":1},"hits":[]}}`),
		"unavailable":   enginetest.Answer(503, `{"error":{"type":"search_phase_execution_exception"},"status":503}`),
		"cut":           enginetest.Cut(),
	} {
		proxy.Inject(func(*http.Request) enginetest.HTTPFault { return fault })
		_, findErr := x.Find(t.Context(), acme, audit.Filter{}, audit.PageRequest{Limit: 5})
		_, statsErr := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{})
		_, idsErr := x.IDs(t.Context(), acme, begin, begin.Add(time.Hour), audit.EntryID{}, 5)
		for _, err := range []error{findErr, statsErr, idsErr} {
			var unavailable *audit.UnavailableError
			if !errors.As(err, &unavailable) {
				t.Errorf("%s: error = %v, want an *audit.UnavailableError", name, err)
			}
		}
	}
}

// TestShortBulkAnswerIsAnError: a bulk response without all entries acknowledges none.
func TestShortBulkAnswerIsAnError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"items":[{"index":{"status":201}}]}`)
	}))
	defer server.Close()
	x := open(t, server.URL, "test")
	if _, err := search.PutEntries(t.Context(), x, acme, newEntries(acme, 2)); err == nil {
		t.Fatal("Put of an entry that OpenSearch did not acknowledge: got no error, want one")
	}
}

func TestClusterErrorsAreNotRejections(t *testing.T) {
	for _, answer := range []string{
		`{"index":{"status":403,"error":{"type":"cluster_block_exception","reason":"read-only"}}}`,
		`{"index":{"status":400,"error":{"type":"index_closed_exception","reason":"closed"}}}`,
		`{"index":{"status":400,"error":{"type":"illegal_argument_exception","reason":"no write index"}}}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"items":[%s]}`, answer)
		}))
		x := open(t, server.URL, "test")
		rejections, err := search.PutEntries(t.Context(), x, acme, newEntries(acme, 1))
		if server.Close(); len(rejections) > 0 {
			t.Errorf("%s: rejections = %+v, want none", answer, rejections)
		}
		wantUnavailable(t, err)
	}
}

// TestClosedMonth: while an administrator has closed a month, answers that need it
// are errors. Entries of other months are still indexed.
func TestClosedMonth(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	january, march := newEntry(acme, 1), newEntry(acme, 2)
	march.Timestamp = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	march.ID = audit.DeriveEntryID(acme, march.Timestamp, "march")
	put(t, x, acme, january)
	closed := url + "/" + prefix + "-t-acme.2026.01"
	engineRequest(t, http.MethodPost, closed+"/_close", nil, nil)
	_, putErr := search.PutEntries(t.Context(), x, acme, []audit.Entry{january, march})
	_, findErr := x.Find(t.Context(), acme, audit.Filter{}, audit.PageRequest{Limit: 5})
	_, statsErr := x.Stats(t.Context(), acme, audit.Filter{}, audit.StatsRequest{})
	_, containsErr := x.Contains(t.Context(), acme, january.ID)
	for _, err := range []error{putErr, findErr, statsErr, containsErr} {
		wantUnavailable(t, err)
	}
	put(t, x, acme, march)
	contained, err := x.Contains(t.Context(), acme, march.ID)
	if err != nil {
		t.Error(err)
	}
	if !contained {
		t.Error("the entry of the open month is not indexed, want it to be")
	}
	engineRequest(t, http.MethodPost, closed+"/_open?wait_for_active_shards=1", nil, nil)
	if n := total(t, x, acme); n != 2 {
		t.Errorf("after opening the month the index has %d entries, want 2", n)
	}
	engineRequest(t, http.MethodPost, closed+"/_close", nil, nil)
	if n := purge(t, x, acme); n != 2 {
		t.Errorf("Purge removed %d entries, want 2", n)
	}
	if names := indexesOf(t, url, prefix+"-*"); len(names) > 0 {
		t.Errorf("after the purge the indexes are %v, want none", names)
	}
}

// TestNoShardsLeft: at the cluster's limit of shards, only entries that need a new
// index fail.
func TestNoShardsLeft(t *testing.T) {
	engine := enginetest.StartOpenSearch(t)
	url := engine.URL()
	x := open(t, url, "test", waitForRefresh)
	put(t, x, acme, newEntry(acme, 1))
	allow := func(shards any) {
		engineRequest(t, http.MethodPut, url+"/_cluster/settings", map[string]any{"persistent": map[string]any{"cluster.max_shards_per_node": shards}}, nil)
	}
	allow(1)
	_, err := search.PutEntries(t.Context(), x, "other", newEntries("other", 1))
	wantUnavailable(t, err)
	put(t, x, acme, newEntry(acme, 2)) // its index exists
	allow(nil)
	put(t, x, "other", newEntries("other", 1)...)
	if n := total(t, x, "other"); n != 1 {
		t.Errorf("the index has %d entries, want 1", n)
	}
}

// TestNoShardsLeftIsAnOutage does the same without an engine.
func TestNoShardsLeftIsAnOutage(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case isBulk(r):
			_, _ = io.WriteString(w, `{"items":[{"index":{"status":404,"error":{"type":"index_not_found_exception"}}}]}`)
		case strings.HasPrefix(r.URL.Path, "/_index_template/"):
			_, _ = io.WriteString(w, `{"acknowledged":true}`)
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"root_cause":[{"type":"validation_exception"}],"type":"validation_exception",`+
				`"reason":"Validation Failed: 1: this action would add [1] total shards, but this cluster currently has [1000]/[1000] maximum shards open;"},"status":400}`)
		}
	}))
	defer server.Close()
	_, err := search.PutEntries(t.Context(), open(t, server.URL, "test"), acme, newEntries(acme, 1))
	wantUnavailable(t, err)
	if !strings.Contains(err.Error(), "maximum shards open") {
		t.Errorf("error = %v, want OpenSearch's reason", err)
	}
}

func TestConnectionRefused(t *testing.T) {
	x := open(t, "http://127.0.0.1:1", "test", func(c *opensearchindex.Config) { c.WriteBudget = 200 * time.Millisecond })
	_, putErr := search.PutEntries(t.Context(), x, acme, newEntries(acme, 1))
	wantUnavailable(t, putErr)
	start := time.Now()
	_, findErr := x.Find(t.Context(), acme, audit.Filter{}, audit.PageRequest{Limit: 1})
	wantUnavailable(t, findErr)
	if elapsed := time.Since(start); elapsed > 3*time.Second {
		t.Errorf("Find took %v, want at most 3s", elapsed)
	}
	wantUnavailable(t, x.Ping(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := search.PutEntries(ctx, x, acme, newEntries(acme, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with a cancelled context: error = %v, want context.Canceled", err)
	}
}

func TestRequestsAreSigned(t *testing.T) {
	var authorization string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{}`)
	}))
	defer server.Close()
	config := aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")}
	x := open(t, server.URL, "test", func(c *opensearchindex.Config) { c.AWS = &config })
	if err := x.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/", "/eu-central-1/es/aws4_request"} {
		if !strings.Contains(authorization, want) {
			t.Errorf("Authorization is %q, want it to contain %q", authorization, want)
		}
	}
}

// TestKilledEngineKeepsWhatWasAcknowledged: acknowledged entries survive kill -9,
// and Put retries the others.
func TestKilledEngineKeepsWhatWasAcknowledged(t *testing.T) {
	engine := enginetest.StartOpenSearch(t)
	x := open(t, engine.URL(), "test", func(c *opensearchindex.Config) { c.WriteBudget = 2 * time.Minute })
	entries := newEntries(acme, many)
	var writers sync.WaitGroup
	var acknowledged sync.Map
	for part := range slices.Chunk(entries, many/4) {
		writers.Go(func() {
			for batch := range slices.Chunk(part, 50) {
				if !mustPut(t, x, batch) {
					return
				}
				for _, e := range batch {
					acknowledged.Store(e.ID, true)
				}
			}
		})
	}
	for kill := range 2 {
		before := map[audit.EntryID]bool{}
		for len(before) < many/4*(kill+1) {
			if t.Failed() {
				return
			}
			time.Sleep(5 * time.Millisecond)
			acknowledged.Range(func(id, _ any) bool { before[id.(audit.EntryID)] = true; return true })
		}
		if err := errors.Join(engine.Kill(), engine.Start()); err != nil {
			t.Fatal(err)
		}
		found := allIDs(t, x)
		for id := range before {
			if !found[id] {
				t.Fatalf("%s was acknowledged before the kill and is lost, want it stored", id)
			}
		}
	}
	writers.Wait()
	awaitTotal(t, x, acme, many)
}

func allIDs(t *testing.T, x *opensearchindex.Index) map[audit.EntryID]bool {
	t.Helper()
	found := map[audit.EntryID]bool{}
	var after audit.EntryID
	for {
		ids, err := x.IDs(t.Context(), acme, time.Time{}, time.Time{}, after, 5000)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			return found
		}
		for _, id := range ids {
			found[id] = true
		}
		after = ids[len(ids)-1]
	}
}
