package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	listStoredIDs = `SELECT id FROM entries INDEXED BY entries_by_id
		WHERE tenant = ? AND id > ? AND id < ? ORDER BY id LIMIT ?`
	countStored = `SELECT count(*), count(*), max(id) FROM (SELECT id FROM entries INDEXED BY entries_by_id
		WHERE tenant = ? AND id > ? AND id < ? ORDER BY id LIMIT ?)`
	listIndexedIDs = `SELECT e.id FROM entries e INDEXED BY entries_by_id CROSS JOIN indexed_keys k ON k.tenant = e.tenant AND k.key = e.key
		WHERE e.tenant = ? AND e.id > ? AND e.id < ? ORDER BY e.id LIMIT ?`
	countIndexed = `SELECT count(k.key), count(*), max(e.id) FROM (SELECT tenant, key, id FROM entries INDEXED BY entries_by_id
		WHERE tenant = ? AND id > ? AND id < ? ORDER BY id LIMIT ?) e LEFT JOIN indexed_keys k ON k.tenant = e.tenant AND k.key = e.key`
)

// countedAtOnce is how many entries are counted in one snapshot. A snapshot that lasts for long keeps the write-ahead
// log from being truncated.
const countedAtOnce = 100_000

// IDs implements search.IDLister.
func (s *Entries) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	return s.db.ids(ctx, listStoredIDs, tenant, audit.Time{From: from, To: to}, after, limit)
}

// IDs implements search.IDLister.
func (x *Index) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	return x.db.ids(ctx, listIndexedIDs, tenant, audit.Time{From: from, To: to}, after, limit)
}

// Count implements search.IDLister.
func (s *Entries) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error) {
	return s.db.countIDs(ctx, countStored, tenant, audit.Time{From: from, To: to}, countedAtOnce)
}

// CountRecords implements jobs.Counter.
func (s *Entries) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.Count(ctx, tenant, time.Time{}, time.Time{})
}

// Count implements search.IDLister.
func (x *Index) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error) {
	return x.db.countIDs(ctx, countIndexed, tenant, audit.Time{From: from, To: to}, countedAtOnce)
}

// CountRecords implements jobs.Counter.
func (x *Index) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return x.Count(ctx, tenant, time.Time{}, time.Time{})
}

// countIDs counts entries, so many in one snapshot.
func (db *DB) countIDs(ctx context.Context, query string, tenant audit.TenantID, t audit.Time, atOnce int64) (n int64, err error) {
	number, known, err := db.number(ctx, tenant)
	above, below := idBounds(t)
	for next := above[:]; err == nil && known && next != nil; {
		var counted int64
		counted, next, err = db.countFrom(ctx, query, tenant, number, next, below[:], atOnce)
		n += counted
	}
	if err != nil {
		return 0, fmt.Errorf("count entries of %s: %w", tenant, err)
	}
	return n, nil
}

// countFrom counts the first entries between two ids, in one snapshot. It returns the last one's id, nil if there are
// no others.
func (db *DB) countFrom(ctx context.Context, query string, tenant audit.TenantID, number int64, above, below []byte, atOnce int64) (n int64, last []byte, err error) {
	var seen int64
	err = db.long.snapshot(ctx, tenant, func(c *conn) error {
		return c.row(ctx, query, []any{number, above, below, atOnce}, []any{&n, &seen, &last})
	})
	if seen < atOnce {
		last = nil
	}
	return n, last, err
}

func (db *DB) ids(ctx context.Context, query string, tenant audit.TenantID, t audit.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	number, known, err := db.number(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
	}
	if !known {
		return nil, nil // a tenant without a number has no entries
	}
	above, below := idBounds(t)
	above = laterID(above, after)
	var ids []audit.EntryID
	var id sql.RawBytes
	err = db.long.snapshot(ctx, tenant, func(c *conn) error {
		return c.each(ctx, query, []any{number, above[:], below[:], min(limit, search.MaxIDs)}, []any{&id}, func() (bool, error) {
			ids = append(ids, audit.EntryID(id))
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
	}
	return ids, nil
}

// idBounds returns bounds between which all ids of a time lie, bounds excluded.
func idBounds(t audit.Time) (above, below audit.EntryID) {
	if !t.From.IsZero() {
		above = beforeIDs(t.From)
	}
	if t.To.IsZero() {
		return above, audit.EntryID(bytes.Repeat([]byte{0xff}, len(below)))
	}
	return above, beforeIDs(t.To)
}

// beforeIDs returns a bound that is less than each id from the time on, rounded up
// to milliseconds, and greater than each earlier id. No entry has it as its id.
func beforeIDs(t time.Time) (bound audit.EntryID) {
	millis := uint64(max(0, t.Add(time.Millisecond-1).UnixMilli()))
	binary.BigEndian.PutUint64(bound[:], min(millis, 1<<48-1)<<16)
	return bound
}

func laterID(a, b audit.EntryID) audit.EntryID {
	if bytes.Compare(a[:], b[:]) < 0 {
		return b
	}
	return a
}
