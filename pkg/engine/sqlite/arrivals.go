package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// Arrivals stores the arrival log of each tenant. It implements arrival.Log and jobs.CountedPurger.
type Arrivals struct{ db *DB }

// Arrivals returns the arrival logs in this file.
func (db *DB) Arrivals() *Arrivals { return &Arrivals{db} }

const idBytes = len(audit.EntryID{}) // a message id has as many

// Head implements arrival.Log.
func (a *Arrivals) Head(ctx context.Context, tenant audit.TenantID) (head arrival.Head, err error) {
	number, known, err := a.db.number(ctx, tenant)
	if err == nil && known {
		err = a.db.short.snapshot(ctx, tenant, func(c *conn) error {
			head, err = c.arrivalHead(ctx, number)
			return err
		})
	}
	if err != nil {
		return arrival.Head{}, fmt.Errorf("head of the arrival log of %s: %w", tenant, err)
	}
	return head, nil
}

func (c *conn) arrivalHead(ctx context.Context, tenant int64) (arrival.Head, error) {
	var first, size, repaired int64
	err := c.row(ctx, `SELECT first, length(ids), repaired FROM arrival_segments WHERE tenant = ? ORDER BY first DESC LIMIT 1`,
		[]any{tenant}, []any{&first, &size, &repaired})
	if errors.Is(err, sql.ErrNoRows) {
		return arrival.Head{}, nil
	}
	return arrival.Head{Last: first + size/int64(idBytes) - 1, RepairedAt: timeOrZero(repaired)}, err
}

// timeOrZero returns the time of Unix milliseconds, the zero time for 0.
func timeOrZero(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}

