package opensearchindex

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A shard has its entries in about the order of time. A search for the newest ones takes each entry
// that it comes to for a newer one, and so sorts nearly all that match. If many match, a page is
// therefore looked for in a window first, which ends with the tenant's newest entry.

// windowLimits say which pages are looked for in a window.
type windowLimits struct {
	// many is the number of entries that match from which on a window is worth its searches.
	many int64
	// entries is about how many of the tenant's entries a window has. If the page is not full then,
	// so few match that all of them can be sorted.
	entries int64
	// counted is the number up to which entries are counted while the newest is looked for.
	counted int64
}

func defaultWindowLimits() windowLimits {
	return windowLimits{many: 20_000, entries: 20_000, counted: 10_000}
}

// The newest entry is looked for in a time before the end. It grows by lookGrowth until there is one.
const (
	firstLook  = 10 * time.Minute
	lookGrowth = 8
	lastLook   = 365 * 24 * time.Hour
)

// starts returns the times since which the page is looked for, one after the other. The last one
// is that of the filter.
func (r *pageReader) starts(ctx context.Context) ([]time.Time, error) {
	all := []time.Time{r.filter.From}
	if !r.descending() {
		return all, nil
	}
	if many, err := r.many(ctx); err != nil || !many {
		return all, err
	}
	end := r.end()
	for length := firstLook; length <= lastLook; length *= lookGrowth {
		start := end.Add(-length)
		if !start.After(r.filter.From) {
			return all, nil
		}
		newest, n, err := r.newestSince(ctx, start)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			return append(r.window(start, newest, n), all...), nil
		}
	}
	return all, nil
}

// window returns the start of the window, if there is one. The tenant has n entries from a time to
// its newest entry, or more if n is all that were counted.
func (r *pageReader) window(from, newest time.Time, n int64) []time.Time {
	limits, length := r.index.windows, max(newest.Sub(from), time.Second)
	if n >= limits.counted {
		length /= lookGrowth
	} else if length = scale(length, limits.entries, n); length > lastLook {
		return nil
	}
	start := newest.Add(-length)
	if !start.After(r.filter.From) {
		return nil
	}
	return []time.Time{start}
}

// scale returns d · a / b, but not much more than lastLook.
func scale(d time.Duration, a, b int64) time.Duration {
	return time.Duration(min(float64(d)*float64(a)/float64(b), float64(2*lastLook)))
}

// end returns the time up to which there are entries for the page. Some can be a little later.
func (r *pageReader) end() time.Time {
	end := r.index.config.Now()
	if to := r.filter.To; !to.IsZero() && to.Before(end) {
		end = to
	}
	if r.from != nil && r.from.Time.Before(end) {
		end = r.from.Time
	}
	return end
}

// many reports whether many entries match. It counts all of the tenant's if a search takes long for
// the filter whatever it finds, and none if the tenant has indexes of its own then.
func (r *pageReader) many(ctx context.Context) (bool, error) {
	bounds, where := r.bounds(r.filter.From), audit.Normalize(r.filter.Where)
	if !takesLong(where) && !matchesAll(where) {
		bounds.Where = where
	} else if r.scope.within(r.end(), bounds.To).separate() {
		return true, nil
	}
	many := r.index.windows.many
	response, err := r.search(ctx, bounds, query{"size": 0, "track_total_hits": many, "terminate_after": many})
	return response.Hits.Total.Value >= many, err
}

// takesLong reports whether OpenSearch reads all entries of some conditions before the first entry
// that matches.
func takesLong(where audit.Expr) bool {
	for e := range audit.Conditions(where) {
		switch e := e.(type) {
		case audit.Equals, audit.HasToken, audit.Time:
		case audit.Text:
			if e.Prefix {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// newestSince returns the time of the newest entry, and the number of entries since a time. It
// counts up to a limit. The number is 0 if there is no entry.
func (r *pageReader) newestSince(ctx context.Context, start time.Time) (newest time.Time, n int64, err error) {
	// The conditions of the filter are left out. Some take long.
	response, err := r.search(ctx, r.bounds(start), query{
		"size": 1, "_source": false, "track_total_hits": r.index.windows.counted, "sort": []query{{fieldTimestamp: "desc"}},
	})
	if err != nil || len(response.Hits.Hits) == 0 {
		return time.Time{}, 0, err
	}
	var millis int64
	if err := json.Unmarshal(slices.Concat(response.Hits.Hits[0].Sort...), &millis); err != nil {
		return time.Time{}, 0, unexpectedResponse(err)
	}
	return time.UnixMilli(millis).UTC(), max(response.Hits.Total.Value, 1), nil
}

// bounds returns the filter for all entries from a time on, and up to the last one that was read.
func (r *pageReader) bounds(from time.Time) audit.Filter {
	to := r.filter.To
	if r.from != nil && (to.IsZero() || r.from.Time.Before(to)) {
		to = r.from.Time.Add(time.Millisecond)
	}
	return audit.Filter{From: from, To: to}
}
