package search

import (
	"context"
	"net/url"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Selection is every entry that a filter selects, in an order.
type Selection struct {
	tenant audit.TenantID
	filter audit.Filter
	order  audit.Order
}

// Select reads the filters of Find and sort, within the caller's scope. The caller reads the
// parameters with the other names. Unknown or faulty ones are an *audit.ValidationError.
func (s *Service) Select(tenant audit.Tenant, scope access.Scope, query url.Values, others ...string) (Selection, error) {
	p := params{values: query}
	p.only(append([]string{ParamSort}, others...)...)
	filter, order := p.filter(), p.order()
	if err := p.err(); err != nil {
		return Selection{}, err
	}
	filter.Where = audit.All(filter.Where, scope.Expr())
	return Selection{tenant: tenant.ID, filter: tenant.Settings.Visible(filter, s.roundedNow()), order: order}, nil
}

// Each calls use with one page after the other, until there are no more or use returns false.
// degraded reports that a page came from the system of record, as List.Degraded does.
func (s *Service) Each(ctx context.Context, selection Selection, use func(page []audit.Entry) (more bool, err error)) (degraded bool, err error) {
	request := audit.PageRequest{Order: selection.order, Limit: audit.MaxPageLimit, MaxBytes: audit.MaxItemsBytes}
	for {
		page, fallback, err := s.find(ctx, selection.tenant, selection.filter, request)
		if err != nil {
			return degraded, err
		}
		degraded = degraded || fallback
		more, err := use(page.Entries)
		if err != nil || !more || !page.More || len(page.Entries) == 0 {
			return degraded, err
		}
		request.From = page.Last
	}
}
