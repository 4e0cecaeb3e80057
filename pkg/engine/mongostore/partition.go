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

// partition is the collection of the entries of one month in UTC: logs_2026_01
// of the tenants that share it, logs_acme_2026_01 of one that has its own. A
// tenant id has no underscore, so that each name is read in one way only.
type partition struct {
	tenant audit.TenantID // "": shared
	month  int            // since year 0
}

const partitionPrefix = "logs"

// sharedPartition returns the shared partition of a time.
func sharedPartition(t time.Time) partition {
	t = t.UTC()
	return partition{month: t.Year()*12 + int(t.Month()) - 1}
}

// of returns the tenant's own partition of the same month.
func (p partition) of(tenant audit.TenantID) partition {
	return partition{tenant: tenant, month: p.month}
}

// both returns where the entries of a tenant may lie in the partition's month,
// the place where its isolation now puts them first: entries stay where they
// were stored when the isolation is changed.
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

// parsePartition reads the name of a collection; ok is false where it is no partition's.
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

// partitions returns those that exist and may hold entries of the tenant, from
// the earliest month on, within a month the shared one first.
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
