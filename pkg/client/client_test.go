package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// connect returns a client of the handler and the pauses that it makes.
func connect(t *testing.T, h http.HandlerFunc, alter ...func(*client.Config)) (*client.Client, *[]time.Duration) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	var pauses []time.Duration
	config := client.Config{
		URL: server.URL, Token: "e30.e30.e30", Tenant: "acme", UserAgent: "test/1", Jitter: func() float64 { return 1 },
		Sleep: func(ctx context.Context, d time.Duration) error { pauses = append(pauses, d); return ctx.Err() },
	}
	for _, f := range alter {
		f(&config)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c, &pauses
}

func texts(entries ...string) [][]byte {
	var b [][]byte
	for _, e := range entries {
		b = append(b, []byte(e))
	}
	return b
}

func TestBulk(t *testing.T) {
	c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
		decoder, err := zstd.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		defer decoder.Close()
		body, err := io.ReadAll(decoder)
		if err != nil {
			t.Error(err)
		} else if want := "{\"a\":1}\n{\"a\":2}\n"; string(body) != want {
			t.Errorf("got body %q, want %q", body, want)
		}
		want := map[string]string{
			"Authorization": "Bearer e30.e30.e30", "X-Tenant-Id": "acme", "Content-Type": "application/x-ndjson",
			"Content-Encoding": "zstd", "User-Agent": "test/1",
		}
		for name, value := range want {
			if got := r.Header.Get(name); got != value {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
		}
		if r.Method != http.MethodPost {
			t.Errorf("got method %q, want %q", r.Method, http.MethodPost)
		}
		if r.URL.Path != "/api/v1/logs/bulk" {
			t.Errorf("got path %q, want %q", r.URL.Path, "/api/v1/logs/bulk")
		}
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = io.WriteString(w, `{"accepted":1,"duplicate":0,"filtered":0,"expired":0,"rejected":1,"items":[
			{"index":0,"id":"x","status":"accepted"},
			{"index":1,"status":"rejected","error":{"status":422,"title":"Unprocessable","errors":[{"pointer":"/action","code":"required","detail":"is required"}]}}]}`)
	})
	answer, err := c.Bulk(t.Context(), texts(`{"a":1}`, `{"a":2}`))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Accepted != 1 {
		t.Errorf("accepted %d, want 1", answer.Accepted)
	}
	if answer.Rejected != 1 {
		t.Errorf("rejected %d, want 1", answer.Rejected)
	}
	if answer.Items[1].Error.Reason() != "/action: is required" {
		t.Errorf("got reason %q, want %q", answer.Items[1].Error.Reason(), "/action: is required")
	}
}

// bulkAnswers answers bulk requests and notes their entries.
type bulkAnswers struct {
	requests [][]string
	failures map[string]int // how often an entry is rejected for now
}

func (b *bulkAnswers) answer(t *testing.T, w http.ResponseWriter, r *http.Request) {
	body, err := zstd.NewReader(r.Body)
	if err != nil {
		t.Error(err)
		return
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Error(err)
	}
	entries := strings.Fields(string(text))
	b.requests = append(b.requests, entries)
	answer := client.Bulk{}
	for i, entry := range entries {
		item := client.BulkItem{Index: i, ID: entry, Status: ingest.Accepted}
		if b.failures[entry] > 0 {
			b.failures[entry]--
			item.Status, item.Error = ingest.Rejected, &client.Problem{Status: http.StatusServiceUnavailable, Detail: "try again later"}
		} else if strings.Contains(entry, "bad") {
			item.Status, item.Error = ingest.Rejected, &client.Problem{Status: http.StatusUnprocessableEntity, Detail: "is bad"}
		}
		if answer.Items = append(answer.Items, item); item.Status == ingest.Accepted {
			answer.Accepted++
		} else {
			answer.Rejected++
		}
	}
	if answer.Rejected == 0 {
		answer.Items = nil // so the service may answer
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		t.Error(err)
	}
}

