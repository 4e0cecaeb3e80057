package localcloud_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/buckettest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/archivefiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/searchindex"
)

// reconciled is a service whose index the test changes directly. Its queues are those of the
// embedded engine. Their messages are handled when the test calls handle.
type reconciled struct {
	t        *testing.T
	path     string // of the file of the embedded engine
	db       *sqlite.DB
	stores   wiring.Stores
	services *wiring.Services
	metrics  metricsLog
	// remove removes entries from the index without the service.
	remove func(ids []string)
	ahead  atomic.Int64 // how far the clock that the workers share is ahead
}

// shareClock has the workers share a clock that the test puts forward by ahead.
func (r *reconciled) shareClock() {
	shared := r.stores.Clock
	r.stores.Clock = func(ctx context.Context) (time.Time, error) {
		now, err := shared.Now(ctx, time.Now)
		return now.Add(time.Duration(r.ahead.Load())), err
	}
}

// metricsLog has the lines of functions that can work at the same time.
type metricsLog struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *metricsLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}

// take returns the lines since the last call.
func (l *metricsLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.lines.Reset()
	return l.lines.String()
}

// anyAdministrator accepts the token "operator" as one of an operator, and others as the ids of the tenants whose
// administrators have them.
type anyAdministrator struct{}

const operatorToken = "operator"

func (anyAdministrator) Verify(_ context.Context, token string) (access.Principal, error) {
	tenant, role := audit.TenantID(token), access.RoleAdmin
	if token == operatorToken {
		tenant, role = access.AnyTenant, access.RoleOperator
	}
	return access.Principal{Subject: "admin", Grants: map[audit.TenantID][]access.Permission{tenant: role.Permissions()}}, nil
}

