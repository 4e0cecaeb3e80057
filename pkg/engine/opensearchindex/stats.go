package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The names of aggregations. Those of groups are in groupranking.go.
const (
	aggFirst        = "first"
	aggLast         = "last"
	aggHistogram    = "histogram"
	aggUsers        = "users"
	aggUserCount    = "user_count"
	aggUserEstimate = "user_estimate"
)

const (
	// distinctPrecision is OpenSearch's maximum. The estimate's error is about
	// one percent.
	distinctPrecision = 40_000
)

// Stats implements search.Index. Total, histogram and groups are exact. Distinct
// users are exact up to 10,000 and an estimate above (HyperLogLog++, error about
// one percent). Groups that cannot be counted exactly within the limits are an
// *audit.ValidationError at "?group_by".
//
// One search computes everything if it can. More than about ten thousand groups,
// or two fields with one of the metadata, need later searches, which may see
// newer entries.
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
	s, err := x.scope(ctx, tenant)
	if err != nil {
		return stats, err
	}
	where, err := compile(s.tenant, filter)
	if err != nil {
		return stats, err
	}
	c := counter{index: x, ctx: ctx, scope: s.within(filter.From, filter.To), where: where, request: request}
	if request.Interval > 0 {
		if err := c.checkBuckets(); err != nil {
			return stats, err
		}
	}
	return c.count()
}

// counter answers one StatsRequest.
type counter struct {
	index   *Index
	ctx     context.Context
	scope   scope
	where   query
	request audit.StatsRequest
}

// maxStatsResponse limits the answer to a search for counts, in bytes. Only many long
// values pass it.
const maxStatsResponse = audit.MaxGroupBytes

// search computes aggregations over the entries of the request.
func (c *counter) search(aggs query) (searchResponse, error) {
	body := query{"size": 0, "query": c.where, "track_total_hits": true, "aggs": aggs}
	return c.index.searchWithin(c.ctx, c.scope, body, maxStatsResponse)
}

// aggregate is search without the total.
func (c *counter) aggregate(aggs query) (aggregations, error) {
	r, err := c.search(aggs)
	return r.Aggregations, err
}

// checkBuckets refuses a histogram with too many buckets before OpenSearch computes it.
func (c *counter) checkBuckets() error {
	r, err := c.search(query{
		aggFirst: query{"min": query{"field": fieldTimestamp}}, aggLast: query{"max": query{"field": fieldTimestamp}},
	})
	if err != nil || r.Hits.Total.Value == 0 {
		return err
	}
	var first, last struct {
		Value float64 `json:"value"` // Unix milliseconds, far below 2⁵³
	}
	if err := errors.Join(json.Unmarshal(r.Aggregations[aggFirst], &first), json.Unmarshal(r.Aggregations[aggLast], &last)); err != nil {
		return err
	}
	interval := c.request.Interval.Milliseconds()
	if int64(last.Value)/interval-int64(first.Value)/interval >= audit.MaxBuckets {
		return errIntervalTooSmall()
	}
	return nil
}

func errIntervalTooSmall() error {
	return audit.Invalid("?interval", "too_small", "must divide the range of the entries into at most %d buckets", audit.MaxBuckets)
}

func (c *counter) count() (stats audit.Stats, err error) {
	g := newGrouping(c)
	if len(g.fields) == 2 {
		if err := g.checkWidths(); err != nil {
			return stats, err
		}
	}
	aggs := c.aggregations()
	maps.Copy(aggs, g.aggregations())
	r, err := c.search(aggs)
	if err != nil {
		return stats, groupsError(err)
	}
	stats.Total = r.Hits.Total.Value
	if stats.Total == 0 {
		return stats, nil
	}
	if c.request.Distinct {
		if stats.DistinctUsers, err = readDistinctUsers(r.Aggregations); err != nil {
			return stats, err
		}
	}
	if c.request.Interval > 0 {
		if stats.Histogram, err = readHistogram(r.Aggregations, c.request.Interval); err != nil {
			return stats, err
		}
	}
	stats.Groups, err = g.read(r.Aggregations)
	return stats, groupsError(err)
}

// aggregations returns the aggregations for everything but the groups.
func (c *counter) aggregations() query {
	aggs := query{}
	if c.request.Interval > 0 {
		aggs[aggHistogram] = query{"date_histogram": query{
			"field": fieldTimestamp, "fixed_interval": strconv.FormatInt(int64(c.request.Interval/time.Second), 10) + "s", "min_doc_count": 1,
		}}
	}
	if c.request.Distinct {
		aggs[aggUsers] = query{"terms": query{"field": string(audit.FieldUserID), "size": audit.MaxExactUsers}}
		aggs[aggUserCount] = query{"stats_bucket": query{"buckets_path": aggUsers + ">_count"}}
		aggs[aggUserEstimate] = query{"cardinality": query{"field": string(audit.FieldUserID), "precision_threshold": distinctPrecision}}
	}
	return aggs
}

func readDistinctUsers(aggs aggregations) (int64, error) {
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
		json.Unmarshal(aggs[aggUsers], &users), json.Unmarshal(aggs[aggUserCount], &count),
		json.Unmarshal(aggs[aggUserEstimate], &estimate),
	)
	if err != nil {
		return 0, err
	}
	if users.Others > 0 {
		return max(estimate.Value, audit.MaxExactUsers+1), nil
	}
	return count.Count, nil
}

// readHistogram returns all buckets from the first to the last with entries.
func readHistogram(aggs aggregations, interval time.Duration) ([]audit.Bucket, error) {
	var counted struct {
		Buckets []struct {
			Start int64 `json:"key"` // Unix milliseconds
			Count int64 `json:"doc_count"`
		} `json:"buckets"`
	}
	if err := json.Unmarshal(aggs[aggHistogram], &counted); err != nil || len(counted.Buckets) == 0 {
		return nil, err
	}
	step := interval.Milliseconds()
	first, last := counted.Buckets[0].Start, counted.Buckets[len(counted.Buckets)-1].Start
	n := (last-first)/step + 1
	if n > audit.MaxBuckets { // entries were added after checkBuckets
		return nil, errIntervalTooSmall()
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
