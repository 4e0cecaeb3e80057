package postings

import (
	"math"
	"slices"
)

// phrase is the node of documents whose sequence has words one after the other.
type phrase struct {
	node  // documents with all words, in any order
	in    *view
	words []*word
	lists [2][]uint64
}

// tokenList is a token's list of documents as it is written.
type tokenList struct {
	kind  byte
	value []byte
}

// word is the lists of a word of a phrase. A place of it is a document's rank, and in the lower half the
// position where the phrase begins if the word is there.
type word struct {
	in     *view
	number uint32   // in the phrase
	places []uint64 // those of lists that were read, in rising order
	lists  []*long
}

// phraseOf returns the documents with the words and then the last one, unless that is nil.
func phraseOf(v *view, words []tokenList, last *beginning) node {
	p := &phrase{in: v}
	var nodes []node
	for i, l := range words {
		docs, places := v.list(l.kind, l.value), v.list(l.kind, l.value)
		if docs == nil || places == nil || !docs.placed {
			return &few{}
		}
		nodes = append(nodes, &long{v, docs})
		p.words = append(p.words, &word{in: v, number: uint32(i), lists: []*long{{v, places}}})
	}
	if last != nil {
		slices.Sort(last.places)
		p.words = append(p.words, &last.word)
		nodes = append(nodes, last.node())
	}
	p.node = intersectionOf(nodes)
	return p
}

// beginning is the last word of a phrase if it is the beginning of a token. Many tokens can begin so, and
// have many places. It keeps about as many places as limit says. If there are more, it finds the phrases
// with the places so far, and then keeps only the documents.
type beginning struct {
	word
	before []tokenList   // the words before
	allow  *many         // documents with all of these; nil: not known yet
	docs   []*listReader // the same as lists, to read the documents
	found  *many         // documents with phrases; nil: there are none yet
	limit  int
	reader listReader
}

// A beginning keeps maxPlaces places, or one for docsPerPlace documents of a larger segment: the time is
// to grow no faster than the segment.
const (
	maxPlaces    = 1 << 16
	docsPerPlace = 16
)

// phraseBeginning returns the documents with the words and then a token that begins like the last one.
func phraseBeginning(v *view, words []tokenList, last string) node {
	b := &beginning{word: word{in: v, number: uint32(len(words))}, before: words, limit: max(maxPlaces, int(v.docs/docsPerPlace))}
	for c := range v.beginningWith(last) {
		b.add(c.kind, c.value)
	}
	u := unionOf(v)
	if len(b.places) > 0 || len(b.lists) > 0 {
		u.add(phraseOf(v, words, b))
	}
	if b.found != nil {
		u.add(b.found)
	}
	return u.node()
}

// add adds the list of a token.
func (b *beginning) add(kind byte, value []byte) {
	if !isLong(kind) {
		if kind == listShortPlaced && b.reader.open(b.in.segment, kind, value) {
			b.addPlaces(&long{b.in, &b.reader})
		}
		return
	}
	l := b.in.list(kind, value)
	switch {
	case l == nil || !l.placed:
	case len(b.lists) == maxLists:
		b.addPlaces(&long{b.in, l})
	default:
		if docs := b.in.list(kind, value); docs != nil {
			b.lists, b.docs = append(b.lists, &long{b.in, l}), append(b.docs, docs)
		}
	}
}

// addPlaces adds the places of a list.
func (b *beginning) addPlaces(l *long) {
	l.each(b.in.first, b.in.last, func(i, j int) {
		for ; i <= j; i++ {
			rank := b.in.rank(l.ordinals[i])
			if b.allow != nil && !b.allow.has(rank) {
				continue
			}
			if b.places = b.appendPlaces(b.places, rank, l.positionsOf(i)); len(b.places) >= b.limit {
				b.pour()
			}
		}
	})
}

