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
}

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

// Select reads the filters of Find and sort, within the caller's scope. The caller reads the
// parameters with the other names. Unknown or faulty ones are an *audit.ValidationError.
func (s *Service) Select(tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (Selection, error) {
	return s.SelectAt(s.roundedNow(), tenant, scope, query, others...)
}

// SelectAt is Select of what is visible at a time.
func (s *Service) SelectAt(at time.Time, tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (Selection, error) {
	p := params{values: query}
	p.only(append([]string{ParamSort}, others...)...)
	filter, order := p.filter(), p.order()
	if err := p.err(); err != nil {
		return Selection{}, err
	}
	filter.Where = audit.All(filter.Where, scope.Expr())
	return Selection{tenant: tenant.ID, filter: tenant.Settings.Visible(filter, at), order: order}, nil
}

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

// Page returns a page of the selection after a position (nil: from the beginning).
func (s *Service) Page(ctx context.Context, selection Selection, from *audit.Position, limit int) (audit.Page, error) {
	page, _, err := s.page(ctx, selection, from, limit)
	return page, err
}

func (s *Service) page(ctx context.Context, selection Selection, from *audit.Position, limit int) (page audit.Page, degraded bool, err error) {
	request := audit.PageRequest{Order: selection.order, Limit: limit, MaxBytes: audit.MaxItemsBytes, From: from}
	return s.find(ctx, selection.tenant, selection.filter, request)
}
