package audit

import (
	"slices"
	"time"
)

const oneDay = 24 * time.Hour

// RetentionRule sets how long entries of one action or of one severity are kept. Exactly
// one of the two is set.
type RetentionRule struct {
	Action   string    `json:"action,omitempty"`
	Severity *Severity `json:"severity,omitempty"`
	Days     int       `json:"days"` // after the timestamp; 0: for ever
}

// matches reports whether the entry meets the rule's condition.
func (r *RetentionRule) matches(e *Entry) bool {
	if r.Severity != nil {
		return e.Severity == *r.Severity
	}
	return e.Action == r.Action
}

// condition returns the field and the value that the rule is about.
func (r *RetentionRule) condition() (Field, string) {
	if r.Severity != nil {
		return FieldSeverity, r.Severity.String()
	}
	return FieldAction, r.Action
}

// ExpiryOf returns when the entry expires: by the first rule that matches it, or else by
// RetentionDays. The zero time means never. Rules do not apply to the service's own entries.
func (s *Settings) ExpiryOf(e *Entry) time.Time {
	days := s.RetentionDays
	if e.SubmittedBy != SubmittedByService {
		if i := slices.IndexFunc(s.RetentionRules, func(r RetentionRule) bool { return r.matches(e) }); i >= 0 {
			days = s.RetentionRules[i].Days
		}
	}
	if days == 0 {
		return time.Time{}
	}
	return e.Timestamp.Add(time.Duration(days) * oneDay)
}

// Retentions returns after how many days entries can expire. Some may be repeated.
func (s *Settings) Retentions() []int {
	all := []int{s.RetentionDays}
	for _, r := range s.RetentionRules {
		all = append(all, r.Days)
	}
	return slices.DeleteFunc(all, func(days int) bool { return days == 0 })
}

// LeaveDays returns after how many days entries can leave the stores; see LeavesStores. Some may be
// repeated.
func (s *Settings) LeaveDays() []int {
	all := s.Retentions()
	if s.Archive && s.SearchableDays > 0 {
		all = append(all, s.SearchableDays)
	}
	return all
}

// SameRetention reports whether entries leave the stores at the same times by both settings.
func (s *Settings) SameRetention(other *Settings) bool {
	return s.Archive == other.Archive && s.SearchableDays == other.SearchableDays && s.RetentionDays == other.RetentionDays && slices.EqualFunc(s.RetentionRules, other.RetentionRules, func(a, b RetentionRule) bool {
		aField, aValue := a.condition()
		bField, bValue := b.condition()
		return a.Days == b.Days && aField == bField && aValue == bValue
	})
}

// IsExpired reports whether the entry has reached its end by now.
func (s *Settings) IsExpired(e *Entry, now time.Time) bool {
	end := s.ExpiryOf(e)
	return !end.IsZero() && !now.Before(end)
}

// SearchableFrom returns the earliest timestamp that SearchableDays allows. The zero time
// means that there is no such bound.
func (s *Settings) SearchableFrom(now time.Time) time.Time {
	if s.SearchableDays == 0 {
		return time.Time{}
	}
	return sinceEpoch(now.Add(-time.Duration(s.SearchableDays)*oneDay + time.Millisecond - 1))
}

// IsSearchable reports whether the entry is not older than SearchableDays. A restored entry is searchable
// until its RestoredUntil instead.
func (s *Settings) IsSearchable(e *Entry, now time.Time) bool {
	if !e.RestoredUntil.IsZero() {
		return now.Before(e.RestoredUntil)
	}
	return !e.Timestamp.Before(s.SearchableFrom(now))
}

// LeavesStores reports whether the entry need not be in the system of record and the index any more: it has
// expired, it was restored and its time is over, or it is not searchable and the tenant has an archive, which
// keeps it.
func (s *Settings) LeavesStores(e *Entry, now time.Time) bool {
	return s.IsExpired(e, now) || e.RestoreEnded(now) || s.Archive && !s.IsSearchable(e, now)
}

// IsVisible reports whether reads return the entry: it is searchable and not expired.
func (s *Settings) IsVisible(e *Entry, now time.Time) bool {
	return s.IsSearchable(e, now) && !s.IsExpired(e, now)
}

