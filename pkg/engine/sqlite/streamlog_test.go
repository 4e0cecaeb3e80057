package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// rows counts the rows of a table in an open file.
func rows(t *testing.T, path, table string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestExpiredSegmentsAreRemovedGradually(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	now := time.Now()
	log := openAt(t, path, sqlite.WithClock(func() time.Time { return now })).StreamLog()
	appendAll := func(tenant audit.TenantID, from, to int) {
		t.Helper()
		if _, err := log.Open(t.Context(), tenant, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for n := from; n < to; n++ {
			ids := []audit.EntryID{{1, byte(n)}, {2, byte(n)}}
			if err := log.Append(t.Context(), tenant, ids); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantRows := func(segments int) {
		t.Helper()
		if s, ids := rows(t, path, "stream_segments"), rows(t, path, "stream_ids"); s != segments {
			t.Fatalf("got %d segments, want %d", s, segments)
		} else if ids != 2*segments {
			t.Fatalf("got %d ids, want %d", ids, 2*segments)
		}
	}
	appendAll("quiet", 0, 6) // this tenant appends nothing later
	appendAll("acme", 0, 4)
	now = now.Add(stream.Retention)
	wantRows(10)
	appendAll("acme", 10, 11)
	wantRows(9)
	appendAll("acme", 11, 20)
	wantRows(10)
	appendAll("acme", 10, 20) // already stored: removes nothing
	wantRows(10)
}

func TestExpiredConnectionsAreRemovedGradually(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	now := time.Now()
	connections := openAt(t, path, sqlite.WithClock(func() time.Time { return now })).Connections()
	create := func(n int) {
		t.Helper()
		c := stream.Connection{ID: fmt.Sprint(n), Tenant: "acme", ExpiresAt: now.Add(time.Duration(n) * time.Second)}
		if err := connections.Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 25 {
		create(n + 1)
	}
	now = now.Add(24 * time.Second)
	for i, want := range []int{25 + 1 - 10, 16 + 1 - 10, 7 + 1 - 4, 5} {
		create(100 + i)
		if got := rows(t, path, "connections"); got != want {
			t.Fatalf("%d connections are stored after %d more, want %d", got, i+1, want)
		}
	}
	if _, err := connections.Connection(t.Context(), "25"); err != nil {
		t.Fatalf("the connection that has not expired: %v", err)
	}
}

// TestFileOfTheFirstReleaseIsMigrated uses a file without the tables of streams.
func TestFileOfTheFirstReleaseIsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	entries := newCorpus().entries("acme", 10)
	db := openAt(t, path)
	if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, path, undoFacets+`DROP TABLE streams; DROP TABLE stream_segments; DROP TABLE stream_ids; DROP TABLE connections; DROP TABLE pending_merge; DROP TABLE pending_scrub; DROP TABLE queue_turns; DROP TABLE tenant_turns; DROP INDEX messages_ready; DROP INDEX messages_hidden;
		ALTER TABLE messages DROP COLUMN tenant; ALTER TABLE messages DROP COLUMN turn; CREATE INDEX messages_by_queue ON messages (queue, visible, number);
		DROP INDEX jobs_by_creation; DROP INDEX jobs_overdue; DROP INDEX jobs_finished; DROP TABLE activity;
		ALTER TABLE entries DROP COLUMN message; DROP TABLE arrival_segments; DROP TABLE arrival_messages; DROP TABLE arrival_days; DROP TABLE quotas; PRAGMA user_version = 1`)
	db = openAt(t, path)
	ids := make([]audit.EntryID, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	found, err := db.Entries().EntriesByID(t.Context(), "acme", ids)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(entries) {
		t.Fatalf("found %d entries, want %d", len(found), len(entries))
	}
	head, err := db.StreamLog().Open(t.Context(), "acme", time.Now().Add(time.Hour))
	if err == nil {
		err = db.StreamLog().Append(t.Context(), "acme", ids)
	}
	if err != nil {
		t.Fatal(err)
	}
	segments, err := db.StreamLog().Read(t.Context(), "acme", head, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(segments) != 1 {
		t.Fatalf("the stream has %d segments, want 1", len(segments))
	}
	if len(segments[0].IDs) != len(ids) {
		t.Fatalf("the segment has %d ids, want %d", len(segments[0].IDs), len(ids))
	}
}
