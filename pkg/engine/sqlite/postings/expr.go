package postings

import (
	"bytes"
	"context"
	"iter"
)

// Expr is a condition on the tokens of a document.
type Expr interface {
	// in returns the documents of a view that match.
	in(v *view) node
}

type (
	// And matches documents that all of its expressions match. Without any it matches nothing.
	And []Expr
	// Or matches documents that one of its expressions matches.
	Or []Expr
	// Except matches documents that Expr matches and Without does not.
	Except struct{ Expr, Without Expr }
	// Token matches documents with the token.
	Token string
	// Prefix matches documents with a token that begins so.
	Prefix string
	// Selected matches documents with a token that begins with Beginning and that By selects.
	Selected struct {
		Beginning string
		By        Selector
	}
	// Phrase matches documents whose Sequence has the tokens one after the other. If Prefix is true,
	// the last one is the beginning of a token.
	Phrase struct {
		Tokens []string
		Prefix bool
	}
)

// Selector selects tokens. A search asks for each token of a segment again. An error of the selector is that
// of the search.
type Selector interface {
	// Select reports for each token whether documents with it match.
	Select(ctx context.Context, tokens []TokenDocs) ([]bool, error)
}

// TokenDocs is a token of a segment, and the documents with it that a search may find.
type TokenDocs struct {
	Token []byte
	view  *view
	list  tokenList
}

// Keys yields the keys of the documents, of which a damaged segment may have none.
func (t TokenDocs) Keys() iter.Seq[int64] { return t.view.keysOf(t.list) }

// selectedAtOnce is how many tokens a selector gets at a time. It can read their documents in the order
// of the keys then.
const selectedAtOnce = 1 << 15

func (e And) in(v *view) node {
	nodes := make([]node, 0, len(e))
	for _, part := range e {
		n := part.in(v)
		if n.most() == 0 {
			return n
		}
		nodes = append(nodes, n)
	}
	return intersectionOf(nodes)
}

func (e Or) in(v *view) node {
	u := unionOf(v)
	for _, part := range e {
		switch part := part.(type) {
		case Token:
			u.addToken(string(part))
		case Prefix:
			u.addPrefix(string(part))
		default:
			u.add(part.in(v))
		}
	}
	return u.node()
}

func (e Except) in(v *view) node {
	n := e.Expr.in(v)
	if n.most() == 0 {
		return n
	}
	without := e.Without.in(v)
	if without.most() == 0 {
		return n
	}
	return &difference{node: n, without: without}
}

func (e Token) in(v *view) node { return Or{e}.in(v) }

func (e Prefix) in(v *view) node { return Or{e}.in(v) }

func (e Selected) in(v *view) node {
	u := unionOf(v)
	var tokens []TokenDocs
	for c := range v.beginningWith(e.Beginning) {
		tokens = append(tokens, TokenDocs{bytes.Clone(c.token), v, tokenList{c.kind, c.value}})
		if len(tokens) == selectedAtOnce {
			e.add(u, tokens)
			tokens = tokens[:0]
		}
	}
	e.add(u, tokens)
	return u.node()
}

// add adds the lists of the tokens that are selected.
func (e Selected) add(u *union, tokens []TokenDocs) {
	if len(tokens) == 0 || u.in.stopped() {
		return
	}
	selected, err := e.By.Select(u.in.ctx, tokens)
	if err != nil {
		u.in.fail(err)
		return
	}
	for i, t := range tokens {
		if selected[i] {
			u.addList(t.list.kind, t.list.value)
		}
	}
}

func (e Phrase) in(v *view) node {
	var words []tokenList
	for i, token := range e.Tokens {
		if e.Prefix && i == len(e.Tokens)-1 {
			return phraseBeginning(v, words, token)
		}
		kind, value, ok := v.find(token)
		if !ok {
			return &few{}
		}
		words = append(words, tokenList{kind, value})
	}
	return phraseOf(v, words, nil)
}
