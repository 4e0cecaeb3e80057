package localcloud_test

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cloudtrail"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
)

// cloudTrailFiles are real log files, which lie beside the repository.
const cloudTrailFiles = "../../../../shared/data/cloudtrail/*.json"

// TestEndToEndCloudTrailFiles sends real input, written by nobody of this
// project, twice through every kind of service. All of it has to come back.
func TestEndToEndCloudTrailFiles(t *testing.T) {
	files, err := filepath.Glob(cloudTrailFiles)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("wants CloudTrail log files in the folder ../shared/data/cloudtrail beside the repository")
	}
	var records, entries []string
	for _, file := range files {
		found := recordsOf(t, file)
		for _, record := range found {
			entry, err := cloudtrail.Entry([]byte(record))
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, string(entry))
		}
		records = append(records, found...)
	}
	slices.Sort(records)
	everyWay(t, func(t *testing.T, start starter) {
		admin := start(t, t.TempDir()).tenantAdmin("acme")
		for range 2 {
			for chunk := range slices.Chunk(entries, 200) {
				admin.bulk(chunk)
			}
		}
		admin.eventually(len(records))
		var got []string
		for query := (url.Values{"limit": {"300"}}); ; {
			page := admin.list(query)
			for _, item := range page.Items {
				got = append(got, string(item["metadata"]))
			}
			if page.Next == nil {
				break
			}
			query.Set("cursor", *page.Next)
		}
		slices.Sort(got)
		if !slices.Equal(got, records) {
			t.Errorf("%d records came back, not all of the %d as they were sent", len(got), len(records))
		}
	})
}

func recordsOf(t *testing.T, file string) (found []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for reader := cloudtrail.NewReader(f); ; {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, string(record))
	}
}

// acmeEntries are n entries as persist-logs gets them.
func acmeEntries(n int) []audit.Entry {
	entries := make([]audit.Entry, n)
	for i := range entries {
		at := time.Date(2026, 1, 2, 3, 4, 5, i*int(time.Millisecond), time.UTC)
		entries[i] = audit.Entry{
			ID: audit.DeriveEntryID("acme", at, fmt.Sprint(i)), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at, ReceivedAt: at,
		}
	}
	return entries
}

// TestEndToEndPoisonGoesAloneToTheDeadLetters puts a message on the ingest queue
// in which one line of a hundred is no entry of its tenant.
func TestEndToEndPoisonGoesAloneToTheDeadLetters(t *testing.T) {
	data := t.TempDir()
	engines := servers(t, data)
	admin := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines}).tenantAdmin("acme")
	entries := acmeEntries(100)
	entries[42].Tenant = "other"
	bodies, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	sqs := queues.New(engines)
	if err := sqs.Queue(manifest.QueueIngest).Send(t.Context(), bodies); err != nil {
		t.Fatal(err)
	}
	admin.eventually(99)
	dead, err := sqs.Queue(manifest.QueueIngest.DeadLetters()).Receive(t.Context(), 10, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(dead) != 1 {
		t.Errorf("got %d dead letters, want 1", len(dead))
	} else if !strings.Contains(dead[0].Body, `"reason":"tenant, id or timestamp do not fit`) {
		t.Errorf("the dead letters: got body %q, want it to contain %q", dead[0].Body, `"reason":"tenant, id or timestamp do not fit`)
	}
}

