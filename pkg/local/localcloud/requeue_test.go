package localcloud_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// requeue sends the lines of a file to the ingest queue, as `ocelot requeue` does, and has them handled.
func (r *reconciled) requeue(lines []byte) ingest.Requeued {
	r.t.Helper()
	requeuer := &ingest.Requeuer{
		Queue: r.stores.Queue(manifest.QueueIngest), Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }, // never fails
		Unreadable: func(line int, err error) { r.t.Errorf("line %d: %v", line, err) },
	}
	found, err := requeuer.Send(r.t.Context(), bytes.NewReader(lines))
	if err != nil {
		r.t.Fatal(err)
	}
	r.handle()
	return found
}

// texts returns the entries of ids as clients get them.
func (c caller) texts(ids []string) map[string]string {
	c.t.Helper()
	all := map[string]string{}
	for _, id := range ids {
		all[id] = string(c.get("/logs/"+id, nil).body)
	}
	return all
}

// accept sends n entries of yesterday.
func (c caller) accept(n int) (ids []string) {
	c.t.Helper()
	noon := today().Add(-12 * time.Hour)
	for first := 0; first < n; first += audit.MaxBulkEntries {
		var entries []string
		for i := first; i < min(n, first+audit.MaxBulkEntries); i++ {
			entries = append(entries, fmt.Sprintf(`{"user_id":"u%d","action":"UPDATE","resource_type":"order","resource_id":"%d","timestamp":%q,"metadata":{"n":1e%d}}`,
				i, i, noon.Add(time.Duration(i)*time.Millisecond).Format(time.RFC3339Nano), i%100))
		}
		var accepted bulkAnswer
		c.do("POST", "/logs/bulk", "["+strings.Join(entries, ",")+"]", nil).decode(c.t, &accepted)
		if accepted.Accepted != len(entries) {
			c.t.Fatalf("%d entries were accepted, want %d", accepted.Accepted, len(entries))
		}
		for _, item := range accepted.Items {
			ids = append(ids, item.ID)
		}
	}
	return ids
}

// wantAsBefore compares entries with what they were.
func (c caller) wantAsBefore(before map[string]string) {
	c.t.Helper()
	different := 0
	for id, want := range before {
		if got := string(c.get("/logs/"+id, nil).body); got != want && different < 3 {
			different++
			c.t.Errorf("%s: got\n%s\nwant\n%s", id, got, want)
		}
	}
}

// TestRequeuedEntriesAreStoredAsTheyWere: the lines are those that the search index would have. A second time
// changes nothing.
func TestRequeuedEntriesAreStoredAsTheyWere(t *testing.T) {
	t.Parallel()
	r := newReconciled(t)
	admin := r.serve("acme")
	ids := admin.accept(200)
	r.handle()
	admin.eventually(len(ids))
	before := admin.texts(ids[:20])
	parsed := make([]audit.EntryID, len(ids))
	for i, id := range ids {
		var err error
		if parsed[i], err = audit.ParseEntryID(id); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := r.stores.Entries.EntriesByID(t.Context(), "acme", parsed)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	write := func(e *audit.Entry) {
		if err := json.NewEncoder(&lines).Encode(map[string]string{"tenant_id": "acme", "entry": string(entryjson.AppendStored(nil, e))}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range stored {
		write(&stored[i])
	}
	restored := stored[0]
	restored.RestoredUntil = time.Now().Add(time.Hour)
	write(&restored)
	_ = json.NewEncoder(&lines).Encode(map[string]string{"tenant_id": "gone", "entry": strings.Replace(string(entryjson.AppendStored(nil, &stored[0])), "acme", "gone", 1)})

	other := newReconciled(t)
	reader := other.serve("acme")
	want := ingest.Requeued{Sent: len(ids) + 1, Restored: 1} // one of a tenant that is not there
	for range 2 {
		if got := other.requeue(lines.Bytes()); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		reader.eventually(len(ids))
		reader.wantAsBefore(before)
	}
	for resource, times := range reader.walk(url.Values{}, len(ids)) {
		if times != 1 {
			t.Errorf("the feed has %s %d times, want once", resource, times)
		}
	}
}

// TestEndToEndStoresAgainWhatOnlyTheIndexHas: a database is restored to a time before its entries. The commands of the
// documentation save what the index has, and the entries are stored again as they were.
func TestEndToEndStoresAgainWhatOnlyTheIndexHas(t *testing.T) {
	const total = audit.MaxBulkEntries + 200 // more than reconciliation removes
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	tenant := audit.TenantID("requeue-" + hex.EncodeToString(random[:]))
	r := newReconciledOnServers(t, tenant)
	admin := r.serve(tenant)
	began := time.Now().Add(-time.Second)
	ids := admin.accept(total)
	r.handle()
	admin.eventually(total)
	before := admin.texts(ids[:50])
	emptyMongo(t, "ocelot_test_"+string(tenant))
	admin.wantGone(ids[0])

	if kept := r.kept(tenant); kept != total {
		t.Errorf("reconciliation keeps %v entries in the index, want %d", kept, total)
	}
	admin.eventually(total)
	lines := savedLines(t, enginetest.OpenSearch(t), tenant, began)
	for range 2 {
		if got, want := r.requeue(lines), (ingest.Requeued{Sent: total}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		admin.eventually(total)
		admin.wantStatus(ids[:50], "indexed")
		admin.wantAsBefore(before)
	}
	if kept := r.kept(tenant); kept != 0 {
		t.Errorf("reconciliation keeps %v entries in the index, want none", kept)
	}
}

// emptyMongo removes the documents of the collections that have entries.
func emptyMongo(t *testing.T, database string) {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(enginetest.Mongo(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	names, err := client.Database(database).ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "logs_") {
			continue
		}
		if _, err := client.Database(database).Collection(name).DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (c caller) wantGone(id string) {
	c.t.Helper()
	if got := c.get("/logs/"+id, nil); got.status != http.StatusNotFound {
		c.t.Fatalf("%s: got status %d, want %d", id, got.status, http.StatusNotFound)
	}
}

// kept returns how many entries reconciliation keeps in the index that are not stored.
func (r *reconciled) kept(tenant audit.TenantID) (sum float64) {
	r.t.Helper()
	found, _ := r.reconcile(tenant)
	return found.Kept
}

// savedLines runs the commands of the documentation that save what only the index has.
func savedLines(t *testing.T, openSearch string, tenant audit.TenantID, since time.Time) []byte {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the commands of docs/deploy.md want %s", tool)
		}
	}
	const file = "only-in-the-index.jsonl"
	page, err := os.ReadFile("../../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands string
	for _, match := range regexp.MustCompile("(?s)```sh[^\n]*\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(match[1], ">>"+file) {
			commands = match[1]
		}
	}
	if commands == "" {
		t.Fatalf("docs/deploy.md has no commands that write %s", file)
	}
	commands = strings.NewReplacer("2026-11-02T09:30:00.000Z", entryjson.FormatTime(since), "ocelot-*", "ocelot-t-"+string(tenant)+".*").Replace(commands)
	search := `search() { curl -s -H "Content-Type: application/json" -X "$1" "` + openSearch + `/$2" "${@:3}"; }` + "\n"
	run := exec.CommandContext(t.Context(), "bash", "-c", search+commands)
	run.Dir = t.TempDir()
	output, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if got := string(output); got != "null\n" {
		t.Errorf("the commands print %q, want null", got)
	}
	lines, err := os.ReadFile(filepath.Join(run.Dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
