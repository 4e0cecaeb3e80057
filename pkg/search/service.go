package search

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// Service reads the entries of a tenant, whose record the caller has read for this
// request. Every call is restricted to the caller's scope.
type Service struct {
	Index Index
	// Degraded reads lists while Index is unavailable; nil: nothing does. It uses the
	// positions of Index, so that a client can continue its list.
	Degraded Finder
	Reader   Reader
	Cursors  *cursor.Signer
	// TimeZone returns a zone of the tz database. Only Stats needs it.
	TimeZone func(name string) (*time.Location, error)
	Now      func() time.Time
	// Log gets failures of the index that the response's status does not show; nil:
	// slog's default.
	Log *slog.Logger

	turns statsTurns
}

// List is one page of entries with the cursors of its neighbours ("" if there is none).
type List struct {
	Entries    []audit.Entry
	Next, Prev string
	// Degraded says that the entries come from the system of record, because the
	// index is unavailable. The two can differ by the most recent entries.
	Degraded bool
	// SearchableFrom is the earliest timestamp in the list because of the tenant's
	// searchable_days; zero: it has no such bound.
	SearchableFrom time.Time
}

// visibleStep is the longest time for which a list or a count can have an entry after its
// end. Within a step all requests have the same bounds, so that an index can cache them.
const visibleStep = time.Minute

func (s *Service) roundedNow() time.Time { return s.Now().UTC().Truncate(visibleStep) }

// Find answers GET /logs. params are the query parameters: filters, q, from,
// to, sort, limit, cursor. Unknown or faulty ones are an *audit.ValidationError.
func (s *Service) Find(ctx context.Context, tenant audit.Tenant, scope access.Scope, query url.Values) (List, error) {
	p := params{values: query}
	p.only(findParams...)
	return s.findPage(ctx, tenant, scope, p, Match{})
}

// findParams are the parameters of a list in addition to filters.
var findParams = []string{ParamSort, ParamLimit, ParamCursor}

// FindBy is Find with the parameters as the members of a JSON object, to which the pointers of
// faults refer. A value is a string or an array of strings. The limit may be a number, and values
// of the metadata numbers, true and false. The entries have all of the tokens. The caller reads the
// members with the other names.
func (s *Service) FindBy(ctx context.Context, tenant audit.Tenant, scope access.Scope, members map[string]jsontext.Value, match Match, others ...string) (List, error) {
	list, err := s.findPage(ctx, tenant, scope, paramsIn(members, append(slices.Clone(findParams), others...)...), match)
	return list, inBody(err, "")
}

func (s *Service) findPage(ctx context.Context, tenant audit.Tenant, scope access.Scope, p params, match Match) (List, error) {
	filter := p.filter()
	request := audit.PageRequest{
		Order: p.order(), Limit: p.number(ParamLimit, audit.DefaultPageLimit, audit.MaxPageLimit), MaxBytes: audit.MaxItemsBytes,
	}
	list := listName(tenant.ID, scope, p.values, match.Tokens)
	if text := p.single(ParamCursor); text != "" {
		if err := s.place(&request, list, text); err != nil {
			p.add(err)
		}
	}
	if err := p.err(); err != nil {
		return List{}, err
	}
	filter.Where = audit.All(filter.Where, withTokens(match.Tokens), scope.Expr())
	now := s.roundedNow()
	filter = tenant.Visible(filter, now)
	read := func(ctx context.Context, request audit.PageRequest) (audit.Page, bool, error) {
		return s.find(ctx, tenant.ID, filter, request)
	}
	page, degraded, err := match.page(ctx, request, read)
	if err != nil {
		return List{}, err
	}
	answer := s.list(list, request, page)
	answer.Degraded, answer.SearchableFrom = degraded, tenant.Settings.SearchableFrom(now)
	return answer, nil
}

// withTokens returns the condition that an entry has all of the tokens, nil if there are none.
func withTokens(tokens []audit.ValueToken) audit.Expr {
	if len(tokens) == 0 {
		return nil
	}
	all := make(audit.And, len(tokens))
	for i, token := range tokens {
		all[i] = audit.HasToken{Token: token}
	}
	return all
}

