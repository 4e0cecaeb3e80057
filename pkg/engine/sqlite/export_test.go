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

// Snapshot holds a snapshot of the file for a while, as a long read of a tenant does. It returns the number of the
// file's tables.
func (db *DB) Snapshot(ctx context.Context, tenant audit.TenantID, d time.Duration) (tables int64, err error) {
	err = db.long.snapshot(ctx, tenant, func(c *conn) error {
		tables, err = c.int64(ctx, `SELECT count(*) FROM sqlite_schema`) // the snapshot begins here
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		return err
	})
	return tables, err
}

// LimitScans lets a scan end after few entries.
func (x *Index) LimitScans(least, perMatch int) { x.scan = scanLimits{least, perMatch} }

// LimitLongValues bounds the values that a search may read for long prefixes.
func (x *Index) LimitLongValues(most int) { x.maxLongValues = most }

// LimitValueCache bounds the bytes of the values that are kept in memory.
func (db *DB) LimitValueCache(most int) { db.writer.segments.values.most = most }

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
		b.writer.folds = foldLimits{at: at, rows: rows, rewrites: rewrites, least: least, tenants: defaultFolds.tenants}
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

// CheckTerms returns an error unless each indexed entry is in one segment in use, and nothing else is.
func (db *DB) CheckTerms(ctx context.Context) error {
	return db.snapshot(ctx, func(c *conn) error {
		var want []int64
		var key int64
		err := c.eachUnprepared(ctx, `SELECT key FROM indexed_keys ORDER BY key`, nil, []any{&key}, func() (bool, error) {
			want = append(want, key)
			return true, nil
		})
		if err != nil {
			return err
		}
		rows, err := c.segmentsIn(ctx, everything)
		if err != nil {
			return err
		}
		snapshot, err := c.snapshotOf(ctx, nil, rows)
		if err != nil {
			return err
		}
		var got []int64
		for i, segment := range snapshot.Segments {
			removed := 0
			var left []int
			for ordinal := range segment.Docs {
				if ordinal/64 < len(segment.Removed) && segment.Removed[ordinal/64]>>(ordinal%64)&1 == 1 {
					removed++
				} else {
					left = append(left, ordinal)
				}
			}
			if removed != rows[i].removed {
				return fmt.Errorf("segment %d has %d removed documents, its row says %d", segment.Number, removed, rows[i].removed)
			}
			keys, err := snapshot.KeysOf(ctx, segment, left)
			if err != nil {
				return err
			}
			got = append(got, keys...)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("the segments have %d keys, the index has %d, or they differ", len(got), len(want))
		}
		return nil
	})
}

// Segments counts the segments of each level that are in use, and those that are not.
func (db *DB) Segments(ctx context.Context) (byLevel map[int]int, others int, err error) {
	byLevel = map[int]int{}
	err = db.snapshot(ctx, func(c *conn) error {
		var state segmentState
		var level, n int
		return c.eachUnprepared(ctx, `SELECT state, level, count(*) FROM segments GROUP BY state, level`, nil, []any{&state, &level, &n}, func() (bool, error) {
			if state == segmentInUse {
				byLevel[level] += n
			} else {
				others += n
			}
			return true, nil
		})
	})
	return byLevel, others, err
}

// MergeAll merges the segments of level 0 as if they were due.
func (db *DB) MergeAll(ctx context.Context) error {
	m := &merger{db: db, kind: mergesLevel0, limits: mergeLimits{segments: 2, docs: 1 << 30, bytes: 1 << 40}, avoid: avoided{}, conn: conn{pool: db.read}}
	return errors.Join(m.session(ctx, false), m.conn.close())
}

// WithMerges merges segments of level 0 from a number on, and several of another level. The writer merges
// them itself from another number on.
func WithMerges(segments, most, atOnce int) Option {
	return func(db *DB) {
		db.merges = mergeLimits{segments: segments, docs: 1 << 30, bytes: 1 << 40, most: most, atOnce: atOnce, large: 1 << 30}
	}
}

// WithTiming sets the clock of the forecasts of counts.
func WithTiming(now func() time.Time) Option { return func(db *DB) { db.timing = now } }
