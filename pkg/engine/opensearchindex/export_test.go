package opensearchindex

import "github.com/ocelot-audit/ocelot/pkg/audit"

// FewGroups makes the index meet the limits of its groupings with a handful of values.
func (x *Index) FewGroups() {
	x.limits = groupLimits{shardValues: 3, outer: 3, outerShard: 50, innerShard: 50, compositePage: 4, firstPage: 3}
}

// Mapping returns the mapping of the template.
func Mapping() map[string]any { return mapping() }

// MonthOf returns the month that an entry's index is named after.
func MonthOf(id audit.EntryID) string { return monthOf(id) }
