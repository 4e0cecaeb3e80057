package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// The queries of Retained. An entry without a row of deletable is not marked. listMarked passes over it in the index of the
// ids, without reading the entry.
const (
	listRetained = `SELECT ` + entryColumns + `, d.at FROM entries e INDEXED BY entries_by_id` + joinDocs +
		`LEFT JOIN deletable d ON d.key = e.key WHERE e.tenant = ? AND e.id > ? AND e.id < ? ORDER BY e.id LIMIT ?`
	listMarked = `SELECT ` + entryColumns + `, d.at FROM entries e INDEXED BY entries_by_id CROSS JOIN deletable d ON d.key = e.key` + joinDocs +
		`WHERE e.tenant = ? AND e.id > ? AND e.id < ? ORDER BY e.id LIMIT ?`
)

// Retained implements retention.Store.
func (s *Entries) Retained(ctx context.Context, tenant audit.TenantID, of retention.Selection, limit int) (found []retention.Entry, err error) {
	number, known, err := s.db.number(ctx, tenant)
	if err == nil && !known {
		return nil, nil // a tenant without a number has no entries
	}
	if err == nil {
		err = s.db.long.snapshot(ctx, tenant, func(c *conn) error {
			found, err = c.retained(ctx, number, tenant, of, min(limit, retention.MaxEntries))
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list entries of %s to retain: %w", tenant, err)
	}
	return found, nil
}

func (c *conn) retained(ctx context.Context, number int64, tenant audit.TenantID, of retention.Selection, limit int) (found []retention.Entry, err error) {
	query := listRetained
	if of.Marked {
		query = listMarked
	}
	above, below := idBounds(audit.Time{From: of.From, To: of.To})
	above = laterID(above, of.After)
	r := docReader{conn: c, tenant: tenant}
	var at sql.NullInt64
	err = c.each(ctx, query, []any{number, above[:], below[:], limit}, append(r.columns(), &at), func() (bool, error) {
		e, err := r.entry(ctx)
		if err != nil {
			return false, err
		}
		kept := retention.Entry{Entry: audit.Entry{
			ID: e.ID, Timestamp: e.Timestamp, UserID: e.UserID, Action: e.Action, Severity: e.Severity, SubmittedBy: e.SubmittedBy,
			ReceivedAt: e.ReceivedAt, RestoredUntil: e.RestoredUntil,
		}}
		if of.Encrypted {
			kept.Encrypted = e.Encrypted
		}
		if at.Valid {
			kept.DeletableAt = time.UnixMilli(at.Int64).UTC()
		}
		found = append(found, kept)
		return true, nil
	})
	return found, err
}

// Mark implements retention.Store.
func (s *Entries) Mark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, after time.Duration) error {
	err := s.db.eachID(ctx, tenant, ids, func(b *batch, tenant int64, id audit.EntryID) error {
		_, err := b.exec(`INSERT INTO deletable SELECT key, ? FROM entries WHERE tenant = ? AND id = ? ON CONFLICT DO NOTHING`,
			s.db.now().Add(after).UnixMilli(), tenant, id[:])
		return err
	})
	if err != nil {
		return fmt.Errorf("mark %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// MarkRead implements cleanup.Marker.
func (s *Entries) MarkRead(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
	number, known, err := s.db.number(ctx, tenant)
	if err == nil && known { // a tenant without a number has no entries
		err = s.db.writeInBackground(ctx, workChange, len(entries), func(b *batch, from, to int) error {
			return b.markRead(number, entries[from:to], s.db.now())
		})
	}
	if err != nil {
		return fmt.Errorf("mark %d entries of %s: %w", len(entries), tenant, err)
	}
	return nil
}

// markRead marks the entries, but for those under whose id there is another one.
func (b *batch) markRead(tenant int64, entries []audit.Entry, at time.Time) error {
	r := docReader{conn: b.conn}
	for i := range entries {
		stored, err := r.byID(context.Background(), tenant, entries[i].ID)
		if errors.Is(err, audit.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !stored.ReceivedAt.Equal(entries[i].ReceivedAt) || !stored.RestoredUntil.Equal(entries[i].RestoredUntil) {
			continue
		}
		if _, err := b.exec(`INSERT INTO deletable VALUES (?, ?) ON CONFLICT DO NOTHING`, r.key, at.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// Unmark implements retention.Store.
func (s *Entries) Unmark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	err := s.db.eachID(ctx, tenant, ids, func(b *batch, tenant int64, id audit.EntryID) error {
		_, err := b.exec(`DELETE FROM deletable WHERE key = (SELECT key FROM entries WHERE tenant = ? AND id = ?)`, tenant, id[:])
		return err
	})
	if err != nil {
		return fmt.Errorf("unmark %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// KeepRestored implements restore.Store.
func (s *Entries) KeepRestored(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, until time.Time) error {
	err := s.changeDocs(ctx, tenant, ids, func(b *batch, key int64, e *audit.Entry) (bool, error) {
		if !e.RestoredUntil.Before(until) {
			return false, nil
		}
		e.RestoredUntil = until
		_, err := b.exec(`DELETE FROM deletable WHERE key = ?`, key)
		return true, err
	})
	if err != nil {
		return fmt.Errorf("keep %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// EndRestore implements retention.Store.
func (s *Entries) EndRestore(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	err := s.changeDocs(ctx, tenant, ids, func(b *batch, key int64, e *audit.Entry) (bool, error) {
		if e.RestoredUntil.IsZero() {
			return false, nil
		}
		return true, b.endRestore(key, e)
	})
	if err != nil {
		return fmt.Errorf("end the restore of %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// endRestore changes an entry for EndRestore, but not its document.
func (b *batch) endRestore(key int64, e *audit.Entry) error {
	e.RestoredUntil = time.Time{}
	_, err := b.exec(`DELETE FROM deletable WHERE key = ?`, key)
	return err
}

// eachID writes something for each entry, in the background.
func (db *DB) eachID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, write func(b *batch, tenant int64, id audit.EntryID) error) error {
	number, known, err := db.number(ctx, tenant)
	if err != nil || !known {
		return err // a tenant without a number has no entries
	}
	return db.writeInBackground(ctx, workChange, len(ids), func(b *batch, from, to int) error {
		for _, id := range ids[from:to] {
			if err := write(b, number, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveDue implements retention.Store. It removes the entries from the index of the same file
// too, which has only what is stored.
func (s *Entries) RemoveDue(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (int, error) {
	n, err := s.db.removeByID(ctx, tenant, ids, func(b *batch, tenant int64, id audit.EntryID) (e docPlace, found bool, err error) {
		found, err = b.found(`SELECT e.key, e.block, e.place FROM entries e JOIN deletable d ON d.key = e.key WHERE e.tenant = ? AND e.id = ? AND d.at <= ?`,
			[]any{tenant, id[:], s.db.now().UnixMilli()}, []any{&e.key, &e.block, &e.place})
		return e, found, err
	}, (*batch).removeIndexedEntries)
	if err != nil {
		return 0, fmt.Errorf("remove %d entries of %s: %w", len(ids), tenant, err)
	}
	return n, nil
}

// Remove implements retention.Index. FreeSpace erases their tokens.
func (x *Index) Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	_, err := x.db.removeByID(ctx, tenant, ids, func(b *batch, tenant int64, id audit.EntryID) (e docPlace, found bool, err error) {
		found, err = b.found(`SELECT key FROM entries WHERE tenant = ? AND id = ?`, []any{tenant, id[:]}, []any{&e.key})
		return e, found, err
	}, func(b *batch, tenant int64, entries []docPlace) error {
		indexed, err := b.indexed(tenant, entries)
		if err != nil {
			return err
		}
		return b.removeIndexed(tenant, indexed)
	})
	if err != nil {
		return fmt.Errorf("remove %d entries of %s from the index: %w", len(ids), tenant, err)
	}
	return nil
}

// removeByID removes something of the entries that look finds, in the background. It returns their
// number.
func (db *DB) removeByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID,
	look func(b *batch, tenant int64, id audit.EntryID) (e docPlace, found bool, err error),
	remove func(b *batch, tenant int64, entries []docPlace) error,
) (removed int, err error) {
	number, known, err := db.number(ctx, tenant)
	if err != nil || !known {
		return 0, err // a tenant without a number has no entries
	}
	parts := make([]int, len(ids)) // by their first id
	removedKeys := span{math.MaxInt64, math.MinInt64}
	err = db.writeInBackground(ctx, workRemove, len(ids), func(b *batch, from, to int) error {
		if err := b.flush(); err != nil { // what it packs has other places then
			return err
		}
		var entries []docPlace
		parts[from] = 0 // the operation may be run again
		seen := map[int64]bool{}
		for _, id := range ids[from:to] {
			e, found, err := look(b, number, id)
			if err != nil {
				return err
			}
			if found && !seen[e.key] {
				entries, seen[e.key] = append(entries, e), true
				removedKeys = span{min(removedKeys.first, e.key), max(removedKeys.last, e.key)}
			}
		}
		if parts[from] = len(entries); len(entries) == 0 {
			return nil
		}
		if err := remove(b, number, entries); err != nil {
			return err
		}
		return b.scrubSoon()
	})
	for _, n := range parts {
		removed += n
	}
	if err == nil && !removedKeys.empty() {
		// What is removed is removed. Blocks that stay small are counted as well, only more slowly, and the
		// next removal beside them joins them.
		_ = db.joinBlocks(ctx, number, removedKeys)
	}
	return removed, err
}

// indexed returns the keys of those entries that are indexed, in rising order.
func (b *batch) indexed(tenant int64, entries []docPlace) (keys []int64, err error) {
	for _, e := range entries {
		var key int64
		found, err := b.found(`SELECT key FROM indexed_keys WHERE tenant = ? AND key = ?`, []any{tenant, e.key}, []any{&key})
		if err != nil {
			return nil, err
		}
		if found {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// found is row for a query that need not have a row.
func (b *batch) found(query string, args, dest []any) (bool, error) {
	err := b.row(context.Background(), query, args, dest)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
