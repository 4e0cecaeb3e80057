package sqlite

import (
	"cmp"
	"slices"
)

const (
	// maxHashes bounds the groups of hashCounts. With as many counts that are not yet added up,
	// they take 32 MiB.
	maxHashes = 1 << 20
	// minHashes is the number of counts below which they are not added up.
	minHashes = 1 << 16
)

// hashCounts counts the groups of a part by their hashes. That takes less memory than their
// values, and less time. Groups with the same hash have one count. It is a grouping.
//
// It notes each count, and adds them up now and then by sorting. A table of a million hashes would
// wait for the memory at each of them.
type hashCounts struct {
	hash   groupHash
	part   groupPart
	counts []hashCount
	limit  int // of counts before they are added up
	full   bool
}

type hashCount struct {
	hash uint64
	n    int64
}

func newHashCounts(hash groupHash, part groupPart) *hashCounts {
	return &hashCounts{hash: hash, part: part, limit: minHashes}
}

func (h *hashCounts) isFull() bool { return h.full }

func (h *hashCounts) add(key groupKey, n int64) {
	hash := h.hash(key)
	if h.full || !h.part.has(hash) {
		return
	}
	if len(h.counts) == h.limit {
		h.combine()
		if len(h.counts) > maxHashes {
			h.counts, h.full = nil, true
			return
		}
		h.grow()
	}
	h.counts = append(h.counts, hashCount{hash, n})
}

// grow makes room for three times as many counts as there are, within the limits.
func (h *hashCounts) grow() {
	h.limit = min(max(4*len(h.counts), minHashes), 2*maxHashes)
	if h.limit > cap(h.counts) {
		h.counts = append(make([]hashCount, 0, h.limit), h.counts...)
	}
}

// combine sorts the counts and adds up those of the same hash.
func (h *hashCounts) combine() {
	sortHashes(h.counts, 56)
	sums := h.counts[:0]
	for _, c := range h.counts {
		if last := len(sums) - 1; last >= 0 && sums[last].hash == c.hash {
			sums[last].n += c.n
		} else {
			sums = append(sums, c)
		}
	}
	h.counts = sums
}

// maxTied is the number of groups that have the same count as the n-th largest one, up to which
// largest returns all of them.
const maxTied = 1 << 16

// largest adds up the counts. It returns that of the n-th largest group, 0 if there are fewer
// groups, and the hashes of all groups from another count on. That is the same count, or the next
// one if too many groups have the same.
func (h *hashCounts) largest(n int) (tied, least int64, hashes keyCounts) {
	h.combine()
	tied = h.nthCount(n)
	ties := 0
	for _, c := range h.counts {
		if c.n == tied {
			ties++
		}
	}
	if least = tied; ties > maxTied {
		least++
	}
	for _, c := range h.counts {
		if c.n >= least {
			hashes.add(c.hash, c.n)
		}
	}
	return tied, least, hashes
}

// nthCount returns the n-th largest count, 0 if there are fewer. The counts must be added up.
func (h *hashCounts) nthCount(n int) (nth int64) {
	var counts []int64
	cut := func() {
		slices.SortFunc(counts, func(a, b int64) int { return cmp.Compare(b, a) })
		if len(counts) >= n {
			counts = counts[:n]
			nth = counts[n-1]
		}
	}
	for _, c := range h.counts {
		if c.n <= nth {
			continue
		}
		if counts = append(counts, c.n); len(counts) == n+topAtOnce {
			cut()
		}
	}
	cut()
	return nth
}

// count returns the count of a hash, 0 if it has none. The counts must be added up.
func (h *hashCounts) count(hash uint64) int64 {
	i, found := slices.BinarySearchFunc(h.counts, hash, func(c hashCount, hash uint64) int { return cmp.Compare(c.hash, hash) })
	if !found {
		return 0
	}
	return h.counts[i].n
}

// sortHashes sorts counts by the byte of their hashes at a shift, and by those after it. It moves
// each to the place of its byte (American flag sort), in the memory of the counts.
func sortHashes(counts []hashCount, shift int) {
	const few = 32
	if len(counts) <= few {
		insertHashes(counts)
		return
	}
	var next, end [256]int
	for i := range counts {
		end[byte(counts[i].hash>>shift)]++
	}
	begin := 0
	for b := range end {
		next[b] = begin
		begin += end[b]
		end[b] = begin
	}
	for b := range next {
		for next[b] < end[b] {
			c := counts[next[b]]
			for to := byte(c.hash >> shift); int(to) != b; to = byte(c.hash >> shift) {
				c, counts[next[to]] = counts[next[to]], c
				next[to]++
			}
			counts[next[b]] = c
			next[b]++
		}
	}
	if shift == 0 {
		return
	}
	begin = 0
	for b := range end {
		sortHashes(counts[begin:end[b]], shift-8)
		begin = end[b]
	}
}

// insertHashes sorts few counts by their hashes.
func insertHashes(counts []hashCount) {
	for i := 1; i < len(counts); i++ {
		c, to := counts[i], i
		for ; to > 0 && counts[to-1].hash > c.hash; to-- {
			counts[to] = counts[to-1]
		}
		counts[to] = c
	}
}
