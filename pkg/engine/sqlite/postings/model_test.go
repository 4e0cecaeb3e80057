package postings_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// matches is the meaning of an expression.
func matches(e postings.Expr, d doc) bool {
	has := func(is func(token string) bool) bool {
		return slices.ContainsFunc(d.sequence, is) || slices.ContainsFunc(d.set, is)
	}
	switch e := e.(type) {
	case postings.And:
		for _, part := range e {
			if !matches(part, d) {
				return false
			}
		}
		return len(e) > 0
	case postings.Or:
		return slices.ContainsFunc(e, func(part postings.Expr) bool { return matches(part, d) })
	case postings.Except:
		return matches(e.Expr, d) && !matches(e.Without, d)
	case postings.Token:
		return has(func(token string) bool { return token == string(e) })
	case postings.Prefix:
		return has(func(token string) bool { return strings.HasPrefix(token, string(e)) })
	case postings.Selected:
		return has(func(token string) bool { return strings.HasPrefix(token, e.Beginning) && selects(token) })
	case postings.Phrase:
		for from := 0; len(e.Tokens) > 0 && from+len(e.Tokens) <= len(d.sequence); from++ {
			if isPhrase(e, d.sequence[from:]) {
				return true
			}
		}
		return false
	}
	panic(fmt.Sprintf("unknown expression %T", e))
}

// selector selects some tokens. It checks the keys that it gets.
type selector struct{ of *store }

func selects(token string) bool { return strings.ContainsAny(token[len(token)-1:], "0123x") }

func (s selector) Select(_ context.Context, tokens []postings.TokenDocs) ([]bool, error) {
	selected := make([]bool, len(tokens))
	for i, t := range tokens {
		selected[i] = selects(string(t.Token))
		for key := range t.Keys() {
			if d, found := s.of.docs[key]; !found || !matches(postings.Token(t.Token), d) {
				return nil, fmt.Errorf("document %d is said to have the token %q, but does not", key, t.Token)
			}
		}
	}
	return selected, nil
}

func isPhrase(e postings.Phrase, words []string) bool {
	for i, token := range e.Tokens {
		same := words[i] == token
		if e.Prefix && i == len(e.Tokens)-1 {
			same = strings.HasPrefix(words[i], token)
		}
		if !same {
			return false
		}
	}
	return true
}

// find returns the keys that Search has to yield.
func (s *store) find(e postings.Expr, first, last int64, falling bool) []int64 {
	var keys []int64
	for key, d := range s.docs {
		if first <= key && key <= last && matches(e, d) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if falling {
		slices.Reverse(keys)
	}
	return keys
}

// generator makes random documents and expressions of few different tokens, some of which are in nearly
// all documents, some in one only.
type generator struct {
	*rand.Rand
	store *store // that is searched
	words int    // how many different tokens
	key   int64
}

func (g *generator) token() string {
	n := int(math.Exp(g.Float64()*math.Log(float64(g.words)))) - 1
	return []string{"a", "ab", "abc", "b", "\xffx"}[n%5] + strconv.Itoa(n)
}

func (g *generator) tokens(n int) []string {
	tokens := make([]string, g.IntN(n+1))
	for i := range tokens {
		tokens[i] = g.token()
	}
	return tokens
}

func (g *generator) doc() doc {
	d := doc{sequence: g.tokens(8), set: append(g.tokens(5), "all")}
	if g.IntN(10) == 0 {
		d.set = append(d.set, "x"+strconv.FormatInt(g.Int64(), 36))
	}
	return d
}

func (g *generator) expr(depth int) postings.Expr {
	kind := g.IntN(10)
	if depth == 0 {
		kind = g.IntN(6)
	}
	some := func() []postings.Expr {
		parts := make([]postings.Expr, g.IntN(4))
		for i := range parts {
			parts[i] = g.expr(depth - 1)
		}
		return parts
	}
	switch kind {
	case 0:
		return postings.Token("all")
	case 1, 2:
		return postings.Token(g.token())
	case 3:
		token := g.token()
		beginning := token[:g.IntN(len(token)+1)]
		if g.IntN(2) == 0 {
			return postings.Selected{Beginning: beginning, By: selector{g.store}}
		}
		return postings.Prefix(beginning)
	case 4, 5:
		p := postings.Phrase{Tokens: g.tokens(3), Prefix: g.IntN(2) == 0}
		if p.Prefix && len(p.Tokens) > 0 {
			last := &p.Tokens[len(p.Tokens)-1]
			*last = (*last)[:g.IntN(len(*last)+1)]
		}
		return p
	case 6:
		return postings.And(some())
	case 7:
		return postings.Or(some())
	default:
		return postings.Except{Expr: g.expr(depth - 1), Without: g.expr(depth - 1)}
	}
}

// place gives prepared documents keys. Most follow the last ones.
func (g *generator) place(s *store, docs []doc) []postings.Placed {
	prepared := make([]postings.Doc, len(docs))
	for i, d := range docs {
		prepared[i] = postings.Doc{Sequence: []byte(strings.Join(d.sequence, " ")), Set: []byte(strings.Join(d.set, " "))}
	}
	batch := postings.NewBatch(prepared)
	var placed []postings.Placed
	for i, d := range docs {
		if g.IntN(20) == 0 {
			continue // left out
		}
		key := g.key
		switch g.IntN(10) {
		case 0:
			key -= g.Int64N(1 << 40)
		case 1:
			if len(s.removed) > 0 {
				key = s.removed[g.IntN(len(s.removed))]
			}
		default:
			g.key += 1 + g.Int64N(1<<g.IntN(40))
		}
		if _, taken := s.docs[key]; taken {
			continue
		}
		s.docs[key] = d
		placed = append(placed, postings.Placed{Batch: batch, Doc: i, Key: key})
	}
	return placed
}

func (g *generator) fill(t testing.TB, s *store, most int) {
	var placed []postings.Placed
	for range 1 + g.IntN(4) {
		docs := make([]doc, 1+g.IntN(most))
		for i := range docs {
			docs[i] = g.doc()
		}
		placed = append(placed, g.place(s, docs)...)
	}
	if len(placed) == 0 {
		return
	}
	if err := s.add(placed); err != nil {
		t.Fatal(err)
	}
}

// span returns a range of keys: everything, or between two documents.
func (g *generator) span(s *store) (first, last int64) {
	if g.IntN(3) == 0 || len(s.docs) == 0 {
		return math.MinInt64, math.MaxInt64
	}
	keys := make([]int64, 0, len(s.docs))
	for key := range s.docs {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	a, b := g.IntN(len(keys)), g.IntN(len(keys))
	return keys[min(a, b)] + g.Int64N(3) - 1, keys[max(a, b)] + g.Int64N(3) - 1
}

func (g *generator) compare(t *testing.T, s *store, e postings.Expr) {
	t.Helper()
	first, last := g.span(s)
	falling := g.IntN(2) == 0
	want := s.find(e, first, last, falling)
	var got []int64
	for key, err := range s.snapshot().Search(t.Context(), e, first, last, falling) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("search %#v from %d to %d, falling %v: -want +got\n%s", e, first, last, falling, diff)
	}
	n, err := s.snapshot().Count(t.Context(), e, first, last)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(len(want)) {
		t.Fatalf("count %#v from %d to %d: got %d, want %d", e, first, last, n, len(want))
	}
}

// TestSegmentsMatchLikeTheirDocuments does random operations and compares with documents as they are.
func TestSegmentsMatchLikeTheirDocuments(t *testing.T) {
	t.Parallel()
	for _, size := range []struct{ docs, words, rounds int }{{3, 10, 200}, {60, 200, 40}, {1500, 3000, 6}} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprintf("%d documents, seed %d", size.docs, seed), func(t *testing.T) {
				t.Parallel()
				g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), words: size.words, key: math.MinInt64 + 1<<50}
				s := newStore()
				g.store = s
				for range size.rounds {
					g.step(t, s, size.docs)
				}
			})
		}
	}
}

