package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// Streams stores the live stream of each tenant that has subscribers. It implements
// stream.Streams and jobs.CountedPurger. Its clock is the machine's, which can be set back.
type Streams struct{ db *DB }

// Streams returns the streams in this file.
func (db *DB) Streams() *Streams { return &Streams{db} }

// Open implements stream.Streams. It removes the streams that are not open any more.
func (s *Streams) Open(ctx context.Context, tenant audit.TenantID, until time.Time) error {
	number, err := s.db.ensureNumber(ctx, tenant)
	if err == nil {
		err = s.db.write(ctx, func(b *batch) error {
			if _, err := b.exec(`DELETE FROM streams WHERE until <= ?`, s.db.now().UnixMilli()); err != nil {
				return err
			}
			_, err := b.exec(`INSERT INTO streams (tenant, until, changes, leased, watched, progress, rest_changes, rest_place)
				VALUES (?, ?, 1, 0, 0, '{}', 0, 0)
				ON CONFLICT DO UPDATE SET until = max(until, excluded.until), changes = changes + 1`, number, until.UnixMilli())
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("open the stream of %s: %w", tenant, err)
	}
	return nil
}

// Stream implements stream.Streams.
func (s *Streams) Stream(ctx context.Context, tenant audit.TenantID) (state stream.State, err error) {
	number, known, err := s.db.number(ctx, tenant)
	if err == nil && !known {
		err = audit.ErrNotFound
	}
	if err == nil {
		err = s.db.snapshot(ctx, func(c *conn) error {
			state, err = c.stream(ctx, number, s.db.now())
			return err
		})
	}
	if err != nil {
		return stream.State{}, fmt.Errorf("stream of %s: %w", tenant, err)
	}
	return state, nil
}

// stream reads a stream. It returns audit.ErrNotFound if it is not open.
func (c *conn) stream(ctx context.Context, tenant int64, now time.Time) (state stream.State, err error) {
	var leased, watched int64
	var progress []byte
	err = c.row(ctx, `SELECT changes, leased, watched, progress, rest_changes, rest_place FROM streams WHERE tenant = ? AND until > ?`,
		[]any{tenant, now.UnixMilli()},
		[]any{&state.Changes, &leased, &watched, &progress, &state.Rest.Changes, &state.Rest.Place})
	if err != nil {
		return state, notFound(err)
	}
	state.LeasedUntil, state.WatchedUntil = stream.Plausible(timeOrZero(leased), now), stream.Plausible(timeOrZero(watched), now)
	err = json.Unmarshal(progress, &state.Progress)
	for id, p := range state.Progress {
		p.RetryAt = stream.Plausible(p.RetryAt, now)
		state.Progress[id] = p
	}
	return state, err
}

// Acquire implements stream.Streams.
func (s *Streams) Acquire(ctx context.Context, tenant audit.TenantID, holder string, leased, watched time.Time) (state stream.State, acquired bool, err error) {
	number, known, err := s.db.number(ctx, tenant)
	if err == nil && !known {
		err = audit.ErrNotFound
	}
	if err == nil {
		err = s.db.write(ctx, func(b *batch) error {
			now := s.db.now()
			changed, err := b.exec(`UPDATE streams SET holder = ?1, leased = ?2, watched = ?3
				WHERE tenant = ?4 AND until > ?5 AND (leased <= ?5 OR leased > ?6 OR holder = ?1)`,
				holder, leased.UnixMilli(), watched.UnixMilli(), number, now.UnixMilli(), now.Add(stream.MaxAhead).UnixMilli())
			if err != nil {
				return err
			}
			acquired = changed == 1
			state, err = b.stream(context.Background(), number, now)
			return err
		})
	}
	if err != nil {
		return stream.State{}, false, fmt.Errorf("acquire the stream of %s: %w", tenant, err)
	}
	return state, acquired, nil
}

// Save implements stream.Streams. A lease that has expired is still the holder's, unless
// another acquired it.
func (s *Streams) Save(ctx context.Context, tenant audit.TenantID, holder string, progress map[string]stream.Progress, leased, watched time.Time) error {
	text, err := json.Marshal(progress)
	if err == nil {
		err = s.change(ctx, tenant, `UPDATE streams SET progress = ?3, leased = ?4, watched = ?5 WHERE tenant = ?1 AND holder = ?2`,
			holder, string(text), leased.UnixMilli(), watched.UnixMilli())
	}
	if err != nil {
		return fmt.Errorf("save the progress of the stream of %s: %w", tenant, err)
	}
	return nil
}

// change changes the row of a stream. It returns audit.ErrPrecondition if the query, whose
// first parameter is the tenant's number, changes none.
func (s *Streams) change(ctx context.Context, tenant audit.TenantID, query string, args ...any) error {
	number, known, err := s.db.number(ctx, tenant)
	switch {
	case err != nil:
		return err
	case !known:
		return audit.ErrPrecondition
	}
	return s.db.changeOne(ctx, audit.ErrPrecondition, query, append([]any{number}, args...)...)
}

// Release implements stream.Streams.
func (s *Streams) Release(ctx context.Context, tenant audit.TenantID, holder string, rest stream.Rest) error {
	err := s.change(ctx, tenant, `UPDATE streams SET holder = NULL, leased = 0, rest_changes = ?3, rest_place = ?4 WHERE tenant = ?1 AND holder = ?2`,
		holder, rest.Changes, rest.Place)
	if err != nil && !errors.Is(err, audit.ErrPrecondition) {
		return fmt.Errorf("release the stream of %s: %w", tenant, err)
	}
	return nil
}

// Close implements stream.Streams.
func (s *Streams) Close(ctx context.Context, tenant audit.TenantID, holder string, changes int64) error {
	err := s.change(ctx, tenant, `DELETE FROM streams WHERE tenant = ?1 AND holder = ?2 AND changes = ?3`, holder, changes)
	if err != nil && !errors.Is(err, audit.ErrPrecondition) {
		return fmt.Errorf("close the stream of %s: %w", tenant, err)
	}
	return nil
}

// Idle implements stream.Streams.
func (s *Streams) Idle(ctx context.Context, tenants []audit.TenantID) (idle []audit.TenantID, err error) {
	numbers := make(map[audit.TenantID]int64, len(tenants))
	for _, tenant := range tenants {
		number, known, err := s.db.number(ctx, tenant)
		if err != nil {
			return nil, fmt.Errorf("look for idle streams: %w", err)
		}
		if known {
			numbers[tenant] = number
		}
	}
	now := s.db.now()
	err = s.db.snapshot(ctx, func(c *conn) error {
		for tenant, number := range numbers {
			n, err := c.int64(ctx, `SELECT count(*) FROM streams WHERE tenant = ?1 AND until > ?2 AND (leased <= ?2 OR leased > ?3)`,
				number, now.UnixMilli(), now.Add(stream.MaxAhead).UnixMilli())
			if err != nil {
				return err
			}
			if n > 0 {
				idle = append(idle, tenant)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for idle streams: %w", err)
	}
	return idle, nil
}

// Purge implements jobs.Purger.
func (s *Streams) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purgeTenant(ctx, tenant, limit, purgeRows(`DELETE FROM streams WHERE tenant = ?1 AND ?2 > 0`))
	if err != nil {
		return 0, fmt.Errorf("purge the stream of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Streams) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countNumbered(ctx, "stream", tenant, `SELECT count(*) FROM streams WHERE tenant = ?`)
}
