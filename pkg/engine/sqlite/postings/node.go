package postings

import (
	"cmp"
	"iter"
	"math"
	"math/bits"
	"slices"
)

// node is the documents of a view that an expression matches, by their ranks. It is read in rising
// order of the ranks, a window at a time: the ranks of a call are not lower than those of calls before
// and their results.
type node interface {
	// next returns a rank that is not lower than the given one. No document from the given one to
	// before the result matches. It returns none if no other document matches.
	next(rank uint32) uint32
	// fill adds the matching documents with ranks from ≤ rank ≤ to, which are in one window.
	fill(w *window, from, to uint32)
	// most is not lower than the number of documents that match. It is 0 only if there are none.
	most() uint32
}

// view is a segment in the direction of a search. A rank is the number of a document in this direction:
// 0 comes first.
type view struct {
	*segment
	falling     bool
	first, last uint32   // the ranks that are searched
	removed     []uint64 // by ordinals
}

// keysOf yields the keys of the documents of a list that are searched and not removed.
func (v *view) keysOf(list tokenList) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		l := v.list(list.kind, list.value)
		if l == nil {
			return
		}
		first, last := min(v.rank(v.first), v.rank(v.last)), max(v.rank(v.first), v.rank(v.last))
		for ok := l.seek(first); ok && l.ordinals[0] <= last; ok = l.advance() {
			for _, ordinal := range l.ordinals {
				if first <= ordinal && ordinal <= last && !isRemoved(v.removed, ordinal) && !yield(v.key(ordinal)) {
					return
				}
			}
		}
	}
}

// rank returns the rank of an ordinal. It returns the ordinal of a rank, too.
func (v *view) rank(ordinal uint32) uint32 {
	if v.falling {
		return v.docs - 1 - ordinal
	}
	return ordinal
}

// none is a rank after all others.
const none = math.MaxUint32

// windowRanks is how many ranks a window has. It begins at a multiple.
const windowRanks = 2048

// window has a bit for each of its ranks.
type window [windowRanks / 64]uint64

func (w *window) set(rank uint32) { w[rank/64%(windowRanks/64)] |= 1 << (rank % 64) }

func (w *window) has(rank uint32) bool {
	return w[rank/64%(windowRanks/64)]>>(rank%64)&1 == 1
}

// count returns the number of ranks.
func (w *window) count() (n uint32) {
	for _, word := range w {
		n += uint32(bits.OnesCount64(word))
	}
	return n
}

// setAll adds the ranks from ≤ rank ≤ to.
func (w *window) setAll(from, to uint32) {
	for from <= to {
		end := min(from|63, to)
		w[from/64%(windowRanks/64)] |= ^uint64(0) >> (63 - (end - from)) << (from % 64)
		from = end + 1
	}
}

// ends returns the lowest and the highest rank of a window that begins at a rank. ok is false if it is
// empty.
func (w *window) ends(begin uint32) (first, last uint32, ok bool) {
	i, j := 0, len(w)-1
	for i < len(w) && w[i] == 0 {
		i++
	}
	if i == len(w) {
		return 0, 0, false
	}
	for w[j] == 0 {
		j--
	}
	return begin + uint32(64*i+bits.TrailingZeros64(w[i])), begin + uint32(64*j+bits.Len64(w[j])-1), true
}

func beginOf(rank uint32) uint32 { return rank - rank%windowRanks }

// few is the node of a few ranks, in rising order.
type few struct{ ranks []uint32 }

func (f *few) most() uint32 { return uint32(len(f.ranks)) }

func (f *few) next(rank uint32) uint32 {
	if len(f.ranks) > 0 && f.ranks[0] < rank {
		at, _ := slices.BinarySearch(f.ranks, rank)
		f.ranks = f.ranks[at:]
	}
	if len(f.ranks) == 0 {
		return none
	}
	return f.ranks[0]
}

func (f *few) fill(w *window, from, to uint32) {
	for f.next(from) <= to {
		w.set(f.ranks[0])
		f.ranks = f.ranks[1:]
	}
}

// many is the node of many ranks: a bit for each rank of the segment.
type many struct {
	windows []window
	n       uint32 // about how many ranks there are
}

func manyOf(v *view) *many { return &many{windows: make([]window, v.docs/windowRanks+1)} }

// addAll adds the documents of a node that is not read yet.
func (m *many) addAll(v *view, n node) {
	for rank := n.next(v.first); rank <= v.last && !v.stopped(); {
		begin := beginOf(rank)
		w, end := &m.windows[begin/windowRanks], min(begin+windowRanks-1, v.last)
		before := w.count()
		n.fill(w, rank, end)
		m.n += w.count() - before
		if end == v.last {
			return
		}
		rank = n.next(end + 1)
	}
}

