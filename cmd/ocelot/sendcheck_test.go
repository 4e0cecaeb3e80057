//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSendNamesConflictsOfIdentity against a running service: an entry with other content under a
// used identity is reported, a repetition of the first one is not.
func TestSendNamesConflictsOfIdentity(t *testing.T) {
	s, folder := startForInputs(t)
	w := newInputWorld(t, s, folder, "conflicts")
	writer := strings.TrimSpace(runOcelot(t, "token", "--data", filepath.Join(folder, ".ocelot"), "--tenant", w.tenant, "--permissions", "logs:write"))
	entry := func(message string) string {
		return fmt.Sprintf(`{"user_id":"u","action":"VIEW","resource_type":"r","timestamp":"2026-11-20T10:00:00Z","idempotency_key":"k","message":%q}`, message)
	}
	file := filepath.Join(t.TempDir(), "entries.ndjson")
	send := func(token, message string) result {
		if err := os.WriteFile(file, []byte(entry(message)), 0o600); err != nil {
			t.Fatal(err)
		}
		unsetEnvironment(t)
		return command(t.Context(), strings.NewReader(""), 0, "send", "--url", w.url, "--token", token, "--tenant", w.tenant, file)
	}
	for _, step := range []struct {
		message string
		code    int
		want    string
	}{{"first", 0, ""}, {"second", 1, "in quarantine: "}, {"first", 0, ""}, {"second", 1, "in quarantine: "}} {
		got := send(w.token, step.message)
		if got.code != step.code {
			t.Errorf("%s: got exit code %d, want %d: %s", step.message, got.code, step.code, got.err)
		}
		if step.want == "" && got.err != "" {
			t.Errorf("%s: got %q on standard error, want nothing", step.message, got.err)
		}
		if !strings.Contains(got.err, step.want) {
			t.Errorf("%s: got %q on standard error, want %q in it", step.message, got.err, step.want)
		}
	}
	got := send(writer, "third")
	if got.code != 0 {
		t.Errorf("a credential that only writes: got exit code %d, want 0: %s", got.code, got.err)
	}
	if !strings.Contains(got.err, "unchecked") {
		t.Errorf("a credential that only writes: got %q on standard error, want it to say that nothing was checked", got.err)
	}
}

// TestSendNamesConflictsOfHiddenValues: the service stores other content than was sent, because it
// removes secrets and masks values.
func TestSendNamesConflictsOfHiddenValues(t *testing.T) {
	s, folder := startForInputs(t)
	w := newInputWorldWith(t, s, folder, "hidden", `{"retention_days":0,"sensitive_fields":[{"path":"metadata.people.*.email","mask":"email"},{"path":"message"}]}`)
	file := filepath.Join(t.TempDir(), "entries.ndjson")
	for i, step := range []struct {
		content string
		code    int
	}{{"one", 0}, {"two", 1}, {"one", 0}, {"two", 1}} {
		text := fmt.Sprintf(`{"user_id":"u","action":"VIEW","resource_type":"r","timestamp":"2026-11-20T10:00:00Z","idempotency_key":"k","message":"private",`+
			`"metadata":{"password":"x","n":1.50,"v":%q,"people":[{"email":"ann@example.com"},{"email":"bob@example.com"}]}}`, step.content)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		unsetEnvironment(t)
		got := command(t.Context(), strings.NewReader(""), 0, "send", "--url", w.url, "--token", w.token, "--tenant", w.tenant, file)
		if named := strings.Contains(got.err, "in quarantine: "); got.code != step.code || named != (step.code == 1) {
			t.Errorf("step %d, %s: got exit code %d and %q on standard error, want code %d", i+1, step.content, got.code, got.err, step.code)
		}
	}
}
