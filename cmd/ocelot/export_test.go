package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exporting runs an export against a service that answers with a body.
func exporting(t *testing.T, status int, body string, args ...string) (got result, asked url.Values) {
	t.Helper()
	unsetEnvironment(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query()
		w.Header().Set("Content-Type", "application/problem+json") // what a file is sent as does not matter
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	defer server.Close()
	for name, value := range map[string]string{"OCELOT_URL": server.URL, "OCELOT_TOKEN": "t", "OCELOT_TENANT": "acme"} {
		t.Setenv(name, value)
	}
	return command(t.Context(), strings.NewReader(""), 0, append([]string{"export"}, args...)...), asked
}

func TestExportPrintsOrWritesTheFile(t *testing.T) {
	got, asked := exporting(t, http.StatusOK, "a\r\n", "--format", "csv", "--bom", "--fields", "id,metadata.plan", "--compress", "gzip", "--time-format", "epoch_ms", "-f", "action=A", "words")
	if got.code != exitOK || got.out != "a\r\n" {
		t.Errorf("got code %d and output %q, want %d and the file: %s", got.code, got.out, exitOK, got.err)
	}
	want := url.Values{
		"format": {"csv"}, "bom": {"true"}, "fields": {"id,metadata.plan"}, "compress": {"gzip"}, "time_format": {"epoch_ms"},
		"sort": {"-timestamp"}, "action": {"A"}, "q": {"words"},
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	file := filepath.Join(t.TempDir(), "out.ndjson")
	if got, _ := exporting(t, http.StatusOK, "{}\n", "--output", file); got.code != exitOK || got.out != "" {
		t.Errorf("got code %d and output %q, want %d and none: %s", got.code, got.out, exitOK, got.err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "{}\n" {
		t.Errorf("got file %q and error %v, want what the service sent", text, err)
	}
}

func TestExportThatFailsLeavesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ndjson")
	if err := os.WriteFile(file, []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _ := exporting(t, http.StatusUnprocessableEntity, `{"type":"urn:ocelot:problem:invalid","title":"The input is invalid","status":422,"detail":"Narrow it."}`, "--output", file)
	if got.code != exitFailure || !strings.Contains(got.err, "Narrow it.") {
		t.Errorf("got code %d and %q, want %d and the reason", got.code, got.err, exitFailure)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "earlier" {
		t.Errorf("got file %q and error %v, want the earlier one", text, err)
	}
	if got, _ := exporting(t, http.StatusOK, "", "--bom"); got.code != exitUsage {
		t.Errorf("--bom without CSV: got code %d, want %d", got.code, exitUsage)
	}
}
