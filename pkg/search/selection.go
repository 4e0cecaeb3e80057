package search

import (
	"context"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Selection is every entry that a filter selects, in an order.
type Selection struct {
	tenant audit.TenantID
	filter audit.Filter
	order  audit.Order
	// searchableFrom is that of List.
	searchableFrom time.Time
}

// SearchableFrom returns the earliest timestamp of the selection because of the tenant's searchable_days;
// zero: it has no such bound.
func (s Selection) SearchableFrom() time.Time { return s.searchableFrom }

// Range returns the bounds of the timestamps, as those of audit.Filter.
func (s Selection) Range() (from, to time.Time) { return s.filter.From, s.filter.To }

// Reversed returns the selection in the other order.
func (s Selection) Reversed() Selection {
	if s.order == audit.NewestFirst {
		s.order = audit.OldestFirst
	} else {
		s.order = audit.NewestFirst
	}
	return s
}

// Until returns the selection without entries from a timestamp on.
func (s Selection) Until(end time.Time) Selection {
	if s.filter.To.IsZero() || end.Before(s.filter.To) {
		s.filter.To = end
	}
	return s
}

// And returns the entries of the selection that meet a condition.
func (s Selection) And(where audit.Expr) Selection {
	s.filter.Where = audit.All(s.filter.Where, where)
	return s
}

// TimeParam reads a parameter as from is read. It returns the zero time if it is not given. A faulty
// one is an *audit.ValidationError.
func TimeParam(query url.Values, name string) (time.Time, error) {
	p := params{values: query}
	at := p.time(name)
	return at, p.err()
}

// Select reads the filters of Find, within the caller's scope, and the order if ParamSort is among the
// other names. The caller reads the parameters with these names. Unknown or faulty ones are an
// *audit.ValidationError.
func (s *Service) Select(tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (Selection, error) {
	return s.SelectAt(s.roundedNow(), tenant, scope, query, others...)
}

// SelectAt is Select of what is visible at a time.
func (s *Service) SelectAt(at time.Time, tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (Selection, error) {
	selection, err := s.SelectStored(tenant, scope, query, others...)
	if err != nil {
		return Selection{}, err
	}
	selection.filter, selection.searchableFrom = tenant.Visible(selection.filter, at), tenant.Settings.SearchableFrom(at)
	return selection, nil
}

// SelectStored is Select of all that is stored, also of what has expired and is not removed yet.
func (s *Service) SelectStored(tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (Selection, error) {
	p := params{values: query}
	p.only(others...)
	filter, order := p.filter(), p.order()
	if err := p.err(); err != nil {
		return Selection{}, err
	}
	filter.Where = audit.All(filter.Where, scope.Expr())
	return Selection{tenant: tenant.ID, filter: filter, order: order}, nil
}

// Has reports whether an entry of the tenant is in the selection, as an index would decide.
func (s Selection) Has(e audit.Entry) bool { return NewCandidate(e).Matches(s.filter) }

// Each calls use with one page after the other, until there are no more or use returns false.
// degraded reports that a page came from the system of record, as List.Degraded does.
func (s *Service) Each(ctx context.Context, selection Selection, use func(page []audit.Entry) (more bool, err error)) (degraded bool, err error) {
	var from *audit.Position
	for {
		page, fallback, err := s.page(ctx, selection, from, audit.MaxPageLimit)
		if err != nil {
			return degraded, err
		}
		degraded = degraded || fallback
		more, err := use(page.Entries)
		if err != nil || !more || !page.More || len(page.Entries) == 0 {
			return degraded, err
		}
		from = page.Last
	}
}

// Count returns the number of entries in the selection. It waits for a turn as Stats does.
func (s *Service) Count(ctx context.Context, selection Selection) (int64, error) {
	stats, err := s.stats(ctx, selection.tenant, selection.filter, audit.StatsRequest{})
	return stats.Total, err
}

// Page returns a page of the selection after a position (nil: from the beginning).
func (s *Service) Page(ctx context.Context, selection Selection, from *audit.Position, limit int) (audit.Page, error) {
	page, _, err := s.page(ctx, selection, from, limit)
	return page, err
}

func (s *Service) page(ctx context.Context, selection Selection, from *audit.Position, limit int) (page audit.Page, degraded bool, err error) {
	request := audit.PageRequest{Order: selection.order, Limit: limit, MaxBytes: audit.MaxItemsBytes, From: from}
	return s.find(ctx, selection.tenant, selection.filter, request)
}
