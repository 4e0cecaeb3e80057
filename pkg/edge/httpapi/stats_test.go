package httpapi_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// countedIndex counts whatever it is asked for as the same groups.
type countedIndex struct {
	search.Index
	groups []audit.Group
}

func (x countedIndex) Stats(context.Context, audit.TenantID, audit.Filter, audit.StatsRequest) (audit.Stats, error) {
	return audit.Stats{Total: 1, Groups: x.groups}, nil
}

// TestStatsAnswersAreBounded: long values are shortened, and an answer that is still too
// large says how to get a smaller one.
func TestStatsAnswersAreBounded(t *testing.T) {
	w := newWorld(t)
	groups := func(n int, text string) []audit.Group {
		value := audit.Shorten(strings.Repeat(text, 2*audit.MaxGroupValue), audit.MaxGroupValue)
		groups := make([]audit.Group, n)
		for i := range groups {
			groups[i] = audit.Group{Values: []string{value, value}, Count: 1}
		}
		return groups
	}
	const path = "/logs/stats?group_by=metadata.a,metadata.b&top=1000"
	w.search.Index = countedIndex{groups: groups(audit.MaxTop, "x")}
	body := w.call("auditor", "GET", path, "", nil).want(t, 200, "").body
	if len(body) > audit.MaxPageBytes {
		t.Errorf("got an answer of %d bytes, want at most %d", len(body), audit.MaxPageBytes)
	}
	if n := strings.Count(body, `"count":1,"shortened":true}`); n != audit.MaxTop {
		t.Errorf("got %d groups that are marked as shortened, want %d", n, audit.MaxTop)
	}
	w.search.Index = countedIndex{groups: groups(audit.MaxTop, "\x01")}
	refused := w.call("auditor", "GET", path, "", nil).want(t, 422, "invalid").body
	if !strings.Contains(refused, `"pointer":"?top"`) {
		t.Errorf("got %s, want a fault of ?top", refused)
	}
}
