package conformance

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// Tenants tests an adapter of tenants.Store.
func Tenants(t *testing.T, open func(t *testing.T) tenants.Store) {
	for name, test := range map[string]func(t *testing.T, s tenants.Store){
		"CreateReadUpdate":        tenantsRoundTrip,
		"IdsAreTakenOnce":         tenantsAreUnique,
		"UpdateAsksForTheVersion": tenantsCheckVersions,
		"OneOfManyUpdatesWins":    tenantsUpdateConcurrently,
		"ListPagesAndRestricts":   tenantsList,
		"TombstonedIDsStayTaken":  tenantsTombstone,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func someTenant(id audit.TenantID) audit.Tenant {
	settings := audit.DefaultSettings()
	settings.Detect = []audit.Detector{audit.DetectJWT, audit.DetectPAN}
	settings.SensitiveFields = []audit.SensitiveField{
		{Path: "**.iban", Mask: audit.MaskLast4, Subject: audit.SubjectUser, Searchable: true}, {Path: `metadata.a"b.$c`, Mask: audit.MaskFull},
	}
	settings.RetentionRules = []audit.RetentionRule{{Action: "user.login", Days: 90}, bySeverity(audit.SeverityInfo, 30), bySeverity(audit.SeverityCritical, 0)}
	settings.SearchableDays, settings.Archive = 200, true
	return audit.Tenant{
		ID: id, Name: `Größe & Söhne <"'>`, Status: audit.TenantActive, CreatedAt: epoch, UpdatedAt: epoch, Settings: settings, Version: 1,
		Placements: []audit.Placement{{Since: epoch, Family: "p07"}},
		Restored:   []audit.Restored{{From: epoch, To: epoch.Add(time.Hour), Until: epoch.Add(2 * time.Hour)}},
	}
}

func same[T any](t *testing.T, got, want T) {
	t.Helper()
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("differs (-want +got):\n%s", diff)
	}
}

func tenantsRoundTrip(t *testing.T, s tenants.Store) {
	want := someTenant(newTenant(t))
	_, err := s.Tenant(t.Context(), want.ID)
	wantError(t, err, audit.ErrNotFound)
	noError(t, s.Create(t.Context(), want))
	same(t, must[audit.Tenant](t)(s.Tenant(t.Context(), want.ID)), want)
	want.Name, want.Status, want.UpdatedAt, want.Version = "Other", audit.TenantSuspended, epoch.Add(time.Hour), 2
	want.Settings.RetentionRules, want.Settings.SearchableDays, want.Settings.Archive = nil, 0, false
	want.Settings.RemoveSecrets, want.Settings.Detect = false, nil
	want.KeepArchive = true
	want.Placements = append(want.Placements, audit.Placement{Since: epoch.Add(30 * 24 * time.Hour), Family: audit.FamilyOwn})
	want.Restored = nil
	want.Settings.RetentionDays, want.Settings.LogLevels = 0, []audit.Severity{audit.SeverityError}
	noError(t, s.Update(t.Context(), want))
	same(t, must[audit.Tenant](t)(s.Tenant(t.Context(), want.ID)), want)
}

func tenantsAreUnique(t *testing.T, s tenants.Store) {
	first := someTenant(newTenant(t))
	noError(t, s.Create(t.Context(), first))
	second := first
	second.Name = "Second"
	wantError(t, s.Create(t.Context(), second), audit.ErrConflict)
	same(t, must[audit.Tenant](t)(s.Tenant(t.Context(), first.ID)), first)
}

func tenantsCheckVersions(t *testing.T, s tenants.Store) {
	tenant := someTenant(newTenant(t))
	tenant.Version = 2
	wantError(t, s.Update(t.Context(), tenant), audit.ErrNotFound)
	tenant.Version = 1
	noError(t, s.Create(t.Context(), tenant))
	for _, version := range []int64{0, 1, 3} {
		wrong := tenant
		wrong.Version = version
		wantError(t, s.Update(t.Context(), wrong), audit.ErrPrecondition)
	}
	same(t, must[audit.Tenant](t)(s.Tenant(t.Context(), tenant.ID)), tenant)
}

func tenantsUpdateConcurrently(t *testing.T, s tenants.Store) {
	tenant := someTenant(newTenant(t))
	noError(t, s.Create(t.Context(), tenant))
	tenant.Version = 2
	var won atomic.Int32
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			switch err := s.Update(t.Context(), tenant); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, audit.ErrPrecondition):
				t.Errorf("got error %v, want none or %v", err, audit.ErrPrecondition)
			}
		})
	}
	writers.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d of 8 updates of one version succeeded, want 1", won.Load())
	}
}

