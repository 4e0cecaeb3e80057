package sqlite

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
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
			plain := &groupCounts{fields: fields}
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