// millisOrZero is the inverse of timeOrZero.
func millisOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Append implements arrival.Log.
func (a *Arrivals) Append(ctx context.Context, tenant audit.TenantID, s arrival.Segment) error {
	number, err := a.db.ensureNumber(ctx, tenant)
	if err == nil {
		err = a.db.write(ctx, func(b *batch) error {
			head, err := b.arrivalHead(ctx, number)
			switch {
			case err != nil:
				return err
			case s.First != head.Last+1:
				return unchanged(audit.ErrConflict)
			}
			if err = b.appendArrivals(number, &s); errors.Is(err, audit.ErrConflict) {
				return unchanged(err)
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("append to the arrival log of %s: %w", tenant, err)
	}
	return nil
}

// appendArrivals appends a segment at the end of a log. It returns audit.ErrConflict, and writes
// nothing, if the log has one of the messages.
func (b *batch) appendArrivals(tenant int64, s *arrival.Segment) error {
	for i := range s.Messages {
		inserted, err := b.exec(`INSERT INTO arrival_messages (tenant, message) VALUES (?, ?) ON CONFLICT DO NOTHING`, tenant, s.Messages[i][:])
		switch {
		case err != nil:
			return err
		case inserted == 0:
			if err := b.removeMessages(tenant, s.Messages[:i]); err != nil {
				return err
			}
			return audit.ErrConflict
		}
	}
	for _, d := range s.Days() {
		if _, err := b.exec(`INSERT INTO arrival_days (tenant, day, first, count) VALUES (?, ?, ?, ?)`, tenant, d.Day, s.First, d.Count); err != nil {
			return err
		}
	}
	_, err := b.exec(`INSERT INTO arrival_segments (tenant, first, written, messages, ids, repair, repaired) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		tenant, s.First, s.WrittenAt.UnixMilli(), packMessageIDs(s.Messages), envelope.PackIDs(s.IDs), s.Repair, millisOrZero(s.RepairedAt))
	if err == nil {
		b.writer.noteHead(tenant, arrival.Head{Last: s.Last(), RepairedAt: s.RepairedAt})
	}
	return err
}

func (b *batch) removeMessages(tenant int64, messages []audit.MessageID) error {
	for i := range messages {
		if _, err := b.exec(`DELETE FROM arrival_messages WHERE tenant = ? AND message = ?`, tenant, messages[i][:]); err != nil {
			return err
		}
	}
	return nil
}

func packMessageIDs(ids []audit.MessageID) []byte {
	packed := make([]byte, 0, len(ids)*idBytes)
	for _, id := range ids {
		packed = append(packed, id[:]...)
	}
	return packed
}

// Placed implements arrival.Log.
func (a *Arrivals) Placed(ctx context.Context, tenant audit.TenantID, messages []audit.MessageID) (placed []audit.MessageID, err error) {
	number, known, err := a.db.number(ctx, tenant)
	if err == nil && known {
		err = a.db.short.snapshot(ctx, tenant, func(c *conn) error {
			placed, err = c.placedMessages(ctx, number, messages)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("look for messages in the arrival log of %s: %w", tenant, err)
	}
	return placed, nil
}

func (c *conn) placedMessages(ctx context.Context, tenant int64, messages []audit.MessageID) (placed []audit.MessageID, err error) {
	for i := range messages {
		found, err := c.int64(ctx, `SELECT count(*) FROM arrival_messages WHERE tenant = ? AND message = ?`, tenant, messages[i][:])
		if err != nil {
			return nil, err
		}
		if found > 0 {
			placed = append(placed, messages[i])
		}
	}
	return placed, nil
}

// Read implements arrival.Log.
func (a *Arrivals) Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) (segments []arrival.Segment, err error) {
	number, known, err := a.db.number(ctx, tenant)
	if err == nil && known {
		err = a.db.short.snapshot(ctx, tenant, func(c *conn) error {
			segments, err = c.arrivalSegments(ctx, number, after, limit)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the arrival log of %s after %d: %w", tenant, after, err)
	}
	return segments, nil
}

func (c *conn) arrivalSegments(ctx context.Context, tenant, after int64, limit int) (segments []arrival.Segment, err error) {
	var s arrival.Segment
	var written, repaired int64
	var ids []byte
	// The segment that has the place next to after is the last one that does not begin later.
	err = c.each(ctx, `SELECT first, written, repair, repaired, ids FROM arrival_segments WHERE tenant = ?1 AND first >= coalesce(
		(SELECT max(first) FROM arrival_segments WHERE tenant = ?1 AND first <= ?2), 0)
		AND first + length(ids) / ?4 > ?2 ORDER BY first LIMIT ?3`,
		[]any{tenant, after + 1, limit, idBytes}, []any{&s.First, &written, &s.Repair, &repaired, &ids}, func() (bool, error) {
			s.WrittenAt, s.RepairedAt = time.UnixMilli(written).UTC(), timeOrZero(repaired)
			if s.IDs, err = envelope.UnpackIDs(ids); err != nil {
				return false, fmt.Errorf("segment %d: %w", s.First, err)
			}
			segments = append(segments, s)
			return true, nil
		})
	return segments, err
}

// PlacesOn implements arrival.Log.
func (a *Arrivals) PlacesOn(ctx context.Context, tenant audit.TenantID, day time.Time) (n int64, err error) {
	number, known, err := a.db.number(ctx, tenant)
	if err == nil && known {
		err = a.db.long.snapshot(ctx, tenant, func(c *conn) error {
			n, err = c.int64(ctx, `SELECT coalesce(sum(count), 0) FROM arrival_days WHERE tenant = ? AND day = ?`, number, arrival.DayNumber(day))
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("count the places of %s: %w", tenant, err)
	}
	return n, nil
}

// VisitDay implements arrival.Log.
func (a *Arrivals) VisitDay(ctx context.Context, tenant audit.TenantID, day time.Time, visit func(ids []audit.EntryID)) error {
	number, known, err := a.db.number(ctx, tenant)
	if err == nil && known {
		err = a.db.long.snapshot(ctx, tenant, func(c *conn) error {
			return c.visitSegments(ctx, number, arrival.DayNumber(day), `SELECT s.ids FROM arrival_days d CROSS JOIN arrival_segments s
				ON s.tenant = d.tenant AND s.first = d.first WHERE d.tenant = ? AND d.day = ?`, visit)
		})
	}
	if err != nil {
		return fmt.Errorf("read the places of %s on %s: %w", tenant, day.Format(time.DateOnly), err)
	}
	return nil
}

// visitSegments calls visit with the ids of the tenant's segments that the query selects for a day.
func (c *conn) visitSegments(ctx context.Context, tenant, day int64, query string, visit func(ids []audit.EntryID)) error {
	var packed []byte
	return c.each(ctx, query, []any{tenant, day}, []any{&packed}, func() (bool, error) {
		ids, err := envelope.UnpackIDs(packed)
		if err == nil {
			visit(ids)
		}
		return true, err
	})
}

// Repaired implements arrival.Log.
func (a *Arrivals) Repaired(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (repaired []audit.EntryID, err error) {
	number, known, err := a.db.number(ctx, tenant)
	if err == nil && known {
		err = a.db.long.snapshot(ctx, tenant, func(c *conn) error {
			repaired, err = c.repairedIDs(ctx, number, ids)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("look for repaired places of %s: %w", tenant, err)
	}
	return repaired, nil
}

func (c *conn) repairedIDs(ctx context.Context, tenant int64, ids []audit.EntryID) (repaired []audit.EntryID, err error) {
	asked := make(map[audit.EntryID]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	for _, day := range (&arrival.Segment{IDs: ids}).Days() {
		err := c.visitSegments(ctx, tenant, day.Day, `SELECT s.ids FROM arrival_days d CROSS JOIN arrival_segments s
			ON s.tenant = d.tenant AND s.first = d.first WHERE d.tenant = ? AND d.day = ? AND s.repair`, func(ids []audit.EntryID) {
			for _, id := range ids {
				if asked[id] {
					repaired = append(repaired, id)
					delete(asked, id) // a segment is visited once for each of its days
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return repaired, nil
}

// Prune implements arrival.Log.
func (a *Arrivals) Prune(ctx context.Context, tenant audit.TenantID, before time.Time, limit int) (n int, err error) {
	number, known, err := a.db.number(ctx, tenant)
	if err == nil && known {
		var old []int64
		if old, err = a.oldSegments(ctx, number, before, limit); err == nil && len(old) > 0 {
			n = len(old)
			err = a.db.write(ctx, func(b *batch) error { return b.removeArrivals(number, old) })
		}
	}
	if err != nil {
		return 0, fmt.Errorf("prune the arrival log of %s: %w", tenant, err)
	}
	return n, nil
}

// oldSegments returns the first places of the oldest segments if they were written before the
// time. The last segment is not among them.
func (a *Arrivals) oldSegments(ctx context.Context, tenant int64, before time.Time, limit int) (old []int64, err error) {
	var first, written, last int64
	err = a.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, `SELECT first, written, (SELECT max(first) FROM arrival_segments WHERE tenant = ?1)
			FROM arrival_segments WHERE tenant = ?1 ORDER BY first LIMIT ?2`,
			[]any{tenant, limit}, []any{&first, &written, &last}, func() (bool, error) {
				if written >= before.UnixMilli() || first == last {
					return false, nil
				}
				old = append(old, first)
				return true, nil
			})
	})
	return old, err
}

func (b *batch) removeArrivals(tenant int64, segments []int64) error {
	for _, first := range segments {
		var messages, packed []byte
		err := b.row(context.Background(), `SELECT messages, ids FROM arrival_segments WHERE tenant = ? AND first = ?`, []any{tenant, first}, []any{&messages, &packed})
		if errors.Is(err, sql.ErrNoRows) { // another call pruned it
			continue
		}
		if err != nil {
			return err
		}
		for ; len(messages) >= idBytes; messages = messages[idBytes:] {
			if _, err := b.exec(`DELETE FROM arrival_messages WHERE tenant = ? AND message = ?`, tenant, messages[:idBytes]); err != nil {
				return err
			}
		}
		ids, err := envelope.UnpackIDs(packed)
		if err != nil {
			return fmt.Errorf("segment %d: %w", first, err)
		}
		for _, d := range (&arrival.Segment{IDs: ids}).Days() {
			if _, err := b.exec(`DELETE FROM arrival_days WHERE tenant = ? AND day = ? AND first = ?`, tenant, d.Day, first); err != nil {
				return err
			}
		}
		if _, err := b.exec(`DELETE FROM arrival_segments WHERE tenant = ? AND first = ?`, tenant, first); err != nil {
			return err
		}
	}
	return nil
}

// Purge implements jobs.Purger. Its records are segments, their days and the ids of messages.
func (a *Arrivals) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	remove := purgeRows(
		`DELETE FROM arrival_messages WHERE tenant = ?1 AND message IN (SELECT message FROM arrival_messages WHERE tenant = ?1 LIMIT ?2)`,
		`DELETE FROM arrival_days WHERE tenant = ?1 AND (day, first) IN (SELECT day, first FROM arrival_days WHERE tenant = ?1 LIMIT ?2)`,
		`DELETE FROM arrival_segments WHERE rowid IN (SELECT rowid FROM arrival_segments WHERE tenant = ?1 LIMIT ?2)`)
	n, err := a.db.purgeTenant(ctx, tenant, limit, func(b *batch, tenant int64, limit int) (int, error) {
		delete(b.writer.recall.heads, tenant)
		return remove(b, tenant, limit)
	})
	if err != nil {
		return 0, fmt.Errorf("purge the arrival log of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (a *Arrivals) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return a.db.countNumbered(ctx, "arrival log", tenant, `SELECT
		(SELECT count(*) FROM arrival_messages WHERE tenant = ?1) + (SELECT count(*) FROM arrival_days WHERE tenant = ?1) + (SELECT count(*) FROM arrival_segments WHERE tenant = ?1)`)
}
