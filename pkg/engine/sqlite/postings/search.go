package postings

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
)

// Snapshot is a set of segments as they are at one moment. A key has one document at most that is not
// removed.
type Snapshot struct {
	Cache    *Cache // may be shared with other snapshots; nil if pages are not kept
	Source   Source
	Segments []Segment
}

// Search yields the keys from first to last of the documents that match and are not removed, in
// rising or falling order. It opens a segment only once its keys are reached. An error is the last
// value, also soon after the context has ended.
func (s *Snapshot) Search(ctx context.Context, e Expr, first, last int64, falling bool) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		r := newReader(ctx, s, true)
		waiting := s.within(first, last, falling)
		var open []*cursor
		var heap heads
		for {
			for len(waiting) > 0 && (len(heap) == 0 || waiting[0].begin(falling) <= heap[0].value) {
				c := r.search(waiting[0], e, first, last, falling)
				if key, ok := c.next(); ok {
					heap.push(head{valueOf(key, falling), len(open)})
					open = append(open, c)
				}
				waiting = waiting[1:]
			}
			if r.err != nil {
				yield(0, r.err)
				return
			}
			if len(heap) == 0 || !yield(keyOf(heap[0].value, falling), nil) {
				return
			}
			if key, ok := open[heap[0].from].next(); ok {
				heap[0].value = valueOf(key, falling)
				heap.fix()
			} else {
				open[heap[0].from] = nil // its lists are not needed any more
				heap.pop()
			}
		}
	}
}

// Count returns the number of keys that Search yields.
func (s *Snapshot) Count(ctx context.Context, e Expr, first, last int64) (int64, error) {
	r := newReader(ctx, s, true)
	n := int64(0)
	for _, in := range s.within(first, last, false) {
		n += r.search(in, e, first, last, false).count()
	}
	return n, r.err
}

// Find returns the ordinals of the documents of a segment with the given keys, which are in rising
// order: -1 if it has no such document. Removed documents are found too.
func (s *Snapshot) Find(ctx context.Context, in Segment, keys []int64) ([]int, error) {
	r := newReader(ctx, s, true)
	ordinals := make([]int, len(keys))
	of := r.open(in.Info)
	for i, key := range keys {
		if ordinals[i] = -1; of == nil || r.stopped() {
			continue
		}
		if ordinal := of.search(key); ordinal < of.docs && of.key(ordinal) == key {
			ordinals[i] = int(ordinal)
		}
	}
	return ordinals, r.err
}

// KeysOf returns the keys of documents of a segment by their ordinals, which are in rising order.
func (s *Snapshot) KeysOf(ctx context.Context, in Segment, ordinals []int) ([]int64, error) {
	r := newReader(ctx, s, true)
	of := r.open(in.Info)
	keys := make([]int64, 0, len(ordinals))
	for _, ordinal := range ordinals {
		if of == nil || r.stopped() {
			break
		}
		if ordinal < 0 || ordinal >= in.Docs {
			return nil, fmt.Errorf("segment %d has no document %d", in.Number, ordinal)
		}
		keys = append(keys, of.key(uint32(ordinal)))
	}
	return keys, r.err
}

// within returns the segments with keys from first to last, in the order of their first keys in a
// direction.
func (s *Snapshot) within(first, last int64, falling bool) []Segment {
	var segments []Segment
	for _, in := range s.Segments {
		if in.First <= last && first <= in.Last {
			segments = append(segments, in)
		}
	}
	slices.SortFunc(segments, func(x, y Segment) int { return cmp.Compare(x.begin(falling), y.begin(falling)) })
	return segments
}

// begin returns the value of the segment's first key in a direction.
func (i *Info) begin(falling bool) uint64 {
	if falling {
		return valueOf(i.Last, true)
	}
	return valueOf(i.First, false)
}

// cursor reads the documents of a segment that match. nil has none.
type cursor struct {
	view
	found node

	at     uint32 // the next rank to look at
	begin  uint32
	window window
	word   int // the next one of the window
}

// search returns the documents of a segment that match, nil if there are none and after an error.
func (r *reader) search(in Segment, e Expr, first, last int64, falling bool) *cursor {
	s := r.open(in.Info)
	if s == nil {
		return nil
	}
	from, end := s.search(first), s.docs
	if last < math.MaxInt64 {
		end = s.search(last + 1)
	}
	if from >= end || r.err != nil {
		return nil
	}
	c := &cursor{view: view{segment: s, falling: falling, first: from, last: end - 1, removed: in.Removed}, word: len(window{})}
	if falling {
		c.first, c.last = c.rank(end-1), c.rank(from)
	}
	c.at = c.first
	c.found = e.in(&c.view)
	return c
}

// nextWindow reads the next window that may have documents. It returns false if there is none.
func (c *cursor) nextWindow() bool {
	if c.at > c.last || c.stopped() {
		return false
	}
	rank := c.found.next(c.at)
	if rank > c.last {
		c.at = rank
		return false
	}
	c.begin = beginOf(rank)
	end := min(c.begin+windowRanks-1, c.last)
	c.window = window{}
	c.found.fill(&c.window, rank, end)
	c.subtractRemoved()
	c.at, c.word = end+1, 0
	return true
}

// subtractRemoved takes the removed documents out of the window.
func (c *cursor) subtractRemoved() {
	if len(c.removed) == 0 {
		return
	}
	for i, word := range c.window {
		for ; word != 0; word &= word - 1 {
			bit := bits.TrailingZeros64(word)
			if isRemoved(c.removed, c.rank(c.begin+uint32(64*i+bit))) {
				c.window[i] &^= 1 << bit
			}
		}
	}
}

// next returns the key of the next document. It returns false at the end, and after an error.
func (c *cursor) next() (key int64, ok bool) {
	if c == nil {
		return 0, false
	}
	for {
		for ; c.word < len(c.window); c.word++ {
			if word := c.window[c.word]; word != 0 {
				c.window[c.word] &= word - 1
				key = c.key(c.rank(c.begin + uint32(64*c.word+bits.TrailingZeros64(word))))
				return key, c.err == nil
			}
		}
		if !c.nextWindow() {
			return 0, false
		}
	}
}

// count returns the number of documents.
func (c *cursor) count() (n int64) {
	if c == nil {
		return 0
	}
	if all, ok := c.found.(*long); ok && len(c.removed) == 0 && c.first == 0 && c.last == c.docs-1 {
		return int64(all.docs)
	}
	for c.nextWindow() {
		n += int64(c.window.count())
	}
	return n
}
