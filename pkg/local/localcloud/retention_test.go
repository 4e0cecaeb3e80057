package localcloud_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
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
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// retained is a service whose entries age. pass makes what retention waits for happen sooner.
type retained struct {
	*reconciled
	admin   caller
	sent    acknowledged
	began   time.Time // no entry of the service has an earlier timestamp
	pass    func(d time.Duration)
	overdue func() // has jobs wait no longer for a worker, as after some minutes
	// leftOf counts the records of a tenant by the tables and collections that have some, but for keptPlaces.
	leftOf func(tenant audit.TenantID) map[string]int
	parts  map[string][]audit.EntryID // of the archive whose entries were read, by their SHA-256
}

// onBothEngines runs a test of what time does to entries on the embedded engine and on servers, with so many
// entries. name is the beginning of the id of the tenant on servers.
func onBothEngines(t *testing.T, name string, embedded, servers int, run func(r *retained, total int)) {
	if !enginetest.Enabled() { // on servers one after the other: each needs most of what the machine has
		t.Parallel()
	}
	t.Run("embedded", func(t *testing.T) {
		r := newReconciled(t)
		r.addMasterKey()
		r.shareClock()
		path := r.path
		run(&retained{
			reconciled: r, admin: r.serve("acme"), began: aDayBehind(),
			pass: func(d time.Duration) { passInFile(t, path, d) }, overdue: func() { overdueInFile(t, path) },
			leftOf: func(tenant audit.TenantID) map[string]int { return leftInFile(t, path, tenant) },
		}, embedded)
	})
	t.Run("servers", func(t *testing.T) {
		var random [6]byte
		_, _ = rand.Read(random[:]) // never fails
		tenant := audit.TenantID(name + "-" + hex.EncodeToString(random[:]))
		r := newReconciledOnServers(t, tenant)
		r.addMasterKey()
		r.shareClock()
		db := mongoDatabase(t, enginetest.Mongo(t), "ocelot_test_"+string(tenant))
		run(&retained{
			reconciled: r, admin: r.serve(tenant), began: aDayBehind(),
			pass:    func(d time.Duration) { passInMongo(t, db, d) },
			overdue: func() { overdueInFile(t, r.path); overdueInMongo(t, db) },
			leftOf: func(tenant audit.TenantID) map[string]int {
				left := leftInFile(t, r.path, tenant)
				maps.Copy(left, leftInMongo(t, db, tenant))
				return left
			},
		}, servers)
	})
}

// aDayBehind is now by the clock of a worker that is a day behind.
func aDayBehind() time.Time { return time.Now().AddDate(0, 0, -1) }

func TestEndToEndRetention(t *testing.T) {
	onBothEngines(t, "retain", embeddedEntries, serverEntries, func(r *retained, total int) {
		entriesExpire(r, total)
		if total == embeddedEntries {
			wantNoTraceIn(r.t, r.path, "expiredword")
		}
		tenantIsDeleted(r, total)
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
	inFile(t, path, func(file *sql.DB) error {
		_, err := file.ExecContext(t.Context(), statement, args...)
		return err
	})
}

// inFile opens the engine's file, beside the service.
func inFile(t *testing.T, path string, do func(file *sql.DB) error) {
	t.Helper()
	file, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(30000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := do(file); err != nil {
		t.Fatal(err)
	}
}

// mongoDatabase connects to the database, beside the service.
func mongoDatabase(t *testing.T, uri, name string) *mongo.Database {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client.Database(name)
}

// overdueInMongo has jobs wait no longer, as after some minutes.
func overdueInMongo(t *testing.T, db *mongo.Database) {
	t.Helper()
	const field = "resume_at"
	waiting := bson.D{{Key: field, Value: bson.D{{Key: "$exists", Value: true}}}}
	if _, err := db.Collection("jobs").UpdateMany(t.Context(), waiting, bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: time.UnixMilli(1)}}}}); err != nil {
		t.Fatal(err)
	}
}

// leftInMongo counts the documents of the tenant in each collection.
func leftInMongo(t *testing.T, db *mongo.Database, tenant audit.TenantID) map[string]int {
	t.Helper()
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]int{}
	of := bson.D{{Key: "$or", Value: bson.A{bson.D{{Key: "tenant_id", Value: tenant}}, bson.D{{Key: "_id", Value: bson.D{{Key: "$regex", Value: "^" + tenant + "(/|$)"}}}}}}}
	for _, name := range names {
		query := slices.Clone(of)
		if name == keysPlace {
			query = append(query, bson.E{Key: wrappedKey, Value: bson.D{{Key: "$exists", Value: true}}})
		}
		n, err := db.Collection(name).CountDocuments(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && !keptPlaces[name] {
			left[name] = int(n)
		}
	}
	return left
}

func passInMongo(t *testing.T, db *mongo.Database, d time.Duration) {
	t.Helper()
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
	r.schedule("retain-logs", r.handle)
}

// schedule runs a function of the schedule, and has its messages handled.
func (r *retained) schedule(function string, handle func()) {
	r.t.Helper()
	run := lambdaedge.Schedule(localcloud.ScheduleFunctions(r.services)[function])
	if err := run(r.t.Context(), events.EventBridgeEvent{DetailType: "Scheduled Event", Source: "aws.scheduler"}); err != nil {
		r.t.Fatal(err)
	}
	handle()
}

