package sqlite

import (
	"context"
	"fmt"
)

// applicationID is "OCLT". It identifies the file as Ocelot's in its header.
const applicationID = 0x4f434c54

// migrations[v] migrates a file from schema version v to the next one. A released
// migration must never change.
var migrations = []string{`
CREATE TABLE tenant_numbers (
	number INTEGER PRIMARY KEY,
	id     TEXT NOT NULL UNIQUE
);

-- The system of record. key is the order of the list, see key.go; doc is the stored JSON text.
CREATE TABLE entries (
	key    INTEGER PRIMARY KEY,
	tenant INTEGER NOT NULL,
	id     BLOB NOT NULL,
	digest BLOB NOT NULL,
	doc    BLOB NOT NULL
);
CREATE UNIQUE INDEX entries_by_id ON entries (tenant, id);

-- The index, a projection of entries: facets are counted and listed, terms are matched.
CREATE TABLE facets (
	tenant        INTEGER NOT NULL,
	key           INTEGER NOT NULL,
	user_id       TEXT NOT NULL,
	session_id    TEXT NOT NULL,
	request_id    TEXT NOT NULL,
	action        TEXT NOT NULL,
	resource_type TEXT NOT NULL,
	resource_id   TEXT NOT NULL,
	severity      TEXT NOT NULL,
	ip_address    TEXT NOT NULL,
	PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE terms USING fts5 (body, content='', contentless_delete=1, tokenize='ascii');
INSERT INTO terms (terms, rank) VALUES ('automerge', 8);
INSERT INTO terms (terms, rank) VALUES ('crisismerge', 64);

CREATE TABLE quarantine (
	tenant      INTEGER NOT NULL,
	id          TEXT NOT NULL,
	step        TEXT NOT NULL,
	code        TEXT NOT NULL,
	reason      TEXT NOT NULL,
	quarantined INTEGER NOT NULL, -- Unix nanoseconds
	doc         BLOB NOT NULL
);
CREATE UNIQUE INDEX quarantine_by_id ON quarantine (tenant, id);

-- A tenant without doc is tombstoned: its id stays taken.
CREATE TABLE tenants (
	id      TEXT PRIMARY KEY,
	version INTEGER NOT NULL,
	doc     TEXT
) WITHOUT ROWID;

CREATE TABLE keys (
	id        TEXT PRIMARY KEY,
	tenant    TEXT NOT NULL,
	hash      BLOB NOT NULL UNIQUE,
	created   INTEGER NOT NULL, -- Unix nanoseconds
	last_used INTEGER,          -- Unix seconds, NULL: not yet
	doc       TEXT NOT NULL
);
CREATE INDEX keys_by_tenant ON keys (tenant, created, id);

CREATE TABLE jobs (
	tenant TEXT NOT NULL,
	id     TEXT NOT NULL,
	doc    TEXT NOT NULL,
	PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- Queues. The bodies lie apart, so that receiving a message does not write its body again.
CREATE TABLE messages (
	number  INTEGER PRIMARY KEY,
	queue   TEXT NOT NULL,
	visible INTEGER NOT NULL, -- Unix milliseconds from which it can be received
	lease   INTEGER NOT NULL, -- counts receives and moves for ever: what makes a receipt stale
	receives INTEGER NOT NULL,
	sent    INTEGER NOT NULL  -- Unix milliseconds
);
CREATE INDEX messages_by_queue ON messages (queue, visible, number);
CREATE TABLE bodies (
	number INTEGER PRIMARY KEY,
	body   TEXT NOT NULL
);
`, `
-- The live stream. number is that of the last segment, opened the one at which the present opening began.
CREATE TABLE streams (
	tenant INTEGER PRIMARY KEY,
	number INTEGER NOT NULL,
	opened INTEGER NOT NULL,
	until  INTEGER NOT NULL -- Unix milliseconds, as are all times here
);
CREATE TABLE stream_segments (
	tenant  INTEGER NOT NULL,
	number  INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	ids     BLOB NOT NULL -- one after the other
);
CREATE UNIQUE INDEX stream_segments_by_number ON stream_segments (tenant, number);
CREATE INDEX stream_segments_by_expiry ON stream_segments (expires);
CREATE TABLE stream_ids (
	tenant  INTEGER NOT NULL,
	id      BLOB NOT NULL,
	segment INTEGER NOT NULL, -- the last that has it
	PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- Connections. doc is what never changes.
CREATE TABLE connections (
	id           TEXT PRIMARY KEY,
	tenant       TEXT NOT NULL,
	expires      INTEGER NOT NULL,
	subscription TEXT, -- NULL: none
	holder       TEXT, -- of the lease, NULL: nobody
	lease        INTEGER NOT NULL,
	asked        INTEGER NOT NULL, -- whether another asked for the lease meanwhile
	doc          TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX connections_by_tenant ON connections (tenant, subscription IS NOT NULL);
CREATE INDEX connections_by_expiry ON connections (expires);
`, `
-- Its rows say that the full-text table may have words of removed entries; see freespace.go.
CREATE TABLE pending_merge (number INTEGER PRIMARY KEY);

-- Jobs. A job is not finished if resume is not NULL; then finished is NULL.
DROP TABLE jobs;
CREATE TABLE jobs (
	tenant     TEXT NOT NULL,
	id         TEXT NOT NULL,
	kind       TEXT NOT NULL,
	state      TEXT NOT NULL,
	created    INTEGER NOT NULL, -- Unix milliseconds, as are all times here
	resume     INTEGER,
	finished   INTEGER,
	generation INTEGER NOT NULL,
	doc        TEXT NOT NULL,
	PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX jobs_by_creation ON jobs (tenant, created, id);
CREATE INDEX jobs_overdue ON jobs (resume) WHERE resume IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished) WHERE finished IS NOT NULL;

-- The register of active days. due is NULL for a day that has been checked.
CREATE TABLE active_days (
	tenant  TEXT NOT NULL,
	day     INTEGER NOT NULL, -- since 1970-01-01
	touches INTEGER NOT NULL,
	checks  INTEGER NOT NULL,
	due     INTEGER, -- Unix milliseconds
	PRIMARY KEY (tenant, day)
) WITHOUT ROWID;
CREATE INDEX active_days_due ON active_days (due) WHERE due IS NOT NULL;
`, `
-- round counts the removals. page is 0 once nothing is left of what they removed. See freespace.go.
CREATE TABLE pending_scrub (number INTEGER PRIMARY KEY, round INTEGER NOT NULL, page INTEGER NOT NULL);
`, `
-- Fair queues, see turns.go. A message is ready if visible is 0; else it becomes ready then.
ALTER TABLE messages ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
DROP INDEX messages_by_queue;
CREATE INDEX messages_ready ON messages (queue, turn, number) WHERE visible = 0;
CREATE INDEX messages_hidden ON messages (queue, visible) WHERE visible > 0;
CREATE TABLE queue_turns (queue TEXT PRIMARY KEY, turn INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tenant_turns (
	queue  TEXT NOT NULL,
	tenant TEXT NOT NULL,
	turn   INTEGER NOT NULL,
	PRIMARY KEY (queue, tenant)
) WITHOUT ROWID;
`, `
-- The tag of the ingest message that brought the entry; 0: unknown.
ALTER TABLE entries ADD COLUMN message INTEGER NOT NULL DEFAULT 0;

-- The arrival logs. A segment has the places from first on; ids and messages are one after the
-- other. arrival_messages has the messages of all segments.
CREATE TABLE arrival_segments (
	tenant   INTEGER NOT NULL,
	first    INTEGER NOT NULL,
	written  INTEGER NOT NULL, -- Unix milliseconds
	messages BLOB NOT NULL,
	ids      BLOB NOT NULL
);
CREATE UNIQUE INDEX arrival_segments_by_number ON arrival_segments (tenant, first);
CREATE TABLE arrival_messages (
	tenant  INTEGER NOT NULL,
	message BLOB NOT NULL,
	PRIMARY KEY (tenant, message)
) WITHOUT ROWID;
`, `
-- The register of active days, for each kind of work. The days, of receipt and of timestamps, are
-- numbered from 1970. A kind that does not tell days apart has the number of the year 1's first day.
CREATE TABLE activity (
	work     TEXT NOT NULL,
	tenant   TEXT NOT NULL,
	received INTEGER NOT NULL,
	day      INTEGER NOT NULL,
	touches  INTEGER NOT NULL,
	checks   INTEGER NOT NULL,
	due      INTEGER, -- Unix milliseconds; NULL: not before it is touched
	PRIMARY KEY (tenant, work, received, day)
) WITHOUT ROWID;
CREATE INDEX activity_due ON activity (work, due) WHERE due IS NOT NULL;
INSERT INTO activity SELECT 'index', tenant, -719162, day, touches, checks, due FROM active_days;
DROP TABLE active_days;
`, `
-- The accounts of the tenants' quotas; see quota.Account. full_at is in Unix microseconds.
CREATE TABLE quotas (tenant TEXT PRIMARY KEY, full_at INTEGER NOT NULL) WITHOUT ROWID;
`, `
-- Segments of the reconciler, and when the last of them was written; 0: there is none.
ALTER TABLE arrival_segments ADD COLUMN repair INTEGER NOT NULL DEFAULT 0;
ALTER TABLE arrival_segments ADD COLUMN repaired INTEGER NOT NULL DEFAULT 0;

-- How many ids of a segment have timestamps on a day; the days are numbered from 1970.
CREATE TABLE arrival_days (
	tenant INTEGER NOT NULL,
	day    INTEGER NOT NULL,
	first  INTEGER NOT NULL,
	count  INTEGER NOT NULL,
	PRIMARY KEY (tenant, day, first)
) WITHOUT ROWID;
-- An id begins with the milliseconds of its timestamp, 12 hexadecimal digits.
INSERT INTO arrival_days
WITH RECURSIVE
	places (tenant, first, i) AS (
		SELECT tenant, first, 0 FROM arrival_segments
		UNION ALL SELECT p.tenant, p.first, p.i + 1 FROM places p JOIN arrival_segments s ON s.tenant = p.tenant AND s.first = p.first
			WHERE 16 * (p.i + 1) < length(s.ids)),
	digits (tenant, first, i, digit, millis) AS (
		SELECT tenant, first, i, 0, 0 FROM places
		UNION ALL SELECT d.tenant, d.first, d.i, d.digit + 1,
			16 * d.millis + instr('0123456789ABCDEF', substr(hex(substr(s.ids, 16 * d.i + 1, 6)), d.digit + 1, 1)) - 1
			FROM digits d JOIN arrival_segments s ON s.tenant = d.tenant AND s.first = d.first WHERE d.digit < 12)
SELECT tenant, millis / 86400000, first, count(*) FROM digits WHERE digit = 12 GROUP BY 1, 2, 3;
`, `
-- The keys of the indexed entries, in the order of lists.
CREATE TABLE indexed_keys (
	tenant INTEGER NOT NULL,
	key    INTEGER NOT NULL,
	PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
INSERT INTO indexed_keys SELECT tenant, key FROM facets;
ALTER TABLE facets RENAME TO unpacked_facets; -- see olderfacets.go

-- What is counted, see facets.go. An entry is in one of the first two.
CREATE TABLE recent_facets (
	tenant INTEGER NOT NULL,
	key    INTEGER NOT NULL,
	facets BLOB NOT NULL, -- values, one after the other
	PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE TABLE facet_blocks (
	number        INTEGER PRIMARY KEY,
	tenant        INTEGER NOT NULL,
	first         INTEGER NOT NULL, -- keys from here
	last          INTEGER NOT NULL, -- to here
	entries       INTEGER NOT NULL,
	keys          BLOB NOT NULL,
	severity      BLOB NOT NULL,
	action        BLOB NOT NULL,
	resource_type BLOB NOT NULL,
	submitted_by  BLOB NOT NULL,
	user_id       BLOB NOT NULL,
	ip_address    BLOB NOT NULL,
	resource_id   BLOB NOT NULL,
	session_id    BLOB NOT NULL,
	request_id    BLOB NOT NULL
);
CREATE UNIQUE INDEX facet_blocks_by_key ON facet_blocks (tenant, first);
CREATE TABLE rollups (
	tenant  INTEGER NOT NULL,
	hours   INTEGER NOT NULL, -- 1 or 24
	start   INTEGER NOT NULL, -- hour since 1970
	entries INTEGER NOT NULL,
	cells   BLOB, -- NULL: too many
	PRIMARY KEY (tenant, hours, start)
) WITHOUT ROWID;
`, `
-- The users of the entries that a roll-up of a day counts; NULL: unknown or too many. See userdays.go.
CREATE TABLE user_days (
	tenant INTEGER NOT NULL,
	start  INTEGER NOT NULL, -- hour since 1970
	users  BLOB
);
CREATE UNIQUE INDEX user_days_by_start ON user_days (tenant, start);
INSERT INTO user_days SELECT tenant, start, NULL FROM rollups WHERE hours = 24;
`, `
-- The live stream. Its order is the arrival log now.
DROP TABLE stream_segments;
DROP TABLE stream_ids;
DROP TABLE streams;
CREATE TABLE streams (
	tenant       INTEGER PRIMARY KEY,
	until        INTEGER NOT NULL, -- Unix milliseconds, as are all times here
	changes      INTEGER NOT NULL,
	holder       TEXT, -- of the lease, NULL: nobody
	leased       INTEGER NOT NULL,
	watched      INTEGER NOT NULL,
	progress     TEXT NOT NULL,
	rest_changes INTEGER NOT NULL,
	rest_place   INTEGER NOT NULL
);
CREATE INDEX streams_by_end ON streams (until);
DELETE FROM connections; -- they ended with the process
ALTER TABLE connections DROP COLUMN holder;
ALTER TABLE connections DROP COLUMN lease;
ALTER TABLE connections DROP COLUMN asked;
`, `
-- The documents of entries, see docs.go. Those of older files are in unpacked_entries at first;
-- see olderdocs.go.
DROP INDEX entries_by_id;
ALTER TABLE entries RENAME TO unpacked_entries;
CREATE TABLE entries (
	key     INTEGER PRIMARY KEY,
	tenant  INTEGER NOT NULL,
	id      BLOB NOT NULL,
	digest  BLOB NOT NULL,
	message INTEGER NOT NULL, -- the tag of the ingest message that brought the entry; 0: unknown
	block   INTEGER NOT NULL, -- 0: the document is in recent_docs
	place   INTEGER NOT NULL  -- of the document in its block
);
CREATE UNIQUE INDEX entries_by_id ON entries (tenant, id);
CREATE TABLE recent_docs (
	tenant INTEGER NOT NULL,
	key    INTEGER NOT NULL,
	doc    BLOB NOT NULL,
	PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE TABLE doc_blocks (
	number INTEGER PRIMARY KEY,
	docs   BLOB NOT NULL -- see docblock.go
);
`, `
-- The resource of each item's entry, for readers who may see some resources only.
ALTER TABLE quarantine ADD COLUMN resource_type TEXT NOT NULL DEFAULT '';
ALTER TABLE quarantine ADD COLUMN resource_id TEXT NOT NULL DEFAULT '';
UPDATE quarantine SET
	resource_type = coalesce(CAST(doc AS TEXT) ->> '$.resource_type', ''),
	resource_id   = coalesce(CAST(doc AS TEXT) ->> '$.resource_id', '');
CREATE INDEX quarantine_by_type ON quarantine (tenant, resource_type, id);
CREATE INDEX quarantine_by_resource ON quarantine (tenant, resource_type, resource_id, id);
`, `
ALTER TABLE connections ADD COLUMN ending INTEGER NOT NULL DEFAULT 0; -- Unix milliseconds: somebody ends it until then
`, `
-- The wrapped keys that encrypt values; see protect.KeyStore. A destroyed key has none.
CREATE TABLE tenant_keys (
	tenant     TEXT NOT NULL,
	subject    BLOB NOT NULL,
	generation INTEGER NOT NULL,
	wrapped    BLOB,
	PRIMARY KEY (tenant, subject)
) WITHOUT ROWID;
`, `
-- From when an entry may be removed, in Unix milliseconds; see retention.go.
CREATE TABLE deletable (key INTEGER PRIMARY KEY, at INTEGER NOT NULL);
INSERT OR IGNORE INTO activity SELECT 'retain', tenant, received, day, 1, 0, 0 FROM activity WHERE work = 'index';
`, `
-- Certificates belong to no tenant; see certificate.Store.
CREATE TABLE certificates (
	id   BLOB PRIMARY KEY,
	text TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE certificate_keys (
	number  INTEGER PRIMARY KEY,
	public  BLOB NOT NULL,
	wrapped BLOB NOT NULL
);
`, `
-- Legal holds; see hold.Store.
CREATE TABLE holds (
	tenant   TEXT NOT NULL,
	id       TEXT NOT NULL,
	created  INTEGER NOT NULL, -- Unix milliseconds
	standing INTEGER NOT NULL, -- 1: it is not released
	version  INTEGER NOT NULL,
	doc      TEXT NOT NULL,
	PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX holds_by_creation ON holds (tenant, created, id);
CREATE INDEX holds_standing ON holds (tenant) WHERE standing = 1;
`, `
-- Coarse cells stand before the others, so that these are not read for them. See rollups.go.
ALTER TABLE rollups RENAME TO rollups_without_coarse_cells;
CREATE TABLE rollups (
	tenant       INTEGER NOT NULL,
	hours        INTEGER NOT NULL, -- 1 or 24
	start        INTEGER NOT NULL, -- hour since 1970
	entries      INTEGER NOT NULL,
	coarse_cells BLOB, -- NULL: too many; with cells: not made yet
	cells        BLOB, -- NULL: too many
	PRIMARY KEY (tenant, hours, start)
) WITHOUT ROWID;
INSERT INTO rollups SELECT tenant, hours, start, entries, NULL, cells FROM rollups_without_coarse_cells;
DROP TABLE rollups_without_coarse_cells;
`, `
-- Which refused attempts are recorded; see attempts.Claims. Rows of earlier hours are removed.
CREATE TABLE attempts (
	tenant TEXT NOT NULL,
	caller BLOB NOT NULL,
	hour   INTEGER NOT NULL, -- since 1970
	place  TEXT NOT NULL,
	PRIMARY KEY (tenant, caller, hour, place)
) WITHOUT ROWID;
CREATE INDEX attempts_by_hour ON attempts (hour);
`, `
-- The full-text index, see segments.go. No number of a segment is used again.
CREATE TABLE segments (
	number  INTEGER PRIMARY KEY AUTOINCREMENT,
	state   INTEGER NOT NULL,
	merger  INTEGER NOT NULL, -- the kind that writes it
	level   INTEGER NOT NULL,
	docs    INTEGER NOT NULL,
	removed INTEGER NOT NULL, -- of docs
	first   INTEGER NOT NULL, -- keys from here
	last    INTEGER NOT NULL, -- to here
	pages   INTEGER NOT NULL,
	bytes   INTEGER NOT NULL
);
-- The ids are numbers of segments and, in the lowest 24 bits, numbers within them.
CREATE TABLE segment_pages (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE removed_terms (id INTEGER PRIMARY KEY, docs BLOB NOT NULL); -- a bitmap
-- Who merges segments of a shared file, until when in Unix milliseconds.
CREATE TABLE segment_mergers (
	kind    INTEGER PRIMARY KEY,
	owner   TEXT NOT NULL,
	expires INTEGER NOT NULL
);
DROP TABLE pending_merge;
-- The last entry whose tokens are in segments. Those of older files are built again, see olderterms.go.
CREATE TABLE rebuilt_terms (tenant INTEGER NOT NULL, key INTEGER NOT NULL);
INSERT INTO rebuilt_terms VALUES (0, 0);
`, `
-- The bodies of messages lie with them. A queue may have its deliveries in memory; see inflight.go.
ALTER TABLE messages ADD COLUMN body TEXT NOT NULL DEFAULT '';
DELETE FROM messages WHERE number NOT IN (SELECT number FROM bodies); -- they could not be received
UPDATE messages SET body = (SELECT body FROM bodies b WHERE b.number = messages.number);
DROP TABLE bodies;
CREATE TABLE received_places (
	queue  TEXT PRIMARY KEY,
	turn   INTEGER NOT NULL,
	number INTEGER NOT NULL
) WITHOUT ROWID;
`, `
ALTER TABLE activity ADD COLUMN claimed INTEGER NOT NULL DEFAULT 0; -- Unix milliseconds, 0 if not; see activity.Day
`}

