package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Stats implements search.Index. Distinct users are exact up to maxUsers.
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
	err = x.db.stats.snapshot(ctx, tenant, func(c *conn) error {
		s.forecast = newForecast(x.db.timing) // without the wait
		s.conn, s.matches = c, matcher{cache: x.db.writer.segments, conn: c, within: plan.hull()}
		x.openValues(plan.values, c, number, tenant)
		s.sections, s.counted = sectionsOf(filter)
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
		return s.count(&stats, request)
	})
	if err != nil {
		return audit.Stats{}, err
	}
	return stats, nil
}

// counter answers one StatsRequest.
type counter struct {
	ctx      context.Context
	conn     *conn
	matches  matcher
	tenant   int64
	pieces   []piece
	sections []section // the same as pieces, if counted is true
	counted  bool      // no piece needs the full-text index
	forecast *forecast
}

func (s *counter) count(stats *audit.Stats, request audit.StatsRequest) error {
	by, ofColumns := columnsOf(request.GroupBy)
	totals := request
	if !ofColumns {
		totals.GroupBy, by = nil, nil
	}
	// Roll-ups do not count users. If they count the rest, users are counted alone.
	alone := request.Distinct && s.counted && rollsUp(by)
	totals.Distinct = request.Distinct && !alone
	groups := &groupCounts{fields: len(by), most: audit.MaxGroups}
	if s.counted {
		groups.most = maxValued
	}
	t, began := newTally(totals, by, groups), s.forecast.now()
	if err := s.run(t); err != nil {
		return err
	}
	pass := s.forecast.now().Sub(began)
	var err error
	if stats.Histogram, err = t.histogram(); err != nil {
		return err
	}
	stats.Total, stats.DistinctUsers = t.total, t.users.estimate()
	if stats.Total == 0 {
		return nil
	}
	if alone {
		users := newTally(audit.StatsRequest{Distinct: true}, nil, nil)
		users.usersOnly = true
		if err := s.run(users); err != nil {
			return err
		}
		stats.DistinctUsers = users.users.estimate()
	}
	switch {
	case !ofColumns:
		stats.Groups, err = s.groupsOfDocs(request.GroupBy, request.Top, stats.Total)
	case groups.hashes == nil:
		stats.Groups = shortened(groups.top(request.Top))
	default:
		stats.Groups, err = s.hashedGroups(t, request.Top, groups.hashes, pass)
		stats.Groups = shortened(stats.Groups)
	}
	return err
}

// shortened shortens the values of groups.
func shortened(groups []audit.Group) []audit.Group {
	for _, group := range groups {
		for i, value := range group.Values {
			group.Values[i] = audit.Shorten(value, audit.MaxGroupValue)
		}
	}
	audit.SortGroups(groups) // shortened values may sort in another order
	return groups
}

// columnsOf returns the columns of fields. ok is false if a field has none.
func columnsOf(fields []audit.Field) (columns []int, ok bool) {
	for _, field := range fields {
		column := columnOf(field)
		if column < 0 {
			return nil, false
		}
		columns = append(columns, column)
	}
	return columns, true
}

// hashedGroups returns the largest groups, whose values do not fit into memory together. counted
// has their hashes, unless these do not fit either. Then the groups are counted in parts. pass is
// how long it takes to count all entries once.
func (s *counter) hashedGroups(t *tally, top int, counted *hashCounts, pass time.Duration) ([]audit.Group, error) {
	parts := []groupPart{{}}
	if counted.full {
		parts = t.partsOfGroups()
	} else {
		if err := s.forecast.allow(pass); err != nil {
			return nil, err
		}
		if largest, exact, err := s.nameGroups(t.by, top, counted); exact || err != nil {
			return largest, err
		}
	}
	for hash := newGroupHash(); ; hash = newGroupHash() {
		if largest, exact, err := s.groupsInParts(t.by, top, hash, parts, pass); exact || err != nil {
			return largest, err
		}
	}
}

