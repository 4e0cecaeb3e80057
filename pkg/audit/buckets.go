package audit

import (
	"math"
	"time"
)

// Buckets divides time into the buckets of a histogram, by the clock of a time zone. A bucket
// ends when the clock first shows a whole multiple of the interval since 1970-01-01T00:00:00. Buckets
// of whole weeks begin on Mondays (ISO 8601): they count from 1969-12-29.
// So a day has 23, 24 or 25 hours, and a day that a zone left out has no bucket. When the clock
// is set back by at least the interval, the buckets of that time come twice. All times are Unix
// milliseconds. It is not safe for concurrent use.
type Buckets struct {
	interval int64
	shift    int64          // from the beginning of a bucket to 1970
	zone     *time.Location // nil: UTC
	last     period         // the last one that was used
}

const (
	week = 7 * 24 * time.Hour
	// sinceMonday is the time from a Monday to 1970-01-01, which was a Thursday.
	sinceMonday = 3 * 24 * time.Hour
)

// NewBuckets returns the buckets of a histogram. The interval is positive and consists of whole
// seconds. A nil zone is UTC.
func NewBuckets(interval time.Duration, zone *time.Location) *Buckets {
	b := &Buckets{interval: interval.Milliseconds(), zone: zone}
	if interval%week == 0 {
		b.shift = sinceMonday.Milliseconds()
	}
	if zone == nil || zone == time.UTC {
		b.zone, b.last = nil, period{Period: Period{Start: math.MinInt64, End: math.MaxInt64, Offset: b.shift}, reached: math.MinInt64}
	}
	return b
}

// Period is a time in which a zone has one offset: Start ≤ t < End. Buckets begin where t + Offset is a
// multiple of the interval.
type Period struct{ Start, End, Offset int64 }

// period is a Period with the number of the last bucket that its clock had reached before it.
type period struct {
	Period
	reached int64
}

// number returns the number of the bucket that a clock shows.
func (b *Buckets) number(t, offset int64) int64 {
	n := (t + offset) / b.interval
	if (t+offset)%b.interval < 0 {
		n--
	}
	return n
}

func (b *Buckets) periodOf(t int64) Period {
	at := time.UnixMilli(t).In(b.zone)
	_, seconds := at.Zone()
	start, end := at.ZoneBounds()
	p := Period{Start: math.MinInt64, End: math.MaxInt64, Offset: int64(seconds)*1000 + b.shift}
	if !start.IsZero() {
		p.Start = start.UnixMilli()
	}
	if !end.IsZero() {
		p.End = end.UnixMilli()
	}
	return p
}

// use returns the period of a time.
func (b *Buckets) use(t int64) *period {
	if b.zone == nil || b.last.Start <= t && t < b.last.End {
		return &b.last
	}
	b.last = period{b.periodOf(t), math.MinInt64}
	if b.last.Start > math.MinInt64 {
		if before := b.periodOf(b.last.Start - 1); before.Offset-b.last.Offset < b.interval {
			b.last.reached = b.number(b.last.Start-1, before.Offset)
		}
	}
	return &b.last
}

// Of returns the bucket of a time: start ≤ t < end.
func (b *Buckets) Of(t int64) (start, end int64) {
	return b.startOf(t), b.endOf(t)
}

func (b *Buckets) startOf(t int64) int64 {
	p := b.use(t)
	n := b.number(t, p.Offset)
	for n <= p.reached { // the bucket began in an earlier period
		t = p.Start - 1
		p = b.use(t)
		n = b.number(t, p.Offset)
	}
	return max(n*b.interval-p.Offset, p.Start)
}

func (b *Buckets) endOf(t int64) int64 {
	for {
		p := b.use(t)
		next := max(b.number(t, p.Offset), p.reached) + 1
		if end := next*b.interval - p.Offset; end < p.End {
			return end
		}
		t = p.End
		if p = b.use(t); b.number(t, p.Offset) > p.reached {
			return t
		}
	}
}

// Periods returns the periods of the zone that have a time from ≤ t ≤ to. The first one has no
// start and the last one no end.
func (b *Buckets) Periods(from, to int64) []Period {
	if b.zone == nil {
		return []Period{b.last.Period}
	}
	var periods []Period
	for t := from; ; {
		p := b.periodOf(t)
		if n := len(periods); n > 0 && periods[n-1].Offset == p.Offset {
			periods[n-1].End = p.End
		} else {
			periods = append(periods, p)
		}
		if t = p.End; t > to {
			break
		}
	}
	periods[0].Start, periods[len(periods)-1].End = math.MinInt64, math.MaxInt64
	return periods
}

// maxChanges is more than the buckets by which changes of a clock make a histogram longer.
const maxChanges = 1000

// Exceed reports whether the buckets of two times and those between them are certainly too many
// for a histogram. It is cheap, unlike Fill.
func (b *Buckets) Exceed(from, to int64) bool {
	return (to-from)/b.interval >= MaxBuckets+maxChanges
}

// Fill returns the buckets from the first to the last one of those with counts, by their starts.
// More than MaxBuckets are a *ValidationError.
func (b *Buckets) Fill(counts map[int64]int64) ([]Bucket, error) {
	if len(counts) == 0 {
		return nil, nil
	}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for start := range counts {
		first, last = min(first, start), max(last, start)
	}
	var histogram []Bucket
	for start := first; start <= last; start = b.endOf(start) {
		if len(histogram) == MaxBuckets {
			return nil, ErrTooManyBuckets()
		}
		histogram = append(histogram, Bucket{Start: b.timeOf(start), Count: counts[start]})
	}
	return histogram, nil
}

func (b *Buckets) timeOf(t int64) time.Time {
	if b.zone == nil {
		return time.UnixMilli(t).UTC()
	}
	return time.UnixMilli(t).In(b.zone)
}

// ErrTooManyBuckets returns the error of a histogram with more than MaxBuckets.
func ErrTooManyBuckets() error {
	return Invalid("?interval", "too_small", "must divide the range of the entries into at most %d buckets", MaxBuckets)
}
