package opensearchindex

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Limits of an expression. OpenSearch 3 refuses bool queries that are nested
// more than 20 levels deep; this package adds one of its own. Lucene takes 1,024
// clauses in all.
const (
	maxNesting = 19
	maxClauses = 1000
)

// query is a query of OpenSearch's language.
type query = map[string]any

// compile returns the query of a filter. One that is too complex is an
// *audit.ValidationError at "?q".
func compile(f family, filter audit.Filter) (query, error) {
	clauses := []any{term(fieldTenant, string(f.tenant))}
	if bounds := timeRange(filter.From, filter.To); bounds != nil {
		clauses = append(clauses, bounds)
	}
	c := compiler{}
	where, err := c.clause(filter.Where)
	if err != nil {
		return nil, err
	}
	if where.depth() > maxNesting {
		return nil, audit.Invalid("?q", "too_complex", "must not be nested more than %d levels deep", maxNesting)
	}
	if where.kind != always {
		clauses = append(clauses, where.render())
	}
	return query{"bool": query{"filter": clauses}}, nil
}

// unexpired narrows a query of compile to entries that have not expired: they
// stay in the index longer than in the system of record, which has them removed
// within about a minute. By whole minutes, so that the same query again is the
// same text, whose answer OpenSearch has cached.
func (x *Index) unexpired(where query) query {
	until := x.config.Now().Truncate(time.Minute).UnixMilli()
	expired := query{"range": query{fieldExpiresAt: query{"format": "epoch_millis", "lt": until}}}
	return query{"bool": query{"filter": where["bool"].(query)["filter"], "must_not": expired}}
}

func term(field, value string) query { return query{"term": query{field: value}} }

// timeRange returns nil where both bounds are open.
func timeRange(from, to time.Time) query {
	bounds := query{"format": "epoch_millis"}
	if !from.IsZero() {
		bounds["gte"] = from.UnixMilli()
	}
	if !to.IsZero() {
		bounds["lt"] = to.UnixMilli()
	}
	if len(bounds) == 1 {
		return nil
	}
	return query{"range": query{fieldTimestamp: bounds}}
}

// clause is an expression in a simplified form: and and or have two parts or
// more, none of them always, never or of their own kind; not is of an atom, and or or.
type clause struct {
	kind  clauseKind
	atom  query
	parts []clause
}

type clauseKind uint8

const (
	always clauseKind = iota
	never
	atom
	and
	or
	not
)

type compiler struct{ atoms int }

func (c *compiler) clause(e audit.Expr) (clause, error) {
	switch e := e.(type) {
	case nil:
		return clause{kind: always}, nil
	case audit.And:
		return c.join(and, e)
	case audit.Or:
		return c.join(or, e)
	case audit.Not:
		part, err := c.clause(e.Expr)
		return negate(part), err
	case audit.Equals:
		return c.equals(e)
	case audit.Text:
		return c.text(e)
	case audit.Time:
		if bounds := timeRange(e.From, e.To); bounds != nil {
			return c.leaf(bounds)
		}
		return clause{kind: always}, nil
	default:
		return clause{}, fmt.Errorf("opensearchindex: cannot compile a %T", e)
	}
}

func negate(part clause) clause {
	switch part.kind {
	case always:
		return clause{kind: never}
	case never:
		return clause{kind: always}
	case not:
		return part.parts[0]
	}
	return clause{kind: not, parts: []clause{part}}
}

func (c *compiler) leaf(q query) (clause, error) {
	if c.atoms++; c.atoms > maxClauses {
		return clause{}, audit.Invalid("?q", "too_complex", "must have at most %d conditions", maxClauses)
	}
	return clause{kind: atom, atom: q}, nil
}

func (c *compiler) join(kind clauseKind, exprs []audit.Expr) (clause, error) {
	neutral, absorbing := always, never
	if kind == or {
		neutral, absorbing = never, always
	}
	joined := clause{kind: kind}
	for _, e := range exprs {
		part, err := c.clause(e)
		switch {
		case err != nil:
			return clause{}, err
		case part.kind == absorbing:
			return part, nil
		case part.kind == neutral:
		case part.kind == kind:
			joined.parts = append(joined.parts, part.parts...)
		default:
			joined.parts = append(joined.parts, part)
		}
	}
	switch len(joined.parts) {
	case 0:
		return clause{kind: neutral}, nil
	case 1:
		return joined.parts[0], nil
	}
	return joined, nil
}

func (c *compiler) equals(e audit.Equals) (clause, error) {
	if len(e.Values) == 0 {
		return clause{kind: never}, nil
	}
	field, terms := string(e.Field), make([]string, len(e.Values))
	path, ofMetadata := e.Field.MetadataPath()
	for i, value := range e.Values {
		terms[i] = bounded(value, maxValue)
		if ofMetadata {
			terms[i] = token(path, value)
		}
	}
	if ofMetadata {
		field = fieldTokens
	}
	return c.leaf(query{"terms": query{field: terms}})
}

func (c *compiler) text(e audit.Text) (clause, error) {
	words := audit.Words(strings.Join(e.Words, " ")) // the field holds nothing else
	phrase := strings.Join(words, " ")
	switch {
	case len(words) == 0:
		return clause{kind: always}, nil
	case len(words) == 1 && e.Prefix:
		return c.leaf(query{"prefix": query{fieldMessage: phrase}})
	case len(words) == 1:
		return c.leaf(term(fieldMessage, phrase))
	case e.Prefix:
		// Expanding to fewer words than there are would lose entries. Lucene
		// refuses more than 1,024, see refused.
		return c.leaf(query{"match_phrase_prefix": query{fieldMessage: query{"query": phrase, "max_expansions": math.MaxInt32}}})
	default:
		return c.leaf(query{"match_phrase": query{fieldMessage: phrase}})
	}
}

// depth is how deep the bool queries of a rendered clause are nested.
func (c clause) depth() int {
	if c.kind == always || c.kind == atom {
		return 0
	}
	deepest := 0
	for _, part := range c.parts {
		if c.kind == and && part.kind == not {
			part = part.parts[0] // becomes a must_not of this one
		}
		deepest = max(deepest, part.depth())
	}
	return deepest + 1
}

func (c clause) render() query {
	switch c.kind {
	case atom:
		return c.atom
	case or:
		return query{"bool": query{"should": renderAll(c.parts), "minimum_should_match": 1}}
	case not:
		return query{"bool": query{"must_not": renderAll(c.parts)}}
	case and:
		var positive, negative []clause
		for _, part := range c.parts {
			if part.kind == not {
				negative = append(negative, part.parts[0])
			} else {
				positive = append(positive, part)
			}
		}
		return query{"bool": query{"filter": renderAll(positive), "must_not": renderAll(negative)}}
	case never:
		return query{"match_none": query{}}
	}
	return query{"match_all": query{}}
}

func renderAll(parts []clause) []query {
	rendered := make([]query, len(parts))
	for i, part := range parts {
		rendered[i] = part.render()
	}
	return rendered
}
