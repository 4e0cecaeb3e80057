package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

func openFolder(t *testing.T, folder string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(folder, embedded.File))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func closeFolder(t *testing.T, db *sqlite.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// depths are the visible messages and the dead letters of a folder's queue.
func depths(t *testing.T, folder string, name manifest.QueueName) (visible, dead int64) {
	t.Helper()
	db := openFolder(t, folder)
	defer closeFolder(t, db)
	visible, _, dead, err := embedded.Queue(db, name).Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return visible, dead
}

func TestRedrive(t *testing.T) {
	unsetEnvironment(t)
	folder := t.TempDir()
	db := openFolder(t, folder)
	for _, name := range []manifest.QueueName{manifest.QueueIngest, manifest.QueueIndex} {
		if err := embedded.Stores(db).DeadLetters(name).Send(t.Context(), "acme", []string{"a", "b"}); err != nil {
			t.Fatal(err)
		}
	}

	open := command(t.Context(), strings.NewReader(""), 0, "redrive", "--data", folder)
	if open.code != 1 {
		t.Errorf("with the folder open: got exit code %d, want 1: %s", open.code, open.err)
	}
	if !strings.Contains(open.err, "stop the service first") {
		t.Errorf("with the folder open: got error output %q, want it to contain %q", open.err, "stop the service first")
	}
	closeFolder(t, db)

	one := command(t.Context(), strings.NewReader(""), 0, "redrive", "--data", folder, "ingest")
	if fields := strings.Fields(one.out); one.code != 0 {
		t.Errorf("one queue: got exit code %d, want 0: %s", one.code, one.err)
	} else if !slices.Equal(fields, []string{"ingest", "2"}) {
		t.Errorf("one queue: got fields %q, want %q", fields, []string{"ingest", "2"})
	}
	if visible, dead := depths(t, folder, manifest.QueueIngest); visible != 2 {
		t.Errorf("ingest: got visible %d, want 2", visible)
	} else if dead != 0 {
		t.Errorf("ingest: got dead %d, want 0", dead)
	}
	if _, dead := depths(t, folder, manifest.QueueIndex); dead != 2 {
		t.Errorf("index has %d dead letters, want 2: it was not named", dead)
	}
	all := command(t.Context(), strings.NewReader(""), 0, "redrive", "--data", folder)
	if fields := strings.Fields(all.out); all.code != 0 {
		t.Errorf("all queues: got exit code %d, want 0: %s", all.code, all.err)
	} else if !slices.Equal(fields, strings.Fields("ingest 0 ingest-priority 0 index 2 arrival 0 jobs 0 archive 0 stream 0")) {
		t.Errorf("all queues: got fields %q, want %q", fields, strings.Fields("ingest 0 ingest-priority 0 index 2 arrival 0 jobs 0 archive 0 stream 0"))
	}
}
