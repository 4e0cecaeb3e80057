package search_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// batchIndex records what is put and returns the results that it was given.
type batchIndex struct {
	search.IndexWriter
	calls   [][]search.Batch
	results map[audit.TenantID]search.PutResult
}

func (x *batchIndex) Put(_ context.Context, batches []search.Batch) []search.PutResult {
	x.calls = append(x.calls, batches)
	results := make([]search.PutResult, len(batches))
	for i, b := range batches {
		results[i] = x.results[b.Tenant]
	}
	return results
}

// quarantined counts the rejected entries of each tenant.
type quarantined map[audit.TenantID]int

func (q quarantined) Add(_ context.Context, tenant audit.TenantID, _ string, _ []audit.Entry, reasons []audit.Rejection) error {
	q[tenant] += len(reasons)
	return nil
}

// existing has a record for every tenant but those that it names.
type existing map[audit.TenantID]bool

func (e existing) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	if e[id] {
		return audit.Tenant{}, audit.ErrNotFound
	}
	return audit.Tenant{ID: id, Status: audit.TenantActive}, nil
}

func messageOf(t *testing.T, tenant audit.TenantID) string {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bodies, err := envelope.Pack(tenant, []audit.Entry{{
		ID: audit.NewEntryID(at, [10]byte{1}), Tenant: tenant, UserID: "u", Action: "A", ResourceType: "r", Timestamp: at,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return bodies[0]
}

func TestIndexerWritesABatchWithOneCall(t *testing.T) {
	down := errors.New("down")
	index := &batchIndex{results: map[audit.TenantID]search.PutResult{
		"broken":   {Err: down},
		"rejected": {Rejections: []audit.Rejection{{Index: 0, Code: "index_refused"}}},
	}}
	quarantine := quarantined{}
	x := &search.Indexer{Index: index, Quarantine: quarantine, Tenants: existing{"deleted": true}}
	var bodies []string
	for _, tenant := range []audit.TenantID{"acme", "broken", "globex", "acme", "deleted", "rejected"} {
		bodies = append(bodies, messageOf(t, tenant))
	}
	bodies = append(bodies, "unreadable")
	outcomes := x.IndexMessages(t.Context(), bodies)
	want := []error{nil, down, nil, nil, nil, nil, audit.ErrUnreadable}
	if len(outcomes) != len(want) {
		t.Fatalf("got %d outcomes, want %d", len(outcomes), len(want))
	}
	for i := range want {
		if !errors.Is(outcomes[i], want[i]) {
			t.Errorf("message %d: got %v, want %v", i, outcomes[i], want[i])
		}
	}
	if got := len(index.calls); got != 1 {
		t.Fatalf("the index got %d calls, want 1", got)
	}
	var tenants []audit.TenantID
	for _, b := range index.calls[0] {
		tenants = append(tenants, b.Tenant)
	}
	if got := len(index.calls[0][0].Entries); got != 2 {
		t.Errorf("%s has %d entries in its batch, want 2; tenants %v", tenants[0], got, tenants)
	}
	if got := quarantine["rejected"]; got != 1 {
		t.Errorf("%d entries are in quarantine, want 1", got)
	}
}
