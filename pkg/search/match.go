package search

import (
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/words"
)

// ParseFilter reads the parameters of a list that choose entries: the filter
// fields, q, from and to. It returns an *audit.ValidationError if a parameter is
// unknown or faulty.
func ParseFilter(query url.Values) (audit.Filter, error) {
	p := params{values: query}
	p.only()
	filter := p.filter()
	return filter, p.err()
}

// ParseFilterIn is ParseFilter with the parameters as the members of the JSON object at a pointer,
// to which the pointers of faults refer. query has the parameters as a query string has them.
func ParseFilterIn(members map[string]jsontext.Value, object jsontext.Pointer) (query url.Values, err error) {
	p := paramsIn(members)
	p.filter()
	return p.values, inBody(p.err(), object)
}

// FeedRequest is what the parameters of the feed ask for.
type FeedRequest struct {
	Filter audit.Filter
	Limit  int
	Cursor string // "" if none is given
}

// ParseFeed reads the parameters of the feed: those of ParseFilter, limit and cursor. It returns
// an *audit.ValidationError if a parameter is unknown or faulty.
func ParseFeed(query url.Values) (FeedRequest, error) {
	p := params{values: query}
	p.only(ParamLimit, ParamCursor)
	request := FeedRequest{
		Filter: p.filter(), Limit: p.number(ParamLimit, audit.DefaultPageLimit, audit.MaxPageLimit), Cursor: p.single(ParamCursor),
	}
	return request, p.err()
}

// Candidate is an entry to compare with several filters. It is safe for concurrent use.
type Candidate struct {
	Entry audit.Entry
	// Computed once, and only if a filter needs it.
	words  func() []string
	leaves func() map[string][]entryjson.Leaf
}

// NewCandidate returns the entry as a candidate.
func NewCandidate(e audit.Entry) *Candidate {
	c := &Candidate{Entry: e}
	c.words = sync.OnceValue(func() []string { return words.Split(c.Entry.Message) })
	c.leaves = sync.OnceValue(func() map[string][]entryjson.Leaf {
		leaves := map[string][]entryjson.Leaf{}
		// Stored metadata is well-formed. If it is not, the leaves before the fault count.
		_ = entryjson.Leaves(c.Entry.Metadata, func(leaf entryjson.Leaf) { leaves[leaf.Path] = append(leaves[leaf.Path], leaf) })
		return leaves
	})
	return c
}

// Matches reports whether the entry matches the filter, as an index would decide.
func (c *Candidate) Matches(filter audit.Filter) bool {
	return within(c.Entry.Timestamp, filter.From, filter.To) && (filter.Where == nil || c.meets(filter.Where)) &&
		(filter.Unexpired == nil || c.meets(filter.Unexpired))
}

func (c *Candidate) meets(e audit.Expr) bool {
	switch e := e.(type) {
	case audit.And:
		return !slices.ContainsFunc(e, func(part audit.Expr) bool { return !c.meets(part) })
	case audit.Or:
		return slices.ContainsFunc(e, c.meets)
	case audit.Not:
		return !c.meets(e.Expr)
	case audit.Text:
		return c.hasWords(e)
	case audit.Time:
		return within(c.Entry.Timestamp, e.From, e.To)
	case audit.Received:
		return within(c.Entry.ReceivedAt, e.From, e.To)
	case audit.Network:
		return e.Prefix.Contains(c.Entry.IPAddress.Unmap())
	case audit.HasToken:
		return c.Entry.HasToken(e.Token)
	}
	return c.meetsField(e)
}

// meetsField decides a condition on the values of one field.
func (c *Candidate) meetsField(e audit.Expr) bool {
	switch e := e.(type) {
	case audit.Equals:
		return slices.ContainsFunc(c.values(e.Field), func(value string) bool { return slices.Contains(e.Values, value) })
	case audit.Prefix:
		return slices.ContainsFunc(c.values(e.Field), func(value string) bool { return strings.HasPrefix(value, e.Value) })
	case audit.Has:
		return c.has(e.Field)
	case audit.Number:
		path, _ := e.Field.MetadataPath()
		numbers := decimal.Range{From: e.From, To: e.To}
		return slices.ContainsFunc(c.leaves()[path], func(leaf entryjson.Leaf) bool {
			return leaf.IsNumber && numbers.Contains(decimal.KeyOf(leaf.Value))
		})
	}
	return false
}

// has reports whether the field has a value. A path of the metadata has one if a scalar is there
// or below.
func (c *Candidate) has(field audit.Field) bool {
	path, ofMetadata := field.MetadataPath()
	if !ofMetadata {
		return len(c.values(field)) > 0
	}
	for leaf := range c.leaves() {
		if leaf == path {
			return true
		}
		for ancestor := range entryjson.Ancestors(leaf) {
			if ancestor == path {
				return true
			}
		}
	}
	return false
}

// within reports whether from ≤ at < to. A zero bound is open.
func within(at, from, to time.Time) bool {
	return (from.IsZero() || !at.Before(from)) && (to.IsZero() || at.Before(to))
}

func (c *Candidate) values(field audit.Field) []string {
	path, ofMetadata := field.MetadataPath()
	if !ofMetadata {
		return c.Entry.Values(field)
	}
	leaves := c.leaves()[path]
	values := make([]string, len(leaves))
	for i := range leaves {
		values[i] = leaves[i].Value
	}
	return values
}

// hasWords reports whether the message has the words next to each other.
func (c *Candidate) hasWords(e audit.Text) bool {
	last := len(e.Words) - 1
	if last < 0 {
		return true
	}
	for words := c.words(); len(words) > last; words = words[1:] {
		ends := words[last] == e.Words[last] || e.Prefix && strings.HasPrefix(words[last], e.Words[last])
		if ends && slices.Equal(words[:last], e.Words[:last]) {
			return true
		}
	}
	return false
}
