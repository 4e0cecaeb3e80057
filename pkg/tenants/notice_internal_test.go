package tenants

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A process that uses an old record must know a placement before it begins.
func TestPlacementNoticeCoversStaleRecords(t *testing.T) {
	if got, want := audit.MinPlacementNotice, maxStale+audit.MaxClockError; got < want {
		t.Errorf("a placement begins %s ahead, want at least %s", got, want)
	}
}