func TestBulkSendsAgainWhatWasRejectedForNow(t *testing.T) {
	service := &bulkAnswers{failures: map[string]int{`{"n":1}`: 1, `{"n":3}`: 2, `{"n":4}`: 1000}}
	c, pauses := connect(t, func(w http.ResponseWriter, r *http.Request) { service.answer(t, w, r) },
		func(config *client.Config) { config.Attempts = 3 })
	answer, err := c.Bulk(t.Context(), texts(`{"n":0}`, `{"n":1}`, `{"bad":2}`, `{"n":3}`, `{"n":4}`))
	if err != nil {
		t.Fatal(err)
	}
	wantRequests := [][]string{
		{`{"n":0}`, `{"n":1}`, `{"bad":2}`, `{"n":3}`, `{"n":4}`}, {`{"n":1}`, `{"n":3}`, `{"n":4}`}, {`{"n":3}`, `{"n":4}`},
	}
	if diff := cmp.Diff(wantRequests, service.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if got, want := len(*pauses), len(wantRequests)-1; got != want {
		t.Errorf("paused %d times, want %d", got, want)
	}
	statuses := make([]ingest.OutcomeStatus, len(answer.Items))
	for i, item := range answer.Items {
		if statuses[i] = item.Status; item.Index != i {
			t.Errorf("item %d has the index %d", i, item.Index)
		}
	}
	want := []ingest.OutcomeStatus{ingest.Accepted, ingest.Accepted, ingest.Rejected, ingest.Accepted, ingest.Rejected}
	if diff := cmp.Diff(want, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if answer.Accepted != 3 {
		t.Errorf("accepted %d, want 3", answer.Accepted)
	}
	if answer.Rejected != 2 {
		t.Errorf("rejected %d, want 2", answer.Rejected)
	}
}

func TestAnEndOfTheContextEndsTheRepetitionOfABulk(t *testing.T) {
	service := &bulkAnswers{failures: map[string]int{`{"n":0}`: 1}}
	ctx, cancel := context.WithCancel(t.Context())
	c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
		service.answer(t, w, r)
		cancel()
	})
	if _, err := c.Bulk(ctx, texts(`{"n":0}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	if got := len(service.requests); got != 1 {
		t.Errorf("sent %d requests, want 1", got)
	}
}

func TestBulkRefusesAnAnswerThatDoesNotAddUp(t *testing.T) {
	for name, answer := range map[string]string{
		"counts too few":  `{"accepted":1,"items":[{"index":0,"status":"accepted"}]}`,
		"counts too many": `{"accepted":3,"items":[{"index":0,"status":"accepted"},{"index":1,"status":"accepted"},{"index":2,"status":"accepted"}]}`,
		"wrong places":    `{"accepted":2,"items":[{"index":1,"status":"accepted"},{"index":0,"status":"accepted"}]}`,
		"wrong counts":    `{"accepted":2,"items":[{"index":0,"status":"accepted"},{"index":1,"status":"rejected"}]}`,
		"unknown word":    `{"accepted":1,"items":[{"index":0,"status":"accepted"},{"index":1,"status":"mislaid"}]}`,
		"no items":        `{"accepted":1,"rejected":1}`,
		"no JSON":         `ok`,
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := connect(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
			if got, err := c.Bulk(t.Context(), texts(`{}`, `{}`)); err == nil {
				t.Errorf("got %+v, want an error", got)
			}
		})
	}
}

func TestBulkKeepsTheServicesLimits(t *testing.T) {
	c, _ := connect(t, func(http.ResponseWriter, *http.Request) { t.Error("got a request, want none") })
	half := strings.Repeat("x", audit.MaxBulkUnpacked/2)
	for name, entries := range map[string][][]byte{
		"too many": slices.Repeat(texts(`{}`), audit.MaxBulkEntries+1), "too long": texts(half, half), "a line break": texts("{\n}"),
	} {
		if _, err := c.Bulk(t.Context(), entries); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}

func TestRetries(t *testing.T) {
	const problem = `{"type":"urn:ocelot:problem:x","title":"X","status":%d,"detail":"because","request_id":"r1"}`
	for _, c := range []struct {
		name   string
		status int
		header map[string]string
		tries  int64
		pauses []time.Duration
	}{
		{"429", 429, nil, 3, []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}},
		{"502", 502, nil, 3, []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}},
		{"503 with seconds", 503, map[string]string{"Retry-After": "7"}, 3, []time.Duration{7050 * time.Millisecond, 7100 * time.Millisecond}},
		{"504 with a date", 504, map[string]string{"Retry-After": "Sun, 01 Mar 2026 10:00:09 GMT", "Date": "Sun, 01 Mar 2026 10:00:00 GMT"}, 3,
			[]time.Duration{9050 * time.Millisecond, 9100 * time.Millisecond}},
		{"503 asking for an hour", 503, map[string]string{"Retry-After": "3600"}, 1, nil},
		{"500", 500, nil, 1, nil},
		{"401", 401, nil, 1, nil},
		{"404 with Retry-After", 404, map[string]string{"Retry-After": "1"}, 1, nil},
		{"422", 422, nil, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tries atomic.Int64
			cl, pauses := connect(t, func(w http.ResponseWriter, r *http.Request) {
				tries.Add(1)
				if body, err := io.ReadAll(r.Body); err != nil {
					t.Error(err)
				} else if len(body) == 0 {
					t.Errorf("try %d has an empty body, want the entries", tries.Load())
				}
				for name, value := range c.header {
					w.Header().Set(name, value)
				}
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(c.status)
				_, _ = fmt.Fprintf(w, problem, c.status)
			}, func(config *client.Config) { config.Attempts = 3 })
			_, err := cl.Bulk(t.Context(), texts(`{}`))
			var p *client.Problem
			switch {
			case !errors.As(err, &p):
				t.Errorf("got error %v, want one of type %T", err, p)
			case p.Status != c.status:
				t.Errorf("got status %d, want %d", p.Status, c.status)
			case p.Detail != "because":
				t.Errorf("got detail %q, want %q", p.Detail, "because")
			case p.RequestID != "r1":
				t.Errorf("got request ID %q, want %q", p.RequestID, "r1")
			}
			if tries.Load() != c.tries {
				t.Errorf("got %d tries, want %d", tries.Load(), c.tries)
			}
			if !slices.Equal(*pauses, c.pauses) {
				t.Errorf("got pauses %v, want %v", *pauses, c.pauses)
			}
		})
	}
}

// TestWaitsForTheQuota gets more refusals than a request has attempts.
func TestWaitsForTheQuota(t *testing.T) {
	for _, c := range []struct {
		name     string
		refusals int64
		accepted bool
	}{
		{"accepted in the end", 50, true},
		{"refused for ever", 1 << 40, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tries atomic.Int64
			cl, pauses := connect(t, func(w http.ResponseWriter, _ *http.Request) {
				if tries.Add(1) <= c.refusals {
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				w.WriteHeader(http.StatusAccepted)
				_, _ = io.WriteString(w, `{"accepted":1,"items":[{"index":0,"status":"accepted"}]}`)
			}, func(config *client.Config) { config.Attempts = 3 })
			_, err := cl.Bulk(t.Context(), texts(`{}`))
			if c.accepted != (err == nil) {
				t.Errorf("got error %v, want one: %t", err, !c.accepted)
			}
			var waited time.Duration
			for _, pause := range *pauses {
				waited += pause
			}
			if most := 20 * time.Minute; waited > most {
				t.Errorf("waited %v, want at most %v", waited, most)
			}
			if least := time.Duration(min(c.refusals, 600)) * time.Second; waited < least {
				t.Errorf("waited %v, want at least %v", waited, least)
			}
		})
	}
}

func TestRetriesUntilItWorks(t *testing.T) {
	var tries atomic.Int64
	c, pauses := connect(t, func(w http.ResponseWriter, r *http.Request) {
		switch tries.Add(1) {
		case 1: // the connection ends without an answer
			hang(t, w)
		case 2: // the answer is cut
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"total":`)
		case 3: // nothing comes in time
			<-r.Context().Done()
		case 4: // a gateway that knows no problem documents
			w.WriteHeader(http.StatusBadGateway)
		default:
			_, _ = io.WriteString(w, `{"total":9007199254740993,"groups":[{"action":"A","metadata.x":"","count":3}],"histogram":[{"start":"2026-03-01T00:00:00.000Z","count":2}],"distinct_users":1}`)
		}
	}, func(config *client.Config) { config.Timeout = time.Second })
	stats, err := c.Stats(t.Context(), url.Values{"group_by": {"action,metadata.x"}})
	if err != nil {
		t.Fatal(err)
	}
	if tries.Load() != 5 {
		t.Fatalf("got %d tries, want 5", tries.Load())
	}
	if len(*pauses) != 4 {
		t.Fatalf("got %d pauses, want 4", len(*pauses))
	}
	stats.Text = nil
	want := client.Stats{
		Total: 9007199254740993, DistinctUsers: 1, Histogram: []client.Bucket{{Start: "2026-03-01T00:00:00.000Z", Count: 2}},
		Groups: []client.Group{{Values: map[string]string{"action": "A", "metadata.x": ""}, Count: 3}},
	}
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}
}

