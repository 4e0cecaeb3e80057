// Package httpapi is the HTTP API over the use cases. It has one handler for each
// function that has a route. It alone turns errors into responses.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// Authenticator verifies the value of an Authorization header. It returns
// audit.ErrUnauthenticated if the credential is not valid.
type Authenticator interface {
	Authenticate(ctx context.Context, authorization string) (access.Principal, error)
}

// Tenants finds tenants. It returns audit.ErrNotFound if none exists.
type Tenants interface {
	Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error)
}

// Attempts records what callers were refused.
type Attempts interface {
	Record(ctx context.Context, a attempts.Attempt)
}

// Gate is what every request passes on its way in and out. It handles the request id,
// authentication, tenant, permission, limits, compression, problem documents, the
// access log and panics. Every exported field but Attempts is required. One Gate serves all
// functions; it must not be copied after first use.
type Gate struct {
	// Authenticator verifies the credential if the request's context has no principal.
	// Behind API Gateway the authorizer sets the principal.
	Authenticator Authenticator
	Tenants       Tenants
	// Log gets one record for each request: never a body, a query or a header's value.
	Log *slog.Logger
	Now func() time.Time
	// NewRequestID names a request that came without a usable X-Request-Id.
	NewRequestID func() string
	// Origins are the pages, such as https://console.example.com, to which browsers may show
	// answers (CORS), and which may send requests.
	Origins []string
	// Attempts gets the requests that are refused. nil: nobody does.
	Attempts Attempts

	gzips  sync.Pool // *gzip.Writer
	bodies bodyMemory
}

// request is one request during its handling by a function.
type request struct {
	*http.Request
	id        string // request id
	principal access.Principal
	named     audit.TenantID // the tenant that the request names; "": none yet, or none at all
	scope     access.Scope
	tenant    audit.Tenant // the zero Tenant if the route has no single tenant
	params    url.Values
	memory    *bodyMemory
	quotas    []quota.State // after the request; empty: it is subject to none
}

// handlerFunc answers a request that passed the gate.
type handlerFunc func(req *request) (*response, error)

// endpoint is the complete handler of one function.
type endpoint struct {
	gate   *Gate
	route  manifest.Route
	handle handlerFunc
}

func (g *Gate) endpoint(function string, handle handlerFunc) http.Handler {
	return &endpoint{gate: g, route: routeOf(function), handle: handle}
}

// routeOf returns the route of a function that is known to have one.
func routeOf(function string) manifest.Route {
	if r := manifest.FunctionOf(function).Trigger.Route; r != nil {
		return *r
	}
	panic("httpapi: the manifest has no route for " + function)
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions { // template.yaml routes those of a path to one of its functions
		e.gate.options(w, r, e.route.Path, methodsOf(e.route.Path))
		return
	}
	e.gate.serve(w, r, e.route, func(req *request) (*response, error) {
		res, err := e.answer(req)
		e.gate.noteRefusal(req, e.route, err)
		return res, err
	})
}

// serve sends what answer makes of the request, and logs it.
func (g *Gate) serve(w http.ResponseWriter, r *http.Request, route manifest.Route, answer handlerFunc) {
	start := g.Now()
	req := &request{Request: r, id: g.requestID(r), memory: g.bodies.ready()}
	res, err := answer(req)
	if err != nil {
		res = problemOf(err, route.Permission).response(req.id)
	}
	res = res.conditional(r)
	res.setQuotas(req.quotas)
	sent, writeErr := g.send(w, req, res)
	g.log(req, route, start, res.status, sent, err, writeErr)
}

// answer runs the request through the gate and the handler. A panic becomes an error.
func (e *endpoint) answer(req *request) (res *response, err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares the panic's value itself
			panic(v)
		}
		// The value may hold what a client sent, so only its place is logged.
		res, err = nil, &panicError{stack: debug.Stack()}
	}()
	if err := e.admit(req); err != nil {
		return nil, err
	}
	return e.handle(req)
}

// panicError stands for a panic of a handler.
type panicError struct{ stack []byte }

func (*panicError) Error() string { return "the handler panicked" }

// admit checks the caller, the tenant, the permission and the query.
func (e *endpoint) admit(req *request) error {
	if e.route.Permission != "" {
		if err := e.authenticate(req); err != nil {
			return err
		}
		if err := e.authorize(req); err != nil {
			return err
		}
	}
	return e.parseQuery(req)
}

func (e *endpoint) authenticate(req *request) error {
	if p, known := access.PrincipalFrom(req.Context()); known {
		req.principal = p
		// API Gateway caches what the authorizer said, beyond the credential's end.
		if ends := p.ExpiresAt; !ends.IsZero() && !e.gate.Now().Before(ends) {
			return &access.RefusedError{Detail: "The credential has expired. Get a new one."}
		}
		return nil
	}
	values := req.Header["Authorization"]
	if len(values) != 1 {
		return audit.ErrUnauthenticated
	}
	p, err := e.gate.Authenticator.Authenticate(req.Context(), values[0])
	req.principal = p
	return err
}

func (e *endpoint) authorize(req *request) error {
	id, err := e.tenantID(req)
	if err != nil || id == "" {
		return err
	}
	req.named = id
	if req.scope, err = req.principal.Authorize(id, e.route.Permission); err != nil {
		return err
	}
	tenant, err := e.gate.Tenants.Tenant(req.Context(), id)
	if err := e.tenantError(req, id, tenant, err); err != nil {
		return err
	}
	tenant.ID = id // an operator sees the jobs of a tenant that no longer exists
	req.tenant = tenant
	if tenant.Status == audit.TenantSuspended && e.endsWithSuspension(req.principal) {
		return suspended()
	}
	return nil
}