func tenantsList(t *testing.T, s tenants.Store) {
	base := newTenant(t)
	var ids []audit.TenantID
	for _, suffix := range []audit.TenantID{"-a", "-b", "-c", "-d", "-e"} {
		noError(t, s.Create(t.Context(), someTenant(base+suffix)))
		ids = append(ids, base+suffix)
	}
	list := func(only []audit.TenantID, after audit.TenantID, limit int) (got []audit.TenantID, more bool) {
		found, more, err := s.List(t.Context(), only, after, limit)
		noError(t, err)
		for _, tenant := range found {
			got = append(got, tenant.ID)
		}
		return got, more
	}
	for _, step := range []struct {
		only  []audit.TenantID
		after audit.TenantID
		limit int
		want  []audit.TenantID
		more  bool
	}{
		{ids, "", 10, ids, false},
		{ids, "", 5, ids, false},
		{ids, "", 4, ids[:4], true},
		{ids, ids[1], 2, ids[2:4], true},
		{ids, ids[4], 2, nil, false},
		{[]audit.TenantID{ids[3], base, ids[0]}, "", 10, []audit.TenantID{ids[0], ids[3]}, false},
		{[]audit.TenantID{}, "", 10, nil, false},
		{nil, base, 2, ids[:2], true},
	} {
		got, more := list(step.only, step.after, step.limit)
		if !slices.Equal(got, step.want) {
			t.Fatalf("%s: %s: %d: got %q, want %q", step.only, step.after, step.limit, got, step.want)
		}
		if more != step.more {
			t.Fatalf("%s: %s: %d: more is %v, want %v", step.only, step.after, step.limit, more, step.more)
		}
	}
	found, _, err := s.List(t.Context(), ids[:1], "", 1)
	noError(t, err)
	same(t, found, []audit.Tenant{someTenant(ids[0])})
}

func tenantsTombstone(t *testing.T, s tenants.Store) {
	tenant := someTenant(newTenant(t))
	noError(t, s.Create(t.Context(), tenant))
	changed := tenant
	changed.Version = 2
	noError(t, s.Update(t.Context(), changed))
	wantError(t, s.Tombstone(t.Context(), tenant.ID, 1), audit.ErrPrecondition)
	same(t, must[audit.Tenant](t)(s.Tenant(t.Context(), tenant.ID)), changed)
	wantError(t, s.Tombstone(t.Context(), tenant.ID+"-2", 1), audit.ErrNotFound)
	noError(t, s.Tombstone(t.Context(), tenant.ID, 2))
	noError(t, s.Tombstone(t.Context(), tenant.ID, 2))
	_, err := s.Tenant(t.Context(), tenant.ID)
	wantError(t, err, audit.ErrNotFound)
	found, more, err := s.List(t.Context(), []audit.TenantID{tenant.ID}, "", 10)
	noError(t, err)
	if len(found) > 0 {
		t.Fatalf("a tombstoned tenant is listed: got found %v, want none", found)
	}
	if more {
		t.Fatal("a tombstoned tenant is listed: more is true, want false")
	}
	wantError(t, s.Create(t.Context(), tenant), audit.ErrConflict)
	tenant.Version = 3
	wantError(t, s.Update(t.Context(), tenant), audit.ErrNotFound)
}

// KeyStore keeps API keys.
type KeyStore interface {
	tenants.KeyStore
	jobs.CountedPurger
}

