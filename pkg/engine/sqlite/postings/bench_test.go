package postings_test

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite/postings"
)

// entries makes documents with the tokens of entries of one KB: some fields have few values, others one
// for each entry.
type entries struct {
	*rand.Rand
	words []string
	n     int
}

func newEntries() *entries {
	e := &entries{Rand: rand.New(rand.NewPCG(1, 2))}
	for range 2000 {
		word := make([]byte, 2+e.IntN(9))
		for i := range word {
			word[i] = byte('a' + e.IntN(26))
		}
		e.words = append(e.words, string(word))
	}
	return e
}

func (e *entries) word() string {
	return e.words[int(math.Exp(e.Float64()*math.Log(float64(len(e.words)))))-1]
}

func (e *entries) doc() postings.Doc {
	var sequence, set strings.Builder
	for range 10 {
		fmt.Fprintf(&sequence, " 7w%s", e.word())
	}
	term := func(field int, value string) { fmt.Fprintf(&set, " 7t%s%s", fieldHash(field), value) }
	set.WriteString("7a")
	term(1, fmt.Sprintf("user%d", e.IntN(5000)))
	term(2, fmt.Sprintf("session%d%x", e.n/20, e.n/20*7919))
	term(3, fmt.Sprintf("%016x%016x", e.Uint64(), e.Uint64()))
	term(4, "action"+e.words[e.IntN(30)])
	term(5, "resource"+e.words[e.IntN(10)])
	term(6, fmt.Sprintf("%08x%08x", e.Uint32(), e.Uint32()))
	term(7, []string{"info", "info", "info", "warning", "error"}[e.IntN(5)])
	fmt.Fprintf(&set, " 7i4%08x 7r%012d 7x10%d", e.IntN(1<<16), e.n, e.n/100000)
	for field := range 8 {
		fmt.Fprintf(&set, " 7o%s", fieldHash(10+field))
		term(10+field, e.words[e.IntN(len(e.words))])
	}
	for field := range 3 {
		n := e.IntN(100000)
		fmt.Fprintf(&set, " 7o%[1]s 7n%[1]s%06[2]d 7p4%[1]s%[3]d 7p5%[1]s%[4]d", fieldHash(20+field), n, n/10000, n/1000)
		term(20+field, fmt.Sprint(n))
	}
	e.n++
	return postings.Doc{Sequence: []byte(sequence.String()[1:]), Set: []byte(set.String())}
}

// fieldHash returns 13 letters.
func fieldHash(field int) string {
	sum := sha256.Sum256([]byte{byte(field)})
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:8])[:13])
}

func (e *entries) docs(n int) []postings.Doc {
	docs := make([]postings.Doc, n)
	for i := range docs {
		docs[i] = e.doc()
	}
	return docs
}

// place gives the documents of a batch the keys from one on.
func place(batch *postings.Batch, docs int, first int64) []postings.Placed {
	placed := make([]postings.Placed, docs)
	for i := range placed {
		placed[i] = postings.Placed{Batch: batch, Doc: i, Key: first + int64(i)}
	}
	return placed
}

func perEntry(b *testing.B, entries int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(entries), "ns/entry")
}

func BenchmarkNewBatch(b *testing.B) {
	docs := newEntries().docs(10000)
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("docs=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				from := i * n % len(docs)
				postings.NewBatch(docs[from : from+n])
				i++
			}
			perEntry(b, n)
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	docs := newEntries().docs(256)
	for _, n := range []int{1, 10, 128} {
		var placed []postings.Placed
		for from := 0; from+n <= len(docs); from += n {
			placed = append(placed, place(postings.NewBatch(docs[from:from+n]), n, int64(from)<<22)...)
		}
		b.Run(fmt.Sprintf("batches=%dx%d", len(docs)/n, n), func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				_, data, err := postings.Build(placed)
				if err != nil {
					b.Fatal(err)
				}
				size = len(data)
			}
			perEntry(b, len(docs))
			b.ReportMetric(float64(size)/float64(len(docs)), "bytes/entry")
		})
	}
}

