package mongostore_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// dataBytes is what a one-KB entry takes in a collection of MongoDB, compressed with snappy.
const dataBytes = 433

var workloads = map[string]mongostore.Workload{
	"many small tenants": {
		Tenants: 20_000, EntriesPerTenant: 5_000, UsersPerTenant: 50, ResourcesPerTenant: 2_500,
		TenantID: 16, UserID: 24, ResourceID: 20, Action: 12, ResourceType: 10, Words: 12, Actions: 40,
	},
	"few large tenants": {
		Tenants: 10, EntriesPerTenant: 130_000_000, UsersPerTenant: 100_000, ResourcesPerTenant: 40_000_000,
		TenantID: 16, UserID: 36, ResourceID: 36, Action: 16, ResourceType: 16, Words: 12, Actions: 400,
	},
	"every resource once": {
		Tenants: 1_000, EntriesPerTenant: 100_000, UsersPerTenant: 5_000, ResourcesPerTenant: 100_000,
		TenantID: 20, UserID: 36, ResourceID: 36, Action: 12, ResourceType: 10, Words: 12, Actions: 40,
	},
}

func TestLeanIndexesAreAtMostHalfOfTheData(t *testing.T) {
	for name, w := range workloads {
		lean, full := mongostore.IndexBytes(mongostore.IndexesLean, w), mongostore.IndexBytes(mongostore.IndexesFull, w)
		t.Logf("%s: lean %.0f, full %.0f bytes an entry, data %d", name, lean, full, dataBytes)
		if lean > dataBytes/2 {
			t.Errorf("%s: lean indexes take %.0f bytes an entry, want at most %d", name, lean, dataBytes/2)
		}
		if full <= lean {
			t.Errorf("%s: full indexes take %.0f bytes an entry, want more than the %.0f of lean", name, full, lean)
		}
	}
}

// incompressible returns an object of about n bytes that the server cannot compress, so
// that entries take about dataBytes.
func incompressible(n int) audit.Object {
	random := make([]byte, n/2)
	_, _ = rand.Read(random) // never fails
	return audit.Object(`{"trace":"` + hex.EncodeToString(random) + `"}`)
}

// TestMeasuredIndexes measures what the model computes.
func TestMeasuredIndexes(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	// A checkpoint writes the pages, so that their sizes are known.
	checkpoint := func() {
		t.Helper()
		if err := client(t, uri).Database("admin").RunCommand(t.Context(), bson.D{{Key: "fsync", Value: 1}}).Err(); err != nil {
			t.Skipf("NOT PROVEN HERE: this server has no checkpoints (%v); set MONGODB_URI to a MongoDB to have the indexes measured", err)
		}
	}
	checkpoint()
	store := open(t, uri, name, mongostore.WithIndexes(mongostore.IndexesLean)).Entries(shared)
	const tenants, bulks = 10, 40
	bulk := make([]audit.Entry, 100)
	n := uint32(0)
	for range bulks {
		for i := range tenants {
			tenant := audit.TenantID(fmt.Sprintf("tenant-%03d", i))
			for j := range bulk {
				bulk[j] = oneKB(tenant, march.Add(time.Duration(n)*time.Millisecond), n)
				bulk[j].Metadata = incompressible(300)
				n++
			}
			appendAll(t, store, tenant, bulk...)
		}
	}
	database := client(t, uri).Database(name)
	checkpoint()
	var stats struct {
		Indexes float64 `bson:"totalIndexSize"`
		Data    float64 `bson:"storageSize"`
		Engine  bson.D  `bson:"wiredTiger"`
	}
	if err := database.RunCommand(t.Context(), bson.D{{Key: "collStats", Value: "logs_2026_03"}}).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	if len(stats.Engine) == 0 {
		t.Skip("NOT PROVEN HERE: this server does not store as MongoDB does; set MONGODB_URI to a MongoDB to have the indexes measured")
	}
	t.Logf("indexes take %.0f bytes an entry, data %.0f", stats.Indexes/float64(n), stats.Data/float64(n))
	if stats.Indexes > stats.Data/2 {
		t.Errorf("lean indexes take %.0f bytes, want at most half of the data's %.0f", stats.Indexes, stats.Data)
	}
}