// counts are the entries of the tenant, without those that the service wrote.
type counts struct{ stored, marked, indexed, visible int }

// anyStored as the indexed entries of counts is any number of those that are stored: what has expired leaves the index for
// good, also if a hold keeps it then.
const anyStored = -1

// wantCounts waits for these counts, because an index shows what was written after a second.
func (r *retained) wantCounts(when string, want counts) {
	r.t.Helper()
	var got counts
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		got = r.counts()
		if want.indexed == anyStored && got.indexed <= got.stored {
			got.indexed = anyStored
		}
		if got == want {
			return
		}
	}
	r.t.Errorf("%s: got %+v, want %+v", when, got, want)
}

func (r *retained) counts() (got counts) {
	r.t.Helper()
	ctx, tenant := r.t.Context(), r.admin.tenant
	stored, err := r.services.Stores.Entries.Count(ctx, tenant, time.Time{}, time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	got.stored = int(stored) - len(r.own())
	got.marked = len(r.retainedIDs(retention.Selection{Marked: true}, false))
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
	expired, month := 0, today().AddDate(0, 0, -30)
	from := month.AddDate(0, 0, 2)
	r.sendEach(total, func(i int) (user, text string) {
		at, message := from.AddDate(0, 0, i*28/total).Add(time.Duration(i)*time.Millisecond), "keptword"
		if i%4 == 0 {
			at, message = at.AddDate(0, 0, -40), "expiredword"
			expired++
		}
		user = fmt.Sprintf("u%d", i%100)
		return user, fmt.Sprintf(`{"user_id":%q,"action":"VIEW","resource_type":"order","timestamp":%q,"message":%q}`, user, at.Format(time.RFC3339Nano), message)
	})
	r.handle()
	all := counts{stored: total, indexed: total, visible: total}
	r.wantCounts("at first", all)
	r.retain()
	r.wantCounts("after a run while nothing has expired", all)

	marked := counts{stored: total, marked: expired, indexed: total, visible: total - expired}
	r.admin.configure(`{"retention_days":30}`)
	r.workKilled(faults{kills: 8, apart: 5, skew: oneDay})
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
	r.wantOnly("after it was lengthened at the last moment", r.acknowledgedBefore(today()))

	left := counts{stored: total - expired, indexed: total - expired, visible: total - expired}
	r.removalIsInterrupted(left)
	r.wantCounts("after the removal", left)
	r.admin.configure(`{"retention_days":365}`)
	r.handle()
	r.reconcile(r.admin.tenant)
	r.wantCounts("after a longer retention that comes too late", left)
	r.wantOnly("after a longer retention that comes too late", r.acknowledgedFrom(month))
}

// removalIsInterrupted shortens the retention, and lengthens it again in the middle of the removal, while more entries come.
// A hold is set in the middle of the next removal. Once it is released, nothing but left stays.
func (r *retained) removalIsInterrupted(left counts) {
	r.t.Helper()
	const oneDay = 24 * time.Hour
	kill := faults{kills: 8, apart: 5, skew: oneDay}
	remove := func(f faults) {
		r.t.Helper()
		r.admin.configure(`{"retention_days":30}`)
		r.handle()
		r.pass(6 * oneDay)
		r.schedule("retain-logs", func() { r.workKilled(kill) })
		r.pass(3 * oneDay) // and a day by the clock that is behind
		r.schedule("retain-logs", func() { r.workKilled(f) })
		r.handle()
		r.reconcile(r.admin.tenant)
	}
	const late = 20
	lengthen := kill
	lengthen.before = map[nth]func(){{"RemoveDue", 2}: func() {
		r.admin.configure(`{"retention_days":365}`)
		r.sendEach(late, func(i int) (user, text string) {
			at := today().AddDate(0, 0, -41-i%28)
			return "late", fmt.Sprintf(`{"user_id":"late","action":"VIEW","resource_type":"order","timestamp":%q}`, at.Format(time.RFC3339))
		})
		if err := r.handleQueue(manifest.QueueIngest); err != nil {
			r.t.Error(err)
		}
	}}
	remove(lengthen)
	stored := r.counts().stored
	if stored <= left.stored+late {
		r.t.Errorf("%d entries are left after a longer retention in the middle of a removal, want some that had expired", stored)
	}
	r.wantCounts("after a longer retention in the middle of a removal", counts{stored: stored, indexed: stored, visible: stored})

	h := r.holdOn("u4", "late")
	holding := kill
	holding.before, holding.each = map[nth]func(){{"RemoveDue", 2}: h.set}, h.look
	remove(holding)
	r.pass(14 * oneDay)
	r.schedule("retain-logs", func() { r.workKilled(kill) })
	held := h.wantKept()
	r.wantCounts("while a hold stands that was set in the middle of a removal", counts{stored: left.stored + held, indexed: anyStored, visible: left.visible})
	h.release()
	r.pass(6 * oneDay)
	r.retain()
	r.pass(2 * oneDay)
	r.retain()
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
	got.decode(r.t, &job)
	lines := strings.Split(strings.TrimSuffix(string(job.download(r.t)), "\n"), "\n")
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