// pour finds the phrases with the places so far. Before that it leaves out documents without the words
// before.
func (b *beginning) pour() {
	if b.allow == nil && len(b.before) > 0 {
		nodes := make([]node, 0, len(b.before))
		for _, l := range b.before {
			if docs := b.in.list(l.kind, l.value); docs != nil {
				nodes = append(nodes, &long{b.in, docs})
			}
		}
		b.allow = manyOf(b.in)
		b.allow.addAll(b.in, intersectionOf(nodes))
		b.places = slices.DeleteFunc(b.places, func(place uint64) bool { return !b.allow.has(uint32(place >> 32)) })
		if len(b.places) < b.limit/2 {
			return
		}
	}
	if b.found == nil {
		b.found = manyOf(b.in)
	}
	so := &beginning{word: word{in: b.in, number: b.number, places: b.places}}
	b.found.addAll(b.in, phraseOf(b.in, b.before, so))
	b.places = b.places[:0]
}

// node returns the documents with places, which are in rising order, and those of the lists.
func (b *beginning) node() node {
	u := unionOf(b.in)
	for _, l := range b.docs {
		u.addLong(l)
	}
	ranks := make([]uint32, 0, len(b.places))
	for _, place := range b.places {
		if rank := uint32(place >> 32); len(ranks) == 0 || ranks[len(ranks)-1] != rank {
			ranks = append(ranks, rank)
		}
	}
	u.add(&few{ranks})
	return u.node()
}

// appendPlaces appends the places of a document by its positions.
func (w *word) appendPlaces(places []uint64, rank uint32, positions []byte) []uint64 {
	at := uint64(0)
	for more := true; more; {
		var v uint64
		if v, positions = uvarint(positions); positions == nil {
			w.in.damaged("positions")
			return places
		}
		at += v >> 1
		if at > math.MaxUint32 {
			w.in.damaged("positions")
			return places
		}
		if at > uint64(w.number) {
			places = append(places, uint64(rank)<<32|(at-uint64(w.number)))
		}
		more = v&1 == 1
	}
	return places
}

// within appends the word's places in documents of a window, from ≤ rank ≤ to, in rising order.
func (w *word) within(places []uint64, docs *window, from, to uint32) []uint64 {
	at, _ := slices.BinarySearch(w.places, uint64(from)<<32)
	for w.places = w.places[at:]; len(w.places) > 0 && w.places[0]>>32 <= uint64(to); w.places = w.places[1:] {
		if docs.has(uint32(w.places[0] >> 32)) {
			places = append(places, w.places[0])
		}
	}
	for _, l := range w.lists {
		l.each(from, to, func(i, j int) {
			for ; i <= j; i++ {
				if rank := w.in.rank(l.ordinals[i]); docs.has(rank) {
					places = w.appendPlaces(places, rank, l.positionsOf(i))
				}
			}
		})
	}
	if !slices.IsSorted(places) {
		slices.Sort(places)
	}
	return places
}

// ranksAtOnce bounds the documents whose places are in memory at the same time. A document can have
// thousands.
const ranksAtOnce = 256

func (p *phrase) fill(w *window, from, to uint32) {
	var docs window
	p.node.fill(&docs, from, to)
	first, last, ok := docs.ends(beginOf(from))
	for ok && first <= last && !p.in.stopped() {
		end := min(first|(ranksAtOnce-1), last)
		p.fillFew(w, &docs, first, end)
		first = end + 1
	}
}

// fillFew adds the documents from ≤ rank ≤ to that match, of those with all words.
func (p *phrase) fillFew(w, docs *window, from, to uint32) {
	places := p.words[0].within(p.lists[0][:0], docs, from, to)
	p.lists[0] = places
	for _, word := range p.words[1:] {
		if len(places) == 0 {
			return
		}
		p.lists[1] = word.within(p.lists[1][:0], docs, from, to)
		places = common(places, p.lists[1])
	}
	for _, place := range places {
		w.set(uint32(place >> 32))
	}
}

// common returns the numbers of two rising lists that both have, in the memory of the first one.
func common(a, b []uint64) []uint64 {
	both := a[:0]
	for _, x := range a {
		for len(b) > 0 && b[0] < x {
			b = b[1:]
		}
		if len(b) > 0 && b[0] == x {
			both = append(both, x)
		}
	}
	return both
}
