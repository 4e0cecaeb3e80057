package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

// TestReadsEndWithTheirContext: a caller that goes away ends its query.
func TestReadsEndWithTheirContext(t *testing.T) {
	db := open(t)
	for _, rows := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := db.Endless(ctx, rows); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("rows %t: got error %v, want context.DeadlineExceeded", rows, err)
		}
		cancel()
	}
}

// TestGroupsAreBounded: groups that are counted in memory are bounded by number and size.
func TestGroupsAreBounded(t *testing.T) {
	db := open(t)
	add := func(tenant audit.TenantID, n int, value func(i, j int) string) {
		t.Helper()
		entries := newCorpus().entries(tenant, n)
		for i := range entries {
			values := make([]string, 100)
			for j := range values {
				values[j] = value(i, j)
			}
			metadata, err := json.Marshal(map[string][]string{"v": values})
			if err != nil {
				t.Fatal(err)
			}
			entries[i].Metadata = metadata
		}
		storeIndexed(t, db, tenant, entries)
	}
	add("many", audit.MaxGroups/100+1, func(i, j int) string { return fmt.Sprintf("%d.%d", i, j) })
	add("most", audit.MaxGroups/100-1, func(i, j int) string { return fmt.Sprintf("%d.%d", i, j) })
	long := strings.Repeat("x", 1000)
	add("long", audit.MaxGroupBytes/100_000+2, func(i, j int) string { return fmt.Sprintf("%d.%d.%s", i, j, long) })
	for tenant, refused := range map[audit.TenantID]bool{"many": true, "most": false, "long": true} {
		_, err := db.Index().Stats(t.Context(), tenant, audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{"metadata.v"}, Top: 1})
		var invalid *audit.ValidationError
		if got := errors.As(err, &invalid); got != refused {
			t.Errorf("%s: got error %v, want a refusal: %t", tenant, err, refused)
		}
		if refused && invalid != nil && invalid.Fields[0].Code != "too_many_groups" {
			t.Errorf("%s: got code %q, want too_many_groups", tenant, invalid.Fields[0].Code)
		}
	}
}

// TestMoreGroupsThanFitAreCounted: the values of a column do not fit into memory together.
func TestMoreGroupsThanFitAreCounted(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 entries take several seconds; run without -short")
	}
	db := open(t)
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	const often = 3 // sessions with several entries
	for n := 0; n <= audit.MaxGroups; n += 1000 {
		entries := make([]audit.Entry, 1000)
		for i := range entries {
			at = at.Add(time.Second)
			session := fmt.Sprintf("session-%d", n+i)
			if n == 0 && i > 0 && i <= often*(often+1)/2 {
				session = fmt.Sprintf("often-%d", int(math.Sqrt(2*float64(i)-1)+0.5)) // 1, 2, 2, 3, 3, 3
			}
			entries[i] = audit.Entry{ID: audit.DeriveEntryID("acme", at, "1"), Tenant: "acme", Timestamp: at, ReceivedAt: at, Action: "VIEW", SessionID: session}
		}
		storeIndexed(t, db, "acme", entries)
	}
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{audit.FieldSessionID}, Top: 4})
	if err != nil {
		t.Fatal(err)
	}
	want := []audit.Group{
		{Values: []string{"often-3"}, Count: 3}, {Values: []string{"often-2"}, Count: 2},
		{Values: []string{"often-1"}, Count: 1}, {Values: []string{"session-0"}, Count: 1},
	}
	if !reflect.DeepEqual(stats.Groups, want) {
		t.Errorf("got the groups %v, want %v", stats.Groups, want)
	}
}

// TestManyDocumentsAreRefusedAtOnce: no document is read if there are too many of them.
func TestManyDocumentsAreRefusedAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("fills two million rows; run without -short")
	}
	path := filepath.Join(t.TempDir(), "ocelot.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, path, fmt.Sprintf(`INSERT INTO tenant_numbers VALUES (1, 'globex'); INSERT INTO indexed_keys
		WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT 1, i FROM n`, sqlite.MaxGroupedDocs))
	db := openAt(t, path)
	if err := db.FillBlocks(t.Context(), 1, sqlite.MaxGroupedDocs+1); err != nil {
		t.Fatal(err)
	}
	for field, refused := range map[audit.Field]bool{"metadata.a": true, audit.FieldResourceID: false} {
		_, err := db.Index().Stats(t.Context(), "globex", audit.Filter{}, audit.StatsRequest{GroupBy: []audit.Field{field}, Top: 1})
		var invalid *audit.ValidationError
		if got := errors.As(err, &invalid); got != refused {
			t.Errorf("by %s: got error %v, want a refusal: %t", field, err, refused)
		}
	}
}
