package postings

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
	// Phrase matches documents whose Sequence has the tokens one after the other. If Prefix is true,
	// the last one is the beginning of a token.
	Phrase struct {
		Tokens []string
		Prefix bool
	}
)

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

func (e Phrase) in(v *view) node {
	p := &phrase{in: v}
	var nodes []node
	for i, token := range e.Tokens {
		u, w := unionOf(v), &word{in: v, number: uint32(i)}
		u.word = w
		if e.Prefix && i == len(e.Tokens)-1 {
			u.addPrefix(token)
		} else {
			u.addToken(token)
		}
		n := u.node()
		if n.most() == 0 {
			return n
		}
		nodes, p.words = append(nodes, n), append(p.words, w)
	}
	p.node = intersectionOf(nodes)
	return p
}
