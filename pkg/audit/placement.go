package audit

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Placement says in which family of search indexes a tenant's entries lie that were
// received from a time on, until the next placement. Family is FamilyOwn or the name of a
// pool, which several tenants share.
type Placement struct {
	Since  time.Time `json:"since"`
	Family string    `json:"family"`
}

// FamilyOwn is the family of a tenant that shares its search indexes with no other.
const FamilyOwn = "own"

// MinPlacementNotice is how far ahead a placement begins. By then every process knows it:
// records are cached for up to 15 minutes.
const MinPlacementNotice = MaxClockError + time.Hour

// maxPlacements bounds a tenant's placements: two changes a month for over forty years.
const maxPlacements = 1000

var poolPattern = regexp.MustCompile(`^p[0-9]{2}$`)

// PoolName returns the name of a pool, whose number is from 0 to 99.
func PoolName(number int) string { return fmt.Sprintf("p%02d", number) }

// IsPool reports whether a family is a pool.
func IsPool(family string) bool { return poolPattern.MatchString(family) }

// FamilyAt returns the family of an entry that was received at a time. The first placement
// also has what was received before it. A tenant without placements has its own family.
func FamilyAt(placements []Placement, receivedAt time.Time) string {
	family := FamilyOwn
	for i, p := range placements {
		if i == 0 || !p.Since.After(receivedAt) {
			family = p.Family
		}
	}
	return family
}

// Place adds a placement to the record, unless the tenant's last one has the family
// already. It reports whether it did. The placement begins MinPlacementNotice after now. It
// returns an error if the family is not valid, or if the tenant has too many placements.
func (t *Tenant) Place(family string, now time.Time) (bool, error) {
	if family != FamilyOwn && !IsPool(family) {
		return false, fmt.Errorf("%q is not a family of indexes", family)
	}
	last := Placement{Family: FamilyOwn}
	if n := len(t.Placements); n > 0 {
		last = t.Placements[n-1]
	}
	if last.Family == family {
		return false, nil
	}
	if len(t.Placements) >= maxPlacements {
		return false, errors.New("the tenant was placed too often")
	}
	since := now.UTC().Add(MinPlacementNotice).Truncate(time.Millisecond)
	if since.Before(last.Since) { // by a clock that was ahead
		since = last.Since.Add(time.Millisecond)
	}
	t.Placements = append(slices.Clone(t.Placements), Placement{Since: since, Family: family})
	return true, nil
}
