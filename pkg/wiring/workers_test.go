package wiring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
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

// noTenants is a store of tenants that cannot be read.
type noTenants struct{ tenants.Store }

func (noTenants) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) {
	return audit.Tenant{}, errors.New("down")
}

// TestFailingJobsAndDaysAreCounted: a job of each worker has failed ten times, and a day of each cannot be looked at.
func TestFailingJobsAndDaysAreCounted(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	var output bytes.Buffer
	stores := embedded.Stores(db)
	stores.Tenants = noTenants{stores.Tenants}
	services := wiring.New(stores, wiring.Security{}, slog.New(slog.DiscardHandler))
	services.Metrics = &output
	day := activity.Receipt{Day: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	if err := db.Activity().Touch(t.Context(), "acme", []activity.Receipt{day}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for kind, run := range map[jobs.Kind]lambdaedge.BatchHandler{jobs.KindLegalHold: services.RunJobs(), jobs.KindRestore: services.RunArchives()} {
		job := jobs.Job{ID: string(kind), Kind: kind, Tenant: "acme", State: jobs.StateRunning, CreatedAt: time.Now(), Checkpoint: json.RawMessage(`"?"`), Failures: 10}
		if err := db.Jobs().CreateJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		message := jobs.Message{Tenant: "acme", Job: job.ID}
		task := jobs.Message{Tenant: "acme", Task: jobs.TaskRetain, Input: json.RawMessage(`[{"day":"2026-03-01T00:00:00Z","due":"2100-01-01T00:00:00Z"}]`)}
		claimed := activity.Day{Work: activity.Retain, Tenant: "acme", Receipt: day}
		if kind == jobs.KindRestore {
			task.Task, claimed.Work = jobs.TaskArchive, activity.Archive
		}
		if err := db.Activity().Claim(t.Context(), []activity.Day{claimed}, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		for _, m := range []jobs.Message{message, task} {
			body, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			run(t.Context(), []string{body})
		}
	}
	var got []string
	for decoder := json.NewDecoder(&output); decoder.More(); {
		var line struct {
			Service, Tenant, Kind string
			FailingJobs           float64
			FailedDays            float64
		}
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(line))
	}
	slices.Sort(got)
	want := []string{"{jobs acme  0 1}", "{jobs acme  0 1}", "{jobs acme legal_hold 1 0}", "{jobs acme restore 1 0}"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
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

// TestWhatIsLeftOfRemovalsIsErased: nobody has sent a task for it, because a client has removed something, or a worker
// was killed.
func TestWhatIsLeftOfRemovalsIsErased(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), embedded.File))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	services := wiring.New(embedded.Stores(db), wiring.Security{}, slog.New(slog.DiscardHandler))
	retain, handle := services.RetainLogs(), services.RunJobs()
	work := func(want int) {
		t.Helper()
		if err := retain(t.Context()); err != nil {
			t.Fatal(err)
		}
		messages, err := db.Queue(embedded.Named(manifest.QueueJobs), time.Minute, 0).Receive(t.Context(), 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(messages) != want {
			t.Fatalf("sent %d tasks, want %d", len(messages), want)
		}
		for _, m := range messages {
			if err := errors.Join(handle(t.Context(), []string{m.Body})...); err != nil {
				t.Errorf("the task %s: %v", m.Body, err)
			}
		}
	}
	work(0)
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	item := quarantine.Item{ID: "1", QuarantinedAt: at, Entry: audit.Entry{ID: audit.NewEntryID(at, [10]byte{1}), Tenant: "acme", Timestamp: at, ReceivedAt: at}}
	err = db.Quarantine().Put(t.Context(), "acme", []quarantine.Item{item})
	if err == nil {
		err = db.Quarantine().Delete(t.Context(), "acme", item.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	work(1)
	if removal, err := db.FreeSpace().Pending(t.Context()); err != nil || removal != 0 {
		t.Errorf("something is left up to removal %d (%v), want nothing", removal, err)
	}
	work(0)
}
