package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// HoldStore is what an adapter of hold.Store has.
type HoldStore interface {
	hold.Store
	jobs.CountedPurger
}

// Holds tests an adapter of hold.Store.
func Holds(t *testing.T, open func(t *testing.T) HoldStore) {
	for name, test := range map[string]func(t *testing.T, s HoldStore){
		"CreateReadUpdate":    holdsRoundTrip,
		"UpdateIsConditional": holdsUpdateIsConditional,
		"TenantsAreApart":     holdsKeepTenantsApart,
		"Pages":               holdsPages,
		"Standing":            holdsStanding,
		"Purge":               holdsPurge,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func newHold(tenant audit.TenantID, created time.Time) hold.Hold {
	return hold.Hold{ID: randomHex(16), Tenant: tenant, Matter: "Case 17", Reason: "r", CreatedBy: "ann", CreatedAt: created, Version: 1}
}

func holdsRoundTrip(t *testing.T, s HoldStore) {
	created := time.Date(2026, 3, 2, 9, 30, 0, int(7*time.Millisecond), time.UTC)
	h := newHold(newTenant(t), created)
	_, err := s.Hold(t.Context(), h.Tenant, h.ID)
	wantError(t, err, audit.ErrNotFound)
	h.Version = 2
	wantError(t, s.UpdateHold(t.Context(), h), audit.ErrNotFound)
	h.Version = 1
	noError(t, s.CreateHold(t.Context(), h))
	wantError(t, s.CreateHold(t.Context(), h), audit.ErrConflict)
	same(t, must[hold.Hold](t)(s.Hold(t.Context(), h.Tenant, h.ID)), h)
	h.UserIDs, h.From, h.To = []string{"b", `it's "a"`, "ü\x00"}, created.AddDate(-9, 0, 0), created.AddDate(9, 0, 0)
	h.InForceAt, h.ReleasedAt, h.ReleasedBy, h.ReleaseReason = created.Add(time.Minute), created.Add(time.Hour), "eve", strings.Repeat("x", hold.MaxReason)
	h.Version = 2
	noError(t, s.UpdateHold(t.Context(), h))
	same(t, must[hold.Hold](t)(s.Hold(t.Context(), h.Tenant, h.ID)), h)
}

func holdsUpdateIsConditional(t *testing.T, s HoldStore) {
	h := newHold(newTenant(t), time.UnixMilli(1).UTC())
	noError(t, s.CreateHold(t.Context(), h))
	const writers = 8
	errs := make(chan error, writers)
	for i := range writers {
		go func() {
			changed := h
			changed.Version, changed.ReleasedBy = 2, fmt.Sprint(i)
			errs <- s.UpdateHold(t.Context(), changed)
		}()
	}
	won := 0
	for range writers {
		if err := <-errs; err == nil {
			won++
		} else {
			wantError(t, err, audit.ErrPrecondition)
		}
	}
	same(t, won, 1)
}

func holdsKeepTenantsApart(t *testing.T, s HoldStore) {
	mine := newHold(newTenant(t), time.UnixMilli(1).UTC())
	noError(t, s.CreateHold(t.Context(), mine))
	theirs := mine
	theirs.Tenant, theirs.Matter = mine.Tenant+"-2", "Case 18"
	_, err := s.Hold(t.Context(), theirs.Tenant, mine.ID)
	wantError(t, err, audit.ErrNotFound)
	same(t, len(must[hold.Standing](t)(s.Standing(t.Context(), theirs.Tenant))), 0)
	noError(t, s.CreateHold(t.Context(), theirs)) // ids are unique within a tenant
	same(t, must[hold.Hold](t)(s.Hold(t.Context(), mine.Tenant, mine.ID)), mine)
	same(t, must[hold.Standing](t)(s.Standing(t.Context(), mine.Tenant)), hold.Standing{mine})
}

func holdsPages(t *testing.T, s HoldStore) {
	tenant := newTenant(t)
	var want []hold.Hold
	for i := range 7 { // some in the same millisecond
		h := newHold(tenant, time.UnixMilli(int64(1000+i/3)).UTC())
		noError(t, s.CreateHold(t.Context(), h))
		want = append(want, h)
	}
	slices.SortFunc(want, func(a, b hold.Hold) int {
		if n := b.CreatedAt.Compare(a.CreatedAt); n != 0 {
			return n
		}
		return strings.Compare(b.ID, a.ID)
	})
	for size := 1; size <= 8; size++ {
		var got []hold.Hold
		var after *jobs.Position
		for more := true; more; {
			var page []hold.Hold
			var err error
			page, more, err = s.Holds(t.Context(), tenant, after, size)
			noError(t, err)
			if len(page) > size || len(page) == 0 {
				t.Fatalf("a page of %d has %d holds", size, len(page))
			}
			got = append(got, page...)
			after = &jobs.Position{CreatedAt: page[len(page)-1].CreatedAt, ID: page[len(page)-1].ID}
		}
		same(t, got, want)
	}
}

func holdsStanding(t *testing.T, s HoldStore) {
	tenant := newTenant(t)
	h := newHold(tenant, time.UnixMilli(1000).UTC())
	noError(t, s.CreateHold(t.Context(), h))
	h.InForceAt, h.Version = h.CreatedAt, 2
	noError(t, s.UpdateHold(t.Context(), h))
	same(t, must[hold.Standing](t)(s.Standing(t.Context(), tenant)), hold.Standing{h})
	h.ReleasedAt, h.Version = h.CreatedAt, 3
	noError(t, s.UpdateHold(t.Context(), h))
	same(t, len(must[hold.Standing](t)(s.Standing(t.Context(), tenant))), 0)
	for i := range hold.MaxStanding {
		noError(t, s.CreateHold(t.Context(), newHold(tenant, time.UnixMilli(int64(i)).UTC())))
	}
	same(t, len(must[hold.Standing](t)(s.Standing(t.Context(), tenant))), hold.MaxStanding)
}

func holdsPurge(t *testing.T, s HoldStore) {
	mine, theirs := newTenant(t), newTenant(t)
	for _, tenant := range []audit.TenantID{mine, mine, mine, theirs} {
		noError(t, s.CreateHold(t.Context(), newHold(tenant, time.UnixMilli(1).UTC())))
	}
	removed := 0
	for n := 1; n > 0; {
		var err error
		n, err = s.Purge(t.Context(), mine, 2)
		noError(t, err)
		removed += n
	}
	same(t, removed, 3)
	same(t, len(must[hold.Standing](t)(s.Standing(t.Context(), mine))), 0)
	same(t, len(must[hold.Standing](t)(s.Standing(t.Context(), theirs))), 1)
}
