package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// savedEntry is an entry of the search index.
func savedEntry(n byte) audit.Entry {
	at := testTime.UTC().Truncate(time.Millisecond)
	return audit.Entry{
		ID: audit.NewEntryID(at, [10]byte{n}), Tenant: "acme", UserID: "ann", Action: "login", ResourceType: "session",
		Timestamp: at, ReceivedAt: at.Add(time.Second), SubmittedBy: "key:k1", Digest: audit.Digest{Kind: audit.DigestKeyed, Sum: [32]byte{n}},
		Encrypted: []audit.Encrypted{{Key: "k", Generation: 2, Paths: []string{"/metadata/email"}, Data: []byte("sealed")}},
	}
}

// savedLine is its line in the file.
func savedLine(t *testing.T, e audit.Entry) string {
	t.Helper()
	line, err := json.Marshal(map[string]string{"tenant_id": string(e.Tenant), "entry": string(entryjson.AppendStored(nil, &e))})
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

func TestRequeue(t *testing.T) {
	unsetEnvironment(t)
	folder := t.TempDir()
	closeFolder(t, openFolder(t, folder))
	first, second, restored, other, unsealed := savedEntry(1), savedEntry(2), savedEntry(3), savedEntry(4), savedEntry(5)
	restored.RestoredUntil = testTime.UTC().Truncate(time.Millisecond)
	other.Timestamp = other.Timestamp.Add(time.Second)
	unsealed.Digest = audit.Digest{}
	file := filepath.Join(t.TempDir(), "saved.jsonl")
	good := savedLine(t, first) + savedLine(t, restored) + savedLine(t, second)
	bad := "{}\n" + savedLine(t, other) + savedLine(t, unsealed) + strings.Replace(savedLine(t, first), `"tenant_id":"acme"`, `"tenant_id":"globex"`, 1) +
		`{"tenant_id":"acme","entry":"{"}` + "\n"
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}

	got := command(t.Context(), strings.NewReader(""), 0, "requeue", "--data", folder, file)
	if want := (result{0, `{"sent":2,"restored":1,"unreadable":0}` + "\n", ""}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = command(t.Context(), strings.NewReader(bad+savedLine(t, first)), 0, "requeue", "--data", folder, "-")
	if want := `{"sent":1,"restored":0,"unreadable":5}` + "\n"; got.code != exitFailure || got.out != want {
		t.Errorf("with unreadable lines: got exit code %d and %q, want %d and %q", got.code, got.out, exitFailure, want)
	}
	for _, want := range []string{"line 1: ", "line 2: ", "line 3: ", "line 4: ", "line 5: "} {
		if !strings.Contains(got.err, want) {
			t.Errorf("with unreadable lines: got error output %q, want it to contain %q", got.err, want)
		}
	}

	db := openFolder(t, folder)
	messages, err := embedded.Queue(db, manifest.QueueIngest).Receive(t.Context(), 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	var queued []string
	for _, m := range messages {
		contents, err := envelope.Unpack(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if contents.ID.IsZero() {
			t.Error("a message has no id, want one")
		}
		for i := range contents.Entries {
			queued = append(queued, savedLine(t, contents.Entries[i]))
		}
	}
	if diff := cmp.Diff([]string{savedLine(t, first), savedLine(t, second), savedLine(t, first)}, queued); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
	open := command(t.Context(), strings.NewReader(""), 0, "requeue", "--data", folder, file)
	if want := "stop the service first"; open.code != exitFailure || !strings.Contains(open.err, want) {
		t.Errorf("with the folder open: got exit code %d and %q, want %d and %q", open.code, open.err, exitFailure, want)
	}
	closeFolder(t, db)
}
