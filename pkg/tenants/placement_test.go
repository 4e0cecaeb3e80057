package tenants_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// family returns the last family of a tenant.
func (f *fixture) family(t *testing.T, id audit.TenantID) string {
	t.Helper()
	tenant, err := f.db.Tenants().Tenant(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return tenant.Placements[len(tenant.Placements)-1].Family
}

func (f *fixture) createShared(t *testing.T, id audit.TenantID) {
	t.Helper()
	if _, err := f.Create(t.Context(), operator, audit.Tenant{ID: id, Name: "A tenant", Settings: audit.DefaultSettings()}); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstTenantsHaveTheirOwnIndexes(t *testing.T) {
	f := newFixture(t)
	f.Placing = tenants.Placing{Separate: 3, Pools: 16}
	for n, wantOwn := range []bool{true, true, true, false, false} {
		id := audit.TenantID(fmt.Sprint("tenant-", n))
		f.createShared(t, id)
		want := audit.FamilyOwn
		if !wantOwn {
			want = f.Placing.PoolOf(id)
		}
		if got := f.family(t, id); got != want {
			t.Errorf("tenant %d is placed in %s, want %s", n, got, want)
		}
	}
	settings := audit.DefaultSettings()
	settings.Isolation = audit.IsolationDedicated
	if _, err := f.Create(t.Context(), operator, audit.Tenant{ID: "apart", Name: "A tenant", Settings: settings}); err != nil {
		t.Fatal(err)
	}
	if got := f.family(t, "apart"); got != audit.FamilyOwn {
		t.Errorf("a dedicated tenant is placed in %s, want %s", got, audit.FamilyOwn)
	}
}

func TestEveryTenantIsInAPoolIfNoneIsSeparate(t *testing.T) {
	f := newFixture(t)
	f.Placing = tenants.Placing{Pools: 100}
	f.createShared(t, "acme")
	if got := f.family(t, "acme"); !audit.IsPool(got) {
		t.Errorf("the tenant is placed in %s, want a pool", got)
	}
}

// sizes is an index with sizes that a test sets.
type sizes struct {
	own      map[audit.TenantID]int64
	pools    map[string]int64
	inPools  map[audit.TenantID]int64
	months   []string // that were asked for
	prepared []string
	err      error
}

func (s *sizes) Sizes(_ context.Context, month time.Time) (own map[audit.TenantID]int64, pools map[string]int64, err error) {
	s.months = append(s.months, month.Format("2006-01"))
	return s.own, s.pools, s.err
}

func (s *sizes) LargestInPools(_ context.Context, month time.Time, smallest int64, limit int) ([]audit.TenantID, error) {
	s.months = append(s.months, month.Format("2006-01"))
	var found []audit.TenantID
	for tenant, n := range s.inPools {
		if n >= smallest {
			found = append(found, tenant)
		}
	}
	return found[:min(limit, len(found))], nil
}

func (s *sizes) Prepare(_ context.Context, family string, tenant audit.TenantID, month time.Time, shards int) error {
	s.prepared = append(s.prepared, fmt.Sprint(family, tenant, month.Format(" 2006-01 "), shards))
	return nil
}

// placer is a run over the fixture's tenants.
func (f *fixture) placer(s *sizes) *tenants.Placer {
	return &tenants.Placer{Tenants: f.db.Tenants(), Sizes: s, Placing: f.Placing, Now: f.clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func (f *fixture) place(t *testing.T, s *sizes) {
	t.Helper()
	if err := f.placer(s).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPlacing(t *testing.T) {
	f := newFixture(t)
	f.now = time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC) // the last month is of the year before
	f.Placing = tenants.Placing{Separate: 2, Pools: 16}
	for _, id := range []audit.TenantID{"early", "early-large", "small", "large"} {
		f.createShared(t, id)
	}
	s := &sizes{
		own:     map[audit.TenantID]int64{"early": 10, "early-large": 3 * tenants.EntriesPerShard, "deleted": 5},
		pools:   map[string]int64{"p01": 1, "p02": tenants.EntriesPerShard},
		inPools: map[audit.TenantID]int64{"small": tenants.OwnEntries - 1, "large": tenants.OwnEntries, "gone": tenants.OwnEntries},
	}
	f.place(t, s)
	for id, want := range map[audit.TenantID]string{
		"early": f.Placing.PoolOf("early"), "early-large": audit.FamilyOwn, "small": f.Placing.PoolOf("small"), "large": audit.FamilyOwn,
	} {
		if got := f.family(t, id); got != want {
			t.Errorf("%s is placed in %s, want %s", id, got, want)
		}
	}
	large, err := f.db.Tenants().Tenant(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(large.Placements), 2; got != want {
		t.Fatalf("large has %d placements, want %d", got, want)
	}
	if got, want := large.Placements[1].Since, f.now.Add(25*time.Hour); got.Before(want) {
		t.Errorf("the placement begins at %v, want at the earliest %v", got, want)
	}
	if want := []string{"2026-12", "2026-12"}; !slices.Equal(s.months, want) {
		t.Errorf("asked for the months %v, want %v", s.months, want)
	}
	if want := []string{"ownearly-large 2027-02 4", "p01 2027-02 1", "p02 2027-02 2"}; !slices.Equal(s.prepared, want) {
		t.Errorf("prepared %v, want %v", s.prepared, want)
	}
	f.place(t, s) // again
	if again, err := f.db.Tenants().Tenant(t.Context(), "large"); err != nil {
		t.Fatal(err)
	} else if again.Version != large.Version {
		t.Errorf("the second run changed the record again: version %d, want %d", again.Version, large.Version)
	}
}

func TestASmallDeploymentIsLeftAsItIs(t *testing.T) {
	f := newFixture(t)
	f.Placing = tenants.Placing{Separate: 2, Pools: 16}
	f.createShared(t, "one")
	f.createShared(t, "two")
	f.place(t, &sizes{own: map[audit.TenantID]int64{"one": 1, "two": 1}})
	for _, id := range []audit.TenantID{"one", "two"} {
		if got := f.family(t, id); got != audit.FamilyOwn {
			t.Errorf("%s is placed in %s, want %s", id, got, audit.FamilyOwn)
		}
	}
	f.Placing.Separate = 1
	f.place(t, &sizes{own: map[audit.TenantID]int64{"one": 1, "two": tenants.OwnEntries / 4}})
	for id, want := range map[audit.TenantID]string{"one": f.Placing.PoolOf("one"), "two": audit.FamilyOwn} {
		if got := f.family(t, id); got != want {
			t.Errorf("in a larger deployment %s is placed in %s, want %s", id, got, want)
		}
	}
}

func TestPlacingWithoutTheIndex(t *testing.T) {
	f := newFixture(t)
	if err := f.placer(&sizes{err: errDown}).Run(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("got the error %v, want %v", err, errDown)
	}
}

// TestTwentyThousandTenants computes the primary shards of a month: 1,000 entries a second,
// half of them of ten tenants, the others by a power law.
func TestTwentyThousandTenants(t *testing.T) {
	const (
		count    = 20_000
		entries  = 1000 * 30 * 24 * 3600
		largest  = 10
		maxShard = 100
	)
	placing := tenants.Placing{Separate: 200, Pools: 16}
	weights := 0.0
	for n := largest; n < count; n++ {
		weights += 1 / float64(n)
	}
	pools := map[string]int64{}
	primaries, own := 0, 0
	for n := range count {
		size := int64(entries / 2 / largest)
		if n >= largest {
			size = int64(entries / 2 / float64(n) / weights)
		}
		if size >= tenants.OwnEntries {
			primaries += tenants.ShardsFor(size)
			own++
		} else {
			pools[placing.PoolOf(audit.TenantID(fmt.Sprint("tenant-", n)))] += size
		}
	}
	for _, size := range pools {
		primaries += tenants.ShardsFor(size)
	}
	t.Logf("%d tenants have their own indexes, %d pools have the others: %d primaries", own, len(pools), primaries)
	if primaries > maxShard {
		t.Errorf("a month has %d primary shards, want at most %d", primaries, maxShard)
	}
	if len(pools) != placing.Pools {
		t.Errorf("%d pools have tenants, want %d", len(pools), placing.Pools)
	}
}
