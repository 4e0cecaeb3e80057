package search

import (
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
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
	leaves func() map[string][]string
}

// NewCandidate returns the entry as a candidate.
func NewCandidate(e audit.Entry) *Candidate {
	c := &Candidate{Entry: e}
	c.words = sync.OnceValue(func() []string { return audit.Words(c.Entry.Message) })
	c.leaves = sync.OnceValue(func() map[string][]string {
		leaves := map[string][]string{}
		// Stored metadata is well-formed. If it is not, the leaves before the fault count.
		_ = entryjson.Leaves(c.Entry.Metadata, func(path, value string) { leaves[path] = append(leaves[path], value) })
		return leaves
	})
	return c
}

// Matches reports whether the entry matches the filter, as an index would decide.
func (c *Candidate) Matches(filter audit.Filter) bool {
	return c.within(filter.From, filter.To) && (filter.Where == nil || c.meets(filter.Where)) &&
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
	case audit.Equals:
		return slices.ContainsFunc(c.values(e.Field), func(value string) bool { return slices.Contains(e.Values, value) })
	case audit.Text:
		return c.hasWords(e)
	case audit.Time:
		return c.within(e.From, e.To)
	}
	return false
}

// within reports whether from ≤ timestamp < to; a zero bound is open.
func (c *Candidate) within(from, to time.Time) bool {
	at := c.Entry.Timestamp
	return (from.IsZero() || !at.Before(from)) && (to.IsZero() || at.Before(to))
}

func (c *Candidate) values(field audit.Field) []string {
	if path, ofMetadata := field.MetadataPath(); ofMetadata {
		return c.leaves()[path]
	}
	return c.Entry.Values(field)
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
