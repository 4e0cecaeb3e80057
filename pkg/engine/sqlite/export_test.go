package sqlite

import (
	"context"
	"fmt"
	"time"
)

// LimitPages makes the file full once it has this many pages.
func (db *DB) LimitPages(ctx context.Context, pages int) error {
	return db.write(ctx, func(b *batch) error {
		_, err := b.link.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		return err
	})
}

// Snapshot holds a snapshot of the file for a while, and returns the number of its tables.
func (db *DB) Snapshot(ctx context.Context, d time.Duration) (tables int64, err error) {
	err = db.snapshot(ctx, func(c *conn) error {
		tables, err = c.int64(ctx, `SELECT count(*) FROM sqlite_schema`) // the snapshot begins here
		time.Sleep(d)
		return err
	})
	return tables, err
}

// Endless runs a query that never ends: with rows it returns one row after the other,
// otherwise none.
func (db *DB) Endless(ctx context.Context, rows bool) error {
	query := `WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n`
	if !rows {
		query = `SELECT count(*) FROM (` + query + `)`
	}
	return db.snapshot(ctx, func(c *conn) error {
		var n int64
		return c.eachUnprepared(ctx, query, nil, []any{&n}, func() (bool, error) { return true, nil })
	})
}

// MaxGroupedDocs is the limit of the documents that are read for groups.
const MaxGroupedDocs = maxGroupedDocs

// The limits of the write-ahead log, for the tests of package sqlite_test.
const (
	MaxLogBytes    = maxLogBytes
	UrgentLogBytes = urgentLogBytes
)
