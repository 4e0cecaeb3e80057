package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// shardPlan is where the entries of a month lie in the search index.
type shardPlan struct {
	ownTenants int // with indexes of their own
	ownShards  int // primaries of them
	pools      int
	poolShards int
	poolWidest int // primaries of the largest pool
}

func (p shardPlan) indexes() int   { return p.ownTenants + p.pools }
func (p shardPlan) primaries() int { return p.ownShards + p.poolShards }

// simulatedIndex has the tenants' records and the sizes of their entries in each month. The real
// tenants.Placer works on it. It implements tenants.Store and tenants.IndexSizes.
type simulatedIndex struct {
	tenants.Store                                      // nil: the Placer needs what is below
	records       map[audit.TenantID]audit.Tenant      //
	entries       map[audit.TenantID]int64             // of every month
	prepared      map[time.Time]map[preparedFamily]int // shards
}

type preparedFamily struct {
	name   string
	tenant audit.TenantID // of an own family
}

func (x *simulatedIndex) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	return x.records[id], nil
}

func (x *simulatedIndex) Update(_ context.Context, tenant audit.Tenant) error {
	x.records[tenant.ID] = tenant
	return nil
}

func (x *simulatedIndex) List(_ context.Context, _ []audit.TenantID, _ audit.TenantID, limit int) ([]audit.Tenant, bool, error) {
	return make([]audit.Tenant, min(limit, len(x.records))), len(x.records) > limit, nil
}

// familyIn returns the family of a tenant's entries that are received in the middle of a month.
func (x *simulatedIndex) familyIn(id audit.TenantID, month time.Time) string {
	return audit.FamilyAt(x.records[id].Placements, month.AddDate(0, 0, 14))
}

func (x *simulatedIndex) Sizes(_ context.Context, month time.Time) (own map[audit.TenantID]int64, pools map[string]int64, err error) {
	own, pools = map[audit.TenantID]int64{}, map[string]int64{}
	for id, n := range x.entries {
		if family := x.familyIn(id, month); audit.IsPool(family) {
			pools[family] += n
		} else {
			own[id] = n
		}
	}
	return own, pools, nil
}

func (x *simulatedIndex) LargestInPools(_ context.Context, month time.Time, smallest int64, limit int) ([]audit.TenantID, error) {
	var large []audit.TenantID
	for id, n := range x.entries {
		if n >= smallest && audit.IsPool(x.familyIn(id, month)) {
			large = append(large, id)
		}
	}
	slices.SortFunc(large, func(a, b audit.TenantID) int { return cmp.Compare(x.entries[b], x.entries[a]) })
	return large[:min(limit, len(large))], nil
}

func (x *simulatedIndex) Prepare(_ context.Context, family string, tenant audit.TenantID, month time.Time, shards int) error {
	if x.prepared[month] == nil {
		x.prepared[month] = map[preparedFamily]int{}
	}
	x.prepared[month][preparedFamily{family, tenant}] = shards
	return nil
}

// simulatedMonths is how long the Placer works until nothing changes: it looks at the last month
// and prepares the next one.
const simulatedMonths = 6

// placeTenants has the Placer place tenants with these shares of a month's entries, as it does on
// the 15th of each month, until the last of simulatedMonths.
func placeTenants(ctx context.Context, shares []float64, entriesPerMonth float64) (shardPlan, error) {
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	placing := tenants.Placing{Separate: cost.DefaultSeparateTenants, Pools: cost.DefaultPools}
	x := &simulatedIndex{records: map[audit.TenantID]audit.Tenant{}, entries: map[audit.TenantID]int64{}, prepared: map[time.Time]map[preparedFamily]int{}}
	for i, share := range shares {
		id := audit.TenantID(fmt.Sprintf("tenant-%05d", i))
		family := audit.FamilyOwn
		if len(shares) > placing.Separate {
			family = placing.PoolOf(id)
		}
		x.records[id] = audit.Tenant{ID: id, Status: audit.TenantActive, Placements: []audit.Placement{{Since: first, Family: family}}}
		x.entries[id] = int64(share * entriesPerMonth)
	}
	now := first
	placer := &tenants.Placer{Tenants: x, Sizes: x, Placing: placing, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for month := 1; month < simulatedMonths; month++ {
		now = first.AddDate(0, month, 14)
		if err := placer.Run(ctx); err != nil {
			return shardPlan{}, err
		}
	}
	return x.planOf(first.AddDate(0, simulatedMonths, 0)), nil
}

// planOf returns the shards of a month that was prepared. An index that was not has one.
func (x *simulatedIndex) planOf(month time.Time) shardPlan {
	var plan shardPlan
	pools := map[string]int{}
	for _, id := range slices.Sorted(maps.Keys(x.records)) {
		family := x.familyIn(id, month)
		if audit.IsPool(family) {
			pools[family] = max(1, x.prepared[month][preparedFamily{name: family}])
			continue
		}
		if x.entries[id] > 0 {
			plan.ownTenants++
			plan.ownShards += max(1, x.prepared[month][preparedFamily{family, id}])
		}
	}
	plan.pools = len(pools)
	for _, shards := range pools {
		plan.poolShards += shards
		plan.poolWidest = max(plan.poolWidest, shards)
	}
	return plan
}