// find reads from the index and, while it is unavailable, from Degraded. The index
// leaves enough time for that; see Finder.
func (s *Service) find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (page audit.Page, degraded bool, err error) {
	page, err = s.Index.Find(ctx, tenant, filter, request)
	if s.Degraded == nil || ctx.Err() != nil || !audit.IsUnavailable(err) {
		return page, false, err
	}
	s.logUnanswered(ctx, tenant, err)
	page, err = s.Degraded.Find(ctx, tenant, filter, request)
	return page, err == nil, err
}

// logUnanswered logs that a response was made without the index.
func (s *Service) logUnanswered(ctx context.Context, tenant audit.TenantID, err error) {
	cmp.Or(s.Log, slog.Default()).WarnContext(ctx, "the index did not answer", "tenant", string(tenant), "error", err)
}

// listName names the list that a cursor is valid for: everything that decides
// which entries the list has and in which order.
func listName(tenant audit.TenantID, scope access.Scope, query url.Values, tokens []audit.ValueToken) string {
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
	for _, token := range tokens {
		narrowed.Add("token", hex.EncodeToString(token[:]))
	}
	return string(tenant) + "\n" + filters.Encode() + "\n" + narrowed.Encode()
}

// place is the payload of a cursor.
type place struct {
	Millis    int64  `json:"t"`
	Tie       string `json:"e"`
	Backwards bool   `json:"b,omitempty"`
}

// place moves the request to the position of a cursor.
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
		return "" // never: numbers, a string and a bool
	}
	return s.Cursors.Sign(list, payload)
}

// Counts are statistics.
type Counts struct {
	audit.Stats
	Request audit.StatsRequest // what the parameters asked for
	// SearchableFrom is that of List.
	SearchableFrom time.Time
}

// Stats answers GET /logs/stats: the filters of Find and group_by, interval, time_zone, top. A
// process counts few statistics at the same time, and one for each tenant. Whose turn
// does not come within seconds gets an *audit.UnavailableError.
func (s *Service) Stats(ctx context.Context, tenant audit.Tenant, scope access.Scope, query url.Values) (Counts, error) {
	p := params{values: query}
	p.only(ParamGroupBy, ParamInterval, ParamTimeZone, ParamTop)
	p.zone = p.timeZone(s.TimeZone)
	filter := p.filter()
	counts := Counts{Request: p.stats()}
	if err := p.err(); err != nil {
		return Counts{}, err
	}
	now := s.roundedNow()
	filter.Where = audit.All(filter.Where, scope.Expr())
	filter, counts.SearchableFrom = tenant.Visible(filter, now), tenant.Settings.SearchableFrom(now)
	var err error
	counts.Stats, err = s.stats(ctx, tenant.ID, filter, counts.Request)
	return counts, err
}

// stats counts when it is the tenant's turn. A count that takes too long is an
// *audit.ValidationError, because it would take as long again. One that others have kept from
// being counted is an *audit.UnavailableError.
func (s *Service) stats(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) (audit.Stats, error) {
	whole, cancel := context.WithTimeout(ctx, statsDeadline)
	defer cancel()
	for long := false; ; long = true {
		stats, err := s.takeTurn(whole, tenant, long, func(turn context.Context) (audit.Stats, error) {
			return s.Index.Stats(turn, tenant, filter, request)
		})
		var invalid *audit.ValidationError
		switch {
		case err == nil, ctx.Err() != nil, errors.As(err, &invalid):
			return stats, err
		case errors.Is(err, errEvicted) && whole.Err() == nil:
			continue
		case errors.Is(err, errStatsBusy), whole.Err() != nil:
			err = fmt.Errorf("count entries of %s: %w", tenant, &audit.UnavailableError{RetryAfter: statsWait, Err: errStatsBusy})
		}
		return audit.Stats{}, err
	}
}