func hang(t *testing.T, w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_ = connection.Close()
}

func TestPausesGrowAndEnd(t *testing.T) {
	c, pauses := connect(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		func(config *client.Config) { config.Jitter = func() float64 { return 0 }; config.Attempts = 12 })
	if _, err := c.Search(t.Context(), nil); err == nil {
		t.Fatal("got no error, want one")
	}
	if len(*pauses) != 11 {
		t.Fatalf("got %d pauses, want 11", len(*pauses))
	}
	if (*pauses)[0] != 100*time.Millisecond {
		t.Errorf("got pause 0 %v, want %v", (*pauses)[0], 100*time.Millisecond)
	}
	if (*pauses)[1] != 200*time.Millisecond {
		t.Errorf("got pause 1 %v, want %v", (*pauses)[1], 200*time.Millisecond)
	}
	if (*pauses)[10] != 10*time.Second {
		t.Errorf("got pause 10 %v, want %v", (*pauses)[10], 10*time.Second)
	}
}

func TestContextEndsTheWaiting(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	c, pauses := connect(t, func(w http.ResponseWriter, _ *http.Request) {
		cancel(interrupted)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if _, err := c.Search(ctx, nil); !errors.Is(err, interrupted) {
		t.Errorf("got error %v, want %v", err, interrupted)
	} else if len(*pauses) > 1 {
		t.Errorf("got %d pauses, want at most 1", len(*pauses))
	}
}

func TestSearchAndEntry(t *testing.T) {
	const id = "0190163d-8694-739b-aea5-966c26f8ad90"
	c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/base/api/v1/logs" && r.URL.RawQuery == "action=A&action=B&metadata.a+b=%C3%BC":
			_, _ = io.WriteString(w, `{"items":[{"big":12345678901234567890,"f":1.50}],"next":"c1","prev":null}`)
		case r.URL.Path == "/base/api/v1/logs/"+id:
			_, _ = io.WriteString(w, `{"id":"`+id+`","status":"indexed"}`)
		default:
			t.Errorf("got a request for %s, want only those above", r.URL)
		}
	}, func(config *client.Config) { config.URL += "/base/api/v1/"; config.Token = "ocelot_secret" })
	page, err := c.Search(t.Context(), url.Values{"action": {"A", "B"}, "metadata.a b": {"ü"}})
	if err != nil {
		t.Fatal(err)
	}
	if string(page.Items[0]) != `{"big":12345678901234567890,"f":1.50}` {
		t.Errorf("got first item %q, want %q", string(page.Items[0]), `{"big":12345678901234567890,"f":1.50}`)
	}
	if *page.Next != "c1" {
		t.Errorf("got next %q, want %q", *page.Next, "c1")
	}
	if page.Prev != nil {
		t.Errorf("got prev %v, want none", page.Prev)
	}
	entryID, err := audit.ParseEntryID(id)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := c.Entry(t.Context(), entryID)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(entry) {
		t.Errorf("got entry %s, want JSON", entry)
	}
}

