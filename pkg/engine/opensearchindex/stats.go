package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The names of aggregations.
const (
	aggFirst         = "first"
	aggLast          = "last"
	aggHistogram     = "histogram"
	aggUsers         = "users"
	aggUserCount     = "user_count"
	aggUserEstimate  = "user_estimate"
	aggGroups        = "groups" // and those of groups.go
	maxExactDistinct = 10_000   // distinct users; beyond them an estimate
	// distinctPrecision is the most that OpenSearch offers: the estimate is
	// within about a percent.
	distinctPrecision = 40_000
)

// Stats implements search.Index. Total, histogram and groups are exact; distinct
// users are exact up to 10,000 and an estimate beyond (HyperLogLog++, within
// about a percent). Two fields of which one is of the metadata and which have
// too many combinations to rank them for certain are an *audit.ValidationError
// at "?group_by". Everything comes from one search as a rule: under many writes
// the ranking of more than some ten thousand groups, or of two fields of which one
// is of the metadata, may be of a moment later.
func (x *Index) Stats(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) (audit.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Count)
	defer cancel()
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
	f, err := x.family(tenant)
	if err != nil {
		return stats, err
	}
	where, err := compile(f, filter)
	if err != nil {
		return stats, err
	}
	c := counter{index: x, ctx: ctx, family: f, where: x.unexpired(where), request: request}
	if request.Interval > 0 {
		if err := c.checkSpan(); err != nil {
			return stats, err
		}
	}
	return c.count()
}

// counter answers one StatsRequest.
type counter struct {
	index   *Index
	ctx     context.Context
	family  family
	where   query
	request audit.StatsRequest
}

func (c *counter) ask(where query, aggs query) (answer, error) {
	a, _, err := c.index.search(c.ctx, c.family, query{"size": 0, "query": where, "track_total_hits": true, "aggs": aggs})
	return a, err
}

// checkSpan refuses a histogram of too many buckets before it is made.
func (c *counter) checkSpan() error {
	a, err := c.ask(c.where, query{
		aggFirst: query{"min": query{"field": fieldTimestamp}}, aggLast: query{"max": query{"field": fieldTimestamp}},
	})
	if err != nil || a.Hits.Total.Value == 0 {
		return err
	}
	var first, last struct {
		Value float64 `json:"value"` // milliseconds, far below 2⁵³
	}
	if err := errors.Join(json.Unmarshal(a.Aggregations[aggFirst], &first), json.Unmarshal(a.Aggregations[aggLast], &last)); err != nil {
		return err
	}
	interval := c.request.Interval.Milliseconds()
	if int64(last.Value)/interval-int64(first.Value)/interval >= audit.MaxBuckets {
		return errTooManyBuckets()
	}
	return nil
}

func errTooManyBuckets() error {
	return audit.Invalid("?interval", "too_small", "must divide the range of the entries into at most %d buckets", audit.MaxBuckets)
}

func (c *counter) count() (stats audit.Stats, err error) {
	aggs := query{}
	if c.request.Interval > 0 {
		aggs[aggHistogram] = query{"date_histogram": query{
			"field": fieldTimestamp, "fixed_interval": strconv.FormatInt(int64(c.request.Interval/time.Second), 10) + "s", "min_doc_count": 1,
		}}
	}
	if c.request.Distinct {
		aggs[aggUsers] = query{"terms": query{"field": string(audit.FieldUserID), "size": maxExactDistinct}}
		aggs[aggUserCount] = query{"stats_bucket": query{"buckets_path": aggUsers + ">_count"}}
		aggs[aggUserEstimate] = query{"cardinality": query{"field": string(audit.FieldUserID), "precision_threshold": distinctPrecision}}
	}
	g := newGrouping(c)
	for name, agg := range g.aggs() {
		aggs[name] = agg
	}
	a, err := c.ask(c.where, aggs)
	if err != nil {
		return stats, groupsRefused(err)
	}
	stats.Total = a.Hits.Total.Value
	if stats.Total == 0 {
		return stats, nil
	}
	if c.request.Distinct {
		if stats.DistinctUsers, err = distinctUsers(a); err != nil {
			return stats, err
		}
	}
	if c.request.Interval > 0 {
		if stats.Histogram, err = histogram(a, c.request.Interval); err != nil {
			return stats, err
		}
	}
	stats.Groups, err = g.read(a)
	return stats, groupsRefused(err)
}

func distinctUsers(a answer) (int64, error) {
	var users struct {
		Others int64 `json:"sum_other_doc_count"`
	}
	var count struct {
		Count int64 `json:"count"` // of the buckets of users
	}
	var estimate struct {
		Value int64 `json:"value"`
	}
	err := errors.Join(
		json.Unmarshal(a.Aggregations[aggUsers], &users), json.Unmarshal(a.Aggregations[aggUserCount], &count),
		json.Unmarshal(a.Aggregations[aggUserEstimate], &estimate),
	)
	if err != nil {
		return 0, err
	}
	if users.Others > 0 {
		return max(estimate.Value, maxExactDistinct+1), nil
	}
	return count.Count, nil
}

// histogram fills the gaps between the buckets that have entries.
func histogram(a answer, interval time.Duration) ([]audit.Bucket, error) {
	var counted struct {
		Buckets []struct {
			Start int64 `json:"key"` // milliseconds
			Count int64 `json:"doc_count"`
		} `json:"buckets"`
	}
	if err := json.Unmarshal(a.Aggregations[aggHistogram], &counted); err != nil || len(counted.Buckets) == 0 {
		return nil, err
	}
	step := interval.Milliseconds()
	first, last := counted.Buckets[0].Start, counted.Buckets[len(counted.Buckets)-1].Start
	n := (last-first)/step + 1
	if n > audit.MaxBuckets { // entries came since the span was checked
		return nil, errTooManyBuckets()
	}
	buckets := make([]audit.Bucket, n)
	for i := range buckets {
		buckets[i].Start = time.UnixMilli(first + int64(i)*step).UTC()
	}
	for _, b := range counted.Buckets {
		buckets[(b.Start-first)/step].Count = b.Count
	}
	return buckets, nil
}
