package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	engine "modernc.org/sqlite"
)

// conn is a connection with its prepared statements. It connects at its first use.
// Only one goroutine may use it at a time.
type conn struct {
	pool       *sql.DB
	link       *sql.Conn
	statements map[string]*sql.Stmt
}

// close closes the connection, and so ends its transaction. The next use opens a new one.
func (c *conn) close() error {
	if c.link == nil {
		return nil
	}
	var errs []error
	for _, s := range c.statements {
		errs = append(errs, s.Close())
	}
	// sql.Conn.Close would leave the connection to the pool, which would return it as it is.
	err := c.link.Raw(func(any) error { return driver.ErrBadConn })
	if !errors.Is(err, driver.ErrBadConn) {
		errs = append(errs, err)
	}
	c.link, c.statements = nil, nil
	return errors.Join(errs...)
}

func (c *conn) connect() error {
	if c.link != nil {
		return nil
	}
	link, err := c.pool.Conn(context.Background())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.link, c.statements = link, map[string]*sql.Stmt{}
	return nil
}

// prepare prepares a query once for this connection. The query must be a constant
// of this package, because statements stay until the connection closes.
func (c *conn) prepare(query string) error {
	if c.statements[query] != nil {
		return nil
	}
	if err := c.connect(); err != nil {
		return err
	}
	s, err := c.link.PrepareContext(context.Background(), query) //nolint:sqlclosecheck // closed with the connection
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	c.statements[query] = s
	return nil
}

// exec runs a constant query to its end, even if the caller's context ends. It
// returns the number of changed rows.
func (c *conn) exec(query string, args ...any) (changed int64, err error) {
	result, err := c.result(query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// result is exec for the whole result.
func (c *conn) result(query string, args ...any) (sql.Result, error) {
	if err := c.prepare(query); err != nil {
		return nil, err
	}
	return c.statements[query].ExecContext(context.Background(), args...)
}

func (c *conn) run(query string) error {
	_, err := c.exec(query)
	return err
}

// takeWritten returns how many pages the connection has written to the log since the last call. If that is
// unknown, it returns checkpointPages, so that the log is copied.
func (c *conn) takeWritten() (pages int) {
	if c.link == nil {
		return 0
	}
	err := c.link.Raw(func(driver any) (err error) {
		pages, _, err = driver.(engine.DBStatus).Status(engine.DBStatusCacheWrite, true)
		return err
	})
	if err != nil {
		return checkpointPages
	}
	return pages
}

// row scans the first row of a constant query. It returns sql.ErrNoRows if there is none.
func (c *conn) row(ctx context.Context, query string, args, dest []any) error {
	if err := c.prepare(query); err != nil {
		return err
	}
	return c.statements[query].QueryRowContext(ctx, args...).Scan(dest...)
}

// int64 returns the number that a constant query selects.
func (c *conn) int64(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = c.row(ctx, query, args, []any{&n})
	return n, err
}

// each scans the rows of a constant query into dest. It calls visit after each row
// until visit returns false.
func (c *conn) each(ctx context.Context, query string, args, dest []any, visit func() (more bool, err error)) error {
	if err := c.prepare(query); err != nil {
		return err
	}
	rows, err := c.statements[query].QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	return scanEach(rows, dest, visit)
}

// eachUnprepared is each for a query that is not a constant.
func (c *conn) eachUnprepared(ctx context.Context, query string, args, dest []any, visit func() (more bool, err error)) error {
	if err := c.connect(); err != nil {
		return err
	}
	rows, err := c.link.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return scanEach(rows, dest, visit)
}

func scanEach(rows *sql.Rows, dest []any, visit func() (more bool, err error)) (err error) {
	defer func() {
		if closeErr := rows.Close(); err == nil {
			err = closeErr
		}
	}()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if more, err := visit(); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}
