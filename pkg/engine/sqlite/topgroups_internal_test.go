package sqlite

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// countedGroup is a group as a block of facets adds it.
type countedGroup struct {
	key groupKey
	n   int64
}

// randomGroups has each group several times.
func randomGroups(random *rand.Rand, groups, fields int) []countedGroup {
	added := make([]countedGroup, 5*groups)
	for i := range added {
		added[i].n = random.Int64N(3) + 1
		for field := range fields {
			added[i].key[field] = fmt.Sprint(random.IntN(groups))
		}
	}
	return added
}

func addAll(to grouping, added []countedGroup) {
	for _, group := range added {
		to.add(group.key, group.n)
	}
}

// TestHashedGroupsEqualCountedOnes: groups that are counted by hash, in parts and with all hashes
// between very bad and good, are those that are counted by value, or are known to be inexact.
func TestHashedGroupsEqualCountedOnes(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	found := map[bool]int{}
	for _, hashBits := range []int{3, 9, 12, 16, 64} {
		for range 20 {
			fields, top := 1+random.IntN(2), []int{1, 10, 500}[random.IntN(3)]
			added := randomGroups(random, 3000, fields)
			plain := &groupCounts{fields: fields, most: audit.MaxGroups}
			addAll(plain, added)
			whole := newGroupHash()
			weak := func(key groupKey) uint64 { return whole(key) >> (64 - hashBits) }
			parts, largest, exact := groupPart{}.divide(random.IntN(3)), topGroups{n: top}, true
			for _, part := range parts {
				counted := newHashCounts(weak, part)
				addAll(counted, added)
				named := newNamedGroups(counted, top, fields)
				addAll(named, added)
				groups, ok := named.largest()
				exact = exact && ok
				for _, group := range groups {
					largest.add(group.Values, group.Count)
				}
			}
			found[exact]++
			if want := plain.top(top); exact && !reflect.DeepEqual(largest.largest(), want) {
				t.Fatalf("%d fields, %d bits of hash, %d parts: got the groups %v, want %v", fields, hashBits, len(parts), largest.groups, want)
			}
		}
	}
	if found[true] < 20 || found[false] < 20 {
		t.Errorf("%d results are exact and %d are not, want at least 20 of each", found[true], found[false])
	}
}

// TestManyGroupsOfOneSize: more groups than are looked up one by one have the same count.
func TestManyGroupsOfOneSize(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 8))
	var added []countedGroup
	for _, i := range random.Perm(2 * maxTied) {
		added = append(added, countedGroup{groupKey{fmt.Sprint(i)}, 2})
		if i < 5 {
			added = append(added, countedGroup{groupKey{fmt.Sprint(i)}, int64(i) + 1})
		}
	}
	plain := &groupCounts{fields: 1, most: audit.MaxGroups}
	addAll(plain, added)
	counted := newHashCounts(newGroupHash(), groupPart{})
	addAll(counted, added)
	named := newNamedGroups(counted, 10, 1)
	addAll(named, added)
	got, exact := named.largest()
	if !exact {
		t.Fatal("two of the largest groups share a hash of 64 bits, want none")
	}
	if want := plain.top(10); !reflect.DeepEqual(got, want) {
		t.Errorf("got the groups %v, want %v", got, want)
	}
}

// TestHashesAreBounded: more groups than maxHashes are full once they take the memory.
func TestHashesAreBounded(t *testing.T) {
	for more, want := range map[int]bool{0: false, 1: true} {
		var next uint64
		counted := newHashCounts(func(groupKey) uint64 { next++; return next % uint64(maxHashes+more) * 0x9e3779b97f4a7c15 }, groupPart{})
		for range 4 * maxHashes {
			counted.add(groupKey{}, 1)
		}
		if counted.isFull() != want {
			t.Errorf("%d groups: full %t, want %t", maxHashes+more, counted.isFull(), want)
		}
		if most := 2 * maxHashes; cap(counted.counts) > most {
			t.Errorf("%d groups: there is room for %d counts, want at most %d", maxHashes+more, cap(counted.counts), most)
		}
	}
}
