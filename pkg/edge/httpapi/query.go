package httpapi

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// parseQuery reads the query parameters and refuses those that the route does not
// define. On a route with filters the search service checks the names.
func (e *endpoint) parseQuery(req *request) error {
	if req.URL.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return ProblemMalformed.problem("The query string is not percent-encoded form data.")
	}
	req.params = values
	if e.route.Filters {
		return nil
	}
	if slices.Equal(values["cursor"], []string{""}) {
		return audit.ErrEmptyCursor()
	}
	unknown := "is not a parameter of this endpoint, which has none"
	if len(e.route.Query) > 0 {
		unknown = "is not a parameter of this endpoint, which has " + strings.Join(e.route.Query, ", ")
	}
	var faults []audit.FieldError
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(faults) == audit.MaxFaults {
			break
		}
		switch {
		case !slices.Contains(e.route.Query, name):
			faults = append(faults, audit.FieldError{Pointer: "?" + name, Code: "unknown_parameter", Detail: unknown})
		case len(values[name]) > 1:
			faults = append(faults, audit.FieldError{Pointer: "?" + name, Code: "repeated", Detail: "must be given once"})
		}
	}
	return audit.InvalidFields(faults)
}

// takeFlag reads a parameter that is true or false, and removes it.
func (req *request) takeFlag(name string) (bool, error) {
	values, given := req.params[name]
	delete(req.params, name)
	switch {
	case len(values) > 1:
		return false, audit.Invalid("?"+name, "repeated", "must be given once")
	case given && values[0] != "true" && values[0] != "false" && values[0] != "":
		return false, audit.Invalid("?"+name, "invalid_choice", "must be true or false")
	}
	return given && values[0] == "true", nil
}

// limit reads ?limit=.
func (req *request) limit() (int, error) {
	text := req.params.Get("limit")
	if text == "" {
		return audit.DefaultPageLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > audit.MaxPageLimit {
		return 0, audit.Invalid("?limit", "out_of_range", "must be a whole number from 1 to %d", audit.MaxPageLimit)
	}
	return n, nil
}