// groupsInParts counts the groups by a hash, part by part. It divides a part again if its hashes do
// not fit into memory. It returns the largest groups, unless one of them shares its hash.
func (s *counter) groupsInParts(by []int, top int, hash groupHash, parts []groupPart, pass time.Duration) (largest []audit.Group, exact bool, err error) {
	for len(parts) > 0 {
		if err := s.forecast.allow(2 * time.Duration(len(parts)) * pass); err != nil {
			return nil, false, err
		}
		counted := newHashCounts(hash, parts[0])
		err := s.runGroups(by, counted)
		if errors.Is(err, errGroupsFull) {
			parts = append(parts[0].divide(1), parts[1:]...)
			continue
		}
		if err != nil {
			return nil, false, err
		}
		named, exact, err := s.nameGroups(by, top, counted)
		if !exact || err != nil {
			return nil, false, err
		}
		largest = append(largest, named...)
		audit.SortGroups(largest)
		largest, parts = largest[:min(top, len(largest))], parts[1:]
	}
	return largest, true, nil
}

// nameGroups returns the largest groups of those that were counted by their hashes.
func (s *counter) nameGroups(by []int, top int, counted *hashCounts) (largest []audit.Group, exact bool, err error) {
	named := newNamedGroups(counted, top, len(by))
	if err := s.runGroups(by, named); err != nil {
		return nil, false, err
	}
	largest, exact = named.largest()
	return largest, exact, nil
}

// runGroups counts groups and nothing else.
func (s *counter) runGroups(by []int, groups grouping) error {
	t := newTally(audit.StatsRequest{}, by, groups)
	t.groupsOnly = true
	return s.run(t)
}

