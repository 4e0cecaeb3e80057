package opensearchindex

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// UseSmallGroupLimits lets a handful of values exceed the limits of groups.
func (x *Index) UseSmallGroupLimits() {
	x.limits = groupLimits{
		shardValues: 3, spareValues: 1, outerValues: 3, outerShardValues: 50, innerShardValues: 50, pageSize: 4, firstPageSize: 3, listed: 1000,
	}
}

// UseShortLists makes lists of groups end after a number of groups.
func (x *Index) UseShortLists(listed int) { x.limits.listed = listed }

// Mapping returns the mapping of the template.
func Mapping() map[string]any { return mapping() }

// DocumentID returns the _id of an entry's document.
func DocumentID(tenant audit.TenantID, id audit.EntryID) string { return documentID(tenant, id) }

// MonthOf returns the month that an entry's index is named after.
func MonthOf(id audit.EntryID) string { return monthOf(id) }

// ForeseeFrom makes counts of so many entries try a sample first.
func (x *Index) ForeseeFrom(entries int64) { x.foresight.entries = entries }

// UseSmallWindows lets pages of a handful of entries be looked for in windows.
func (x *Index) UseSmallWindows() { x.windows = windowLimits{many: 5, entries: 20, counted: 10} }

// UseLockTime has locks of removals taken over after a time.
func (x *Index) UseLockTime(d time.Duration) { x.lockTime = d }
