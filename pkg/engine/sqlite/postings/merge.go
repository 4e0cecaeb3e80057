package postings

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Merge writes one segment of all documents of the snapshot that are not removed. It gives the pages to
// write one after the other, in any order of their numbers, and never a page twice. If no document is
// left, it writes nothing and returns an Info without documents. Merge needs memory for a few pages
// of each segment, and 4 bytes for each document. An error of write ends it.
func (s *Snapshot) Merge(ctx context.Context, write func(page int, data []byte) error) (Info, error) {
	m := &merge{reader: newReader(ctx, s, false), writer: newSegmentWriter(write)}
	m.segments = s.within(math.MinInt64, math.MaxInt64, false)
	for _, in := range m.segments {
		m.inputs = append(m.inputs, m.open(in.Info))
	}
	if m.err == nil {
		m.mergeKeys()
	}
	if m.err != nil || m.writer.info.Docs == 0 {
		return Info{}, m.err
	}
	m.mergeTokens()
	if m.err != nil {
		return Info{}, m.err
	}
	info, _, err := m.writer.finish()
	return info, err
}

type merge struct {
	*reader
	writer   *segmentWriter
	segments []Segment
	inputs   []*segment
	ordinals [][]uint32 // the new ones of the documents of each input
	cursors  []*tokenCursor

	// Of the current token:
	lists     []input
	docs      []mergedDoc
	positions []byte
	readers   []reading
	heap      heads
}

// input is a list of the current token.
type input struct {
	of    int // the number of the input
	kind  byte
	value []byte
}

// mergedDoc is a document with its new ordinal, and where its positions are.
type mergedDoc struct {
	ordinal  uint32
	from, to int
}

// reading is a list that is read.
type reading struct {
	listReader
	ordinals []uint32 // the new ones of the segment's documents
	at       int      // the next document of the current block
}

// mergeKeys gives the documents new ordinals, and writes their keys.
func (m *merge) mergeKeys() {
	var heap heads
	for i, s := range m.inputs {
		m.ordinals = append(m.ordinals, make([]uint32, 0, s.docs))
		heap.push(head{valueOf(s.key(0), false), i})
	}
	next := uint32(0)
	for len(heap) > 0 && !m.stopped() {
		h := &heap[0]
		s, ordinals := m.inputs[h.from], &m.ordinals[h.from]
		if isRemoved(m.segments[h.from].Removed, uint32(len(*ordinals))) {
			*ordinals = append(*ordinals, absent)
		} else {
			*ordinals = append(*ordinals, next)
			next++
			if err := m.writer.addKey(keyOf(h.value, false)); err != nil {
				m.fail(err)
			}
		}
		if n := uint32(len(*ordinals)); n < s.docs {
			h.value = valueOf(s.key(n), false)
			heap.fix()
		} else {
			heap.pop()
		}
	}
	m.fail(m.writer.endKeys())
}

// segmentRun is a tokenCursor as a run.
type segmentRun struct{ *tokenCursor }

func (r segmentRun) next() (token []byte, shared int, ok bool) {
	ok = r.tokenCursor.next()
	return r.token, r.shared, ok
}

func (m *merge) mergeTokens() {
	runs := make([]run, len(m.inputs))
	for i, s := range m.inputs {
		m.cursors = append(m.cursors, s.tokensFrom(""))
		runs[i] = segmentRun{m.cursors[i]}
	}
	t := newTournament(runs)
	var token []byte
	winner, shared, _, ok := t.next()
	for ok && !m.stopped() {
		token = append(token[:0], t.tokens[winner]...)
		sharedByToken, allShort := shared, true
		m.lists = m.lists[:0]
		for again := true; again && ok; winner, shared, again, ok = t.next() {
			c := m.cursors[winner]
			m.lists = append(m.lists, input{of: winner, kind: c.kind, value: c.value})
			allShort = allShort && c.kind <= listShortPlaced
		}
		if allShort {
			m.mergeShort()
		} else {
			m.mergeLong()
		}
		m.fail(m.writer.addToken(token, sharedByToken))
	}
}

// mergeShort writes the documents of short lists.
func (m *merge) mergeShort() {
	m.docs, m.positions = m.docs[:0], m.positions[:0]
	placed, sorted := false, true
	for i := range m.lists {
		l := &m.lists[i]
		if !m.addShort(l) {
			m.inputs[l.of].damaged("list")
			return
		}
		placed = placed || l.kind == listShortPlaced
	}
	for i := 1; i < len(m.docs) && sorted; i++ {
		sorted = m.docs[i-1].ordinal < m.docs[i].ordinal
	}
	if !sorted {
		slices.SortFunc(m.docs, func(x, y mergedDoc) int { return cmp.Compare(x.ordinal, y.ordinal) })
	}
	m.writer.list.start(placed)
	for _, d := range m.docs {
		m.writer.list.add(d.ordinal, m.positions[d.from:d.to])
	}
}

