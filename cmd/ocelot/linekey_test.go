package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/keyfile"
)

// secretLines differ only in a secret.
var secretLines = []string{
	`{"action":"LOGIN","timestamp":"2026-03-01T10:00:00Z","metadata":{"password":"1234"}}`,
	`{"action":"LOGIN","timestamp":"2026-03-01T10:00:00Z","metadata":{"password":"1235"}}`,
}

// The keys of lines tell nobody whether a guess of a line is right.
func TestKeysOfLinesAreNoPlainHashes(t *testing.T) {
	i := testIdentifier()
	seen := map[string]bool{}
	for _, line := range secretLines {
		key := keyOfLine(t, identified(t, i, line))
		sum := sha256.Sum256([]byte(line))
		if !strings.HasPrefix(key, lineKeyPrefix) {
			t.Errorf("got the key %q, want it to begin with %q", key, lineKeyPrefix)
		}
		if strings.Contains(key, hex.EncodeToString(sum[:])) {
			t.Errorf("got the key %q, which has the SHA-256 of the line", key)
		}
		if seen[key] {
			t.Errorf("got the key %q for two lines", key)
		}
		seen[key] = true
	}
	other := testIdentifier()
	other.key = func() ([]byte, error) { return make([]byte, keyfile.Size), nil }
	for _, line := range secretLines {
		if key := keyOfLine(t, identified(t, other, line)); seen[key] {
			t.Errorf("got the key %q under two keys", key)
		}
	}
}

func keyOfLine(t *testing.T, line string) string {
	t.Helper()
	var entry struct {
		Key string `json:"idempotency_key"`
	}
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		t.Fatal(err)
	}
	return entry.Key
}

// sendFrom sends the lines from a machine whose user's configuration is in the folder.
func (s *service) sendFrom(configuration, lines string, flags ...string) result {
	s.t.Helper()
	unsetEnvironment(s.t)
	s.t.Setenv("XDG_CONFIG_HOME", configuration)
	if configuration == "" {
		s.t.Setenv("HOME", "")
	}
	args := append([]string{"send", "--url", s.url, "--token", "t", "--tenant", "acme"}, flags...)
	return command(s.t.Context(), strings.NewReader(lines), 0, args...)
}

// One machine stores the same lines once. Another one does too if it has the key.
func TestSendKeepsTheKeyOfLines(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sets the configuration folder of Linux")
	}
	s := newService(t)
	stored := func(step string, got result, want int) {
		t.Helper()
		if got.code != 0 {
			t.Fatalf("%s: got exit code %d, want 0: %s", step, got.code, got.err)
		}
		if len(s.entries) != want {
			t.Fatalf("%s: %d entries are stored, want %d", step, len(s.entries), want)
		}
	}
	home, lines := t.TempDir(), strings.Join(secretLines, "\n")+"\n"
	path := filepath.Join(home, "ocelot", "line.key")
	first := s.sendFrom(home, lines)
	stored("first run", first, 2)
	if want := "ocelot: made " + path; !strings.Contains(first.err, want) {
		t.Errorf("got error output %q, want it to contain %q", first.err, want)
	}
	second := s.sendFrom(home, lines)
	stored("second run", second, 2)
	if strings.Contains(second.err, path) {
		t.Errorf("got error output %q, want nothing about the key again", second.err)
	}
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	given := []string{"--line-key", strings.TrimSpace(string(key))}
	stored("another machine with the key", s.sendFrom(t.TempDir(), lines, given...), 2)
	stored("no home with the key", s.sendFrom("", lines, given...), 2)
	stored("another machine without the key", s.sendFrom(t.TempDir(), lines), 4)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	open := s.sendFrom(home, lines)
	stored("readable by others", open, 4)
	if want := "chmod 600 " + path; !strings.Contains(open.err, want) {
		t.Errorf("got error output %q, want it to contain %q", open.err, want)
	}
}

// Without a place for the key, lines that need it are not sent, and the message says what to do.
func TestSendWithoutAPlaceForTheKey(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sets the configuration folder of Linux")
	}
	s := newService(t)
	identified := `{"id":"one","action":"A"}` + "\n"
	if got := s.sendFrom("", identified); got.code != 0 {
		t.Errorf("an entry with an id: got exit code %d, want 0: %s", got.code, got.err)
	}
	damaged := t.TempDir()
	if err := os.MkdirAll(filepath.Join(damaged, "ocelot"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "ocelot", "line.key"), []byte("ab\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	unwritable := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(unwritable, "ocelot")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		configuration string
		flags         []string
		want          string
	}{
		"no home":        {"", nil, "OCELOT_LINE_KEY"},
		"no folder":      {unwritable, nil, "OCELOT_LINE_KEY"},
		"a damaged file": {damaged, nil, "line.key: want 32 bytes"},
		"a short key":    {t.TempDir(), []string{"--line-key", "abcd"}, "--line-key or OCELOT_LINE_KEY: want 32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.sendFrom(c.configuration, secretLines[0]+"\n"+identified, c.flags...)
			if got.code != 1 {
				t.Errorf("got exit code %d, want 1", got.code)
			}
			if !strings.Contains(got.err, c.want) {
				t.Errorf("got error output %q, want it to contain %q", got.err, c.want)
			}
			if len(s.entries) != 1 {
				t.Errorf("%d entries are stored, want 1", len(s.entries))
			}
		})
	}
}
