package main

import (
	"crypto/sha256"
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
	if got, _ := exporting(t, http.StatusOK, "", "--format", "parquet", "--compress", "zstd"); got.code != exitUsage {
		t.Errorf("--compress with Parquet: got code %d, want %d", got.code, exitUsage)
	}
}

// jobService answers an export as a job, whose file is sent in pieces: each download is cut after 10
// bytes.
func jobService(t *testing.T, file, sum, state string) {
	t.Helper()
	unsetEnvironment(t)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	answer := func(state, more string) string { return `{"id":"j1","state":"` + state + `"` + more + `}` }
	mux.HandleFunc("GET /api/v1/logs/export", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprint(w, answer("queued", ""))
	})
	mux.HandleFunc("GET /api/v1/logs/exports/j1", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, answer(state, fmt.Sprintf(`,"error":"no space","count":3,"bytes":%d,"sha256":%q,"url":"%s/file"`, len(file), sum, server.URL)))
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the download has a credential, want none")
		}
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = fmt.Fprint(w, file[from:min(from+10, len(file))])
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	for name, value := range map[string]string{"OCELOT_URL": server.URL, "OCELOT_TOKEN": "t", "OCELOT_TENANT": "acme"} {
		t.Setenv(name, value)
	}
}

func TestExportWaitsForAJobAndResumesItsDownload(t *testing.T) {
	const file = "one entry\nand another\n"
	jobService(t, file, fmt.Sprintf("%x", sha256.Sum256([]byte(file))), "succeeded")
	path := filepath.Join(t.TempDir(), "out.ndjson")
	got := command(t.Context(), strings.NewReader(""), 0, "export", "--output", path)
	if got.code != exitOK {
		t.Fatalf("got code %d, want %d: %s", got.code, exitOK, got.err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != file {
		t.Errorf("got file %q and error %v, want %q", text, err, file)
	}
	if got := command(t.Context(), strings.NewReader(""), 0, "export"); got.out != file {
		t.Errorf("got output %q, want %q", got.out, file)
	}
}

func TestExportRefusesADamagedFileAndAFailedJob(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.ndjson")
	for name, test := range map[string]struct{ sum, state, want string }{
		"damaged": {strings.Repeat("ab", 32), "succeeded", "damaged"}, "failed": {"", "failed", "no space"},
	} {
		jobService(t, "content", test.sum, test.state)
		got := command(t.Context(), strings.NewReader(""), 0, "export", "--output", path)
		if got.code != exitFailure {
			t.Errorf("%s: got code %d, want %d", name, got.code, exitFailure)
		}
		if !strings.Contains(got.err, test.want) {
			t.Errorf("%s: got error %q, want one with %q", name, got.err, test.want)
		}
		if files, err := filepath.Glob(path + "*"); err != nil || len(files) > 0 {
			t.Errorf("%s: the files %v are left and error %v, want none", name, files, err)
		}
	}
}

func TestExportByALegalHold(t *testing.T) {
	got, asked := exporting(t, http.StatusOK, "{}\n", "--hold", "h1")
	if got.code != exitOK {
		t.Errorf("got code %d, want %d: %s", got.code, exitOK, got.err)
	}
	if diff := cmp.Diff(url.Values{"format": {"ndjson"}, "time_format": {"rfc3339"}, "hold": {"h1"}}, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	if got, _ := exporting(t, http.StatusOK, "", "--hold", "h1", "--sort=-timestamp"); got.code != exitUsage {
		t.Errorf("--sort -timestamp with --hold: got code %d, want %d", got.code, exitUsage)
	}
}
