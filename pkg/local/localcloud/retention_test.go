package localcloud_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
)

// retained is a service whose entries age. pass makes what retention waits for happen sooner.
type retained struct {
	*reconciled
	admin caller
	pass  func(d time.Duration)
}

// onBothEngines runs a test of what time does to entries on the embedded engine and on servers, with so many
// entries. name is the beginning of the id of the tenant on servers.
func onBothEngines(t *testing.T, name string, embedded, servers int, run func(r *retained, total int)) {
	t.Run("embedded", func(t *testing.T) {
		r := newReconciled(t)
		r.addMasterKey()
		path := r.path
		run(&retained{reconciled: r, admin: r.serve("acme"), pass: func(d time.Duration) { passInFile(t, path, d) }}, embedded)
	})
	t.Run("servers", func(t *testing.T) {
		var random [6]byte
		_, _ = rand.Read(random[:]) // never fails
		tenant := audit.TenantID(name + "-" + hex.EncodeToString(random[:]))
		r := newReconciledOnServers(t, tenant)
		r.addMasterKey()
		uri := enginetest.Mongo(t)
		pass := func(d time.Duration) { passInMongo(t, uri, "ocelot_test_"+string(tenant), d) }
		run(&retained{reconciled: r, admin: r.serve(tenant), pass: pass}, servers)
	})
}

func TestEndToEndRetention(t *testing.T) {
	const embedded = 100_000
	onBothEngines(t, "retain", embedded, 10_000, func(r *retained, total int) {
		entriesExpire(r, total)
		if total == embedded {
			wantNoTraceIn(r.t, r.path, "expiredword")
		}
	})
}

// handleDelayed handles the messages that are to be handled later, too.
func (r *retained) handleDelayed() {
	r.t.Helper()
	changeFile(r.t, r.path, `UPDATE messages SET visible = 1 WHERE visible > 1`)
	r.handle()
}

// passInFile moves the times of marks and of the register back.
func passInFile(t *testing.T, path string, d time.Duration) {
	t.Helper()
	for _, statement := range []string{`UPDATE deletable SET at = at - ?`, `UPDATE activity SET due = due - ? WHERE work IN ('retain', 'archive')`} {
		changeFile(t, path, statement, d.Milliseconds())
	}
}

