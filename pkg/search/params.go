package search

import (
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The names of the query parameters that are not filter fields.
const (
	ParamQuery    = "q"
	ParamFrom     = "from"
	ParamTo       = "to"
	ParamSort     = "sort"
	ParamLimit    = "limit"
	ParamCursor   = "cursor"
	ParamGroupBy  = "group_by"
	ParamInterval = "interval"
	ParamTimeZone = "time_zone"
	ParamTop      = "top"
)

// Limits of filter parameters.
const (
	MaxFilterValues     = 500  // of all fields together
	MaxFilterValueBytes = 4096 // of one value
	// maxParams is more than the different parameters of a request that passes the other limits.
	maxParams = MaxFilterValues + 20
)

// params reads query parameters and collects their faults.
type params struct {
	values url.Values
	faults []audit.FieldError
	zone   *time.Location // of dates in from and to, and of the histogram; nil: UTC
}

func (p *params) fault(name, code, detail string) {
	p.faults = append(p.faults, audit.FieldError{Pointer: "?" + name, Code: code, Detail: detail})
}

func (p *params) err() error {
	return audit.InvalidFields(p.faults)
}

// single returns the single value of a parameter, "" if it is not given.
func (p *params) single(name string) string {
	switch values := p.values[name]; len(values) {
	case 0:
		return ""
	case 1:
		return values[0]
	default:
		p.fault(name, "repeated", "must be given once")
		return values[0]
	}
}

// only reports parameters that are neither filters nor in names. If there are too many parameters,
// it reports only that, and drops them.
func (p *params) only(names ...string) {
	if len(p.values) > maxParams {
		p.values = nil
		p.add(errTooManyValues("?"))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if !isParam(name, names) && len(p.faults) < audit.MaxFaults {
			known := strings.Join(append(slices.Clone(listParams), names...), ", ")
			p.fault(name, "unknown_parameter", "is not a parameter of this endpoint, which has "+known+", "+fieldNames+" and metadata.<path>")
		}
	}
	if slices.Equal(p.values[ParamCursor], []string{""}) {
		p.add(audit.ErrEmptyCursor())
	}
}

// listParams are the parameters of every list that are not filter fields.
var listParams = []string{ParamQuery, ParamFrom, ParamTo}

// isParam reports whether a parameter is a filter, or in names.
func isParam(name string, names []string) bool {
	if slices.Contains(listParams, name) || slices.Contains(names, name) {
		return true
	}
	_, err := filterParam(name)
	return err == nil
}

// filterParam returns the field of a parameter. A path must not be empty: clients leave it out by mistake.
func filterParam(name string) (audit.Field, error) {
	if name == metadataPrefix {
		return "", errUnknownField
	}
	return parseField(name)
}

func errTooManyValues(pointer string) error {
	return audit.Invalid(pointer, "too_many_values", "must have at most %d filters and filter values", MaxFilterValues)
}

// filter reads the filter fields, from, to and q.
func (p *params) filter() audit.Filter {
	var filter audit.Filter
	var conditions []audit.Expr
	count := 0
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		field, err := filterParam(name)
		if err != nil {
			continue
		}
		var values []string
		for _, value := range p.values[name] {
			normal, err := normalValue(field, value)
			switch {
			case len(value) > MaxFilterValueBytes:
				p.fault(name, "too_long", "must be at most "+strconv.Itoa(MaxFilterValueBytes)+" bytes")
			case !utf8.ValidString(value):
				p.fault(name, "invalid_utf8", "must be valid UTF-8")
			case err != nil:
				p.fault(name, "invalid_value", err.Error()+networkHint(field, value))
			}
			values = append(values, normal)
		}
		count += max(1, len(p.values[name]))
		conditions = append(conditions, equality(field, values...))
	}
	if count > MaxFilterValues {
		p.add(errTooManyValues("?"))
	}
	filter.From, filter.To = p.time(ParamFrom), p.time(ParamTo)
	if !filter.From.IsZero() && !filter.To.IsZero() && filter.To.Before(filter.From) {
		p.fault(ParamTo, "out_of_range", "must not be before from")
	}
	query, err := ParseQuery(p.single(ParamQuery))
	if err != nil {
		p.add(err)
	}
	filter.Where = audit.All(append(conditions, query)...)
	return filter
}