// addShort adds the documents of a short list that are left.
func (m *merge) addShort(l *input) (ok bool) {
	ordinals := m.ordinals[l.of]
	next := uint64(0)
	for rest := l.value; len(rest) > 0; {
		var gap uint64
		if gap, rest = uvarint(rest); rest == nil || gap >= uint64(len(ordinals)) {
			return false
		}
		if next += gap + 1; next > uint64(len(ordinals)) {
			return false
		}
		d := mergedDoc{ordinal: ordinals[next-1], from: len(m.positions)}
		if l.kind == listShortPlaced {
			after := skipPositions(rest)
			if after == nil {
				return false
			}
			m.positions = append(m.positions, rest[:len(rest)-len(after)]...)
			rest = after
		}
		if d.ordinal != absent {
			d.to = len(m.positions)
			m.docs = append(m.docs, d)
		}
	}
	return true
}

// mergeLong writes the documents of lists of any kind.
func (m *merge) mergeLong() {
	placed := false
	for len(m.readers) < len(m.lists) {
		m.readers = append(m.readers, reading{})
	}
	m.heap = m.heap[:0]
	for i, l := range m.lists {
		r := &m.readers[i]
		r.ordinals, r.at = m.ordinals[l.of], 0
		if !r.open(m.inputs[l.of], l.kind, l.value) {
			return
		}
		placed = placed || r.placed
		if ordinal, ok := r.first(); ok {
			m.heap.push(head{uint64(ordinal), i})
		}
	}
	m.writer.list.start(placed)
	for len(m.heap) > 0 {
		ordinal, ok := m.readers[m.heap[0].from].copyTo(&m.writer.list, m.heap.second())
		if !ok {
			m.heap.pop()
			continue
		}
		m.heap[0].value = uint64(ordinal)
		m.heap.fix()
	}
}

// first finds the first document that is left from the current one on. It returns its new ordinal.
func (l *reading) first() (ordinal uint32, ok bool) {
	for {
		for ; l.at < len(l.listReader.ordinals); l.at++ {
			if ordinal = l.ordinals[l.listReader.ordinals[l.at]]; ordinal != absent {
				return ordinal, true
			}
		}
		if l.at = 0; !l.advance() {
			return 0, false
		}
	}
}

// copyTo adds the documents with new ordinals before a limit to a list. It returns the next one.
func (l *reading) copyTo(to *listWriter, limit uint64) (next uint32, ok bool) {
	for {
		for ; l.at < len(l.listReader.ordinals); l.at++ {
			ordinal := l.ordinals[l.listReader.ordinals[l.at]]
			if ordinal == absent {
				continue
			}
			if uint64(ordinal) >= limit {
				return ordinal, true
			}
			var positions []byte
			if l.placed {
				positions = l.positionsOf(l.at)
			}
			to.add(ordinal, positions)
		}
		if l.at = 0; !l.advance() {
			return 0, false
		}
	}
}

// valueOf returns a number with the order of a key in a direction.
func valueOf(key int64, falling bool) uint64 {
	value := uint64(key) ^ 1<<63
	if falling {
		return ^value
	}
	return value
}

// keyOf returns the key of a valueOf.
func keyOf(value uint64, falling bool) int64 {
	if falling {
		value = ^value
	}
	return int64(value ^ 1<<63)
}

// heads is a heap of the next values of several sequences, the lowest one first.
type heads []head

type head struct {
	value uint64
	from  int // the sequence
}

func (h *heads) push(x head) {
	*h = append(*h, x)
	s := *h
	for i := len(s) - 1; i > 0 && s[i].value < s[(i-1)/2].value; i = (i - 1) / 2 {
		s[i], s[(i-1)/2] = s[(i-1)/2], s[i]
	}
}

// pop removes the first one.
func (h *heads) pop() {
	s := *h
	s[0] = s[len(s)-1]
	*h = s[:len(s)-1]
	h.fix()
}

// fix moves the first one, whose value is higher now, to where it belongs.
func (h heads) fix() {
	for i := 0; ; {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if least+1 < len(h) && h[least+1].value < h[least].value {
			least++
		}
		if h[i].value <= h[least].value {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// second returns the value after the first one, the highest number if there is none.
func (h heads) second() uint64 {
	second := uint64(math.MaxUint64)
	for _, x := range h[min(1, len(h)):min(3, len(h))] {
		second = min(second, x.value)
	}
	return second
}