// takeTurn counts in one turn. It returns errEvicted if the count must begin again in the long
// lane, and errStatsBusy if no turn came.
func (s *Service) takeTurn(ctx context.Context, tenant audit.TenantID, long bool, count func(ctx context.Context) (audit.Stats, error)) (audit.Stats, error) {
	evictable, evict := context.WithCancelCause(ctx)
	defer evict(nil)
	turn, err := s.turns.take(ctx, tenant, long, evict)
	if err != nil {
		return audit.Stats{}, err
	}
	defer s.turns.give(turn)
	outgrow := time.AfterFunc(quickTime, func() { s.turns.outgrow(turn) })
	defer outgrow.Stop()
	bounded, cancel := context.WithTimeoutCause(evictable, audit.MaxStatsTime, errStatsTooLong)
	defer cancel()
	stats, err := count(bounded)
	var invalid *audit.ValidationError
	switch {
	case err == nil || bounded.Err() == nil || errors.As(err, &invalid):
		return stats, err
	case errors.Is(context.Cause(bounded), errEvicted):
		return audit.Stats{}, errEvicted
	case errors.Is(context.Cause(bounded), errStatsTooLong):
		return audit.Stats{}, audit.ErrSlowStats()
	}
	return audit.Stats{}, err
}

// errStatsTooLong is the cause of the end of a count that takes longer than audit.MaxStatsTime.
var errStatsTooLong = errors.New("the count takes too long")

// Found is one entry and its status.
type Found struct {
	Entry  audit.Entry
	Status audit.Status
}

// recent is the age of an id up to which its entry may still be in a queue.
const recent = 5 * time.Minute

// Entry answers GET /logs/{id}. It returns audit.ErrNotFound if the entry does not exist,
// has expired or is outside the scope. This is a *NotYetError if an entry with this id may
// still be in a queue, so that the answer does not tell whether it is stored. It is an
// *ArchivedError if the id's time is older than the tenant's searchable_days.
func (s *Service) Entry(ctx context.Context, tenant audit.Tenant, scope access.Scope, id audit.EntryID) (Found, error) {
	entry, err := s.Reader.Entry(ctx, tenant.ID, id)
	now := s.Now()
	if err == nil && (!scope.Allows(&entry) || !tenant.Settings.IsVisible(&entry, now)) {
		err = audit.ErrNotFound
	}
	if errors.Is(err, audit.ErrNotFound) {
		return Found{}, notFound(&tenant.Settings, id, now)
	}
	if err != nil {
		return Found{}, err
	}
	found := Found{Entry: entry, Status: audit.StatusStored}
	// The entry comes from the system of record. If the index does not answer,
	// "stored" is certain.
	indexed, err := s.Index.Contains(ctx, tenant.ID, id)
	switch {
	case err != nil:
		s.logUnanswered(ctx, tenant.ID, err)
	case indexed:
		found.Status = audit.StatusIndexed
	}
	return found, nil
}

// notFound returns why an id is not found. It goes by the id's time alone, so it is the same whether an
// entry exists outside the scope, in the archive, or nowhere.
func notFound(s *audit.Settings, id audit.EntryID, now time.Time) error {
	at := id.Time()
	switch {
	case now.Sub(at) < recent:
		return &NotYetError{RetryAfter: time.Second}
	case at.Before(s.SearchableFrom(now)) && !at.Before(s.KeptFrom(now)):
		return &ArchivedError{SearchableDays: s.SearchableDays}
	}
	return audit.ErrNotFound
}

// NotYetError says that an entry is not stored but its id is of the last five
// minutes. It is an audit.ErrNotFound.
type NotYetError struct{ RetryAfter time.Duration }

func (e *NotYetError) Error() string { return "not stored yet" }

func (e *NotYetError) Unwrap() error { return audit.ErrNotFound }

// ArchivedError says that entries of an id's time are kept, but are older than the tenant's
// searchable_days. It does not say that there is one. It is an audit.ErrNotFound.
type ArchivedError struct{ SearchableDays int }

func (e *ArchivedError) Error() string { return "not searchable any more" }

func (e *ArchivedError) Unwrap() error { return audit.ErrNotFound }
