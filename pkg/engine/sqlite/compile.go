package sqlite

import (
	"iter"
	"reflect"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// A filter compiles to pieces: ranges of keys, each with the full-text expression that
// its entries match. The bounds of the conditions on time divide the keys into
// these ranges. Within a range each such condition is true or false, so that
// only conditions on tokens remain.

// Limits of an expression. They bound the cost of a hostile query.
const (
	maxMatchTerms = 4096
	maxTimeCuts   = 128
)

// piece is a range of keys and the full-text expression for its entries. nil matches all of them.
type piece struct {
	span
	match postings.Expr
}

// plan is a compiled filter.
type plan struct {
	compiler compiler
	values   *longValues
	pieces   []piece // without the condition that entries have not expired
	// unexpired is that condition, and expiries are the keys at which it changes.
	unexpired audit.Expr
	expiries  []int64
}

// newPlan compiles a filter. It returns an *audit.ValidationError at "?q" if the filter is
// too complex.
func newPlan(tenant int64, filter audit.Filter) (*plan, error) {
	p := &plan{values: &longValues{}}
	p.compiler = compiler{tokens: newTokenizer(tenant), known: map[term]postings.Token{}, values: p.values}
	var err error
	if p.pieces, err = p.compiler.compile(filter); err != nil || filter.Unexpired == nil {
		return p, err
	}
	p.unexpired, p.expiries = filter.Unexpired, timeCuts(filter.Unexpired)
	return p, nil
}

// within yields the pieces of the range in the order of their keys. It compiles the
// condition that entries have not expired as it goes, because a page seldom needs more than
// the first piece.
func (p *plan) within(bounds span, falling bool) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		for _, whole := range inOrder(p.pieces, falling) {
			whole.span = whole.intersect(bounds)
			for _, part := range inOrder(whole.divide(p.expiries), falling) {
				match, matches, err := p.compiler.restrict(whole.match, p.unexpired, part)
				if (matches || err != nil) && !yield(piece{part, match}, err) {
					return
				}
			}
		}
	}
}

// hull returns the range from the first piece to the last one.
func (p *plan) hull() span {
	if len(p.pieces) == 0 {
		return span{0, -1}
	}
	return span{p.pieces[0].first, p.pieces[len(p.pieces)-1].last}
}

// inOrder yields the values forwards or, if falling, backwards.
func inOrder[T any](values []T, falling bool) iter.Seq2[int, T] {
	if falling {
		return slices.Backward(values)
	}
	return slices.All(values)
}

// compile returns the pieces of a filter in rising order of their keys. It leaves
// out ranges without matches, and the condition that entries have not expired.
func (c *compiler) compile(filter audit.Filter) ([]piece, error) {
	cuts := timeCuts(filter.Where)
	if len(cuts) > maxTimeCuts {
		return nil, audit.Invalid("?q", "too_complex", "must have at most %d different times", maxTimeCuts)
	}
	var pieces []piece
	for _, part := range everything.within(filter.From, filter.To).divide(cuts) {
		match, matches, err := c.piece(filter.Where, part)
		if err != nil {
			return nil, err
		}
		if matches {
			pieces = appendPiece(pieces, piece{part, match})
		}
	}
	return pieces, nil
}

// appendPiece appends a piece. It extends the last piece if that one ends where
// the new one begins and has the same expression.
func appendPiece(pieces []piece, p piece) []piece {
	if n := len(pieces); n > 0 && pieces[n-1].last+1 == p.first && reflect.DeepEqual(pieces[n-1].match, p.match) {
		pieces[n-1].last = p.last
		return pieces
	}
	return append(pieces, p)
}

// timeCuts returns the keys at which a condition on time changes, in rising order.
func timeCuts(e audit.Expr) []int64 {
	var cuts []int64
	for condition := range audit.Conditions(e) {
		t, ok := condition.(audit.Time)
		if !ok {
			continue
		}
		s := everything.within(t.From, t.To)
		if s.empty() {
			continue
		}
		if s.first != everything.first {
			cuts = append(cuts, s.first)
		}
		if s.last != everything.last {
			cuts = append(cuts, s.last+1)
		}
	}
	slices.Sort(cuts)
	return slices.Compact(cuts)
}

type compiler struct {
	tokens       tokenizer
	known        map[term]postings.Token // the tokens so far: pieces repeat them
	values       *longValues
	alternations int // alternatives in the expression in progress
}

type term struct {
	field audit.Field
	value string
}

// token returns the token of a field's value.
func (c *compiler) token(field audit.Field, value string) postings.Token {
	token, known := c.known[term{field, value}]
	if !known {
		token = exactly(c.tokens.term(nil, c.tokens.field(field), value))
		c.known[term{field, value}] = token
	}
	return token
}

// piece returns the full-text expression for the range. matches is false if
// nothing in the range can match.
func (c *compiler) piece(e audit.Expr, at span) (match postings.Expr, matches bool, err error) {
	normal := at.normalize(e)
	if matchesAll(normal) || matchesNone(normal) {
		return nil, matchesAll(normal), nil
	}
	if audit.CountConditions(normal) > maxMatchTerms {
		return nil, false, audit.Invalid("?q", "too_complex", "must have at most %d values and phrases", maxMatchTerms)
	}
	c.alternations = 0
	if match, err = c.render(normal); err != nil {
		return nil, false, err
	}
	if c.alternations > maxMatchTerms {
		return nil, false, audit.Invalid("?q", "too_complex", "must have fewer comparisons")
	}
	return match, true, nil
}

