package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

func open(t *testing.T, opts ...sqlite.Option) *sqlite.DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "ocelot.db"), opts...)
}

func openAt(t testing.TB, path string, opts ...sqlite.Option) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// storeIndexed stores entries and indexes them.
func storeIndexed(t testing.TB, db *sqlite.DB, tenant audit.TenantID, entries []audit.Entry) {
	t.Helper()
	if _, err := db.Entries().Append(t.Context(), tenant, entries); err != nil {
		t.Fatal(err)
	}
	if _, err := search.PutEntries(t.Context(), db.Index(), tenant, entries); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	conformance.Store(t, func(t *testing.T) conformance.EntryStore { return open(t).Entries() })
}

func TestIndex(t *testing.T) {
	for name, limit := range map[string]func(x *sqlite.Index){
		"scans":               func(*sqlite.Index) {}, // which read all of the suite's few entries
		"full text":           func(x *sqlite.Index) { x.LimitScans(1, 0) },
		"one after the other": func(x *sqlite.Index) { x.LimitScans(3, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			conformance.Index(t, func(t *testing.T) conformance.IndexUnderTest {
				db := open(t)
				index := db.Index()
				limit(index)
				return conformance.IndexUnderTest{Index: index, Store: db.Entries()}
			})
		})
	}
}

func TestExpiry(t *testing.T) {
	conformance.Expiry(t, func(t *testing.T) conformance.ExpiryUnderTest {
		db := open(t)
		put := conformance.IndexUnderTest{Index: db.Index(), Store: db.Entries()}.Put
		return conformance.ExpiryUnderTest{Put: put, Index: db.Index(), Counts: true, Reader: db.Entries()}
	})
}

func TestQuarantine(t *testing.T) {
	conformance.Quarantine(t, func(t *testing.T) conformance.QuarantineStore { return open(t).Quarantine() })
}

func TestTenants(t *testing.T) {
	conformance.Tenants(t, func(t *testing.T) tenants.Store { return open(t).Tenants() })
}

func TestKeys(t *testing.T) {
	conformance.Keys(t, func(t *testing.T) conformance.KeyStore { return open(t).Keys() })
}

func TestActivity(t *testing.T) {
	conformance.Activity(t, func(t *testing.T) conformance.ActivityRegister { return open(t).Activity() })
}

func TestJobs(t *testing.T) {
	conformance.Jobs(t, func(t *testing.T) jobs.Store { return open(t).Jobs() })
}

func TestStreams(t *testing.T) {
	conformance.Streams(t, func(t *testing.T, now func() time.Time) conformance.StreamStore {
		return open(t, sqlite.WithClock(now)).Streams()
	})
}

func TestArrivals(t *testing.T) {
	conformance.Arrivals(t, func(t *testing.T) conformance.ArrivalLog { return open(t).Arrivals() })
}

func TestConnections(t *testing.T) {
	conformance.Connections(t, func(t *testing.T, now func() time.Time) conformance.ConnectionStore {
		return open(t, sqlite.WithClock(now)).Connections()
	})
}

func TestCertificates(t *testing.T) {
	conformance.Certificates(t, func(t *testing.T) certificate.Store { return open(t).Certificates() })
}

func TestHolds(t *testing.T) {
	conformance.Holds(t, func(t *testing.T) conformance.HoldStore { return open(t).Holds() })
}

func TestTenantKeys(t *testing.T) {
	conformance.TenantKeys(t, func(t *testing.T) conformance.TenantKeyStore { return open(t).TenantKeys() })
}

func TestAttempts(t *testing.T) {
	conformance.Attempts(t, func(t *testing.T) (first, second conformance.AttemptStore) {
		path := filepath.Join(t.TempDir(), "ocelot.db")
		return openAt(t, path, sqlite.WithSharedFile()).Attempts(), openAt(t, path, sqlite.WithSharedFile()).Attempts()
	})
}

func TestQuotas(t *testing.T) {
	conformance.Quotas(t, func(t *testing.T, now func() time.Time) (first, second conformance.QuotaStore) {
		path := filepath.Join(t.TempDir(), "ocelot.db")
		return openAt(t, path, sqlite.WithSharedFile()).Quotas(), openAt(t, path, sqlite.WithSharedFile(), sqlite.WithClock(now)).Quotas()
	})
}

func TestQueue(t *testing.T) {
	conformance.Queue(t, func(t *testing.T, visibility time.Duration, maxReceives int) conformance.MessageQueue {
		return messageQueue{open(t).Queue("q", visibility, maxReceives)}
	})
}

// messageQueue adapts a queue to the suite.
type messageQueue struct{ *sqlite.Queue }

func (q messageQueue) Receive(ctx context.Context, n int, wait time.Duration) ([]conformance.QueueMessage, error) {
	received, err := q.Queue.Receive(ctx, n, wait)
	messages := make([]conformance.QueueMessage, len(received))
	for i, m := range received {
		messages[i] = conformance.QueueMessage{ID: m.ID, Body: m.Body, Receipt: m.Receipt, ReceiveCount: m.ReceiveCount, Tenant: m.Tenant}
	}
	return messages, err
}

func (q messageQueue) Redrive(ctx context.Context) error {
	_, err := q.Queue.Redrive(ctx)
	return err
}

func TestCommitter(t *testing.T) {
	conformance.Committer(t, func(t *testing.T) conformance.CommitterUnderTest {
		db := open(t)
		return conformance.CommitterUnderTest{
			Committer: db.Committer(), Entries: db.Entries(), Index: conformance.IndexUnderTest{Index: db.Index(), Store: db.Entries()}, Arrivals: db.Arrivals(),
		}
	})
}