func (m *many) has(rank uint32) bool { return m.windows[rank/windowRanks].has(rank) }

func (m *many) most() uint32 { return m.n }

func (m *many) next(rank uint32) uint32 {
	for i := int(rank / windowRanks); i < len(m.windows); i++ {
		if first, last, ok := m.windows[i].ends(uint32(i) * windowRanks); ok && last >= rank {
			return max(first, rank)
		}
	}
	return none
}

func (m *many) fill(w *window, from, to uint32) {
	var mask window
	mask.setAll(from, to)
	for i, word := range m.windows[from/windowRanks] {
		w[i] |= word & mask[i]
	}
}

// long is the node of a list of many documents.
type long struct {
	in *view
	*listReader
}

func (l *long) most() uint32 { return uint32(l.docs) }

// at finds the first document from a rank on. It makes the document's block the current one, and
// returns its number there.
func (l *long) at(rank uint32) (i int, ok bool) {
	ordinal := l.in.rank(rank)
	if !l.in.falling {
		if ok = l.seek(ordinal); ok {
			i, _ = slices.BinarySearch(l.ordinals, ordinal)
		}
		return i, ok
	}
	if l.seek(ordinal) {
		i, found := slices.BinarySearch(l.ordinals, ordinal)
		if found {
			return i, true
		}
		if i > 0 {
			return i - 1, true
		}
		ok = l.retreat()
	} else {
		ok = l.seekLast()
	}
	return len(l.ordinals) - 1, ok
}

func (l *long) next(rank uint32) uint32 {
	i, ok := l.at(rank)
	if !ok {
		return none
	}
	return l.in.rank(l.ordinals[i])
}

func (l *long) fill(w *window, from, to uint32) {
	l.each(from, to, func(i, j int) {
		switch {
		case !l.dense:
			for _, ordinal := range l.ordinals[i : j+1] {
				w.set(l.in.rank(ordinal))
			}
		case l.in.falling:
			w.setAll(l.in.rank(l.ordinals[j]), l.in.rank(l.ordinals[i]))
		default:
			w.setAll(l.ordinals[i], l.ordinals[j])
		}
	})
}

// each calls do for the blocks with documents from ≤ rank ≤ to. These are the i-th one to the j-th one of
// the current block, in the order of the ordinals.
func (l *long) each(from, to uint32, do func(i, j int)) {
	at, ok := l.at(from)
	for ok {
		end, more := l.end(to)
		if l.in.falling && end <= at {
			do(end, at)
		} else if !l.in.falling && at <= end {
			do(at, end)
		}
		switch {
		case !more:
			return
		case l.in.falling:
			ok = l.retreat()
			at = len(l.ordinals) - 1
		default:
			ok = l.advance()
			at = 0
		}
	}
}

// end returns the number of the last document of the current block up to a rank. more is true if
// documents of other blocks may follow up to the rank.
func (l *long) end(rank uint32) (i int, more bool) {
	ordinal, last := l.in.rank(rank), len(l.ordinals)-1
	if l.in.falling {
		if l.ordinals[0] >= ordinal {
			return 0, true
		}
		i, _ = slices.BinarySearch(l.ordinals, ordinal)
		return i, false
	}
	if l.ordinals[last] <= ordinal {
		return last, true
	}
	i, found := slices.BinarySearch(l.ordinals, ordinal)
	if !found {
		i--
	}
	return i, false
}

// union is the node of documents that one of several nodes has.
type union struct {
	in    *view
	ranks []uint32
	many  *many // the ranks before
	parts []node
	ahead []uint32 // results of next of the parts, 0 at first
	ends  []uint32 // of positions
}

func unionOf(v *view) *union { return &union{in: v} }

func (u *union) add(n node) {
	if n.most() > 0 {
		u.parts = append(u.parts, n)
	}
}

func (u *union) addToken(token string) {
	if kind, value, ok := u.in.find(token); ok {
		u.addList(kind, value)
	}
}

func (u *union) addPrefix(prefix string) {
	for c := range u.in.beginningWith(prefix) {
		u.addList(c.kind, c.value)
	}
}

const (
	// maxRanks is how many ranks a union collects before it makes them bits.
	maxRanks = 4096
	// maxLists is how many long lists a union reads as it goes. It makes the documents of the others bits.
	maxLists = 1024
)

