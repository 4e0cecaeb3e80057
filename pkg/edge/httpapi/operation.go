package httpapi

import (
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// operation is what the document and the page say of a function beside what
// the manifest says.
type operation struct {
	function    string
	group       string // heading of the page, tag of the document
	description string
	path        []parameter
	query       []parameter
	headers     []parameter
	body        *requestBody
	answers     []answer
	refusals    []refusal // beside those that every operation has
}

// parameter is one of path, query or header.
type parameter struct {
	name        string
	required    bool
	repeatable  bool // given several times: one of the values
	free        bool // an object whose members are parameters of their own names
	schema      *schema
	description string
}

// requestBody is what a request carries.
type requestBody struct {
	description string
	media       []string
	schema      *schema // of the JSON form
	lines       bool    // whether the other forms are one JSON text a line
}

// answer is a success, or what is answered without a problem document.
type answer struct {
	status      int
	description string
	media       string // "": no body
	schema      *schema
	headers     []parameter
	bare        bool // without the headers that every function's answer has
}

// refusal is a problem that an operation can answer with.
type refusal struct {
	kind kind
	when string
}

// The headings of the page.
const (
	groupWrite      = "Write"
	groupRead       = "Read"
	groupStream     = "Live stream"
	groupQuarantine = "Quarantine"
	groupTenants    = "Tenants"
	groupKeys       = "API keys"
	groupService    = "Service"
)

// operations returns every operation, in the order of the page.
func operations() []operation {
	var all []operation
	for _, group := range [][]operation{logOperations(), streamOperations(), quarantineOperations(), tenantOperations(), keyOperations(), serviceOperations()} {
		all = append(all, group...)
	}
	return all
}

// allRefusals returns the operation's problems, by status, those that come
// with its route included.
func (op *operation) allRefusals(route *manifest.Route) []refusal {
	all := []refusal{{kindMalformed, "The query string cannot be read."}}
	if route.Permission != "" {
		all = append(all,
			refusal{kindUnauthenticated, "The Authorization header is missing or proves nothing."},
			refusal{kindForbidden, "The credential does not hold " + string(route.Permission) + " in the tenant" + closedTenant(route)},
			refusal{kindUnavailable, "A dependency cannot answer now."})
	}
	switch route.TenantFrom {
	case manifest.TenantFromHeader:
		all = append(all, refusal{kindMalformed, "X-Tenant-ID is missing or no tenant id."},
			refusal{kindUnauthenticated, "X-Tenant-ID is missing, on AWS."})
		if changesLog(route) {
			all = append(all, refusal{kindSuspended, "The tenant is suspended."})
		}
	case manifest.TenantFromPath:
		all = append(all,
			refusal{kindMalformed, "X-Tenant-ID was sent and is not the tenant of the path."},
			refusal{kindNotFound, "There is no such tenant, and the credential is good for every tenant."})
	case manifest.TenantNone:
	}
	if op.body != nil {
		all = append(all,
			refusal{kindMalformed, "The body is damaged or no JSON."},
			refusal{kindTooLarge, "The body passes a limit."},
			refusal{kindMediaType, "The Content-Type or Content-Encoding is none that is taken."})
	}
	all = append(all, op.refusals...)
	all = append(all, refusal{kindInvalid, "A parameter is unknown or its value is out of bounds."}, refusal{kindInternal, "The service failed."},
		refusal{kindTooMany, "More requests came than the service takes, on AWS."}, refusal{kindTimeout, "The service did not answer in time, on AWS."})
	return byStatus(all)
}

func closedTenant(route *manifest.Route) string {
	if route.TenantFrom == manifest.TenantFromHeader {
		return ". A tenant that does not exist answers the same."
	}
	return "."
}

// byStatus puts the refusals into the order of kinds.
func byStatus(refusals []refusal) []refusal {
	sorted := make([]refusal, 0, len(refusals))
	for _, k := range kinds() {
		for _, r := range refusals {
			if r.kind == k {
				sorted = append(sorted, r)
			}
		}
	}
	return sorted
}
