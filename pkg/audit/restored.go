package audit

import (
	"fmt"
	"slices"
	"time"
)

// MaxRestored is how many restores a tenant's record has at most.
const MaxRestored = 100

// ErrTooManyRestored says that the tenant has MaxRestored restores whose time is not over. It is an ErrConflict.
var ErrTooManyRestored = fmt.Errorf("the tenant has %d restores whose time is not over: %w", MaxRestored, ErrConflict)

// Restored says that entries of a time were brought back from the archive. Times have whole milliseconds.
type Restored struct {
	From  time.Time `json:"from"`  // of the timestamps; inclusive
	To    time.Time `json:"to"`    // exclusive
	Until time.Time `json:"until"` // the RestoredUntil of the entries
}

// overlaps reports whether the restore has times with from ≤ time < to.
func (r *Restored) overlaps(from, to time.Time) bool { return r.From.Before(to) && from.Before(r.To) }

// RestoreEnded reports whether the entry was restored and is to leave again.
func (e *Entry) RestoreEnded(now time.Time) bool {
	return !e.RestoredUntil.IsZero() && !now.Before(e.RestoredUntil)
}

// AddRestored adds a restore to the record, unless the record has it. If there is no room, it merges others that have
// ended. It forgets none: a legal hold can keep what it brought back for years. It reports whether the record was
// changed. It returns ErrTooManyRestored if there is still no room.
func (t *Tenant) AddRestored(r Restored, now time.Time) (bool, error) {
	if slices.ContainsFunc(t.Restored, func(o Restored) bool {
		return o.From.Equal(r.From) && o.To.Equal(r.To) && o.Until.Equal(r.Until)
	}) {
		return false, nil
	}
	left := slices.Clone(t.Restored)
	if len(left) >= MaxRestored {
		left = mergeEnded(left, now)
	}
	if len(left) >= MaxRestored {
		return false, ErrTooManyRestored
	}
	t.Restored = append(left, r)
	return true, nil
}

// mergeEnded merges restores that have ended, the closest first, until there is room for one more. They only tell
// in which times retention has to look for what they brought back: more of it does no harm.
func mergeEnded(all []Restored, now time.Time) []Restored {
	isEnded := func(r Restored) bool { return now.After(r.Until.Add(MaxClockError)) }
	var ended []Restored
	for _, r := range all {
		if isEnded(r) {
			ended = append(ended, r)
		}
	}
	all = slices.DeleteFunc(all, isEnded)
	slices.SortFunc(ended, func(a, b Restored) int { return a.From.Compare(b.From) })
	for len(ended) > 1 && len(ended)+len(all) >= MaxRestored {
		closest := 0
		for i := 1; i+1 < len(ended); i++ {
			if ended[i+1].From.Sub(ended[i].To) < ended[closest+1].From.Sub(ended[closest].To) {
				closest = i
			}
		}
		a, b := ended[closest], ended[closest+1]
		a.To, a.Until = later(a.To, b.To), later(a.Until, b.Until)
		ended = slices.Replace(ended, closest, closest+2, a)
	}
	return append(ended, all...)
}

// HasRestored reports whether the stores can have restored entries with from ≤ timestamp < to.
func (t *Tenant) HasRestored(from, to time.Time) bool {
	return slices.ContainsFunc(t.Restored, func(r Restored) bool { return r.overlaps(from, to) })
}

// NextRestoredEnd returns when the next restored entries with from ≤ timestamp < to leave; zero: there are
// none that have not ended.
func (t *Tenant) NextRestoredEnd(from, to, now time.Time) (next time.Time) {
	for i := range t.Restored {
		r := &t.Restored[i]
		if r.overlaps(from, to) && r.Until.After(now) && (next.IsZero() || r.Until.Before(next)) {
			next = r.Until
		}
	}
	return next
}

// Visible returns the filter restricted to the entries that are visible at the time: those that
// Settings.Visible selects, and those that were restored.
func (t *Tenant) Visible(f Filter, now time.Time) Filter {
	since := t.Settings.SearchableFrom(now)
	restored := t.restoredBefore(since, f, now)
	if len(restored) == 0 {
		return t.Settings.Visible(f, now)
	}
	kept := t.Settings
	kept.SearchableDays = 0
	from, searchable := since, Or{Time{From: since}}
	for _, r := range restored {
		searchable = append(searchable, Time{From: r.From, To: r.To})
		if r.From.Before(from) {
			from = r.From
		}
	}
	f.From = later(f.From, from)
	f = kept.Visible(f, now)
	if f.Unexpired == nil {
		f.Unexpired = searchable
	} else {
		f.Unexpired = And{searchable, f.Unexpired}
	}
	return f
}

// restoredBefore returns the restores in force with times before since that the filter can select.
func (t *Tenant) restoredBefore(since time.Time, f Filter, now time.Time) (restored []Restored) {
	for _, r := range t.Restored {
		hasTime := r.From.Before(since) && r.To.After(f.From) && (f.To.IsZero() || r.From.Before(f.To))
		if hasTime && r.Until.After(now) {
			restored = append(restored, r)
		}
	}
	return restored
}

// VisibleFrom returns a bound as Settings.VisibleFrom does. Restored entries are not before it.
func (t *Tenant) VisibleFrom(now time.Time) time.Time {
	kept := t.Settings
	kept.SearchableDays = 0
	from := t.Settings.SearchableFrom(now)
	for _, r := range t.restoredBefore(from, Filter{}, now) {
		if r.From.Before(from) {
			from = r.From
		}
	}
	return later(kept.VisibleFrom(now), from)
}
