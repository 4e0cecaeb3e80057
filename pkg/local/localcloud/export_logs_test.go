package localcloud_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/testkit/parquettest"
)

// protecting are settings that hide values of exportedEntries.
const protecting = `{"retention_days":0,"detect":["pan"],"sensitive_fields":[{"path":"**.email","mask":"email","subject":"user_id"},{"path":"**.iban","mask":"last4"},
	{"path":"**.person"},{"path":"**.ip","mask":"ip"},{"path":"message"},{"path":"session_id"},{"path":"after_state.one_side"}]}`

// exportedEntries are what the export tests send: different shapes, and one entry of another user.
func exportedEntries() []string {
	largest := `{"user_id":"cat","action":"CREATE","resource_type":"account","timestamp":"2026-01-02T03:04:07Z","metadata":{"token":"x","large":""}}`
	largest = strings.Replace(largest, `""`, `"`+strings.Repeat("x", audit.MaxEntryBytes-len(largest))+`"`, 1)
	hidden := func(before, after string) string {
		return `{"user_id":"cat","action":"UPDATE","resource_type":"account","timestamp":"2026-01-02T03:04:07Z","before_state":` + before + `,"after_state":` + after + `}`
	}
	texts := []string{
		largest,
		hidden(`{"password":"old","n":1}`, `{"password":"new","n":2}`),
		hidden(`{"password":"same"}`, `{"password":"same"}`),
		hidden(`{"pay":{"cvv":1,"iban":"DE89370400440532013000"}}`, `{"pay":{"cvv":2,"iban":"DE11370400440532013000"}}`),
		hidden(`{"email":"a@example.com","ip":"203.0.113.7"}`, `{"email":"b@example.com","ip":"203.0.113.8"}`),
		hidden(`{"list":[{"email":"a@example.com"},{"token":["a"]}],"note":"4111111111111111"}`, `{"list":[{"email":"a@example.com"},{"token":["b"]}],"note":"5500005555555559"}`),
		hidden(`{"person":{"name":"Ann"},"email":"a@example.com"}`, `{"person":{"name":"Bob"},"email":"a@example.com"}`),
		hidden(`{"one_side":"same"}`, `{"one_side":"same"}`),
		`{"user_id":"ann","action":"UPDATE","resource_type":"order","resource_id":"7","timestamp":"2026-01-02T03:04:05.678Z","metadata":{"n":1.0,"a.b":"\u0041","list":[1,[2]]},` +
			`"before_state":{"total":1},"after_state":{"total":2},"ip_address":"2001:db8::7","message":"=1+1","idempotency_key":"k"}`,
		`{"user_id":"bob","action":"VIEW","resource_type":"user","timestamp":"2026-01-02T03:04:06Z","severity":"ERROR","session_id":"s","request_id":"r","user_agent":"curl"}`,
	}
	for i := range 50 {
		texts = append(texts, fmt.Sprintf(`{"user_id":"ann","action":"VIEW","resource_type":"order","resource_id":"%d","timestamp":"2026-01-03T00:00:00Z"}`, i))
	}
	return texts
}

// itemsOf returns the entries of a tenant without what a copy has of its own.
func itemsOf(t *testing.T, items []json.RawMessage) []map[string]any {
	t.Helper()
	var entries []map[string]any
	for _, item := range items {
		entry := map[string]any{}
		decoder := json.NewDecoder(bytes.NewReader(item))
		decoder.UseNumber()
		if err := decoder.Decode(&entry); err != nil {
			t.Fatal(err)
		}
		// The masks of a copy are its own plain values.
		for _, own := range []string{"tenant_id", "received_at", "submitted_by", "masked", "removed"} {
			delete(entry, own)
		}
		if entry["action"] != "logs.export" {
			entries = append(entries, entry)
		}
	}
	slices.SortFunc(entries, func(a, b map[string]any) int { return strings.Compare(a["id"].(string), b["id"].(string)) })
	return entries
}

func TestExportIsTheListAndCanBeSent(t *testing.T) { everyWay(t, exportIsTheListAndCanBeSent) }

