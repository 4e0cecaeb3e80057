package opensearchindex

import (
	"encoding/json"
	"strconv"
	"strings"
)

// A composite aggregation lists all groups in the order of their values, page
// by page. Every page is exact.

// pageOf returns the aggregation of the page after a key, the first page if the key is nil.
func pageOf(sources []query, size int, after json.RawMessage) query {
	composite := query{"size": size, "sources": sources}
	if after != nil {
		composite["after"] = after
	}
	return query{aggGroups: query{"composite": composite}}
}

// pageOfPairs lists the groups of fields outside the metadata.
func (g *grouping) pageOfPairs(size int, after json.RawMessage) query {
	sources := make([]query, len(g.fields))
	for i, field := range g.fields {
		sources[i] = query{strconv.Itoa(i): query{"terms": query{"field": string(field), "missing_bucket": true}}}
	}
	return pageOf(sources, size, after)
}

// page is the answer to pageOf.
type page struct {
	After   json.RawMessage `json:"after_key"` // the key of the last group
	Buckets []struct {
		Key   map[string]*string `json:"key"` // nil: no value
		Count int64              `json:"doc_count"`
	} `json:"buckets"`
}

func readPage(aggs aggregations) (p page, err error) {
	err = json.Unmarshal(aggs[aggGroups], &p)
	return p, err
}

// requestPage returns a page. It is empty if the tenant has no index any more.
func (g *grouping) requestPage(aggs query) (page, error) {
	answer, err := g.aggregate(aggs)
	if err != nil || answer == nil {
		return page{}, err
	}
	return readPage(answer)
}

// checkListable returns errUncertain if the fields have clearly more values than may be
// listed, so that no page is requested in vain. Fields of the metadata are not checked.
func (g *grouping) checkListable() error {
	aggs := query{}
	for i, field := range g.fields {
		aggs[strconv.Itoa(i)] = query{"cardinality": query{"field": string(field), "precision_threshold": distinctPrecision}}
	}
	answer, err := g.aggregate(aggs)
	for _, text := range answer {
		var estimate struct {
			Value int `json:"value"`
		}
		if err := json.Unmarshal(text, &estimate); err != nil {
			return err
		}
		const certainty = 1.1 // the estimate's error is about one percent
		if float64(estimate.Value) > certainty*float64(g.index.limits.listed) {
			return errUncertain
		}
	}
	return err
}

// countPages counts the groups of a page and of all that follow. size is the
// requested size of the given page. A zero page with size 0 is before the first. It
// returns errUncertain if there are too many.
func (g *grouping) countPages(p page, size int) (groupCounts, error) {
	counts := groupCounts{}
	for listed := 0; ; {
		if listed += len(p.Buckets); listed > g.index.limits.listed {
			return nil, errUncertain
		}
		for _, bucket := range p.Buckets {
			var values groupValues
			for i := range g.fields {
				if value := bucket.Key[strconv.Itoa(i)]; value != nil {
					values[i] = *value
				}
			}
			counts.addListed(values, bucket.Count, g.request.Top)
		}
		if len(p.Buckets) < size {
			return counts, nil
		}
		size = g.index.limits.pageSize
		var err error
		if p, err = g.requestPage(g.pageOfPairs(size, p.After)); err != nil {
			return nil, err
		}
	}
}

// countTokens counts the values of a path of the metadata, but not the blank
// one. It lists the tokens from the path's prefix to the end of those with it, and
// returns errUncertain if there are too many.
func (g *grouping) countTokens(prefix string) (groupCounts, error) {
	counts := groupCounts{}
	sources := []query{{fieldTokens: query{"terms": query{"field": fieldTokens}}}}
	after, err := json.Marshal(query{fieldTokens: prefix}) // the token of the empty value, which is not listed
	if err != nil {
		return nil, err
	}
	for listed := 0; ; {
		p, err := g.requestPage(pageOf(sources, g.index.limits.pageSize, after))
		if err != nil {
			return nil, err
		}
		if listed += len(p.Buckets); listed > g.index.limits.listed {
			return nil, errUncertain
		}
		for _, bucket := range p.Buckets {
			value, ours := strings.CutPrefix(*bucket.Key[fieldTokens], prefix)
			if !ours {
				return counts, nil
			}
			counts.addListed(groupValues{value}, bucket.Count, g.request.Top)
		}
		if len(p.Buckets) < g.index.limits.pageSize {
			return counts, nil
		}
		after = p.After
	}
}
