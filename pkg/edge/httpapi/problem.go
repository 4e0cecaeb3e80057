package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// problemTypePrefix and a kind's code make the "type" of a problem document.
const problemTypePrefix = "urn:ocelot:problem:"

// kind is one type of problem document.
type kind struct {
	status int
	code   string
	title  string
}

// The kinds of problem, by status.
var (
	kindMalformed        = kind{http.StatusBadRequest, "malformed_request", "The request is malformed"}
	kindUnauthenticated  = kind{http.StatusUnauthorized, "unauthenticated", "No valid credential"}
	kindForbidden        = kind{http.StatusForbidden, "forbidden", "Not allowed"}
	kindSuspended        = kind{http.StatusForbidden, "tenant_suspended", "The tenant is suspended"}
	kindNotFound         = kind{http.StatusNotFound, "not_found", "Not found"}
	kindNotYet           = kind{http.StatusNotFound, "not_stored_yet", "Not stored yet"}
	kindMethodNotAllowed = kind{http.StatusMethodNotAllowed, "method_not_allowed", "Method not allowed"}
	kindConflict         = kind{http.StatusConflict, "conflict", "Conflict"}
	kindPrecondition     = kind{http.StatusPreconditionFailed, "precondition_failed", "Changed in the meantime"}
	kindTooLarge         = kind{http.StatusRequestEntityTooLarge, "too_large", "Too large"}
	kindMediaType        = kind{http.StatusUnsupportedMediaType, "unsupported_media_type", "Unsupported media type"}
	kindInvalid          = kind{http.StatusUnprocessableEntity, "invalid", "The input is invalid"}
	kindNoPrecondition   = kind{http.StatusPreconditionRequired, "precondition_required", "If-Match is required"}
	kindTooMany          = kind{http.StatusTooManyRequests, "too_many_requests", "Too many requests"} // of API Gateway alone
	kindInternal         = kind{http.StatusInternalServerError, "internal", "Internal error"}
	kindUnavailable      = kind{http.StatusServiceUnavailable, "unavailable", "Temporarily unavailable"}
	kindTimeout          = kind{http.StatusGatewayTimeout, "timeout", "No answer in time"} // of API Gateway alone
)

// kinds returns every kind of problem, by status.
func kinds() []kind {
	return []kind{
		kindMalformed, kindUnauthenticated, kindForbidden, kindSuspended, kindNotFound, kindNotYet, kindMethodNotAllowed,
		kindConflict, kindPrecondition, kindTooLarge, kindMediaType, kindInvalid, kindNoPrecondition, kindTooMany,
		kindInternal, kindUnavailable, kindTimeout,
	}
}

// problem is an error together with what the client is told of it.
type problem struct {
	kind   kind
	detail string
	fields []audit.FieldError
	header http.Header // of the response; nil: none of its own
}

func (p *problem) Error() string { return p.kind.code + ": " + p.detail }

func (k kind) problem(detail string) *problem { return &problem{kind: k, detail: detail} }

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
	name = headerName(name)
	p := kindMalformed.problem("The header " + name + " " + detail + ".")
	p.fields = []audit.FieldError{{Pointer: "Header: " + name, Code: code, Detail: detail}}
	return p
}

// invalid is the 422 of a validation error.
func invalid(err *audit.ValidationError) *problem {
	p := kindInvalid.problem("")
	p.fields = err.Fields
	switch first := err.Fields[0]; {
	case len(err.Fields) > 1:
		p.detail = strconv.Itoa(len(err.Fields)) + " values are invalid; see errors."
	case first.Pointer == "":
		p.detail = "The value " + first.Detail + "."
	default:
		p.detail = first.Pointer + " " + first.Detail + "."
	}
	return p
}

// explain gives an error of the kind target the words that fit the operation.
func explain(err, target error, k kind, detail string) error {
	if errors.Is(err, target) {
		return k.problem(detail)
	}
	return err
}

func isNotFound(err error) bool { return errors.Is(err, audit.ErrNotFound) }

// problemOf is the one place where errors become responses. permission is what
// the operation asks for. No internal error's text reaches the client.
func problemOf(err error, permission access.Permission) *problem {
	var (
		told        *problem
		validation  *audit.ValidationError
		unavailable *audit.UnavailableError
		notYet      *search.NotYetError
	)
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &validation):
		return invalid(validation)
	case errors.As(err, &unavailable):
		return retryLater(unavailable.RetryAfter)
	case errors.As(err, &notYet):
		return kindNotYet.problem("No entry with this id is stored yet; it may be under way.").
			with("Retry-After", retrySeconds(notYet.RetryAfter))
	case errors.Is(err, audit.ErrNotFound):
		return kindNotFound.problem("There is nothing with this id.")
	case errors.Is(err, audit.ErrConflict):
		return kindConflict.problem("It conflicts with what is there already.")
	case errors.Is(err, audit.ErrPrecondition):
		return kindPrecondition.problem("It was changed since it was read; read it again.")
	case errors.Is(err, audit.ErrUnauthenticated):
		return kindUnauthenticated.problem("The request needs a valid Authorization header: a Bearer token or an ApiKey.").
			with("Www-Authenticate", `Bearer realm="ocelot", ApiKey realm="ocelot"`)
	case errors.Is(err, audit.ErrForbidden):
		return kindForbidden.problem("The credential does not allow " + string(permission) + " here.")
	case errors.Is(err, audit.ErrTooLarge):
		return kindTooLarge.problem("The request passes a limit.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return retryLater(0)
	}
	return failed()
}

func failed() *problem {
	return kindInternal.problem("The service could not answer this request. Its request id leads to the cause in the service's log.")
}

func retryLater(after time.Duration) *problem {
	return kindUnavailable.problem("The service cannot answer this request now; try again later.").
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
	res := &response{status: p.kind.status, contentType: "application/problem+json", body: w.b}
	for name, values := range p.header {
		res.set(name, values[0])
	}
	return res
}

// append writes the problem object.
func (p *problem) append(w *writer, requestID string) {
	w.open('{')
	w.text("type", problemTypePrefix+p.kind.code)
	w.text("title", p.kind.title)
	w.integer("status", int64(p.kind.status))
	w.text("detail", p.detail)
	w.text("request_id", requestID)
	if len(p.fields) > 0 {
		w.name("errors")
		w.open('[')
		for i := range p.fields {
			w.open('{')
			w.text("pointer", p.fields[i].Pointer)
			w.text("code", p.fields[i].Code)
			w.text("detail", p.fields[i].Detail)
			w.close('}')
		}
		w.close(']')
	}
	w.close('}')
}
