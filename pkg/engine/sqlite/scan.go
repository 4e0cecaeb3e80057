package sqlite

import (
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// For the beginning of a token, a search joins the lists of all tokens of a segment that begin so,
// before it has the first entry. If most entries match, that takes longer than reading a page. A page
// of such a filter therefore begins with a scan: it reads entries in the order of the list and
// compares them itself, as long as enough of them match.

// scanLimits says how long a scan goes on.
type scanLimits struct {
	least    int // entries that show whether enough of them match
	perMatch int // entries that may be read for each that matches
}

var usualScan = scanLimits{least: 64, perMatch: 8}

// enough reports whether a scan goes on.
func (l scanLimits) enough(scanned, matched int) bool {
	return scanned < l.least || scanned <= matched*l.perMatch
}

// joinsTerms reports whether a search joins lists for the expression, or passes over the entries of one.
func joinsTerms(e audit.Expr) bool {
	switch e := e.(type) {
	case audit.And:
		return slices.ContainsFunc(e, joinsTerms)
	case audit.Or:
		return slices.ContainsFunc(e, joinsTerms)
	case audit.Text:
		return e.Prefix
	case audit.Not, audit.Prefix, audit.Number, audit.Network, audit.Has, audit.Received:
		return true
	}
	return false
}

// scan adds entries of the range to the page while enough of them match. It returns the part of
// the range that it has not read.
func (r *pageReader) scan(filter audit.Filter, bounds span) (rest span, err error) {
	if bounds.empty() {
		return bounds, nil
	}
	query := findAllRising
	if r.falling {
		query = findAllFalling
	}
	scanned, matched, enough := 0, 0, true
	args := []any{r.tenant, bounds.first, bounds.last, -1} // no limit: enough is one
	err = r.docs.each(r.ctx, query, args, func() (bool, error) {
		if enough = r.enough(scanned, matched); !enough {
			return false, nil
		}
		doc, entry, err := r.current()
		if err != nil {
			return false, err
		}
		scanned++
		bounds = bounds.after(r.docs.key, r.falling)
		if search.NewCandidate(entry).Matches(filter) {
			matched++
			r.add(doc, entry)
		}
		return !r.more, nil
	})
	if err == nil && enough && !r.more {
		return span{0, -1}, nil
	}
	return bounds, err
}

// after returns the part of the range after the key in the direction of a list.
func (s span) after(key int64, falling bool) span {
	switch {
	case falling && key == everything.first, !falling && key == everything.last:
		return span{0, -1}
	case falling:
		s.last = key - 1
	default:
		s.first = key + 1
	}
	return s
}
