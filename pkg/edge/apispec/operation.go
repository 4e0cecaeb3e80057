package apispec

import (
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Operation describes one function that has a route.
type Operation struct {
	Name           string // of the function; the operationId of the document
	Summary        string // from the manifest
	Route          manifest.Route
	Group          string // heading of the page, tag of the document
	Description    string // backquotes mark code
	Parameters     []Parameter
	Body           *RequestBody // nil: none
	Responses      []Response
	ErrorResponses []ErrorResponse // ordered by status
}

// The places of a parameter.
const (
	InPath   = "path"
	InQuery  = "query"
	InHeader = "header"
)

// Parameter is a parameter of a request.
type Parameter struct {
	Name        string
	In          string // InPath, InQuery or InHeader
	Required    bool
	Repeatable  bool // several values are alternatives
	FreeForm    bool // an object: each member is a parameter <Name>.<member>
	Schema      *Schema
	Description string
}

// RequestBody is the body of a request.
type RequestBody struct {
	Description string
	MediaTypes  []string
	Schema      *Schema // of the JSON form
	OnePerLine  bool    // the other media types carry one JSON text per line
}

// Response is a response that is not a problem document.
type Response struct {
	Status      int
	Description string
	MediaType   string // "": no body
	Schema      *Schema
	Files       []string // other media types that the body can have
	Headers     []Header
}

// Header is a header field of a response.
type Header struct {
	Name        string
	Required    bool
	Schema      *Schema
	Description string
}

// ErrorResponse is a problem document that an operation can respond with.
type ErrorResponse struct {
	Kind httpapi.ProblemKind
	When string // the cause, a sentence
}

// The headings of the page.
const (
	groupWrite      = "Write"
	groupRead       = "Read"
	groupStream     = "Live stream"
	groupQuarantine = "Quarantine"
	groupTenants    = "Tenants"
	groupKeys       = "API keys"
	groupErasures   = "Erasures"
	groupRestores   = "Restores"
	groupHolds      = "Legal holds"
	groupJobs       = "Jobs"
	groupService    = "Service"
)

// Operations returns every operation, in the order of the page.
func Operations() []Operation {
	var all []Operation
	for _, group := range [][]Operation{logOperations(), streamOperations(), quarantineOperations(), tenantOperations(), keyOperations(), erasureOperations(), holdOperations(), restoreOperations(), jobOperations(), serviceOperations()} {
		all = append(all, group...)
	}
	functions := functionsByName()
	for i := range all {
		all[i].complete(functions)
	}
	return all
}

func functionsByName() map[string]manifest.Function {
	functions := map[string]manifest.Function{}
	for _, f := range manifest.Functions() {
		functions[f.Name] = f
	}
	return functions
}

// complete adds what follows from the function's row in the manifest. It panics
// if the manifest has no such function with a route.
func (op *Operation) complete(functions map[string]manifest.Function) {
	f := functions[op.Name]
	if f.Trigger.Route == nil {
		panic("apispec: the manifest has no route for " + op.Name)
	}
	op.Summary, op.Route = f.Summary, *f.Trigger.Route
	if op.Route.TenantFrom == manifest.TenantFromHeader {
		op.Parameters = append([]Parameter{tenantHeader()}, op.Parameters...)
	}
	unknownParameter := ErrorResponse{httpapi.ProblemInvalid, "A parameter is unknown or its value is out of bounds."}
	op.ErrorResponses = byStatus(append(append(op.commonErrorResponses(), op.ErrorResponses...), unknownParameter))
}

func tenantHeader() Parameter {
	return Parameter{Name: manifest.TenantHeader, In: InHeader, Schema: tenantIDSchema(""),
		Description: "The tenant whose log it is. A credential of one tenant, such as an API key, needs none."}
}

// commonErrorResponses returns the problems that follow from the operation's
// route and body.
func (op *Operation) commonErrorResponses() []ErrorResponse {
	all := []ErrorResponse{
		{httpapi.ProblemMalformed, "The query string cannot be read."},
		{httpapi.ProblemInternal, "The service failed."},
		{httpapi.ProblemHeaders, "The request's line and header fields are too large: from 10,240 bytes on AWS."},
		{httpapi.ProblemTooMany, "Too many requests arrived, or too many entries of the tenant wait to be stored."},
		{httpapi.ProblemTimeout, "The service did not answer in time, on AWS."},
	}
	all = append(all, accessErrorResponses(&op.Route)...)
	if op.Body != nil {
		all = append(all,
			ErrorResponse{httpapi.ProblemMalformed, "The body is damaged or not valid JSON."},
			ErrorResponse{httpapi.ProblemTooLarge, "The body exceeds a limit."},
			ErrorResponse{httpapi.ProblemMediaType, "The Content-Type or Content-Encoding is not supported."})
	}
	return all
}

// accessErrorResponses returns the problems of credentials, permissions and tenants.
func accessErrorResponses(route *manifest.Route) []ErrorResponse {
	var all []ErrorResponse
	if route.Permission != "" {
		forbidden := fmt.Sprintf("The credential does not have %s in the tenant.", route.Permission)
		if route.TenantFrom == manifest.TenantFromHeader {
			forbidden += " The response is the same if the tenant does not exist."
		}
		if route.TenantFrom != manifest.TenantNone {
			forbidden += " The log of a tenant of the caller records the attempt."
		}
		all = append(all,
			ErrorResponse{httpapi.ProblemUnauthenticated, "The Authorization header is missing or not valid."},
			ErrorResponse{httpapi.ProblemForbidden, forbidden},
			ErrorResponse{httpapi.ProblemUnavailable, "A dependency is unavailable."})
	}
	switch route.TenantFrom {
	case manifest.TenantFromHeader:
		all = append(all, ErrorResponse{httpapi.ProblemMalformed, "X-Tenant-ID is not a valid tenant id, or it is missing and the credential is not for exactly one tenant."})
	case manifest.TenantFromPath:
		all = append(all,
			ErrorResponse{httpapi.ProblemMalformed, "X-Tenant-ID was sent and is not the tenant of the path."},
			ErrorResponse{httpapi.ProblemNotFound, "The tenant does not exist, and the credential gives access to every tenant."})
	case manifest.TenantNone:
		return all
	}
	return append(all, ErrorResponse{httpapi.ProblemSuspended, "The tenant is suspended, which ends the requests of its own callers, and what would change its log."})
}

// byStatus orders error responses as httpapi.ProblemKinds does. Those of one
// kind keep their order.
func byStatus(responses []ErrorResponse) []ErrorResponse {
	sorted := make([]ErrorResponse, 0, len(responses))
	for _, kind := range httpapi.ProblemKinds() {
		for _, r := range responses {
			if r.Kind == kind {
				sorted = append(sorted, r)
			}
		}
	}
	return sorted
}
