package search_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

func TestCandidatesMatchAsAnIndexFinds(t *testing.T) {
	conformance.Matcher(t, func(e audit.Entry, f audit.Filter) bool { return search.NewCandidate(e).Matches(f) })
}

func TestParseFilter(t *testing.T) {
	f, err := search.ParseFilter(url.Values{"action": {"A", "B"}, "q": {"severity>=ERROR paid"}, "metadata.a": {"1"}, "from": {"2026-01-01"}})
	if err != nil {
		t.Fatal(err)
	}
	if f.Where == nil {
		t.Fatal("the filter has no condition, want one")
	}
	if f.From.IsZero() {
		t.Fatal("the filter has no beginning, want one")
	}
	e := audit.Entry{Action: "B", Severity: audit.SeverityCritical, Message: "Order was PAID", Metadata: audit.Object(`{"a":1}`), Timestamp: f.From}
	if !search.NewCandidate(e).Matches(f) {
		t.Errorf("%+v is not chosen, want it chosen", e)
	}
	if e.Severity = audit.SeverityInfo; search.NewCandidate(e).Matches(f) {
		t.Errorf("an entry of severity %s is chosen, want only %s", e.Severity, audit.SeverityCritical)
	}
	for _, faulty := range []url.Values{{"limit": {"3"}}, {"sort": {"timestamp"}}, {"cursor": {"x"}}, {"color": {"red"}}, {"q": {`"`}}, {"from": {"now"}}, {"from": {"2026-01-31T9:30:00Z"}}, {"q": {`timestamp>"2026-01-31T09:30:00,5Z"`}}} {
		var invalid *audit.ValidationError
		if _, err := search.ParseFilter(faulty); !errors.As(err, &invalid) {
			t.Errorf("%v: got error %v, want a %T", faulty, err, invalid)
		}
	}
}