// run counts all chosen entries.
func (s *counter) run(t *tally) error {
	if s.counted {
		for _, section := range s.sections {
			if err := s.countSection(t, section); err != nil {
				return err
			}
		}
		return nil
	}
	for _, p := range s.pieces {
		if err := s.countPiece(t, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *counter) countPiece(t *tally, p piece) error {
	switch {
	case p.match == nil:
		return s.countSection(t, section{span: p.span})
	case t.columns == 0:
		return s.countKeys(t, p)
	}
	return s.countMatches(t, p)
}

// countSection counts the entries of a section: recent ones one by one, others by roll-ups as far
// as these are fine enough, and by the blocks.
func (s *counter) countSection(t *tally, section section) error {
	if err := s.countRecent(t, section); err != nil {
		return err
	}
	rest := []span{section.span}
	var err error
	switch {
	case t.usersOnly && section.where.all():
		rest, err = s.countUserDays(t, section.span)
	case t.rollsUp() && section.where.rollsUp():
		rest, err = s.countRollups(t, section)
	}
	if err != nil {
		return err
	}
	return s.countBlocks(t, section.where, rest)
}

// recentAtOnce is the number of recent facets that are read at once.
const recentAtOnce = 4096

func (s *counter) countRecent(t *tally, section section) error {
	rest := section.span
	for !rest.empty() {
		rows, err := s.conn.recentFacets(s.ctx, s.tenant, rest, recentAtOnce)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		block := newBlock(rows, t.columns|section.where.columns)
		if err := t.addBlock(block, section.where.choose(block, rest)); err != nil {
			return err
		}
		last := rows[len(rows)-1].key
		if len(rows) < recentAtOnce || last == math.MaxInt64 {
			return nil
		}
		rest.first = last + 1
	}
	return nil
}

func (s *counter) countBlocks(t *tally, where condition, parts []span) error {
	var done int64
	total, err := s.foreseeable(parts)
	if err != nil {
		return err
	}
	for _, part := range parts {
		err := s.conn.eachBlock(s.ctx, s.tenant, part, t.columns|where.columns, func(at blockAt, block *facetBlock) (bool, error) {
			if s.forecast.due() {
				if err := s.forecast.check(done, total); err != nil {
					return false, err
				}
			}
			done += int64(at.entries)
			return true, t.addBlock(block, where.choose(block, part))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// countRollups counts the hours and days of a section that have roll-ups with what is asked. It
// returns the parts that are left.
func (s *counter) countRollups(t *tally, section section) (rest []span, err error) {
	from, to := section.hours()
	if from >= to {
		return []span{section.span}, nil
	}
	rest = section.around(from, to)
	hours := []hourRange{{from, to}}
	if dayFrom, dayTo := wholeDays(from, to); dayFrom < dayTo && t.rollsUpDays() {
		days, err := s.addRollups(t, section.where, dayRollup, dayFrom, dayTo)
		if err != nil {
			return nil, err
		}
		hours = append([]hourRange{{from, dayFrom}, {dayTo, to}}, days...)
	}
	for _, part := range hours {
		uncounted, err := s.addRollups(t, section.where, hourRollup, part.from, part.to)
		if err != nil {
			return nil, err
		}
		for _, r := range uncounted {
			rest = append(rest, hourSpan(r.from, r.to))
		}
	}
	return rest, nil
}

// hourRange is the hours from ≤ hour < to, as numbers since 1970.
type hourRange struct{ from, to int64 }

// addRollups counts by the roll-ups of a length. It returns the hours of those without the cells
// that are needed, and of those that are longer than a bucket of the histogram.
func (s *counter) addRollups(t *tally, where condition, length, from, to int64) (uncounted []hourRange, err error) {
	column := cellsFor(t, where)
	leave := func(start int64) {
		if n := len(uncounted); n > 0 && uncounted[n-1].to == start {
			uncounted[n-1].to = start + length
		} else {
			uncounted = append(uncounted, hourRange{start, start + length})
		}
	}
	err = s.conn.eachRollup(s.ctx, s.tenant, length, from, to, column, func(start, entries int64, cells []cellCount) error {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		switch {
		case !t.holdsHours(start, start+length) || column != noCells && cells == nil:
			leave(start)
			return nil
		case column == noCells:
			return t.addCount(start, entries)
		}
		var n int64
		for i := range cells {
			if cell := &cells[i]; where.holds(cell.value) {
				n += cell.n
				if err := t.addCell(cell); err != nil {
					return err
				}
			}
		}
		if n == 0 {
			return nil
		}
		return t.addCount(start, n)
	})
	return uncounted, err
}

// cellsFor returns the column of roll-ups that has what is asked.
func cellsFor(t *tally, where condition) string {
	switch {
	case len(t.by) == 0 && where.all():
		return noCells
	case slices.Contains(t.by, columnResourceType) || where.columns.has(columnResourceType):
		return allCells
	}
	return coarseCells
}

// countKeys counts the entries of a full-text expression if only their time matters.
func (s *counter) countKeys(t *tally, p piece) error {
	if t.clock == nil {
		n, err := s.matches.count(s.ctx, p)
		t.total += n
		return err
	}
	var n, end int64 // entries before the end of a bucket, in milliseconds
	for key, err := range s.matches.keys(s.ctx, p, false) {
		if err != nil {
			return err
		}
		if millis := millisOf(key); millis >= end {
			if err := s.countBefore(t, end, n); err != nil {
				return err
			}
			n = 0
			_, end = t.clock.Of(millis)
		}
		n++
	}
	return s.countBefore(t, end, n)
}

// countBefore counts n entries of the bucket with the end.
func (s *counter) countBefore(t *tally, end, n int64) error {
	if n == 0 {
		return nil
	}
	t.total += n
	return t.addToBucket(end-1, n)
}

// matchesAtOnce is the number of matches that are looked up together.
const matchesAtOnce = 4096

// countMatches counts the entries of a full-text expression.
func (s *counter) countMatches(t *tally, p piece) error {
	finder := facetFinder{counter: s, tally: t}
	s.forecast.begin()
	return s.eachMatches(p, func(keys []int64) error {
		err := finder.add(keys)
		if err == nil && len(keys) == matchesAtOnce && s.forecast.due() {
			err = s.foreseeMatches(p, keys[len(keys)-1])
		}
		return err
	})
}

// eachMatches visits the keys that a piece with an expression matches, matchesAtOnce of them at once.
func (s *counter) eachMatches(p piece, visit func(keys []int64) error) error {
	keys := make([]int64, 0, matchesAtOnce)
	for key, err := range s.matches.keys(s.ctx, p, false) {
		if err != nil {
			return err
		}
		if keys = append(keys, key); len(keys) == matchesAtOnce {
			if err := visit(keys); err != nil {
				return err
			}
			keys = keys[:0]
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return visit(keys)
}

// foreseeMatches checks how long the matches of a piece take, after those up to a key were
// counted. Matches are taken to be as frequent among the entries that are left.
func (s *counter) foreseeMatches(p piece, key int64) error {
	done, err := s.entriesIn(span{p.first, key})
	if err != nil {
		return err
	}
	total, err := s.entriesIn(p.span)
	if err != nil {
		return err
	}
	return s.forecast.check(done, total)
}

// facetFinder counts entries by their keys. It keeps the last block, because matches are in the
// order of keys.
type facetFinder struct {
	*counter
	tally  *tally
	at     blockAt
	block  *facetBlock
	chosen []int32
}

func (f *facetFinder) add(keys []int64) error {
	var recent []facetRow
	for len(keys) > 0 {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		if err := f.find(keys[0]); err != nil {
			return err
		}
		n, err := f.addOfBlock(keys)
		if err != nil {
			return err
		}
		if keys = keys[n:]; n > 0 {
			continue
		}
		row, found, err := f.recentRow(keys[0])
		if err != nil {
			return err
		}
		if found {
			recent = append(recent, row)
		}
		keys = keys[1:]
	}
	if len(recent) == 0 {
		return nil
	}
	block := newBlock(recent, f.tally.columns)
	return f.tally.addBlock(block, condition{}.choose(block, everything))
}

// find reads the block that may have the key.
func (f *facetFinder) find(key int64) error {
	if f.block != nil && f.at.first <= key && key <= f.at.last {
		return nil
	}
	f.block = nil
	return f.conn.eachBlock(f.ctx, f.tenant, span{key, key}, f.tally.columns, func(at blockAt, block *facetBlock) (bool, error) {
		f.at, f.block = at, block
		return false, nil
	})
}

// addOfBlock counts the first keys, as far as the block has them. It returns their number.
func (f *facetFinder) addOfBlock(keys []int64) (n int, err error) {
	if f.block == nil {
		return 0, nil
	}
	f.chosen = f.chosen[:0]
	for _, key := range keys {
		i, found := slices.BinarySearch(f.block.keys, key)
		if !found {
			break
		}
		f.chosen = append(f.chosen, int32(i))
	}
	return len(f.chosen), f.tally.addBlock(f.block, f.chosen)
}

func (f *facetFinder) recentRow(key int64) (row facetRow, found bool, err error) {
	rows, err := f.conn.recentFacets(f.ctx, f.tenant, span{key, key}, 1)
	if err != nil || len(rows) == 0 {
		return facetRow{}, false, err
	}
	return rows[0], true, nil
}

// eachDoc visits the chosen entries, of which docs has the current one.
func (s *counter) eachDoc(docs *docReader, visit func() (more bool, err error)) error {
	for _, p := range s.pieces {
		var err error
		if p.match == nil {
			err = docs.each(s.ctx, findAllRising, []any{s.tenant, p.first, p.last, -1}, visit) // no limit
		} else {
			err = s.eachMatches(p, func(keys []int64) error { return docs.each(s.ctx, findKeys, []any{jsonKeys(keys)}, visit) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}
