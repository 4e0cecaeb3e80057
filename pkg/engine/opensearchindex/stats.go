package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
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
	c := counter{index: x, ctx: ctx, scope: s.within(filter.From, filter.To), where: where, request: request, began: time.Now()}
	if request.Interval > 0 {
		c.clock = audit.NewBuckets(request.Interval, request.Zone)
		if err := c.checkBuckets(); err != nil {
			return stats, err
		}
	}
	if len(request.GroupBy) == 0 || request.Top == 0 {
		return c.count()
	}
	key, err := refusalKeyOf(s.tenant, filter, request)
	if err != nil {
		return stats, err
	}
	return c.countInTime(key)
}

// countInTime is count, unless it takes too long or did so a short time ago.
func (c *counter) countInTime(key refusalKey) (audit.Stats, error) {
	if c.index.refusals.has(key, c.began) {
		return audit.Stats{}, audit.ErrSlowStats()
	}
	stats, err := c.countForeseen()
	tooLong := c.ctx.Err() != nil && time.Since(c.began) > slowest
	if errors.Is(err, errForeseen) {
		tooLong, err = true, audit.ErrSlowStats()
	}
	if tooLong {
		c.index.refusals.add(key, time.Now())
	}
	return stats, err
}

// slowest is the time after which a count that was ended had taken too long. The caller's time
// began a little earlier.
const slowest = audit.MaxStatsTime - time.Second

// countForeseen is count with the number of entries, by which it is foreseen how long it takes.
func (c *counter) countForeseen() (audit.Stats, error) {
	if c.clock == nil { // else checkBuckets has counted them
		r, err := c.search(query{})
		if err != nil {
			return audit.Stats{}, err
		}
		c.entries = r.Hits.Total.Value
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
	clock   *audit.Buckets // of the histogram; nil: none
	periods []audit.Period // the zone's, in the time of the entries
	entries int64          // their number, once they were counted
	began   time.Time
}

// maxStatsResponse limits the answer to a search for counts, in bytes. Only many long
// values pass it.
const maxStatsResponse = audit.MaxGroupBytes

// search computes aggregations over the entries of the request.
func (c *counter) search(aggs query) (searchResponse, error) {
	body := query{"size": 0, "query": c.where, "track_total_hits": true, "aggs": aggs}
	return c.index.searchWithin(c.ctx, c.scope, body, maxStatsResponse)
}

// searchForeseen is search, unless it is foreseen to take too long.
func (c *counter) searchForeseen(aggs query) (searchResponse, error) {
	if err := c.foresee(aggs); err != nil {
		return searchResponse{}, err
	}
	return c.search(aggs)
}

// aggregate is searchForeseen without the total.
func (c *counter) aggregate(aggs query) (aggregations, error) {
	r, err := c.searchForeseen(aggs)
	return r.Aggregations, err
}

// checkBuckets refuses a histogram with too many buckets before OpenSearch computes it. It sets
// the periods and the number of entries.
func (c *counter) checkBuckets() error {
	r, err := c.search(query{
		aggFirst: query{"min": query{"field": fieldTimestamp}}, aggLast: query{"max": query{"field": fieldTimestamp}},
	})
	c.entries = r.Hits.Total.Value
	if err != nil || c.entries == 0 {
		return err
	}
	var first, last struct {
		Value float64 `json:"value"` // Unix milliseconds, far below 2⁵³
	}
	if err := errors.Join(json.Unmarshal(r.Aggregations[aggFirst], &first), json.Unmarshal(r.Aggregations[aggLast], &last)); err != nil {
		return err
	}
	from, to := int64(first.Value), int64(last.Value)
	if c.clock.Exceed(from, to) {
		return audit.ErrTooManyBuckets()
	}
	c.periods = c.clock.Periods(from, to)
	return nil
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
	r, err := c.searchForeseen(aggs)
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
	if c.clock != nil {
		if stats.Histogram, err = c.readHistogram(r.Aggregations); err != nil {
			return stats, err
		}
	}
	stats.Groups, err = g.read(r.Aggregations)
	return stats, groupsError(err)
}

// aggregations returns the aggregations for everything but the groups.
func (c *counter) aggregations() query {
	aggs := query{}
	for i, period := range c.periods {
		aggs[histogramOf(i)] = query{
			"filter": timesOf(period),
			"aggs": query{aggHistogram: query{"date_histogram": query{
				"field": fieldTimestamp, "min_doc_count": 1,
				"fixed_interval": strconv.FormatInt(int64(c.request.Interval/time.Second), 10) + "s",
				"offset":         strconv.FormatInt(-period.Offset/1000, 10) + "s",
			}}},
		}
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

// histogramOf returns the name of the histogram of a period.
func histogramOf(i int) string { return aggHistogram + "_" + strconv.Itoa(i) }

// timesOf returns the query of the timestamps in a period.
func timesOf(p audit.Period) query {
	var from, to time.Time
	if p.Start > math.MinInt64 {
		from = time.UnixMilli(p.Start)
	}
	if p.End < math.MaxInt64 {
		to = time.UnixMilli(p.End)
	}
	if times := timeRange(fieldTimestamp, from, to); times != nil {
		return times
	}
	return query{"match_all": query{}}
}

// readHistogram returns all buckets from the first to the last with entries.
func (c *counter) readHistogram(aggs aggregations) ([]audit.Bucket, error) {
	counts := map[int64]int64{}
	for i, period := range c.periods {
		var counted struct {
			Histogram struct {
				Buckets []struct {
					Start int64 `json:"key"` // Unix milliseconds
					Count int64 `json:"doc_count"`
				} `json:"buckets"`
			} `json:"histogram"`
		}
		if err := json.Unmarshal(aggs[histogramOf(i)], &counted); err != nil {
			return nil, err
		}
		for _, b := range counted.Histogram.Buckets {
			start, _ := c.clock.Of(max(b.Start, period.Start))
			counts[start] += b.Count
		}
	}
	return c.clock.Fill(counts)
}
