package postings

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Placed is a document of a batch, by its number there, with its key.
type Placed struct {
	Batch *Batch
	Doc   int
	Key   int64
}

// Build returns a whole segment of the documents as its page 0. The documents may have any order. No
// two have the same key. Documents of the batches that are not given are left out.
func Build(docs []Placed) (Info, []byte, error) {
	if len(docs) == 0 {
		return Info{}, nil, nil
	}
	w := newSegmentWriter(nil)
	b, err := newBuild(docs, w)
	if err == nil {
		err = b.join(w)
	}
	if err != nil {
		return Info{}, nil, err
	}
	return w.finish()
}

// absent is the ordinal of a document that is left out.
const absent = math.MaxUint32

type build struct {
	runs      []*batchRun
	ordinals  [][]uint32 // of the documents of each run
	places    []uint64   // of a token: the ordinal, and the position
	positions []byte     // of a document
}

// newBuild gives the documents their ordinals, and writes their keys.
func newBuild(docs []Placed, w *segmentWriter) (*build, error) {
	docs = slices.Clone(docs)
	slices.SortFunc(docs, func(x, y Placed) int { return cmp.Compare(x.Key, y.Key) })
	b := &build{}
	numbers := map[*Batch]int{}
	for i, doc := range docs {
		if i > 0 && docs[i-1].Key == doc.Key {
			return nil, fmt.Errorf("two documents have the key %d", doc.Key)
		}
		if err := w.addKey(doc.Key); err != nil {
			return nil, err
		}
		number, known := numbers[doc.Batch]
		if !known {
			number = len(b.runs)
			numbers[doc.Batch] = number
			b.runs = append(b.runs, &batchRun{Batch: doc.Batch})
			b.ordinals = append(b.ordinals, slices.Repeat([]uint32{absent}, doc.Batch.docs))
		}
		b.ordinals[number][doc.Doc] = uint32(i)
	}
	return b, w.endKeys()
}

// join writes the tokens of all batches.
func (b *build) join(w *segmentWriter) error {
	runs := make([]run, len(b.runs))
	for i := range b.runs {
		runs[i] = b.runs[i]
	}
	t := newTournament(runs)
	winner, shared, _, ok := t.next()
	for ok {
		token, sharedByToken, placed, again := t.tokens[winner], shared, false, true
		b.places = b.places[:0]
		for again && ok {
			placed = b.take(winner) || placed
			winner, shared, again, ok = t.next()
		}
		w.list.start(placed)
		b.write(&w.list)
		if err := w.addToken(token, sharedByToken); err != nil {
			return err
		}
	}
	return nil
}

// take adds the places of a run's current token. It reports whether they have positions.
func (b *build) take(number int) (placed bool) {
	r, ordinals := b.runs[number], b.ordinals[number]
	token := &r.tokens[r.at-1]
	for _, p := range r.places[r.from:token.end] {
		if ordinal := ordinals[p.doc]; ordinal != absent {
			b.places = append(b.places, uint64(ordinal)<<32|uint64(p.position))
		}
	}
	return token.placed
}

// write adds the documents of the places to a list.
func (b *build) write(w *listWriter) {
	if !slices.IsSorted(b.places) {
		slices.Sort(b.places)
	}
	positions := b.positions
	for places := b.places; len(places) > 0; {
		ordinal, last := places[0]>>32, uint32(0)
		positions = positions[:0]
		for more := true; more; {
			position := uint32(places[0])
			places = places[1:]
			more = len(places) > 0 && places[0]>>32 == ordinal
			if position > 0 {
				positions = appendPosition(positions, position-last, more)
				last = position
			}
		}
		w.add(uint32(ordinal), positions)
	}
	b.positions = positions
}
