package httpapi

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quota"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// memberMatch has the encrypted values that entries are to be found by.
const memberMatch = "match_encrypted"

// searchMembers are the members of a search that are no parameters of a list.
var searchMembers = []string{paramReveal, paramReason, memberMatch}

// matchLimits bound how many values a credential can try out. Each process counts on its own.
var matchLimits = quota.Limits{Credential: quota.Limit{Rate: 1, Burst: 60}}

// matchesIn reads the values, and takes them out of the body, which collects their faults.
func (req *request) matchesIn(body *document) ([]protect.Match, error) {
	values := body.object(memberMatch)
	if values == nil {
		return nil, nil
	}
	if !req.principal.Has(req.tenant.ID, access.LogsMatchEncrypted) {
		return nil, &access.DeniedError{Tenant: req.tenant.ID, Permission: access.LogsMatchEncrypted}
	}
	if n := len(values.members); n == 0 || n > protect.MaxMatches {
		body.fault(memberMatch, "out_of_range", "must have 1 to "+strconv.Itoa(protect.MaxMatches)+" paths")
		return nil, nil
	}
	for path := range values.members {
		if len(path) > entryjson.MaxLeafPath { // as no path of a search may be; it would be recorded
			body.fault(memberMatch, "too_long", "must have paths of at most "+strconv.Itoa(entryjson.MaxLeafPath)+" bytes")
			return nil, nil
		}
	}
	rules := protect.NewRules(req.tenant.Settings.SensitiveFields)
	var matches []protect.Match
	for _, path := range slices.Sorted(maps.Keys(values.members)) {
		match, ok := matchOf(path, values.members[path])
		switch {
		case !rules.IsSearchable(path):
			values.fault(path, "not_searchable", "is not at a path of sensitive_fields that is searchable")
		case !ok:
			values.fault(path, "wrong_type", "must be a string, a number, true or false: one value of the path")
		case len(match.Value) > search.MaxFilterValueBytes:
			values.fault(path, "too_long", "must be at most "+strconv.Itoa(search.MaxFilterValueBytes)+" bytes")
		}
		matches = append(matches, match)
	}
	return matches, nil
}

// matchOf reads a scalar.
func matchOf(path string, value jsontext.Value) (protect.Match, bool) {
	m := protect.Match{Path: path, Value: string(value)}
	switch value.Kind() {
	case jsontext.KindString:
		m.Kind, m.Value = protect.ValueString, unquoted(value)
	case jsontext.KindNumber:
		m.Kind = protect.ValueNumber
	case jsontext.KindTrue, jsontext.KindFalse:
		m.Kind = protect.ValueBoolean
	default:
		return m, false
	}
	return m, true
}

// matching finds entries by encrypted values.
type matching struct {
	*protect.Matcher

	limiter *quota.Limiter
}

// take counts a request for the caller's limit.
func (m *matching) take(req *request) error {
	_, err := m.limiter.Take(req.Context(), &req.tenant, req.principal.SubmittedBy(), 1)
	var exceeded *quota.ExceededError
	if errors.As(err, &exceeded) {
		return ProblemTooMany.problem("This credential searched by encrypted values too often. It may once a second, and "+
			strconv.FormatInt(matchLimits.Credential.Burst, 10)+" times at once after a pause.").with("Retry-After", retrySeconds(exceeded.RetryAfter))
	}
	return err
}

// find returns a page of the entries that have the values. It is recorded then.
func (m *matching) find(req *request, s *search.Service, members map[string]jsontext.Value, matches []protect.Match) (search.List, error) {
	if len(matches) == 0 {
		return s.FindBy(req.Context(), req.tenant, req.scope, members, search.Match{}, searchMembers...)
	}
	if err := m.take(req); err != nil {
		return search.List{}, err
	}
	tokens, err := m.Tokens(req.Context(), req.tenant.ID, matches)
	if err != nil {
		return search.List{}, err
	}
	unerased := func(ctx context.Context, entries []audit.Entry) ([]audit.Entry, error) {
		return m.Unerased(ctx, req.tenant.ID, tokens, entries)
	}
	list, err := s.FindBy(req.Context(), req.tenant, req.scope, members, search.Match{Tokens: tokens, Keep: unerased}, searchMembers...)
	if err != nil {
		return list, err
	}
	return list, m.Record(req.Context(), req.tenant, req.principal.Subject, matches, list.Entries)
}
