package httpapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// pages reads a list to its end and back. It returns the ids and the number of its pages.
func (w *world) pages(path string) (ids []string, pages int) {
	w.t.Helper()
	query := ""
	for {
		var page struct {
			Items []struct{ ID string }
			Next  *string
		}
		got := w.call("operator", "GET", path+"?limit=1000"+query, "", nil).want(w.t, 200, "")
		got.decode(w.t, &page)
		pages++
		if len(got.body) > audit.MaxPageBytes {
			w.t.Errorf("%s: got a page of %d bytes, want at most %d", path, len(got.body), audit.MaxPageBytes)
		}
		if len(page.Items) == 0 {
			w.t.Fatalf("%s: page %d is empty, want items", path, pages)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if page.Next == nil {
			return ids, pages
		}
		query = "&cursor=" + *page.Next
	}
}

// TestPagesEndBeforeTheyAreTooLarge: lists of the largest items end at
// the limit of a page, and have every item once.
func TestPagesEndBeforeTheyAreTooLarge(t *testing.T) {
	w := newWorld(t)
	const items = 150 // of some 60 KB each
	settings := audit.DefaultSettings()
	for i := range audit.MaxSensitiveFields {
		settings.SensitiveFields = append(settings.SensitiveFields, audit.SensitiveField{
			Path: fmt.Sprintf("metadata.%03d%s", i, strings.Repeat("x", audit.MaxSensitivePath-12)), Mask: audit.MaskFull,
		})
	}
	var resources []string
	for i := range tenants.MaxKeyResources {
		resources = append(resources, fmt.Sprintf("%03d%s:%s", i, strings.Repeat("t", 100), strings.Repeat("r", 500)))
	}
	for i := range items {
		tenant := audit.Tenant{ID: audit.TenantID(fmt.Sprintf("large-%03d", i)), Name: "Large", Status: audit.TenantActive, Settings: settings, CreatedAt: w.clock(), UpdatedAt: w.clock(), Version: 1}
		if err := w.tenants.Tenants.Create(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		key := tenants.Key{
			ID: fmt.Sprintf("%016x", i), Tenant: "acme", Name: "large", Permissions: []string{string(access.LogsRead)}, Resources: resources,
			CreatedAt: w.clock(), Hash: [32]byte{byte(i), 1},
		}
		if err := w.tenants.Keys.CreateKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for i := range items {
		job := jobs.Job{
			ID: fmt.Sprintf("%032x", i), Tenant: "acme", Kind: jobs.KindPurgeTenant, State: jobs.StateFailed, CreatedBy: "op",
			CreatedAt: w.clock(), FinishedAt: w.clock(), Error: strings.Repeat("e", 60_000),
		}
		if err := w.jobs.Store.CreateJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	for path, least := range map[string]int{"/tenants": items, "/tenants/acme/api-keys": items, "/jobs": items} {
		ids, pages := w.pages(path)
		if pages < 2 {
			t.Errorf("%s: got %d pages, want at least 2", path, pages)
		}
		seen := map[string]bool{}
		for _, id := range ids {
			if seen[id] {
				t.Errorf("%s: got item %s twice, want it once", path, id)
			}
			seen[id] = true
		}
		if len(seen) < least {
			t.Errorf("%s: got %d items, want at least %d", path, len(seen), least)
		}
	}
}
