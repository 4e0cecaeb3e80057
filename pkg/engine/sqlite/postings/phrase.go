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

// word is the lists of a word of a phrase. A place of it is a document's rank, and in the lower half the
// position where the phrase begins if the word is there.
type word struct {
	in     *view
	number uint32   // in the phrase
	places []uint64 // in short lists
	sorted bool
	lists  []*long
}

// add adds a token that may be the word.
func (w *word) add(kind byte, value []byte) {
	l := w.in.list(kind, value)
	switch {
	case l == nil || !l.placed:
	case kind == listShortPlaced:
		for i, ordinal := range l.ordinals {
			if rank := w.in.rank(ordinal); w.in.first <= rank && rank <= w.in.last {
				w.places = w.appendPlaces(w.places, rank, l.positionsOf(i))
			}
		}
	default:
		w.lists = append(w.lists, &long{w.in, l})
	}
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
	if !w.sorted {
		slices.Sort(w.places)
		w.sorted = true
	}
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

func (p *phrase) fill(w *window, from, to uint32) {
	var docs window
	p.node.fill(&docs, from, to)
	first, last, ok := docs.ends(beginOf(from))
	if !ok {
		return
	}
	places := p.words[0].within(p.lists[0][:0], &docs, first, last)
	p.lists[0] = places
	for _, word := range p.words[1:] {
		p.lists[1] = word.within(p.lists[1][:0], &docs, first, last)
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
