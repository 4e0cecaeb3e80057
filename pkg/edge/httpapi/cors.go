package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// CORS: a browser shows the answers to scripts of the pages that Gate.Origins names. Credentials
// are header fields that a script sets itself, so no answer allows cookies, and none allows every
// origin.

// exposedHeaders are those that a page's script may read in addition to those it always may.
var exposedHeaders = strings.Join([]string{
	"ETag", "Location", "Retry-After", RateLimitHeader, RateLimitPolicyHeader, manifest.RequestIDHeader, DegradedHeader, SearchableFromHeader, trace.Header,
}, ", ")

// PreflightAge is how long a browser may use the answer to a preflight request.
const PreflightAge = 24 * time.Hour

// PreflightMethods returns the methods that a page may use at a path with these methods.
func PreflightMethods(methods []string) string {
	return strings.Join(slices.Sorted(slices.Values(append(slices.Clone(methods), http.MethodOptions))), ", ")
}

// PreflightHeaders returns the header fields that a page's script may set.
func PreflightHeaders() string {
	return strings.Join([]string{
		"Authorization", "Content-Type", "Content-Encoding", IdempotencyKeyHeader, IfMatchHeader, IfNoneMatchHeader,
		manifest.TenantHeader, manifest.RequestIDHeader, trace.Header, trace.W3CHeader,
	}, ", ")
}

// allowOrigin lets the browser show the answer to the page that asked, if that is a known one.
func (g *Gate) allowOrigin(h http.Header, req *request) {
	if len(g.Origins) == 0 {
		return
	}
	h["Vary"] = []string{"Origin"} // for caches: the answer differs
	if origin := req.Header["Origin"]; len(origin) == 1 && slices.Contains(g.Origins, origin[0]) {
		h["Access-Control-Allow-Origin"] = origin
		h["Access-Control-Expose-Headers"] = []string{exposedHeaders}
	}
}

// options answers OPTIONS at a path with these handlers by method. If the gate knows origins, the
// answer tells a browser what a page may send. Otherwise OPTIONS is a method like any other that
// the path does not have.
func (g *Gate) options(w http.ResponseWriter, r *http.Request, path string, methods []string) {
	if len(g.Origins) == 0 {
		g.refuseMethod(w, r, path, methods)
		return
	}
	g.serve(w, r, manifest.Route{Path: path}, func(*request) (*response, error) {
		res := &response{status: http.StatusNoContent}
		return res.set("Access-Control-Allow-Methods", PreflightMethods(methods)).
			set("Access-Control-Allow-Headers", PreflightHeaders()).
			set("Access-Control-Max-Age", strconv.Itoa(int(PreflightAge.Seconds()))), nil
	})
}

// refuseMethod answers a request whose method the path does not have.
func (g *Gate) refuseMethod(w http.ResponseWriter, r *http.Request, path string, methods []string) {
	allow := strings.Join(slices.Sorted(slices.Values(methods)), ", ")
	detail := "This path accepts " + allow + "."
	if r.URL.Path == manifest.BasePath+manifest.StreamPath {
		detail = streamNeedsWebSocket
	}
	g.serve(w, r, manifest.Route{Path: path}, func(*request) (*response, error) {
		return nil, ProblemMethodNotAllowed.problem(detail).with("Allow", allow)
	})
}

// methodsOf returns the methods of a path of the manifest.
func methodsOf(path string) []string {
	var methods []string
	for _, f := range manifest.Functions() {
		if r := f.Trigger.Route; r != nil && r.Path == path {
			methods = append(methods, r.Methods()...)
		}
	}
	return methods
}
