package opensearchindex

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// errUncertain says that another pair of values may be as frequent as those found.
var errUncertain = errors.New("the ranking of pairs is not certain")

// outerRanking ranks the values of the first of two fields.
func (g *grouping) outerRanking() query {
	// A search of pairs has these buckets for each value of the first field. One is for
	// the value, Top are for those of the second field, and one is for the entries
	// without a second field. The entries without a first field have as many.
	bucketsPerValue := 1 + g.request.Top + 1
	size := min(g.index.limits.outerValues, maxBuckets/bucketsPerValue-1)
	return rankingOf(g.fields[0], size, g.index.limits.outerShardValues)
}

// countPairs counts the pairs with the values of outerRanking. It returns
// errUncertain if other pairs may belong to the top groups.
func (g *grouping) countPairs(aggs aggregations) (groupCounts, error) {
	outer, err := readRanking(aggs, g.fields[0])
	if err != nil {
		return nil, err
	}
	if !outer.exact {
		return nil, errUncertain
	}
	// A value that the ranking left out has at most outer.least entries, and so has each of
	// its pairs.
	var unseen int64
	if !outer.complete {
		unseen = outer.least
	}
	return g.countPairsWithin(outer.values, unseen)
}

// certain reports whether no other pair belongs to the top groups, if the most frequent of them
// has that many entries at most.
func (g *grouping) certain(counts groupCounts, unseen int64) bool {
	top := counts.top(g.request.Top, len(g.fields))
	return len(top) == g.request.Top && top[len(top)-1].Count > unseen
}

// countPairsWithin counts the values of the second field within those of the first, in parts.
// It begins with the most frequent ones and ends when no other pair can be one of the largest.
// A pair of a value that is not given has at most as many entries as unseen says.
//
// Parts are cheaper than one search. For each value of the first field, OpenSearch goes through
// the pairs of all of them. So the cost grows with the square of their number.
func (g *grouping) countPairsWithin(values []rankedValue, unseen int64) (groupCounts, error) {
	values = slices.Clone(values)
	slices.SortStableFunc(values, func(a, b rankedValue) int { return cmp.Compare(b.count, a.count) })
	counts, parts := groupCounts{}, pairParts{size: 1}
	for len(values) > 0 {
		if g.certain(counts, max(values[0].count, unseen)) {
			return counts, nil
		}
		part := values[:min(parts.size, len(values))]
		values = values[len(part):]
		began := time.Now()
		if err := g.addPairsWithin(counts, part); err != nil {
			return nil, err
		}
		if err := g.allow(parts.next(part, values, time.Since(began))); err != nil {
			return nil, err
		}
	}
	if unseen > 0 && !g.certain(counts, unseen) {
		return nil, errUncertain
	}
	return counts, nil
}

// pairParts decides how many values of the first field the next part has. The first part has the
// most frequent one alone. It takes hardly longer than a part without a value would.
type pairParts struct {
	size  int
	first time.Duration // that the first part took
	pace  time.Duration // that a value of the last part took
}

// secondPart is the number of values in the second part.
const secondPart = 8

// next notes how long a part took, and returns how long the values that are left will take, as
// far as that can be told. Parts grow as long as a value of a larger part takes less time.
func (p *pairParts) next(part, left []rankedValue, took time.Duration) (rest time.Duration) {
	if p.first == 0 {
		p.first, p.size = took, secondPart
		return 0
	}
	pace := took / time.Duration(len(part))
	switch {
	case p.pace == 0 || pace < p.pace:
		p.size *= 2
	case p.size > secondPart:
		p.size /= 2
	}
	p.pace = pace
	if took < 2*p.first {
		return 0 // it is mostly what every part costs
	}
	return time.Duration(float64(took-p.first) * float64(entriesOf(left)) / float64(entriesOf(part)))
}

func entriesOf(values []rankedValue) (n int64) {
	for _, v := range values {
		n += v.count
	}
	return n
}

// addPairsWithin counts the values of the second field within some of the first. The search names
// them. Otherwise OpenSearch would merge the pairs of every value that a shard returns, also of
// those that it leaves out later. All of them would count towards maxBuckets.
func (g *grouping) addPairsWithin(counts groupCounts, values []rankedValue) error {
	inner := rankingOf(g.fields[1], g.request.Top, g.index.limits.innerShardValues)
	found, err := g.search(rankingWithin(g.fields[0], values, inner))
	if err != nil || found.Aggregations == nil {
		return err // without one, the tenant's last index was removed meanwhile
	}
	first, err := readRanking(found.Aggregations, g.fields[0])
	if err != nil {
		return err
	}
	for _, v := range first.values {
		second, err := readRanking(v.inner, g.fields[1])
		if err != nil {
			return err
		}
		if !second.exact {
			return errUncertain
		}
		for _, w := range second.values {
			counts[groupValues{v.value, w.value}] += w.count
		}
	}
	return nil
}

// indexedValues returns the values as their field is indexed, but not the
// blank one of a path of the metadata, which is not a token.
func indexedValues(field audit.Field, values []rankedValue) []string {
	path, ofMetadata := field.MetadataPath()
	indexed := []string{}
	for _, v := range values {
		switch {
		case !ofMetadata:
			indexed = append(indexed, v.value)
		case !v.blank():
			indexed = append(indexed, tokenPrefix(path)+v.value)
		}
	}
	return indexed
}
