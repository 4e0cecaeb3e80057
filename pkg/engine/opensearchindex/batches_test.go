package opensearchindex_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// newBatches returns one entry of each of n tenants.
func newBatches(n int) []search.Batch {
	batches := make([]search.Batch, n)
	for i := range batches {
		tenant := audit.TenantID(fmt.Sprintf("tenant-%d", i))
		batches[i] = search.Batch{Tenant: tenant, Entries: newEntries(tenant, 1)}
	}
	return batches
}

func wantPut(t *testing.T, results []search.PutResult) {
	t.Helper()
	for i, result := range results {
		if result.Err != nil {
			t.Errorf("batch %d: %v", i, result.Err)
		}
		if len(result.Rejections) > 0 {
			t.Errorf("batch %d has rejections %+v, want none", i, result.Rejections)
		}
	}
}

func TestBatchesOfManyTenantsAreOneBulkRequest(t *testing.T) {
	url := enginetest.OpenSearch(t)
	proxy := enginetest.NewHTTPProxy(t, url)
	x := open(t, proxy.URL(), newPrefix(t, url), waitForRefresh)
	batches := newBatches(5)
	wantPut(t, x.Put(t.Context(), batches)) // creates the indexes
	var bulks atomic.Int64
	proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if isBulk(r) {
			bulks.Add(1)
		}
		return nil
	})
	wantPut(t, x.Put(t.Context(), batches))
	if got := bulks.Load(); got != 1 {
		t.Errorf("sent %d bulk requests, want 1", got)
	}
	for _, b := range batches {
		if got := total(t, x, b.Tenant); got != 1 {
			t.Errorf("%s has %d entries, want 1", b.Tenant, got)
		}
	}
}

func TestAClosedIndexFailsItsTenantAlone(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh, func(c *opensearchindex.Config) { c.WriteBudget = 1 })
	batches := newBatches(3)
	for _, b := range batches {
		put(t, open(t, url, prefix, waitForRefresh), b.Tenant, b.Entries...)
	}
	closed := url + "/" + prefix + "-t-tenant-1.2026.01"
	engineRequest(t, http.MethodPost, closed+"/_close", nil, nil)
	t.Cleanup(func() { engineRequest(t, http.MethodPost, closed+"/_open", nil, nil) })
	results := x.Put(t.Context(), batches)
	wantUnavailable(t, results[1].Err)
	wantPut(t, []search.PutResult{results[0], results[2]})
}
