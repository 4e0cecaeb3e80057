package opensearchindex

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	aggGroups = "groups"
	// aggBlank has the entries that count under "" for a path of the metadata:
	// those without a value there and those with an empty one.
	aggBlank = "blank"
)

// rankingOf returns the aggregations that rank the values of a field by their
// numbers of entries and return the first size. Each shard returns shardSize.
func rankingOf(field audit.Field, size, shardSize int) query {
	terms := query{
		"field": string(field), "size": size, "shard_size": shardSize, "collect_mode": "breadth_first",
		"order": []query{{"_count": "desc"}, {"_key": "asc"}},
	}
	path, ofMetadata := field.MetadataPath()
	if !ofMetadata {
		terms["missing"] = "" // no entry has it as its value
		return query{aggGroups: query{"terms": terms}}
	}
	prefix := tokenPrefix(path)
	terms["field"], terms["include"] = fieldTokens, escapeRegexp(prefix)+".+"
	without := query{"bool": query{"must_not": query{"prefix": query{fieldTokens: prefix}}}}
	blank := query{"bool": query{"should": []query{without, term(fieldTokens, prefix)}, "minimum_should_match": 1}}
	return query{aggGroups: query{"terms": terms}, aggBlank: query{"filter": blank}}
}

// rankingWithin returns the aggregations of rankingOf for the given values of the field, each with
// the inner aggregations within it.
func rankingWithin(field audit.Field, values []rankedValue, inner query) query {
	ranking := rankingAmong(field, indexedValues(field, values))
	if !slices.ContainsFunc(values, rankedValue.blank) {
		delete(ranking, aggBlank)
	}
	for _, agg := range ranking {
		agg.(query)["aggs"] = inner
	}
	return ranking
}

// rankingAmong returns the aggregations of rankingOf for the given indexed values.
func rankingAmong(field audit.Field, indexed []string) query {
	// A shard that returns fewer values than it may has returned all of them.
	size := len(indexed) + 1
	ranking := rankingOf(field, size, size)
	ranking[aggGroups].(query)["terms"].(query)["include"] = indexed
	return ranking
}

// escapeRegexp returns the regular expression of Lucene that matches the text.
func escapeRegexp(text string) string {
	var out strings.Builder
	for _, r := range text {
		if strings.ContainsRune(`.?+*|{}[]()"\#@&<>~^$-`, r) {
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	return out.String()
}

// ranking is the answer to rankingOf.
type ranking struct {
	values []rankedValue // the blank value of a path of the metadata is the last
	// exact is true if every shard returned all of its values. Otherwise
	// OpenSearch may have counted too little.
	exact bool
	// maxError bounds the entries of a value that the shards did not return. It is negative
	// if there is no bound.
	maxError int64
	// complete is true if the ranking has all values of the field.
	complete bool
	// least bounds the entries of each value that the ranking leaves out.
	least int64
}

type rankedValue struct {
	value string
	count int64
	inner aggregations // of rankingWithin
}

func (v rankedValue) blank() bool { return v.value == "" }

func readRanking(aggs aggregations, field audit.Field) (ranking, error) {
	var terms struct {
		// MaxError bounds the entries of a value that the shards did not return.
		MaxError int64 `json:"doc_count_error_upper_bound"`
		// Others counts the entries of the values that are left out.
		Others  int64          `json:"sum_other_doc_count"`
		Buckets []aggregations `json:"buckets"`
	}
	if err := json.Unmarshal(aggs[aggGroups], &terms); err != nil {
		return ranking{}, err
	}
	r := ranking{exact: terms.MaxError == 0, maxError: terms.MaxError, complete: terms.Others == 0}
	path, ofMetadata := field.MetadataPath()
	for _, bucket := range terms.Buckets {
		v := rankedValue{inner: bucket}
		if err := errors.Join(json.Unmarshal(bucket["key"], &v.value), json.Unmarshal(bucket["doc_count"], &v.count)); err != nil {
			return ranking{}, err
		}
		if ofMetadata {
			v.value = strings.TrimPrefix(v.value, tokenPrefix(path))
		}
		r.values, r.least = append(r.values, v), v.count
	}
	if !ofMetadata || aggs[aggBlank] == nil {
		return r, nil
	}
	blank, err := readBlank(aggs)
	if blank.count > 0 {
		r.values = append(r.values, blank)
	}
	return r, err
}

// readBlank returns the value "" of a path of the metadata.
func readBlank(aggs aggregations) (blank rankedValue, err error) {
	if err = json.Unmarshal(aggs[aggBlank], &blank.inner); err == nil {
		err = json.Unmarshal(blank.inner["doc_count"], &blank.count)
	}
	return blank, err
}

// countValues counts the values of a single field. If a shard had too many for an exact
// ranking, it counts the most frequent ones again. It lists all values if that does not
// prove them the most frequent ones.
func (g *grouping) countValues(aggs aggregations) (groupCounts, error) {
	field := g.fields[0]
	r, err := readRanking(aggs, field)
	if err != nil {
		return nil, err
	}
	if !r.exact {
		counts, err := g.countCandidates(field, r)
		if errors.Is(err, errUncertain) {
			return g.listValues(field, aggs)
		}
		return counts, err
	}
	return r.counts(), nil
}

func (r *ranking) counts() groupCounts {
	counts := groupCounts{}
	for _, v := range r.values {
		counts[groupValues{v.value}] += v.count
	}
	return counts
}

// countCandidates counts the values of an inexact ranking exactly. Another value has at
// most the entries of the last one, and those that shards did not return. It returns
// errUncertain if that may make it one of the most frequent.
func (g *grouping) countCandidates(field audit.Field, r ranking) (groupCounts, error) {
	if r.maxError < 0 {
		return nil, errUncertain
	}
	aggs, err := g.aggregate(rankingAmong(field, indexedValues(field, r.values)))
	if err != nil || aggs == nil {
		return nil, err
	}
	exact, err := readRanking(aggs, field)
	if err != nil {
		return nil, err
	}
	counts := exact.counts()
	top := counts.top(g.request.Top, 1)
	if !exact.exact || len(top) < g.request.Top || top[len(top)-1].Count <= r.least+r.maxError {
		return nil, errUncertain
	}
	return counts, nil
}

// listValues counts the values of a field by pages.
func (g *grouping) listValues(field audit.Field, aggs aggregations) (groupCounts, error) {
	path, ofMetadata := field.MetadataPath()
	if !ofMetadata {
		if err := g.checkListable(); err != nil {
			return nil, err
		}
		return g.countPages(page{}, 0)
	}
	counts, err := g.countTokens(tokenPrefix(path))
	if err != nil {
		return nil, err
	}
	blank, err := readBlank(aggs)
	if blank.count > 0 {
		counts[groupValues{}] = blank.count
	}
	return counts, err
}
