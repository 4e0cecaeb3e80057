package postings

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// TestPlacesOfBeginningsAreBounded: the last word of a phrase begins tokens that have more places than are
// kept, in short lists and in long ones. What is kept is measured once all of them were read.
func TestPlacesOfBeginningsAreBounded(t *testing.T) {
	t.Parallel()
	const docs, words = 3000, 100
	every := make([]Doc, docs)
	for i := range every {
		first := "common"
		if i%1000 == 7 {
			first = "rare"
		}
		sequence := []string{first}
		for j := range words {
			n := i*words + j
			if j%2 == 0 { // more than maxLists words, each in over 128 documents
				n = n / 2 % 1100
			}
			sequence = append(sequence, fmt.Sprintf("%c%d", "qu"[j%2], n), "common")
		}
		every[i].Sequence = []byte(strings.Join(sequence, " "))
	}
	batch := NewBatch(every)
	placed := make([]Placed, docs)
	for i := range placed {
		placed[i] = Placed{batch, i, int64(i)}
	}
	info, data, err := Build(placed)
	if err != nil {
		t.Fatal(err)
	}
	s := &Snapshot{Source: pageMap{{0, 0}: data}, Segments: []Segment{{Info: info}}}
	for _, test := range []struct {
		words       []string
		falling     bool
		first, last int64
		want        int64
	}{
		{[]string{"common", "u"}, false, math.MinInt64, math.MaxInt64, docs},
		{[]string{"common", "u"}, true, 1000, 2999, 2000},
		{[]string{"common", "u"}, false, 0, 999, 1000},
		{[]string{"rare", "u"}, false, math.MinInt64, math.MaxInt64, 0},
		{[]string{"rare", "q"}, true, math.MinInt64, math.MaxInt64, 3},
		{[]string{"rare", "q"}, false, 1007, 2006, 1},
		{[]string{"u"}, true, math.MinInt64, math.MaxInt64, docs},
		{[]string{""}, false, math.MinInt64, math.MaxInt64, docs},
		{[]string{"common", "common", ""}, false, math.MinInt64, math.MaxInt64, 0},
	} {
		r := newReader(t.Context(), s, true)
		c := r.search(s.Segments[0], Phrase{Tokens: test.words, Prefix: true}, test.first, test.last, test.falling)
		if got := placesOf(c.found); got > 2*maxPlaces { // some capacity is spare
			t.Errorf("%q from %d to %d: keeps %d places, want at most %d", test.words, test.first, test.last, got, 2*maxPlaces)
		}
		if n := c.count(); n != test.want || r.err != nil {
			t.Errorf("%q from %d to %d: counted %d (%v), want %d", test.words, test.first, test.last, n, r.err, test.want)
		}
	}
}

// placesOf returns the memory for places that the phrases of a node have.
func placesOf(n node) (places int) {
	switch n := n.(type) {
	case *union:
		for _, part := range n.parts {
			places += placesOf(part)
		}
	case *phrase:
		for _, word := range n.words {
			places += cap(word.places)
		}
	}
	return places
}
