package opensearchindex

import (
	"errors"

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
	counts, err := g.countPairsWithin(outer)
	if err != nil {
		return nil, err
	}
	// A value that was left out has at most outer.least entries, and so has each
	// of its pairs.
	if !outer.complete {
		top := counts.top(g.request.Top, len(g.fields))
		if len(top) < g.request.Top || top[len(top)-1].Count <= outer.least {
			return nil, errUncertain
		}
	}
	return counts, nil
}

// countPairsWithin counts the values of the second field within those of the first. The
// search names the values of the first. Otherwise OpenSearch would merge the pairs of
// every value that a shard returns, also of those that it leaves out later. All of them
// would count towards maxBuckets.
func (g *grouping) countPairsWithin(outer ranking) (groupCounts, error) {
	inner := rankingOf(g.fields[1], g.request.Top, g.index.limits.innerShardValues)
	aggs, err := g.aggregate(rankingWithin(g.fields[0], indexedValues(g.fields[0], outer), inner))
	if err != nil {
		return nil, err
	}
	counts := groupCounts{}
	if aggs == nil {
		return counts, nil // the tenant's last index was removed meanwhile
	}
	first, err := readRanking(aggs, g.fields[0])
	if err != nil {
		return nil, err
	}
	for _, v := range first.values {
		second, err := readRanking(v.inner, g.fields[1])
		if err != nil {
			return nil, err
		}
		if !second.exact {
			return nil, errUncertain
		}
		for _, w := range second.values {
			counts[groupValues{v.value, w.value}] += w.count
		}
	}
	return counts, nil
}

// indexedValues returns the values as their field is indexed, but not the
// blank one of a path of the metadata, which is not a token.
func indexedValues(field audit.Field, r ranking) []string {
	path, ofMetadata := field.MetadataPath()
	indexed := []string{}
	for _, v := range r.values {
		switch {
		case !ofMetadata:
			indexed = append(indexed, v.value)
		case v.value != "":
			indexed = append(indexed, tokenPrefix(path)+v.value)
		}
	}
	return indexed
}
