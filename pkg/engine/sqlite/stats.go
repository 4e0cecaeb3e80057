package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Stats implements search.Index.
func (x *Index) Stats(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) (audit.Stats, error) {
	stats, err := x.stats(ctx, tenant, filter, request)
	if err != nil {
		return audit.Stats{}, fmt.Errorf("count entries of %s: %w", tenant, err)
	}
	return stats, nil
}

func (x *Index) stats(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) (stats audit.Stats, err error) {
	if err := request.Validate(); err != nil {
		return stats, err
	}
	number, known, err := x.db.number(ctx, tenant)
	if err != nil || !known {
		return stats, err
	}
	plan, err := newPlan(number, filter)
	if err != nil || len(plan.pieces) == 0 {
		return stats, err
	}
	s := counter{ctx: ctx, tenant: number}
	err = x.db.snapshot(ctx, func(c *conn) error {
		bounds, err := c.occupied(ctx, plan, everything)
		if err != nil {
			return err
		}
		for p, err := range plan.within(bounds, false) {
			if err != nil {
				return err
			}
			s.pieces = appendPiece(s.pieces, p)
		}
		s.conn = c
		return s.count(&stats, request)
	})
	if err != nil {
		return audit.Stats{}, err
	}
	return stats, nil
}

// counter answers one StatsRequest.
type counter struct {
	ctx    context.Context
	conn   *conn
	tenant int64
	pieces []piece
}

// from returns a FROM clause that selects the key of the chosen entries, the given
// columns of facets and, with docs, the documents.
func (s *counter) from(columns []string, docs bool) (clause string, args []any) {
	parts := make([]string, len(s.pieces))
	for i, p := range s.pieces {
		key, tables, where := "f.key", "facets f", "f.tenant = ? AND f.key BETWEEN ? AND ?"
		values := []any{s.tenant, p.first, p.last}
		if p.match != "" {
			key, tables, where = "t.rowid", "terms t", "t.terms MATCH ? AND t.rowid BETWEEN ? AND ?"
			values[0] = p.match
			if len(columns) > 0 {
				tables += " CROSS JOIN facets f ON f.tenant = ? AND f.key = t.rowid"
				values = append([]any{s.tenant}, values...)
			}
		}
		selected := append([]string{key + " AS key"}, columns...)
		if docs {
			tables += " CROSS JOIN entries e ON e.key = " + key
			selected = append(selected, "e.doc AS doc")
		}
		parts[i] = fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(selected, ", "), tables, where)
		args = append(args, values...)
	}
	return " FROM (" + strings.Join(parts, " UNION ALL ") + ")", args
}

func (s *counter) count(stats *audit.Stats, request audit.StatsRequest) error {
	first, last, err := s.total(stats)
	if err != nil || stats.Total == 0 {
		return err
	}
	if request.Distinct {
		from, args := s.from([]string{"f.user_id AS user_id"}, false)
		if err := s.row(`SELECT count(DISTINCT user_id)`+from, args, &stats.DistinctUsers); err != nil {
			return err
		}
	}
	if request.Interval > 0 {
		if stats.Histogram, err = s.histogram(first, last, request.Interval.Milliseconds()); err != nil {
			return err
		}
	}
	if len(request.GroupBy) > 0 {
		stats.Groups, err = s.groups(request.GroupBy, request.Top, stats.Total)
	}
	return err
}

// total counts the entries and returns the milliseconds of the first and the last. It
// counts each piece alone, because SQLite counts a union of pieces half as fast.
func (s *counter) total(stats *audit.Stats) (first, last int64, err error) {
	first, last = math.MaxInt64, math.MinInt64
	for i := range s.pieces {
		one := *s
		one.pieces = s.pieces[i : i+1]
		var count int64
		var firstKey, lastKey sql.NullInt64
		from, args := one.from(nil, false)
		if err := s.row(`SELECT count(*), min(key), max(key)`+from, args, &count, &firstKey, &lastKey); err != nil {
			return 0, 0, err
		}
		if count > 0 {
			stats.Total += count
			first, last = min(first, millisOf(firstKey.Int64)), max(last, millisOf(lastKey.Int64))
		}
	}
	return first, last, nil
}

func (s *counter) row(query string, args []any, dest ...any) error {
	return s.conn.eachUnprepared(s.ctx, query, args, dest, func() (bool, error) { return true, nil })
}

// histogram returns the buckets of an interval in milliseconds.
func (s *counter) histogram(first, last, interval int64) ([]audit.Bucket, error) {
	start := first / interval
	n := last/interval - start + 1
	if n > audit.MaxBuckets {
		return nil, audit.Invalid("?interval", "too_small", "must divide the range of the entries into at most %d buckets", audit.MaxBuckets)
	}
	buckets := make([]audit.Bucket, n)
	for i := range buckets {
		buckets[i].Start = time.UnixMilli((start + int64(i)) * interval).UTC()
	}
	from, args := s.from(nil, false)
	var bucket, count int64
	// The shift leaves the flipped sign bit in the milliseconds. The addend reverts it.
	query := fmt.Sprintf(`SELECT ((key >> %d) + %d) / %d AS bucket, count(*)%s GROUP BY bucket`,
		slotBits, int64(1)<<(63-slotBits), interval, from)
	err := s.conn.eachUnprepared(s.ctx, query, args, []any{&bucket, &count}, func() (bool, error) {
		buckets[bucket-start].Count = count
		return true, nil
	})
	return buckets, err
}

func (s *counter) groups(by []audit.Field, top int, entries int64) ([]audit.Group, error) {
	columns := make([]string, len(by))
	for i, field := range by {
		if !slices.Contains(facetColumns[:], field) {
			return s.groupsOfDocs(by, top, entries)
		}
		columns[i] = string(field) // a constant of audit, which is the column's name
	}
	return s.groupsOfColumns(columns, top)
}

func (s *counter) groupsOfColumns(columns []string, top int) ([]audit.Group, error) {
	qualified := make([]string, len(columns))
	selected := make([]string, len(columns))
	places := make([]string, len(columns))
	for i, column := range columns {
		selected[i] = fmt.Sprintf("value%d", i)
		qualified[i] = fmt.Sprintf("f.%s AS %s", column, selected[i])
		places[i] = fmt.Sprint(i + 1)
	}
	from, args := s.from(qualified, false)
	query := fmt.Sprintf(`SELECT %s, count(*) AS n%s GROUP BY %s ORDER BY n DESC, %[3]s LIMIT ?`,
		strings.Join(selected, ", "), from, strings.Join(places, ", "))
	var groups []audit.Group
	values := make([]string, len(columns))
	var n int64
	dest := make([]any, 0, len(columns)+1)
	for i := range values {
		dest = append(dest, &values[i])
	}
	err := s.conn.eachUnprepared(s.ctx, query, append(args, top), append(dest, &n), func() (bool, error) {
		group := audit.Group{Values: make([]string, len(values)), Count: n}
		for i, value := range values {
			group.Values[i] = audit.Shorten(value, audit.MaxGroupValue)
		}
		groups = append(groups, group)
		return true, nil
	})
	audit.SortGroups(groups) // shortened values may sort in another order
	return groups, err
}
