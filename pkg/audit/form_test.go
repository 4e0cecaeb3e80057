package audit_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// formSamples are texts at and around the edges of the two patterns.
func formSamples() []string {
	samples := []string{"", "a-", "-a", "a--b", "a.b", "AssumeRole", "user.login", "a:b/c_d-e", "a b", "é", "a\n", "a\x00"}
	for _, unit := range []string{"a", "A", "7"} {
		for _, n := range []int{1, 2, 62, 63, 64, 127, 128, 129} {
			samples = append(samples, strings.Repeat(unit, n), "a"+strings.Repeat("-", n)+"a")
		}
	}
	for b := range 256 {
		samples = append(samples, string([]byte{byte(b)}), string([]byte{'a', byte(b)}), string([]byte{'a', byte(b), 'a'}))
	}
	return samples
}

func TestFormsAreThoseOfThePatterns(t *testing.T) {
	action, tenant := regexp.MustCompile(audit.ActionPattern), regexp.MustCompile(audit.TenantIDPattern)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, text := range formSamples() {
		entry := audit.Entry{UserID: "u", ResourceType: "t", Action: text, Timestamp: at}
		if got, want := entry.Validate(at) == nil, action.MatchString(text); got != want {
			t.Errorf("action %q: got good %t, want %t by the pattern", text, got, want)
		}
		if _, err := audit.ParseTenantID(text); (err == nil) != tenant.MatchString(text) {
			t.Errorf("tenant id %q: got error %v, want good %t by the pattern", text, err, tenant.MatchString(text))
		}
	}
}