// Visible returns the filter restricted to the entries that are visible at the time. One
// lower bound of the timestamp is enough unless rules differ.
func (s *Settings) Visible(f Filter, now time.Time) Filter {
	f.From = later(f.From, s.VisibleFrom(now))
	f.Unexpired = s.unexpired(now, f.From)
	return f
}

// VisibleFrom returns a bound: every entry with an earlier timestamp is expired or not
// searchable. The zero time means that there is no such bound.
func (s *Settings) VisibleFrom(now time.Time) time.Time {
	return later(s.KeptFrom(now), s.SearchableFrom(now))
}

// KeptFrom returns a bound: every entry with an earlier timestamp has expired. The zero time means that
// there is no such bound.
func (s *Settings) KeptFrom(now time.Time) time.Time { return keptFrom(now, s.LongestRetention()) }

// keptFrom returns the earliest timestamp of the entries that are kept for a number of
// days and have not expired. Timestamps have whole milliseconds. The zero time means
// that all are kept.
func keptFrom(now time.Time, days int) time.Time {
	if days == 0 {
		return time.Time{}
	}
	return sinceEpoch(now.Add(-time.Duration(days)*oneDay + time.Millisecond))
}

// sinceEpoch returns the bound in whole milliseconds. It returns the zero time for a bound
// before 1970, which excludes no entry.
func sinceEpoch(bound time.Time) time.Time {
	if bound.UnixMilli() <= 0 {
		return time.Time{}
	}
	return bound.UTC().Truncate(time.Millisecond)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// unexpired returns the condition of the entries since from that have not expired. It
// returns nil if that is every entry since from.
//
// An entry has not expired if RetentionDays or some rule keeps it, and if the first rule
// that matches it does not have it expire. In this form an index finds the few old entries
// that a rule keeps without reading those that have expired.
func (s *Settings) unexpired(now, from time.Time) Expr {
	var all And
	notOfService := Not{Equals{Field: FieldSubmittedBy, Values: []string{SubmittedByService}}}
	if kept := keptFrom(now, s.RetentionDays); kept.After(from) {
		all = append(all, Or{Time{From: kept}, And{s.keptByRules(now, from, kept), notOfService}})
	}
	if expired := s.expiredByRules(now, from); len(expired) > 0 {
		all = append(all, Not{And{expired, notOfService}})
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// keptByRules returns the condition of the entries in the time that match a rule which
// keeps them. That rule need not be the first one that matches.
func (s *Settings) keptByRules(now, from, to time.Time) (kept Or) {
	always := map[Field][]string{}
	for i := range s.RetentionRules {
		r := &s.RetentionRules[i]
		field, value := r.condition()
		switch since := keptFrom(now, r.Days); {
		case !since.After(from):
			always[field] = append(always[field], value)
		case since.Before(to):
			kept = append(kept, And{Equals{Field: field, Values: []string{value}}, Time{From: since}})
		}
	}
	for _, field := range []Field{FieldAction, FieldSeverity} {
		if len(always[field]) > 0 {
			kept = append(kept, Equals{Field: field, Values: always[field]})
		}
	}
	return kept
}

// expiredByRules returns the condition of the entries since from that have expired by the
// first rule that matches them.
func (s *Settings) expiredByRules(now, from time.Time) (expired Or) {
	earlier := map[Field][]string{}
	for i := range s.RetentionRules {
		r := &s.RetentionRules[i]
		field, value := r.condition()
		if until := keptFrom(now, r.Days); until.After(from) {
			condition := And{Equals{Field: field, Values: []string{value}}, Time{To: until}}
			// An earlier rule of the other field wins. One of the same field has another value.
			other := FieldAction
			if field == FieldAction {
				other = FieldSeverity
			}
			if len(earlier[other]) > 0 {
				condition = append(condition, Not{Equals{Field: other, Values: slices.Clone(earlier[other])}})
			}
			expired = append(expired, condition)
		}
		earlier[field] = append(earlier[field], value)
	}
	return expired
}
