package httpapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// parseQuery reads the query parameters and refuses those that the operation
// does not have. An operation with filters leaves the names to the search service.
func (e *endpoint) parseQuery(c *call) error {
	if c.URL.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return kindMalformed.problem("The query string is not percent-encoded form data.")
	}
	c.params = values
	if e.op.filters {
		return nil
	}
	var faults []audit.FieldError
	for name, given := range values {
		switch {
		case !slices.ContainsFunc(e.op.query, func(p parameter) bool { return p.name == name }):
			faults = append(faults, audit.FieldError{Pointer: "?" + boundedName(name), Code: "unknown_parameter", Detail: "is not a parameter of this endpoint"})
		case len(given) > 1:
			faults = append(faults, audit.FieldError{Pointer: "?" + name, Code: "repeated", Detail: "must be given once"})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.SortFunc(faults, byPointer)
	return &audit.ValidationError{Fields: faults[:min(len(faults), audit.MaxFaults)]}
}

// boundedName keeps a client's name in an error short and printable.
func boundedName(name string) string {
	const limit = 64
	if len(name) <= limit {
		return name
	}
	for n := limit; ; n-- {
		if utf8.RuneStart(name[n]) {
			return name[:n] + "…"
		}
	}
}

// limit reads ?limit=.
func (c *call) limit() (int, error) {
	text := c.params.Get("limit")
	if text == "" {
		return audit.DefaultPageLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > audit.MaxPageLimit {
		return 0, audit.Invalid("?limit", "out_of_range", "must be a whole number from 1 to %d", audit.MaxPageLimit)
	}
	return n, nil
}

func byPointer(a, b audit.FieldError) int { return strings.Compare(a.Pointer, b.Pointer) }