func (u *union) addList(kind byte, value []byte) {
	if isLong(kind) {
		u.addLong(u.in.list(kind, value))
		return
	}
	from := len(u.ranks)
	var ok bool
	if u.ranks, u.ends, ok = u.in.short(kind, value, u.ranks, u.ends[:0]); !ok {
		u.in.damaged("list")
	}
	kept := u.ranks[:from]
	for _, ordinal := range u.ranks[from:] {
		if rank := u.in.rank(ordinal); u.in.first <= rank && rank <= u.in.last {
			kept = append(kept, rank)
		}
	}
	if u.ranks = kept; len(u.ranks) >= maxRanks {
		u.pour()
	}
}

// addLong adds a list that is not read yet. It is nil after an error.
func (u *union) addLong(l *listReader) {
	switch {
	case l == nil:
	case len(u.parts) < maxLists:
		u.parts = append(u.parts, &long{u.in, l})
	default:
		u.bits().addAll(u.in, &long{u.in, l})
	}
}

// bits returns the node of ranks that were made bits.
func (u *union) bits() *many {
	if u.many == nil {
		u.many = manyOf(u.in)
	}
	return u.many
}

// pour makes the ranks bits.
func (u *union) pour() {
	m := u.bits()
	for _, rank := range u.ranks {
		m.windows[rank/windowRanks].set(rank)
	}
	m.n += uint32(len(u.ranks))
	u.ranks = u.ranks[:0]
}

// node returns the union, or the only part of it.
func (u *union) node() node {
	switch {
	case u.many != nil:
		u.pour()
		u.parts = append(u.parts, u.many)
	case len(u.ranks) > 0 || len(u.parts) == 0:
		slices.Sort(u.ranks)
		u.parts = append(u.parts, &few{slices.Compact(u.ranks)})
	}
	if len(u.parts) == 1 {
		return u.parts[0]
	}
	u.ahead = make([]uint32, len(u.parts))
	return u
}

func (u *union) most() uint32 {
	sum := uint64(0)
	for _, part := range u.parts {
		sum += uint64(part.most())
	}
	return uint32(min(sum, none))
}

// look returns the result of next of a part.
func (u *union) look(part int, rank uint32) uint32 {
	if u.ahead[part] < rank {
		u.in.stopped()
		u.ahead[part] = u.parts[part].next(rank)
	}
	return u.ahead[part]
}

func (u *union) next(rank uint32) uint32 {
	next := uint32(none)
	for i := range u.parts {
		next = min(next, u.look(i, rank))
	}
	return next
}

func (u *union) fill(w *window, from, to uint32) {
	for i, part := range u.parts {
		if next := u.look(i, from); next <= to {
			part.fill(w, max(from, next), to)
		}
	}
}

// intersection is the node of documents that all of several nodes have.
type intersection struct {
	parts []node // those with few documents come first
	ahead uint32 // the last result of next
}

func intersectionOf(parts []node) node {
	switch len(parts) {
	case 0:
		return &few{}
	case 1:
		return parts[0]
	}
	slices.SortStableFunc(parts, func(a, b node) int { return cmp.Compare(a.most(), b.most()) })
	return &intersection{parts: parts}
}

func (n *intersection) most() uint32 { return n.parts[0].most() }

// next looks for a window in which all parts have documents.
func (n *intersection) next(rank uint32) uint32 {
	for {
		begin := beginOf(rank)
		for _, part := range n.parts {
			if rank = part.next(rank); rank == none || beginOf(rank) != begin {
				break
			}
		}
		if rank == none || beginOf(rank) == begin {
			n.ahead = rank
			return rank
		}
	}
}

func (n *intersection) fill(w *window, from, to uint32) {
	from = max(from, n.ahead)
	if from > to {
		return
	}
	var all window
	n.parts[0].fill(&all, from, to)
	for _, part := range n.parts[1:] {
		first, last, ok := all.ends(beginOf(from))
		if !ok {
			return
		}
		var these window
		part.fill(&these, first, last)
		for i := range all {
			all[i] &= these[i]
		}
	}
	for i := range w {
		w[i] |= all[i]
	}
}

// difference is the node of the documents that a node has and another one does not.
type difference struct {
	node
	without node
}

func (n *difference) fill(w *window, from, to uint32) {
	var all, without window
	n.node.fill(&all, from, to)
	first, last, ok := all.ends(beginOf(from))
	if !ok {
		return
	}
	n.without.fill(&without, first, last)
	for i := range w {
		w[i] |= all[i] &^ without[i]
	}
}