// restrict adds the condition that entries have not expired to the full-text expression of
// the range.
func (c *compiler) restrict(match postings.Expr, unexpired audit.Expr, at span) (restricted postings.Expr, matches bool, err error) {
	if unexpired == nil {
		return match, true, nil
	}
	normal := at.normalize(unexpired)
	if matchesAll(normal) || matchesNone(normal) {
		return match, matchesAll(normal), nil
	}
	if match == nil {
		restricted, err = c.render(normal)
		return restricted, true, err
	}
	if not, ok := normal.(audit.Not); ok {
		without, err := c.render(not.Expr)
		return postings.Except{Expr: match, Without: without}, true, err
	}
	condition, err := c.render(normal)
	return postings.And{match, condition}, true, err
}

// normalize returns the normal form of an expression within the range. Only conditions on
// tokens remain.
func (s span) normalize(e audit.Expr) audit.Expr {
	return audit.Normalize(audit.ReplaceConditions(e, s.simplify))
}

func matchesAll(normal audit.Expr) bool {
	and, ok := normal.(audit.And)
	return ok && len(and) == 0
}

func matchesNone(normal audit.Expr) bool {
	or, ok := normal.(audit.Or)
	return ok && len(or) == 0
}

// simplify decides a condition on time for the range, which no bound of the
// condition divides. It splits a condition on several values into one for each.
func (s span) simplify(condition audit.Expr) audit.Expr {
	switch e := condition.(type) {
	case audit.Time:
		if t := everything.within(e.From, e.To); t.first <= s.first && s.last <= t.last {
			return audit.And{}
		}
		return audit.Or{}
	case audit.Equals:
		each := make(audit.Or, len(e.Values))
		for i, value := range e.Values {
			each[i] = audit.Equals{Field: e.Field, Values: []string{value}}
		}
		return each
	}
	return condition
}

// render returns the full-text expression of an expression in normal form.
func (c *compiler) render(e audit.Expr) (postings.Expr, error) {
	switch e := e.(type) {
	case audit.And:
		return c.renderAnd(e)
	case audit.Or:
		parts, err := c.renderEach(e)
		return anyOf(parts), err
	case audit.Not:
		return c.renderAnd(audit.And{e})
	case audit.Equals:
		return c.token(e.Field, e.Values[0]), nil // simplify left one value
	case audit.Text:
		return c.phrase(e), nil
	case audit.Prefix:
		return c.prefix(e), nil
	}
	alternatives, err := c.alternatives(e)
	c.alternations += len(alternatives)
	return anyOf(alternatives), err
}

// renderAnd returns what the positive parts match and the negative ones do not. If no part is positive,
// the token that every entry has takes its place.
func (c *compiler) renderAnd(e audit.And) (postings.Expr, error) {
	positive, negative := e.SplitNegations()
	included, err := c.renderEach(positive)
	if err != nil {
		return nil, err
	}
	if len(included) == 0 {
		included = []postings.Expr{c.all()}
	}
	if len(negative) == 0 {
		return allOf(included), nil
	}
	excluded, err := c.renderEach(negative)
	return postings.Except{Expr: allOf(included), Without: anyOf(excluded)}, err
}

func (c *compiler) renderEach(exprs []audit.Expr) ([]postings.Expr, error) {
	parts := make([]postings.Expr, len(exprs))
	for i := range exprs {
		var err error
		if parts[i], err = c.render(exprs[i]); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func exactly(token []byte) postings.Token { return postings.Token(token) }

// beginning matches all tokens that begin so.
func beginning(start []byte) postings.Prefix { return postings.Prefix(start) }

func allOf(parts []postings.Expr) postings.Expr {
	if len(parts) == 1 {
		return parts[0]
	}
	return postings.And(parts)
}

func anyOf(parts []postings.Expr) postings.Expr {
	if len(parts) == 1 {
		return parts[0]
	}
	return postings.Or(parts)
}

// prefix matches values that begin so.
func (c *compiler) prefix(e audit.Prefix) postings.Expr {
	field := c.tokens.field(e.Field)
	if len(e.Value) <= maxTermValue {
		return beginning(c.tokens.term(nil, field, e.Value))
	}
	return postings.Selected{
		Beginning: string(c.tokens.longTerms(nil, field, e.Value)),
		By:        longPrefix{c.values, e},
	}
}

// phrase matches words that follow each other.
func (c *compiler) phrase(e audit.Text) postings.Expr {
	tokens := make([]string, len(e.Words))
	for i, word := range e.Words {
		tokens[i] = string(appendWord(nil, c.tokens.tenant, word))
	}
	switch {
	case len(tokens) > 1:
		return postings.Phrase{Tokens: tokens, Prefix: e.Prefix}
	case e.Prefix:
		return postings.Prefix(tokens[0])
	}
	return postings.Token(tokens[0])
}

// all matches every entry of the tenant.
func (c *compiler) all() postings.Token {
	return exactly(appendToken(nil, c.tokens.tenant, tokenAll))
}