// changeFile runs a statement on the engine's file, beside the service.
func changeFile(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	file, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(30000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

func passInMongo(t *testing.T, uri, database string, d time.Duration) {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	db := client.Database(database)
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	passing := bson.D{{Key: "work", Value: bson.D{{Key: "$in", Value: bson.A{"retain", "archive"}}}}}
	for _, name := range names {
		field, query := "deletable_at", bson.D{}
		if name == "activity" {
			field, query = "due_at", slices.Clone(passing)
		} else if !strings.HasPrefix(name, "logs_") {
			continue
		}
		query = append(query, bson.E{Key: field, Value: bson.D{{Key: "$exists", Value: true}}})
		var times []time.Time
		if err := db.Collection(name).Distinct(t.Context(), field, query).Decode(&times); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(times, time.Time.Compare) // so that none is moved twice
		for _, at := range times {
			same := bson.D{{Key: field, Value: at}}
			if name == "activity" {
				same = append(same, passing...)
			}
			if _, err := db.Collection(name).UpdateMany(t.Context(), same, bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: at.Add(-d)}}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// retain has the schedule's function run once, and the workers do what it shares out.
func (r *retained) retain() {
	r.t.Helper()
	r.schedule("retain-logs")
}

func (r *retained) schedule(function string) {
	r.t.Helper()
	run := lambdaedge.Schedule(localcloud.ScheduleFunctions(r.services)[function])
	if err := run(r.t.Context(), events.EventBridgeEvent{DetailType: "Scheduled Event", Source: "aws.scheduler"}); err != nil {
		r.t.Fatal(err)
	}
	r.handle()
}

// counts are the entries of the tenant, without those that the service wrote.
type counts struct{ stored, marked, indexed, visible int }

// wantCounts waits for these counts, because an index shows what was written after a second.
func (r *retained) wantCounts(when string, want counts) {
	r.t.Helper()
	var got counts
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Second) {
		if got = r.counts(); got == want {
			return
		}
	}
	r.t.Errorf("%s: got %+v, want %+v", when, got, want)
}

func (r *retained) counts() (got counts) {
	r.t.Helper()
	ctx, tenant := r.t.Context(), r.admin.tenant
	for _, of := range []struct {
		n *int
		retention.Selection
	}{{&got.stored, retention.Selection{}}, {&got.marked, retention.Selection{Marked: true}}} {
		for {
			page, err := r.services.Stores.Entries.Retained(ctx, tenant, of.Selection, retention.MaxEntries)
			if err != nil {
				r.t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for i := range page {
				if page[i].SubmittedBy != audit.SubmittedByService {
					*of.n++
				}
			}
			of.After = page[len(page)-1].ID
		}
	}
	own := audit.Not{Expr: audit.Equals{Field: audit.FieldSubmittedBy, Values: []string{audit.SubmittedByService}}}
	stats, err := r.services.Stores.Index.Stats(ctx, tenant, audit.Filter{Where: own}, audit.StatsRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	got.indexed = int(stats.Total)
	var answer statsAnswer
	r.admin.get("/logs/stats", map[string][]string{"resource_type": {"order"}}).decode(r.t, &answer)
	got.visible = answer.Total
	return got
}

// entriesExpire stores entries, and shortens and lengthens their retention.
func entriesExpire(r *retained, total int) {
	const oneDay = 24 * time.Hour
	expired := 0 // after a month
	var entries []string
	for i := range total {
		at, message := today().AddDate(0, 0, -1-i%28).Add(time.Duration(i)*time.Millisecond), "kept"
		if i%4 == 0 {
			at, message = at.AddDate(0, 0, -40), "expiredword"
			expired++
		}
		entries = append(entries, fmt.Sprintf(`{"user_id":"u%d","action":"VIEW","resource_type":"order","timestamp":%q,"message":%q}`, i%100, at.Format(time.RFC3339Nano), message))
		if len(entries) == 1000 {
			r.admin.bulk(entries)
			entries = entries[:0]
		}
	}
	r.handle()
	all := counts{stored: total, indexed: total, visible: total}
	r.wantCounts("at first", all)
	r.retain()
	r.wantCounts("after a run while nothing has expired", all)

	marked := counts{stored: total, marked: expired, indexed: total, visible: total - expired}
	r.admin.configure(`{"retention_days":30}`)
	r.handle()
	r.wantCounts("after the retention was shortened", marked)
	r.admin.configure(`{"retention_days":365}`)
	r.handle()
	r.wantCounts("after it was lengthened", all)

	r.admin.configure(`{"retention_days":30}`)
	r.handle()
	r.pass(6 * oneDay)
	r.retain()
	r.reconcile(r.admin.tenant)
	r.wantCounts("a day before the removal", counts{stored: total, marked: expired, indexed: total - expired, visible: total - expired})
	r.wantHeld(expired)
	r.admin.configure(`{"retention_days":0}`)
	r.handle()
	r.reconcile(r.admin.tenant)
	r.wantCounts("after it was lengthened at the last moment", all)

	r.admin.configure(`{"retention_days":30}`)
	r.handle()
	r.pass(6 * oneDay)
	r.retain()
	r.pass(2 * oneDay)
	r.retain()
	left := counts{stored: total - expired, indexed: total - expired, visible: total - expired}
	r.wantCounts("after the removal", left)
	r.admin.configure(`{"retention_days":365}`)
	r.handle()
	r.reconcile(r.admin.tenant)
	r.wantCounts("after a longer retention that comes too late", left)
}

// wantHeld exports what a legal hold on everything covers that has expired, and compares the count.
func (r *retained) wantHeld(want int) {
	r.t.Helper()
	tenant := r.admin.tenant
	h := hold.Hold{ID: fmt.Sprintf("held-%d", time.Now().UnixNano()), Tenant: tenant, To: today().AddDate(0, 0, -35), CreatedAt: time.Now().UTC().Truncate(time.Millisecond), Version: 1}
	if err := r.stores.Holds.CreateHold(r.t.Context(), h); err != nil {
		r.t.Fatal(err)
	}
	var job exportAnswer
	got := r.admin.do("POST", "/logs/exports", fmt.Sprintf(`{"hold":%q,"fields":["id"]}`, h.ID), nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("export by a hold: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	for deadline := time.Now().Add(2 * time.Minute); job.State != "succeeded"; time.Sleep(200 * time.Millisecond) {
		r.handle()
		got.decode(r.t, &job)
		if got = r.admin.get("/logs/exports/"+job.ID, nil); job.State == "failed" || time.Now().After(deadline) {
			r.t.Fatalf("the export by a hold is %s, want it to succeed: %s", job.State, got.body)
		}
	}
	body, _, err := r.stores.Exports.(exportfiles.Local).Get(r.t.Context(), tenant, "exports/"+job.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	file, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		r.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n")
	slices.Sort(lines)
	if lines = slices.Compact(lines); len(lines) != want {
		r.t.Errorf("the export by a hold has %d different entries, want %d", len(lines), want)
	}
	h.ReleasedAt, h.Version = h.CreatedAt, 2
	if err := r.stores.Holds.UpdateHold(r.t.Context(), h); err != nil {
		r.t.Fatal(err)
	}
	r.handle() // the record of the export
}

// wantNoTraceIn fails if a file of the engine has the word.
func wantNoTraceIn(t *testing.T, path, word string) {
	t.Helper()
	for _, name := range []string{path, path + "-wal"} {
		content, err := os.ReadFile(filepath.Clean(name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if n := bytes.Count(content, []byte(word)); n > 0 {
			t.Errorf("%s has the word of removed entries %d times, want it nowhere", filepath.Base(name), n)
		}
	}
}
