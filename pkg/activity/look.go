package activity

import "time"

// maxLookAge is how old settings and legal holds may be by which something is removed. It is shorter than the time after
// which a longer retention or a new hold is taken to be known everywhere.
const maxLookAge = 5 * time.Minute

// Look is when a worker read the settings and the legal holds by which it removes something. A worker can sleep between
// that and the removal.
type Look struct{ at time.Time }

// NewLook is a look at a time. It is compared by the wall clock: the other one can stand still while a process sleeps.
func NewLook(at time.Time) Look { return Look{at.Round(0)} }

// IsOld reports whether nothing may be removed by the look any more. The zero Look is old.
func (l Look) IsOld(now time.Time) bool { return now.Round(0).Sub(l.at).Abs() > maxLookAge }
