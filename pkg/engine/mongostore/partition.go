package mongostore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// partition is the collection with the entries of one month in UTC. A shared
// partition is named like logs_2026_01, a tenant's own like logs_acme_2026_01. A
// tenant id has no underscore, so that the names are unambiguous.
type partition struct {
	tenant audit.TenantID // "": shared
	month  int            // months since January of year 0
}

const partitionPrefix = "logs"

// sharedPartition returns the shared partition of the time's month.
func sharedPartition(t time.Time) partition {
	t = t.UTC()
	return partition{month: t.Year()*12 + int(t.Month()) - 1}
}

// of returns the tenant's own partition of the same month.
func (p partition) of(tenant audit.TenantID) partition {
	return partition{tenant: tenant, month: p.month}
}

// both returns the partitions that may have entries of a tenant in this month.
// The first is the one that the isolation selects for new entries. Entries stay
// in their partition when the isolation changes.
func (p partition) both(tenant audit.TenantID, isolation audit.Isolation) [2]partition {
	shared, own := p.of(""), p.of(tenant)
	if isolation == audit.IsolationDedicated {
		return [2]partition{own, shared}
	}
	return [2]partition{shared, own}
}

func (p partition) String() string {
	if p.tenant == "" {
		return fmt.Sprintf("%s_%04d_%02d", partitionPrefix, p.month/12, p.month%12+1)
	}
	return fmt.Sprintf("%s_%s_%04d_%02d", partitionPrefix, p.tenant, p.month/12, p.month%12+1)
}

// parsePartition parses the name of a collection. It returns ok false if the collection is no partition.
func parsePartition(name string) (p partition, ok bool) {
	parts := strings.Split(name, "_")
	switch {
	case parts[0] != partitionPrefix:
		return p, false
	case len(parts) == 4:
		p.tenant = audit.TenantID(parts[1])
		parts = parts[1:]
	case len(parts) != 3:
		return p, false
	}
	year, err := strconv.Atoi(parts[1])
	if err != nil {
		return p, false
	}
	month, err := strconv.Atoi(parts[2])
	if err != nil {
		return p, false
	}
	p.month = year*12 + month - 1
	return p, p.String() == name
}

// partitions returns the existing partitions that may have entries of the tenant.
// They are in the order of months, and the shared partition of a month is first.
func (db *DB) partitions(ctx context.Context, tenant audit.TenantID) ([]partition, error) {
	database, err := db.database()
	if err != nil {
		return nil, err
	}
	names, err := database.ListCollectionNames(ctx, bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^" + partitionPrefix + "_"}}}})
	if err != nil {
		return nil, failure(ctx, err)
	}
	var found []partition
	for _, name := range names {
		if p, ok := parsePartition(name); ok && (p.tenant == "" || p.tenant == tenant) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b partition) int {
		if a.month != b.month {
			return a.month - b.month
		}
		return len(a.tenant) - len(b.tenant)
	})
	return found, nil
}
