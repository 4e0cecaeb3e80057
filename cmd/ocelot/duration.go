package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const day = 24 * time.Hour

// units are those of a duration on the command line.
var units = map[string]time.Duration{
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day, "y": 365 * day,
}

var (
	wholeDuration = regexp.MustCompile(`^(?:[0-9]+[smhdwy])+$`)
	durationPart  = regexp.MustCompile(`([0-9]+)([smhdwy])`)
)

// maxDuration is more than any limit of the service, and far from what overflows.
const maxDuration = 200 * 365 * day

var errDuration = errors.New("must be a duration such as 90m, 24h, 7d, 1h30m or 7y, with the units s, m, h, d, w and y, up to 200y")

// parseDuration returns a duration as every command spells it. It is not negative.
func parseDuration(text string) (time.Duration, error) {
	if !wholeDuration.MatchString(text) {
		return 0, errDuration
	}
	var total time.Duration
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseInt(part[1], 10, 64)
		unit := units[part[2]]
		if err != nil || n > int64(maxDuration/unit) {
			return 0, errDuration
		}
		if total += time.Duration(n) * unit; total > maxDuration {
			return 0, errDuration
		}
	}
	return total, nil
}

// durationFlag is the value of a flag.
type durationFlag struct{ time.Duration }

// UnmarshalText parses a duration.
func (f *durationFlag) UnmarshalText(text []byte) (err error) {
	f.Duration, err = parseDuration(string(text))
	return err
}

// daysFlag is a number of days, written as a duration.
type daysFlag int

// UnmarshalText parses a duration of whole days, within what a tenant's retention may be.
func (f *daysFlag) UnmarshalText(text []byte) error {
	d, err := parseDuration(string(text))
	if err != nil {
		return err
	}
	if d < day || d%day != 0 || d > audit.MaxRetentionDays*day {
		return fmt.Errorf("must be whole days, from 1d to %dd", audit.MaxRetentionDays)
	}
	*f = daysFlag(d / day)
	return nil
}
