package opensearchindex

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Placements returns the placements of a tenant's record.
type Placements func(ctx context.Context, tenant audit.TenantID) ([]audit.Placement, error)

// WithPlacements returns the index with each tenant's entries where its placements say.
// Without it, every tenant has its own family.
func (x *Index) WithPlacements(placements Placements) *Index {
	placed := *x
	placed.placements = placements
	return &placed
}

// family is a series of indexes, one for each month: a tenant's own, or a pool.
type family struct {
	stem string // of the names of its indexes, which the month completes
	pool bool
}

// The indexes of a tenant's own family are <prefix>-t-<tenant>.YYYY.MM. Tenant ids have no
// dots, so the names of one tenant are never the beginning of another's.
func (x *Index) ownFamily(tenant audit.TenantID) family {
	return family{stem: x.config.Prefix + "-t-" + string(tenant) + "."}
}

// The indexes of a pool are <prefix>-p07-YYYY.MM.
func (x *Index) poolFamily(pool string) family {
	return family{stem: x.config.Prefix + "-" + pool + "-", pool: true}
}

func (f family) index(month string) string { return f.stem + month }

// scope is one tenant's part of the index. Every request about entries is made from it: it
// alone gives the names of indexes, the tenant's condition and the routing.
type scope struct {
	index      *Index
	tenant     audit.TenantID
	placements []audit.Placement // at least one, ordered by Since
	from, to   time.Time         // restrict the months; zero: open
}

// scope returns the tenant's part of the index. It returns an error for an invalid tenant
// id, so that no wildcard becomes part of a path.
func (x *Index) scope(ctx context.Context, tenant audit.TenantID) (scope, error) {
	if _, err := audit.ParseTenantID(string(tenant)); err != nil {
		return scope{}, err
	}
	s := scope{index: x, tenant: tenant, placements: []audit.Placement{{Family: audit.FamilyOwn}}}
	if x.placements == nil {
		return s, nil
	}
	recorded, err := x.placements(ctx, tenant)
	if err != nil {
		return scope{}, fmt.Errorf("find the placements: %w", err)
	}
	for _, p := range recorded {
		if p.Family != audit.FamilyOwn && !audit.IsPool(p.Family) {
			return scope{}, fmt.Errorf("the placement %q is not a family of indexes", p.Family)
		}
	}
	if len(recorded) > 0 {
		s.placements = recorded
	}
	return s, nil
}

// family returns a family of the scope by its name in a placement.
func (s scope) family(name string) family {
	if name == audit.FamilyOwn {
		return s.index.ownFamily(s.tenant)
	}
	return s.index.poolFamily(name)
}

// within returns the scope for entries with from ≤ timestamp < to. A zero bound is open.
func (s scope) within(from, to time.Time) scope {
	s.from, s.to = from, to
	return s
}

// familyAt returns the family of an entry that was received at a time.
func (s scope) familyAt(receivedAt time.Time) family {
	return s.family(audit.FamilyAt(s.placements, receivedAt))
}

const (
	// maxLead is longer than an entry's timestamp can be after its receipt.
	maxLead = audit.MaxLead + time.Hour
	// maxNamedMonths is how many months of a family a request names one by one. A request
	// for more addresses all months of the family.
	maxNamedMonths = 24
)

// families returns the families that can have entries of the scope's range, each once. An
// entry is received at most maxLead before its timestamp, so a family that ended earlier
// has none.
func (s scope) families() []family {
	var found []family
	for i, p := range s.placements {
		ended := i+1 < len(s.placements) && !s.from.IsZero() && s.placements[i+1].Since.Before(s.from.Add(-maxLead))
		if f := s.family(p.Family); !ended && !slices.Contains(found, f) {
			found = append(found, f)
		}
	}
	return found
}

// patterns returns what addresses the indexes of the scope in a path. Each name ends with a
// wildcard, so that a month without an index is not an error and a closed index is one.
func (s scope) patterns() string {
	months := []string{""}
	if named := monthsOf(s.from, s.to, s.index.config.Now()); len(named) > 0 && len(named) <= maxNamedMonths {
		months = named
	}
	var patterns []string
	for _, f := range s.families() {
		for _, month := range months {
			patterns = append(patterns, f.index(month)+"*")
		}
	}
	return strings.Join(patterns, ",")
}

// separate reports whether all entries are in indexes of the tenant's own.
func (s scope) separate() bool {
	return !slices.ContainsFunc(s.families(), func(f family) bool { return f.pool })
}

// routing returns the routing of requests, "" if they go to every shard. Only pools are
// routed. A request that also addresses a tenant's own family is not.
func (s scope) routing() string {
	for _, f := range s.families() {
		if !f.pool {
			return ""
		}
	}
	return string(s.tenant)
}

// monthsOf returns the months of the indexes with entries of a range. It returns nil if the
// range has no beginning. No entry is later than maxLead after now.
func monthsOf(from, to, now time.Time) []string {
	latest := now.Add(maxLead)
	if from.IsZero() || from.Year() < 2000 {
		return nil
	}
	if to.IsZero() || to.After(latest) {
		to = latest
	}
	from, to = from.UTC(), to.UTC()
	var months []string
	for at := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC); !at.After(to) || len(months) == 0; at = at.AddDate(0, 1, 0) {
		if month := monthAt(at); !slices.Contains(months, month) {
			months = append(months, month)
		}
		if len(months) > maxNamedMonths {
			break
		}
	}
	return months
}

// monthOf returns the month of the index of an entry, as names contain it.
//
// Each index needs shards, and a cluster allows a thousand for each node. Old
// timestamps must not use them up: before 2020 the index of December has the
// whole year, and that of December 1999 everything before. No index has entries
// later than its month. These rules must never change: an entry that is indexed
// again must go to the same index.
func monthOf(id audit.EntryID) string { return monthAt(id.Time()) }

func monthAt(at time.Time) string {
	switch {
	case at.Year() < 2000:
		return "1999.12"
	case at.Year() < 2020:
		return at.Format("2006") + ".12"
	default:
		return at.Format("2006.01")
	}
}

// documentID returns the _id of an entry's document. Tenants of a pool share its indexes,
// and two of them can have entries with the same id. A tenant id has no colon.
func documentID(tenant audit.TenantID, id audit.EntryID) string {
	return string(tenant) + ":" + id.String()
}

var indexMonth = regexp.MustCompile(`^\d{4,}\.\d{2}$`)

// has reports whether an index is one of the family's.
func (f family) has(index string) bool {
	month, ok := strings.CutPrefix(index, f.stem)
	return ok && indexMonth.MatchString(month)
}
