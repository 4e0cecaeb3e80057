package opensearchindex

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A count that has no chance is refused before it begins. Two things are foreseen: how long one
// pass over very many entries takes, by a random sample of them, and how long the pairs of two
// fields take, by those of the first values (grouppairs.go).

// foresightLimits say which counts are refused.
type foresightLimits struct {
	time    time.Duration // that a count may take
	entries int64         // from which on a pass over them is tried on a sample
	sample  float64       // the part of the entries that it has
}

func defaultForesightLimits() foresightLimits {
	// A search for many values has costs that hardly grow with its entries, such as sorting the
	// values, and a busy cluster answers unevenly. A sample must be large to outweigh both: with
	// 1/64 of a million entries, counts of a few seconds were refused.
	return foresightLimits{time: audit.MaxStatsTime, entries: 2_000_000, sample: 1.0 / 16}
}

// foresightMargin is by how much a forecast may be wrong.
const foresightMargin = 2

// errForeseen says that a count would take too long.
var errForeseen = errors.New("the count is foreseen to take too long")

// allow returns errForeseen if what is left of the count takes clearly longer than it may.
func (c *counter) allow(rest time.Duration) error {
	if left := c.index.foresight.time - time.Since(c.began); rest > foresightMargin*left {
		return errForeseen
	}
	return nil
}

// foresee returns errForeseen if a search for counts will take too long. It searches a sample of
// no entries twice: the first search loads what the cluster then keeps, the second one shows what
// any search of this kind costs. What a larger sample costs beyond that grows with the entries.
func (c *counter) foresee(aggs query) error {
	limits := c.index.foresight
	if c.entries < limits.entries {
		return nil
	}
	var fixed time.Duration
	for range 2 {
		began := time.Now()
		if err := c.searchSample(c.ctx, aggs, 0); err != nil {
			return err
		}
		fixed = time.Since(began)
	}
	left := limits.time - time.Since(c.began)
	most := fixed + time.Duration(foresightMargin*limits.sample*float64(left)) // that the sample may take
	ctx, cancel := context.WithTimeoutCause(c.ctx, most, errForeseen)
	defer cancel()
	err := c.searchSample(ctx, aggs, limits.sample)
	if err != nil && errors.Is(context.Cause(ctx), errForeseen) {
		return errForeseen
	}
	return err
}

// searchSample computes aggregations over a random part of the entries. The part is at least
// 2⁻²³, the precision of scores.
func (c *counter) searchSample(ctx context.Context, aggs query, part float64) error {
	const leastScore = 1 - 1.0/(1<<23)
	random := query{"function_score": query{
		"random_score": query{}, "boost_mode": "replace", "min_score": min(1-part, leastScore),
	}}
	clauses := c.where["bool"].(query)["filter"].([]any)
	where := query{"bool": query{"filter": append(slices.Clone(clauses), random)}}
	_, err := c.index.searchWithin(ctx, c.scope, query{"size": 0, "query": where, "track_total_hits": false, "aggs": aggs}, maxStatsResponse)
	return err
}