// TestLongBeginningsMatchLikeTheirDocuments: tokens with the same beginning have more places, and more long
// lists, than are kept.
func TestLongBeginningsMatchLikeTheirDocuments(t *testing.T) {
	t.Parallel()
	g := &generator{Rand: rand.New(rand.NewPCG(1, 0)), key: math.MinInt64 + 1<<50}
	s := newStore()
	docs := make([]doc, 3000)
	for i := range docs {
		for range 100 {
			word := "b" + strconv.FormatUint(g.Uint64()%1e5, 36)
			if g.IntN(10) < 7 {
				word = "a" + strconv.FormatUint(g.Uint64()%1050, 36)
			}
			docs[i].sequence = append(docs[i].sequence, word)
			if g.IntN(20) == 0 {
				docs[i].sequence = append(docs[i].sequence, "common")
			}
		}
	}
	if err := s.add(g.place(s, docs)); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		before := [][]string{nil, {"common"}, {"a7"}, {"common", "a7"}, {"common", "common"}, {"absent"}}[g.IntN(6)]
		last := []string{"", "a", "b", "b1", "c", "absent"}[g.IntN(6)]
		var e postings.Expr = postings.Phrase{Tokens: append(slices.Clip(before), last), Prefix: true}
		switch g.IntN(3) {
		case 0:
			e = postings.Except{Expr: postings.Prefix(last), Without: e}
		case 1:
			e = postings.And{postings.Token("a7"), e}
		}
		g.compare(t, s, e)
		if i%10 == 9 {
			for key := range s.docs {
				if g.IntN(50) > 0 {
					continue
				}
				if err := s.remove(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func (g *generator) step(t *testing.T, s *store, docs int) {
	g.fill(t, s, docs)
	for range 3 {
		g.compare(t, s, g.expr(3))
	}
	if g.IntN(3) == 0 {
		for key := range s.docs {
			if g.IntN(4) > 0 {
				continue
			}
			if err := s.remove(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			g.compare(t, s, g.expr(3))
		}
	}
	if n := len(s.segments); n > 1 && g.IntN(2) == 0 {
		g.Shuffle(n, func(i, j int) { s.segments[i], s.segments[j] = s.segments[j], s.segments[i] })
		if err := s.merge(t.Context(), 1+g.IntN(n)); err != nil {
			t.Fatal(err)
		}
	}
}
