package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// conn is a connection with its prepared statements. It connects at its first use.
// Only one goroutine may use it at a time.
type conn struct {
	pool       *sql.DB
	link       *sql.Conn
	statements map[string]*sql.Stmt
}

// close closes the connection. The next use opens a new one.
func (c *conn) close() error {
	if c.link == nil {
		return nil
	}
	var errs []error
	for _, s := range c.statements {
		errs = append(errs, s.Close())
	}
	errs = append(errs, c.link.Close())
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
	if err := c.prepare(query); err != nil {
		return 0, err
	}
	result, err := c.statements[query].ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (c *conn) run(query string) error {
	_, err := c.exec(query)
	return err
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
