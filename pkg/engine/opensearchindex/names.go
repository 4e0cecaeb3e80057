package opensearchindex

import (
	"regexp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// family has the names of one tenant's indexes.
type family struct {
	tenant audit.TenantID
	alias  string // for reading all months; also the template's name
}

// family returns an error for an invalid tenant id, so that no wildcard becomes
// part of a path.
func (x *Index) family(tenant audit.TenantID) (family, error) {
	if _, err := audit.ParseTenantID(string(tenant)); err != nil {
		return family{}, err
	}
	return family{tenant: tenant, alias: x.config.Prefix + "-" + string(tenant)}, nil
}

// monthOf returns the month of the index of an entry, as names contain it.
//
// Each index needs shards, and a cluster allows a thousand for each node. Old
// timestamps must not use them up: before 2020 the index of December has the
// whole year, and that of December 1999 everything before. No index has entries
// later than its month. These rules must never change: an entry that is indexed
// again must go to the same index.
func monthOf(id audit.EntryID) string {
	switch at := id.Time(); {
	case at.Year() < 2000:
		return "1999.12"
	case at.Year() < 2020:
		return at.Format("2006") + ".12"
	default:
		return at.Format("2006.01")
	}
}

func (f family) index(month string) string { return f.alias + "-" + month }

func (f family) writeAlias(month string) string { return f.index(month) + "-write" }

// owns reports whether an index is one of the family's.
func (f family) owns(index string) bool {
	return regexp.MustCompile(`^` + regexp.QuoteMeta(f.alias) + `-\d{4,}\.\d{2}$`).MatchString(index)
}
