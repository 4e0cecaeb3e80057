package opensearchindex

import (
	"errors"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Groups are exact or refused. By itself OpenSearch is exact only for few groups. Each
// shard ranks its own groups and returns the first of them. The merged ranking can miss
// a group or count too little for it. So a request takes the first of these ways that
// proves its answer exact:
//
//   - One field (groupranking.go): a ranking in which each shard returns up to
//     100,000 values. It is exact if no shard has more. If not, its values are counted
//     again, exactly. They are the largest if no value that shards left out can be as
//     frequent.
//   - Two fields outside the metadata (grouppages.go): the first page of a list
//     of all pairs. It is exact if it has all of them.
//   - Two fields (grouppairs.go): rankings of the second field within the most
//     frequent values of the first. They are exact if no pair of another value
//     can be as frequent as the pairs that are returned.
//   - All pages of the list (grouppages.go), up to audit.MaxGroups groups. Only values of
//     one field and pairs outside the metadata can be listed. Other pairs are refused.
//
// A multi_terms aggregation would rank pairs directly, but takes 3 to 7 times
// as long as a page of the list.

// groupLimits are the numbers of values and pairs that are requested.
type groupLimits struct {
	shardValues      int // of a single field, from each shard
	spareValues      int // of a single field, beyond those that are returned
	outerValues      int // of the first of two fields, whose pairs are counted
	outerShardValues int // of the first of two fields, from each shard
	innerShardValues int // of the second field for one value of the first, from each shard
	pageSize         int // groups on a page
	firstPageSize    int // groups on the page that the main search returns
	listed           int // groups on all pages
}

func defaultGroupLimits() groupLimits {
	return groupLimits{
		shardValues: 100_000, spareValues: 100, outerValues: 1000, outerShardValues: 100_000, innerShardValues: 1000,
		pageSize: 50_000, firstPageSize: 10_000, listed: audit.MaxGroups,
	}
}

// maxBuckets is the default of OpenSearch's search.max_buckets. It limits the
// buckets of all aggregations of one search together.
const maxBuckets = 65_535

// grouping computes the groups of one StatsRequest.
type grouping struct {
	*counter
	fields []audit.Field
}

func newGrouping(c *counter) *grouping {
	g := &grouping{counter: c}
	if c.request.Top > 0 {
		g.fields = c.request.GroupBy
	}
	return g
}

// canListPairs reports whether pages can list the pairs of both fields. A
// composite aggregation cannot be restricted to the tokens of one path.
func (g *grouping) canListPairs() bool {
	return !slices.ContainsFunc(g.fields, func(f audit.Field) bool { _, ofMetadata := f.MetadataPath(); return ofMetadata })
}

// aggregations returns what the main search has to compute for the groups.
func (g *grouping) aggregations() query {
	switch {
	case len(g.fields) == 0:
		return nil
	case len(g.fields) == 1:
		return rankingOf(g.fields[0], g.request.Top+g.index.limits.spareValues, g.index.limits.shardValues)
	case g.canListPairs():
		return g.pageOfPairs(g.index.limits.firstPageSize, nil)
	default:
		return g.outerRanking()
	}
}

// read returns the groups from the answer to the main search. It searches
// again if that answer does not have all of them.
func (g *grouping) read(aggs aggregations) ([]audit.Group, error) {
	if len(g.fields) == 0 {
		return nil, nil
	}
	counts, err := g.count(aggs)
	if err != nil {
		return nil, err
	}
	return counts.top(g.request.Top, len(g.fields)), nil
}

func (g *grouping) count(aggs aggregations) (groupCounts, error) {
	switch {
	case len(g.fields) == 1:
		return g.countValues(aggs)
	case g.canListPairs():
		return g.countListablePairs(aggs)
	default:
		return g.countPairs(aggs)
	}
}

// countListablePairs reads the first page of pairs. Only if there are more
// pairs, and their ranking is not certain, it requests the other pages.
func (g *grouping) countListablePairs(aggs aggregations) (groupCounts, error) {
	first, err := readPage(aggs)
	if err != nil {
		return nil, err
	}
	if len(first.Buckets) < g.index.limits.firstPageSize {
		return g.countPages(first, g.index.limits.firstPageSize)
	}
	counts, err := g.searchPairs()
	if !isTooManyGroups(err) {
		return counts, err
	}
	if err := g.checkListable(); err != nil {
		return nil, err
	}
	return g.countPages(first, g.index.limits.firstPageSize)
}

// searchPairs is countPairs with a search of its own for the values of the first field.
func (g *grouping) searchPairs() (groupCounts, error) {
	aggs, err := g.aggregate(g.outerRanking())
	if err != nil || aggs == nil {
		return nil, err
	}
	return g.countPairs(aggs)
}

// isTooManyGroups reports whether a ranking failed because of its many groups.
func isTooManyGroups(err error) bool {
	var response *responseError
	return errors.Is(err, errUncertain) || errors.Is(err, errLargeResponse) || errors.As(err, &response) && response.has(kindTooManyBuckets)
}

// groupsError turns the errors of isTooManyGroups into an *audit.ValidationError.
func groupsError(err error) error {
	if isTooManyGroups(err) {
		return audit.ErrTooManyGroups()
	}
	return err
}
