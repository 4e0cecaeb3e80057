package search

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// Service answers the read side of one tenant. Every call is narrowed by the
// caller's scope.
type Service struct {
	Index Index
	// Degraded answers what it can while Index is unavailable; nil: nothing does.
	// Its positions are Index's, so that a list goes on where it was.
	Degraded Finder
	Reader   Reader
	Cursors  *cursor.Signer
	Now      func() time.Time
	// Log is told why the index did not answer where that does not show in the
	// answer's status; nil: slog's default.
	Log *slog.Logger
}

// List is one page of entries with the cursors of its neighbours ("" where there is none).
type List struct {
	Entries    []audit.Entry
	Next, Prev string
	// Degraded says that the index is unavailable and the system of record
	// answered, which may be a little behind or ahead of it.
	Degraded bool
}

// Find answers GET /logs. params are the query parameters: filters, q, from,
// to, sort, limit, cursor. Unknown or faulty ones are an *audit.ValidationError.
func (s *Service) Find(ctx context.Context, tenant audit.TenantID, scope access.Scope, query url.Values) (List, error) {
	p := params{values: query}
	p.only(ParamSort, ParamLimit, ParamCursor)
	filter := p.filter()
	request := audit.PageRequest{
		Order: p.order(), Limit: p.number(ParamLimit, audit.DefaultPageLimit, audit.MaxPageLimit), MaxBytes: audit.MaxPageBytes,
	}
	list := listName(tenant, scope, query)
	if text := p.single(ParamCursor); text != "" {
		if err := s.place(&request, list, text); err != nil {
			p.add(err)
		}
	}
	if err := p.err(); err != nil {
		return List{}, err
	}
	filter.Where = audit.All(filter.Where, scope.Expr())
	page, degraded, err := s.find(ctx, tenant, filter, request)
	if err != nil {
		return List{}, err
	}
	answer := s.list(list, request, page)
	answer.Degraded = degraded
	return answer, nil
}

// find asks the index and, while that is unavailable, whoever stands in for it.
// The index leaves the time for that.
func (s *Service) find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (page audit.Page, degraded bool, err error) {
	page, err = s.Index.Find(ctx, tenant, filter, request)
	var unavailable *audit.UnavailableError
	if s.Degraded == nil || ctx.Err() != nil || !errors.As(err, &unavailable) {
		return page, false, err
	}
	s.missed(ctx, tenant, err)
	page, err = s.Degraded.Find(ctx, tenant, filter, request)
	return page, err == nil, err
}

// missed logs that an answer was made without the index.
func (s *Service) missed(ctx context.Context, tenant audit.TenantID, err error) {
	cmp.Or(s.Log, slog.Default()).WarnContext(ctx, "the index did not answer", "tenant", string(tenant), "error", err)
}

// listName is what a cursor is good for: everything that decides which entries
// the list holds and in which order.
func listName(tenant audit.TenantID, scope access.Scope, query url.Values) string {
	filters := url.Values{}
	for name, values := range query {
		if name != ParamCursor && name != ParamLimit {
			filters[name] = values
		}
	}
	narrowed := url.Values{"owner": {scope.Owner}}
	for _, r := range scope.Resources {
		narrowed.Add("type", r.Type)
		narrowed.Add("id", r.ID)
	}
	return string(tenant) + "\n" + filters.Encode() + "\n" + narrowed.Encode()
}

// place is what a cursor carries.
type place struct {
	Millis    int64  `json:"t"`
	Tie       string `json:"e"`
	Backwards bool   `json:"b,omitempty"`
}

// place moves the request to where a cursor points.
func (s *Service) place(request *audit.PageRequest, list, text string) error {
	payload, err := s.Cursors.Parse(list, text)
	if err != nil {
		return err
	}
	var at place
	if err := json.Unmarshal(payload, &at); err != nil {
		return audit.Invalid("?"+ParamCursor, "invalid_cursor", "must be a cursor of this list")
	}
	request.From = &audit.Position{Time: time.UnixMilli(at.Millis).UTC(), Tie: at.Tie}
	request.Backwards = at.Backwards
	return nil
}

// list adds the cursors of the neighbouring pages.
func (s *Service) list(name string, request audit.PageRequest, page audit.Page) List {
	list := List{Entries: page.Entries}
	if len(page.Entries) == 0 {
		return list
	}
	more := func(forward bool) bool {
		if forward == request.Backwards {
			return true // the page was reached from there
		}
		return page.More
	}
	if more(true) {
		list.Next = s.sign(name, *page.Last, false)
	}
	if (request.From != nil || request.Backwards) && more(false) {
		list.Prev = s.sign(name, *page.First, true)
	}
	return list
}

func (s *Service) sign(list string, position audit.Position, backwards bool) string {
	payload, err := json.Marshal(place{Millis: position.Time.UnixMilli(), Tie: position.Tie, Backwards: backwards})
	if err != nil {
		return "" // cannot happen: numbers, a string and a bool
	}
	return s.Cursors.Sign(list, payload)
}

// Stats answers GET /logs/stats: the filters of Find and group_by, interval, top.
// request is what the parameters asked for.
func (s *Service) Stats(ctx context.Context, tenant audit.TenantID, scope access.Scope, query url.Values) (stats audit.Stats, request audit.StatsRequest, err error) {
	p := params{values: query}
	p.only(ParamGroupBy, ParamInterval, ParamTop)
	filter := p.filter()
	request = p.stats()
	if err := p.err(); err != nil {
		return audit.Stats{}, request, err
	}
	filter.Where = audit.All(filter.Where, scope.Expr())
	stats, err = s.Index.Stats(ctx, tenant, filter, request)
	return stats, request, err
}

// Found is one entry with how far it has come.
type Found struct {
	Entry  audit.Entry
	Status audit.Status
}

// recent is how young an id must be for its entry to be still under way.
const recent = 5 * time.Minute

// Entry answers GET /logs/{id}. An entry outside the scope is audit.ErrNotFound.
// One that is not stored yet but may be under way is a *NotYetError.
func (s *Service) Entry(ctx context.Context, tenant audit.TenantID, scope access.Scope, id audit.EntryID) (Found, error) {
	entry, err := s.Reader.Entry(ctx, tenant, id)
	if errors.Is(err, audit.ErrNotFound) && s.Now().Sub(id.Time()) < recent {
		return Found{}, &NotYetError{RetryAfter: time.Second}
	}
	if err != nil {
		return Found{}, err
	}
	if !scope.Allows(&entry) {
		return Found{}, audit.ErrNotFound
	}
	found := Found{Entry: entry, Status: audit.StatusStored}
	// The entry itself comes from the system of record. Where the index cannot
	// say whether it has it, "stored" is what is known for certain.
	indexed, err := s.Index.Contains(ctx, tenant, id)
	switch {
	case err != nil:
		s.missed(ctx, tenant, err)
	case indexed:
		found.Status = audit.StatusIndexed
	}
	return found, nil
}

// NotYetError says that an entry is not stored but its id is of the last five
// minutes. It is an audit.ErrNotFound.
type NotYetError struct{ RetryAfter time.Duration }

func (e *NotYetError) Error() string { return "not stored yet" }

func (e *NotYetError) Unwrap() error { return audit.ErrNotFound }
