package opensearchindex

import (
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestRefusalsEnd: statistics are refused for a time, and only the same ones. Bounds that follow
// the present time make no difference.
func TestRefusalsEnd(t *testing.T) {
	at := time.Now().Truncate(time.Minute)
	request := audit.StatsRequest{GroupBy: []audit.Field{"metadata.trace"}, Top: 10}
	keyOf := func(tenant audit.TenantID, filter audit.Filter, request audit.StatsRequest) refusalKey {
		t.Helper()
		key, err := refusalKeyOf(tenant, filter, request)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rule := func(at time.Time) audit.Filter {
		return audit.Filter{From: at.AddDate(-1, 0, 0), Unexpired: audit.Time{From: at}}
	}
	r := newRefusals()
	r.add(keyOf("acme", rule(at), request), at)
	changed := func(change func(r *audit.StatsRequest)) audit.StatsRequest {
		other := request
		change(&other)
		return other
	}
	berlin := time.FixedZone("Berlin", 3600)
	for _, c := range []struct {
		name string
		key  refusalKey
		at   time.Time
		want bool
	}{
		{"the same", keyOf("acme", rule(at), request), at, true},
		{"the same a second later", keyOf("acme", rule(at.Add(time.Second)), request), at.Add(time.Second), true},
		{"after a while", keyOf("acme", rule(at), request), at.Add(refusedTTL), false},
		{"another path", keyOf("acme", rule(at), changed(func(r *audit.StatsRequest) { r.GroupBy = []audit.Field{"metadata.region"} })), at, false},
		{"more groups", keyOf("acme", rule(at), changed(func(r *audit.StatsRequest) { r.Top++ })), at, false},
		{"a histogram", keyOf("acme", rule(at), changed(func(r *audit.StatsRequest) { r.Interval = time.Hour })), at, false},
		{"a time zone", keyOf("acme", rule(at), changed(func(r *audit.StatsRequest) { r.Zone = berlin })), at, false},
		{"users", keyOf("acme", rule(at), changed(func(r *audit.StatsRequest) { r.Distinct = true })), at, false},
		{"a narrower filter", keyOf("acme", audit.Filter{From: at}, request), at, false},
		{"another tenant", keyOf("globex", rule(at), request), at, false},
	} {
		if got := r.has(c.key, c.at); got != c.want {
			t.Errorf("%s: refused is %t, want %t", c.name, got, c.want)
		}
	}
}
