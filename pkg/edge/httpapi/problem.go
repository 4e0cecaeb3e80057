package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/quota"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// ProblemTypePrefix followed by a kind's code is the "type" of a problem document.
const ProblemTypePrefix = "urn:ocelot:problem:"

// ProblemKind is one type of problem document.
type ProblemKind struct {
	Status int    // the HTTP status
	Code   string // a stable word for programs
	Title  string // the kind in words
}

// The kinds of problem, by status.
var (
	ProblemMalformed        = ProblemKind{http.StatusBadRequest, "malformed_request", "The request is malformed"}
	ProblemUnauthenticated  = ProblemKind{http.StatusUnauthorized, "unauthenticated", "No valid credential"}
	ProblemRevoked          = ProblemKind{http.StatusUnauthorized, "credential_revoked", "The credential was revoked"} // of streams alone
	ProblemForbidden        = ProblemKind{http.StatusForbidden, "forbidden", "Not allowed"}
	ProblemSuspended        = ProblemKind{http.StatusForbidden, "tenant_suspended", "The tenant is suspended"}
	ProblemNotFound         = ProblemKind{http.StatusNotFound, "not_found", "Not found"}
	ProblemNotYet           = ProblemKind{http.StatusNotFound, "not_stored_yet", "Not stored yet"}
	ProblemArchived         = ProblemKind{http.StatusNotFound, "archived", "Not searchable any more"}
	ProblemMethodNotAllowed = ProblemKind{http.StatusMethodNotAllowed, "method_not_allowed", "Method not allowed"}
	ProblemConflict         = ProblemKind{http.StatusConflict, "conflict", "Conflict"}
	ProblemPrecondition     = ProblemKind{http.StatusPreconditionFailed, "precondition_failed", "Changed in the meantime"}
	ProblemTooLarge         = ProblemKind{http.StatusRequestEntityTooLarge, "too_large", "Too large"}
	ProblemMediaType        = ProblemKind{http.StatusUnsupportedMediaType, "unsupported_media_type", "Unsupported media type"}
	ProblemInvalid          = ProblemKind{http.StatusUnprocessableEntity, "invalid", "The input is invalid"}
	ProblemNoPrecondition   = ProblemKind{http.StatusPreconditionRequired, "precondition_required", "If-Match is required"}
	ProblemHeaders          = ProblemKind{http.StatusRequestHeaderFieldsTooLarge, "headers_too_large", "The header fields are too large"}
	ProblemTooMany          = ProblemKind{http.StatusTooManyRequests, "too_many_requests", "Too many requests"}
	ProblemQuota            = ProblemKind{http.StatusTooManyRequests, "quota_exceeded", "The quota is used up"}
	ProblemInternal         = ProblemKind{http.StatusInternalServerError, "internal", "Internal error"}
	ProblemUnavailable      = ProblemKind{http.StatusServiceUnavailable, "unavailable", "Temporarily unavailable"}
	ProblemTimeout          = ProblemKind{http.StatusGatewayTimeout, "timeout", "No answer in time"} // of API Gateway alone
)

// ProblemKinds returns every kind of problem, by status.
func ProblemKinds() []ProblemKind {
	return []ProblemKind{
		ProblemMalformed, ProblemUnauthenticated, ProblemRevoked, ProblemForbidden, ProblemSuspended, ProblemNotFound, ProblemNotYet, ProblemArchived, ProblemMethodNotAllowed,
		ProblemConflict, ProblemPrecondition, ProblemTooLarge, ProblemMediaType, ProblemInvalid, ProblemNoPrecondition, ProblemHeaders, ProblemTooMany, ProblemQuota,
		ProblemInternal, ProblemUnavailable, ProblemTimeout,
	}
}

// problem is an error together with its problem document.
type problem struct {
	kind   ProblemKind
	detail string
	fields []audit.FieldError
	header http.Header // of the response; nil: none of its own
}

func (p *problem) Error() string { return p.kind.Code + ": " + p.detail }

func (k ProblemKind) problem(detail string) *problem { return &problem{kind: k, detail: detail} }

// with adds a header field to the response.
func (p *problem) with(name, value string) *problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

// badHeader is a 400 about a header field of the request.
func badHeader(name, code, detail string) *problem {
	name = HeaderName(name)
	p := ProblemMalformed.problem("The header " + name + " " + detail + ".")
	p.fields = []audit.FieldError{{Pointer: "Header: " + name, Code: code, Detail: detail}}
	return p
}

// forbiddenField is a 403 about one member of the body.
func forbiddenField(pointer, detail string) *problem {
	p := ProblemForbidden.problem(pointer + " " + detail + ".")
	p.fields = []audit.FieldError{{Pointer: pointer, Code: ProblemForbidden.Code, Detail: detail}}
	return p
}

// invalid is the 422 of a validation error. whole names what a fault without a pointer is about.
func invalid(err *audit.ValidationError, whole string) *problem {
	p := ProblemInvalid.problem("")
	p.fields = err.Fields
	switch first := err.Fields[0]; {
	case len(err.Fields) > 1:
		p.detail = strconv.Itoa(len(err.Fields)) + " values are invalid; see errors."
	case first.Pointer == "":
		p.detail = whole + " " + first.Detail + "."
	default:
		p.detail = first.Pointer + " " + first.Detail + "."
	}
	return p
}

