package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"
)

// StatsRequest says which counts to return.
type StatsRequest struct {
	GroupBy  []Field       // at most MaxGroupBy
	Top      int           // groups returned; the largest first, equal ones by their values
	Interval time.Duration // of the histogram, whole seconds; zero: none
	// Zone is the time zone of the histogram's buckets; nil: UTC. See Buckets.
	Zone     *time.Location
	Distinct bool // count distinct users
}

// Limits of a StatsRequest.
const (
	MaxGroupBy  = 2
	DefaultTop  = 10
	MaxTop      = 1000
	MaxBuckets  = 10_000 // of a histogram
	MinInterval = time.Second
)

// Limits of what is counted for a StatsRequest. What passes one is a *ValidationError.
const (
	// MaxEntryGroups is the number of groups that one entry may count under. An entry
	// of the full size has fewer values at one path, so that only two arrays, whose
	// values are counted in pairs, pass it.
	MaxEntryGroups = 50_000
	// MaxGroups is the number of groups that an index may count one by one. An index
	// with a cheaper way to find the largest ones may take more.
	MaxGroups = 200_000
	// MaxGroupBytes is the size of the values of such groups together.
	MaxGroupBytes = 32 << 20
	// MaxExactUsers is the number of distinct users up to which every index counts them exactly.
	MaxExactUsers = 10_000
	// MaxGroupValue is the length of a value in a group, in bytes. See Shorten.
	MaxGroupValue = 1024
	// MaxStatsTime is how long statistics may be counted. An index returns ErrSlowStats as soon
	// as it foresees that they take longer.
	MaxStatsTime = 18 * time.Second
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

// Stats is the result of a StatsRequest. All counts are exact, but more than MaxExactUsers
// distinct users may be an estimate.
type Stats struct {
	Total         int64
	Groups        []Group
	Histogram     []Bucket // from the first to the last bucket with entries, with the empty ones between them
	DistinctUsers int64
}

// Group is the count of the entries with these values. An entry without a
// value counts under "". An entry with several (an array in the metadata)
// counts once under each. Values are shortened to MaxGroupValue.
type Group struct {
	Values []string // one for each of GroupBy
	Count  int64
}

// SortGroups sorts groups as answers have them, see CompareGroups.
func SortGroups(groups []Group) { slices.SortFunc(groups, CompareGroups) }

// CompareGroups returns a negative number if a comes before b in answers: larger groups come
// first, equal ones in the order of their values.
func CompareGroups(a, b Group) int {
	if a.Count != b.Count {
		return cmp.Compare(b.Count, a.Count)
	}
	return slices.Compare(a.Values, b.Values)
}

// Shorten returns text of at most limit bytes unchanged. It replaces longer text
// by its beginning, "…" and its SHA-256 in base64. The result is still longer than
// limit, so that it never equals unshortened text. limit must be at least 50.
func Shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	hash := base64.RawURLEncoding.EncodeToString(sum[:]) // 43 bytes
	// Cut takes at most 3 bytes more, which the ellipsis adds again.
	return Cut(text, limit+1-len(hash)) + "…" + hash
}

// IsShortened reports whether a value of a group was shortened.
func IsShortened(value string) bool { return len(value) > MaxGroupValue }

// ErrTooManyEntryGroups returns the error of an entry that passes MaxEntryGroups.
func ErrTooManyEntryGroups() error {
	return Invalid("?group_by", "too_many_pairs",
		"must not lead to more than %d pairs of values in one entry; group by one of the fields, or leave such entries out by a filter", MaxEntryGroups)
}

// ErrTooManyGroups returns the error of groups that cannot be counted exactly within the limits.
func ErrTooManyGroups() error {
	return Invalid("?group_by", "too_many_groups",
		"must lead to fewer different values: up to %d, of %d MiB together, are always counted; narrow from and to, add a filter, or group by one field",
		MaxGroups, MaxGroupBytes>>20)
}

// ErrTooManyEntries returns the error of a count over more entries than can be
// counted in a request's time.
func ErrTooManyEntries(format string, args ...any) error {
	return Invalid("?from", "too_many_entries", "must leave fewer entries: "+format+"; narrow from and to, or add a filter", args...)
}

// ErrSlowStats returns the error of statistics that take longer than MaxStatsTime.
func ErrSlowStats() error {
	return ErrTooManyEntries("they cannot be counted within %d seconds", int(MaxStatsTime.Seconds()))
}

// Bucket is the count of the entries from Start to before the start of the next one. See Buckets.
type Bucket struct {
	Start time.Time // in the zone of the request
	Count int64
}
