package sqlite

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A filter compiles to pieces: ranges of keys, each with the FTS5 expression that
// its entries match. The bounds of the conditions on time divide the keys into
// these ranges. Within a range each such condition is true or false, so that
// only conditions on tokens remain.

// Limits of an expression. FTS5's parser has a stack of 100 symbols. The other
// two bound the cost of a hostile query.
const (
	maxMatchStack = 90
	maxMatchTerms = 4096
	maxTimeCuts   = 128
)

// piece is a range of keys and the full-text expression for its entries. ""
// matches all of them.
type piece struct {
	span
	match string
}

// plan is a compiled filter.
type plan struct {
	compiler compiler
	pieces   []piece // without the condition that entries have not expired
	// unexpired is that condition, and expiries are the keys at which it changes.
	unexpired audit.Expr
	expiries  []int64
}

// newPlan compiles a filter. It returns an *audit.ValidationError at "?q" if the filter is
// too complex.
func newPlan(tenant int64, filter audit.Filter) (*plan, error) {
	p := &plan{compiler: compiler{tokens: newTokenizer(tenant), rendered: map[term]string{}}}
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
	if n := len(pieces); n > 0 && pieces[n-1].match == p.match && pieces[n-1].last+1 == p.first {
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
	tokens   tokenizer
	rendered map[term]string // the tokens so far: pieces repeat them
	phrases  int             // in the expression in progress
}

type term struct {
	field audit.Field
	value string
}

// token returns the phrase of a field's value.
func (c *compiler) token(field audit.Field, value string) string {
	text, known := c.rendered[term{field, value}]
	if !known {
		text = exactly(c.tokens.term(nil, c.tokens.field(field), value))
		c.rendered[term{field, value}] = text
	}
	return text
}

// piece returns the full-text expression for the range. matches is false if
// nothing in the range can match.
func (c *compiler) piece(e audit.Expr, at span) (match string, matches bool, err error) {
	normal := at.normalize(e)
	if matchesAll(normal) || matchesNone(normal) {
		return "", matchesAll(normal), nil
	}
	if audit.CountConditions(normal) > maxMatchTerms {
		return "", false, audit.Invalid("?q", "too_complex", "must have at most %d values and phrases", maxMatchTerms)
	}
	c.phrases = 0
	m, err := c.render(normal)
	if err != nil {
		return "", false, err
	}
	if c.phrases > maxMatchTerms {
		return "", false, audit.Invalid("?q", "too_complex", "must have fewer comparisons")
	}
	if m.stack > maxMatchStack {
		return "", false, audit.Invalid("?q", "too_complex", "must not be nested so deeply")
	}
	return m.text, true, nil
}

// restrict adds the condition that entries have not expired to the full-text expression of
// the range. The sum is deeper by a few levels. maxMatchStack leaves room for them.
func (c *compiler) restrict(match string, unexpired audit.Expr, at span) (restricted string, matches bool, err error) {
	if unexpired == nil {
		return match, true, nil
	}
	normal := at.normalize(unexpired)
	if matchesAll(normal) || matchesNone(normal) {
		return match, matchesAll(normal), nil
	}
	operator := " AND "
	if not, ok := normal.(audit.Not); ok && match != "" {
		operator, normal = " NOT ", not.Expr
	}
	m, err := c.render(normal)
	if err != nil || match == "" {
		return m.text, true, err
	}
	return "(" + match + operator + m.text + ")", true, nil
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

// rendered is an FTS5 expression with the stack depth that FTS5's parser needs
// for it. An expression deeper than maxMatchStack has no text.
type rendered struct {
	text  string
	stack int
}

const (
	stackOfPhrase   = 3 // the phrase and what the parser reduces it to
	stackOfBracket  = 1
	stackOfOperator = 2 // the left operand and the operator
)

// render returns the FTS5 expression of an expression in normal form.
func (c *compiler) render(e audit.Expr) (rendered, error) {
	switch e := e.(type) {
	case audit.And:
		return c.renderAnd(e)
	case audit.Or:
		return c.join(" OR ", e)
	case audit.Not:
		return c.renderAnd(audit.And{e})
	case audit.Equals:
		return rendered{c.token(e.Field, e.Values[0]), stackOfPhrase}, nil // simplify left one value
	case audit.Text:
		return rendered{c.phrase(e), stackOfPhrase}, nil
	case audit.Prefix:
		return rendered{beginning(c.tokens.term(nil, c.tokens.field(e.Field), e.Value)), stackOfPhrase}, nil
	}
	phrases, err := c.alternatives(e)
	if err != nil || len(phrases) == 0 {
		return c.none(), err
	}
	c.phrases += len(phrases)
	return anyOf(phrases), nil
}

// renderAnd returns "positive NOT negative". FTS5 has no unary NOT: if no part
// is positive, the token that every entry has takes its place.
func (c *compiler) renderAnd(e audit.And) (rendered, error) {
	positive, negative := e.SplitNegations()
	if len(negative) == 0 {
		return c.join(" AND ", positive)
	}
	included := c.all()
	if len(positive) > 0 {
		var err error
		if included, err = c.join(" AND ", positive); err != nil {
			return rendered{}, err
		}
	}
	excluded, err := c.join(" OR ", negative)
	if err != nil {
		return rendered{}, err
	}
	return bracket(" NOT ", []rendered{included, excluded}), nil
}

// exactly returns the phrase of a token.
func exactly(token []byte) string { return `"` + string(token) + `"` }

// beginning returns the phrase of all tokens that begin so.
func beginning(start []byte) string { return exactly(start) + " *" }

// anyOf returns the expression that one of the phrases matches.
func anyOf(phrases []string) rendered {
	parts := make([]rendered, len(phrases))
	for i, phrase := range phrases {
		parts[i] = rendered{phrase, stackOfPhrase}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return bracket(" OR ", parts)
}

// phrase returns a phrase of words. They consist of letters, marks and digits,
// so nothing in them can end the phrase.
func (c *compiler) phrase(e audit.Text) string {
	match := []byte{'"'}
	for i, word := range e.Words {
		if i > 0 {
			match = append(match, ' ')
		}
		match = appendWord(match, c.tokens.tenant, word)
	}
	match = append(match, '"')
	if e.Prefix {
		match = append(match, " *"...)
	}
	return string(match)
}

// all returns the phrase that every entry of the tenant matches.
func (c *compiler) all() rendered {
	return rendered{exactly(appendToken(nil, c.tokens.tenant, tokenAll)), stackOfPhrase}
}

// none returns an expression that no entry matches.
func (c *compiler) none() rendered { return bracket(" NOT ", []rendered{c.all(), c.all()}) }

// join joins one or more expressions by an operator. Those that need most of
// the parser's stack come first, where the parser has used least of it.
func (c *compiler) join(operator string, exprs []audit.Expr) (rendered, error) {
	parts := make([]rendered, len(exprs))
	for i := range exprs {
		var err error
		if parts[i], err = c.render(exprs[i]); err != nil {
			return rendered{}, err
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	slices.SortStableFunc(parts, func(a, b rendered) int { return cmp.Compare(b.stack, a.stack) })
	return bracket(operator, parts), nil
}

// bracket joins expressions by an operator in the order given.
func bracket(operator string, parts []rendered) rendered {
	whole := rendered{stack: stackOfBracket + parts[0].stack}
	for _, part := range parts[1:] {
		whole.stack = max(whole.stack, stackOfBracket+stackOfOperator+part.stack)
	}
	if whole.stack > maxMatchStack {
		return whole
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = part.text
	}
	whole.text = "(" + strings.Join(texts, operator) + ")"
	return whole
}