// fillStore adds segments of 128 entries each.
func fillStore(tb testing.TB, s *store, e *entries, segments int) {
	for range segments {
		first := int64(e.n) << 22
		if err := s.add(place(postings.NewBatch(e.docs(128)), 128, first)); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	s, e := newStore(), newEntries()
	s.cache = nil
	level := func(name string, inputs int) {
		segments := s.segments[len(s.segments)-inputs:]
		snapshot := s.snapshot()
		snapshot.Segments = segments
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var info postings.Info
			for b.Loop() {
				var err error
				if info, err = snapshot.Merge(b.Context(), func(int, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			perEntry(b, info.Docs)
			b.ReportMetric(float64(info.Bytes)/float64(info.Docs), "bytes/entry")
		})
		s.segments = append(s.segments[inputs:], s.segments[:len(s.segments)-inputs]...)
		s.segments = segments
		if err := s.merge(b.Context(), inputs); err != nil {
			b.Fatal(err)
		}
	}
	fillStore(b, s, e, 64)
	level("level=0", 64)
	first := s.segments
	var all []postings.Segment
	all = append(all, first...)
	for range 7 {
		s.segments = nil
		fillStore(b, s, e, 64)
		if err := s.merge(b.Context(), 64); err != nil {
			b.Fatal(err)
		}
		all = append(all, s.segments...)
	}
	s.segments = all
	level("level=1", 8)
}

// BenchmarkSearch searches 140,000 entries in segments of three levels.
func BenchmarkSearch(b *testing.B) {
	s, e := newStore(), newEntries()
	s.cache = postings.NewCache(64 << 20)
	for range 2 {
		var all []postings.Segment
		for range 8 {
			kept := s.segments
			s.segments = nil
			fillStore(b, s, e, 64)
			if err := s.merge(b.Context(), 64); err != nil {
				b.Fatal(err)
			}
			all = append(all, s.segments...)
			s.segments = kept
		}
		kept := s.segments
		s.segments = all
		if err := s.merge(b.Context(), len(all)); err != nil {
			b.Fatal(err)
		}
		s.segments = append(kept, s.segments...)
	}
	for range 3 {
		kept := s.segments
		s.segments = nil
		fillStore(b, s, e, 64)
		if err := s.merge(b.Context(), 64); err != nil {
			b.Fatal(err)
		}
		s.segments = append(kept, s.segments...)
	}
	fillStore(b, s, e, 40)
	snapshot := s.snapshot()
	term := func(field int, value string) postings.Token {
		return postings.Token("7t" + fieldHash(field) + value)
	}
	word := func(i int) string { return "7w" + e.words[i] }
	users := make(postings.Or, 1000)
	for i := range users {
		users[i] = term(1, fmt.Sprintf("user%d", i))
	}
	for _, q := range []struct {
		name string
		expr postings.Expr
	}{
		{"all", postings.Token("7a")},
		{"common", term(7, "info")},
		{"rare", term(1, "user77")},
		{"none", term(1, "nobody")},
		{"and", postings.And{term(7, "error"), term(4, "action"+e.words[3]), postings.Token(word(0))}},
		{"rareand", postings.And{term(7, "info"), term(1, "user77")}},
		{"except", postings.Except{Expr: postings.Token("7a"), Without: term(7, "info")}},
		{"or1000", users},
		{"prefix", postings.Prefix("7t" + fieldHash(1) + "user1")},
		{"phrase", postings.Phrase{Tokens: []string{word(0), word(1)}}},
		{"phraseprefix", postings.Phrase{Tokens: []string{word(0), word(1)[:3]}, Prefix: true}},
	} {
		b.Run("page/"+q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for _, err := range snapshot.Search(b.Context(), q.expr, math.MinInt64, math.MaxInt64, true) {
					if err != nil {
						b.Fatal(err)
					}
					if n++; n == 50 {
						break
					}
				}
			}
		})
		b.Run("keys/"+q.name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				n = 0
				for _, err := range snapshot.Search(b.Context(), q.expr, math.MinInt64, math.MaxInt64, false) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			b.ReportMetric(float64(n), "keys")
		})
		b.Run("count/"+q.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := snapshot.Count(b.Context(), q.expr, math.MinInt64, math.MaxInt64); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
