package quota

import "time"

// bucket is the quota of one process. The zero bucket is full.
type bucket struct {
	missing float64 // entries, as of at
	at      time.Time
}

// left returns how many entries are left. It may be below 0.
func (b *bucket) left(now time.Time, l Limit) float64 {
	b.missing = max(0, b.missing-elapsed(now, b.at).Seconds()*float64(l.Rate))
	b.at = now
	return float64(l.Burst) - b.missing
}

// take takes n entries if at least one is left, and reports whether it was. A request may
// overdraw the quota, so that one with more entries than the burst is accepted at some time.
func (b *bucket) take(now time.Time, l Limit, n int64) bool {
	if b.left(now, l) < 1 {
		return false
	}
	b.missing += float64(n)
	return true
}

// give gives back entries of take.
func (b *bucket) give(n int64) { b.missing = max(0, b.missing-float64(n)) }

// wait returns how long it takes until an entry is left.
func (b *bucket) wait(now time.Time, l Limit) time.Duration {
	return l.time(1 - b.left(now, l))
}

// time returns how long it takes until a number of entries is refilled.
func (l Limit) time(entries float64) time.Duration {
	return time.Duration(max(0, entries) / float64(l.Rate) * float64(time.Second))
}

// refill returns how long it takes until the quota is full, of which so many entries are left.
func (l Limit) refill(left float64) time.Duration { return l.time(float64(l.Burst) - left) }

// elapsed returns the time since then. The wall clock may be set back, and the monotonic clock
// of a frozen Lambda may stand still, so it takes the one that says more.
func elapsed(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)), 0)
}