func exportIsTheListAndCanBeSent(t *testing.T, start starter) {
	s := start(t, t.TempDir())
	admin, copied := s.tenantAdminWith("acme", protecting), s.tenantAdmin("copy")
	sent := exportedEntries()
	admin.bulk(sent)
	admin.eventually(len(sent))
	want := itemsOf(t, rawItems(t, admin))
	got := admin.get("/logs/export", nil)
	if got.status != http.StatusOK {
		t.Fatalf("got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}
	if disposition := got.header.Get("Content-Disposition"); !strings.HasPrefix(disposition, "attachment; filename=acme-") || !strings.HasSuffix(disposition, ".ndjson") {
		t.Errorf("got Content-Disposition %q, want the name of an attachment", disposition)
	}
	lines := strings.Split(strings.TrimSuffix(string(got.body), "\n"), "\n")
	copied.bulk(lines)
	copied.eventually(len(sent))
	if diff := cmp.Diff(want, itemsOf(t, rawItems(t, copied))); diff != "" {
		t.Errorf("the copy differs (-want +got):\n%s", diff)
	}
	table := admin.get("/logs/export", url.Values{"format": {"parquet"}, "resource_type": {"order", "user", "account"}})
	if rows := parquettest.Read(t, table.body).Rows; len(rows) != len(sent) {
		t.Errorf("the Parquet file has %d rows, want %d", len(rows), len(sent))
	}
	admin.eventually(len(sent) + 2) // the exports are recorded
	if records := admin.list(url.Values{"action": {"logs.export"}}).Items; len(records) != 2 {
		t.Errorf("found %d records of exports, want 2", len(records))
	}
}

// rawItems returns the newest entries of a tenant.
func rawItems(t *testing.T, c caller) []json.RawMessage {
	t.Helper()
	var list struct{ Items []json.RawMessage }
	got := c.get("/logs", url.Values{"limit": {"1000"}})
	if got.status != http.StatusOK {
		t.Fatalf("got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}
	got.decode(t, &list)
	return list.Items
}

func TestExportFilters(t *testing.T) {
	s := start(t, t.TempDir())
	admin := s.tenantAdmin("acme")
	admin.bulk(exportedEntries())
	admin.eventually(len(exportedEntries()))
	got := admin.get("/logs/export", url.Values{"format": {"csv"}, "compress": {"zstd"}, "fields": {"resource_id,message,metadata.list"}, "user_id": {"ann"}, "action": {"UPDATE"}})
	unpacker, err := zstd.NewReader(bytes.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(unpacker).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"resource_id", "message", "metadata.list"}, {"7", "'=1+1", "[1,[2]]"}}, rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	narrow := s.as(s.token(access.Claims{Subject: "narrow", Tenants: []string{"acme"}, Role: access.RoleAuditor, Resources: []string{"user"}}), "acme")
	if lines := strings.Count(string(narrow.get("/logs/export", nil).body), "\n"); lines != 1 {
		t.Errorf("a credential for users exports %d entries, want 1", lines)
	}
}

func TestExportAtOnceIsBounded(t *testing.T) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	const day = `"timestamp":"2026-01-03T00:00:00Z"`
	for i := range export.MaxEntries / 1000 {
		var texts []string
		for j := range 1000 {
			texts = append(texts, fmt.Sprintf(`{"user_id":"ann","action":"VIEW","resource_type":"order","resource_id":"%d-%d",%s}`, i, j, day))
		}
		admin.bulk(texts)
	}
	admin.eventually(export.MaxEntries)
	got := admin.get("/logs/export", url.Values{"to": {"2026-01-04T00:00:00Z"}})
	if lines := bytes.Count(got.body, []byte("\n")); got.status != http.StatusOK || lines != export.MaxEntries {
		t.Errorf("got status %d and %d entries, want %d and %d", got.status, lines, http.StatusOK, export.MaxEntries)
	}
	admin.bulk([]string{`{"user_id":"ann","action":"VIEW","resource_type":"order",` + day + `}`})
	admin.eventually(export.MaxEntries + 2) // with the record of the export
	got = admin.get("/logs/export", url.Values{"to": {"2026-01-04T00:00:00Z"}})
	if got.status != http.StatusAccepted {
		t.Fatalf("got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	var e exportAnswer
	for decode(t, got.body, &e); e.URL == "" && e.State != "failed"; decode(t, admin.get("/logs/exports/"+e.ID, nil).body, &e) {
		time.Sleep(100 * time.Millisecond)
	}
	file := e.download(t)
	if lines := bytes.Count(file, []byte("\n")); lines != export.MaxEntries+1 {
		t.Errorf("the job's file has %d entries, want %d", lines, export.MaxEntries+1)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(file)); got != e.SHA256 {
		t.Errorf("the file has the SHA-256 %s, want %s", got, e.SHA256)
	}
}

// exportAnswer is an answer about an export that is a job.
type exportAnswer struct{ ID, State, URL, SHA256 string }

func decode(t *testing.T, body []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
}

// download gets the file, as anybody who has the URL can.
func (e exportAnswer) download(t *testing.T) []byte {
	t.Helper()
	response, err := http.Get(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}
