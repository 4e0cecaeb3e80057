package httpapi

import (
	"net/http"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// GatewayAnswer is API Gateway's own response: a problem document like the functions'.
// API Gateway sends it if it refuses a request, or if the function does not respond.
type GatewayAnswer struct {
	Type   string // API Gateway's type of gateway response
	Status int
	Header http.Header // one value each
	Body   string
}

// GatewayAnswers returns an answer for each type of gateway response that API
// Gateway documents. requestID is written in place of the request's id.
func GatewayAnswers(requestID string) []GatewayAnswer {
	problems := gatewayProblems()
	answers := make([]GatewayAnswer, len(problems))
	for i, t := range problems {
		res := t.problem.response(requestID)
		header := http.Header{
			"Cache-Control": {"no-store"}, "Content-Type": {res.contentType}, "X-Content-Type-Options": {"nosniff"}, transportHeader: {HTTPSOnly},
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
// No method of the API uses AWS signatures. API Gateway therefore reports a bad signature, or an
// error without a type of its own, only for an unknown path or method. These become 404. Failures,
// timeouts and throttling of a function or authorizer are temporary. These become errors that a
// client can retry.
func gatewayProblems() []gatewayProblem {
	absent := ProblemNotFound.problem("There is no endpoint with this path and method. " + manifest.BasePath + "/docs lists the endpoints.")
	forbidden := ProblemForbidden.problem("The credential does not allow this here: it lacks the permission, or it is not for this tenant. Check X-Tenant-ID.")
	malformed := ProblemMalformed.problem("The endpoint does not accept this request.")
	noCredential := unauthenticated("The request needs an Authorization header with a valid credential: Bearer with a token, or ApiKey with an API key. " +
		"The token may have expired, or the key may have been revoked.")
	tooMany := func(after time.Duration) *problem {
		return ProblemTooMany.problem("The service received more requests than it accepts. Send fewer, and send this one again later.").
			with("Retry-After", retrySeconds(after))
	}
	return []gatewayProblem{
		{"ACCESS_DENIED", forbidden},
		{"API_CONFIGURATION_ERROR", failed()},
		{"AUTHORIZER_CONFIGURATION_ERROR", retryLater(0)}, // API Gateway cannot call it, or it returns an error
		{"AUTHORIZER_FAILURE", retryLater(0)},
		{"BAD_REQUEST_BODY", malformed},
		{"BAD_REQUEST_PARAMETERS", malformed},
		{"DEFAULT_4XX", absent},
		{"DEFAULT_5XX", retryLater(0)},
		{"EXPIRED_TOKEN", absent},
		{"INTEGRATION_FAILURE", retryLater(0)},
		{"INTEGRATION_TIMEOUT", ProblemTimeout.problem("The service did not respond in time. It may have completed the request.")},
		{"INVALID_API_KEY", forbidden}, // of a usage plan
		{"INVALID_SIGNATURE", absent},
		{"MISSING_AUTHENTICATION_TOKEN", absent},
		{"QUOTA_EXCEEDED", tooMany(quotaPeriod)},
		{"REQUEST_TOO_LARGE", problemOf(audit.ErrTooLarge, "")},
		{"RESOURCE_NOT_FOUND", absent},
		{"THROTTLED", tooMany(time.Second)},
		{"UNAUTHORIZED", noCredential},
		{"UNSUPPORTED_MEDIA_TYPE", ProblemMediaType.problem("The endpoint does not accept this Content-Type.")},
		{"WAF_FILTERED", ProblemForbidden.problem("The request was refused before it reached the service.")},
	}
}
