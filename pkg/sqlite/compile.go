package sqlite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A filter becomes a list of pieces: ranges of keys, each with the FTS5
// expression that its entries match. The conditions on time are what cuts the
// keys into pieces; within a piece each of them is simply true or false, so that
// everything left is a matter of tokens, wherever in the filter it stood.

// Limits of an expression. FTS5's parser ends at a fixed depth; the others keep
// one hostile query from costing more than a large one.
const (
	maxMatchDepth = 24
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
	if depth(root) > maxMatchDepth {
		return "", false, audit.Invalid("?q", "too_complex", "must not be nested more than %d levels deep", maxMatchDepth)
	}
	var out strings.Builder
	c.render(&out, root)
	return out.String(), true, nil
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

// depth is how deep the brackets of a rendered clause are nested.
func depth(c clause) int {
	if c.kind == atom {
		return 0
	}
	deepest := 0
	for _, part := range c.parts {
		deepest = max(deepest, depth(part))
	}
	if c.kind == and && slices.ContainsFunc(c.parts, isNot) {
		return deepest + 2
	}
	return deepest + 1
}

func isNot(c clause) bool { return c.kind == not }

// render writes the clause as an FTS5 expression. FTS5 knows no negation of
// its own, only "a NOT b": a clause without anything positive is taken from the
// token that every entry has.
func (c *compiler) render(out *strings.Builder, what clause) {
	switch what.kind {
	case atom:
		out.WriteString(what.match)
	case or:
		c.renderList(out, " OR ", what.parts)
	case not:
		c.renderDifference(out, nil, what.parts)
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
			c.renderList(out, " AND ", positive)
			return
		}
		c.renderDifference(out, positive, negative)
	}
}

// renderDifference writes what matches all of positive and none of negative.
func (c *compiler) renderDifference(out *strings.Builder, positive, negative []clause) {
	if len(positive) == 0 {
		positive = []clause{{kind: atom, match: `"` + string(appendToken(nil, c.tokens.tenant, tokenAll)) + `"`}}
	}
	out.WriteByte('(')
	c.renderList(out, " AND ", positive)
	out.WriteString(" NOT ")
	c.renderList(out, " OR ", negative)
	out.WriteByte(')')
}

func (c *compiler) renderList(out *strings.Builder, operator string, parts []clause) {
	if len(parts) == 1 {
		c.render(out, parts[0])
		return
	}
	out.WriteByte('(')
	for i, part := range parts {
		if i > 0 {
			out.WriteString(operator)
		}
		c.render(out, part)
	}
	out.WriteByte(')')
}
