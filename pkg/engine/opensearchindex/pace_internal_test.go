package opensearchindex

import (
	"errors"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TestSlowGroupsAreRefusedAtOnce: what took too long, or would have, is refused before it begins,
// for the same fields and as many entries, until the pace is old.
func TestSlowGroupsAreRefusedAtOnce(t *testing.T) {
	trace, other := paceKeyOf([]audit.Field{"metadata.trace"}), paceKeyOf([]audit.Field{audit.FieldUserID, "metadata.x"})
	at := time.Now()
	p := newPaces()
	p.learn(trace, 10_000_000, audit.MaxStatsTime, true, at) // it was ended
	p.learn(other, 1_000_000, time.Second, false, at)
	p.learn(other, minPaced-1, time.Hour, false, at) // too few to tell
	for _, c := range []struct {
		name    string
		key     paceKey
		entries int64
		after   time.Duration
		refused bool
	}{
		{"more than was too much", trace, 10_000_001, 0, true},
		{"another path of the metadata", paceKeyOf([]audit.Field{"metadata.b"}), 20_000_000, 0, true},
		{"less", trace, 9_000_000, 0, false},
		{"what nobody has counted", paceKeyOf([]audit.Field{audit.FieldAction}), 1 << 40, 0, false},
		{"as long as it may take", other, 18_000_000, 0, false},
		{"longer than it may take", other, 19_000_000, 0, true},
		{"after a while", trace, 20_000_000, paceTTL, false},
	} {
		err := p.check(c.key, c.entries, at.Add(c.after))
		var invalid *audit.ValidationError
		if got := errors.As(err, &invalid); got != c.refused {
			t.Errorf("%s: got error %v, want a refusal: %t", c.name, err, c.refused)
		}
	}
	p.learn(trace, 10_000_000, time.Second, true, at) // it was ended early, and says nothing
	if err := p.check(trace, 20_000_000, at); err == nil {
		t.Error("got no error after a count that was ended early, want a refusal")
	}
	p.learn(trace, 10_000_000, time.Second, false, at)
	if err := p.check(trace, 20_000_000, at); err != nil {
		t.Errorf("got error %v after a fast count, want none", err)
	}
}
