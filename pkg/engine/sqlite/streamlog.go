package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// expiredPerAppend is the number of expired segments, of any tenant, that each
// Append removes. It removes more than it adds, so that they do not accumulate.
const expiredPerAppend = 2

// StreamLog stores the order of each tenant's stream. It implements stream.Log
// and jobs.Purger.
type StreamLog struct{ db *DB }

// StreamLog returns the streams in this file.
func (db *DB) StreamLog() *StreamLog { return &StreamLog{db} }

// streamHead describes a tenant's stream.
type streamHead struct {
	number int64 // of the last segment
	opened int64 // the number at which the stream was last opened
	until  int64 // Unix milliseconds
}

func (h streamHead) open(now time.Time) bool { return h.until > now.UnixMilli() }

// streamHead returns the head of a tenant's stream. If there is none, it returns
// the zero head, which is not open.
func (c *conn) streamHead(ctx context.Context, tenant int64) (h streamHead, err error) {
	err = c.row(ctx, `SELECT number, opened, until FROM streams WHERE tenant = ?`, []any{tenant}, []any{&h.number, &h.opened, &h.until})
	if errors.Is(err, sql.ErrNoRows) {
		return streamHead{}, nil
	}
	return h, err
}

// head returns the head of the tenant's stream.
func (l *StreamLog) head(ctx context.Context, tenant audit.TenantID) (h streamHead, err error) {
	number, known, err := l.db.number(ctx, tenant)
	if err != nil || !known {
		return h, err
	}
	err = l.db.snapshot(ctx, func(c *conn) error {
		h, err = c.streamHead(ctx, number)
		return err
	})
	return h, err
}

// HasSubscribers implements stream.HasSubscribers.
func (l *StreamLog) HasSubscribers(ctx context.Context, tenant audit.TenantID) (bool, error) {
	h, err := l.head(ctx, tenant)
	if err != nil {
		return false, fmt.Errorf("look for subscribers of %s: %w", tenant, err)
	}
	return h.open(l.db.now()), nil
}

// Head implements stream.Log. It returns 0 if the stream was never open.
func (l *StreamLog) Head(ctx context.Context, tenant audit.TenantID) (int64, error) {
	h, err := l.head(ctx, tenant)
	if err != nil {
		return 0, fmt.Errorf("head of the stream of %s: %w", tenant, err)
	}
	return h.number, nil
}

// Open implements stream.Log.
func (l *StreamLog) Open(ctx context.Context, tenant audit.TenantID, until time.Time) (number int64, err error) {
	tenantNumber, err := l.db.ensureNumber(ctx, tenant)
	if err == nil {
		err = l.db.write(ctx, func(b *batch) error {
			number, err = b.openStream(tenantNumber, l.db.now(), until)
			return err
		})
	}
	if err != nil {
		return 0, fmt.Errorf("open the stream of %s: %w", tenant, err)
	}
	return number, nil
}

func (b *batch) openStream(tenant int64, now, until time.Time) (int64, error) {
	h, err := b.streamHead(context.Background(), tenant)
	if err != nil {
		return 0, err
	}
	if h.open(now) {
		_, err = b.exec(`UPDATE streams SET until = max(until, ?) WHERE tenant = ?`, until.UnixMilli(), tenant)
		return h.number, err
	}
	if h.number == 0 { // an unfinished purge has left segments
		h.number, err = b.int64(context.Background(), `SELECT coalesce(max(number), 0) FROM stream_segments WHERE tenant = ?`, tenant)
		if err != nil {
			return 0, err
		}
	}
	_, err = b.exec(`INSERT INTO streams (tenant, number, opened, until) VALUES (?1, ?2, ?2, ?3)
		ON CONFLICT (tenant) DO UPDATE SET number = excluded.number, opened = excluded.opened, until = excluded.until`,
		tenant, h.number+1, until.UnixMilli())
	return h.number + 1, err
}

// Append implements stream.Log.
func (l *StreamLog) Append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	number, known, err := l.db.number(ctx, tenant)
	if err == nil && known && len(ids) > 0 {
		err = l.db.write(ctx, func(b *batch) error { return b.appendSegment(number, l.db.now(), ids) })
	}
	if err != nil {
		return fmt.Errorf("append to the stream of %s: %w", tenant, err)
	}
	return nil
}