// tenantID returns the id that the request names, "" if the route belongs to
// no single tenant. Its handler then checks the permission.
func (e *endpoint) tenantID(req *request) (audit.TenantID, error) {
	if e.route.TenantFrom == manifest.TenantNone {
		return "", nil
	}
	header, err := tenantHeader(req)
	if err != nil {
		return "", err
	}
	if e.route.TenantFrom == manifest.TenantFromHeader {
		return headerOrOnlyTenant(header, req.principal)
	}
	id, err := audit.ParseTenantID(req.PathValue("id"))
	if err != nil { // no tenant has such an id
		return "", e.tenantError(req, audit.TenantID(audit.BoundedName(req.PathValue("id"))), audit.Tenant{}, audit.ErrNotFound)
	}
	if header != "" && header != id {
		return "", badHeader(tenantHeaderName, "disagrees", "must be left out or agree with the tenant that the path names")
	}
	return id, nil
}

var tenantHeaderName = http.CanonicalHeaderKey(manifest.TenantHeader)

// headerOrOnlyTenant returns the tenant of the header. Without a header it is the one tenant of
// the credential.
func headerOrOnlyTenant(header audit.TenantID, p access.Principal) (audit.TenantID, error) {
	if header != "" {
		return header, nil
	}
	if only, is := p.OnlyTenant(); is {
		return only, nil
	}
	return "", badHeader(tenantHeaderName, "required", "is required, because the credential is not for exactly one tenant: it names the tenant, such as acme")
}

// tenantHeader returns the tenant of the header, "" if there is none.
func tenantHeader(req *request) (audit.TenantID, error) {
	values := req.Header[tenantHeaderName]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", badHeader(tenantHeaderName, "repeated", "must be given once")
	}
	id, err := audit.ParseTenantID(values[0])
	if err != nil {
		return "", badHeader(tenantHeaderName, "invalid_tenant_id", "must be the id of a tenant: up to 63 lower-case letters, digits and hyphens between them")
	}
	return id, nil
}

// tenantError returns what the caller may know about a tenant that cannot be used.
// A tenant that does not exist, or is being deleted, is forbidden like a foreign
// one. A caller with access to every tenant gets "not found" if the path names it, and sees
// the jobs of a deleted tenant. A tenant that is being deleted can be seen, and so can its legal
// holds, because one that stands must be released before the deletion goes on.
func (e *endpoint) tenantError(req *request, id audit.TenantID, tenant audit.Tenant, err error) error {
	visible := e.route.Path == "/tenants/{id}" || strings.HasPrefix(e.route.Path, "/tenants/{id}/legal-holds")
	deleting := err == nil && tenant.Status == audit.TenantDeleting && !visible
	if err == nil && !deleting {
		return nil
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	_, all := req.principal.TenantIDs()
	switch {
	case all && e.route.Permission == access.JobsRead:
		return nil
	case all && e.route.TenantFrom == manifest.TenantFromPath:
		return ProblemNotFound.problem("There is no tenant with this id.")
	}
	return &access.DeniedError{Tenant: id, Permission: e.route.Permission, Foreign: true}
}

// endsWithSuspension reports whether a suspended tenant forbids the request. It forbids its own
// callers everything. A platform operator still reads and administers it, but cannot change its
// log or open its live stream.
func (e *endpoint) endsWithSuspension(p access.Principal) bool {
	_, all := p.TenantIDs()
	if !all || e.route.Permission == access.LogsStream {
		return true
	}
	reads := e.route.Method == http.MethodGet || e.route.Permission == access.LogsSearch || e.route.Permission == access.LogsExport
	return !reads && e.route.TenantFrom == manifest.TenantFromHeader
}

// requestID returns the client's id of the request if it is safe to repeat in
// headers and logs, otherwise a new one.
func (g *Gate) requestID(r *http.Request) string {
	if values := r.Header[manifest.RequestIDHeader]; len(values) == 1 && validRequestID(values[0]) {
		return values[0]
	}
	return g.NewRequestID()
}

// maxRequestID is the length of the longest client id that is accepted, in bytes.
const maxRequestID = 128

func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		switch b := id[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case slices.Contains([]byte("-_.:/+=@~"), b):
		default:
			return false
		}
	}
	return true
}

func (g *Gate) log(req *request, route manifest.Route, start time.Time, status int, sent int, err, writeErr error) {
	level := slog.LevelInfo
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("method", req.Method), slog.String("route", route.Path), slog.Int("status", status),
		slog.Float64("duration_ms", float64(g.Now().Sub(start).Microseconds())/1000),
		slog.String("request_id", req.id), slog.Int("bytes", sent))
	if req.tenant.ID != "" {
		attrs = append(attrs, slog.String("tenant", string(req.tenant.ID)))
	}
	if status >= http.StatusInternalServerError && err != nil {
		if req.Context().Err() == nil { // else the client has gone, and the failure is not the service's
			level = slog.LevelError
		}
		attrs = append(attrs, slog.String("error", err.Error()))
		if p, panicked := err.(*panicError); panicked { //nolint:errorlint // never wrapped
			attrs = append(attrs, slog.String("stack", string(p.stack)))
		}
	}
	if writeErr != nil {
		attrs = append(attrs, slog.String("write_error", writeErr.Error()))
	}
	g.Log.LogAttrs(req.Context(), level, "request", attrs...)
}
