package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// expiredPerCreate is the number of expired connections that each Create removes.
// It removes more than it adds, so that they do not accumulate.
const expiredPerCreate = 10

// Connections stores the connections of clients. It implements stream.Connections
// and jobs.Purger.
type Connections struct{ db *DB }

// Connections returns the connections in this file.
func (db *DB) Connections() *Connections { return &Connections{db} }

// Create implements stream.Connections.
func (s *Connections) Create(ctx context.Context, c stream.Connection) error {
	if err := s.create(ctx, c); err != nil {
		return fmt.Errorf("create connection %s of %s: %w", c.ID, c.Tenant, err)
	}
	return nil
}

func (s *Connections) create(ctx context.Context, c stream.Connection) error {
	subscription, err := subscriptionOrNull(c.Subscription)
	if err != nil {
		return err
	}
	c.Subscription = nil // has its own column
	c.ConnectedAt, c.ExpiresAt = millisecond(c.ConnectedAt), millisecond(c.ExpiresAt)
	doc, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return s.db.write(ctx, func(b *batch) error {
		changed, err := b.exec(`INSERT INTO connections (id, tenant, expires, subscription, lease, asked, doc) VALUES (?, ?, ?, ?, 0, 0, ?)
			ON CONFLICT DO NOTHING`, c.ID, string(c.Tenant), c.ExpiresAt.UnixMilli(), subscription, string(doc))
		switch {
		case err != nil:
			return err
		case changed == 0:
			return unchanged(audit.ErrConflict)
		}
		_, err = b.exec(`DELETE FROM connections WHERE id IN (SELECT id FROM connections WHERE expires <= ? ORDER BY expires LIMIT ?)`,
			s.db.now().UnixMilli(), expiredPerCreate)
		return err
	})
}

// millisecond returns a time with the precision of the table.
func millisecond(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// subscriptionOrNull returns the column of a subscription. It is NULL for nil.
func subscriptionOrNull(s *stream.Subscription) (sql.NullString, error) {
	if s == nil {
		return sql.NullString{}, nil
	}
	text, err := json.Marshal(s)
	return sql.NullString{String: string(text), Valid: true}, err
}

// connection reads a connection. It returns sql.ErrNoRows if there is none.
func (c *conn) connection(ctx context.Context, id string) (connection stream.Connection, err error) {
	var doc, subscription []byte
	err = c.row(ctx, `SELECT doc, subscription FROM connections WHERE id = ?`, []any{id}, []any{&doc, &subscription})
	if err == nil {
		err = json.Unmarshal(doc, &connection)
	}
	if err == nil && subscription != nil {
		err = json.Unmarshal(subscription, &connection.Subscription)
	}
	return connection, err
}

// Connection implements stream.Connections.
func (s *Connections) Connection(ctx context.Context, id string) (connection stream.Connection, err error) {
	err = s.db.snapshot(ctx, func(c *conn) error {
		connection, err = c.connection(ctx, id)
		return err
	})
	if err != nil {
		return stream.Connection{}, fmt.Errorf("connection %s: %w", id, notFound(err))
	}
	return connection, nil
}

// Subscribed implements stream.Connections.
func (s *Connections) Subscribed(ctx context.Context, tenant audit.TenantID) ([]string, error) {
	var ids []string
	var id string
	err := s.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, `SELECT id FROM connections WHERE tenant = ? AND (subscription IS NOT NULL) = 1`,
			[]any{string(tenant)}, []any{&id}, func() (bool, error) {
				ids = append(ids, id)
				return true, nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list the subscribed connections of %s: %w", tenant, err)
	}
	return ids, nil
}

// Remove implements stream.Connections.
func (s *Connections) Remove(ctx context.Context, id string) error {
	err := s.db.write(ctx, func(b *batch) error {
		_, err := b.exec(`DELETE FROM connections WHERE id = ?`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove connection %s: %w", id, err)
	}
	return nil
}

// Acquire implements stream.Connections.
func (s *Connections) Acquire(ctx context.Context, id, holder string, until time.Time) (c stream.Connection, acquired bool, err error) {
	err = s.db.write(ctx, func(b *batch) error {
		c, acquired, err = b.acquire(id, holder, s.db.now(), until)
		return err
	})
	if err != nil {
		return stream.Connection{}, false, fmt.Errorf("acquire connection %s: %w", id, err)
	}
	return c, acquired, nil
}

func (b *batch) acquire(id, holder string, now, until time.Time) (c stream.Connection, acquired bool, err error) {
	acquiredRows, err := b.exec(`UPDATE connections SET holder = ?1, lease = ?2, asked = 0
		WHERE id = ?3 AND (holder IS NULL OR holder = ?1 OR lease <= ?4)`, holder, until.UnixMilli(), id, now.UnixMilli())
	if err != nil {
		return c, false, err
	}
	if acquiredRows == 1 {
		c, err = b.connection(context.Background(), id)
		return c, true, err
	}
	found, err := b.exec(`UPDATE connections SET asked = 1 WHERE id = ?`, id)
	if err == nil && found == 0 {
		err = unchanged(audit.ErrNotFound)
	}
	return c, false, err
}

// Save implements stream.Connections. A lease that has expired is still the
// holder's, unless another acquired it.
func (s *Connections) Save(ctx context.Context, id, holder string, subscription *stream.Subscription, until time.Time) error {
	text, err := subscriptionOrNull(subscription)
	if err == nil {
		err = s.db.changeOne(ctx, audit.ErrPrecondition, `UPDATE connections SET subscription = ?, lease = ? WHERE id = ? AND holder = ?`,
			text, until.UnixMilli(), id, holder)
	}
	if err != nil {
		return fmt.Errorf("save the subscription of connection %s: %w", id, err)
	}
	return nil
}

// Release implements stream.Connections.
func (s *Connections) Release(ctx context.Context, id, holder string) (released bool, err error) {
	err = s.db.write(ctx, func(b *batch) error {
		released, err = b.release(id, holder)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("release connection %s: %w", id, err)
	}
	return released, nil
}

func (b *batch) release(id, holder string) (released bool, err error) {
	if _, err := b.exec(`UPDATE connections SET holder = NULL WHERE id = ? AND holder = ? AND asked = 0`, id, holder); err != nil {
		return false, err
	}
	contended, err := b.exec(`UPDATE connections SET asked = 0 WHERE id = ? AND holder = ?`, id, holder)
	return contended == 0, err
}

// Purge implements jobs.Purger.
func (s *Connections) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return s.db.purgeByID(ctx, "connections", tenant, limit)
}
