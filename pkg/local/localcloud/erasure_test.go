package localcloud_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

func TestEndToEndErasingASubject(t *testing.T) { everySlowWay(t, erasingASubject) }

// erasingASubject erases a subject, and reads its values by a function that has not read them before:
// another can have their key in memory for five minutes.
func erasingASubject(t *testing.T, start starter) {
	data := t.TempDir()
	s := start(t, data)
	admin := s.tenantAdmin("acme")
	admin.configure(`{"sensitive_fields":[{"path":"metadata.email","mask":"email","subject":"user_id"}]}`)
	entry := func(user string) string {
		return `{"user_id":"` + user + `","action":"UPDATE","resource_type":"user","timestamp":"2026-01-02T03:04:05Z","idempotency_key":"` + user + `",` +
			`"metadata":{"email":"` + mark + `@example.com"}}`
	}
	var ann, bob struct{ ID string }
	admin.do("POST", "/logs", entry("ann"), nil).decode(t, &ann)
	admin.do("POST", "/logs", entry("bob"), nil).decode(t, &bob)
	admin.eventually(3) // with the change of the settings
	wantParts(t, admin.do("POST", "/logs/search", `{"user_id":"ann","reveal":true,"reason":"a test"}`, nil).body,
		`"metadata":{"email":"`+mark+`@example.com"}`, `"revealed":["/metadata/email"]`)

	restore := backUpKeys(t, s)
	canceled := admin.erase("ann", 1)
	wantParts(t, admin.do("DELETE", "/tenants/acme/erasures/"+canceled, "", nil).body, `"state":"cancelled"`)
	done := admin.erase("ann", 0)
	again, never := admin.erase("ann", 0), admin.erase("nobody", 0)
	for _, id := range []string{done, again, never} {
		admin.wantAnswer("GET", "/tenants/acme/erasures/"+id, "", http.StatusOK, `"erased_at":`)
	}
	if got := admin.do("DELETE", "/tenants/acme/erasures/"+done, "", nil); got.status != http.StatusConflict {
		t.Errorf("cancel an erasure that has begun: got status %d, want %d: %s", got.status, http.StatusConflict, got.body)
	}
	reveal := url.Values{"reveal": {"true"}, "reason": {"a test"}}
	erased := admin.get("/logs/"+ann.ID, reveal).body
	wantParts(t, erased, `"user_id":"ann"`, `"metadata":{"email":"•••@example.com"}`, `"erased":["/metadata/email"]`)
	wantNoMark(t, "the erased entry", erased)
	wantParts(t, admin.get("/logs/"+bob.ID, reveal).body, `"metadata":{"email":"`+mark+`@example.com"}`, `"revealed":["/metadata/email"]`)

	var retried struct{ ID string }
	admin.do("POST", "/logs", entry("ann"), nil).decode(t, &retried)
	if retried.ID != ann.ID {
		t.Errorf("the retry has the id %s, want %s", retried.ID, ann.ID)
	}
	admin.do("POST", "/logs", `{"user_id":"cem","action":"UPDATE","resource_type":"user"}`, nil)
	admin.eventually(12) // 3 entries and 9 records: settings, 3 reveals, 4 erasures, a cancellation
	if got := admin.do("GET", "/logs/quarantine", "", nil).body; string(got) != `{"items":[],"next":null,"prev":null}` {
		t.Errorf("in quarantine is %s, want nothing: the retry is the same entry", got)
	}
	wantNoMarkIn(t, data)

	s.stop()
	restore()
	s = start(t, data)
	admin = s.as(s.roleToken("acme", access.RoleAdmin, "admin"), "acme")
	wantParts(t, admin.get("/logs/"+ann.ID, reveal).body, `"erased":["/metadata/email"]`) // of the restored key
	wantParts(t, admin.get("/logs/"+bob.ID, reveal).body, `"revealed":["/metadata/email"]`)
}

// backUpKeys copies the tenants' keys in their database, and returns what restores them.
func backUpKeys(t *testing.T, s *service) (restore func()) {
	t.Helper()
	if len(s.engines.MongoURI) > 0 {
		return backUpKeysInMongo(t, s.engines)
	}
	path := filepath.Join(s.data, embedded.File)
	execInFile(t, path, `CREATE TABLE key_backup AS SELECT * FROM tenant_keys`)
	return func() {
		t.Helper()
		execInFile(t, path, `DELETE FROM tenant_keys`, `INSERT INTO tenant_keys SELECT * FROM key_backup`)
	}
}

func execInFile(t *testing.T, path string, statements ...string) {
	t.Helper()
	file, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, statement := range statements {
		if _, err := file.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func backUpKeysInMongo(t *testing.T, engines config.Engines) (restore func()) {
	t.Helper()
	const keys, backup = "tenant_keys", "key_backup"
	copyTo := func(from, to string) {
		t.Helper()
		client, err := mongo.Connect(options.Client().ApplyURI(string(engines.MongoURI)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Disconnect(context.Background()) }()
		if _, err := client.Database(engines.MongoDatabase).Collection(from).Aggregate(t.Context(), mongo.Pipeline{bson.D{{Key: "$out", Value: to}}}); err != nil {
			t.Fatal(err)
		}
	}
	copyTo(keys, backup)
	return func() { t.Helper(); copyTo(backup, keys) }
}

// erase starts an erasure and returns its id.
func (c caller) erase(subject string, delayHours int) string {
	c.t.Helper()
	body := fmt.Sprintf(`{"subject":%q,"reason":"a test","delay_hours":%d}`, subject, delayHours)
	got := c.do("POST", "/tenants/"+string(c.tenant)+"/erasures", body, nil)
	if got.status != http.StatusAccepted {
		c.t.Fatalf("erase %s: got status %d, want %d: %s", subject, got.status, http.StatusAccepted, got.body)
	}
	var started struct{ ID string }
	got.decode(c.t, &started)
	return started.ID
}