// TestEndToEndDeadLettersComeBack moves the same messages back twice.
func TestEndToEndDeadLettersComeBack(t *testing.T) {
	data := t.TempDir()
	engines := servers(t, data)
	admin := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines}).tenantAdmin("acme")
	entries := acmeEntries(50)
	bodies, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	sqs := queues.New(engines)
	queue, deadLetters := sqs.Queue(manifest.QueueIngest), sqs.Queue(manifest.QueueIngest.DeadLetters())
	for range 2 {
		if err := deadLetters.Send(t.Context(), append(bodies, bodies...)); err != nil {
			t.Fatal(err)
		}
		told := 0
		err := localcloud.RedriveSQS(t.Context(), engines, []manifest.QueueName{manifest.QueueIngest}, func(name manifest.QueueName, moved int64) {
			if told++; name != manifest.QueueIngest {
				t.Errorf("got queue %q, want %q", name, manifest.QueueIngest)
			} else if moved != int64(2*len(bodies)) {
				t.Errorf("moved %d, want %d", moved, int64(2*len(bodies)))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if told != 1 {
			t.Fatalf("reported %d times, want 1", told)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			visible, inFlight, dead, err := queue.Depth(t.Context())
			if err == nil && visible+inFlight+dead == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d messages, %d in flight, %d dead letters, %v", visible, inFlight, dead, err)
			}
		}
		admin.eventually(len(entries))
	}
}

// TestEndToEndWhileTheIndexIsDown stops nothing: it names an index that nobody
// listens for.
func TestEndToEndWhileTheIndexIsDown(t *testing.T) {
	data := t.TempDir()
	engines := servers(t, data)
	s := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines})
	admin := s.tenantAdmin("acme")
	admin.bulk([]string{entryText(1), entryText(2)})
	admin.eventually(2)
	s.stop()
	engines.OpenSearchURL = config.Secret("http://127.0.0.1:1")
	down := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines})
	admin = down.as(admin.authorization, "acme")
	switch got := admin.get("/logs", url.Values{"user_id": {"user-1"}}); {
	case got.status != 200:
		t.Errorf("a filter that MongoDB can answer: got status %d, want 200: %s", got.status, got.body)
	case got.header.Get("Ocelot-Degraded") != "search":
		t.Errorf("a filter that MongoDB can answer: got Ocelot-Degraded %q, want %q", got.header.Get("Ocelot-Degraded"), "search")
	case !strings.Contains(string(got.body), `"order-1"`):
		t.Errorf("a filter that MongoDB can answer: got body %q, want it to contain %q", string(got.body), `"order-1"`)
	}
	for _, path := range []string{"/logs?q=entry", "/logs/stats"} {
		if got := admin.get(path, nil); got.status != 503 {
			t.Errorf("%s: got status %d, want 503: %s", path, got.status, got.body)
		} else if got.header.Get("Retry-After") == "" {
			t.Errorf("%s: got an empty Retry-After, want a value", path)
		}
	}
	admin.bulk([]string{entryText(3)}) // entries are taken all the same
	if got := admin.get("/health", nil); got.status != 200 {
		t.Errorf("health: got status %d, want 200: %s", got.status, got.body)
	} else if !strings.Contains(string(got.body), "degraded") {
		t.Errorf("health: got body %q, want it to contain %q", string(got.body), "degraded")
	}
}

// TestEndToEndWhileTheStoreIsDown stops MongoDB for longer than a tenant's record
// is fresh: entries are accepted on, and are there, once each, when it is back.
func TestEndToEndWhileTheStoreIsDown(t *testing.T) {
	if os.Getenv("MONGODB_URI") != "" {
		t.Skip("a server that somebody else runs is not stopped; the engine that this package starts is")
	}
	data := t.TempDir()
	engines := servers(t, data)
	engine := enginetest.StartMongo(t)
	engines.MongoURI = config.Secret(engine.URL())
	admin := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines}).tenantAdmin("acme")
	admin.bulk([]string{entryText(0)})
	admin.eventually(1)
	if err := engine.Stop(); err != nil {
		t.Fatal(err)
	}
	sent := 1
	for began := time.Now(); time.Since(began) < 12*time.Second; sent++ {
		admin.bulk([]string{entryText(sent)})
		time.Sleep(200 * time.Millisecond)
	}
	if got := admin.get("/health", nil); got.status != 200 {
		t.Errorf("health: got status %d, want 200: %s", got.status, got.body)
	} else if !strings.Contains(string(got.body), "degraded") {
		t.Errorf("health: got body %q, want it to contain %q", string(got.body), "degraded")
	}
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	admin.eventually(sent)
}