func TestCredentials(t *testing.T) {
	for token, want := range map[string]string{"": "", "a.b.c": "Bearer a.b.c", "ocelot_abc": "ApiKey ocelot_abc"} {
		c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != want {
				t.Errorf("Authorization %q, want %q", got, want)
			}
			_, _ = io.WriteString(w, `{}`)
		}, func(config *client.Config) { config.Token = token })
		if _, err := c.Search(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}

// A redirect must not take the credential elsewhere.
func TestFollowsNoRedirect(t *testing.T) {
	c, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("the redirect was followed, want no second request")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := c.Bulk(t.Context(), texts(`{}`))
	if err == nil || !strings.Contains(err.Error(), "redirects to /elsewhere") {
		t.Errorf("got error %v, want one with %q", err, "redirects to /elsewhere")
	}
}

func TestUnreachableService(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	c, pauses := connect(t, nil, func(config *client.Config) { config.URL = "http://" + address; config.Attempts = 4 })
	switch _, err := c.Search(t.Context(), nil); {
	case err == nil:
		t.Error("got no error, want one")
	case !strings.Contains(err.Error(), "given up after 4 attempts"):
		t.Errorf("got error %q, want it to contain %q", err.Error(), "given up after 4 attempts")
	case len(*pauses) != 3:
		t.Errorf("got %d pauses, want 3", len(*pauses))
	}
}

func TestNewRefusesOddConfigurations(t *testing.T) {
	for _, config := range []client.Config{
		{}, {URL: "localhost:8080"}, {URL: "ftp://host"}, {URL: "http://"}, {URL: "http://h", Token: "a\r\nX: y"}, {URL: "http://h", Tenant: "ü"},
	} {
		if _, err := client.New(config); err == nil {
			t.Errorf("%+v: got no error, want one", config)
		}
	}
}
