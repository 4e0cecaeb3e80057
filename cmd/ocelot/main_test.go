package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// result is what a command line did.
type result struct {
	code     int
	out, err string
}

// lastLine is the last line of standard output.
func (r result) lastLine() string {
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	return lines[len(lines)-1]
}

var testTime = time.Date(2026, 3, 1, 10, 20, 30, 456_789_000, time.UTC)

// command runs a command line against nothing but what it is given.
func command(ctx context.Context, stdin io.Reader, terminalWidth int, args ...string) result {
	var out, errOut bytes.Buffer
	n := byte(0)
	code := run(ctx, args, &console{
		in: stdin, out: &out, err: &errOut, outTerminal: terminalWidth > 0, width: terminalWidth,
		now:    func() time.Time { return testTime },
		zone:   time.FixedZone("east", 2*60*60),
		random: func(b []byte) { n++; b[len(b)-1] = n },
		pause:  backoff.Sleep,
	})
	return result{code, out.String(), errOut.String()}
}

// unsetEnvironment keeps what the tester's shell has set out of a test.
func unsetEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"XDG_CONFIG_HOME", "AppData", "HOME"} {
		t.Setenv(name, t.TempDir())
	}
	for _, name := range []string{"OCELOT_LINE_KEY", "OCELOT_PROFILE", "OCELOT_URL", "OCELOT_TOKEN", "OCELOT_TENANT", "OCELOT_STREAM_URL", "NO_COLOR", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"} {
		t.Setenv(name, "")
	}
}

