package mongostore

import "math"

// Workload describes the entries of one shared partition, as far as the size of its
// indexes depends on them.
type Workload struct {
	Tenants          int // with entries in the partition
	EntriesPerTenant int
	UsersPerTenant   int // who acted
	// ResourcesPerTenant is how many resource ids occur. It is at most EntriesPerTenant.
	ResourcesPerTenant int
	// The lengths of values, in bytes.
	TenantID, UserID, ResourceID, Action, ResourceType int
	Words                                              int // different words in a message
	Actions                                            int // pairs of action and resource type that occur
}

// The constants of IndexBytes. WiredTiger stores an index as a B-tree with prefix
// compression. A cell has only the bytes in which its key differs from the key before it.
const (
	cellBytes     = 3   // the cell's header: lengths of prefix and suffix
	recordIDBytes = 4   // the record number after the key, of up to 2^25 records
	stringBytes   = 2   // type and terminator of a string in a key
	binaryBytes   = 3   // type, length and subtype of a binary in a key
	dateBytes     = 9   // type and value
	weightBytes   = 9   // of a word in the text index
	pageFill      = 0.7 // of a page after inserts in random order (ln 2)
	monthMillis   = 30 * 24 * 60 * 60 * 1000
	severities    = 4
)

// IndexBytes returns how many bytes the indexes of a partition take for each entry,
// according to a model of WiredTiger. A key shares with its neighbour the fields before
// _id and the hash of the tenant. It also shares the bytes of the milliseconds that are
// equal on average. The model assumes that it shares no more.
func IndexBytes(set Indexes, w Workload) float64 {
	bytes := w.keyCell(0, w.Tenants) + // _id
		w.fieldCell(w.UserID, w.UsersPerTenant) + w.fieldCell(w.ResourceID, w.ResourcesPerTenant)
	// The indexes of deletable_at have only entries with the field, which an entry has in its last week.
	if set == IndexesFull {
		const severityName = len("CRITICAL")
		bytes += dateBytes + w.keyCell(0, w.Tenants) + // time; the prefix ends in the date
			w.fieldCell(w.Action+stringBytes+w.ResourceType, w.Actions) + w.fieldCell(severityName, severities) +
			float64(w.Words)*(cellBytes+recordIDBytes+weightBytes) // text: many entries share each word
	}
	return bytes / pageFill
}

// fieldCell returns the bytes of a cell in an index on the tenant, a field, and _id.
// values is the number of the field's values in each tenant. The first cell of each value
// has the whole key.
func (w Workload) fieldCell(length, values int) float64 {
	whole := float64(stringBytes + w.TenantID + stringBytes + length + tenantHashBytes)
	firsts := float64(values) / float64(w.EntriesPerTenant)
	return firsts*whole + w.keyCell(binaryBytes, w.Tenants*values)
}

// keyCell returns the bytes of a cell whose neighbour is of the same group. The cell has
// the bytes in which the two ids differ, and those around them.
func (w Workload) keyCell(around, groups int) float64 {
	gap := monthMillis * float64(groups) / float64(w.Tenants*w.EntriesPerTenant)
	millis := min(max(math.Ceil(math.Log2(max(gap, 1))/8), 1), 6)
	const random = float64(len(entryKey{}) - tenantHashBytes - 6)
	return float64(around) + millis + random + recordIDBytes + cellBytes
}
