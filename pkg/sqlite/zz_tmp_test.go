package sqlite_test

import (
	"context"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestZZ(t *testing.T) {
	db := open(t)
	c := newCorpus()
	es := c.entries("acme", 100000)
	for i := 0; i < len(es); i += 1000 {
		if _, err := db.Entries().Append(t.Context(), "acme", es[i:i+1000]); err != nil { t.Fatal(err) }
		if _, err := db.Index().Put(t.Context(), "acme", es[i:i+1000]); err != nil { t.Fatal(err) }
	}
	for name, l := range map[string]interface{ IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) }{"store": db.Entries(), "index": db.Index()} {
		b := time.Now(); n := 0; var after audit.EntryID
		for { ids, err := l.IDs(t.Context(), "acme", time.Time{}, time.Time{}, after, 10000); if err != nil { t.Fatal(err) }; if len(ids) == 0 { break }; n += len(ids); after = ids[len(ids)-1] }
		t.Log(name, n, time.Since(b))
	}
}
