package search

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// ActiveDay is a day, in UTC, of the timestamps of a tenant's entries. The register of active
// days has it from its first entry on.
type ActiveDay struct {
	Tenant audit.TenantID
	Day    time.Time // its beginning
	// Touches counts how often the day was touched. It shows whether entries have come
	// between the reading of the record and its change.
	Touches int64
	// Checks counts the comparisons since the last touch that found nothing missing.
	Checks int
}

// Activity is the register of active days. Nothing scheduled has to ask every tenant: it
// reads here what there is to do.
type Activity interface {
	// Touch registers days to which entries are about to be added. A day that has been
	// checked is due at the given time again, and so is a new one. A day that is due keeps
	// its time, so that a busy day is checked too.
	Touch(ctx context.Context, tenant audit.TenantID, days []time.Time, due time.Time) error
	// DueDays returns up to limit days that are due at a time, those that wait longest first.
	DueDays(ctx context.Context, at time.Time, limit int) ([]ActiveDay, error)
	// DueAt returns when a day is due; zero: not before it is touched, or it is not registered.
	DueAt(ctx context.Context, tenant audit.TenantID, day time.Time) (time.Time, error)
	// Check notes that a day was compared, unless it was touched since it was read. It
	// stores day.Checks and when the day is due again. A zero time means: not before it
	// is touched.
	Check(ctx context.Context, day ActiveDay, due time.Time) error
}
