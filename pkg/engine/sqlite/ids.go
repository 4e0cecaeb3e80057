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
	countStored    = `SELECT count(*) FROM entries INDEXED BY entries_by_id WHERE tenant = ? AND id > ? AND id < ?`
	listIndexedIDs = `SELECT e.id FROM entries e INDEXED BY entries_by_id CROSS JOIN indexed_keys k ON k.tenant = e.tenant AND k.key = e.key
		WHERE e.tenant = ? AND e.id > ? AND e.id < ? ORDER BY e.id LIMIT ?`
	countIndexed = `SELECT count(*) FROM entries e INDEXED BY entries_by_id CROSS JOIN indexed_keys k ON k.tenant = e.tenant AND k.key = e.key
		WHERE e.tenant = ? AND e.id > ? AND e.id < ?`
)

// IDs implements search.IDLister.
func (s *Entries) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	return s.db.ids(ctx, listStoredIDs, tenant, audit.Time{From: from, To: to}, after, limit)
}

// IDs implements search.IDLister.
func (x *Index) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	return x.db.ids(ctx, listIndexedIDs, tenant, audit.Time{From: from, To: to}, after, limit)
}

// Count implements search.IDLister and jobs.Counter.
func (s *Entries) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error) {
	return s.db.countIDs(ctx, countStored, tenant, audit.Time{From: from, To: to})
}

// Count implements search.IDLister.
func (x *Index) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error) {
	return x.db.countIDs(ctx, countIndexed, tenant, audit.Time{From: from, To: to})
}

func (db *DB) countIDs(ctx context.Context, query string, tenant audit.TenantID, t audit.Time) (n int64, err error) {
	number, known, err := db.number(ctx, tenant)
	if err == nil && known {
		above, below := idBounds(t)
		err = db.snapshot(ctx, func(c *conn) error {
			n, err = c.int64(ctx, query, number, above[:], below[:])
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("count entries of %s: %w", tenant, err)
	}
	return n, nil
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
	err = db.snapshot(ctx, func(c *conn) error {
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
