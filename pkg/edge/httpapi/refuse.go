package httpapi

import (
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Refuse answers a request to the route with the problem document of err. Callers
// that refuse requests before the function use it.
func Refuse(gate *Gate, route manifest.Route, err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate.serve(w, r, route, func(*request) (*response, error) { return nil, err })
	})
}

// Malformed returns the error of a malformed request: a 400 with this detail, a sentence.
func Malformed(detail string) error { return ProblemMalformed.problem(detail) }