// networkHint says how to find the addresses of a network, if the value is one.
func networkHint(field audit.Field, value string) string {
	if field != audit.FieldIPAddress {
		return ""
	}
	network, err := netip.ParsePrefix(value)
	if err != nil {
		return ""
	}
	return "; the addresses of a network are found by q=ip_address:" + network.String()
}

// add adds the faults that another parser returned.
func (p *params) add(err error) {
	if invalid, ok := err.(*audit.ValidationError); ok { //nolint:errorlint // parsers return it unwrapped
		p.faults = append(p.faults, invalid.Fields...)
	}
}

func (p *params) time(name string) time.Time {
	text := p.single(name)
	if text == "" {
		return time.Time{}
	}
	// A "+" of an offset that was not percent-encoded arrives as a space.
	t, err := parseTime(strings.ReplaceAll(text, " ", "+"), p.zone)
	if err != nil {
		p.fault(name, "invalid_time", err.Error())
	}
	return t
}

// number reads a whole number from 1 to limit.
func (p *params) number(name string, otherwise, limit int) int {
	text := p.single(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > limit {
		p.fault(name, "out_of_range", "must be a whole number from 1 to "+strconv.Itoa(limit))
		return otherwise
	}
	return n
}

func (p *params) order() audit.Order {
	switch p.single(ParamSort) {
	case "", "-timestamp":
		return audit.NewestFirst
	case "timestamp", "+timestamp", " timestamp": // "+" arrives as a space where it was not percent-encoded
		return audit.OldestFirst
	}
	p.fault(ParamSort, "invalid_choice", "must be -timestamp (newest first) or +timestamp (oldest first)")
	return audit.NewestFirst
}

// maxZoneName is longer than every name in the tz database.
const maxZoneName = 64

// ZonePattern matches the names of the tz database. It leaves out the names of files that a
// machine keeps beside the zones, such as right/, which counts leap seconds.
const ZonePattern = `^[A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z][A-Za-z0-9_+-]*)*$`

var zoneName = regexp.MustCompile(ZonePattern)

// timeZone reads time_zone.
func (p *params) timeZone(load func(name string) (*time.Location, error)) *time.Location {
	name := p.single(ParamTimeZone)
	if name == "" {
		return nil
	}
	if len(name) <= maxZoneName && zoneName.MatchString(name) && name != "Local" {
		if zone, err := load(name); err == nil {
			return zone
		}
	}
	p.fault(ParamTimeZone, "unknown_time_zone", "must be a name of the tz database, such as Europe/Berlin or UTC, in its spelling")
	return nil
}

// stats reads group_by, interval and top.
func (p *params) stats() audit.StatsRequest {
	request := audit.StatsRequest{Top: p.number(ParamTop, audit.DefaultTop, audit.MaxTop), Distinct: true, Zone: p.zone}
	for _, list := range p.values[ParamGroupBy] {
		fields, err := audit.SplitFields(list)
		if err != nil {
			p.fault(ParamGroupBy, "invalid_field", err.Error())
		}
		for _, name := range fields {
			field, err := parseField(string(name))
			switch {
			case err != nil:
				p.fault(ParamGroupBy, "unknown_field", err.Error())
			case slices.Contains(request.GroupBy, field):
				p.fault(ParamGroupBy, "repeated", "must not name a field twice")
			}
			request.GroupBy = append(request.GroupBy, field)
		}
	}
	if len(request.GroupBy) > audit.MaxGroupBy {
		p.fault(ParamGroupBy, "too_many", "must name at most "+strconv.Itoa(audit.MaxGroupBy)+" fields")
	}
	if text := p.single(ParamInterval); text != "" {
		interval, ok := parseInterval(text)
		if !ok {
			p.fault(ParamInterval, "invalid_interval", "must be a whole number of seconds, minutes, hours, days or weeks such as 30s, 15m, 1h, 1d, 1w, at most 366d")
		}
		request.Interval = interval
	}
	return request
}

// parseInterval reads a number with one unit.
func parseInterval(text string) (time.Duration, bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	unit, known := units[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	const longest = 366 * 24 * time.Hour
	if !known || err != nil || n == 0 || n > uint64(longest/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
