package audit

import (
	"slices"
	"time"
)

// Order is the direction of a list by (timestamp, then an order among equal
// timestamps that the store chooses and keeps).
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
	// MaxPageBytes is where a page ends early: a Lambda's answer is at most 6 MB.
	MaxPageBytes = 4 << 20
)

// Position is the place of one entry in a tenant's list. Tie tells entries of
// the same millisecond apart; only the store that made it can read it.
type Position struct {
	Time time.Time
	Tie  string
}

// PageRequest asks for one page of a list.
type PageRequest struct {
	Order Order
	Limit int // entries, from 1 to MaxPageLimit
	// MaxBytes ends the page before the stored size of its entries passes it;
	// a page always has at least one entry if there is one. Zero: no such end.
	MaxBytes int
	// From is the entry beside which the page lies, itself not part of it; nil: the list's beginning.
	From *Position
	// Backwards asks for the entries just before From instead of just after
	// it. The entries of the page stand in Order all the same.
	Backwards bool
}

// Page is one page of a list.
type Page struct {
	Entries []Entry
	// First and Last are the positions of the outermost entries, nil where the page is empty.
	First, Last *Position
	// More says that entries follow in the direction the page was asked for.
	More bool
}

// StatsRequest asks for counts.
type StatsRequest struct {
	GroupBy  []Field       // at most MaxGroupBy
	Top      int           // groups returned, the largest first; ties by their values
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

// Validate returns the first fault as a *ValidationError. It is for indexes: what a
// client sent is checked where its parameters are read.
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

// Stats answers a StatsRequest. Total is exact.
type Stats struct {
	Total         int64
	Groups        []Group
	Histogram     []Bucket // from the first to the last bucket with entries, empty ones between them included
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
