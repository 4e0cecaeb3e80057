package wiring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// TestPersistLogsCountsWhatItDrops: the operator sees in a metric and in the log that
// accepted entries were not stored, and nothing of their content.
func TestPersistLogsCountsWhatItDrops(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), embedded.File))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.Tenants().Create(t.Context(), audit.Tenant{ID: "acme", Status: audit.TenantActive, Settings: audit.DefaultSettings(), Version: 1}); err != nil {
		t.Fatal(err)
	}
	var entries []audit.Entry
	for i, at := range []time.Time{time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-2, 0, 1), time.Now()} {
		at = at.UTC().Truncate(time.Millisecond)
		entries = append(entries, audit.Entry{
			ID: audit.NewEntryID(at, [10]byte{byte(i)}), Tenant: "acme", UserID: "secret", Action: "A", ResourceType: "r", Timestamp: at, ReceivedAt: at,
		})
	}
	bodies, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	var log, metrics bytes.Buffer
	services := wiring.New(embedded.Stores(db), wiring.Security{}, slog.New(slog.NewTextHandler(&log, nil)))
	services.Metrics = &metrics
	if err := services.PersistLogs()(t.Context(), bodies)[0]; err != nil {
		t.Fatal(err)
	}
	stored, err := db.Entries().IDs(t.Context(), "acme", time.Time{}, time.Time{}, audit.EntryID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != 1 {
		t.Errorf("stored %d entries, want 1", len(stored))
	}
	var line struct {
		Service, Tenant string
		Expired         float64
	}
	if err := json.Unmarshal(metrics.Bytes(), &line); err != nil {
		t.Fatalf("metrics %q: %v", metrics.String(), err)
	}
	if line.Service != "persist-logs" {
		t.Errorf("the metrics are of the service %q, want %q", line.Service, "persist-logs")
	}
	if line.Tenant != "acme" {
		t.Errorf("the metrics are of the tenant %q, want %q", line.Tenant, "acme")
	}
	if line.Expired != 2 {
		t.Errorf("the metrics have %v expired entries, want 2", line.Expired)
	}
	if !strings.Contains(log.String(), "tenant=acme entries=2") {
		t.Errorf("the log says %q, want the tenant and 2 entries", log.String())
	}
	if printed := log.String() + metrics.String(); strings.Contains(printed, "secret") {
		t.Errorf("the log and the metrics are %q, want them without content of an entry", printed)
	}
}

// TestUsageKeysFollowTheTier: a request counts under the key of its tenant's tier, and as
// standard if that is not known.
func TestUsageKeysFollowTheTier(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), embedded.File))
	if err != nil {
		t.Fatal(err)
	}
	for id, tier := range map[audit.TenantID]audit.Tier{"acme": audit.TierStandard, "globex": audit.TierPriority} {
		settings := audit.DefaultSettings()
		settings.Tier = tier
		if err := db.Tenants().Create(t.Context(), audit.Tenant{ID: id, Status: audit.TenantActive, Settings: settings, Version: 1}); err != nil {
			t.Fatal(err)
		}
	}
	stores := embedded.Stores(db)
	if got := wiring.New(stores, wiring.Security{}, slog.New(slog.DiscardHandler)).AuthorizeRequest().UsageKey(t.Context(), "globex"); got != "" {
		t.Errorf("without keys: got the key %q, want none", got)
	}
	stores.UsageKeys = config.UsageKeys{Standard: "standard", Priority: "priority"}
	callers := wiring.New(stores, wiring.Security{}, slog.New(slog.DiscardHandler)).AuthorizeRequest()
	want := map[audit.TenantID]string{"acme": "standard", "globex": "priority", "": "standard", "unknown": "standard"}
	for tenant, key := range want {
		if got := callers.UsageKey(t.Context(), tenant); got != key {
			t.Errorf("tenant %q: got the key %q, want %q", tenant, got, key)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	cold := wiring.New(stores, wiring.Security{}, slog.New(slog.DiscardHandler)).AuthorizeRequest()
	if got := cold.UsageKey(t.Context(), "globex"); got != "standard" {
		t.Errorf("while the store is down: got the key %q, want standard", got)
	}
}

// emptyPlaces has empty partitions and indexes.
type emptyPlaces struct{ err error }

func (emptyPlaces) PreparePartitions(context.Context) (bool, error) { return false, nil }

func (p emptyPlaces) ClosePartitions(context.Context) (retention.Closings, error) {
	return retention.Closings{Closed: []string{"logs_2025_01", "logs_2025_02"}, Dropped: []string{"logs_2024_12"}}, p.err
}

func (p emptyPlaces) RemoveEmptyIndexes(context.Context) ([]string, error) {
	return []string{"ocelot-t-acme.2024.12"}, p.err
}

// noSizes is an index that nobody is placed by.
type noSizes struct{ tenants.IndexSizes }

func (noSizes) Sizes(context.Context, time.Time) (map[audit.TenantID]int64, map[string]int64, error) {
	return nil, nil, nil
}

// TestEmptyPlacesAreLoggedAndCounted: the operator sees what was closed and removed, also beside a failure.
func TestEmptyPlacesAreLoggedAndCounted(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), embedded.File))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	failure := errors.New("one is stuck")
	var log, metrics bytes.Buffer
	stores := embedded.Stores(db)
	stores.Partitions, stores.EmptyIndexes, stores.Sizes, stores.Placing.Separate = emptyPlaces{failure}, emptyPlaces{failure}, noSizes{}, 10
	services := wiring.New(stores, wiring.Security{}, slog.New(slog.NewTextHandler(&log, nil)))
	services.Metrics = &metrics
	for name, run := range map[string]func(context.Context) error{"retain-logs": services.RetainLogs(), "place-tenants": services.PlaceTenants()} {
		if err := run(t.Context()); !errors.Is(err, failure) {
			t.Errorf("%s returns %v, want the failure", name, err)
		}
	}
	counted := map[string]float64{}
	for decoder := json.NewDecoder(&metrics); decoder.More(); {
		var line map[string]any
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		for name, value := range line {
			if n, ok := value.(float64); ok {
				counted[line["service"].(string)+" "+name] = n
			}
		}
	}
	want := map[string]float64{"retain-logs PartitionsClosed": 2, "retain-logs PartitionsDropped": 1, "place-tenants IndexesRemoved": 1}
	if diff := cmp.Diff(want, counted); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	for _, name := range []string{"logs_2025_02", "logs_2024_12", "ocelot-t-acme.2024.12"} {
		if !strings.Contains(log.String(), name) {
			t.Errorf("the log says %q, want %s in it", log.String(), name)
		}
	}
}
