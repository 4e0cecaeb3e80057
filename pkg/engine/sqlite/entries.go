package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// Entries is the system of record. It implements ingest.Store, search.Reader,
// search.IDLister, arrival.Reader, retention.Store and jobs.CountedPurger.
type Entries struct{ db *DB }

// Entries returns the system of record in this file.
func (db *DB) Entries() *Entries { return &Entries{db} }

// chunksAtOnce is the number of chunks that Append writes in one operation: about maxRows rows.
const chunksAtOnce = 8

// Append implements ingest.Store.
func (s *Entries) Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (ingest.Appended, error) {
	number, err := s.db.ensureNumber(ctx, tenant)
	if err != nil {
		return ingest.Appended{}, fmt.Errorf("append to %s: %w", tenant, err)
	}
	rows, unstorable, err := newEntryRows(number, tenant, entries)
	if err != nil {
		return ingest.Appended{}, fmt.Errorf("append to %s: %w", tenant, err)
	}
	if len(rows) == 0 {
		return ingest.Appended{Rejections: unstorable}, nil
	}
	chunks := s.db.writer.blocks.chunks(pointersTo(rows))
	parts := make([]ingest.Appended, len(chunks)) // by their first chunk
	err = s.db.writeSteps(ctx, len(chunks), chunksAtOnce, s.db.operationsFor(len(rows)), func(b *batch, from, to int) error {
		parts[from] = ingest.Appended{} // the operation may be run again
		for i := from; i < to; i++ {
			err := b.writeChunk(&chunks[i], func(rows []*entryRow) error { return b.appendEntries(rows, &parts[from]) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return ingest.Appended{}, fmt.Errorf("append to %s: %w", tenant, err)
	}
	appended := ingest.Appended{Rejections: unstorable}
	for i := range parts {
		addAppended(&appended, &parts[i])
	}
	slices.SortFunc(appended.Rejections, byIndex)
	return appended, nil
}

// addAppended adds the result of a part of the entries.
func addAppended(to, part *ingest.Appended) {
	to.Rejections = append(to.Rejections, part.Rejections...)
	to.Repeated = append(to.Repeated, part.Repeated...)
}

func byIndex(a, b audit.Rejection) int { return cmp.Compare(a.Index, b.Index) }

// unstorableReason returns why this store cannot have the entry, "" if it can.
func unstorableReason(e *audit.Entry) string {
	millis := e.Timestamp.UnixMilli()
	switch {
	case millis < 0 || millis > maxMillis:
		return "the timestamp is outside the years 1970 to 2109, which the embedded store can hold"
	case !e.ID.Time().Equal(e.Timestamp):
		return "the id does not name the millisecond of the timestamp"
	}
	return ""
}

// entryRow is an entry as it is written.
type entryRow struct {
	tenant  int64
	index   int // in the caller's batch
	id      audit.EntryID
	millis  int64
	arrived time.Time
	message int64 // the tag of the ingest message; 0: unknown
	digest  audit.Digest
	// restored says that a restore brings the entry back.
	restored bool
	doc      []byte
	block    int64 // 0: the document is stored alone
	place    int   // in the block

	fresh  bool  // it was neither rejected nor repeated
	stored bool  // it is new and was inserted
	key    int64 // then
}

// newEntryRows returns the rows of entries of one tenant, and those that this store cannot have.
func newEntryRows(number int64, tenant audit.TenantID, entries []audit.Entry) (rows []entryRow, unstorable []audit.Rejection, err error) {
	rows = make([]entryRow, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.Tenant != tenant {
			return nil, nil, fmt.Errorf("entry %s is of tenant %s", e.ID, e.Tenant)
		}
		if reason := unstorableReason(e); reason != "" {
			unstorable = append(unstorable, audit.Rejection{Index: i, Code: audit.CodeUnstorable, Reason: reason})
			continue
		}
		rows = append(rows, newEntryRow(number, i, e))
	}
	return rows, unstorable, nil
}

func newEntryRow(tenant int64, index int, e *audit.Entry) entryRow {
	return entryRow{
		tenant: tenant, index: index, id: e.ID, millis: e.Timestamp.UnixMilli(), arrived: e.ReceivedAt, message: e.QueueMessage.Tag(),
		digest: e.Digest, restored: !e.RestoredUntil.IsZero(), doc: entryjson.AppendDocument(make([]byte, 0, docSize(e)), e),
	}
}

// docSize returns about the size of an entry's document, in bytes.
func docSize(e *audit.Entry) int {
	const others = 500 // the fields that are not long, with the names of all
	return others + len(e.Before) + len(e.After) + len(e.Metadata) + len(e.Message) + len(e.UserAgent)
}

// repeats reports whether a client sent the entry again: another message brought the stored one.
func (row *entryRow) repeats(arrived time.Time, message int64) bool {
	return arrived.UnixMilli() != row.arrived.UnixMilli() || message != row.message && message != 0 && row.message != 0
}

// appendEntries stores the new entries of a chunk; see appendEntry.
func (b *batch) appendEntries(rows []*entryRow, appended *ingest.Appended) error {
	for part := range slices.Chunk(rows, maxInserted) {
		all, err := b.insertEntries(part)
		if err != nil {
			return err
		}
		for i := 0; !all && i < len(part); i++ {
			others := len(appended.Rejections) + len(appended.Repeated)
			if err := b.appendEntry(part[i], appended); err != nil {
				return err
			}
			part[i].fresh = len(appended.Rejections)+len(appended.Repeated) == others
		}
	}
	return nil
}

// appendEntry stores a new entry. For others it adds a repetition or a rejection to
// appended. It inserts first and looks for a conflict only if that fails.
func (b *batch) appendEntry(row *entryRow, appended *ingest.Appended) error {
	row.stored = false // the operation may be run again
	inserted, err := b.insertEntryAt(row, slotOf(row.id, 0))
	if err != nil || inserted {
		return err
	}
	stored := docReader{conn: b.conn}
	known, repeated := false, false
	var stays *audit.Entry // a restored entry that was sent again
	err = stored.each(context.Background(), entryByID, []any{row.tenant, row.id[:]}, func() (bool, error) {
		known = true
		digest, ok := audit.ParseDigest(stored.digest)
		if !ok {
			return false, errBadDocs
		}
		if digest != row.digest {
			appended.Rejections = append(appended.Rejections, audit.Rejection{
				Index: row.index, Code: audit.CodeIdentityConflict, Reason: "an entry with different content is stored under this identity", StoredDigest: digest,
			})
			return false, nil
		}
		e, err := stored.entry(context.Background())
		repeated = row.repeats(e.ReceivedAt, stored.message)
		if !e.RestoredUntil.IsZero() && !row.restored {
			stays = &e
		}
		return false, err
	})
	if err == nil && stays != nil {
		err = b.unrestore(row.tenant, docPlace{stored.key, stored.block, stored.place}, stays)
	}
	if err != nil || known {
		if repeated && err == nil {
			appended.Repeated = append(appended.Repeated, row.index)
		}
		return err
	}
	rejection, err := b.insertInOtherSlot(row)
	if rejection != nil {
		appended.Rejections = append(appended.Rejections, *rejection)
	}
	return err
}

// unrestore has a restored entry stay as one that was never away.
func (b *batch) unrestore(tenant int64, at docPlace, e *audit.Entry) error {
	if err := b.endRestore(at.key, e); err != nil {
		return err
	}
	return b.replaceDoc(tenant, at, entryjson.AppendDocument(nil, e))
}

// entryByID finds an entry of a tenant.
const entryByID = `SELECT ` + entryColumns + ` FROM entries e` + joinDocs + `WHERE e.tenant = ? AND e.id = ?`

// insertInOtherSlot stores an entry if another entry of its millisecond has its slot.
func (b *batch) insertInOtherSlot(row *entryRow) (*audit.Rejection, error) {
	own := slotOf(row.id, 0)
	last := min(own+nearSlots, slots-1)
	near, err := b.freeSlot(row.millis, own, last)
	if err != nil {
		return nil, err
	}
	if near <= last {
		if inserted, err := b.insertEntryAt(row, near); err != nil || inserted {
			return nil, err
		}
	}
	for probe := uint8(1); probe <= spreadProbes; probe++ {
		if inserted, err := b.insertEntryAt(row, slotOf(row.id, probe)); err != nil || inserted {
			return nil, err
		}
	}
	slot, err := b.freeSlot(row.millis, 0, slots-1)
	if err != nil {
		return nil, err
	}
	if slot == slots {
		return &audit.Rejection{
			Index: row.index, Code: audit.CodeUnstorable,
			Reason: fmt.Sprintf("the millisecond of the timestamp already has %d entries, the most the embedded store can hold", slots),
		}, nil
	}
	inserted, err := b.insertEntryAt(row, slot)
	if err == nil && !inserted {
		err = fmt.Errorf("slot %d of millisecond %d is free and taken", slot, row.millis)
	}
	return nil, err
}

func (b *batch) insertEntryAt(row *entryRow, slot uint32) (bool, error) {
	row.key = keyOf(row.millis, slot)
	return b.insertEntry(row)
}

var entryInserts = insertsInto(`entries (tenant, block, key, id, digest, message, place)`, 2, 5)

// insertEntryRows inserts the rows of one tenant and one block, maxInserted at most, whose keys and ids are not taken. It
// returns how many it inserted.
func (b *batch) insertEntryRows(rows ...*entryRow) (inserted int, err error) {
	args := entryInserts.args(len(rows), rows[0].tenant, rows[0].block)
	for _, row := range rows {
		args = append(args, row.key, row.id[:], row.digest.AppendTo(nil), row.message, int64(row.place))
	}
	return b.insert(entryInserts, args)
}

// insertEntries stores the entries of a chunk with their own slots if all of them are new and the slots
// are free. Otherwise, and if their documents stay alone, it stores none.
func (b *batch) insertEntries(rows []*entryRow) (all bool, err error) {
	if rows[0].block == 0 || len(rows) == 1 {
		return false, nil
	}
	for _, row := range rows {
		row.key = keyOf(row.millis, slotOf(row.id, 0))
	}
	inserted, err := b.insertEntryRows(rows...)
	if err != nil {
		return false, err
	}
	all = inserted == len(rows)
	for _, row := range rows {
		row.fresh, row.stored = all, all
		if !all && inserted > 0 {
			if _, err := b.exec(`DELETE FROM entries WHERE key = ? AND block = ? AND place = ?`, row.key, row.block, row.place); err != nil {
				return false, err
			}
		}
	}
	return all, nil
}

// insertEntry stores the entry with its key, unless the key or the id is taken.
func (b *batch) insertEntry(row *entryRow) (bool, error) {
	inserted, err := b.insertEntryRows(row)
	row.stored = err == nil && inserted == 1
	if row.stored && row.block == 0 {
		err = b.insertRecentDoc(row.tenant, row.key, row.doc)
	}
	return row.stored, err
}

// freeSlot returns the lowest free slot of a millisecond from first to last. It returns the
// slot after last if there is none.
func (b *batch) freeSlot(millis int64, first, last uint32) (uint32, error) {
	free := keyOf(millis, first)
	var key int64
	err := b.each(context.Background(), `SELECT key FROM entries WHERE key BETWEEN ? AND ? ORDER BY key`,
		[]any{free, keyOf(millis, last)}, []any{&key}, func() (bool, error) {
			if key != free {
				return false, nil
			}
			free++
			return true, nil
		})
	return first + uint32(free-keyOf(millis, first)), err
}

// Entry implements search.Reader.
func (s *Entries) Entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (audit.Entry, error) {
	var entry audit.Entry
	number, known, err := s.db.number(ctx, tenant)
	if err == nil && !known {
		err = audit.ErrNotFound
	}
	if err != nil {
		return entry, fmt.Errorf("entry %s of %s: %w", id, tenant, err)
	}
	err = s.db.short.snapshot(ctx, tenant, func(c *conn) error {
		r := docReader{conn: c, tenant: tenant}
		entry, err = r.byID(ctx, number, id)
		return err
	})
	if err != nil {
		return audit.Entry{}, fmt.Errorf("entry %s of %s: %w", id, tenant, err)
	}
	return entry, nil
}

// EntriesByID implements arrival.Reader.
func (s *Entries) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	number, known, err := s.db.number(ctx, tenant)
	if err == nil && !known {
		return nil, nil // a tenant without a number has no entries
	}
	var entries []audit.Entry
	if err == nil {
		err = s.db.short.snapshot(ctx, tenant, func(c *conn) error {
			r := docReader{conn: c, tenant: tenant}
			entries, err = r.byIDs(ctx, number, ids)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("%d entries of %s: %w", len(ids), tenant, err)
	}
	return entries, nil
}

// byID returns the tenant's entry with the id. It returns audit.ErrNotFound if there is none.
func (r *docReader) byID(ctx context.Context, tenant int64, id audit.EntryID) (entry audit.Entry, err error) {
	found := false
	err = r.each(ctx, entryByID, []any{tenant, id[:]}, func() (bool, error) {
		found = true
		var err error
		entry, err = r.entry(ctx)
		return false, err
	})
	if err == nil && !found {
		err = audit.ErrNotFound
	}
	return entry, err
}

// byIDs returns the tenant's entries with the ids, as far as there are any.
func (r *docReader) byIDs(ctx context.Context, tenant int64, ids []audit.EntryID) ([]audit.Entry, error) {
	entries := make([]audit.Entry, 0, len(ids))
	seen := make(map[audit.EntryID]bool, len(ids))
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		entry, err := r.byID(ctx, tenant, id)
		if errors.Is(err, audit.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// notFound turns sql.ErrNoRows into audit.ErrNotFound.
func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return audit.ErrNotFound
	}
	return err
}

// Purge implements jobs.Purger.
func (s *Entries) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purgeTenant(ctx, tenant, limit, (*batch).purgeEntries)
	if err != nil {
		return 0, fmt.Errorf("purge entries of %s: %w", tenant, err)
	}
	return n, nil
}