// explain gives an error of the kind target the words that fit the operation.
func explain(err, target error, k ProblemKind, detail string) error {
	if errors.Is(err, target) {
		return k.problem(detail)
	}
	return err
}

func isNotFound(err error) bool { return errors.Is(err, audit.ErrNotFound) }

// backlogRetryAfter is how long a client is to wait while its tenant's share of a queue is full.
const backlogRetryAfter = 5 * time.Second

// problemOf turns an error into a problem, in this one place. permission is the one
// that the operation requires. No internal error's text reaches the client.
func problemOf(err error, permission access.Permission) *problem {
	var (
		reported    *problem
		validation  *audit.ValidationError
		unavailable *audit.UnavailableError
		notYet      *search.NotYetError
		archived    *search.ArchivedError
		exceeded    *quota.ExceededError
		credential  *access.RefusedError
		denied      *access.DeniedError
	)
	switch {
	case errors.As(err, &reported):
		return reported
	case errors.As(err, &validation):
		return invalid(validation, "The body")
	case errors.As(err, &exceeded):
		return quotaExceeded(exceeded)
	case errors.Is(err, audit.ErrBacklog):
		return ProblemTooMany.problem("Too many entries of this tenant wait to be stored. Send fewer, and send these again later.").
			with("Retry-After", retrySeconds(backlogRetryAfter))
	case errors.As(err, &unavailable):
		return retryLater(unavailable.RetryAfter)
	case errors.As(err, &notYet):
		return ProblemNotYet.problem("No entry with this id is stored yet. It may still be in a queue.").
			with("Retry-After", retrySeconds(notYet.RetryAfter))
	case errors.As(err, &archived):
		return ProblemArchived.problem("Entries of this id's time are not searchable any more: searchable_days of the tenant is " + strconv.Itoa(archived.SearchableDays) + ".")
	case errors.Is(err, stream.ErrKeyRevoked):
		return ProblemRevoked.problem("The API key was revoked.")
	case errors.Is(err, stream.ErrTooManySubscribers):
		return ProblemTooMany.problem("The tenant has " + strconv.Itoa(stream.MaxSubscribers) + " subscribers. Subscribe again when one has ended.")
	case errors.Is(err, stream.ErrTenantSuspended):
		return suspended()
	case errors.Is(err, audit.ErrNotFound):
		return ProblemNotFound.problem("There is nothing with this id.")
	case errors.Is(err, audit.ErrConflict):
		return ProblemConflict.problem("It conflicts with what is there already.")
	case errors.Is(err, audit.ErrPrecondition):
		return ProblemPrecondition.problem("It was changed since it was read; read it again.")
	case errors.As(err, &credential):
		return unauthenticated(credential.Detail)
	case errors.Is(err, audit.ErrUnauthenticated):
		return unauthenticated("The request needs an Authorization header: Bearer <token>, or ApiKey <key>.")
	case errors.As(err, &denied):
		return ProblemForbidden.problem(denied.Detail())
	case errors.Is(err, audit.ErrForbidden):
		return ProblemForbidden.problem("The credential does not allow " + string(permission) + " here.")
	case errors.Is(err, audit.ErrTooLarge):
		return ProblemTooLarge.problem("The request passes a limit.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return retryLater(0)
	}
	return failed()
}

func unauthenticated(detail string) *problem {
	return ProblemUnauthenticated.problem(detail).with("Www-Authenticate", `Bearer realm="ocelot", ApiKey realm="ocelot"`)
}

func suspended() *problem {
	return ProblemSuspended.problem("Only platform operators can read and administer the tenant. Its log takes no changes and has no live stream.")
}

func failed() *problem {
	return ProblemInternal.problem("The service could not answer this request. Its request id leads to the cause in the service's log.")
}

func retryLater(after time.Duration) *problem {
	return ProblemUnavailable.problem("The service cannot answer this request now; try again later.").
		with("Retry-After", retrySeconds(after))
}

// retrySeconds is the value of Retry-After: whole seconds, at least one.
func retrySeconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// response is the problem document.
func (p *problem) response(requestID string) *response {
	w := writer{b: make([]byte, 0, 256+128*len(p.fields))}
	p.append(&w, requestID)
	res := &response{status: p.kind.Status, contentType: MediaProblem, body: w.b}
	for name, values := range p.header {
		res.set(name, values[0])
	}
	return res
}

// append writes the problem object.
func (p *problem) append(w *writer, requestID string) {
	w.open('{')
	w.text("type", ProblemTypePrefix+p.kind.Code)
	w.text("title", p.kind.Title)
	w.integer("status", int64(p.kind.Status))
	w.text("detail", p.detail)
	w.text("request_id", requestID)
	if len(p.fields) > 0 {
		w.name("errors")
		w.open('[')
		for i := range p.fields {
			w.open('{')
			if pointer := p.fields[i].Pointer; pointer != "" { // a fault of the whole has none
				w.text("pointer", pointer)
			}
			w.text("code", p.fields[i].Code)
			w.text("detail", p.fields[i].Detail)
			w.close('}')
		}
		w.close(']')
	}
	w.close('}')
}