// newReconciled is a service over the embedded engine.
func newReconciled(t *testing.T) *reconciled {
	t.Helper()
	path := filepath.Join(t.TempDir(), embedded.File)
	db, err := sqlite.Open(t.Context(), path, sqlite.WithSharedFile())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &reconciled{t: t, path: path, db: db, stores: embedded.Stores(db)}
	files, err := fileblob.OpenPlain(filepath.Join(filepath.Dir(path), archivefiles.Folder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	r.stores.Archive = files
	exports, err := exportfiles.OpenFolder(filepath.Join(filepath.Dir(path), exportfiles.Folder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exports.Close() })
	r.stores.Exports = exports
	r.remove = func(ids []string) { removeFromIndex(t, db.Index(), ids) }
	return r
}

// removeFromIndex deletes entries of acme from the embedded index.
func removeFromIndex(t *testing.T, index *sqlite.Index, ids []string) {
	t.Helper()
	parsed := make([]audit.EntryID, len(ids))
	for i, id := range ids {
		var err error
		if parsed[i], err = audit.ParseEntryID(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := index.Remove(t.Context(), "acme", parsed); err != nil {
		t.Fatal(err)
	}
}

// newReconciledOnServers is a service over MongoDB, OpenSearch and S3.
func newReconciledOnServers(t *testing.T, tenant audit.TenantID) *reconciled {
	t.Helper()
	mongoURI, openSearch := enginetest.Mongo(t), enginetest.OpenSearch(t)
	r := newReconciled(t)
	settings := config.Engines{MongoURI: config.Secret(mongoURI), MongoDatabase: "ocelot_test_" + string(tenant), OpenSearchURL: config.Secret(openSearch)}
	stores := wiring.Stores{Queue: r.stores.Queue, DeadLetters: r.stores.DeadLetters, Grace: wiring.DefaultGrace}
	if err := records.Use(&stores, settings); err != nil {
		t.Fatal(err)
	}
	if err := searchindex.Use(&stores, settings); err != nil {
		t.Fatal(err)
	}
	if files, has := s3Settings(t); has {
		var err error
		if stores.Archive, err = archivefiles.Open(newBucket(t, files), files); err != nil {
			t.Fatal(err)
		}
		if stores.Exports, err = exportfiles.Open(newBucket(t, files), files); err != nil {
			t.Fatal(err)
		}
	} else {
		stores.Archive, stores.Exports = r.stores.Archive, r.stores.Exports
	}
	r.stores = stores
	r.remove = func(ids []string) { removeFromOpenSearch(t, openSearch, tenant, ids) }
	t.Cleanup(func() {
		if _, err := stores.Index.Purge(context.Background(), tenant, 100_000); err != nil {
			t.Error(err)
		}
		client, err := mongo.Connect(options.Client().ApplyURI(mongoURI))
		if err == nil {
			err = client.Database(settings.MongoDatabase).Drop(context.Background())
			_ = client.Disconnect(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return r
}

// s3Settings are those of the S3 service of enginetest. It returns false if there is none: the workflow of real
// servers has MongoDB and OpenSearch alone.
func s3Settings(t *testing.T) (settings config.AWS, has bool) {
	t.Helper()
	named := os.Getenv("AWS_ENDPOINT_URL_S3") != ""
	if !named && os.Getenv("OCELOT_TEST_ENGINES") != "1" {
		return config.AWS{}, false
	}
	endpoint := enginetest.S3(t)
	if !named {
		return config.AWS{
			Region: enginetest.Region, AccessKeyID: enginetest.AccessKey, SecretAccessKey: config.Secret(enginetest.SecretKey),
			Endpoints: map[string]string{s3.ServiceID: endpoint},
		}, true
	}
	settings, err := config.ReadAWS()
	if err != nil {
		t.Fatal(err)
	}
	return settings, true
}

// newBucket returns the name of a bucket that is gone after the test.
func newBucket(t *testing.T, settings config.AWS) string {
	t.Helper()
	return buckettest.New(t, s3.NewFromConfig(awsconfig.New(settings), func(o *s3.Options) { o.UsePathStyle = o.BaseEndpoint != nil }))
}

func removeFromOpenSearch(t *testing.T, url string, tenant audit.TenantID, ids []string) {
	t.Helper()
	query, err := json.Marshal(map[string]any{"query": map[string]any{"terms": map[string]any{"id": ids}}})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/ocelot-t-"+string(tenant)+".*/_delete_by_query?refresh=true", bytes.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ Deleted int }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	} else if answer.Deleted != len(ids) {
		t.Fatalf("%s: %d documents were deleted, want %d", response.Status, answer.Deleted, len(ids))
	}
}

// serve answers HTTP for one tenant that exists from now on.
func (r *reconciled) serve(tenant audit.TenantID) caller {
	r.t.Helper()
	r.stores.Grace = 0
	r.services = wiring.New(r.stores, wiring.Security{Tokens: anyAdministrator{}, CursorKeys: func() [][]byte { return [][]byte{make([]byte, 32)} }}, discard())
	r.services.Metrics = &r.metrics
	r.createTenant(tenant)
	mux := http.NewServeMux()
	mux.Handle("/", httpapi.Router(r.services.Gate(), localcloud.HTTPFunctions(r.services)))
	if files, is := r.stores.Exports.(exportfiles.Local); is {
		mux.Handle(exportfiles.DownloadPath, files.Downloads)
	}
	server := httptest.NewServer(mux)
	r.t.Cleanup(server.Close)
	return (&service{t: r.t, url: server.URL}).as("Bearer "+string(tenant), tenant)
}

func (r *reconciled) createTenant(id audit.TenantID) {
	r.t.Helper()
	tenant := audit.Tenant{ID: id, Name: "Tenant", Status: audit.TenantActive, CreatedAt: time.Now(), UpdatedAt: time.Now(), Settings: audit.DefaultSettings()}
	if err := r.stores.Tenants.Create(r.t.Context(), tenant); err != nil {
		r.t.Fatal(err)
	}
}

// consumers are the functions of some queues, which handle takes in turn.
var consumers = []manifest.QueueName{manifest.QueueIngest, manifest.QueueJobs, manifest.QueueArchive, manifest.QueueIndex}

// consumerOf names the functions of these queues, and of others that a test names.
var consumerOf = map[manifest.QueueName]string{
	manifest.QueueIngest: "persist-logs", manifest.QueueJobs: "run-jobs", manifest.QueueArchive: "run-archives", manifest.QueueIndex: "index-logs",
	manifest.QueueArrival: "order-logs",
}

// handle lets the functions handle the messages of the queues until these are empty.
func (r *reconciled) handle() {
	r.t.Helper()
	for _, name := range consumers {
		if err := r.handleQueue(name); err != nil {
			r.t.Fatal(err)
		}
	}
}

// handleQueue lets the function of a queue handle its messages until there are none.
func (r *reconciled) handleQueue(name manifest.QueueName) error {
	ctx, queue, handle := r.t.Context(), embedded.Queue(r.db, name), localcloud.QueueFunctions(r.services)[consumerOf[name]]
	for {
		messages, err := queue.Receive(ctx, 10, 0)
		if err != nil || len(messages) == 0 {
			return err
		}
		for _, m := range messages {
			if err := handle(ctx, []string{m.Body})[0]; err != nil {
				return err
			}
			if err := queue.Delete(ctx, []string{m.Receipt}); err != nil {
				return err
			}
		}
	}
}

// published is the sum of the metrics of one run; Lag is the greatest.
type published struct{ Stored, Indexed, Repaired, Kept, Lag float64 }

// reconcile has the schedule's function run once, and the workers do what it shares out.
func (r *reconciled) reconcile(tenant audit.TenantID) (sum published, days int) {
	r.t.Helper()
	r.metrics.take()
	run := lambdaedge.Schedule(localcloud.ScheduleFunctions(r.services)["reconcile-index"])
	if err := run(r.t.Context(), events.EventBridgeEvent{DetailType: "Scheduled Event", Source: "aws.scheduler"}); err != nil {
		r.t.Fatal(err)
	}
	r.handle()
	for line := range strings.Lines(r.metrics.take()) {
		var m struct {
			published
			Service, Tenant         string
			Pending, Expired, Extra *int64
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			r.t.Fatal(err)
		} else if m.Service != "reconcile-index" {
			continue // another task of the schedule, or a repair that index-logs did
		} else if m.Tenant != string(tenant) {
			r.t.Fatalf("%s: got tenant %q, want %q", line, m.Tenant, string(tenant))
		}
		if m.Pending == nil || m.Expired == nil || m.Extra == nil {
			r.t.Errorf("got the line %s, want it with pending, expired and extra", line)
		}
		sum.Stored, sum.Indexed, sum.Repaired = sum.Stored+m.Stored, sum.Indexed+m.Indexed, sum.Repaired+m.Repaired
		sum.Kept += m.Kept
		sum.Lag = max(sum.Lag, m.Lag)
		days++
	}
	return sum, days
}

func TestEndToEndReconcile(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		for !reconcilesRemovedEntries(t, newReconciled(t), "acme") {
			t.Log("midnight came in between; once more")
		}
	})
	t.Run("servers", func(t *testing.T) {
		for again := true; again; {
			var random [6]byte
			_, _ = rand.Read(random[:]) // never fails
			tenant := audit.TenantID("reconcile-" + hex.EncodeToString(random[:]))
			again = !reconcilesRemovedEntries(t, newReconciledOnServers(t, tenant), tenant)
		}
	})
}

// today is the beginning of the day as reconcile-index counts it.
func today() time.Time { return time.Now().UTC().Truncate(24 * time.Hour) }

// reconcilesRemovedEntries returns false and proves nothing if another day begins meanwhile: then
// reconcile-index reads other days than those of the entries.
func reconcilesRemovedEntries(t *testing.T, r *reconciled, tenant audit.TenantID) (sameDay bool) {
	const total, removed = 300, 40
	admin := r.serve(tenant)
	entries := make([]string, total)
	day := today()
	noon := day.Add(12 * time.Hour) // it can be in the future
	for i := range entries {        // of today, yesterday and the day before
		at := noon.Add(time.Duration(i)*time.Millisecond).AddDate(0, 0, -(i % 3))
		entries[i] = fmt.Sprintf(`{"user_id":"u%d","action":"UPDATE","resource_type":"order","timestamp":%q,"message":"entry number %d"}`, i, at.Format(time.RFC3339Nano), i)
	}
	var accepted bulkAnswer
	admin.do("POST", "/logs/bulk", "["+strings.Join(entries, ",")+"]", nil).decode(t, &accepted)
	if accepted.Accepted != total {
		t.Fatalf("%d entries were accepted, want %d", accepted.Accepted, total)
	}
	r.handle()
	admin.eventually(total)
	victims := make([]string, removed)
	for i := range victims {
		victims[i] = accepted.Items[i*total/removed].ID
	}
	admin.wantStatus(victims, "indexed")
	r.remove(victims)
	if n := admin.total(); n != total-removed {
		t.Fatalf("%d entries are found after the removal, want %d", n, total-removed)
	}
	admin.wantStatus(victims, "stored")

	found, days := r.reconcile(tenant)
	if today() != day {
		return false
	}
	if found.Stored != total {
		t.Errorf("stored %v, want %v", found.Stored, total)
	}
	if found.Indexed != total-removed {
		t.Errorf("indexed %v, want %v", found.Indexed, total-removed)
	}
	if found.Repaired != removed {
		t.Errorf("repaired %v, want %v", found.Repaired, removed)
	}
	if found.Lag <= 0 {
		t.Errorf("got lag %v, want more than 0", found.Lag)
	}
	if days != 3 {
		t.Errorf("got %d days, want 3", days)
	}
	r.handle()
	admin.eventually(total)
	admin.wantStatus(victims, "indexed")
	found, _ = r.reconcile(tenant)
	if today() != day {
		return false
	}
	if found != (published{Stored: total, Indexed: total}) {
		t.Errorf("after the repair %+v is published, want %d stored and indexed and nothing else", found, total)
	}
	return true
}

// wantStatus asks how far entries have come.
func (c caller) wantStatus(ids []string, want string) {
	c.t.Helper()
	for _, id := range ids {
		got := c.get("/logs/"+id, nil)
		var entry struct{ ID, Status string }
		switch got.decode(c.t, &entry); {
		case got.status != http.StatusOK:
			c.t.Fatalf("%s: got status %d, want %d: %s", id, got.status, http.StatusOK, got.body)
		case entry.ID != id:
			c.t.Fatalf("got ID %q, want %q", entry.ID, id)
		case entry.Status != want:
			c.t.Fatalf("%s: got status %q, want %q", id, entry.Status, want)
		}
	}
}

// Entries that never reached the index and the arrival log are found and in the feed once the
// service runs, although the queues have no message of them.
func TestEndToEndScheduleRuns(t *testing.T) { embeddedWays(t, theScheduleRuns) }

func theScheduleRuns(t *testing.T, start starter) {
	const total = 250
	data := t.TempDir()
	db, err := sqlite.Open(t.Context(), filepath.Join(data, embedded.File))
	if err != nil {
		t.Fatal(err)
	}
	stores, received := embedded.Stores(db), time.Now().UTC().Truncate(time.Millisecond).Add(-2*wiring.DefaultGrace)
	tenant := audit.Tenant{ID: "acme", Name: "Acme", Status: audit.TenantSuspended, CreatedAt: received, UpdatedAt: received, Settings: audit.DefaultSettings()}
	if err := stores.Tenants.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	entries := make([]audit.Entry, total)
	for i := range entries {
		at := received.Add(-time.Duration(i) * time.Millisecond)
		entries[i] = audit.Entry{
			ID: audit.DeriveEntryID("acme", at, "k"), Tenant: "acme", UserID: "ann", Action: audit.ActionUpdate, ResourceType: "order",
			ResourceID: strconv.Itoa(i), Timestamp: at, ReceivedAt: received,
		}
	}
	if appended, err := stores.Entries.Append(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	} else if len(appended.Rejections) > 0 {
		t.Fatalf("got the rejections %v, want none", appended.Rejections)
	}
	if err := stores.Activity.Touch(t.Context(), "acme", []activity.Receipt{activity.ReceiptOf(&entries[0]), activity.ReceiptOf(&entries[total-1])}, received); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := start(t, data)
	reader := s.as(s.operator(), "acme") // the tenant is suspended
	reader.eventually(total)
	for resource, times := range reader.walk(url.Values{}, total) {
		if times != 1 {
			t.Errorf("the feed has entry %s %d times, want once", resource, times)
		}
	}
}
