package opensearchindex

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// OpenSearch ranks groups on every shard by itself and joins the ranks, which
// is exact only while each shard names all of its groups. Here nothing is
// returned that is not exact:
//
//   - One field is a terms aggregation for which a shard names very many values.
//     Where one has more (doc_count_error_upper_bound is not 0), all of them are
//     paged through by composite aggregations.
//   - Two fields outside the metadata are composite aggregations.
//   - Composite aggregations cannot be restricted to the tokens of one path. Two
//     fields of which one is of the metadata are terms within terms, of the most
//     frequent values of the first field, which a search before has found: joining
//     the shards' ranks OpenSearch holds all groups within every value that a
//     shard named, also those that it then leaves out, and has a limit for them.
//     That is exact where no pair that was left out can be more frequent than one
//     that is returned, and else refused.

// groupLimits are how many values and combinations are asked for.
type groupLimits struct {
	shardValues   int // of one field, named by a shard
	outer         int // values of the first of two fields that are looked into
	outerShard    int // named by a shard
	innerShard    int // values of the second field, named by a shard for one of the first
	compositePage int // combinations
	firstPage     int // those that are asked for in the search that counts everything else
}

func usualGroupLimits() groupLimits {
	return groupLimits{shardValues: 100_000, outer: 1000, outerShard: 100_000, innerShard: 1000, compositePage: 50_000, firstPage: 10_000}
}

const (
	// maxBuckets is OpenSearch's search.max_buckets, unless the cluster has another.
	// It counts the buckets of all aggregations of one search together.
	maxBuckets = 65_535

	aggBlank = "blank" // entries that count under "": without any value at the path, or with an empty one
)

// grouping is the groups of one StatsRequest.
type grouping struct {
	*counter
	fields []audit.Field
	counts map[[audit.MaxGroupBy]string]int64
}

func newGrouping(c *counter) *grouping {
	g := &grouping{counter: c, counts: map[[audit.MaxGroupBy]string]int64{}}
	if c.request.Top > 0 {
		g.fields = c.request.GroupBy
	}
	return g
}

func (g *grouping) ofMetadata() bool {
	return slices.ContainsFunc(g.fields, func(f audit.Field) bool { _, ok := f.MetadataPath(); return ok })
}

// aggs returns the aggregations that go with the search that counts everything else.
func (g *grouping) aggs() query {
	switch {
	case len(g.fields) == 0:
		return nil
	case len(g.fields) == 1:
		return g.terms(g.fields[0], g.request.Top, g.index.limits.shardValues, nil, nil)
	case !g.ofMetadata():
		return g.composite(g.index.limits.firstPage, nil)
	}
	return g.terms(g.fields[0], g.outer(), g.index.limits.outerShard, nil, nil)
}

// outer is how many values of the first of two fields are looked into, in a
// search of its own: each is a bucket, has values of the second field in it and
// entries without one; and so have the entries without the first field.
func (g *grouping) outer() int {
	each := 1 + g.request.Top + 1
	return min(g.index.limits.outer, maxBuckets/each-1)
}

// terms counts the most frequent values of a field, or of those that are given
// as they are indexed, and the entries that have none, each divided further by inner.
func (g *grouping) terms(field audit.Field, size, shardSize int, only []string, inner query) query {
	terms := query{
		"field": string(field), "size": size, "shard_size": shardSize, "collect_mode": "breadth_first",
		"order": []query{{"_count": "desc"}, {"_key": "asc"}},
	}
	divided := func(agg query) query {
		if inner != nil {
			agg["aggs"] = inner
		}
		return agg
	}
	path, ofMetadata := field.MetadataPath()
	prefix := tokenPrefix(path)
	switch {
	case only != nil:
		terms["include"] = only
	case ofMetadata:
		terms["include"] = escapeRegexp(prefix) + ".+"
	}
	if !ofMetadata {
		terms["missing"] = "" // which no entry has as its value
		return query{aggGroups: divided(query{"terms": terms})}
	}
	terms["field"] = fieldTokens
	without := query{"bool": query{"must_not": query{"prefix": query{fieldTokens: prefix}}}}
	blank := query{"bool": query{"should": []query{without, term(fieldTokens, prefix)}, "minimum_should_match": 1}}
	return query{aggGroups: divided(query{"terms": terms}), aggBlank: divided(query{"filter": blank})}
}

