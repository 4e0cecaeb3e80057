package sqlite_test

import (
	"strings"
	"testing"
)

// TestPagesOfExpressionsAreFoundBeforeTheirFirstRow: the driver ends a query with its context only
// until the first row, so the work that can take long must come before it.
func TestPagesOfExpressionsAreFoundBeforeTheirFirstRow(t *testing.T) {
	plans, err := open(t).MatchPlans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, plan := range plans {
		if want := "MATERIALIZE found"; !strings.HasPrefix(plan, want) {
			t.Errorf("the plan is\n%s\nwant it to begin with %s", plan, want)
		}
	}
}
