package opensearchindex_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func TestConformance(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	conformance.Index(t, func(t *testing.T) conformance.IndexUnderTest {
		return conformance.IndexUnderTest{Index: open(t, url, prefix)}
	})
}

func TestExpiry(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	conformance.Expiry(t, func(t *testing.T) conformance.ExpiryUnderTest {
		x := open(t, url, prefix)
		return conformance.ExpiryUnderTest{Put: conformance.IndexUnderTest{Index: x}.Put, Index: x, Counts: true}
	})
}

func open(t *testing.T, url, prefix string, changes ...func(*opensearchindex.Config)) *opensearchindex.Index {
	t.Helper()
	config := opensearchindex.Config{
		URLs: []string{url}, Prefix: prefix,
		// The machine also runs other tests.
		Timeouts: opensearchindex.Timeouts{Find: time.Minute, Contains: time.Minute, Count: time.Minute, Write: 20 * time.Second},
	}
	for _, change := range changes {
		change(&config)
	}
	x, err := opensearchindex.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// newPrefix returns a prefix of its own for a test. The test's end removes its
// indexes and templates.
func newPrefix(t *testing.T, url string) string {
	t.Helper()
	prefix := fmt.Sprintf("test%08x", rand.Uint32())
	t.Cleanup(func() {
		var created struct {
			Indices        []struct{ Name string }
			IndexTemplates []struct{ Name string } `json:"index_templates"`
		}
		engineRequest(t, http.MethodGet, url+"/_resolve/index/"+prefix+"-*", nil, &created)
		engineRequest(t, http.MethodGet, url+"/_index_template", nil, &created) // with a pattern it fails if there is none
		for _, index := range created.Indices {
			engineRequest(t, http.MethodDelete, url+"/"+index.Name, nil, nil)
		}
		for _, template := range created.IndexTemplates {
			if strings.HasPrefix(template.Name, prefix+"-") {
				engineRequest(t, http.MethodDelete, url+"/_index_template/"+template.Name, nil, nil)
			}
		}
	})
	return prefix
}

// engineRequest sends a request to the engine itself. It parses the response into
// answer unless that is nil.
func engineRequest(t *testing.T, method, url string, body, answer any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	request, err := http.NewRequestWithContext(context.Background(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode > 299 {
		reason, _ := io.ReadAll(response.Body)
		t.Fatalf("%s %s: got %s, want success: %s", method, url, response.Status, reason)
	}
	if answer != nil {
		if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
			t.Fatal(err)
		}
	}
}

var begin = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

const acme = audit.TenantID("acme")

// newEntry returns the n-th entry of a test.
func newEntry(tenant audit.TenantID, n int) audit.Entry {
	at := begin.Add(time.Duration(n) * time.Millisecond)
	return audit.Entry{
		ID: audit.DeriveEntryID(tenant, at, fmt.Sprint(n)), Tenant: tenant, UserID: "u1", Action: "CREATE", ResourceType: "order",
		Timestamp: at, ReceivedAt: at,
	}
}

func newEntries(tenant audit.TenantID, n int) []audit.Entry {
	entries := make([]audit.Entry, n)
	for i := range entries {
		entries[i] = newEntry(tenant, i)
	}
	return entries
}

func put(t *testing.T, x *opensearchindex.Index, tenant audit.TenantID, entries ...audit.Entry) {
	t.Helper()
	rejections, err := search.PutEntries(t.Context(), x, tenant, entries)
	if err != nil {
		t.Fatal(err)
	}
	if len(rejections) > 0 {
		t.Fatalf("Put rejected %+v, want none", rejections)
	}
}

func total(t *testing.T, x *opensearchindex.Index, tenant audit.TenantID) int64 {
	t.Helper()
	stats, err := x.Stats(t.Context(), tenant, audit.Filter{}, audit.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return stats.Total
}

// waitForRefresh makes entries findable when Put returns.
func waitForRefresh(c *opensearchindex.Config) { c.WaitForRefresh = true }
