package audit

import (
	"slices"
	"time"
)

// Order is the direction of a list by timestamp. The store chooses a stable order
// among entries with equal timestamps.
type Order uint8

// The orders.
const (
	NewestFirst Order = iota
	OldestFirst
)

// Limits of a page.
const (
	DefaultPageLimit = 50
	MaxPageLimit     = 1000
	// MaxPageBytes is the size at which a page ends early. A Lambda's response has at
	// most 6 MB.
	MaxPageBytes = 4 << 20
)

// Position is the place of one entry in a tenant's list. Tie distinguishes entries of
// the same millisecond. Only the store that created it can read it.
type Position struct {
	Time time.Time
	Tie  string
}

// PageRequest asks for one page of a list.
type PageRequest struct {
	Order Order
	Limit int // entries, from 1 to MaxPageLimit
	// MaxBytes is the largest stored size of the page's entries; zero: no limit. The
	// first entry is returned even if it is larger.
	MaxBytes int
	// From is the entry next to the page and not part of it; nil: the list's beginning.
	From *Position
	// Backwards requests the entries before From instead of those after it. The
	// entries of the page are in Order in both cases.
	Backwards bool
}

// Page is one page of a list.
type Page struct {
	Entries []Entry
	// First and Last are the positions of the first and last entry; nil if the page is empty.
	First, Last *Position
	// More reports whether more entries follow in the requested direction.
	More bool
}

// StatsRequest says which counts to return.
type StatsRequest struct {
	GroupBy  []Field       // at most MaxGroupBy
	Top      int           // groups returned; the largest first, equal ones by their values
	Interval time.Duration // of the histogram, whole seconds; zero: none
	Distinct bool          // count distinct users
}

// Limits of a StatsRequest.
const (
	MaxGroupBy  = 2
	DefaultTop  = 10
	MaxTop      = 1000
	MaxBuckets  = 10_000 // of a histogram
	MinInterval = time.Second
)

// Validate returns the first fault as a *ValidationError. Indexes call it. The HTTP
// API checks a client's parameters itself.
func (r *StatsRequest) Validate() error {
	if len(r.GroupBy) > MaxGroupBy {
		return Invalid("?group_by", "too_many", "must name at most %d fields", MaxGroupBy)
	}
	for _, field := range r.GroupBy {
		_, ofMetadata := field.MetadataPath()
		if !ofMetadata && !slices.Contains(FilterFields(), field) {
			return Invalid("?group_by", "invalid_choice", "must name fields of an entry")
		}
	}
	if r.Top > MaxTop {
		return Invalid("?top", "out_of_range", "must be at most %d", MaxTop)
	}
	if r.Interval != 0 && (r.Interval < MinInterval || r.Interval%time.Second != 0) {
		return Invalid("?interval", "out_of_range", "must be whole seconds, one at least")
	}
	return nil
}

// Stats is the result of a StatsRequest. Total is exact.
type Stats struct {
	Total         int64
	Groups        []Group
	Histogram     []Bucket // from the first to the last bucket with entries, with the empty ones between them
	DistinctUsers int64
}

// Group is the count of the entries with these values. An entry without a
// value counts under "". An entry with several (an array in the metadata)
// counts once under each.
type Group struct {
	Values []string // one for each of GroupBy
	Count  int64
}

// Bucket is the count of the entries with Start ≤ timestamp < Start + Interval.
// Starts are whole multiples of the interval since 1970-01-01T00:00:00Z.
type Bucket struct {
	Start time.Time
	Count int64
}
