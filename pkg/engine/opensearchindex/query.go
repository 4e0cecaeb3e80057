package opensearchindex

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
)

// Limits of an expression. OpenSearch 3 allows 20 levels of bool queries, and compile
// adds one. Lucene allows 1,024 clauses in all. The tenant and its rules of retention
// take up to 100 of them.
const (
	maxNesting = 19
	maxClauses = 920
)

// query is a query of OpenSearch's language.
type query = map[string]any

// compile returns the query of a filter. It returns an *audit.ValidationError at
// "?q" if the filter is too complex.
func compile(tenant audit.TenantID, filter audit.Filter) (query, error) {
	clauses := []any{term(fieldTenant, string(tenant))}
	if bounds := timeRange(fieldTimestamp, filter.From, filter.To); bounds != nil {
		clauses = append(clauses, bounds)
	}
	where := audit.Normalize(filter.Where)
	if countClauses(where) > maxClauses {
		return nil, audit.Invalid("?q", "too_complex", "must have at most %d conditions", maxClauses)
	}
	if nesting(where) > maxNesting {
		return nil, audit.Invalid("?q", "too_complex", "must not be nested more than %d levels deep", maxNesting)
	}
	if !matchesAll(where) {
		rendered, err := render(where)
		if err != nil {
			return nil, err
		}
		clauses = append(clauses, rendered)
	}
	if unexpired := audit.Normalize(filter.Unexpired); !matchesAll(unexpired) {
		rendered, err := render(unexpired)
		if err != nil {
			return nil, err
		}
		clauses = append(clauses, rendered)
	}
	return query{"bool": query{"filter": clauses}}, nil
}

func term(field, value string) query { return query{"term": query{field: value}} }

// timeRange returns the query of a range of a time, nil if both bounds are open.
func timeRange(field string, from, to time.Time) query {
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
	return query{"range": query{field: bounds}}
}

// The functions below take expressions in the normal form of audit.Normalize.

func matchesAll(e audit.Expr) bool {
	and, ok := e.(audit.And)
	return ok && len(and) == 0
}

// nesting returns the number of levels of bool queries in the rendered expression.
func nesting(e audit.Expr) int {
	var parts []audit.Expr
	switch e := e.(type) {
	case audit.And:
		positive, negative := e.SplitNegations()
		parts = append(positive, negative...)
	case audit.Or:
		parts = e
	case audit.Not:
		parts = []audit.Expr{e.Expr}
	case audit.Number, audit.Has, audit.Network:
		return 1
	default:
		return 0
	}
	deepest := 0
	for _, part := range parts {
		deepest = max(deepest, nesting(part))
	}
	return deepest + 1
}

// countClauses returns a bound of the clauses of the rendered expression.
func countClauses(e audit.Expr) int {
	n := 0
	for condition := range audit.Conditions(e) {
		switch e := condition.(type) {
		case audit.Number:
			if e.To == decimal.After(e.From) { // one key
				n++
			} else {
				n += clausesOfNumber
			}
		case audit.Has, audit.Network:
			n += 2
		default:
			n++
		}
	}
	return n
}

func render(e audit.Expr) (query, error) {
	switch e := e.(type) {
	case audit.And:
		return renderAnd(e)
	case audit.Or:
		if len(e) == 0 {
			return query{"match_none": query{}}, nil
		}
		should, err := renderAll(e)
		return query{"bool": query{"should": should, "minimum_should_match": 1}}, err
	case audit.Not:
		mustNot, err := renderAll([]audit.Expr{e.Expr})
		return query{"bool": query{"must_not": mustNot}}, err
	case audit.Equals:
		return renderEquals(e), nil
	case audit.Text:
		return renderText(e), nil
	case audit.Time:
		return timeRange(fieldTimestamp, e.From, e.To), nil
	case audit.Received:
		return timeRange(fieldReceivedAt, e.From, e.To), nil
	case audit.Prefix:
		return renderPrefix(e), nil
	case audit.Has:
		return renderHas(e), nil
	case audit.Number:
		return renderNumber(e), nil
	case audit.Network:
		return renderNetwork(e.Prefix), nil
	case audit.HasToken:
		return term(fieldValues, valueToken(e.Token)), nil
	default:
		return nil, fmt.Errorf("opensearchindex: cannot compile a %T", e)
	}
}

func renderAnd(e audit.And) (query, error) {
	positive, negative := e.SplitNegations()
	filter, err := renderAll(positive)
	if err != nil {
		return nil, err
	}
	mustNot, err := renderAll(negative)
	return query{"bool": query{"filter": filter, "must_not": mustNot}}, err
}

func renderAll(parts []audit.Expr) ([]query, error) {
	rendered := make([]query, len(parts))
	for i, part := range parts {
		var err error
		if rendered[i], err = render(part); err != nil {
			return nil, err
		}
	}
	return rendered, nil
}

func renderEquals(e audit.Equals) query {
	path, ofMetadata := e.Field.MetadataPath()
	terms := make([]string, len(e.Values))
	for i, value := range e.Values {
		if ofMetadata {
			terms[i] = token(path, value)
		} else {
			terms[i] = audit.Shorten(value, maxValue)
		}
	}
	field := string(e.Field)
	if ofMetadata {
		field = fieldTokens
	}
	return query{"terms": query{field: terms}}
}

func renderText(e audit.Text) query {
	phrase := strings.Join(e.Words, " ")
	switch {
	case len(e.Words) == 1 && e.Prefix:
		return query{"prefix": query{fieldMessage: phrase}}
	case len(e.Words) == 1:
		return term(fieldMessage, phrase)
	case e.Prefix:
		// A smaller max_expansions would miss entries. Lucene refuses more than
		// 1,024 expansions; see complexityError.
		return query{"match_phrase_prefix": query{fieldMessage: query{"query": phrase, "max_expansions": math.MaxInt32}}}
	default:
		return query{"match_phrase": query{fieldMessage: phrase}}
	}
}