// Keys tests an adapter of tenants.KeyStore and jobs.CountedPurger.
func Keys(t *testing.T, open func(t *testing.T) KeyStore) {
	for name, test := range map[string]func(t *testing.T, s KeyStore){
		"CreateReadDelete":      keysRoundTrip,
		"IdsAndHashesAreUnique": keysAreUnique,
		"TenantsAreApart":       keysKeepTenantsApart,
		"UseIsKeptToTheMinute":  keysTouch,
		"PurgeForgetsOneTenant": keysPurge,
		"PagesHaveEachKeyOnce":  keysPages,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// allKeys returns the keys of a tenant, which must be few.
func allKeys(t *testing.T, s KeyStore, tenant audit.TenantID) []tenants.Key {
	t.Helper()
	keys, more, err := s.Keys(t.Context(), tenant, nil, 100)
	noError(t, err)
	if more {
		t.Fatal("more keys follow, want all in one page")
	}
	return keys
}

func keysPages(t *testing.T, s KeyStore) {
	tenant := newTenant(t)
	var want []tenants.Key
	for i := range 12 { // in threes of one time
		key := newKey(tenant, epoch.Add(time.Duration(i/3)*time.Millisecond))
		noError(t, s.CreateKey(t.Context(), key))
		want = append(want, key)
	}
	noError(t, s.CreateKey(t.Context(), newKey(tenant+"-2", epoch)))
	slices.SortFunc(want, func(a, b tenants.Key) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
	for _, limit := range []int{1, 4, 5, 12, 13} {
		var got []tenants.Key
		var after *tenants.KeyPosition
		for more := true; more; {
			var page []tenants.Key
			var err error
			page, more, err = s.Keys(t.Context(), tenant, after, limit)
			noError(t, err)
			if len(page) == 0 || len(page) > limit {
				t.Fatalf("a page of up to %d has %d keys, want at least 1", limit, len(page))
			}
			got = append(got, page...)
			last := page[len(page)-1]
			after = &tenants.KeyPosition{CreatedAt: last.CreatedAt, ID: last.ID}
		}
		same(t, got, want)
	}
	noError(t, s.DeleteKey(t.Context(), tenant, want[5].ID)) // a position outlives its key
	page, _, err := s.Keys(t.Context(), tenant, &tenants.KeyPosition{CreatedAt: want[5].CreatedAt, ID: want[5].ID}, 2)
	noError(t, err)
	same(t, page, want[6:8])
}

func newKey(tenant audit.TenantID, created time.Time) tenants.Key {
	id := randomHex(8)
	return tenants.Key{
		ID: id, Tenant: tenant, Name: `key "` + id + `"`, Hash: sha256.Sum256([]byte(id)), Permissions: []string{"logs:write"},
		Resources: []string{"order", "user:42"}, CreatedAt: created, CreatedBy: "ann", ExpiresAt: created.Add(time.Hour),
	}
}

func keysRoundTrip(t *testing.T, s KeyStore) {
	tenant := newTenant(t)
	first, second, third := newKey(tenant, epoch), newKey(tenant, epoch), newKey(tenant, epoch.Add(-time.Minute))
	third.ExpiresAt, third.Permissions, third.Resources = time.Time{}, nil, nil
	if second.ID < first.ID {
		first, second = second, first
	}
	for _, key := range []tenants.Key{second, third, first} {
		noError(t, s.CreateKey(t.Context(), key))
	}
	same(t, allKeys(t, s, tenant), []tenants.Key{third, first, second})
	same(t, must[tenants.Key](t)(s.KeyByHash(t.Context(), second.Hash)), second)
	same(t, must[tenants.Key](t)(s.Key(t.Context(), tenant, second.ID)), second)
	noError(t, s.DeleteKey(t.Context(), tenant, second.ID))
	wantError(t, s.DeleteKey(t.Context(), tenant, second.ID), audit.ErrNotFound)
	_, err := s.KeyByHash(t.Context(), second.Hash)
	wantError(t, err, audit.ErrNotFound)
	_, err = s.Key(t.Context(), tenant, second.ID)
	wantError(t, err, audit.ErrNotFound)
	same(t, allKeys(t, s, tenant), []tenants.Key{third, first})
}

func keysAreUnique(t *testing.T, s KeyStore) {
	tenant := newTenant(t)
	key := newKey(tenant, epoch)
	noError(t, s.CreateKey(t.Context(), key))
	for _, taken := range []func(k *tenants.Key){
		func(k *tenants.Key) { k.ID = key.ID },
		func(k *tenants.Key) { k.Hash = key.Hash },
		func(k *tenants.Key) { k.Hash, k.Tenant = key.Hash, tenant+"-2" },
	} {
		other := newKey(tenant, epoch)
		taken(&other)
		wantError(t, s.CreateKey(t.Context(), other), audit.ErrConflict)
	}
	same(t, allKeys(t, s, tenant), []tenants.Key{key})
}

func keysKeepTenantsApart(t *testing.T, s KeyStore) {
	tenant := newTenant(t)
	other := tenant + "-2"
	key := newKey(tenant, epoch)
	noError(t, s.CreateKey(t.Context(), key))
	same(t, allKeys(t, s, other), nil)
	_, err := s.Key(t.Context(), other, key.ID)
	wantError(t, err, audit.ErrNotFound)
	wantError(t, s.DeleteKey(t.Context(), other, key.ID), audit.ErrNotFound)
	if err := s.TouchKey(t.Context(), other, key.ID, epoch); err != nil {
		wantError(t, err, audit.ErrNotFound)
	}
	same(t, must[tenants.Key](t)(s.KeyByHash(t.Context(), key.Hash)), key)
}

func keysTouch(t *testing.T, s KeyStore) {
	tenant := newTenant(t)
	key := newKey(tenant, epoch)
	noError(t, s.CreateKey(t.Context(), key))
	used := epoch.Add(10 * time.Minute)
	noError(t, s.TouchKey(t.Context(), tenant, key.ID, used))
	key.LastUsedAt = used.Truncate(time.Minute)
	same(t, must[tenants.Key](t)(s.KeyByHash(t.Context(), key.Hash)), key)
	noError(t, s.TouchKey(t.Context(), tenant, key.ID, used.Add(-time.Hour))) // a late word of an earlier use
	same(t, allKeys(t, s, tenant), []tenants.Key{key})
}

func keysPurge(t *testing.T, s KeyStore) {
	tenant := newTenant(t)
	other := newKey(tenant+"-2", epoch)
	noError(t, s.CreateKey(t.Context(), other))
	for range 7 {
		noError(t, s.CreateKey(t.Context(), newKey(tenant, epoch)))
	}
	if n := purgeAll(t, s, tenant, 3); n != 7 {
		t.Fatalf("Purge removed %d keys, want 7", n)
	}
	same(t, allKeys(t, s, tenant), nil)
	same(t, allKeys(t, s, other.Tenant), []tenants.Key{other})
}
