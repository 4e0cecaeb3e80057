package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// TestPlacesTakeLittleSpace: with messages of 100 entries, at most 40 bytes an entry, indexes
// included.
func TestPlacesTakeLittleSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	size := func(segments int64) int64 {
		t.Helper()
		db, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		const messages, perMessage = 40, 100
		for n := range segments {
			s := arrival.Segment{First: n*messages*perMessage + 1, WrittenAt: time.Now()}
			for m := range messages {
				s.Messages = append(s.Messages, audit.MessageID(audit.DeriveEntryID("acme", time.Now(), fmt.Sprint(n, m))))
				for i := range perMessage {
					s.IDs = append(s.IDs, audit.DeriveEntryID("acme", time.Now(), fmt.Sprint(n, m, i)))
				}
			}
			if err := db.Arrivals().Append(t.Context(), "acme", s); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	empty := size(0)
	const segments = 30
	got := float64(size(segments)-empty) / (segments * 40 * 100)
	if got > 40 {
		t.Errorf("a place takes %.1f bytes, want at most 40", got)
	}
	t.Logf("a place takes %.1f bytes", got)
}

// undoStreams undoes the migration of streams in a file without streams and connections.
const undoStreams = `CREATE TABLE stream_segments (tenant INTEGER); CREATE TABLE stream_ids (tenant INTEGER); DROP INDEX streams_by_end;
	ALTER TABLE connections ADD COLUMN holder TEXT; ALTER TABLE connections ADD COLUMN lease INTEGER; ALTER TABLE connections ADD COLUMN asked INTEGER; `

// undoDocs undoes the migration of documents in a file without entries.
const undoDocs = `DROP TABLE recent_docs; DROP TABLE doc_blocks; ALTER TABLE entries ADD COLUMN doc BLOB; `

// undoQuarantine undoes the migration of the quarantine, and the later ones.
const undoQuarantine = undoEnding + `DROP INDEX quarantine_by_type; DROP INDEX quarantine_by_resource;
	ALTER TABLE quarantine DROP COLUMN resource_type; ALTER TABLE quarantine DROP COLUMN resource_id; `

// undoInFlight undoes the migration of the deliveries in memory in a file without messages.
const undoInFlight = `DROP TABLE received_places; ALTER TABLE messages DROP COLUMN body; CREATE TABLE bodies (number INTEGER PRIMARY KEY, body TEXT NOT NULL); `

// undoSegments undoes the migration of the full-text index in a file without indexed entries, and the later ones.
const undoSegments = undoInFlight + `ALTER TABLE activity DROP COLUMN claimed; DROP TABLE segments; DROP TABLE segment_pages; DROP TABLE removed_terms; DROP TABLE segment_mergers; CREATE TABLE pending_merge (number INTEGER); `

// undoEnding undoes the migration of the ends of connections, and the later ones.
const undoEnding = undoSegments + `DROP TABLE attempts; DROP TABLE holds; DROP TABLE certificates; DROP TABLE certificate_keys; DROP TABLE deletable; DROP TABLE tenant_keys;
	ALTER TABLE connections DROP COLUMN ending; `

func TestQuarantineOfOlderFilesIsListedByResource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	entry := audit.Entry{ID: audit.DeriveEntryID("acme", at, "1"), Tenant: "acme", ResourceType: "order", ResourceID: "ü", Timestamp: at, ReceivedAt: at}
	if err := db.Quarantine().Put(t.Context(), "acme", []quarantine.Item{{ID: "1", QuarantinedAt: at, Entry: entry}}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, path, undoQuarantine+`PRAGMA user_version = 13`)
	db = openAt(t, path)
	for r, want := range map[quarantine.Resource]int{{Type: "order"}: 1, {Type: "order", ID: "ü"}: 1, {Type: "order", ID: "u"}: 0, {Type: "user"}: 0} {
		items, _, err := db.Quarantine().List(t.Context(), "acme", []quarantine.Resource{r}, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(items); got != want {
			t.Errorf("items of %v: got %d, want %d", r, got, want)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPlacesOfOlderFilesAreCounted: a file of the schema before the days of places.
func TestPlacesOfOlderFilesAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	at := time.Date(2026, 11, 23, 23, 59, 59, 0, time.UTC)
	db := openAt(t, path)
	s := arrival.Segment{First: 1, Messages: []audit.MessageID{{1}}, WrittenAt: at}
	for i := range 5 {
		s.IDs = append(s.IDs, audit.DeriveEntryID("acme", at.Add(time.Duration(i)*400*time.Millisecond), fmt.Sprint(i)))
	}
	if err := db.Arrivals().Append(t.Context(), "acme", s); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, path, undoFacets+undoStreams+undoDocs+undoQuarantine+`DROP TABLE arrival_days; ALTER TABLE arrival_segments DROP COLUMN repair; ALTER TABLE arrival_segments DROP COLUMN repaired; PRAGMA user_version = 8`)
	db = openAt(t, path)
	for day, want := range map[time.Time]int64{at: 3, at.Add(time.Second): 2} {
		if got, err := db.Arrivals().PlacesOn(t.Context(), "acme", day); err != nil || got != want {
			t.Errorf("%d places on %s (%v), want %d", got, day.Format(time.DateOnly), err, want)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
