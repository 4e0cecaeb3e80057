package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// LimitPages makes the file full once it has this many pages, or at once if it has more.
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

// LimitScans lets a scan end after few entries.
func (x *Index) LimitScans(least, perMatch int) { x.scan = scanLimits{least, perMatch} }

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

// LimitFolds moves recent facets after so many rows of a tenant, in steps of a few rows.
func (db *DB) LimitFolds(ctx context.Context, at, rows, rewrites, least int) error {
	return db.write(ctx, func(b *batch) error {
		b.writer.folds = foldLimits{at: at, rows: rows, rewrites: rewrites, least: least}
		return nil
	})
}

// ForgetCoarseCells makes the roll-ups those of a file from before coarse cells.
func (db *DB) ForgetCoarseCells(ctx context.Context) error {
	return db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE rollups SET coarse_cells = NULL WHERE cells IS NOT NULL`)
		return err
	})
}

// FillBlocks adds n entries of different resources and users to what is counted of a tenant. Their keys
// begin with 0.
func (db *DB) FillBlocks(ctx context.Context, tenant int64, n int) error {
	return db.write(ctx, func(b *batch) error {
		rows := make([]facetRow, n)
		for i := range rows {
			rows[i].key = int64(i)
			rows[i].values[columnAction], rows[i].values[columnUserID] = "A", fmt.Sprint("user-", i)
			rows[i].values[columnOf(audit.FieldResourceID)] = fmt.Sprint(i)
		}
		var counted facetDeltas
		counted.addRows(rows, 1)
		return errors.Join(b.insertBlocks(tenant, span{0, int64(n - 1)}, rows), b.applyDeltas(tenant, counted))
	})
}

// MigrationsBefore are the migrations before the one that has the text.
func MigrationsBefore(text string) []string {
	return migrations[:slices.IndexFunc(migrations, func(script string) bool { return strings.Contains(script, text) })]
}

// HashUser returns the hash of a user that files have.
func HashUser(user string) uint64 { return hashUser(user) }

// ApplicationID is what marks a file as Ocelot's.
const ApplicationID = applicationID

// MaxGroupedDocs is the limit of the documents that are read for groups.
const MaxGroupedDocs = maxGroupedDocs

// The limits of the write-ahead log, for the tests of package sqlite_test.
const (
	MaxLogBytes    = maxLogBytes
	UrgentLogBytes = urgentLogBytes
)

// MatchPlans returns SQLite's plans of the queries of a page with an expression.
func (db *DB) MatchPlans(ctx context.Context) (plans []string, err error) {
	for _, query := range []string{findMatchRising, findMatchFalling} {
		var steps []string
		err := db.snapshot(ctx, func(c *conn) error {
			var detail string
			args := []any{"x", 0, 0, 1}
			return c.eachUnprepared(ctx, `EXPLAIN QUERY PLAN `+query, args, []any{new(int), new(int), new(int), &detail}, func() (bool, error) {
				steps = append(steps, detail)
				return true, nil
			})
		})
		if err != nil {
			return nil, err
		}
		plans = append(plans, strings.Join(steps, "\n"))
	}
	return plans, nil
}

// WithTiming sets the clock of the forecasts of counts.
func WithTiming(now func() time.Time) Option { return func(db *DB) { db.timing = now } }
