package tenants

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The sizes that decide about placements. An entry takes about 0.8 KB of the index.
const (
	// EntriesPerShard is how many entries of a month one primary shard holds: about 40 GB.
	// OpenSearch recommends 10 to 50 GB.
	EntriesPerShard = 50_000_000
	// OwnEntries is the number of entries a month from which a tenant of a pool gets indexes
	// of its own. It returns to a pool below a quarter of that, so that it does not move
	// each month.
	OwnEntries = 20_000_000
	// maxChanges bounds how many tenants one run places, in each direction.
	maxChanges = 500
)

// ShardsFor returns how many primary shards a family needs for a month with a number of
// entries and a fifth more.
func ShardsFor(entries int64) int {
	return int(max(1, (entries+entries/5+EntriesPerShard-1)/EntriesPerShard))
}

// Placing says how many tenants have indexes of their own, and how many pools the others share.
type Placing struct {
	// Separate is the number of tenants up to which each has indexes of its own.
	Separate int
	Pools    int // from 1 to 100
}

// PoolOf returns the pool of a tenant. It depends on the id alone.
func (p Placing) PoolOf(tenant audit.TenantID) string {
	sum := sha256.Sum256([]byte(tenant))
	return audit.PoolName(int(binary.BigEndian.Uint64(sum[:8]) % uint64(max(1, p.Pools))))
}

// isSmall reports whether a deployment with another tenants has no more than Separate.
func (p Placing) isSmall(ctx context.Context, store Store, another int) (bool, error) {
	list, _, err := store.List(ctx, nil, "", p.Separate+1)
	if err != nil {
		return false, fmt.Errorf("count the tenants: %w", err)
	}
	return len(list)+another <= p.Separate, nil
}

// first returns the first placement of a new tenant.
func (p Placing) first(ctx context.Context, store Store, tenant *audit.Tenant) (audit.Placement, error) {
	small := true
	if tenant.Settings.Isolation != audit.IsolationDedicated {
		var err error
		if small, err = p.isSmall(ctx, store, 1); err != nil {
			return audit.Placement{}, err
		}
	}
	family := audit.FamilyOwn
	if !small {
		family = p.PoolOf(tenant.ID)
	}
	return audit.Placement{Since: tenant.CreatedAt, Family: family}, nil
}

// IndexSizes measures the search index and prepares it for a month. Sizes are numbers of entries.
type IndexSizes interface {
	// Sizes returns the sizes of the families of a month: of tenants with indexes of their
	// own, and of pools by their names.
	Sizes(ctx context.Context, month time.Time) (own map[audit.TenantID]int64, pools map[string]int64, err error)
	// LargestInPools returns the tenants with at least smallest entries in the pools of a
	// month, up to limit, the largest first.
	LargestInPools(ctx context.Context, month time.Time, smallest int64, limit int) ([]audit.TenantID, error)
	// Prepare creates the index of a family for a month with a number of primary shards,
	// unless it exists. tenant is used only for a family that is the tenant's own.
	Prepare(ctx context.Context, family string, tenant audit.TenantID, month time.Time, shards int) error
}

// Placer gives large tenants indexes of their own and lets small ones share pools.
type Placer struct {
	Tenants Store
	Sizes   IndexSizes
	Placing Placing
	Now     func() time.Time
	Log     *slog.Logger
}

// Run looks at the last month's sizes. It creates the indexes of the next month with the
// shards that they need, and places the tenants that have grown or shrunk. It asks the
// index for sizes and reads only the records that it changes. A small deployment, in which
// every tenant has its own indexes, is left as it is.
func (p *Placer) Run(ctx context.Context) error {
	now := p.Now().UTC()
	last := time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC)
	own, pools, err := p.Sizes.Sizes(ctx, last)
	if err != nil {
		return fmt.Errorf("measure the index: %w", err)
	}
	err = p.prepare(ctx, time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC), own, pools)
	small, countErr := p.Placing.isSmall(ctx, p.Tenants, 0)
	if small || countErr != nil {
		return errors.Join(err, countErr)
	}
	return errors.Join(err, p.promote(ctx, last), p.demote(ctx, own))
}

// prepare creates the indexes of a month that need more than one shard, and those of pools.
func (p *Placer) prepare(ctx context.Context, month time.Time, own map[audit.TenantID]int64, pools map[string]int64) error {
	var errs []error
	for _, tenant := range slices.Sorted(maps.Keys(own)) {
		if shards := ShardsFor(own[tenant]); shards > 1 {
			errs = append(errs, p.Sizes.Prepare(ctx, audit.FamilyOwn, tenant, month, shards))
		}
	}
	for _, pool := range slices.Sorted(maps.Keys(pools)) {
		errs = append(errs, p.Sizes.Prepare(ctx, pool, "", month, ShardsFor(pools[pool])))
	}
	return errors.Join(errs...)
}

func (p *Placer) promote(ctx context.Context, last time.Time) error {
	large, err := p.Sizes.LargestInPools(ctx, last, OwnEntries, maxChanges)
	if err != nil {
		return fmt.Errorf("find the largest tenants: %w", err)
	}
	var errs []error
	for _, tenant := range large {
		_, err := p.place(ctx, tenant, func(*audit.Tenant) string { return audit.FamilyOwn })
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *Placer) demote(ctx context.Context, own map[audit.TenantID]int64) error {
	var errs []error
	changes := 0
	for _, tenant := range slices.Sorted(maps.Keys(own)) {
		if own[tenant] >= OwnEntries/4 || changes == maxChanges {
			continue
		}
		placed, err := p.place(ctx, tenant, func(t *audit.Tenant) string {
			if t.Settings.Isolation == audit.IsolationDedicated {
				return audit.FamilyOwn
			}
			return p.Placing.PoolOf(t.ID)
		})
		errs = append(errs, err)
		if placed {
			changes++
		}
	}
	return errors.Join(errs...)
}

// place adds a placement to a tenant's record, unless it is there already. A record that
// others change at the same time is left to the next run.
func (p *Placer) place(ctx context.Context, id audit.TenantID, family func(*audit.Tenant) string) (placed bool, err error) {
	tenant, err := p.Tenants.Tenant(ctx, id)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil // deleted
	}
	if err != nil {
		return false, fmt.Errorf("place tenant %s: %w", id, err)
	}
	wanted := family(&tenant)
	changed, err := tenant.Place(wanted, p.Now())
	if err != nil {
		return false, fmt.Errorf("place tenant %s: %w", id, err)
	}
	if !changed || tenant.Status == audit.TenantDeleting {
		return false, nil
	}
	tenant.Version++
	err = p.Tenants.Update(ctx, tenant)
	if errors.Is(err, audit.ErrPrecondition) || errors.Is(err, audit.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("place tenant %s: %w", id, err)
	}
	p.Log.InfoContext(ctx, "a tenant was placed", "tenant", id, "family", wanted)
	return true, nil
}
