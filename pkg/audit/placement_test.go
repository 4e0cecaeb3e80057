package audit_test

import (
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestFamilyAt(t *testing.T) {
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	placements := []audit.Placement{{Since: begin, Family: "p07"}, {Since: begin.Add(time.Hour), Family: audit.FamilyOwn}}
	for at, want := range map[time.Time]string{
		{}: "p07", begin.Add(-time.Hour): "p07", begin: "p07", begin.Add(time.Hour - 1): "p07",
		begin.Add(time.Hour): audit.FamilyOwn, begin.AddDate(10, 0, 0): audit.FamilyOwn,
	} {
		if got := audit.FamilyAt(placements, at); got != want {
			t.Errorf("an entry received at %v is in %s, want %s", at, got, want)
		}
	}
	if got := audit.FamilyAt(nil, begin); got != audit.FamilyOwn {
		t.Errorf("without placements an entry is in %s, want %s", got, audit.FamilyOwn)
	}
}

func TestPlace(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	tenant := audit.Tenant{ID: "acme", Placements: []audit.Placement{{Since: now, Family: "p07"}}}
	first := tenant.Placements
	place := func(family string, now time.Time) bool {
		t.Helper()
		changed, err := tenant.Place(family, now)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	if place("p07", now) {
		t.Error("the same family is another placement, want none")
	}
	if !place(audit.FamilyOwn, now) {
		t.Error("another family is no placement, want one")
	}
	if got, want := tenant.Placements[1].Since, now.Add(25*time.Hour); !got.Equal(want) {
		t.Errorf("the placement begins at %v, want %v", got, want)
	}
	if len(first) != 1 {
		t.Errorf("got %d placements in a shared record, want 1", len(first))
	}
	place("p01", now.Add(-48*time.Hour)) // by a clock that is two days behind
	if earlier, later := tenant.Placements[1].Since, tenant.Placements[2].Since; !later.After(earlier) {
		t.Errorf("the next placement begins at %v, want it after %v", later, earlier)
	}
	for _, family := range []string{"", "p", "p1", "p100", "*", "own-", "t-acme", "P07"} {
		if _, err := tenant.Place(family, now); err == nil {
			t.Errorf("family %q: no error, want one", family)
		}
	}
}