func (b *batch) appendSegment(tenant int64, now time.Time, ids []audit.EntryID) error {
	h, err := b.streamHead(context.Background(), tenant)
	if err != nil || !h.open(now) {
		return err
	}
	segment := h.number + 1
	var fresh []byte
	for _, id := range ids {
		changed, err := b.exec(`INSERT INTO stream_ids (tenant, id, segment) VALUES (?, ?, ?)
			ON CONFLICT (tenant, id) DO UPDATE SET segment = excluded.segment WHERE stream_ids.segment <= ?`, tenant, id[:], segment, h.opened)
		if err != nil {
			return err
		}
		if changed == 1 { // new, or last appended before the stream was opened
			fresh = append(fresh, id[:]...)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	_, err = b.exec(`INSERT INTO stream_segments (tenant, number, expires, ids) VALUES (?, ?, ?, ?)`,
		tenant, segment, now.Add(stream.Retention).UnixMilli(), fresh)
	if err != nil {
		return err
	}
	if _, err := b.exec(`UPDATE streams SET number = ? WHERE tenant = ?`, segment, tenant); err != nil {
		return err
	}
	return b.removeExpiredSegments(now)
}

// segmentRow is a segment as it is stored.
type segmentRow struct {
	row, tenant, number, expires int64
	ids                          []byte
}

// removeExpiredSegments removes the oldest expired segments with their ids.
func (b *batch) removeExpiredSegments(now time.Time) error {
	var expired []segmentRow
	var s segmentRow
	err := b.each(context.Background(), `SELECT rowid, tenant, number, ids FROM stream_segments WHERE expires <= ? ORDER BY expires LIMIT ?`,
		[]any{now.UnixMilli(), expiredPerAppend}, []any{&s.row, &s.tenant, &s.number, &s.ids}, func() (bool, error) {
			expired = append(expired, s)
			return true, nil
		})
	if err != nil {
		return err
	}
	for _, s := range expired {
		for _, id := range splitIDs(s.ids) {
			if _, err := b.exec(`DELETE FROM stream_ids WHERE tenant = ? AND id = ? AND segment = ?`, s.tenant, id[:], s.number); err != nil {
				return err
			}
		}
		if _, err := b.exec(`DELETE FROM stream_segments WHERE rowid = ?`, s.row); err != nil {
			return err
		}
	}
	return nil
}

func splitIDs(blob []byte) []audit.EntryID {
	var ids []audit.EntryID
	for len(blob) >= len(audit.EntryID{}) {
		ids = append(ids, audit.EntryID(blob))
		blob = blob[len(audit.EntryID{}):]
	}
	return ids
}

// Read implements stream.Log. It also reads segments of a closed stream.
func (l *StreamLog) Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]stream.Segment, error) {
	number, known, err := l.db.number(ctx, tenant)
	if err == nil && !known {
		err = stream.ErrExpired
	}
	var segments []stream.Segment
	if err == nil {
		err = l.db.snapshot(ctx, func(c *conn) error {
			segments, err = c.segments(ctx, number, after, limit, l.db.now())
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the stream of %s after %d: %w", tenant, after, err)
	}
	return segments, nil
}

func (c *conn) segments(ctx context.Context, tenant, after int64, limit int, now time.Time) ([]stream.Segment, error) {
	h, err := c.streamHead(ctx, tenant)
	switch {
	case err != nil:
		return nil, err
	case h.number == 0 || after < h.opened || after > h.number:
		return nil, stream.ErrExpired
	case after == h.number || limit < 1:
		return nil, nil
	}
	var segments []stream.Segment
	var s segmentRow
	err = c.each(ctx, `SELECT number, expires, ids FROM stream_segments WHERE tenant = ? AND number > ? ORDER BY number LIMIT ?`,
		[]any{tenant, after, limit}, []any{&s.number, &s.expires, &s.ids}, func() (bool, error) {
			if s.number != after+1+int64(len(segments)) || s.expires <= now.UnixMilli() {
				return false, nil // this segment or the one before has expired
			}
			segments = append(segments, stream.Segment{Number: s.number, IDs: splitIDs(s.ids)})
			return true, nil
		})
	if err == nil && len(segments) == 0 {
		err = stream.ErrExpired
	}
	return segments, err
}

// Purge implements jobs.Purger. Its records are ids of entries, segments, and the
// stream itself. It removes the stream itself first, which closes it. It removes the
// segments last, because openStream reads the last used number from them.
func (l *StreamLog) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := l.db.purgeTenant(ctx, tenant, limit, purgeRows(
		`DELETE FROM streams WHERE tenant = ?1 AND ?2 > 0`,
		`DELETE FROM stream_ids WHERE tenant = ?1 AND id IN (SELECT id FROM stream_ids WHERE tenant = ?1 LIMIT ?2)`,
		`DELETE FROM stream_segments WHERE rowid IN (SELECT rowid FROM stream_segments WHERE tenant = ?1 LIMIT ?2)`))
	if err != nil {
		return 0, fmt.Errorf("purge the stream of %s: %w", tenant, err)
	}
	return n, nil
}
