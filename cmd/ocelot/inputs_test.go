//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inputFolder has small files that other systems have stumbled over.
const inputFolder = "../../../shared/cases"

// inputCase is one of them with the number of entries that each query finds.
type inputCase struct {
	name   string
	found  map[string]int
	stored int
}

func inputCases() []inputCase {
	return []inputCase{
		{name: "01-nfc-nfd.ndjson", stored: 2, found: map[string]int{"modifi\u00e9": 2, "modifie\u0301": 2}},
		{name: "02-cjk.ndjson", stored: 3, found: map[string]int{"数据库": 1, "再起動": 1, "ผู้ใช้": 1}},
		{name: "03-final-sigma.ndjson", stored: 2, found: map[string]int{"οδος": 2, "ΟΔΟΣ": 2}},
		{name: "04-backslash.ndjson", stored: 1, found: map[string]int{`user_id:"NORTH\iris"`: 1, `"D:\pay\june.xlsx"`: 1}},
		{name: "05-key-with-colon.ndjson", stored: 1, found: map[string]int{
			`metadata."aws:cloudformation:stack-name":pay`: 1, `metadata."http://id.example/claims/upn":"iris@example.org"`: 1, `metadata."cost center":77`: 1}},
		{name: "06-same-ms-order.ndjson", stored: 30},
		{name: "07-mapped-ip.ndjson", stored: 2, found: map[string]int{"ip_address:203.0.113.9": 2, `ip_address:"::ffff:203.0.113.9"`: 2}},
		{name: "08-org-folder", stored: 2},
		{name: "09-cloudtrail-array.json", stored: 2},
		{name: "11-equal-numbers.ndjson", stored: 1, found: map[string]int{"metadata.qty:100": 1, "metadata.qty:100.0": 1, "metadata.qty>99": 1, "has:changed": 0}},
		{name: "12-repeated-lines.ndjson", stored: 5},
		{name: "13-cloudtrail-bom.json", stored: 1},
		{name: "13-utf16.ndjson", stored: 1},
		{name: "14-leap-second.ndjson", stored: 1, found: map[string]int{"timestamp:2016-12-31T23:59:59.999Z": 1}},
		{name: "18-symbol-words.ndjson", stored: 1, found: map[string]int{"deploy 🚀 done": 1, "done - at last": 1}},
	}
}

// startForInputs starts a service and returns the folder with its data.
func startForInputs(t *testing.T) (s *testService, folder string) {
	t.Helper()
	unsetEnvironment(t)
	folder = t.TempDir()
	s, err := startService(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s, folder
}

// TestInputs sends each file twice and asks for what is in it.
func TestInputs(t *testing.T) {
	if found, err := filepath.Glob(inputFolder + "/*.ndjson"); err != nil || len(found) == 0 {
		t.Skip("wants the folder ../shared/cases beside the repository")
	}
	s, folder := startForInputs(t)
	for i, c := range inputCases() {
		t.Run(c.name, func(t *testing.T) {
			w := newInputWorld(t, s, folder, fmt.Sprintf("inputs-%d", i))
			for range 2 { // the second time adds nothing
				w.ocelot(t, "send", filepath.Join(inputFolder, c.name))
			}
			w.waitForTotal(t, "", c.stored)
			for query, want := range c.found {
				if got := w.total(t, query); got != want {
					t.Errorf("%s finds %d entries, want %d", query, got, want)
				}
			}
		})
	}
}

// TestInputsKeepTheirOrder: entries of one request and millisecond are listed as they were sent.
func TestInputsKeepTheirOrder(t *testing.T) {
	path := filepath.Join(inputFolder, "06-same-ms-order.ndjson")
	if found, err := filepath.Glob(path); err != nil || len(found) == 0 {
		t.Skip("wants the folder ../shared/cases beside the repository")
	}
	s, folder := startForInputs(t)
	w := newInputWorld(t, s, folder, "inputs-order")
	lines, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.post(t, w.token, "/logs/bulk", "application/x-ndjson", string(lines), http.StatusAccepted)
	w.waitForTotal(t, "", 30)
	got := w.ocelot(t, "search", "--sort", "timestamp", "-o", "ndjson")
	for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if want := fmt.Sprintf(`"user_id":"s%02d"`, i); !strings.Contains(line, want) {
			t.Fatalf("line %d is %s, want it to contain %s", i, line, want)
		}
	}
}

// inputWorld is a tenant of a running service.
type inputWorld struct{ url, token, tenant string }

// newInputWorld creates a tenant that keeps entries for ever.
func newInputWorld(t *testing.T, s *testService, folder, tenant string) inputWorld {
	t.Helper()
	return newInputWorldWith(t, s, folder, tenant, `{"retention_days":0}`)
}

func newInputWorldWith(t *testing.T, s *testService, folder, tenant, settings string) inputWorld {
	t.Helper()
	data := filepath.Join(folder, ".ocelot")
	token := func(tenant, role string) string {
		return strings.TrimSpace(runOcelot(t, "token", "--data", data, "--tenant", tenant, "--role", role))
	}
	w := inputWorld{url: s.settings["OCELOT_URL"], token: token(tenant, "admin"), tenant: tenant}
	body := fmt.Sprintf(`{"id":%q,"name":"inputs","settings":%s}`, tenant, settings)
	w.post(t, token("*", "operator"), "/tenants", "application/json", body, http.StatusCreated)
	return w
}

// post sends a request, which must be answered with the status.
func (w inputWorld) post(t *testing.T, token, path, media, body string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer " + token}, "X-Tenant-Id": {w.tenant}, "Content-Type": {media}}
	if path == "/tenants" {
		request.Header.Del("X-Tenant-Id") // the tenant does not exist yet
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		t.Fatalf("POST %s: got status %d, want %d", path, response.StatusCode, status)
	}
}

// ocelot runs a command against the tenant, and returns what it printed on standard output.
func (w inputWorld) ocelot(t *testing.T, args ...string) string {
	t.Helper()
	return runOcelot(t, append(args, "--url", w.url, "--token", w.token, "--tenant", w.tenant)...)
}

// runOcelot runs the program, which must end with exit code 0.
func runOcelot(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "ocelot", args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("ocelot %s: got error %v, want none: %s%s", args[0], err, &out, &errOut)
	}
	return out.String()
}

// total returns the number of entries that a query finds.
func (w inputWorld) total(t *testing.T, query string) int {
	t.Helper()
	args := []string{"stats", "-o", "json"}
	if query != "" {
		args = append(args, query)
	}
	got := w.ocelot(t, args...)
	var stats struct{ Total int }
	if err := json.Unmarshal([]byte(got), &stats); err != nil {
		t.Fatalf("stats of %s: %v: %s", query, err, got)
	}
	return stats.Total
}

// waitForTotal waits until a query finds so many entries, and checks that it finds no more.
func (w inputWorld) waitForTotal(t *testing.T, query string, want int) {
	t.Helper()
	got := -1
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = w.total(t, query); got >= want {
			time.Sleep(500 * time.Millisecond) // for one too many
			got = w.total(t, query)
			break
		}
	}
	if got != want {
		t.Fatalf("%q finds %d entries, want %d", query, got, want)
	}
}