func TestExitCodes(t *testing.T) {
	unsetEnvironment(t)
	unused := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string // on standard output or error
	}{
		{"nothing", nil, 0, "Commands:"},
		{"help", []string{"--help"}, 0, "Commands:"},
		{"the word help", []string{"help"}, 0, "Commands:"},
		{"the word help with a command", []string{"help", "send"}, 0, "the exit code is 1"},
		{"the word help after a command", []string{"search", "help"}, 0, "Usage: ocelot search"},
		{"the word help after a group", []string{"tenant", "help"}, 0, "Usage: ocelot tenant"},
		{"the word help within a group", []string{"tenant", "help", "create"}, 0, "Usage: ocelot tenant create"},
		{"the word help twice", []string{"help", "help"}, 0, "Commands:"},
		{"help of an unknown command", []string{"help", "nix"}, 2, "nix"},
		{"the word help as a query", []string{"search", "--limit", "3", "help"}, 2, "OCELOT_TOKEN"},
		{"the word help behind dashes", []string{"search", "--", "help"}, 2, "OCELOT_TOKEN"},
		{"the word help with another", []string{"search", "help", "me"}, 2, "OCELOT_TOKEN"},
		{"help after flags", []string{"search", "--limit", "3", "-h"}, 0, "Usage: ocelot search"},
		{"version as a flag", []string{"--version"}, 0, "ocelot "},
		{"version as a flag of a command", []string{"search", "--version"}, 0, "ocelot "},
		{"help of a command", []string{"send", "--help"}, 0, "the exit code is 1"},
		{"version", []string{"version"}, 0, "ocelot "},
		{"unknown command", []string{"nix"}, 2, "nix"},
		{"unknown flag", []string{"search", "--nix"}, 2, "--nix"},
		{"query that excludes", []string{"search", "-action:VIEW"}, 2, "; put -- before a query that begins with a hyphen: ocelot search -- -action:VIEW"},
		{"tail that excludes", []string{"tail", `-"not this"`}, 2, "ocelot tail -- '-\"not this\"'"},
		{"no token", []string{"search", "--tenant", "acme"}, 2, "OCELOT_TOKEN"},
		{"no tenant", []string{"search", "--token", "t"}, 2, "OCELOT_TENANT"},
		{"odd address", []string{"stats", "--url", "host:80", "--token", "t", "--tenant", "a"}, 2, "http://"},
		{"odd format", []string{"send", "--format", "csv"}, 2, "ndjson"},
		{"batch too large", []string{"send", "--batch", "1001"}, 2, "1000"},
		{"no batch", []string{"send", "--batch", "0"}, 2, "--batch"},
		{"no concurrency", []string{"send", "--concurrency", "0"}, 2, "--concurrency"},
		{"odd filter", []string{"search", "--token", "t", "--tenant", "a", "--filter", "nix=1"}, 2, "FIELD=VALUE with one of the fields user_id, session_id"},
		{"filter without a value", []string{"search", "--token", "t", "--tenant", "a", "--filter", "action"}, 2, "FIELD=VALUE"},
		{"odd time", []string{"stats", "--token", "t", "--tenant", "a", "--since", "yesterday"}, 2, "24h"},
		{"hour of one digit", []string{"stats", "--token", "t", "--tenant", "a", "--until", "2026-01-31T9:30:00Z"}, 2, "24h"},
		{"odd address of the stream", []string{"tail", "--token", "t", "--tenant", "a", "--stream-url", "host/live"}, 2, "wss://"},
		{"two places to begin", []string{"tail", "--token", "t", "--tenant", "a", "--after", "c", "--cursor-file", "f"}, 2, "--cursor-file"},
		{"odd limit", []string{"search", "--limit", "0"}, 2, "--limit"},
		{"odd limit of pull", []string{"pull", "--limit", "-1"}, 2, "--limit"},
		{"two places to pull from", []string{"pull", "--token", "t", "--tenant", "a", "--after", "c", "--cursor-file", "f"}, 2, "--cursor-file"},
		{"three groups", []string{"stats", "--group-by", "action,severity,user_id"}, 2, "--group-by"},
		{"missing file", []string{"send", "--token", "t", "--tenant", "a", "/nowhere/x.ndjson"}, 1, "/nowhere/x.ndjson"},
		{"pattern without a match", []string{"send", "--token", "t", "--tenant", "a", "/nowhere/*.ndjson"}, 1, "no file matches"},
		{"cost without entries", []string{"cost"}, 2, "--entries"},
		{"cost of a rate without a period", []string{"cost", "--entries", "3"}, 2, "500/s"},
		{"cost of empty entries", []string{"cost", "--entries", "3/s", "--bytes", "0"}, 2, "--bytes 0: must be from 1 to 262144"},
		{"cost of too many in a request", []string{"cost", "--entries", "3/s", "--batch", "1001"}, 2, "--batch 1001: must be from 1 to 1000"},
		{"cost of too many tenants", []string{"cost", "--entries", "3/s", "--tenants", "100001"}, 2, "--tenants 100001: must be from 1 to 100000"},
		{"cost of half a day", []string{"cost", "--entries", "3/s", "--retention", "36h"}, 2, "--retention: must be whole days, from 1d to 36500d"},
		{"cost of a search after the end", []string{"cost", "--entries", "3/s", "--retention", "10d", "--searchable", "11d"}, 2, "at most --retention, 10d"},
		{"cost on another engine", []string{"cost", "--entries", "3/s", "--engine", "nix"}, 2, "documentdb"},
		{"redrive of an unknown queue", []string{"redrive", "nix"}, 2, "ingest-priority"},
		{"redrive without a service", []string{"redrive", "--data", "/nowhere"}, 1, "/nowhere is no data folder"},
		{"redrive in no region", []string{"redrive", "--sqs"}, 2, "AWS_REGION"},
		{"requeue without a file", []string{"requeue", "/nowhere"}, 1, "/nowhere"},
		{"requeue in no region", []string{"requeue", "--sqs", "-"}, 2, "AWS_REGION"},
		{"functions in process", []string{"dev", "--functions", "x"}, 2, "--lambda"},
		{"token without rights", []string{"token", "--tenant", "acme"}, 2, "--role"},
		{"token without a tenant", []string{"token", "--data", unused, "--role", "admin"}, 2, "tenant"},
		{"token for an odd role", []string{"token", "--tenant", "acme", "--role", "king"}, 2, "--role"},
		{"operator of one tenant", []string{"token", "--tenant", "acme", "--role", "operator"}, 2, "'*'"},
		{"token without time", []string{"token", "--tenant", "acme", "--role", "admin", "--ttl", "0s"}, 2, "--ttl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := command(t.Context(), strings.NewReader(""), 0, c.args...)
			if got.code != c.code {
				t.Errorf("got exit code %d, want %d: %s", got.code, c.code, got.err)
			}
			if !strings.Contains(got.out+got.err, c.want) {
				t.Errorf("got output %q, want it to contain %q", got.out+got.err, c.want)
			}
		})
	}
	for _, folder := range []string{unused, ".ocelot"} {
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a command that fails left %s: got error %v, want %v", folder, err, os.ErrNotExist)
		}
	}
}
