package httpapi

import (
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Refuse answers a request to the route with the problem document of err: for
// whoever stands before a function and does not let the request through to it.
func Refuse(gate *Gate, route manifest.Route, err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate.serve(w, r, route, func(*request) (*response, error) { return nil, err })
	})
}

// Malformed is the error of a request that is no well-formed request of the API:
// a 400 with this detail, a sentence.
func Malformed(detail string) error { return ProblemMalformed.problem(detail) }