// migrate migrates the file to the current schema.
func (c *conn) migrate(ctx context.Context) error {
	// Another process may create the file at the same time. It creates the tables and
	// the application id in one transaction, so count the tables first.
	tables, err := c.int64(ctx, `SELECT count(*) FROM sqlite_schema`)
	if err != nil {
		return err
	}
	owner, err := c.int64(ctx, `PRAGMA application_id`)
	if err != nil {
		return err
	}
	version, err := c.int64(ctx, `PRAGMA user_version`)
	if err != nil {
		return err
	}
	switch {
	case tables > 0 && owner != applicationID:
		return fmt.Errorf("the file is a database, but not one of Ocelot")
	case version > int64(len(migrations)):
		return fmt.Errorf("the file has schema version %d, this release knows versions up to %d: use a newer release", version, len(migrations))
	}
	for ; version < int64(len(migrations)); version++ {
		if err := c.migrateOnce(ctx, version); err != nil {
			return fmt.Errorf("migrate from schema version %d: %w", version, err)
		}
	}
	return nil
}

// migrateOnce migrates from one version, unless another process already has.
func (c *conn) migrateOnce(ctx context.Context, version int64) error {
	tx, err := c.link.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	var current int64
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&current); err != nil || current != version {
		return err
	}
	script := migrations[version] + fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, version+1)
	if _, err := tx.ExecContext(ctx, script); err != nil {
		return err
	}
	return tx.Commit()
}
