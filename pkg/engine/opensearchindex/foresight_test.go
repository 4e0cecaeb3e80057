package opensearchindex_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// slowSearches delays searches, as a cluster with very many entries would.
type slowSearches struct {
	sample   time.Duration // for a sample that has entries
	value    time.Duration // for each value of the first of two fields
	searches atomic.Int64
}

func (s *slowSearches) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/_search") {
		return http.DefaultTransport.RoundTrip(r)
	}
	s.searches.Add(1)
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	var delay time.Duration
	if bytes.Contains(text, []byte(`"min_score":0.93`)) {
		delay = s.sample
	}
	var body struct {
		Aggs struct {
			Groups struct {
				Aggs  json.RawMessage
				Terms struct{ Include []string }
			}
		}
	}
	if json.Unmarshal(text, &body) == nil && body.Aggs.Groups.Aggs != nil { // another include is a text
		delay = time.Duration(len(body.Aggs.Groups.Terms.Include)) * s.value
	}
	select {
	case <-time.After(delay):
		return http.DefaultTransport.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// TestHopelessCountsAreRefusedAtOnce: a count that would take far too long is refused after a
// small part of it, and again without a search. Others are counted.
func TestHopelessCountsAreRefusedAtOnce(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	entries := newEntries(acme, 600)
	for i := range entries {
		entries[i].ResourceID = fmt.Sprint(i)
		entries[i].Metadata = audit.Object(fmt.Sprintf(`{"a":%d,"b":[%d,%d]}`, i%300, i%7, i%5+10))
	}
	put(t, open(t, url, prefix, waitForRefresh), acme, entries...)
	one, two := []audit.Field{audit.FieldResourceID}, []audit.Field{"metadata.a", "metadata.b"}
	for _, c := range []struct {
		name    string
		by      []audit.Field
		slow    *slowSearches
		refused bool
	}{
		{"slow pass", one, &slowSearches{sample: 15 * time.Second}, true},
		{"pass", one, &slowSearches{sample: 50 * time.Millisecond}, false},
		{"slow pairs", two, &slowSearches{value: 200 * time.Millisecond}, true},
		{"pairs", two, &slowSearches{value: 2 * time.Millisecond}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := open(t, url, prefix, func(config *opensearchindex.Config) { config.Transport = c.slow })
			x.ForeseeFrom(int64(len(entries)))
			request := audit.StatsRequest{GroupBy: c.by, Top: 10}
			began := time.Now()
			stats, err := x.Stats(t.Context(), acme, audit.Filter{}, request)
			if !c.refused {
				if err != nil {
					t.Fatalf("got error %v, want none", err)
				}
				if got, want := len(stats.Groups), 10; got != want {
					t.Errorf("got %d groups, want %d", got, want)
				}
				return
			}
			checkSlow(t, err)
			if took := time.Since(began); took > audit.MaxStatsTime/3 {
				t.Errorf("refused after %v, want at once", took)
			}
			before := c.slow.searches.Load()
			_, err = x.Stats(t.Context(), acme, audit.Filter{}, request)
			checkSlow(t, err)
			if n := c.slow.searches.Load() - before; n > 0 {
				t.Errorf("sent %d searches for the same again, want none", n)
			}
			// What is narrower, or another tenant's, is tried.
			c.slow.sample, c.slow.value = 0, 0
			if _, err := x.Stats(t.Context(), acme, audit.Filter{Where: audit.Equals{Field: audit.FieldResourceID, Values: []string{"1"}}}, request); err != nil {
				t.Errorf("a narrower count: got error %v, want none", err)
			}
			if _, err := x.Stats(t.Context(), "globex", audit.Filter{}, request); err != nil {
				t.Errorf("another tenant's count: got error %v, want none", err)
			}
		})
	}
}

func checkSlow(t *testing.T, err error) {
	t.Helper()
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Fatalf("got error %v, want a %T", err, invalid)
	}
	if got := invalid.Fields[0].Code; got != "too_many_entries" {
		t.Fatalf("got code %q, want too_many_entries", got)
	}
}
