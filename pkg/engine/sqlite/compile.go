package sqlite

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A filter becomes a list of pieces: ranges of keys, each with the FTS5
// expression that its entries match. The conditions on time are what cuts the
// keys into pieces; within a piece each of them is simply true or false, so that
// everything left is a matter of tokens, wherever in the filter it stood.

// Limits of an expression. FTS5's parser has a stack of 100 symbols; the others
// keep one hostile query from costing more than a large one.
const (
	maxMatchStack = 90
	maxMatchTerms = 4096
	maxTimeCuts   = 128
)

// piece is a range of keys whose entries match an expression of the full-text
// index; "" matches all.
type piece struct {
	span
	match string
}

// compile returns the pieces of a filter in rising order of their keys. Ranges
// in which nothing can match are left out. A filter that is too complex is an
// *audit.ValidationError at "?q".
func compile(tenant int64, filter audit.Filter) ([]piece, error) {
	whole := everything.within(filter.From, filter.To)
	if whole.empty() {
		return nil, nil
	}
	cuts := timeCuts(filter.Where, nil)
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	if len(cuts) > maxTimeCuts {
		return nil, audit.Invalid("?q", "too_complex", "must have at most %d different times", maxTimeCuts)
	}
	c := compiler{tokens: tokenizer{tenant: tenant}}
	var pieces []piece
	first := whole.first
	for _, cut := range append(cuts, everything.last) {
		part := span{max(first, whole.first), min(cut, whole.last)}
		if cut != everything.last {
			part.last = min(cut-1, whole.last)
			first = cut
		}
		if part.empty() {
			continue
		}
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

// appendPiece joins the piece to the last one where they differ in nothing but their range.
func appendPiece(pieces []piece, p piece) []piece {
	if n := len(pieces); n > 0 && pieces[n-1].match == p.match && pieces[n-1].last+1 == p.first {
		pieces[n-1].last = p.last
		return pieces
	}
	return append(pieces, p)
}

// timeCuts appends the keys at which a condition on time changes.
func timeCuts(e audit.Expr, cuts []int64) []int64 {
	switch e := e.(type) {
	case audit.And:
		for _, part := range e {
			cuts = timeCuts(part, cuts)
		}
	case audit.Or:
		for _, part := range e {
			cuts = timeCuts(part, cuts)
		}
	case audit.Not:
		cuts = timeCuts(e.Expr, cuts)
	case audit.Time:
		s := everything.within(e.From, e.To)
		if s.empty() {
			return cuts
		}
		if s.first != everything.first {
			cuts = append(cuts, s.first)
		}
		if s.last != everything.last {
			cuts = append(cuts, s.last+1)
		}
	}
	return cuts
}

// clause is a condition without time in a simplified form: and and or have two
// parts or more, none of them always, never or of their own kind.
type clause struct {
	kind  clauseKind
	match string // of an atom
	parts []clause
}

type clauseKind uint8

const (
	never clauseKind = iota
	always
	atom
	and
	or
	not
)

type compiler struct {
	tokens tokenizer
	terms  int
}

// piece returns the expression for the range; matches is false where nothing can match.
func (c *compiler) piece(e audit.Expr, at span) (match string, matches bool, err error) {
	if e == nil {
		return "", true, nil
	}
	c.terms = 0
	root, err := c.clause(e, at)
	if err != nil {
		return "", false, err
	}
	switch root.kind {
	case never:
		return "", false, nil
	case always:
		return "", true, nil
	}
	m := c.render(root)
	if m.stack > maxMatchStack {
		return "", false, audit.Invalid("?q", "too_complex", "must not be nested so deeply")
	}
	return m.text, true, nil
}

func (c *compiler) clause(e audit.Expr, at span) (clause, error) {
	switch e := e.(type) {
	case audit.And:
		return c.join(and, e, at)
	case audit.Or:
		return c.join(or, e, at)
	case audit.Not:
		part, err := c.clause(e.Expr, at)
		return negate(part), err
	case audit.Equals:
		return c.equals(e)
	case audit.Text:
		return c.text(e)
	case audit.Time:
		s := everything.within(e.From, e.To)
		if s.first <= at.first && at.last <= s.last {
			return clause{kind: always}, nil
		}
		return clause{kind: never}, nil
	case nil:
		return clause{kind: always}, nil
	default:
		return clause{}, fmt.Errorf("sqlite: cannot compile a %T", e)
	}
}

func negate(part clause) clause {
	switch part.kind {
	case never:
		return clause{kind: always}
	case always:
		return clause{kind: never}
	case not:
		return part.parts[0]
	}
	return clause{kind: not, parts: []clause{part}}
}

// join makes an and or an or of the conditions.
func (c *compiler) join(kind clauseKind, exprs []audit.Expr, at span) (clause, error) {
	neutral, absorbing := always, never
	if kind == or {
		neutral, absorbing = never, always
	}
	joined := clause{kind: kind}
	for _, e := range exprs {
		part, err := c.clause(e, at)
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
	joined := clause{kind: or}
	for _, value := range e.Values {
		part, err := c.atom(`"` + c.tokens.token(e.Field, value) + `"`)
		if err != nil {
			return clause{}, err
		}
		joined.parts = append(joined.parts, part)
	}
	switch len(joined.parts) {
	case 0:
		return clause{kind: never}, nil
	case 1:
		return joined.parts[0], nil
	}
	return joined, nil
}

func (c *compiler) text(e audit.Text) (clause, error) {
	words := audit.Words(strings.Join(e.Words, " ")) // nothing but words may reach the expression
	if len(words) == 0 {
		return clause{kind: always}, nil
	}
	match := []byte{'"'}
	for i, word := range words {
		if i > 0 {
			match = append(match, ' ')
		}
		match = appendWord(match, c.tokens.tenant, word)
	}
	match = append(match, '"')
	if e.Prefix {
		match = append(match, " *"...)
	}
	return c.atom(string(match))
}

func (c *compiler) atom(match string) (clause, error) {
	if c.terms++; c.terms > maxMatchTerms {
		return clause{}, audit.Invalid("?q", "too_complex", "must have at most %d values and phrases", maxMatchTerms)
	}
	return clause{kind: atom, match: match}, nil
}

// rendered is an FTS5 expression with the number of symbols that FTS5's parser
// holds at once while it reads it. Beyond maxMatchStack the text is left out.
type rendered struct {
	text  string
	stack int
}

const (
	stackOfPhrase   = 3 // a phrase and what it is reduced to
	stackOfBracket  = 1
	stackOfOperator = 2 // what stands before an operator, and the operator
)

// render makes the clause an FTS5 expression. FTS5 knows no negation of its
// own, only "a NOT b": a clause without anything positive is taken from the
// token that every entry has.
func (c *compiler) render(what clause) rendered {
	switch what.kind {
	case or:
		return c.list(" OR ", what.parts)
	case not:
		return difference(c.all(), c.render(what.parts[0]))
	case and:
		var positive, negative []clause
		for _, part := range what.parts {
			if part.kind == not {
				negative = append(negative, part.parts[0])
			} else {
				positive = append(positive, part)
			}
		}
		if len(negative) == 0 {
			return c.list(" AND ", positive)
		}
		if len(positive) == 0 {
			return difference(c.all(), c.list(" OR ", negative))
		}
		return difference(c.list(" AND ", positive), c.list(" OR ", negative))
	default:
		return rendered{what.match, stackOfPhrase}
	}
}

// all is the phrase that every entry of the tenant matches.
func (c *compiler) all() rendered {
	return rendered{`"` + string(appendToken(nil, c.tokens.tenant, tokenAll)) + `"`, stackOfPhrase}
}

// list joins the clauses, of which there is one at least, by an operator. Those
// that need the most of the parser's stack stand first, where the least of it is used.
func (c *compiler) list(operator string, clauses []clause) rendered {
	parts := make([]rendered, len(clauses))
	for i := range clauses {
		parts[i] = c.render(clauses[i])
	}
	if len(parts) == 1 {
		return parts[0]
	}
	slices.SortStableFunc(parts, func(a, b rendered) int { return cmp.Compare(b.stack, a.stack) })
	return bracket(operator, parts)
}

// difference is what matches the one and not the other.
func difference(what, without rendered) rendered {
	return bracket(" NOT ", []rendered{what, without})
}

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
