package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/testkit/parquettest"
)

var at = time.UnixMilli(1_700_000_000_123).UTC()

func entry(change func(e *audit.Entry)) audit.Entry {
	e := audit.Entry{
		ID: audit.NewEntryID(at, [10]byte{1}), Tenant: "acme", UserID: "ann", Action: "UPDATE", ResourceType: "order", Timestamp: at, ReceivedAt: at,
	}
	change(&e)
	return e
}

// file writes entries as one file.
func file(t *testing.T, query string, entries ...audit.Entry) string {
	t.Helper()
	w := writer(t, query)
	for i := range entries {
		if err := w.Add(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	text, err := w.End(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writer(t testing.TB, query string) *export.Writer {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	options, err := export.ParseOptions(values)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	w, err := export.NewWriter(options, &audit.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestFormats(t *testing.T) {
	t.Parallel()
	one := entry(func(e *audit.Entry) {
		e.Metadata = audit.Object(`{"plan":"gold","a.b":1,"a":{"b":2,"c":[1,{"d":2}]},"empty":"","null":null}`)
		e.Message = "says \"hi\", and\nmore"
	})
	two := entry(func(e *audit.Entry) { e.UserID = "=bob" })
	for query, want := range map[string]string{
		"format=json&fields=user_id,metadata.plan": "[\n{\"user_id\":\"ann\",\"metadata.plan\":\"gold\"},\n{\"user_id\":\"=bob\"}\n]\n",
		"format=ndjson&fields=metadata.plan":       "{\"metadata.plan\":\"gold\"}\n{}\n",
		"fields=action,user_id":                    "{\"action\":\"UPDATE\",\"user_id\":\"ann\"}\n{\"action\":\"UPDATE\",\"user_id\":\"=bob\"}\n",
		"fields=timestamp&time_format=epoch_ms":    strings.Repeat("{\"timestamp\":1700000000123}\n", 2),
		"fields=timestamp,tenant_id":               strings.Repeat("{\"timestamp\":\"2023-11-14T22:13:20.123Z\",\"tenant_id\":\"acme\"}\n", 2),
		"format=csv&fields=user_id,message":        "user_id,message\r\nann,\"says \"\"hi\"\", and\nmore\"\r\n'=bob,\r\n",
		"format=csv&bom=true&fields=action":        "\xEF\xBB\xBFaction\r\nUPDATE\r\nUPDATE\r\n",
		"format=csv&fields=action,metadata.empty":  "action,metadata.empty\r\nUPDATE,\"\"\r\nUPDATE,\r\n",
		"format=csv&fields=action,metadata.null":   "action,metadata.null\r\nUPDATE,null\r\nUPDATE,\r\n",
		"format=csv&fields=action,metadata.a.b":    "action,metadata.a.b\r\nUPDATE,1\r\nUPDATE,\r\n",
		"format=csv&fields=action,metadata.a.c":    "action,metadata.a.c\r\nUPDATE,\"[1,{\"\"d\"\":2}]\"\r\nUPDATE,\r\n",
		"format=csv&fields=action,metadata.plan.x": "action,metadata.plan.x\r\nUPDATE,\r\nUPDATE,\r\n",
	} {
		if diff := cmp.Diff(want, file(t, query, one, two)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	for query, want := range map[string]string{"format=json": "[\n]\n", "format=ndjson": "", "format=csv&fields=id": "id\r\n"} {
		if got := file(t, query); got != want {
			t.Errorf("%s without entries: got %q, want %q", query, got, want)
		}
	}
}

// TestReadersFindEveryLineOfACSVFile has values that make lines short. Readers skip empty lines, and PostgreSQL
// ends at a line with a backslash and a dot.
func TestReadersFindEveryLineOfACSVFile(t *testing.T) {
	t.Parallel()
	entries := make([]audit.Entry, 0, 6)
	for _, metadata := range []string{`{}`, `{"v":""}`, `{"v":" "}`, `{"v":"\n"}`, `{"v":"\\."}`, `{"v":"x"}`} {
		entries = append(entries, entry(func(e *audit.Entry) { e.UserID, e.Metadata = `\.`, audit.Object(metadata) }))
	}
	two := file(t, "format=csv&fields=metadata.v,action", entries...)
	wantLines := [][]string{{"metadata.v", "action"}, {"", "UPDATE"}, {"", "UPDATE"}, {" ", "UPDATE"}, {"\n", "UPDATE"}, {`\.`, "UPDATE"}, {"x", "UPDATE"}}
	if want := "metadata.v,action\r\n,UPDATE\r\n\"\",UPDATE\r\n"; !strings.HasPrefix(two, want) {
		t.Errorf("got %q, want it to begin with %q", two, want)
	}
	for name, read := range map[string]func(t *testing.T, text string) [][]string{"encoding/csv": readCSV, "Python": readCSVByPython} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(wantLines, read(t, two)); diff != "" {
				t.Errorf("two columns (-want +got):\n%s", diff)
			}
			for _, field := range entryjson.RequiredFields() {
				text := file(t, "format=csv&fields="+field, entries...)
				if got, want := len(read(t, text)), 1+len(entries); got != want {
					t.Errorf("%s alone: got %d lines, want %d: %q", field, got, want, text)
				}
				if strings.Contains(text, "\n\\.\r") {
					t.Errorf("%s alone: got %q, want no line that ends it for PostgreSQL", field, text)
				}
			}
		})
	}
}

func readCSV(t *testing.T, text string) [][]string {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return lines
}

func readCSVByPython(t *testing.T, text string) (lines [][]string) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed: how its reader takes the file is not checked")
	}
	read := exec.CommandContext(t.Context(), "python3", "-c", `import csv, io, json, sys
json.dump([row for row in csv.reader(io.TextIOWrapper(sys.stdin.buffer, "utf-8", newline="")) if row], sys.stdout)`)
	read.Stdin = strings.NewReader(text)
	out, err := read.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &lines); err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestFormulas has what spreadsheets run.
func TestFormulas(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", `=HYPERLINK("http://x","y")`} {
		e := entry(func(e *audit.Entry) { e.UserID = text })
		lines := readCSV(t, file(t, "format=csv&fields=user_id", e))
		if got, want := lines[1][0], "'"+text; got != want {
			t.Errorf("got cell %q, want %q", got, want)
		}
	}
}

func TestCSVHasEveryColumn(t *testing.T) {
	t.Parallel()
	e := entry(func(e *audit.Entry) {
		e.IPAddress, e.Before, e.Changed = netip.MustParseAddr("203.0.113.7"), audit.Object(`{"a":"b"}`), []string{"a"}
	})
	lines := readCSV(t, file(t, "format=csv", e))
	if diff := cmp.Diff(export.DefaultColumns(), lines[0]); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	for i, name := range lines[0] {
		want, is := map[string]string{
			"id": e.ID.String(), "user_id": "ann", "ip_address": "203.0.113.7", "before_state": `{"a":"b"}`, "changed": `["a"]`, "after_state": "",
		}[name]
		if got := lines[1][i]; is && got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestExportedEntriesCanBeSent sends a line of NDJSON as a client does.
func TestExportedEntriesCanBeSent(t *testing.T) {
	t.Parallel()
	want := entry(func(e *audit.Entry) {
		e.SubmittedBy, e.Changed, e.Removed = "sub:ann", []string{"a"}, []string{"/metadata/token"}
		e.Metadata = audit.Object(`{"n":1.0,"big":12345678901234567890,"a.b":"\u0041"}`)
	})
	got, invalid := entryjson.ParseSubmitted([]byte(file(t, "", want)))
	if invalid != nil {
		t.Fatal(invalid)
	}
	if got.ID != want.ID {
		t.Errorf("got id %s, want %s", got.ID, want.ID)
	}
	if got.ClaimedTenant != "" {
		t.Errorf("got tenant %s, want none: another tenant refuses it", got.ClaimedTenant)
	}
	if string(got.Metadata) != string(want.Metadata) {
		t.Errorf("got metadata %s, want %s", got.Metadata, want.Metadata)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for query, code := range map[string]string{
		"format=xlsx": "invalid_choice", "format=csv&format=csv": "repeated", "time_format=unix": "invalid_choice", "compress=br": "invalid_choice",
		"bom=true": "conflict", "bom=true&format=parquet": "conflict", "compress=zstd&format=parquet": "conflict", "bom=yes&format=csv": "invalid_choice", "fields=colour": "unknown_field", "fields=metadata.": "unknown_field",
		"fields=user_id.x": "unknown_field", "fields=id,id": "repeated", "fields=id,": "unknown_field", "fields=metadata.a%0Ab": "unknown_field",
		"fields=metadata.%FF": "unknown_field", "fields=digest": "unknown_field", "fields=metadata." + strings.Repeat("a", export.MaxFieldBytes): "too_long",
		"fields=id" + strings.Repeat(",a", export.MaxFields): "too_many",
		"format=csv&fields=session_id":                       "conflict", "format=csv&fields=metadata.plan": "conflict",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = export.ParseOptions(values)
		var invalid *audit.ValidationError
		if !errors.As(err, &invalid) || len(invalid.Fields) != 1 || invalid.Fields[0].Code != code {
			t.Errorf("%.60s: got %v, want one fault %s", query, err, code)
		}
	}
}

// TestFramesAreIndependent flushes after each entry, and unpacks all frames as one text.
func TestFramesAreIndependent(t *testing.T) {
	t.Parallel()
	unpack := map[export.Compression]func(io.Reader) (io.Reader, error){
		export.Gzip: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		export.Zstd: func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	}
	for _, c := range export.Compressions() {
		w := writer(t, "fields=user_id&compress="+string(c))
		var joined []byte
		var err error
		for _, user := range []string{"ann", "bob"} {
			e := entry(func(e *audit.Entry) { e.UserID = user })
			if err := w.Add(&e); err != nil {
				t.Fatal(err)
			}
			if joined, err = w.Flush(joined); err != nil {
				t.Fatal(err)
			}
		}
		if joined, err = w.End(joined); err != nil {
			t.Fatal(err)
		}
		r, err := unpack[c](bytes.NewReader(joined))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if want := "{\"user_id\":\"ann\"}\n{\"user_id\":\"bob\"}\n"; string(got) != want {
			t.Errorf("%s: got %q, want %q", c, got, want)
		}
	}
}

func TestParquetHasEveryColumn(t *testing.T) {
	t.Parallel()
	e := entry(func(e *audit.Entry) {
		e.Metadata, e.Changed, e.Removed = audit.Object(`{"n":1.0,"a.b":"\u0041"}`), []string{"a", "b\"c"}, []string{"/metadata/token"}
		e.Encrypted = []audit.Encrypted{{Paths: []string{"/message"}}}
		e.Message, e.ReceivedAt = "[masked]", at.Add(time.Second)
	})
	got := parquettest.Read(t, []byte(file(t, "format=parquet", e)))
	want := map[string]any{}
	for _, name := range export.DefaultColumns() {
		want[name] = nil
	}
	maps.Copy(want, map[string]any{
		"id": e.ID.String(), "user_id": "ann", "action": "UPDATE", "resource_type": "order", "severity": "INFO", "timestamp": at.UnixMilli(), "received_at": at.UnixMilli() + 1000,
		"metadata": `{"n":1.0,"a.b":"\u0041"}`, "message": "[masked]", "changed": []string{"a", "b\"c"}, "removed": []string{"/metadata/token"}, "masked": []string{"/message"},
	})
	if diff := cmp.Diff([]map[string]any{want}, got.Rows); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"id": "STRING", "timestamp": "TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS)", "expires_at": "TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS)", "changed": "LIST", "metadata": "STRING",
	} {
		if got.Types[name] != want {
			t.Errorf("%s: got type %s, want %s", name, got.Types[name], want)
		}
	}
}

// The statement of the documentation has the columns that a file has, with their types.
func TestTheDocumentedTableHasEveryColumn(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/export.md")
	if err != nil {
		t.Fatal(err)
	}
	_, statement, _ := strings.Cut(string(page), "CREATE EXTERNAL TABLE ocelot_entries (")
	statement, _, _ = strings.Cut(statement, "\n)")
	types := map[string]string{"STRING": "string", "LIST": "array<string>", "TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS)": "timestamp"}
	got := parquettest.Read(t, []byte(file(t, "format=parquet"))).Types
	var want []string
	for _, name := range export.DefaultColumns() {
		want = append(want, name+" "+types[got[name]])
	}
	statement = strings.Join(strings.Fields(strings.ReplaceAll(statement, "`", "")), " ")
	if diff := cmp.Diff(want, strings.Split(statement, ", ")); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
}

func TestParquetHasTheColumnsThatAreAskedFor(t *testing.T) {
	t.Parallel()
	one := entry(func(e *audit.Entry) {
		e.Metadata = audit.Object(`{"plan":"=gold","n":1.50,"list":[1,{"a":2}],"null":null,"empty":""}`)
	})
	two := entry(func(e *audit.Entry) { e.UserID = "bob" })
	got := parquettest.Read(t, []byte(file(t, "format=parquet&time_format=epoch_ms&fields=timestamp,tenant_id,metadata.plan,metadata.n,metadata.list,metadata.null,metadata.empty", one, two)))
	want := []map[string]any{
		{"timestamp": at.UnixMilli(), "tenant_id": "acme", "metadata.plan": "=gold", "metadata.n": "1.50", "metadata.list": `[1,{"a":2}]`, "metadata.null": "null", "metadata.empty": ""},
		{"timestamp": at.UnixMilli(), "tenant_id": "acme", "metadata.plan": nil, "metadata.n": nil, "metadata.list": nil, "metadata.null": nil, "metadata.empty": nil},
	}
	if diff := cmp.Diff(want, got.Rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if got.Types["timestamp"] != "INT64" {
		t.Errorf("got type %s of timestamp, want INT64", got.Types["timestamp"])
	}
}
