package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// conn is one connection with the statements that were prepared on it. It
// connects when it is first used. It is for one goroutine at a time.
type conn struct {
	pool       *sql.DB
	link       *sql.Conn
	statements map[string]*sql.Stmt
}

// close gives the connection up; the next use makes a new one.
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

// prepare makes the statement of a query, which is a constant of this package,
// where the connection does not have it yet.
func (c *conn) prepare(query string) error {
	if c.statements[query] != nil {
		return nil
	}
	if err := c.connect(); err != nil {
		return err
	}
	s, err := c.link.PrepareContext(context.Background(), query) //nolint:sqlclosecheck // kept until the connection is closed
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	c.statements[query] = s
	return nil
}

// exec runs a constant query to its end, whatever happens to the caller, and
// returns how many rows it changed.
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

func (c *conn) exec1(query string) error {
	_, err := c.exec(query)
	return err
}

// row scans the first row of a constant query; sql.ErrNoRows where there is none.
func (c *conn) row(ctx context.Context, query string, args, dest []any) error {
	if err := c.prepare(query); err != nil {
		return err
	}
	return c.statements[query].QueryRowContext(ctx, args...).Scan(dest...)
}

// int64 returns the one number that a constant query selects.
func (c *conn) int64(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = c.row(ctx, query, args, []any{&n})
	return n, err
}

// each scans the rows of a constant query into dest and calls visit after each
// until it returns false.
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

// eachOnce is each for a query that was made for this one call.
func (c *conn) eachOnce(ctx context.Context, query string, args, dest []any, visit func() (more bool, err error)) error {
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
