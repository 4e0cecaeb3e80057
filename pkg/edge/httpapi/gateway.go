package httpapi

import (
	"net/http"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// GatewayAnswer is what API Gateway answers where it lets a request not through
// to a function, or has no answer of one: a problem document like the functions'.
type GatewayAnswer struct {
	Type   string // API Gateway's type of gateway response
	Status int
	Header http.Header // one value each
	Body   string
}

// GatewayAnswers returns an answer for each type of gateway response that API
// Gateway documents. requestID stands where the request's id has to.
func GatewayAnswers(requestID string) []GatewayAnswer {
	reported := gatewayProblems()
	answers := make([]GatewayAnswer, len(reported))
	for i, t := range reported {
		res := t.problem.response(requestID)
		header := http.Header{
			"Cache-Control": {"no-store"}, "Content-Type": {res.contentType}, "X-Content-Type-Options": {"nosniff"},
		}
		for name, values := range res.header {
			header[name] = values
		}
		answers[i] = GatewayAnswer{Type: t.of, Status: res.status, Header: header, Body: string(res.body)}
	}
	return answers
}

// gatewayProblem is the problem document for one type of gateway response.
type gatewayProblem struct {
	of      string
	problem *problem
}

// quotaPeriod is the Retry-After of an exhausted quota. Quotas last a day or longer,
// so a client need not retry soon.
const quotaPeriod = time.Hour

// gatewayProblems names every type of
// https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html.
// No method of the API takes AWS signatures, so that what API Gateway says of
// them, or of a kind that it has no type for (an Authorization header that is no
// signature), is about a path or method that the API does not have. What it says
// of a function or authorizer that failed, was cut off or throttled, passes.
func gatewayProblems() []gatewayProblem {
	absent := ProblemNotFound.problem("There is no endpoint with this path and method; " + manifest.BasePath + "/docs lists them.")
	forbidden := ProblemForbidden.problem("The credential does not allow this here.")
	malformed := ProblemMalformed.problem("The request is not one that this endpoint takes.")
	unauthenticated := problemOf(audit.ErrUnauthenticated, "")
	unauthenticated.detail = "The request needs a valid Authorization header, a Bearer token or an ApiKey, and under " +
		manifest.BasePath + "/logs an X-Tenant-ID header besides."
	tooMany := func(after time.Duration) *problem {
		return ProblemTooMany.problem("More requests came than the service takes; send fewer, and this one again later.").
			with("Retry-After", retrySeconds(after))
	}
	return []gatewayProblem{
		{"ACCESS_DENIED", forbidden},
		{"API_CONFIGURATION_ERROR", failed()},
		{"AUTHORIZER_CONFIGURATION_ERROR", retryLater(0)}, // it cannot be asked, or answers with an error
		{"AUTHORIZER_FAILURE", retryLater(0)},
		{"BAD_REQUEST_BODY", malformed},
		{"BAD_REQUEST_PARAMETERS", malformed},
		{"DEFAULT_4XX", absent},
		{"DEFAULT_5XX", retryLater(0)},
		{"EXPIRED_TOKEN", absent},
		{"INTEGRATION_FAILURE", retryLater(0)},
		{"INTEGRATION_TIMEOUT", ProblemTimeout.problem("The service did not answer in time. What the request asks for may have been done.")},
		{"INVALID_API_KEY", forbidden}, // of a usage plan
		{"INVALID_SIGNATURE", absent},
		{"MISSING_AUTHENTICATION_TOKEN", absent},
		{"QUOTA_EXCEEDED", tooMany(quotaPeriod)},
		{"REQUEST_TOO_LARGE", problemOf(audit.ErrTooLarge, "")},
		{"RESOURCE_NOT_FOUND", absent},
		{"THROTTLED", tooMany(time.Second)},
		{"UNAUTHORIZED", unauthenticated},
		{"UNSUPPORTED_MEDIA_TYPE", ProblemMediaType.problem("The Content-Type is none that this endpoint takes.")},
		{"WAF_FILTERED", ProblemForbidden.problem("The request was refused before it reached the service.")},
	}
}
