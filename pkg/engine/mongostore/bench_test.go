package mongostore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// oneKB is an entry of about 1,000 bytes of JSON.
func oneKB(tenant audit.TenantID, at time.Time, n uint32) audit.Entry {
	e := newEntry(tenant, at, n)
	e.Message = "order changed by the back office after the customer called " + fmt.Sprint(n)
	e.Before = audit.Object(`{"state":"new","total":1250,"lines":[{"sku":"A-1","count":2},{"sku":"B-7","count":1}]}`)
	e.After = audit.Object(`{"state":"paid","total":1250,"lines":[{"sku":"A-1","count":2},{"sku":"B-7","count":1}],"paid_at":"2026-03-29T00:59:59Z"}`)
	e.Metadata = audit.Object(`{"region":"eu-west-1","trace":"` + strings.Repeat("0f", 16) + `","rate":0.25,"note":"` + strings.Repeat("n", 250) + `"}`)
	e.Changed = []string{"paid_at", "state"}
	return e
}

// BenchmarkDocument is what a store adds to an entry in CPU: to its document, and back.
func BenchmarkDocument(b *testing.B) {
	e := oneKB("acme", march, 1)
	b.ReportAllocs()
	for b.Loop() {
		doc, err := mongostore.EntryDocument(&e)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := mongostore.ReadEntry(doc); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend appends bulks of 100. With the engine of the registries it
// measures that engine more than this package.
func BenchmarkAppend(b *testing.B) {
	uri := enginetest.Mongo(b)
	store := open(b, uri, newDatabase(b, uri)).Entries(shared)
	n := uint32(0)
	for b.Loop() {
		bulk := make([]audit.Entry, 100)
		for i := range bulk {
			bulk[i] = oneKB("acme", march.Add(time.Duration(n)*time.Millisecond), n)
			n++
		}
		appendAll(b, store, "acme", bulk...)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkOrder measures the messages of one tenant that one orderer handles, in batches of 100
// messages of one entry. With the engine of the registries it measures that engine more than
// this package.
func BenchmarkOrder(b *testing.B) {
	uri := enginetest.Mongo(b)
	conformance.BenchmarkOrder(b, open(b, uri, newDatabase(b, uri)).Arrivals(), 1)
}

// BenchmarkPage reads the 50 newest at 10,000 entries. The engine of the
// registries has no indexes but unique ones and reads all of them each time:
// only a real server's figure says something.
func BenchmarkPage(b *testing.B) {
	uri := enginetest.Mongo(b)
	db := open(b, uri, newDatabase(b, uri))
	bulk := make([]audit.Entry, 1000)
	for n := uint32(0); n < 10_000; {
		for i := range bulk {
			bulk[i] = newEntry("acme", march.Add(time.Duration(n)*time.Millisecond), n)
			n++
		}
		appendAll(b, db.Entries(shared), "acme", bulk...)
	}
	for name, where := range map[string]audit.Expr{"newest": nil, "of a user": audit.Equals{Field: audit.FieldUserID, Values: []string{"user-3"}}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				page, err := db.Index(shared).Find(b.Context(), "acme", audit.Filter{Where: where}, audit.PageRequest{Limit: 50})
				if err != nil {
					b.Fatal(err)
				} else if len(page.Entries) != 50 {
					b.Fatalf("got %d entries, want 50", len(page.Entries))
				}
			}
		})
	}
}
