package mongostore_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func shared(context.Context, audit.TenantID) (audit.Isolation, error) {
	return audit.IsolationShared, nil
}

func dedicated(context.Context, audit.TenantID) (audit.Isolation, error) {
	return audit.IsolationDedicated, nil
}

// newDatabase returns a name that no other test has. The database is dropped with the test.
func newDatabase(t testing.TB, uri string) string {
	t.Helper()
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	name := "ocelot_test_" + hex.EncodeToString(b)
	t.Cleanup(func() {
		if err := client(t, uri).Database(name).Drop(context.Background()); err != nil {
			t.Errorf("drop %s: %v", name, err)
		}
	})
	return name
}

// client returns a plain client of the driver, with which tests look at what is stored.
func client(t testing.TB, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	return c
}

func open(t testing.TB, uri, name string, opts ...mongostore.Option) *mongostore.DB {
	t.Helper()
	db, err := mongostore.Open(uri, name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestConformance(t *testing.T) {
	uri := enginetest.Mongo(t)
	name := newDatabase(t, uri)
	db := func(t *testing.T) *mongostore.DB { return open(t, uri, name) }
	t.Run("Store", func(t *testing.T) {
		conformance.Store(t, func(t *testing.T) conformance.EntryStore { return db(t).Entries(shared) })
	})
	t.Run("StoreWithPartitionsOfItsOwn", func(t *testing.T) {
		conformance.Store(t, func(t *testing.T) conformance.EntryStore { return db(t).Entries(dedicated) })
	})
	t.Run("StoreWithLeanIndexes", func(t *testing.T) {
		conformance.Store(t, func(t *testing.T) conformance.EntryStore {
			return open(t, uri, newDatabase(t, uri), mongostore.WithIndexes(mongostore.IndexesLean)).Entries(shared)
		})
	})
	t.Run("Expiry", func(t *testing.T) {
		conformance.Expiry(t, func(t *testing.T) conformance.ExpiryUnderTest { return expiryUnderTest(db(t)) })
	})
	t.Run("ExpiryWithLeanIndexes", func(t *testing.T) {
		conformance.Expiry(t, func(t *testing.T) conformance.ExpiryUnderTest {
			return expiryUnderTest(open(t, uri, newDatabase(t, uri), mongostore.WithIndexes(mongostore.IndexesLean)))
		})
	})
	t.Run("Quarantine", func(t *testing.T) {
		conformance.Quarantine(t, func(t *testing.T) conformance.QuarantineStore { return db(t).Quarantine() })
	})
	t.Run("Tenants", func(t *testing.T) {
		conformance.Tenants(t, func(t *testing.T) tenants.Store { return db(t).Tenants() })
	})
	t.Run("Keys", func(t *testing.T) {
		conformance.Keys(t, func(t *testing.T) conformance.KeyStore { return db(t).Keys() })
	})
	t.Run("TenantKeys", func(t *testing.T) {
		conformance.TenantKeys(t, func(t *testing.T) conformance.TenantKeyStore { return db(t).TenantKeys() })
	})
	t.Run("Certificates", func(t *testing.T) {
		conformance.Certificates(t, func(t *testing.T) certificate.Store { return open(t, uri, newDatabase(t, uri)).Certificates() })
	})
	t.Run("Holds", func(t *testing.T) {
		conformance.Holds(t, func(t *testing.T) conformance.HoldStore { return db(t).Holds() })
	})
	t.Run("Activity", func(t *testing.T) {
		conformance.Activity(t, func(t *testing.T) conformance.ActivityRegister { return open(t, uri, newDatabase(t, uri)).Activity() })
	})
	t.Run("Attempts", func(t *testing.T) {
		conformance.Attempts(t, func(t *testing.T) (first, second conformance.AttemptStore) {
			return db(t).Attempts(), open(t, uri, name).Attempts()
		})
	})
	t.Run("Quotas", func(t *testing.T) {
		conformance.Quotas(t, func(t *testing.T, now func() time.Time) (first, second conformance.QuotaStore) {
			return db(t).Quotas(), open(t, uri, name, mongostore.WithClock(now)).Quotas()
		})
	})
	t.Run("Jobs", func(t *testing.T) {
		conformance.Jobs(t, func(t *testing.T) jobs.Store { return db(t).Jobs() })
	})
	for _, skew := range skews {
		t.Run("Streams"+skew.String(), func(t *testing.T) {
			conformance.Streams(t, func(t *testing.T, now func() time.Time) conformance.StreamStore {
				return open(t, uri, name, skew.clocks(now)...).Streams()
			})
		})
		t.Run("Connections"+skew.String(), func(t *testing.T) {
			conformance.Connections(t, func(t *testing.T, now func() time.Time) conformance.ConnectionStore {
				return open(t, uri, name, skew.clocks(now)...).Connections()
			})
		})
	}
	t.Run("Arrivals", func(t *testing.T) {
		conformance.Arrivals(t, func(t *testing.T) conformance.ArrivalLog { return db(t).Arrivals() })
	})
}

// expiryUnderTest reads the lists of a search index that is down, and single entries.
func expiryUnderTest(db *mongostore.DB) conformance.ExpiryUnderTest {
	entries := db.Entries(shared)
	return conformance.ExpiryUnderTest{
		Put: func(t *testing.T, tenant audit.TenantID, batch []audit.Entry) {
			t.Helper()
			if _, err := entries.Append(t.Context(), tenant, batch); err != nil {
				t.Fatal(err)
			}
		},
		Index: db.Index(shared), Reader: entries,
	}
}

func TestPoolSize(t *testing.T) {
	const uri = "mongodb://127.0.0.1:1"
	for _, c := range []struct {
		options []mongostore.Option
		want    uint64
	}{{nil, mongostore.PoolSize}, {[]mongostore.Option{mongostore.WithPoolSize(2)}, 2}} {
		got, err := mongostore.ConnectionsOf(open(t, uri, "ocelot", c.options...))
		if err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("got %d connections, want %d", got, c.want)
		}
	}
}
