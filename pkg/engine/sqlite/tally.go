package sqlite

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// tally counts entries for one StatsRequest.
type tally struct {
	by       []int          // columns to group by
	columns  columnSet      // that addBlock reads
	clock    *audit.Buckets // of the histogram; nil: none
	interval time.Duration  // of the histogram
	// groupsOnly says that nothing but groups matters. Then errGroupsFull ends the count.
	groupsOnly bool
	usersOnly  bool // nothing but users matters, not even the total

	total   int64
	buckets map[int64]int64 // by their starts
	lowest  int64           // of buckets
	highest int64
	groups  grouping
	fullAt  int64    // total when groups became full
	users   *userSet // nil: not counted

	codes []int64 // scratch: counts by code
}

func newTally(request audit.StatsRequest, by []int, groups grouping) *tally {
	t := &tally{by: by, interval: request.Interval, groups: groups}
	for _, column := range by {
		t.columns.add(column)
	}
	if request.Distinct {
		t.users = &userSet{hashes: map[uint64]struct{}{}}
		t.columns.add(columnUserID)
	}
	if t.interval > 0 {
		t.buckets, t.clock = map[int64]int64{}, audit.NewBuckets(t.interval, request.Zone)
	}
	return t
}

// rollsUp reports whether roll-ups have groups by the columns.
func rollsUp(by []int) bool {
	return !slices.ContainsFunc(by, func(column int) bool {
		return column != columnSeverity && column != columnAction && column != columnResourceType
	})
}

func (t *tally) rollsUp() bool {
	return t.users == nil && rollsUp(t.by) && t.interval%time.Hour == 0
}

// rollsUpDays reports whether a bucket of the histogram can have a day.
func (t *tally) rollsUpDays() bool { return t.clock == nil || t.interval >= dayRollup*time.Hour }

// holdsHours reports whether the hours from ≤ hour < to belong to one bucket, and whether that
// consists of whole hours. Otherwise the roll-ups of these hours are too coarse.
func (t *tally) holdsHours(from, to int64) bool {
	if t.clock == nil {
		return true
	}
	start, end := t.clock.Of(from * hourMillis)
	return start%hourMillis == 0 && end%hourMillis == 0 && to*hourMillis <= end
}

// addToBucket counts n entries of a millisecond in the histogram.
func (t *tally) addToBucket(millis, n int64) error {
	if t.clock == nil {
		return nil
	}
	start, _ := t.clock.Of(millis)
	if len(t.buckets) == 0 {
		t.lowest, t.highest = start, start
	}
	t.lowest, t.highest = min(t.lowest, start), max(t.highest, start)
	if t.clock.Exceed(t.lowest, t.highest) {
		return audit.ErrTooManyBuckets()
	}
	t.buckets[start] += n
	return nil
}

// histogram returns the buckets from the first to the last with entries.
func (t *tally) histogram() ([]audit.Bucket, error) {
	if t.clock == nil {
		return nil, nil
	}
	return t.clock.Fill(t.buckets)
}

// addCount counts n entries of a roll-up that begins at an hour.
func (t *tally) addCount(hour, n int64) error {
	t.total += n
	return t.addToBucket(hour*hourMillis, n)
}

// addCell counts the entries of a cell of such a roll-up in the groups. addCount counts the rest.
func (t *tally) addCell(cell *cellCount) error {
	if len(t.by) == 0 {
		return nil
	}
	var key groupKey
	for i, column := range t.by {
		key[i] = cell.value(facetColumns[column])
	}
	t.groups.add(key, cell.n)
	return t.checkGroups()
}

// errGroupsFull says that the groups do not fit into memory.
var errGroupsFull = errors.New("too many groups to count at once")

func (t *tally) checkGroups() error {
	switch {
	case t.groups == nil || !t.groups.isFull():
		return nil
	case t.groupsOnly:
		return errGroupsFull
	case t.fullAt == 0:
		t.fullAt = max(t.total, 1) // cells are counted before their total
	}
	return nil
}

// partsOfGroups divides all groups into parts whose hashes probably fit into memory, if the
// entries after fullAt have as many new groups as those before. The groups are full.
func (t *tally) partsOfGroups() []groupPart {
	halvings := 1
	for n := t.fullAt; n < t.total; n *= 2 {
		halvings++
	}
	return groupPart{}.divide(halvings)
}

// addBlock counts the chosen entries of a block, which are in rising order.
func (t *tally) addBlock(b *facetBlock, chosen []int32) error {
	if len(chosen) == 0 {
		return nil
	}
	t.total += int64(len(chosen))
	t.addUsers(b, chosen)
	t.addGroups(b, chosen)
	if err := t.checkGroups(); err != nil || t.clock == nil {
		return err
	}
	var n, end int64 // entries before the end of a bucket, in milliseconds
	for i, entry := range chosen {
		millis := millisOf(b.keys[entry])
		if millis >= end {
			if i > 0 {
				if err := t.addToBucket(end-1, n); err != nil {
					return err
				}
			}
			n = 0
			_, end = t.clock.Of(millis)
		}
		n++
	}
	return t.addToBucket(end-1, n)
}

// zeroCodes returns n counts that are zero.
func (t *tally) zeroCodes(n int) []int64 {
	if n > len(t.codes) {
		t.codes = make([]int64, n)
	}
	counts := t.codes[:n]
	clear(counts)
	return counts
}

