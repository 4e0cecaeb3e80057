package conformance

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// indexBatches puts entries of several tenants with one call. An invalid tenant fails alone.
func indexBatches(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 26)
	other := g.tenant + "-2"
	records := corpusOf(g, 20)
	var theirs []record
	for _, r := range records[:10] {
		theirs = append(theirs, r.like(other))
	}
	batches := []search.Batch{
		{Tenant: g.tenant, Entries: entriesOf(records)},
		{Tenant: "Not A Tenant", Entries: entriesOf(records[:1])},
		{Tenant: other, Entries: entriesOf(theirs)},
		{Tenant: g.tenant, Entries: entriesOf(records[:3])},
	}
	if x.Store != nil {
		appendAll(t, x.Store, g.tenant, batches[0].Entries)
		appendAll(t, x.Store, other, batches[2].Entries)
	}
	results := x.Index.Put(t.Context(), batches)
	if len(results) != len(batches) {
		t.Fatalf("got %d results, want %d", len(results), len(batches))
	}
	for i, result := range results {
		if i == 1 {
			if x.Store == nil && result.Err == nil {
				t.Error("an invalid tenant: got no error, want one")
			}
			continue
		}
		if result.Err != nil {
			t.Errorf("batch %d: got error %v, want none", i, result.Err)
		}
		if len(result.Rejections) > 0 {
			t.Errorf("batch %d: got rejections %+v, want none", i, result.Rejections)
		}
	}
	f := audit.Filter{}
	eventually(t, "finding the entries of both tenants", func() bool {
		return must[bool](t)(x.Index.Contains(t.Context(), g.tenant, records[19].ID)) &&
			must[bool](t)(x.Index.Contains(t.Context(), other, theirs[9].ID))
	})
	wantChosen(t, records, f, audit.NewestFirst, x.walk(t, g.tenant, f, audit.PageRequest{Limit: 50}, false))
	wantChosen(t, theirs, f, audit.NewestFirst, x.walk(t, other, f, audit.PageRequest{Limit: 50}, false))
}
