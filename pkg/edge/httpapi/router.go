package httpapi

import (
	"maps"
	"net/http"
	"path"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Router mounts handlers, keyed by their function's name, at their paths in the
// manifest under manifest.BasePath. A GET handler serves HEAD as well. Any other path
// or method gets a problem document. Router panics if a name has no route.
func Router(gate *Gate, handlers map[string]http.Handler) http.Handler {
	methods := map[string]map[string]http.Handler{} // by path
	for function, handler := range handlers {
		route := routeOf(function)
		if methods[route.Path] == nil {
			methods[route.Path] = map[string]http.Handler{}
		}
		for _, method := range route.Methods() {
			methods[route.Path][method] = handler
		}
	}
	mux := http.NewServeMux()
	for path, byMethod := range methods {
		// Without a method in the pattern /logs/bulk stays apart from /logs/{id} for every method.
		mux.Handle(manifest.BasePath+path, &pathHandler{gate: gate, path: path, methods: byMethod})
	}
	nothing := NotFound(gate)
	mux.Handle("/", nothing)
	return WithoutRedirects(mux, nothing)
}

// WithoutRedirects sends paths that a ServeMux would redirect to a clean spelling, such as //logs,
// to another handler.
func WithoutRedirects(mux *http.ServeMux, other http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "" || path.Clean(r.URL.Path) != r.URL.Path {
			other.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// pathHandler serves one path of the manifest.
type pathHandler struct {
	gate    *Gate
	path    string
	methods map[string]http.Handler
}

func (h *pathHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler := h.methods[r.Method]; handler != nil {
		handler.ServeHTTP(w, r)
		return
	}
	methods := slices.Collect(maps.Keys(h.methods))
	if r.Method == http.MethodOptions {
		h.gate.options(w, r, h.path, methods)
		return
	}
	h.gate.refuseMethod(w, r, h.path, methods)
}

// NotFound answers every request with the problem document of a path that does not exist.
func NotFound(gate *Gate) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate.serve(w, r, manifest.Route{}, func(*request) (*response, error) {
			return nil, ProblemNotFound.problem("There is no endpoint with this path. " + manifest.BasePath + "/docs lists the endpoints.")
		})
	})
}