func (t *tally) addUsers(b *facetBlock, chosen []int32) {
	if t.users == nil {
		return
	}
	column := b.columns[columnUserID]
	counts := t.zeroCodes(len(column.values))
	for _, entry := range chosen {
		counts[column.code(entry)]++
	}
	for code, n := range counts {
		if n > 0 {
			t.users.add(hashUser(column.values[code]))
		}
	}
}

// maxPairs is the number of pairs of codes up to which a block's pairs are counted by number.
const maxPairs = 8 * maxBlock

// addGroups counts by code first, so that each group of a block is looked up once.
func (t *tally) addGroups(b *facetBlock, chosen []int32) {
	switch len(t.by) {
	case 1:
		column := b.columns[t.by[0]]
		counts := t.zeroCodes(len(column.values))
		for _, entry := range chosen {
			counts[column.code(entry)]++
		}
		for code, n := range counts {
			if n > 0 {
				t.groups.add(groupKey{column.values[code]}, n)
			}
		}
	case 2:
		t.addPairs(b.columns[t.by[0]], b.columns[t.by[1]], chosen)
	}
}

func (t *tally) addPairs(x, y *facetColumn, chosen []int32) {
	width := len(y.values)
	if len(x.values)*width > maxPairs {
		for _, entry := range chosen {
			t.groups.add(groupKey{x.values[x.code(entry)], y.values[y.code(entry)]}, 1)
		}
		return
	}
	counts := t.zeroCodes(len(x.values) * width)
	for _, entry := range chosen {
		counts[x.code(entry)*width+y.code(entry)]++
	}
	for pair, n := range counts {
		if n > 0 {
			t.groups.add(groupKey{x.values[pair/width], y.values[pair%width]}, n)
		}
	}
}

// grouping counts groups.
type grouping interface {
	// add adds n entries to a group.
	add(key groupKey, n int64)
	// isFull reports whether there are more groups than fit into memory.
	isFull() bool
}

// maxValued is the number of groups up to which blocks are counted by value. More are counted faster
// by hash, although all blocks are then read twice.
const maxValued = 1 << 15

// groupCounts counts groups. Beyond its limit and that of audit it goes on with their hashes. It is
// a grouping.
type groupCounts struct {
	fields int // of a group
	most   int // groups, before it goes on with hashes
	values [audit.MaxGroupBy]valueNumbers
	ofOne  []int64     // by the number of the value, if groups are of one field
	ofTwo  keyCounts   // by both numbers, if they are of two
	hashes *hashCounts // instead of all others; nil: not yet
}

func (g *groupCounts) isFull() bool { return g.hashes != nil && g.hashes.full }

func (g *groupCounts) add(key groupKey, n int64) {
	if g.hashes != nil {
		g.hashes.add(key, n)
		return
	}
	first := g.values[0].number(key[0])
	if g.fields == 1 {
		if int(first) == len(g.ofOne) {
			g.ofOne = append(g.ofOne, 0)
		}
		g.ofOne[first] += n
	} else {
		g.ofTwo.add(uint64(first)<<32|uint64(g.values[1].number(key[1])), n)
	}
	if len(g.ofOne)+g.ofTwo.used > g.most || g.values[0].bytes()+g.values[1].bytes() > audit.MaxGroupBytes {
		g.hash()
	}
}

// hash goes on with hashes.
func (g *groupCounts) hash() {
	hashes := newHashCounts(newGroupHash(), groupPart{})
	for values, n := range g.all() {
		hashes.add(newGroupKey(values), n)
	}
	*g = groupCounts{fields: g.fields, hashes: hashes}
}

// all yields the groups and their counts in any order. The slice is valid until the next group.
func (g *groupCounts) all() iter.Seq2[[]string, int64] {
	return func(yield func([]string, int64) bool) {
		var values [audit.MaxGroupBy]string
		for number, n := range g.ofOne {
			values[0] = g.values[0].value(uint32(number))
			if !yield(values[:1], n) {
				return
			}
		}
		for numbers, n := range g.ofTwo.all() {
			values[0], values[1] = g.values[0].value(uint32(numbers>>32)), g.values[1].value(uint32(numbers))
			if !yield(values[:], n) {
				return
			}
		}
	}
}

// top returns the n largest groups.
func (g *groupCounts) top(n int) []audit.Group {
	top := topGroups{n: n}
	for values, count := range g.all() {
		top.add(values, count)
	}
	largest := top.largest()
	for _, group := range largest {
		for i := range group.Values {
			group.Values[i] = strings.Clone(group.Values[i]) // without the others
		}
	}
	return largest
}

// maxUsers is the number of distinct users up to which they are counted exactly. Beyond, the
// count is an estimate with an error of less than 1 % in most cases.
const maxUsers = 1 << 17

// userSet counts distinct users in bounded memory. It keeps those hashes that begin with level
// zeros, which are 1/2^level of all. The level does not depend on the order of the users.
type userSet struct {
	hashes map[uint64]struct{}
	level  int
}

func (u *userSet) add(hash uint64) {
	if hash>>(64-u.level) != 0 {
		return
	}
	u.hashes[hash] = struct{}{}
	for len(u.hashes) > maxUsers {
		u.level++
		for hash := range u.hashes {
			if hash>>(64-u.level) != 0 {
				delete(u.hashes, hash)
			}
		}
	}
}

// estimate returns the number of distinct users, 0 for a nil set.
func (u *userSet) estimate() int64 {
	if u == nil {
		return 0
	}
	return int64(len(u.hashes)) << u.level
}
