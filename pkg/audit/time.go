package audit

import (
	"errors"
	"strings"
	"time"
)

var errTime = errors.New("must be an RFC 3339 time such as 2026-01-31T09:30:00.123Z")

// ParseTime parses an RFC 3339 time strictly and returns it in UTC. A leap second becomes the last
// millisecond before it, because a clock of 86,400 seconds a day has no place for it. A second 60
// that is not at the end of a month in UTC is an error.
//
// The letters T and Z may be lower-case (RFC 3339, section 5.6).
func ParseTime(text string) (time.Time, error) {
	text = strings.ToUpper(text)
	// time.Parse also takes hours of one digit, decimal commas and offsets of a day.
	if !isRFC3339(text) {
		return time.Time{}, errTime
	}
	var t time.Time
	if t.UnmarshalText([]byte(text)) == nil {
		return t.UTC(), nil
	}
	const seconds = len("2006-01-02T15:04:")
	if text[seconds:seconds+2] != "60" || t.UnmarshalText([]byte(text[:seconds]+"59"+text[seconds+2:])) != nil {
		return time.Time{}, errTime
	}
	next := t.UTC().Truncate(time.Second).Add(time.Second)
	if next.Day() != 1 || next.Hour() != 0 || next.Minute() != 0 {
		return time.Time{}, errTime
	}
	return next.Add(-time.Millisecond), nil
}

// WholeMillisecond rounds a bound of timestamps up to whole milliseconds, as timestamps have: the same entries are before
// it. The last millisecond of the year 9999 stays before its end, because RFC 3339 has no later year. The zero time
// stays as it is.
func WholeMillisecond(t time.Time) time.Time {
	whole := t.UTC().Truncate(time.Millisecond)
	if next := whole.Add(time.Millisecond); whole.Before(t) && next.Year() <= 9999 {
		return next
	}
	return whole
}

// isRFC3339 reports whether a text has the form of RFC 3339, with an offset of less than a day.
func isRFC3339(text string) bool {
	const date = "0000-00-00T00:00:00"
	if len(text) <= len(date) || !hasForm(text[:len(date)], date) {
		return false
	}
	rest := text[len(date):]
	if rest[0] == '.' {
		digits := 1
		for digits < len(rest) && isDigit(rest[digits]) {
			digits++
		}
		if digits == 1 {
			return false
		}
		rest = rest[digits:]
	}
	return rest == "Z" || hasOffset(rest)
}

// hasOffset reports whether a text is an offset of less than a day.
func hasOffset(text string) bool {
	return (hasForm(text, "+00:00") || hasForm(text, "-00:00")) && text[1:3] < "24" && text[4:6] < "60"
}

// hasForm reports whether a text has the form's characters, with any digit for a zero.
func hasForm(text, form string) bool {
	if len(text) != len(form) {
		return false
	}
	for i := range len(form) {
		if form[i] == '0' && !isDigit(text[i]) || form[i] != '0' && text[i] != form[i] {
			return false
		}
	}
	return true
}