// escapeRegexp writes text so that Lucene's regular expressions take it as it is.
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

// composite pages through all combinations of values in their order.
func (g *grouping) composite(size int, after json.RawMessage) query {
	sources := make([]query, len(g.fields))
	for i, field := range g.fields {
		sources[i] = query{strconv.Itoa(i): query{"terms": query{"field": string(field), "missing_bucket": true}}}
	}
	return compositeOf(sources, size, after)
}

func compositeOf(sources []query, size int, after json.RawMessage) query {
	composite := query{"size": size, "sources": sources}
	if after != nil {
		composite["after"] = after
	}
	return query{aggGroups: query{"composite": composite}}
}

// read returns the groups, asking further where the answer does not have them all.
func (g *grouping) read(a answer) ([]audit.Group, error) {
	var err error
	switch {
	case len(g.fields) == 0:
		return nil, nil
	case len(g.fields) == 1:
		err = g.readSingle(a)
	case !g.ofMetadata():
		err = g.readComposite(a, g.index.limits.firstPage)
	default:
		err = g.readNested(a)
	}
	if err != nil {
		return nil, err
	}
	return g.named(g.top())
}

// errTooManyGroups says that the groups cannot be ranked for certain.
func errTooManyGroups() error {
	return audit.Invalid("?group_by", "too_many_groups", "must have fewer different values for these fields: narrow the filter")
}

func groupsRefused(err error) error {
	var answer *answerError
	if errors.As(err, &answer) && answer.has(kindTooManyGroups) {
		return errTooManyGroups()
	}
	return err
}

// ranked is the answer to terms.
type ranked struct {
	// MaxMissed is the most entries that a value can have which a shard did not name.
	MaxMissed int64 `json:"doc_count_error_upper_bound"`
	// Others is how many entries the values have that are not among the buckets.
	Others  int64                        `json:"sum_other_doc_count"`
	Buckets []map[string]json.RawMessage `json:"buckets"`
}

// level reads what terms made for a field: each value with the aggregations
// within it. complete is false where values are left out; none of them then has
// more than least entries.
func level(aggs map[string]json.RawMessage, field audit.Field, each func(value string, count int64, inner map[string]json.RawMessage) error) (complete bool, least int64, err error) {
	var r ranked
	if err := json.Unmarshal(aggs[aggGroups], &r); err != nil {
		return false, 0, err
	}
	if r.MaxMissed != 0 {
		return false, -1, nil
	}
	path, ofMetadata := field.MetadataPath()
	for _, bucket := range r.Buckets {
		var token string
		var count int64
		if err := errors.Join(json.Unmarshal(bucket["key"], &token), json.Unmarshal(bucket["doc_count"], &count)); err != nil {
			return false, 0, err
		}
		least = count
		value := token
		if ofMetadata {
			value = strings.TrimPrefix(token, tokenPrefix(path))
		}
		if err := each(value, count, bucket); err != nil {
			return false, 0, err
		}
	}
	if !ofMetadata {
		return r.Others == 0, least, nil
	}
	blank, count, err := readBlank(aggs)
	if err == nil && count > 0 {
		err = each("", count, blank)
	}
	return r.Others == 0, least, err
}

func readBlank(aggs map[string]json.RawMessage) (bucket map[string]json.RawMessage, count int64, err error) {
	if err = json.Unmarshal(aggs[aggBlank], &bucket); err == nil {
		err = json.Unmarshal(bucket["doc_count"], &count)
	}
	return bucket, count, err
}

// unranked is level's least where a shard did not name all of its values.
const unranked = -1

