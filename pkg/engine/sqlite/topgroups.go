package sqlite

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// topAtOnce is the number of groups that topGroups sorts beside those that it keeps.
const topAtOnce = 1000

// topGroups keeps the n largest groups.
type topGroups struct {
	n      int
	groups []audit.Group
	// sorted says that the first n groups are, and that a group after the last of them is none of
	// the largest.
	sorted bool
}

// fits reports whether a group may be one of the largest.
func (t *topGroups) fits(values []string, count int64) bool {
	return !t.sorted || audit.CompareGroups(audit.Group{Values: values, Count: count}, t.groups[t.n-1]) <= 0
}

// add adds a group that is not among the groups. It copies the values. It reports whether the
// smallest groups were dropped.
func (t *topGroups) add(values []string, count int64) (dropped bool) {
	if !t.fits(values, count) {
		return false
	}
	t.groups = append(t.groups, audit.Group{Values: slices.Clone(values), Count: count})
	if len(t.groups) < t.n+topAtOnce {
		return false
	}
	t.cut()
	t.sorted = t.n > 0
	return true
}

func (t *topGroups) cut() {
	audit.SortGroups(t.groups)
	t.groups = t.groups[:min(t.n, len(t.groups))]
}

// largest returns the largest groups, sorted.
func (t *topGroups) largest() []audit.Group {
	t.cut()
	return t.groups
}

func newGroupKey(values []string) (key groupKey) {
	copy(key[:], values)
	return key
}

// groupHash returns the hash of a group.
type groupHash func(key groupKey) uint64

// newGroupHash returns a hash that differs from all others and cannot be foreseen.
func newGroupHash() groupHash {
	seed := maphash.MakeSeed()
	return func(key groupKey) uint64 {
		hash := maphash.String(seed, key[0])
		if key[1] != "" {
			hash ^= bits.RotateLeft64(maphash.String(seed, key[1]), 1)
		}
		return hash
	}
}

// groupPart is a part of all groups: those whose hash ends with the bits. The zero groupPart has
// all groups.
type groupPart struct{ mask, bits uint64 }

// divide halves the part a number of times.
func (p groupPart) divide(halvings int) []groupPart {
	parts := []groupPart{p}
	for range halvings {
		for _, half := range parts {
			bit := half.mask + 1
			parts = append(parts, groupPart{half.mask | bit, half.bits | bit})
		}
		for i := range len(parts) / 2 {
			parts[i].mask |= parts[i].mask + 1
		}
	}
	return parts
}

func (p groupPart) has(hash uint64) bool { return hash&p.mask == p.bits }

// namedGroups finds the values of the largest groups that hashCounts has counted. It gets the same
// groups once more, and counts the candidates by their values. It is a grouping.
type namedGroups struct {
	counted     *hashCounts
	fields      int
	tied, least int64 // see hashCounts.largest
	largeHashes keyCounts
	top         topGroups
	candidates  map[groupKey]int64 // the groups of top, with their counts so far
}

func newNamedGroups(counted *hashCounts, n, fields int) *namedGroups {
	g := &namedGroups{counted: counted, fields: fields, top: topGroups{n: n}, candidates: map[groupKey]int64{}}
	g.tied, g.least, g.largeHashes = counted.largest(n)
	return g
}

func (g *namedGroups) isFull() bool { return false }

// add takes a group as a candidate when it comes first, or never: the smallest of the largest only
// grows. So each candidate fits.
func (g *namedGroups) add(key groupKey, n int64) {
	hash := g.counted.hash(key)
	if !g.counted.part.has(hash) {
		return
	}
	count := g.largeHashes.count(hash)
	if count == 0 {
		// Few of many groups with the same count come before those that were found.
		if g.least == g.tied || !g.top.fits(key[:g.fields], g.tied) {
			return
		}
		count = g.counted.count(hash)
	}
	if count < g.tied || !g.top.fits(key[:g.fields], count) {
		return
	}
	if before, known := g.candidates[key]; known {
		g.candidates[key] = before + n
		return
	}
	for i := range key {
		key[i] = strings.Clone(key[i]) // without the block that it was cut from
	}
	g.candidates[key] = n
	if dropped := g.top.add(key[:g.fields], count); dropped {
		before := g.candidates
		g.candidates = make(map[groupKey]int64, len(g.top.groups)+topAtOnce)
		for _, group := range g.top.groups {
			key := newGroupKey(group.Values)
			g.candidates[key] = before[key]
		}
	}
}

// largest returns the largest groups. exact is false if one of them shares its hash with another
// group. If none does, no other group is larger, because a count by hash is never too low.
func (g *namedGroups) largest() (groups []audit.Group, exact bool) {
	groups = g.top.largest()
	for _, group := range groups {
		if g.candidates[newGroupKey(group.Values)] != group.Count {
			return nil, false
		}
	}
	return groups, true
}
