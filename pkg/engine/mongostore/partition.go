package mongostore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// partition is a collection with entries of one period in UTC. A shared partition
// has the entries of a month and is named like logs_2026_01. A dedicated tenant has
// a partition for each year, named like logs_acme_2026.
//
// A name follows from the tenant and a time, so that no call lists collections.
type partition struct {
	tenant audit.TenantID // "": shared
	// period is the year of a dedicated partition, and the months since January of
	// year 0 of a shared one.
	period int
}

const (
	partitionPrefix = "logs"
	// maxTenantInName is the longest tenant id that a collection's name contains.
	// DocumentDB limits the name of a collection, a separator and the name of an
	// index to 63 bytes together.
	maxTenantInName = 40
	// maxIndexName is the length of the longest name of an index of a partition.
	maxIndexName = len(indexDeletable)
)

// sharedPartition returns the shared partition of the time's month.
func sharedPartition(t time.Time) partition {
	t = t.UTC()
	return partition{period: t.Year()*12 + int(t.Month()) - 1}
}

// partitionOf returns the partition that has a tenant's entries of the time. A
// tenant's isolation never changes, so that no entry is in another partition.
func partitionOf(tenant audit.TenantID, isolation audit.Isolation, t time.Time) partition {
	if isolation == audit.IsolationDedicated {
		return partition{tenant: tenant, period: t.UTC().Year()}
	}
	return sharedPartition(t)
}

// PartitionName returns the name of the collection that has a tenant's entries of the time.
func PartitionName(tenant audit.TenantID, isolation audit.Isolation, t time.Time) string {
	return partitionOf(tenant, isolation, t).String()
}

// String returns the name of the collection. A tenant id has no underscore. The last
// part of the name has two digits if the partition is shared, and at least four if it
// is dedicated. Two partitions therefore never have the same name, except with
// the probability that two hashes of a long tenant id are equal.
func (p partition) String() string {
	if p.tenant == "" {
		return fmt.Sprintf("%s_%04d_%02d", partitionPrefix, p.period/12, p.period%12+1)
	}
	return fmt.Sprintf("%s_%s_%04d", partitionPrefix, nameOf(p.tenant), p.period)
}

// nameOf returns the tenant as part of a name: its id, or the beginning and a hash
// of an id that is too long.
func nameOf(tenant audit.TenantID) string {
	if len(tenant) <= maxTenantInName {
		return string(tenant)
	}
	sum := sha256.Sum256([]byte(tenant))
	hash := hex.EncodeToString(sum[:8])
	return string(tenant[:maxTenantInName-len(hash)-1]) + "_" + hash
}

// key returns the _id of the partition's record.
func (p partition) key() string { return fmt.Sprintf("%s/%06d", p.tenant, p.period) }

// end returns the end of the partition's period.
func (p partition) end() time.Time {
	if p.tenant == "" {
		return time.Date(p.period/12, time.Month(p.period%12+2), 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Date(p.period+1, 1, 1, 0, 0, 0, 0, time.UTC)
}

// hasEnded reports whether the partition's period was over at a time.
func (p partition) hasEnded(at time.Time) bool { return !at.Before(p.end()) }

// overlaps reports whether the time range has a part in the partition's period.
func (p partition) overlaps(t audit.Time) bool {
	periodOf := func(t time.Time) int {
		if p.tenant == "" {
			return sharedPartition(t).period
		}
		return t.UTC().Year()
	}
	return (t.From.IsZero() || periodOf(t.From) <= p.period) && (t.To.IsZero() || periodOf(t.To.Add(-time.Millisecond)) >= p.period)
}
