package opensearchindex

import (
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// groupValues are the values of one group. Those of a single field are followed by "".
type groupValues [audit.MaxGroupBy]string

// groupCounts are the numbers of entries in groups.
type groupCounts map[groupValues]int64

// maxGroupCounts bounds the counts in memory while pages are read, to about 20 MB of the
// longest values.
const maxGroupCounts = 10_000

// addListed adds a group that is listed once. It may drop groups that are not
// among the first top groups.
func (c groupCounts) addListed(values groupValues, count int64, top int) {
	c[values] = count
	if len(c) <= maxGroupCounts {
		return
	}
	largest := c.top(top, audit.MaxGroupBy)
	clear(c)
	for _, group := range largest {
		c[groupValues(group.Values)] = group.Count
	}
}

// top returns the n largest groups of a number of fields, the largest first.
func (c groupCounts) top(n, fields int) []audit.Group {
	groups := make([]audit.Group, 0, len(c))
	for values, count := range c {
		groups = append(groups, audit.Group{Values: slices.Clone(values[:fields]), Count: count})
	}
	audit.SortGroups(groups)
	return groups[:min(n, len(groups))]
}