func (g *grouping) readSingle(a answer) error {
	field := g.fields[0]
	_, least, err := level(a.Aggregations, field, func(value string, count int64, _ map[string]json.RawMessage) error {
		g.counts[[audit.MaxGroupBy]string{value}] += count
		return nil
	})
	if err != nil || least != unranked {
		return err
	}
	path, ofMetadata := field.MetadataPath()
	if !ofMetadata {
		return g.readComposite(answer{}, 0)
	}
	return g.readTokens(a, tokenPrefix(path))
}

// readNested looks into the values of the first field.
func (g *grouping) readNested(a answer) error {
	path, ofMetadata := g.fields[0].MetadataPath()
	var only []string
	complete, least, err := level(a.Aggregations, g.fields[0], func(value string, _ int64, _ map[string]json.RawMessage) error {
		switch {
		case !ofMetadata:
			only = append(only, value)
		case value != "": // which is aggBlank's
			only = append(only, tokenPrefix(path)+value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if least == unranked {
		return errTooManyGroups()
	}
	exact, err := g.divide(only)
	if err != nil {
		return err
	}
	if !complete {
		// What was left out has the first value in at most least entries, so no
		// pair of it has more.
		top := g.top()
		exact = exact && len(top) == g.request.Top && top[len(top)-1].Count > least
	}
	if !exact {
		return errTooManyGroups()
	}
	return nil
}

// divide counts the second field within the values of the first, as they are
// indexed. exact is false where a shard did not name all that there are.
func (g *grouping) divide(only []string) (exact bool, err error) {
	inner := g.terms(g.fields[1], g.request.Top, g.index.limits.innerShard, nil, nil)
	// A shard that names fewer values than it may has named them all.
	size := len(only) + 1
	a, err := g.ask(g.where, g.terms(g.fields[0], size, size, only, inner))
	if err != nil || a.Aggregations == nil { // the entries may have gone meanwhile
		return err == nil, err
	}
	exact = true
	_, _, err = level(a.Aggregations, g.fields[0], func(first string, _ int64, divided map[string]json.RawMessage) error {
		_, least, err := level(divided, g.fields[1], func(second string, count int64, _ map[string]json.RawMessage) error {
			g.counts[[audit.MaxGroupBy]string{first, second}] += count
			return nil
		})
		exact = exact && least != unranked
		return err
	})
	return exact, err
}

// page is the answer to a composite aggregation.
type page struct {
	After   json.RawMessage `json:"after_key"`
	Buckets []struct {
		Key   map[string]*string `json:"key"` // nil: no value
		Count int64              `json:"doc_count"`
	} `json:"buckets"`
}

// readComposite counts the pages of composite from the first one, which has the
// size; with size 0 it asks for that one as well.
func (g *grouping) readComposite(a answer, size int) error {
	var p page
	if size > 0 {
		if err := json.Unmarshal(a.Aggregations[aggGroups], &p); err != nil {
			return err
		}
	}
	for {
		for _, bucket := range p.Buckets {
			var values [audit.MaxGroupBy]string
			for i := range g.fields {
				if value := bucket.Key[strconv.Itoa(i)]; value != nil {
					values[i] = *value
				}
			}
			g.add(values, bucket.Count)
		}
		if len(p.Buckets) < size {
			return nil
		}
		size = g.index.limits.compositePage
		var err error
		if p, err = g.page(g.composite(size, p.After)); err != nil {
			return err
		}
	}
}

// readTokens counts all tokens with the prefix but the one of the empty value,
// whose entries a counts.
func (g *grouping) readTokens(a answer, prefix string) error {
	_, blank, err := readBlank(a.Aggregations)
	if err != nil {
		return err
	}
	if blank > 0 {
		g.counts[[audit.MaxGroupBy]string{}] = blank
	}
	sources := []query{{fieldTokens: query{"terms": query{"field": fieldTokens}}}}
	after, err := json.Marshal(query{fieldTokens: prefix}) // the empty one itself comes before
	if err != nil {
		return err
	}
	for {
		p, err := g.page(compositeOf(sources, g.index.limits.compositePage, after))
		if err != nil {
			return err
		}
		for _, bucket := range p.Buckets {
			value, ours := strings.CutPrefix(*bucket.Key[fieldTokens], prefix)
			if !ours {
				return nil
			}
			g.add([audit.MaxGroupBy]string{value}, bucket.Count)
		}
		if len(p.Buckets) < g.index.limits.compositePage {
			return nil
		}
		after = p.After
	}
}

func (g *grouping) page(aggs query) (page, error) {
	var p page
	a, err := g.ask(g.where, aggs)
	if err == nil && a.Aggregations != nil {
		err = json.Unmarshal(a.Aggregations[aggGroups], &p)
	}
	return p, err
}

// maxCounted is how many counts are kept while more are read.
const maxCounted = 50_000

// add takes a group that comes once. Only the largest are kept.
func (g *grouping) add(values [audit.MaxGroupBy]string, count int64) {
	g.counts[values] += count
	if len(g.counts) <= maxCounted {
		return
	}
	kept := g.top()
	clear(g.counts)
	for _, group := range kept {
		var values [audit.MaxGroupBy]string
		copy(values[:], group.Values)
		g.counts[values] = group.Count
	}
}

// top returns the largest groups so far.
func (g *grouping) top() []audit.Group {
	groups := make([]audit.Group, 0, len(g.counts))
	for values, count := range g.counts {
		groups = append(groups, audit.Group{Values: slices.Clone(values[:len(g.fields)]), Count: count})
	}
	sortGroups(groups)
	return groups[:min(g.request.Top, len(groups))]
}

func sortGroups(groups []audit.Group) {
	slices.SortFunc(groups, func(a, b audit.Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), slices.Compare(a.Values, b.Values))
	})
}

// named gives shortened values back their whole text, which an entry has that
// counts under the group.
func (g *grouping) named(groups []audit.Group) ([]audit.Group, error) {
	whole := map[string]string{}
	for _, group := range groups {
		for i, value := range group.Values {
			if !isShortened(value) {
				continue
			}
			name := string(g.fields[i]) + "\n" + value
			if _, known := whole[name]; !known {
				text, err := g.whole(g.fields[i], value)
				if err != nil {
					return nil, err
				}
				whole[name] = text
			}
			group.Values[i] = whole[name]
		}
	}
	if len(whole) > 0 {
		sortGroups(groups)
	}
	return groups, nil
}

// whole returns the value that was shortened, or that again where the entry was
// removed meanwhile.
func (g *grouping) whole(field audit.Field, short string) (string, error) {
	indexed, value := string(field), short
	if path, ofMetadata := field.MetadataPath(); ofMetadata {
		indexed, value = fieldTokens, tokenPrefix(path)+short
	}
	a, _, err := g.index.search(g.ctx, g.family, query{
		"size": 1, "_source": []string{fieldEntry}, "track_total_hits": false,
		"query": query{"bool": query{"filter": []query{g.where, term(indexed, value)}}},
	})
	if err != nil || len(a.Hits.Hits) == 0 {
		return short, err
	}
	e, err := entryjson.ParseStored([]byte(a.Hits.Hits[0].Source.Entry))
	if err != nil {
		return "", err
	}
	return wholeIn(&e, field, short)
}

// wholeIn looks for the value in the entry.
func wholeIn(e *audit.Entry, field audit.Field, short string) (string, error) {
	found := short
	consider := func(value string) {
		if bounded(value, maxValue) == short {
			found = value
		}
	}
	path, ofMetadata := field.MetadataPath()
	if !ofMetadata {
		for _, value := range append(slices.Clone(e.Changed), e.Value(field)) {
			consider(value)
		}
		return found, nil
	}
	err := entryjson.Leaves(e.Metadata, func(leaf, value string) {
		if leaf == path {
			consider(value)
		}
	})
	return found, err
}
