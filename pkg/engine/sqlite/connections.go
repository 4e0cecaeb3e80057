package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// expiredPerCreate is the number of expired connections that each Create removes.
// It removes more than it adds, so that they do not accumulate.
const expiredPerCreate = 10

// Connections stores the connections of clients. It implements stream.Connections
// and jobs.CountedPurger.
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
		changed, err := b.exec(`INSERT INTO connections (id, tenant, expires, subscription, doc) VALUES (?, ?, ?, ?, ?)
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
	if err != nil {
		return connection, err
	}
	return parseConnection(doc, subscription)
}

// parseConnection reads the columns of a connection. subscription is nil for none.
func parseConnection(doc, subscription []byte) (connection stream.Connection, err error) {
	err = json.Unmarshal(doc, &connection)
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

// Subscribe implements stream.Connections.
func (s *Connections) Subscribe(ctx context.Context, id string, subscription stream.Subscription) error {
	text, err := subscriptionOrNull(&subscription)
	if err == nil {
		err = s.db.changeOne(ctx, audit.ErrNotFound, `UPDATE connections SET subscription = ? WHERE id = ?`, text, id)
	}
	if err != nil {
		return fmt.Errorf("subscribe connection %s: %w", id, err)
	}
	return nil
}

// EndSubscription implements stream.Connections.
func (s *Connections) EndSubscription(ctx context.Context, id, subscription string) error {
	err := s.db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE connections SET subscription = NULL WHERE id = ? AND subscription ->> 'ID' = ?`, id, subscription)
		return err
	})
	if err != nil {
		return fmt.Errorf("end the subscription of connection %s: %w", id, err)
	}
	return nil
}

// CountSubscribed implements stream.Connections.
func (s *Connections) CountSubscribed(ctx context.Context, tenant audit.TenantID) (n int, err error) {
	err = s.db.snapshot(ctx, func(c *conn) error {
		count, err := c.int64(ctx, `SELECT count(*) FROM connections WHERE tenant = ? AND (subscription IS NOT NULL) = 1`, string(tenant))
		n = int(count)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count the subscribed connections of %s: %w", tenant, err)
	}
	return n, nil
}

// Subscribed implements stream.Connections.
func (s *Connections) Subscribed(ctx context.Context, tenant audit.TenantID) (subscribed []stream.Connection, err error) {
	var doc, subscription []byte
	err = s.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, `SELECT doc, subscription FROM connections WHERE tenant = ? AND (subscription IS NOT NULL) = 1`,
			[]any{string(tenant)}, []any{&doc, &subscription}, func() (bool, error) {
				connection, err := parseConnection(doc, subscription)
				subscribed = append(subscribed, connection)
				return true, err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list the subscribed connections of %s: %w", tenant, err)
	}
	return subscribed, nil
}

// ClaimEnd implements stream.Connections.
func (s *Connections) ClaimEnd(ctx context.Context, id string, until time.Time) (claimed bool, err error) {
	err = s.db.write(ctx, func(b *batch) error {
		changed, err := b.exec(`UPDATE connections SET ending = ? WHERE id = ? AND ending <= ?`, until.UnixMilli(), id, s.db.now().UnixMilli())
		if claimed = changed > 0; claimed || err != nil {
			return err
		}
		_, err = b.connection(ctx, id)
		if claimed = errors.Is(err, sql.ErrNoRows); claimed {
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("claim the end of connection %s: %w", id, err)
	}
	return claimed, nil
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

// Purge implements jobs.Purger.
func (s *Connections) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return s.db.purgeByID(ctx, "connections", tenant, limit)
}

// CountRecords implements jobs.Counter.
func (s *Connections) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "connections", tenant, `SELECT count(*) FROM connections WHERE tenant = ?`)
}
