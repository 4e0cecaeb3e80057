package localcloud_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/parquet"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/archivefiles"
)

// archivePage is the documentation of the archive.
func archivePage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/archive.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// snippets returns the examples of the documentation in a language, with the folder and the tenant of a
// test.
func snippets(t *testing.T, language, folder string) (all []string) {
	t.Helper()
	for _, match := range regexp.MustCompile("(?s)```"+language+"(?: no-run[^\n]*)?\n(.*?)```").FindAllStringSubmatch(archivePage(t), -1) {
		text := match[1]
		if strings.Contains(text, ".ocelot/archive") { // others are for Athena
			all = append(all, strings.NewReplacer(".ocelot/archive", folder, "demo", "acme", "2026-10", "2025-11").Replace(text))
		}
	}
	return all
}

// The statement of the documentation has the columns that a part has, with their types.
func TestTheDocumentedTableOfTheArchiveHasEveryColumn(t *testing.T) {
	_, statement, _ := strings.Cut(archivePage(t), "CREATE EXTERNAL TABLE ocelot_archive (")
	statement, _, _ = strings.Cut(statement, "\n)")
	types := map[parquet.Type]string{parquet.Text: "string", parquet.Texts: "array<string>", parquet.Timestamp: "timestamp"}
	var want []string
	for _, c := range archive.Columns() {
		want = append(want, c.Name+" "+types[c.Type])
	}
	statement = strings.Join(strings.Fields(strings.ReplaceAll(statement, "`", "")), " ")
	if diff := cmp.Diff(want, strings.Split(statement, ", ")); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
}

// TestArchiveIsReadByOthers reads a folder that the service has archived with what users have, as the
// documentation tells them.
func TestArchiveIsReadByOthers(t *testing.T) {
	readers := enginetest.ParquetReaders(t)
	r := newReconciled(t)
	r.addMasterKey()
	path := r.path
	world := &retained{reconciled: r, admin: r.serve("acme"), pass: func(d time.Duration) { passInFile(t, path, d) }}
	world.admin.configure(`{"archive":true,"retention_days":0}`)
	world.handle()
	const november, december = 1500, 500
	month := time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)
	world.send(november, func(i int) time.Time { return month.Add(time.Duration(i) * time.Minute) })
	world.send(december, func(i int) time.Time { return month.AddDate(0, 1, 0).Add(time.Duration(i) * time.Minute) })
	world.archive()
	world.pass(48 * time.Hour)
	world.archive()
	folder := filepath.Join(filepath.Dir(path), archivefiles.Folder)

	queries := snippets(t, "sql", folder)
	if len(queries) != 3 {
		t.Fatalf("got %d queries in docs/archive.md, want 3", len(queries))
	}
	for i, want := range []string{`[["2025-11",1500,100],["2025-12",500,100]]`, `[]`, `[[2000]]`} {
		if got := string(askReader(t, readers+"/duckdb?sql="+url.QueryEscape(queries[i]), "").Rows); got != want {
			t.Errorf("the query\n%sanswers %s, want %s", queries[i], got, want)
		}
	}
	sum := "SELECT count(*), count(DISTINCT id), count(digest), sum(CAST(metadata->>'n' AS INTEGER)), min(epoch_ms(\"timestamp\")) FROM read_parquet('" + folder + "/tenant=acme/month=2025-11/part-*.parquet')"
	if got, want := string(askReader(t, readers+"/duckdb?sql="+url.QueryEscape(sum), "").Rows), `[[1500,1500,1500,1124250,1761955200000]]`; got != want {
		t.Errorf("%s answers %s, want %s", sum, got, want)
	}

	programs := snippets(t, "python", folder)
	if len(programs) != 1 {
		t.Fatalf("got %d programs in docs/archive.md, want 1", len(programs))
	}
	program := strings.Replace(programs[0], "DELETE", "VIEW", 1)
	if got, want := askReader(t, readers+"/python", program).Output, "2000\n"; got != want {
		t.Errorf("the program\n%sprints %q, want %q", program, got, want)
	}
	checkParts(t, folder)

	var job jobAnswer
	decode(t, world.admin.do("DELETE", "/logs/cleanup?before=2026-01-01&user_id=u7&archive=true", "", nil).body, &job)
	if job = world.finish(job.ID); job.State != "succeeded" {
		t.Fatalf("the cleanup of the archive is %s (%s)", job.State, job.Error)
	}
	if got, want := string(askReader(t, readers+"/duckdb?sql="+url.QueryEscape(queries[2]), "").Rows), `[[1980]]`; got != want {
		t.Errorf("after a cleanup of the archive, the query\n%sanswers %s, want %s", queries[2], got, want)
	}
	if got, want := askReader(t, readers+"/python", program).Output, "1980\n"; got != want {
		t.Errorf("after a cleanup of the archive, the program\n%sprints %q, want %q", program, got, want)
	}
	checkParts(t, folder)
}

// checkParts runs the commands of the documentation that compare parts with their manifest.
func checkParts(t *testing.T, folder string) {
	t.Helper()
	for _, tool := range []string{"jq", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("NOT PROVEN HERE: the check of parts, which needs %s", tool)
			return
		}
	}
	commands := snippets(t, "sh", folder)
	if len(commands) != 1 {
		t.Fatalf("got %d lists of commands in docs/archive.md, want 1", len(commands))
	}
	output, err := exec.CommandContext(t.Context(), "sh", "-c", commands[0]).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if got, want := strings.Count(string(output), ": OK\n"), 2; got != want {
		t.Errorf("%d files are right, want %d: %s", got, want, output)
	}
}

// readerAnswer is what a reader of Parquet files answers.
type readerAnswer struct {
	Rows   json.RawMessage
	Output string
}

func askReader(t *testing.T, address, body string) (got readerAnswer) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d: %s", address, response.StatusCode, text)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(compact.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}
